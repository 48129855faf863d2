"""Which precision and layout is fastest for a network on this machine: tried on a few steps, then remembered."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from onecycle.files import short_digest, write_whole
from onecycle.train.device.batch_split import free_memory, is_out_of_memory, take_rows
from onecycle.train.device.host_memory import keep_freed_memory
from onecycle.train.device.machine import device_name, processor_name, wait_for
from onecycle.train.device.precision import Dtype, Precision, PrecisionOptions
from onecycle.train.device.random_state import keep_random_state
from onecycle.train.optimizer import hold_frozen_norms

CLEARLY_FASTER = 1.1
"""What is plainer stays, unless the other is faster by this factor."""

BUDGET_S = 5.0
"""The longest that trying takes on a CPU, but for the first step."""

MIN_FIT_S = 10.0
"""A fit that is over sooner runs as it is."""


class Extra(NamedTuple):
    """What a GPU may do besides, named by a flag of ``Precision``; its first step takes long."""

    least_fit_s: float  # it is tried for fits that are at least this long without it
    doing: str  # what takes long
    on: str
    off: str


EXTRAS = {
    "benchmark": Extra(60.0, "cuDNN's trials", "cudnn.benchmark", "no cudnn.benchmark"),  # some seconds
    "compile": Extra(600.0, "compiling", "compiled", "not compiled"),  # about a minute
}
"""In the order in which they are tried."""

EXTRA_SHARE = 0.05
"""An extra is chosen where its first step takes at most this share of the fit: each process takes it again."""

CPU_PICTURES = 8
"""Pictures of a step that is tried on a CPU, where a few keep both cores busy. A GPU gets whole batches."""

_STEPS = 3  # of each candidate: one to warm up, two that count
_FEW = 2  # pictures of a step where CPU_PICTURES take long; batch-norm in a head needs two
_LONG_STEP_S = 0.5  # of steps that take longer, one that counts is enough
_ASKED, _TOO_SHORT = "as asked for", "too short a fit to measure"
_FORMAT, _VERSION, _MOST_ANSWERS = "onecycle-precision", 1, 200


def choose_precision(
    model: nn.Module,
    example: Callable[[int], tuple[Tensor, Any]],
    *,
    loss_func: Callable[[Tensor, Any], Tensor],
    device: torch.device,
    bs: int,
    n_pictures: int,
    options: PrecisionOptions | None = None,
    repeatable: bool = False,
    cache_file: Path | None = None,
) -> Precision:
    """Choose the precision of a fit: what is asked for, else what a few training steps show to be fastest.

    Types and layouts are tried one after the other: first the type, then the layout, then (on a GPU, in longer fits)
    cuDNN's benchmark and compiling, each against the best so far, and the plainer one stays unless the other is a tenth
    faster. Nothing is measured for a fit that is shorter than ten times what measuring takes, or than ten seconds. On
    a CPU, trying ends after five seconds (``BUDGET_S``): where a step takes so long that there is no time to compare,
    the plain choice, fp32 and channels_last, stays.

    The answer is kept in ``cache_file`` for this network, picture size and machine, and for what of the network
    trains. So the same seed gives the same result on one machine from the second run on, and in the first run as
    well unless two candidates are within a few percent of that tenth; fixed arguments do not depend on it at all.

    Args:
        model: the network in the state in which it will train (what is frozen is part of the answer). The steps
            run on a copy, so that nothing of it changes, and the random state is kept.
        example: gives a batch of at most so many pictures: float32 (n, C, H, W) on the device, and its targets.
        loss_func: (logits, targets) → 0-d loss.
        device: where the fit runs.
        bs: pictures a batch, at least 1.
        n_pictures: pictures that the whole fit will take through the network, batches times their size.
        options: what the user has fixed; where that is all of type, layout and compiling, nothing is tried.
        repeatable: whether each run must compute the same bits, so that cuDNN may not choose by the clock.
        cache_file: where answers are kept; None remembers nothing. A damaged file counts as empty.

    Returns:
        the choice, with its reason.

    Raises:
        ArgumentError: the device cannot do what is asked for.
    """
    options = options or PrecisionOptions()
    options.check(device)
    dtypes, layouts = options.dtypes(device), options.layouts()
    plain = Precision(dtypes[0], layouts[0], bool(options.compile))
    extras = ["compile"] if options.compile is None and device.type == "cuda" else []
    n_candidates = len(dtypes) + len(layouts) - 1 + len(extras)
    asked = options.precision != "auto"
    if n_candidates == 1:
        return replace(plain, reason=_ASKED if asked else "the only choice on this device")
    extras = ["benchmark", *extras] if device.type == "cuda" and not repeatable else extras
    n = min(bs, CPU_PICTURES) if device.type == "cpu" else bs
    if n_pictures < 10 * n_candidates * _STEPS * n:
        return replace(plain, reason=_ASKED if asked else _TOO_SHORT)
    with keep_random_state(device):
        x, y = example(n)
        facts = _facts(model, x, options)
        known = _remembered(cache_file, facts)
        if known is None or known.lacks(extras, n_pictures):
            trial = _Trial(model, x, y, loss_func)
            start = replace(plain, compile=False)  # compiling each candidate would take minutes
            tried = trial.run(start, dtypes[1:], layouts[1:], n_pictures, extras)
            if tried is not None and tried.compared:
                tried = _remember(cache_file, facts, tried)
            known = tried or known
    if known is None:
        return replace(plain, reason="not measured: a trial step failed")
    fit_s = n_pictures / known.plain_rate
    if fit_s < MIN_FIT_S:
        return replace(plain, reason=_ASKED if asked else _TOO_SHORT)
    chosen = known.without_what_is_dear(fit_s)
    return replace(chosen, compile=chosen.compile or plain.compile, benchmark=chosen.benchmark and not repeatable)


@dataclass(frozen=True)
class _Answer:
    """What a trial found."""

    precision: Precision  # the choice
    plain_rate: float  # pictures a second of the plainest candidate
    rate: float  # of the best without extras
    extras_s: dict[str, float] = field(default_factory=dict)  # those tried: seconds of the first step, 0: does not run
    compared: bool = True  # whether there was time to try another; else it is not remembered: the machine was busy

    def lacks(self, extras: Sequence[str], n_pictures: int) -> bool:
        """Say whether a fit is long enough for an extra that was not tried, as the fit then was shorter."""
        return any(name not in self.extras_s and n_pictures / self.rate >= EXTRAS[name].least_fit_s for name in extras)

    def without_what_is_dear(self, fit_s: float) -> Precision:
        """Return the choice without extras whose first step takes too much of a fit."""
        chosen = self.precision
        for name, first_s in self.extras_s.items():
            if getattr(chosen, name) and first_s > EXTRA_SHARE * fit_s:
                why = f"{chosen.reason}; {EXTRAS[name].doing} would take {first_s:.0f} s"
                chosen = _with_extra(replace(chosen, reason=why), name, on=False)
        return chosen


class _Trial:
    """Times training steps of a copy of ``model``, each on the batch ``x, y``."""

    def __init__(self, model: nn.Module, x: Tensor, y: Any, loss_func: Callable[[Tensor, Any], Tensor]) -> None:
        self.model, self.x, self.y, self.loss_func = model, x, y, loss_func
        self.network: nn.Module = model
        self.rates: dict[Precision, float | None] = {}
        self.start_s = self.first_s = 0.0
        self.is_short_of_memory = False

    def run(
        self, plain: Precision, dtypes: list[Dtype], layouts: list[bool], n_pictures: int, extras: Sequence[str]
    ) -> _Answer | None:
        """Try everything against the plainest, in halves of the batch where nothing fits; None where nothing runs."""
        while True:
            # A network may not be copied or fed.
            with suppress(RuntimeError, TypeError, ValueError, MemoryError), keep_freed_memory():
                self.network = copy.deepcopy(self.model).train()
                hold_frozen_norms(self.network)
                answer = self._compare(plain, dtypes, layouts, n_pictures, extras)
                if answer is not None:
                    return answer
            if not self.is_short_of_memory or len(self.x) < 2 * _FEW:
                return None
            self.x, self.y = self.x[: len(self.x) // 2], take_rows(self.y, slice(0, len(self.x) // 2))
            self.rates.clear()

    def _compare(
        self, plain: Precision, dtypes: list[Dtype], layouts: list[bool], n_pictures: int, extras: Sequence[str]
    ) -> _Answer | None:
        """Try the candidates in turn; None where none of them has room."""
        self.rates[plain] = self._plain_rate(plain)
        if self._known(plain) and n_pictures / self._known(plain) < MIN_FIT_S:
            return _Answer(plain, self._known(plain), self._known(plain), compared=False)
        best = plain
        for dtype in dtypes:
            best = self._better(best, replace(best, dtype=dtype))
        for channels_last in layouts:
            best = self._better(best, replace(best, channels_last=channels_last))
        rate = self._known(best)
        if not rate:
            return None
        extras_s = {}
        for name in (name for name in extras if n_pictures / rate >= EXTRAS[name].least_fit_s):
            self.first_s = 0.0
            best = self._better(best, _with_extra(best, name, on=True))
            extras_s[name] = self.first_s
        choice = replace(best, reason=self._reason(best))
        plain_rate = self._known(plain) or self._known(best)
        return _Answer(choice, plain_rate, rate, extras_s, compared=len(self.rates) > 1)

    def _plain_rate(self, plain: Precision) -> float | None:
        """Return the plainest candidate's pictures a second, None where it has no room."""
        try:
            self._warm_up(plain)
            self.start_s = time.perf_counter()
            return self._rate(plain, None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._out_of_memory(error)
            self.start_s = time.perf_counter()
            return None

    def _out_of_memory(self, error: BaseException) -> None:
        self.is_short_of_memory = True
        self.network.zero_grad(set_to_none=True)
        free_memory(error, self.x.device)

    def _warm_up(self, plain: Precision) -> None:
        """Take the first steps, which build what the others use; a CPU that is slow with few pictures gets no more."""
        self.network.to(memory_format=plain.memory_format)
        if self.x.device.type == "cpu" and len(self.x) > _FEW:
            whole = self.x, self.y
            self.x, self.y = self.x[:_FEW], take_rows(self.y, slice(0, _FEW))
            if self._step_s(plain, self.network, plain.lay_out(self.x)) > BUDGET_S / 4:
                return
            self.x, self.y = whole
        self._step_s(plain, self.network, plain.lay_out(self.x))

    def _better(self, best: Precision, other: Precision) -> Precision:
        """Try another candidate, if there is time; return the better of the two."""
        rate = self._known(best)
        elapsed_s = time.perf_counter() - self.start_s
        if rate and self.x.device.type == "cpu" and elapsed_s + 2 * len(self.x) / rate > BUDGET_S:
            return best
        self.rates[other] = None
        try:
            self.rates[other] = self._rate(other, len(self.x) / rate if rate else math.inf)
        except (RuntimeError, MemoryError) as error:  # an operation that the type does not have, no compiler, no memory
            if is_out_of_memory(error):
                self._out_of_memory(error)
        if not rate:
            return other if self._known(other) else best
        if self._known(other) < CLEARLY_FASTER * rate:
            return best
        # The best was timed earlier, maybe while the machine was busy with something else: it gets a second chance.
        self.rates[best] = rate = max(rate, self._rate(best, None))
        return other if self._known(other) >= CLEARLY_FASTER * rate else best

    def _rate(self, precision: Precision, best_s: float | None) -> float:
        """Return pictures a second, after a step to warm up; more than twice the best time there is the answer."""
        self.network.to(memory_format=precision.memory_format)
        call = torch.compile(self.network, dynamic=False) if precision.compile else self.network
        x = precision.lay_out(self.x)
        if best_s is not None:
            self.first_s = self._step_s(precision, call, x)
            if self.first_s > 2 * best_s and not precision.compile and not precision.benchmark:
                return len(x) / self.first_s
        times = [self._step_s(precision, call, x)]
        if times[0] < _LONG_STEP_S:
            times.append(self._step_s(precision, call, x))
        return len(x) / min(times)

    def _step_s(self, precision: Precision, call: Callable[[Tensor], Tensor], x: Tensor) -> float:
        """Seconds of one forward and backward pass."""
        wait_for(x.device)
        start = time.perf_counter()
        with precision.arithmetic(training=True):
            with precision.autocast(x.device):
                logits = call(x)
            loss = self.loss_func(logits.float(), self.y)
            loss.backward()  # type: ignore[no-untyped-call]
        self.network.zero_grad(set_to_none=True)
        wait_for(x.device)
        return time.perf_counter() - start

    def _known(self, precision: Precision) -> float:
        return self.rates[precision] or 0.0

    def _reason(self, best: Precision) -> str:
        others = [f"{_difference(best, o)} {_plain_number(rate)}" for o, rate in self.rates.items() if o != best]
        if not others:
            seconds = len(self.x) / self._known(best)
            return f"nothing else tried: {len(self.x)} pictures took {seconds:.1f} s, trying may take {BUDGET_S:g}"
        return "; ".join([f"measured: {_plain_number(self._known(best))} pictures/s", *others])


def _with_extra(precision: Precision, name: str, *, on: bool) -> Precision:
    flags: dict[str, Any] = {name: on}
    return replace(precision, **flags)


def _difference(best: Precision, other: Precision) -> str:
    """Name a candidate by what it has different from the best."""
    words: list[str] = [other.dtype] if other.dtype != best.dtype else []
    if other.channels_last != best.channels_last:
        words.append("channels_last" if other.channels_last else "contiguous")
    for name, extra in EXTRAS.items():
        if getattr(other, name) != getattr(best, name):
            words.append(extra.on if getattr(other, name) else extra.off)
    return " ".join(words)


def _plain_number(rate: float | None) -> str:
    if rate is None:
        return "does not run"
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


# --- answers that are kept on the machine ---------------------------------------------------------


def _facts(model: nn.Module, x: Tensor, options: PrecisionOptions) -> dict[str, Any]:
    """Everything that an answer depends on, as JSON; a network is its layers, their shapes and which of them train."""
    kind = x.device.type
    name = processor_name() if kind == "cpu" else f"{kind} {platform.machine()} {platform.processor()}"
    layers = [f"{name}:{type(module).__qualname__}" for name, module in model.named_modules()]
    shapes = [f"{name}:{tuple(p.shape)}:{p.requires_grad}" for name, p in model.named_parameters()]
    return {
        "torch": torch.__version__,
        "device": device_name(x.device) if kind == "cuda" else name,
        "threads": torch.get_num_threads(),
        "network": hashlib.sha256("\n".join([*layers, *shapes]).encode()).hexdigest()[:16],
        "batch": list(x.shape),
        "wish": asdict(options),  # the key that earlier versions wrote
    }


def _remembered(file: Path | None, facts: Mapping[str, Any]) -> _Answer | None:
    """Return the answer that was written down for just these facts."""
    entry = _read(file).get(short_digest(facts)) if file is not None else None
    return _as_answer(entry) if isinstance(entry, dict) and entry.get("of") == facts else None


def _as_answer(entry: Mapping[str, Any]) -> _Answer | None:
    """Return an answer as it was written, None if anything about it is odd."""
    of_choice = {"dtype": str, "channels_last": bool, "compile": bool, "reason": str, "benchmark": bool}
    expected = {**of_choice, "plain_rate": float, "rate": float, "extras_s": dict}
    if any(type(entry.get(name)) is not kind for name, kind in expected.items()):
        return None
    if entry["dtype"] not in get_args(Dtype) or not min(entry["plain_rate"], entry["rate"]) > 0:
        return None
    if any(name not in EXTRAS or type(first_s) is not float for name, first_s in entry["extras_s"].items()):
        return None
    choice = Precision(**{name: entry[name] for name in of_choice})
    return _Answer(choice, entry["plain_rate"], entry["rate"], entry["extras_s"])


def _remember(file: Path | None, facts: Mapping[str, Any], answer: _Answer) -> _Answer:
    """Write the answer down; return it, with a note where it cannot be written."""
    if file is None:
        return answer
    entry = {
        **asdict(answer.precision),
        "plain_rate": answer.plain_rate,
        "rate": answer.rate,
        "extras_s": answer.extras_s,
        "of": dict(facts),
    }
    answers = {**_read(file), short_digest(facts): entry}
    recent = dict(list(answers.items())[-_MOST_ANSWERS:])
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "answers": recent}, indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    except OSError as error:
        note = f"{answer.precision.reason}; not remembered: {file} cannot be written ({error.strerror})"
        return replace(answer, precision=replace(answer.precision, reason=note))
    return answer


def _read(file: Path) -> dict[str, Any]:
    """Return the answers in a file; none where it is missing, damaged or of another version."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(content, dict) and (content.get("format"), content.get("version")) == (_FORMAT, _VERSION)
    answers = content.get("answers") if known else None
    return answers if isinstance(answers, dict) else {}
