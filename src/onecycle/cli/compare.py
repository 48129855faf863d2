"""``onecycle compare``: runs side by side, each against the first, on the pictures that both may be judged by."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from onecycle.cli.compare_page import comparison_page
from onecycle.cli.screen import LABEL_WIDTH, Screen
from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.comparison import ChangedPicture, ClassDifference, Comparison, Judged, compare
from onecycle.runs.checkpoints import estimate_values
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, write_output
from onecycle.runs.predictions import read_predictions
from onecycle.runs.split import read_split
from onecycle.text import cut, plural

MOST_RUNS = 8
_CLASSES, _PICTURES, _SETTINGS, _NAME_WIDTH = 5, 5, 12, 24
_NUMBERS = 57  # columns of a line of scores, without the run's name
_NO_SETTINGS = ("name", "out", "track")  # they say where a run lies and who watches, not what it is


@dataclass(frozen=True)
class Compared:
    """A run beside the first one.

    Attributes:
        run: its folder.
        found: what differs on the common pictures.
        settings: (name, of the first, of this one) of those that differ.
        other_data: the data lies in another place, so pictures were matched by name alone.
        tuned: one of the two decides about tags by thresholds that its validation pictures chose.
    """

    run: RunFolder
    found: Comparison
    settings: tuple[tuple[str, Any, Any], ...]
    other_data: bool
    tuned: bool


def run_compare(
    runs: Sequence[str | Path],
    *,
    as_json: bool = False,
    quiet: bool = False,
    html: Path | None = None,
    force: bool = False,
) -> int:
    """Compare runs with the first of them.

    Args:
        runs: folders, or names below ``runs``; two to eight.
        as_json: print JSON, with every changed picture, and nothing else.
        quiet: print the differences of the scores alone.
        html: write all of it into this file, too: one page, no request to anywhere.
        force: replace a file that is there.

    Raises:
        ArgumentError: fewer than two runs, or runs that have no picture in common to be judged by.
        DataError: no such run, or one without predictions.
    """
    folders = _opened(runs)
    if html is not None and html.exists() and not force:
        raise ArgumentError(f"{html} is there already; --force replaces it, --html FILE writes another")
    screen = Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        judged = [_judged(folder) for folder in folders]
        others = [_compared(folders[0], f, judged[0], j) for f, j in zip(folders[1:], judged[1:], strict=True)]
        facts = _facts(folders, others)
        if html is not None:
            write_output(html, comparison_page(facts).encode("utf-8", "replace"))
        _say(screen, folders, others, html)
    if as_json:
        print(json.dumps(facts, indent=2))
    return 0


def _opened(runs: Sequence[str | Path]) -> list[RunFolder]:
    if not 2 <= len(runs) <= MOST_RUNS:
        raise ArgumentError(f"compare takes 2 to {MOST_RUNS} runs; received {len(runs)}: onecycle compare RUN RUN …")
    folders = [RunFolder.open(run) for run in runs]
    seen: dict[Path, str | Path] = {}
    for given, folder in zip(runs, folders, strict=True):
        before = seen.setdefault(folder.path.resolve(), given)
        if before is not given:
            raise ArgumentError(f"{before} and {given} are one run; name two different ones")
    return folders


def _judged(run: RunFolder) -> Judged:
    kept = read_predictions(run.predictions)
    trained = frozenset(file for file, part in read_split(run.split) if part == "train")
    return Judged(
        run.name, kept.files, kept.probs, kept.known_targets, kept.decided, kept.classes, trained, kept.groups
    )


def _compared(first: RunFolder, run: RunFolder, a: Judged, b: Judged) -> Compared:
    found = compare(a, b)
    roots = [r.read_json(r.data).get("layout", {}).get("root") for r in (first, run)]
    tuned = any(r.read_json(r.metrics).get("thresholds") is not None for r in (first, run))
    return Compared(run, found, _settings(first, run), roots[0] != roots[1], tuned)


def _settings(first: RunFolder, run: RunFolder) -> tuple[tuple[str, Any, Any], ...]:
    a, b = (RunConfig.read(r.config).values() for r in (first, run))
    return tuple((name, a[name], b[name]) for name in a if a[name] != b[name] and name not in _NO_SETTINGS)


# -- as plain values ------------------------------------------------------------------------------------------


def _facts(folders: Sequence[RunFolder], others: Sequence[Compared]) -> dict[str, Any]:
    """Return everything that was found, for JSON and for the page."""
    return {
        "runs": [{"name": f.name, "path": str(f.path), "metrics": _metrics(f)} for f in folders],
        "first": folders[0].name,
        "comparisons": [_comparison_facts(c) for c in others],
    }


def _metrics(run: RunFolder) -> list[dict[str, Any]]:
    return [m for m in run.read_json(run.metrics).get("metrics", []) if m.get("name") != "error rate"]


def _comparison_facts(c: Compared) -> dict[str, Any]:
    found = c.found
    plain = {k: v for k, v in asdict(found).items() if k not in ("scores", "per_class", "fixed", "broken", "first")}
    return {
        "run": found.other,
        **plain,
        "matched_by_name_alone": c.other_data,
        "thresholds_chosen_on_these_pictures": c.tuned,
        "differences": [estimate_values(e) for e in found.scores],
        "classes_compared": [{**asdict(d), "change": d.change, "beyond_chance": d.sure} for d in found.per_class],
        "fixed": [asdict(p) for p in found.fixed],
        "broken": [asdict(p) for p in found.broken],
        "settings": [{"name": name, "first": a, "other": b} for name, a, b in c.settings],
    }


# -- on the screen --------------------------------------------------------------------------------------------


def _say(screen: Screen, folders: Sequence[RunFolder], others: Sequence[Compared], html: Path | None) -> None:
    first = folders[0].name
    if screen.quiet:
        for c in others:
            for e in c.found.scores:
                screen.row("", f"{c.run.name}: {e.name} {_change(e)} {_verdict(e)}", always=True)
        return
    screen.say(
        f"Each score is of a run's own validation part; differences are those from {first} on the pictures that both "
        "validated and neither trained on. In brackets the 95 % intervals."
    )
    _say_scores(screen, folders, others)
    for other in others:
        _say_one(screen, first, other)
    screen.say()
    if html is not None:
        screen.row("written", str(html), always=True)
    names = " ".join(shlex.quote(str(f.path)) for f in folders)
    screen.row("next", "every changed picture by name, or a page to pass on:")
    screen.command(f"onecycle compare {names} --json")
    if html is None:
        screen.command(f"onecycle compare {names} --html compare.html")


def _say_scores(screen: Screen, folders: Sequence[RunFolder], others: Sequence[Compared]) -> None:
    """Show each score of each run, and its difference on the common pictures."""
    width = min(max(cell_len(f.name) for f in folders), max(8, screen.width - _NUMBERS))
    own = [{m["name"]: m for m in _metrics(f)} for f in folders]
    changes: list[dict[str, Estimate]] = [{}, *({e.name: e for e in c.found.scores} for c in others)]
    for score in dict.fromkeys(name for of_run in changes for name in of_run):
        screen.say()
        screen.line(score, style="bold")
        rows = []
        for folder, scores, differences in zip(folders, own, changes, strict=True):
            change = differences.get(score)
            against = ("", "") if change is None else (_change(change), _verdict(change))
            rows.append((cut(folder.name, width), _own(scores.get(score)), *against))
        screen.table(rows, least=(width, 20, 23), indent=2)


def _own(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric.get("value") is None:
        return "–"
    return f"{metric['value']:.3f} ({metric['low']:.2f} to {metric['high']:.2f})"


def _change(e: Estimate) -> str:
    digits = 2 if e.high - e.low >= 0.02 else 3
    return f"{e.value:+.3f} ({e.low:+.{digits}f} to {e.high:+.{digits}f})"


def _verdict(e: Estimate) -> str:
    return "better" if e.low > 0 else "worse" if e.high < 0 else "unclear"


def _say_one(screen: Screen, first: str, other: Compared) -> None:
    """Show one run against the first: pictures, classes, changes, settings."""
    found = other.found
    screen.say()
    screen.line(f"{first} → {found.other}", style="bold")
    screen.row("pictures", _judged_on(found))
    if other.other_data:
        screen.row("", "the data of the two lies in different folders: pictures were matched by name alone")
    if found.relabelled:
        some = ", ".join(cut(f, _NAME_WIDTH) for f in found.relabelled[:_PICTURES])
        screen.row("labels", f"left out as relabelled in between: {plural(len(found.relabelled), 'picture')} ({some})")
    for name, only in ((first, found.only_first), (found.other, found.only_other)):
        if only:
            some = ", ".join(cut(c, _NAME_WIDTH) for c in only[:_CLASSES])
            what = "tags" if found.measure == "F2" else "classes"
            screen.row(what, f"{len(only)} that only {name} knows are left out: {some}")
    _say_classes(screen, found)
    if other.tuned:
        screen.row("", "by what predict decides: thresholds that these pictures chose flatter both runs alike")
    _say_pictures(screen, "fixed", f"wrong in {first}, right in {found.other}", found.fixed)
    _say_pictures(screen, "broken", f"right in {first}, wrong in {found.other}", found.broken)
    _say_settings(screen, other)


def _judged_on(found: Comparison) -> str:
    of = f"{found.n_first:,} that {found.first} validated and {found.n_other:,} of {found.other}"
    unfair = [
        f"{n:,} of {a}'s were trained on by {b}"
        for n, a, b in (
            (found.trained_by_other, found.first, found.other),
            (found.trained_by_first, found.other, found.first),
        )
        if n
    ]
    return f"{found.n:,} judged, of {of}" + (f"; left out as unfair: {', '.join(unfair)}" if unfair else "")


def _say_classes(screen: Screen, found: Comparison) -> None:
    """Show the classes that changed most; those beyond chance come first."""
    changed = [c for c in found.per_class if c.change]
    sure = [c for c in changed if c.sure]
    shown = sorted(changed, key=lambda c: not c.sure)[:_CLASSES]
    looks = f"{len(found.per_class)} looks"
    if not shown:
        screen.row("classes", f"none has another {found.measure}")
        return
    screen.row("classes", f"{len(sure)} changed beyond chance (p for all {looks} together); by {found.measure}:")
    screen.table([(cut(c.name, _NAME_WIDTH), _class_numbers(c)) for c in shown], indent=LABEL_WIDTH)


def _class_numbers(c: ClassDifference) -> str:
    p = "<0.001" if c.p_value < 0.001 else f"{c.p_value:.3f}"
    return f"{c.first:.2f} → {c.other:.2f}  {c.change:+.2f}  {plural(c.n, 'picture')}  p {p}"


def _say_pictures(screen: Screen, label: str, what: str, pictures: Sequence[ChangedPicture]) -> None:
    screen.row(label, f"{plural(len(pictures), 'picture')} {what}")
    for p in pictures[:_PICTURES]:
        file = cut(p.file, max(16, (screen.width - 10) // 2))
        screen.line(f"{'':10}{file}  {_errors(p)}")
    if len(pictures) > _PICTURES:
        screen.line(f"{'':10}… and {len(pictures) - _PICTURES:,} more (--json lists all)")


def _errors(p: ChangedPicture) -> str:
    """Say what changed: of tags, which were wrong (+) or missed (−) by the run that has the picture wrong."""
    if len(p.truth) == len(p.first) == len(p.other) == 1:
        return f"{p.first[0]} → {p.other[0]}"
    said = p.other if set(p.first) == set(p.truth) else p.first
    wrong = [f"+{tag}" for tag in said if tag not in p.truth]
    return " ".join(wrong + [f"−{tag}" for tag in p.truth if tag not in said])


def _say_settings(screen: Screen, other: Compared) -> None:
    if not other.settings:
        screen.row("settings", "the same")
        return
    texts = [f"{name}: {_value(a)} → {_value(b)}" for name, a, b in other.settings[:_SETTINGS]]
    more = len(other.settings) - len(texts)
    screen.row("settings", "; ".join(texts) + (f"; and {more} more" if more else ""))


def _value(value: Any) -> str:
    if value is None:
        return "(found)"
    if isinstance(value, float):
        return f"{value:.4g}"
    return cut(str(value) if value != "" else "''", 2 * _NAME_WIDTH)
