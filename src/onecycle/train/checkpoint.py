"""Saved weights and optimizer state: one safetensors file that says what it is, and the same words as JSON beside it.

``<stem>.safetensors`` holds everything: tensors, and in its header a manifest, a SHA-256 of the tensors and one of all
else in the header, so that damage anywhere is seen. ``<stem>.json`` repeats manifest and digests for people and tools;
it is checked when it is there and never needed. The old ``.json`` is removed before the weights are replaced, so a
crash between the two leaves a checkpoint that loads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy._core.multiarray as multiarray
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from onecycle.errors import CheckpointError, OnecycleWarning, UnsafeFileError, WeightsFileError, warn
from onecycle.files import remove_unfinished, write_whole
from onecycle.foreign import Refused, read_plain

if TYPE_CHECKING:
    from onecycle.train.optimizer import Optimizer

FORMAT = "onecycle-checkpoint"
VERSION = 2  # 1 had no digest of the header
_UNSEALED = 1
_MODEL, _OPT = "model.", "optimizer."


@dataclass(frozen=True)
class LoadReport:
    """What was loaded."""

    path: Path  # the file
    manifest: dict[str, Any]  # what its writer noted; empty for a foreign file
    opt_loaded: bool  # whether optimizer state was taken over
    note: str = ""  # what the user should know, empty if nothing


@dataclass(frozen=True)
class _Content:
    """A checkpoint in memory, checked against its own digest."""

    weights: dict[str, torch.Tensor]
    opt_tensors: dict[str, torch.Tensor]
    header: dict[str, Any]


def save_checkpoint(
    stem: Path | str, *, model: nn.Module, optimizer: Optimizer | None = None, manifest: Mapping[str, Any]
) -> Path:
    """Write ``<stem>.safetensors`` and ``<stem>.json``; each is whole as soon as it has its name.

    Args:
        stem: path without ending; its folder is made if need be.
        model: whose parameters and buffers are saved.
        optimizer: whose state is saved too; ``None`` saves none.
        manifest: what can be written as JSON: classes, epochs done, …

    Returns:
        The path of the safetensors file.

    Raises:
        CheckpointError: the manifest cannot be written as JSON.
        DiskFullError: there is no room; the earlier weights are as they were.
        OSError: the folder cannot be written.
    """
    path, beside = Path(f"{stem}.safetensors"), Path(f"{stem}.json")  # a dot in the stem is no ending
    tensors, aliases = _distinct({_MODEL + name: t for name, t in model.state_dict().items()})
    opt_header: dict[str, Any] | None = None
    if optimizer is not None:
        opt_tensors, opt_header = optimizer.state(_parameter_names(model))
        tensors |= {_OPT + name: _plain(t) for name, t in opt_tensors.items()}
    summary = {"format": FORMAT, "version": VERSION, "digest": digest(tensors), "manifest": dict(manifest)}
    try:
        text = json.dumps({**summary, "aliases": aliases, "optimizer": opt_header}, ensure_ascii=False, allow_nan=False)
        sealed = _sealed(json.loads(text))
        text = json.dumps(sealed, ensure_ascii=False)
    except (TypeError, ValueError) as err:
        raise CheckpointError(
            f"the manifest holds something that JSON cannot ({err}); use strings, finite numbers, lists and dicts"
        ) from err
    beside.unlink(missing_ok=True)
    remove_unfinished(path.parent)
    write_whole(path, safetensors.torch.save(tensors, metadata={"header": text}))
    said = {name: sealed[name] for name in ("format", "version", "digest", "header_digest", "manifest")}
    write_whole(beside, json.dumps(said, indent=2, ensure_ascii=False).encode())
    return path


def load_checkpoint(
    stem: Path | str,
    *,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    expected: Mapping[str, Any] | None = None,
    strict: bool = True,
    with_opt: bool | None = None,
) -> LoadReport:
    """Load a checkpoint into a model, or change nothing at all.

    Args:
        stem: path without ending. Where there is no ``<stem>.safetensors`` but a ``<stem>.pth`` (fastai v1,
            PyTorch), its weights are read without running any of its code.
        model: takes the weights, on whatever device it is.
        optimizer: takes the optimizer state, if there is one.
        expected: entries that the manifest must have with these values, for example ``{"classes": [...]}``.
        strict: every tensor of the model must be in the file and the other way round; False allows gaps, not
            other shapes.
        with_opt: True: the optimizer state must fit; ``None``: it is taken over if it fits, otherwise the
            report's note says why not; False: it is left alone.

    Returns:
        What was loaded.

    Raises:
        CheckpointError: the file is missing, damaged or does not fit; the message names the first difference.
    """
    path = _existing(f"{stem}.safetensors", f"{stem}.pth")
    content = _read(path)
    manifest = dict(content.header.get("manifest", {}))
    if content.header:
        _check_expected(path, manifest, expected or {})
    _check_weights(path, content.weights, model, strict=strict)
    reason = _opt_obstacle(content, optimizer, model) if with_opt is not False else "with_opt=False"
    if with_opt and reason:
        raise CheckpointError(
            f"{path} has weights that fit, but its optimizer state does not: {reason}. Freeze or unfreeze the learner "
            "as it was when saving, or load with with_opt=False."
        )
    names = model.state_dict().keys()
    n_loaded = len(names & content.weights.keys())
    if names and not n_loaded:
        raise CheckpointError(
            f"{path} has none of the model's {len(names)} tensors ({next(iter(names))!r} is the first): it is of "
            "another network; nothing was changed"
        )
    with torch.no_grad():
        for name, t in model.state_dict().items():
            if name in content.weights:
                t.copy_(content.weights[name])
    if not reason and optimizer is not None:
        optimizer.load(content.opt_tensors, content.header["optimizer"], _parameter_names(model))
    saved_opt = bool(content.header.get("optimizer"))
    note = f"weights loaded; optimizer state not loaded: {reason}" if with_opt is None and reason and saved_opt else ""
    if n_loaded < len(names):
        note = f"{n_loaded} of the model's {len(names)} tensors are in {path.name}; the others are as they were"
    return LoadReport(path, manifest, opt_loaded=not reason, note=note)


def read_manifest(stem: Path | str) -> dict[str, Any]:
    """Return the manifest of ``<stem>.safetensors`` without reading its tensors.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    path = _existing(f"{stem}.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(_header(path, file.metadata())["manifest"])
    except SafetensorError as err:
        raise CheckpointError(_damaged(path, err)) from err


def read_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """Read named tensors from a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, onto the CPU.

    Pickled files are read with ``weights_only=True``, which builds tensors and plain values and nothing else.
    Of a nested file (fastai v1: ``{"model": …, "opt": …}``) the weights are returned.

    Raises:
        CheckpointError: the file is missing.
        WeightsFileError: it is damaged, or holds something else than named tensors.
        UnsafeFileError: it is a pickle that would have to run code to be read.
    """
    path = _existing(path)
    return _read_safetensors(path)[0] if path.suffix == ".safetensors" else _read_pickled(path)


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of some tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name]
        sha.update(f"{name}|{t.dtype}|{list(t.shape)}|".encode())
        if t.numel():
            sha.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{sha.hexdigest()}"


def _distinct(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Split a state into tensors to store, and names of tied tensors with the name they are stored under."""
    stored: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, t in state.items():
        key = (t.device, t.data_ptr(), t.dtype, tuple(t.shape), t.stride())
        if t.numel() and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            stored[name] = _plain(t)
    return stored, aliases


def _plain(t: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the CPU that shares memory with nothing."""
    return t.detach().to("cpu", copy=True).contiguous()


def _parameter_names(model: nn.Module) -> dict[nn.Parameter, str]:
    return {p: name for name, p in model.named_parameters()}


def _existing(*paths: Path | str) -> Path:
    """Return the first of some files that is there."""
    for path in map(Path, paths):
        if path.exists():
            return path
    path = Path(paths[0])
    there = sorted(p.stem for p in path.parent.glob("*.safetensors")) if path.parent.is_dir() else []
    names = f"saved there: {', '.join(there)}" if there else "nothing is saved there"
    raise CheckpointError(f"there is no {path}; {names}.", f"Save one first with learn.save({path.stem!r}).")


def _damaged(path: Path, why: object) -> str:
    return (
        f"{path} cannot be read as weights ({why}). It is damaged or cut short: delete {path.resolve()} and fetch it "
        "again, or load another"
    )


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The header of a checkpoint of ours, checked for format, version, the kinds of its values and its digest."""
    try:
        header = json.loads((metadata or {}).get("header", "{}"))
        own = header == _sealed(header) if isinstance(header, dict) else False
    except (ValueError, RecursionError) as err:
        raise CheckpointError(_damaged(path, err)) from err
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no onecycle checkpoint (its header names no {FORMAT!r})", "Read bare weights with read_weights."
        )
    version = header.get("version")
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {version}, this onecycle reads up to {VERSION}; update onecycle"
        )
    right = all(isinstance(header.get(name), kind) for name, kind in _HEADER.items())
    if not right or not (version == _UNSEALED or (version == VERSION and own)):
        raise CheckpointError(_damaged(path, "its header does not give the digest in it"))
    return header


_HEADER: dict[str, Any] = {
    "version": int, "digest": str, "manifest": dict, "aliases": dict, "optimizer": dict | None,
}  # fmt: skip
"""What a header has, beside its format and, from version 2 on, its own digest."""


def _sealed(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return a header with the SHA-256 of all that is in it, the digest of the tensors too."""
    content = {name: value for name, value in header.items() if name != "header_digest"}
    text = json.dumps(content, sort_keys=True)
    return {**content, "header_digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as err:
        raise WeightsFileError(_damaged(path, err)) from err


def _read(path: Path) -> _Content:
    if path.suffix != ".safetensors":
        return _Content(_read_pickled(path), {}, {})
    tensors, metadata = _read_safetensors(path)
    header = _header(path, metadata)
    if digest(tensors) != header["digest"]:
        raise CheckpointError(_damaged(path, "its tensors do not give the digest in its header"))
    _check_beside(path, header)
    weights = {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)}
    for name, stored in header["aliases"].items():
        if stored not in tensors:
            raise CheckpointError(_damaged(path, f"{name!r} stands for a tensor that is not there"))
        weights[name.removeprefix(_MODEL)] = tensors[stored]
    opt = {name.removeprefix(_OPT): t for name, t in tensors.items() if name.startswith(_OPT)}
    if header["version"] == _UNSEALED:
        warn(
            f"{path} was saved by an earlier onecycle: it has a digest of its weights and none of its classes and "
            "settings, which may have been changed. Save it again, or train again",
            OnecycleWarning,
        )
    return _Content(weights, opt, header)


_MOST_BESIDE = 2**26
"""Bytes of the JSON beside a checkpoint, at most."""


def _check_beside(path: Path, header: Mapping[str, Any]) -> None:
    beside = path.with_suffix(".json")
    if not beside.exists() or beside.is_symlink():  # a link may lead anywhere; the header has its own digests
        return
    try:
        words = json.loads(read_plain(beside, _MOST_BESIDE))
        same = all(words.get(name) == header.get(name) for name in ("digest", "header_digest", "manifest"))
    except Refused as error:
        raise CheckpointError(f"{error}; it is a copy of the header of {path.name}: delete it") from None
    except (ValueError, AttributeError, RecursionError):
        same = False
    if not same:
        raise CheckpointError(
            f"{beside} does not belong to {path.name}: its digest or manifest is another one. If {path.name} is the "
            f"file you want, delete {beside.name}, which is only a copy of its header; otherwise copy the pair again."
        )


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    # fastai v1 saved NumPy numbers and slices among the optimizer's settings; they build nothing that could act.
    plain_types: list[Any] = [
        slice, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64)),
        (multiarray.scalar, "numpy.core.multiarray.scalar"), multiarray.scalar,
    ]  # fmt: skip
    try:
        with torch.serialization.safe_globals(plain_types):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # the unpickler of torch raises whatever a damaged file makes it raise
        if (refused := _unsafe_content(err, path)) is not None:
            raise UnsafeFileError(
                f"{path} cannot be read as weights: it is a pickle with {refused} in it, which could run code. "
                "Nothing was run; save its state_dict() alone, where it came from"
            ) from err
        raise WeightsFileError(_damaged(path, type(err).__name__)) from err
    return _named_tensors(content, path)


def _unsafe_content(error: BaseException, path: Path) -> str | None:
    """Name what PyTorch refused to build from a pickle; None where the file is only damaged.

    PyTorch's own words are not repeated: they advise to read the file in the way that runs its code.
    """
    text = str(error)
    if refused := re.search(r"GLOBAL ([\w.]+)", text):
        return refused[1]
    with path.open("rb") as file:
        start = file.read(2)
    is_pickle = len(start) == 2 and start[0] == 0x80 and start[1] <= 5
    return "more than tensors and plain values" if is_pickle and "nsupported" in text else None


def _named_tensors(content: object, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, also of one that is nested or was saved from a parallel wrapper."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    pairs = content.items() if isinstance(content, Mapping) else ()
    state = {str(name): t for name, t in pairs if isinstance(t, torch.Tensor)}
    if not state:
        raise WeightsFileError(f"{path} holds no named tensors, found {type(content).__name__}: expected a state dict")
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): t for name, t in state.items()}
    return state


def _check_expected(path: Path, manifest: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        theirs, ours = manifest.get(key), json.loads(json.dumps(value))  # a tuple becomes a list
        if theirs != ours:
            raise CheckpointError(
                f"{path} was saved for other {key}: {_first_difference(theirs, ours)}. Load it into a learner whose "
                f"data has the same {key} (pass classes=... or use the same table), or train a new head."
            )


def _first_difference(theirs: object, ours: object) -> str:
    if not (isinstance(theirs, list) and isinstance(ours, list)):
        return f"{theirs!r} in the file, {ours!r} here"
    counts = f" ({len(theirs)} in the file, {len(ours)} here)" if len(theirs) != len(ours) else ""
    for i, (a, b) in enumerate(zip(theirs, ours, strict=False)):
        if a != b:
            return f"number {i} is {a!r} in the file and {b!r} here{counts}"
    extra, where = (theirs, "the file") if len(theirs) > len(ours) else (ours, "this learner")
    return f"{extra[min(len(theirs), len(ours))]!r} is only in {where}{counts}"


def _check_weights(path: Path, weights: Mapping[str, torch.Tensor], model: nn.Module, *, strict: bool) -> None:
    wanted = model.state_dict()
    for name, t in wanted.items():
        if name not in weights:
            if strict:
                raise CheckpointError(_gap(path, f"tensor {name!r} {_shape(t)} of the model is not in the file"))
        elif weights[name].shape != t.shape:
            raise CheckpointError(
                _gap(path, f"tensor {name!r} is {_shape(weights[name])} in the file and {_shape(t)} in the model")
            )
    unknown = sorted(name for name in weights if name not in wanted)
    if strict and unknown:
        raise CheckpointError(_gap(path, f"tensor {unknown[0]!r} of the file is not in the model"))


def _gap(path: Path, difference: str) -> str:
    return (
        f"{path} does not fit this model: {difference}. Make the learner with the architecture, head and classes that "
        "it was saved with; nothing was changed."
    )


def _shape(t: torch.Tensor) -> str:
    return "×".join(map(str, t.shape)) or "scalar"


def _opt_obstacle(content: _Content, optimizer: Optimizer | None, model: nn.Module) -> str:
    """Why the optimizer state cannot be taken over; empty when it can."""
    saved = content.header.get("optimizer")
    if saved is None:
        return "the file holds none"
    if optimizer is None:
        return "the learner has no optimizer yet"
    return optimizer.difference(saved, _parameter_names(model)) or ""
