"""May the model be trusted, and for what: plain sentences, each with the numbers that it rests on.

The rules are few and fixed, so that a reader can argue with them:

- A class with fewer than ``LEAST_SUPPORT`` validation pictures, or ``LEAST_GROUPS`` groups of them, is not judged.
- Precision (or recall) is good where it is shown to be above ``GOOD``, by the test that its interval inverts. All that
  are judged are tested at once (Holm), so that a page says any of them wrongly in at most ``WRONG_PAGES`` of cases.
- Of these, what saying yes to every picture would do as well is no better than that: the lower end of precision is not
  above the share of pictures that have the class.
- Both good: trusted; of a very common class most absences must be recognised too. Only precision: believe it when it is
  predicted. Only recall: check what it finds.
- Neither, but the upper ends reach ``GOOD``: it cannot be told yet, more pictures would. Else: not to be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from onecycle.evaluation.certainty.decisions import Measure
from onecycle.evaluation.certainty.label_noise import DoubtCount
from onecycle.evaluation.certainty.reliability import PER_BIN, TOLERANCE
from onecycle.evaluation.certainty.spans import Span
from onecycle.evaluation.class_table import ClassRow
from onecycle.evaluation.headline import HELD_OUT, SAME_PICTURES, TRAINED_ON, Headline, picked_note, versus_baseline
from onecycle.evaluation.report.scores import NOTED, CalibrationFacts, Scores
from onecycle.text import label_words, plural, shown

GOOD = 0.7
PERCENT = f"{100 * GOOD:.0f} %"
LEAST_SUPPORT = 10
LEAST_GROUPS = 10
WRONG_PAGES = 0.05
LEAST_RIGHT, LEAST_PICTURES = 10, 50
"""Right answers and pictures with fewer of which probabilities are not judged."""

NAMED = 8
"""So many classes are named in a sentence; the table has all."""

Tone = Literal["good", "care", "bad", "plain"]
Grade = Literal["trusted", "precise", "finds", "always", "open", "weak", "few", "groups"]
GRADES: dict[Grade, tuple[str, str, Tone]] = {
    "trusted": ("trust", f"precision and recall are shown to be above {PERCENT}", "good"),
    "precise": ("trust a yes", "right when predicted, but it misses some", "care"),
    "finds": ("check each yes", "finds most of them, with false alarms", "care"),
    "always": ("like always yes", "so far as these pictures show", "care"),
    "open": ("cannot tell yet", "the pictures are too few to be sure enough", "care"),
    "weak": ("do not trust", "too many wrong or missed", "bad"),
    "few": ("too few pictures", f"fewer than {LEAST_SUPPORT} with it, or without it, to judge by", "care"),
    "groups": ("too few groups", f"fewer than {LEAST_GROUPS} groups of pictures with it to judge by", "care"),
}
"""What a grade is called in the table, why it is given, and how that sounds; the best first."""


@dataclass(frozen=True)
class Statement:
    """A sentence and the numbers that it rests on."""

    question: str  # what it answers, in a word or three
    text: str
    tone: Tone
    numbers: Mapping[str, float]  # by name


@dataclass(frozen=True)
class GradedClass:
    """A class with its grade and the reason for it."""

    row: ClassRow
    grade: Grade
    reason: str


@dataclass(frozen=True, kw_only=True)
class IssueCount:
    """How many labels look doubtful to heads that had not seen them; for tags, decisions (this picture, this tag)."""

    flagged: int  # labels that look doubtful
    n: int  # more than would if all were right: those that are claimed and listed
    pictures: int  # that these are on
    judged: int | None = None  # labels that were looked at; None where that is not known
    expected: float | None = None  # that would look doubtful if all were right; None where that was not asked
    low: float = 0.0  # of n, its 95 % interval
    high: float = 0.0

    @classmethod
    def of(cls, doubts: DoubtCount, *, listed: int, pictures: int, judged: int | None) -> Self:
        """Put what was counted beside what is listed."""
        ends = {"expected": doubts.expected, "low": doubts.low, "high": doubts.high}
        return cls(flagged=doubts.flagged, n=listed, pictures=pictures, judged=judged, **ends)

    def text(self, *, is_multi: bool) -> str:
        """Return the number with its unit, as the beginning of a sentence."""
        one, several = ("yes/no decision on tags", "yes/no decisions on tags") if is_multi else ("label", "labels")
        if not self.flagged:
            return f"no {one} looks doubtful"
        among = self.flagged if self.judged is None else self.judged
        of = "" if self.judged is None else f" of {self.judged:,}"
        said = f"{self.flagged:,}{of} {one if among == 1 else several} look{'s' if self.flagged == 1 else ''} doubtful"
        where = f" (on {plural(self.pictures, 'picture')})" if is_multi else ""
        if self.expected is None:
            return f"{said}{where}"
        if not self.n:
            return f"{said}, no more than chance if all were right (about {self.expected:,.0f} would)"
        ends = f"{max(self.low, 0):,.0f} to {self.high:,.0f}"
        return f"{said}, about {self.expected:,.0f} of which would if all were right; {self.n:,} more ({ends}){where}"


HARD_ONES = "hard pictures with right labels can be among them"


@dataclass(frozen=True)
class Warned:
    """What the audit and the label check say."""

    leaked: int | None = None  # validation pictures that are in training too; None where nobody looked
    errors: int = 0  # findings of the audit that are errors
    issues: IssueCount | None = None  # labels worth a second look; None where nobody looked
    trained_on: bool = False  # whether these pictures trained the model

    @classmethod
    def of(cls, audit: Mapping[str, Any] | None, **more: Any) -> Self:
        """Read what ``AuditReport.to_dict`` wrote, None where nobody looked; ``more``: the other fields."""
        if audit is None:
            return cls(**more)
        errors = sum(finding["severity"] == "error" for finding in audit.get("findings", ()))
        return cls(leaked=len(audit.get("leaked", ())), errors=errors, **more)


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    How each sentence comes about, and how often it was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    bottom_line: Statement  # one sentence
    statements: tuple[Statement, ...]  # how good, how sure, better than what, for what, what to be careful of
    graded: tuple[GradedClass, ...] = field(repr=False)  # every class, in the order of the class list


def grade_classes(rows: Sequence[ClassRow]) -> tuple[GradedClass, ...]:
    """Judge the classes of a page, all at once.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", over the precision and the recall of
        every class that is judged. How often a page is wrong: ``benchmarks/harness/truth_trust.py``.
    """
    judged = [i for i, row in enumerate(rows) if _too_few(row) is None]
    spans = [span for i in judged for span in (rows[i].precision, rows[i].recall)]
    shown_good = _shown_above(spans, GOOD)
    good = dict(zip(judged, zip(shown_good[::2], shown_good[1::2], strict=True), strict=True))
    return tuple(_too_few(row) or _graded(row, *good[i]) for i, row in enumerate(rows))


def _too_few(row: ClassRow) -> GradedClass | None:
    if row.support < LEAST_SUPPORT:
        return GradedClass(row, "few", f"{_pictures(row.support)}; {LEAST_SUPPORT} are the least")
    if row.groups is not None and row.groups < LEAST_GROUPS:
        in_groups = plural(row.groups, "group of pictures has", "groups of pictures have")
        return GradedClass(row, "groups", f"{in_groups} it; {LEAST_GROUPS} are the least")
    return None


def _shown_above(spans: Sequence[Span], limit: float) -> list[bool]:
    """Return which values are shown to be above a limit, by Holm's procedure over all of them."""
    p_values = np.array([span.p_value(limit) for span in spans])
    order = np.argsort(p_values, kind="stable")
    passed = p_values[order] <= WRONG_PAGES / np.arange(len(spans), 0, -1)
    shown_above = np.zeros(len(spans), dtype=bool)
    shown_above[order] = np.logical_and.accumulate(passed)
    return [bool(one) for one in shown_above]


def _graded(row: ClassRow, precise: bool, finds: bool) -> GradedClass:
    """Judge one class by whether precision and recall are shown to be good, and by its intervals."""
    precision, recall = row.precision, row.recall
    if not row.tp + row.fp:
        return GradedClass(row, "weak", f"never predicted, though {row.support} pictures have it")
    said = f"precision {_ends(precision)}, recall {_ends(recall)}"
    wrongly = f"predicted for {row.fp:,} of the {plural(row.absent, 'picture')} without it"
    if (precise or finds) and not precision.low > row.share:
        common = f"{100 * row.share:.0f} % of the pictures have it, so always saying yes may be as precise"
        return GradedClass(row, "always", f"{common}{f'; {wrongly}' if row.absent else ''}; {said}")
    if precise and row.absent < LEAST_SUPPORT:
        without = plural(row.absent, "validation picture does", "validation pictures do")
        return GradedClass(row, "few", f"{without} not have it; {LEAST_SUPPORT} are the least")
    if precise and finds and row.share >= GOOD and not row.specificity.low >= 0.5:
        return GradedClass(row, "finds", f"finds most, yet is {wrongly}; {said}")
    if precise and finds:
        return GradedClass(row, "trusted", said)
    if precise:
        return GradedClass(row, "precise", f"when predicted it is right ({said}), but it misses some")
    if finds:
        return GradedClass(row, "finds", f"finds most ({said}), with false alarms")
    if precision.high >= GOOD and recall.high >= GOOD:
        return GradedClass(row, "open", f"not sure enough yet: {said}")
    if row.ap.known and row.ap.has_interval and row.ap.low <= row.share:
        return GradedClass(row, "weak", f"ranks pictures hardly better than chance; {said}")
    return GradedClass(row, "weak", said)


def judge(
    scores: Scores, rows: Sequence[ClassRow], calibration: CalibrationFacts | None, warned: Warned, *, is_multi: bool
) -> Verdict:
    """Return the verdict on a model.

    Args:
        scores: with the headline.
        rows: a row for each class.
        calibration: None where nothing is known.
        warned: by the audit and the label check.
        is_multi: whether the classes are tags.
    """
    graded, best = grade_classes(rows), scores.headline
    words = label_words(is_multi=is_multi).many
    statements = [
        _how_good(best, scores.measure if is_multi else None),
        _how_sure(best),
        _better_than(best),
        *_what_for(graded, words, is_multi=is_multi),
        *_cautions(best, calibration, warned, is_multi=is_multi),
    ]
    return Verdict(_bottom_line(best, graded, warned, words), tuple(statements), graded)


def _bottom_line(best: Headline, graded: Sequence[GradedClass], warned: Warned, words: str) -> Statement:
    """Say in one sentence whether to use the model."""
    n, trusted = len(graded), sum(g.grade == "trusted" for g in graded)
    unknown = sum(g.grade in ("few", "groups", "open") for g in graded)
    tone: Tone = "bad"
    if warned.trained_on:
        text = "These pictures trained the model, so this page cannot say how good it is."
    elif warned.leaked:
        text = "The numbers flatter the model: training saw copies of validation pictures. Mend the split first."
    elif not best.beats_baseline:
        text = "Not shown to be better than the baseline, which never looks at a picture: do not use it yet."
    elif trusted == n:
        text, tone = f"Better than the baseline, and good enough to trust for all {n} {words}.", "good"
    elif trusted:
        text = f"Better than the baseline. Trust it for {trusted} of {n} {words}; check the others by eye."
        tone = "care"
    elif 2 * unknown > n:
        text = f"Better than the baseline, but too few pictures to say which of the {n} {words} to trust."
        tone = "care"
    else:
        text, tone = f"Better than the baseline, but none of the {n} {words} can be trusted unseen yet.", "care"
    numbers = {"trusted": trusted, "classes": n, "unknown": unknown, "leaked": warned.leaked or 0}
    return Statement("", text, tone, numbers)


def _how_good(best: Headline, measure: Measure | None) -> Statement:
    """Say what the headline is; ``measure`` is that of tags."""
    share, n = f"{100 * best.value:.1f} %", _pictures(best.n)
    if measure is None:
        text = f"{share} of {n} get the right class."
    elif measure.is_exact:
        text = f"{share} of {n} get exactly their tags."
    elif measure.precision is not None:
        text = f"{share} of the tags of {n} are found, by thresholds that were chosen for {measure}."
    else:
        costs = "costs more than" if measure.beta > 1 else "costs as much as"
        text = (
            f"{best.name[0].upper()}{best.name[1:]} is {best.value:.3f} on {n}: 1 means that every picture gets "
            f"exactly its tags; a missed tag {costs} a wrong one."
        )
    if best.thresholds == HELD_OUT:
        text += " Each fold was decided by thresholds chosen on the others."
    return Statement("How good", text, "plain", {"value": best.value, "n": best.n})


def _how_sure(best: Headline) -> Statement:
    low, high = best.of_new(best.n)
    text = (
        f"The score over all pictures like these lies in {best.low:.3f} to {best.high:.3f} (95 %); a new set of "
        f"{best.counted('such picture')} would score {low:.3f} to {high:.3f}."
    )
    wide = best.high - best.low > 0.1
    if wide:
        more = "pictures" if best.n_groups is None else "groups of pictures"
        text += f" That is wide; more validation {more} would narrow it."
    numbers = {"low": best.low, "high": best.high, "new_low": low, "new_high": high}
    return Statement("How sure", text, "care" if wide else "plain", numbers)


def _better_than(best: Headline) -> Statement:
    low, high = best.gain or (math.nan, math.nan)
    numbers = {} if best.baseline is None else {"baseline": best.baseline, "low": low, "high": high}
    tone: Tone = "good" if best.beats_baseline else "care" if best.gain is None else "bad"
    return Statement("Baseline", versus_baseline(best), tone, numbers)


def _what_for(graded: Sequence[GradedClass], words: str, *, is_multi: bool) -> list[Statement]:
    """Name the classes of each grade; grades without a class are left out."""
    said = []
    for grade, (word, why, tone) in GRADES.items():
        mine = sorted((g.row for g in graded if g.grade == grade), key=lambda r: -r.support)
        head, names = word.capitalize(), [_short(r.name) for r in mine]
        if grade == "always":
            head = "No better than always yes" if is_multi else "No better than always naming it"
            names = _with_shares(mine)
        if grade == "trusted":
            why += _at_once(graded, words)
        if mine:
            numbers = {"count": len(mine), "of": len(graded), "limit": GOOD}
            said.append(Statement(head, f"{shown(names, most=NAMED)}: {why}.", tone, numbers))
    if not any(g.grade == "trusted" for g in graded):
        text = f"None of the {len(graded)} {words} is shown to have precision and recall above {PERCENT}"
        text = f"{text}{_at_once(graded, words)}."
        said.insert(0, Statement("Trust", text, "bad", {"count": 0, "limit": GOOD}))
    return said


def _at_once(graded: Sequence[GradedClass], words: str) -> str:
    """Say that what is trusted was judged together, where several classes were."""
    judged = sum(g.grade not in ("few", "groups") for g in graded)
    chance = f"in at most {100 * WRONG_PAGES:.0f} % of such reports any is trusted wrongly"
    return f" ({judged} {words} judged at once: {chance})" if judged > 1 else ""


def _cautions(
    best: Headline, calibration: CalibrationFacts | None, warned: Warned, *, is_multi: bool
) -> list[Statement]:
    said = []
    leaked, errors, issues = warned.leaked, warned.errors, warned.issues
    if warned.trained_on:
        said.append(Statement("Split", TRAINED_ON, "bad", {}))
    if leaked is None:
        text = "The data were not audited, so leaks between training and validation are not ruled out."
        said.append(Statement("Leaks", text, "care", {}))
    elif leaked:
        text = f"Training saw copies of {_pictures(leaked)}, so the numbers are too good."
        said.append(Statement("Leaks", text, "bad", {"leaked": leaked}))
    else:
        said.append(Statement("Leaks", "The audit found no validation picture in training.", "good", {"leaked": 0}))
    if errors:
        text = f"The audit reports {plural(errors, 'error')} in the data; see below."
        said.append(Statement("Data", text, "bad", {"errors": errors}))
    if picked := picked_note(best):
        said.append(Statement(best.picked.capitalize(), picked, "care", {"picked_of": best.picked_of}))
    if best.thresholds == HELD_OUT:
        gap = 0.0 if best.in_use is None else best.in_use - best.value
        flattered = f"judged like them, the score would read {gap:.3f} more" if gap > 0 else "by little, here"
        text = (
            "Chosen on these pictures. The score above is not flattered by that (held-out folds); the numbers of "
            f"single tags are, and so is what is said of them here ({flattered})."
        )
        said.append(Statement("Thresholds", text, "care", {"flattered": gap}))
    elif best.thresholds == SAME_PICTURES:
        text = "The thresholds were chosen on these very pictures or elsewhere: the score is somewhat too good."
        said.append(Statement("Thresholds", text, "care", {}))
    if calibration is not None:
        said.append(_probabilities(calibration, is_multi=is_multi))
    if issues is not None and issues.n:
        text = f"{issues.text(is_multi=is_multi)}; {HARD_ONES}. The most doubtful are below."
        said.append(
            Statement(
                "Labels", text, "care", {"doubtful": issues.flagged, "more": issues.n, "pictures": issues.pictures}
            )
        )
    return said


def _probabilities(facts: CalibrationFacts, *, is_multi: bool) -> Statement:
    """Say whether a probability means what it says: of a yes (of tags, tag by tag), or of the most probable class.

    It does where the upper end of its error is below the tolerance, and no tag by itself is shown to be off.
    """
    e, right = facts.error, facts.n_true
    if e is None:
        text = "It cannot be told whether they mean what they say: no tag is given to any picture."
        return Statement("Probabilities", text, "care", {})
    numbers = {"error": e.value, "low": e.low, "high": e.high, "tolerance": TOLERANCE, "right": right, "n": facts.n}
    what = "a yes" if is_multi else "the most probable class"
    where = ", judged on pictures that did not calibrate them" if facts.calibrated and facts.held_out else ""
    far = f"is {100 * e.value:.1f} points off" if e.value >= 0.0005 else "is off by no more than chance shows"
    off = f"{what} {far} (95 % interval {100 * e.low:.1f} to {100 * e.high:.1f} points){where}"
    limit = f"{100 * TOLERANCE:.0f} points are the limit"
    few = f" {plural(facts.few, 'tag')} with fewer than {PER_BIN} yes are judged together only." if facts.few else ""
    if facts.wrong or (e.low > NOTED and e.high >= TOLERANCE):
        named = [
            f"{_short(w.name)} (says {100 * w.said:.0f} %, right in {100 * w.observed:.0f} % of {w.n:,})"
            for w in facts.wrong
        ]
        which = f" Off by themselves: {shown(named, most=NAMED)}." if named else ""
        text = f"Do not read them as shares: {off}.{which}{'' if facts.calibrated else ' See calibrate().'}"
    elif right < LEAST_RIGHT or facts.n < LEAST_PICTURES:
        text = (
            f"It cannot be told whether they mean what they say: {_pictures(facts.n)} and {right} "
            f"{'right yes' if is_multi else 'right answers'}; {LEAST_PICTURES} and {LEAST_RIGHT} are the least."
        )
    elif e.high < TOLERANCE:
        return Statement("Probabilities", f"They mean what they say: {off}; {limit}.{few}", "good", numbers)
    else:
        text = f"It cannot be told whether they mean what they say: {off}; {limit}. More pictures would tell."
    return Statement("Probabilities", text, "care", numbers)


def _with_shares(rows: Sequence[ClassRow]) -> list[str]:
    """Return names with how many pictures have them; the first says what the number is."""
    what = [" of the pictures have it", *[""] * len(rows)]
    return [f"{_short(r.name)} ({100 * r.share:.0f} %{w})" for r, w in zip(rows, what, strict=False)]


def _ends(span: Span) -> str:
    return f"{span.low:.2f}–{span.high:.2f}"


def _pictures(n: int) -> str:
    return plural(n, "validation picture")


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"
