"""``onecycle compare``: runs side by side, each against the first, on the pictures that both may be judged by."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.cells import cell_len

from onecycle import __version__
from onecycle.cli.screen import LABEL_WIDTH, Screen
from onecycle.errors import ArgumentError
from onecycle.evaluation.comparison import (
    Candidate,
    ChangedPicture,
    ClassDifference,
    Comparison,
    Difference,
    compare_all,
)
from onecycle.evaluation.headline import Headline, headline
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, check_free, write_output
from onecycle.runs.predictions import run_predictions
from onecycle.runs.split import read_split
from onecycle.text import plural, shown

MOST_RUNS = 8
MOST_PICTURES = 200
"""Changed pictures that the page names in each list; JSON has all."""
_CLASSES, _PICTURES, _SETTINGS, _NAME_WIDTH = 5, 5, 12, 24
_NUMBERS = 57  # columns of a line of scores, without the run's name
WEIGHTS_ONLY = (
    "What is compared are the weights of these trainings, not their settings: another --seed gives other weights. To "
    "compare settings, train each with several seeds and compare the scores of all (Bouthillier et al. 2021)."
)
_NO_SETTINGS = ("name", "out", "track")  # they say where a run lies and who watches, not what it is


@dataclass(frozen=True)
class Compared:
    """A run beside the first one."""

    run: RunFolder
    comparison: Comparison  # what differs on the common pictures
    settings: tuple[tuple[str, Any, Any], ...]  # (name, of the first, of this one) of those that differ
    other_data: bool  # the data lies in another place, so pictures were matched by name alone
    tuned: tuple[str, ...]  # those of the two that decide about tags by thresholds that their validation pictures chose


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
    check_free(html, force=force, option="--html")
    screen = Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        candidates = [Candidate(f.name, run_predictions(f), _trained(f)) for f in folders]
        first, *rest = candidates
        found = compare_all(first, rest)
        pairs = zip(folders[1:], rest, found, strict=True)
        others = [_compared(folders[0], f, (first, c), comparison) for f, c, comparison in pairs]
        facts = _facts(folders, [headline(c.predictions) for c in candidates], others)
        if html is not None:
            write_output(html, comparison_page(facts).encode("utf-8", "replace"))
        _say(screen, folders, facts["runs"], others, html)
    if as_json:
        print(json.dumps(facts, indent=2))
    return 0


def _opened(runs: Sequence[str | Path]) -> list[RunFolder]:
    if not 2 <= len(runs) <= MOST_RUNS:
        raise ArgumentError(f"compare takes 2 to {MOST_RUNS} runs; received {len(runs)}: onecycle compare RUN RUN …")
    folders = [RunFolder.open_finished(run) for run in runs]
    seen: dict[Path, str | Path] = {}
    for named, folder in zip(runs, folders, strict=True):
        before = seen.setdefault(folder.path.resolve(), named)
        if before is not named:
            raise ArgumentError(f"{before} and {named} are one run; name two different ones")
    return folders


def _trained(run: RunFolder) -> frozenset[str]:
    return frozenset(file for file, side in read_split(run.split) if side == "train")


def _compared(first: RunFolder, run: RunFolder, pair: tuple[Candidate, Candidate], comparison: Comparison) -> Compared:
    root, other_root = (r.read_json(r.data).get("layout", {}).get("root") for r in (first, run))
    chosen = [(c.name, c.predictions.thresholds) for c in pair]
    tuned = tuple(name for name, thresholds in chosen if thresholds is not None and thresholds.default is None)
    old, new = (RunConfig.read(r.config).values() for r in (first, run))
    names = [name for name in old if old[name] != new[name] and name not in _NO_SETTINGS]
    return Compared(run, comparison, tuple((n, old[n], new[n]) for n in names), root != other_root, tuned)


# -- as plain values ------------------------------------------------------------------------------------------


def _facts(folders: Sequence[RunFolder], headlines: Sequence[Headline], others: Sequence[Compared]) -> dict[str, Any]:
    """Return everything that was found, for JSON and for the page."""
    runs = []
    for f, first in zip(folders, headlines, strict=True):
        scores, doubled = f.read_json(f.metrics).get("metrics", []), ("error rate", first.name)
        metrics = [first.to_dict(), *(m for m in scores if m.get("name") not in doubled)]
        runs.append({"name": f.name, "path": str(f.path), "headline": first.to_dict(), "metrics": metrics})
    comparisons = [_comparison_facts(c) for c in others]
    return {"runs": runs, "first": folders[0].name, "comparisons": comparisons, "note": WEIGHTS_ONLY}


def _comparison_facts(c: Compared) -> dict[str, Any]:
    plain = asdict(c.comparison)
    del plain["first"], plain["scores"]
    per_class = plain.pop("per_class")
    for d, values in zip(c.comparison.per_class, per_class, strict=True):
        values |= {"change": d.change, "beyond_chance": d.sure}
    return {
        "run": plain.pop("other"),
        **plain,
        "matched_by_name_alone": c.other_data,
        "thresholds_chosen_on_these_pictures": bool(c.tuned),
        "thresholds_note": _tuned_note(c),
        "differences": [e.to_dict() for e in c.comparison.scores],
        "classes_compared": per_class,
        "settings": [{"name": name, "first": a, "other": b} for name, a, b in c.settings],
    }


def _tuned_note(c: Compared) -> str:
    """Say whom thresholds flatter that these very pictures chose; empty where nobody's were chosen."""
    if not c.tuned:
        return ""
    whom = "both runs alike" if len(c.tuned) == 2 else f"{c.tuned[0]} alone, which seems a little better than it is"
    return f"by what predict decides: thresholds that these pictures chose flatter {whom}"


# -- as a page -------------------------------------------------------------------------------------------------


def comparison_page(facts: Mapping[str, Any]) -> str:
    """Return the page of what ``onecycle compare --json`` prints; names are escaped, and nothing in them runs.

    Args:
        facts: runs, their scores, and a comparison with the first for each other one.
    """
    loader = PackageLoader("onecycle.cli")
    engine = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters |= {"number": _number, "setting": _setting}
    return engine.get_template("compare.html").render(**facts, most=MOST_PICTURES, version=__version__)


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None or value != value else f"{value:{sign}.3f}".replace("-", "−")


def _setting(value: object) -> str:
    if value is None:
        return "(not set)"
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "''"


# -- on the screen --------------------------------------------------------------------------------------------


def _say(
    screen: Screen,
    folders: Sequence[RunFolder],
    runs: Sequence[Mapping[str, Any]],
    others: Sequence[Compared],
    html: Path | None,
) -> None:
    first = folders[0].name
    if screen.quiet:
        for c in others:
            for e in c.comparison.scores:
                screen.row("", f"{c.run.name}: {e.name} {_change(e)} {e.verdict}", always=True)
        return
    screen.say(
        f"Each score is of a run's own validation part; differences are those from {first} on the pictures that both "
        "validated and neither trained on. In brackets the 95 % intervals. The first score gives the verdict. Better, "
        "worse and beyond chance hold for all that is said here together: p below 0.05."
    )
    screen.say(WEIGHTS_ONLY)
    _say_scores(screen, runs, others)
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


def _say_scores(screen: Screen, runs: Sequence[Mapping[str, Any]], others: Sequence[Compared]) -> None:
    """Show each score of each run, and its difference on the common pictures."""
    names = [str(r["name"]) for r in runs]
    names = [screen.cut(name, max(8, screen.width - _NUMBERS)) for name in names]
    width = max(map(cell_len, names))
    own = [{m["name"]: m for m in r["metrics"]} for r in runs]
    changes: list[dict[str, Difference]] = [{}, *({e.name: e for e in c.comparison.scores} for c in others)]
    headlines = [r["headline"]["name"] for r in runs]
    for score in dict.fromkeys([*headlines, *(name for of_run in changes for name in of_run)]):
        screen.say()
        common = {of_run[score].label for of_run in changes if score in of_run}
        screen.line(common.pop() if len(common) == 1 else score, style="bold")
        rows = []
        for name, scores, differences in zip(names, own, changes, strict=True):
            change = differences.get(score)
            against = ("", "") if change is None else (_change(change), change.verdict)
            rows.append((name, _own(scores.get(score)), *against))
        screen.table(rows, least=(width, 20, 23), indent=2)


def _own(metric: Mapping[str, Any] | None) -> str:
    value, low, high = (None if metric is None else metric.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.2f} to {high:.2f})"


def _change(e: Difference) -> str:
    digits = 2 if e.high - e.low >= 0.02 else 3
    return f"{e.value:+.3f} ({e.low:+.{digits}f} to {e.high:+.{digits}f})"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _say_one(screen: Screen, first: str, other: Compared) -> None:
    """Show one run against the first: pictures, classes, changes, settings."""
    c = other.comparison
    screen.say()
    screen.line(f"{first} → {c.other}", style="bold")
    screen.row("pictures", _judged_on(c))
    if other.other_data:
        screen.row("", "the data of the two lies in different folders: pictures were matched by name alone")
    if c.relabelled:
        some = ", ".join(screen.cut(f, _NAME_WIDTH) for f in c.relabelled[:_PICTURES])
        screen.row("labels", f"left out as relabelled in between: {plural(len(c.relabelled), 'picture')} ({some})")
    for name, only in ((first, c.only_first), (c.other, c.only_other)):
        if only:
            some = ", ".join(screen.cut(one, _NAME_WIDTH) for one in only[:_CLASSES])
            text = f"{len(only)} that only {name} knows are left out: {some}"
            screen.row("tags" if c.measure != "recall" else "classes", text)
    mine, theirs = c.decided_for
    if mine != theirs:
        screen.row("measure", f"{first} decides for {mine}, {c.other} for {theirs}; both are judged by {mine}")
    _say_classes(screen, c)
    if other.tuned:
        screen.row("", _tuned_note(other))
    _say_pictures(screen, "fixed", f"wrong in {first}, right in {c.other}", c.fixed)
    _say_pictures(screen, "broken", f"right in {first}, wrong in {c.other}", c.broken)
    _say_settings(screen, other)


def _judged_on(c: Comparison) -> str:
    text = f"{c.n:,} judged, of {c.n_first:,} that {c.first} validated and {c.n_other:,} of {c.other}"
    both = ((c.trained_by_other, c.first, c.other), (c.trained_by_first, c.other, c.first))
    unfair = [f"{n:,} of {a}'s were trained on by {b}" for n, a, b in both if n]
    return f"{text}; left out as unfair: {', '.join(unfair)}" if unfair else text


def _say_classes(screen: Screen, comparison: Comparison) -> None:
    """Show the classes that changed most; those beyond chance come first."""
    changed = [c for c in comparison.per_class if c.change]
    sure = [c for c in changed if c.sure]
    first = sorted(changed, key=lambda c: not c.sure)[:_CLASSES]
    if not first:
        screen.row("classes", f"none has another {comparison.measure}")
        return
    screen.row("classes", f"{len(sure)} of {len(comparison.per_class)} changed beyond chance; by {comparison.measure}:")
    screen.table([(screen.cut(c.name, _NAME_WIDTH), _class_numbers(c)) for c in first], indent=LABEL_WIDTH)


def _class_numbers(c: ClassDifference) -> str:
    return f"{c.first:.2f} → {c.other:.2f}  {c.change:+.2f}  {plural(c.n, 'picture')}  p {_p(c.p_value)}"


def _say_pictures(screen: Screen, label: str, what: str, pictures: Sequence[ChangedPicture]) -> None:
    screen.row(label, f"{plural(len(pictures), 'picture')} {what}")
    for p in pictures[:_PICTURES]:
        file = screen.cut(p.file, max(16, (screen.width - LABEL_WIDTH) // 2))
        screen.line(f"{'':{LABEL_WIDTH}}{file}  {_errors(p)}")
    if len(pictures) > _PICTURES:
        screen.line(f"{'':{LABEL_WIDTH}}… and {len(pictures) - _PICTURES:,} more (--json lists all)")


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
    values = [(name, *(screen.cut(_setting(v), 2 * _NAME_WIDTH) for v in (a, b))) for name, a, b in other.settings]
    texts = [f"{name}: {a} → {b}" for name, a, b in values]
    screen.row("settings", shown(texts, most=_SETTINGS, between="; "))
