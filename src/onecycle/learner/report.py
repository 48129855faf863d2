"""From a learner to its report: gathers what is known of a model and of its data into one HTML page."""

from __future__ import annotations

import datetime
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle import __version__
from onecycle.data.audit.findings import AuditReport
from onecycle.data.datasets import ImageDataset
from onecycle.data.labels import relabel
from onecycle.errors import ArgumentError, OnecycleError
from onecycle.evaluation.certainty.constraints import apply_constraints
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.report import content as parts
from onecycle.evaluation.report.charts import Plot, Series, line_plot, reliability_plot
from onecycle.evaluation.report.class_table import class_rows
from onecycle.evaluation.report.confusion import confused_pairs, confusion_table
from onecycle.evaluation.report.content import DoubtfulLabel, DoubtfulPicture, PairShots, ReportContent, TopLoss
from onecycle.evaluation.report.evidence import Evidence
from onecycle.evaluation.report.page import render
from onecycle.evaluation.report.pictures import LARGE_PX, MEDIUM_PX, Album, thumbnail_px
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.evaluation.report.sliders import make_sliders
from onecycle.evaluation.report.verdict import LabelDoubts, Warned, judge
from onecycle.evaluation.slices import SliceReport
from onecycle.files import write_whole
from onecycle.learner.label_issues import LabelIssues
from onecycle.train.log.recorder import Recorder

if TYPE_CHECKING:
    from onecycle.learner.learner import Learner

DEFAULT_THRESH = 0.5
NO_COLUMNS = "There is no column beside names and labels, and no class with enough pictures to look at apart."
Sweeps = Sequence[tuple[Sequence[float], Sequence[float]]]
Issues = LabelIssues | Sequence[LabelIssue] | None


@dataclass(frozen=True)
class Report:
    """A report as one HTML page; a notebook shows it inline.

    Attributes:
        html: the page.
        content: what it says, as values and arrays.
    """

    html: str = field(repr=False)
    content: ReportContent = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all, and return its path."""
        target = Path(path)
        write_whole(target, self.html.encode("utf-8"))
        return target

    def _repr_html_(self) -> str:
        # Sandboxed: the page's script runs, without access to the notebook around it.
        inner = html.escape(self.html, quote=True)
        return (
            '<iframe title="onecycle report" sandbox="allow-scripts allow-downloads" width="100%" height="800" '
            f'srcdoc="{inner}"></iframe>'
        )

    def __repr__(self) -> str:
        said = self.content.verdict.bottom_line.text
        return f"Report({self.content.title!r}, {len(self.html) / 1e6:.1f} MB: {said})"


def build_report(
    learn: Learner,
    *,
    interpretation: ClassificationInterpretation | None = None,
    audit: AuditReport | Mapping[str, Any] | None = None,
    label_issues: Issues = None,
    sweep: Sweeps | Recorder | None = None,
    title: str = "",
    config: str = "",
    command: str = "",
    env: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    training_note: str = "",
    held_out: Estimate | None = None,
    doubts: LabelDoubts | None = None,
) -> Report:
    """Put what is known of a trained model into one page; what is not known is left out, with the reason.

    Args:
        learn: the learner.
        interpretation: predictions to report; default those of the validation part, made now.
        audit: of ``data.audit()``, or its ``to_dict()``.
        label_issues: of ``learn.label_issues()``, or a list, the most doubtful first.
        sweep: of the learning-rate finder: pairs (learning rates, losses), or the recorder of a sweep.
        title: of the page; default the network's and the data's names.
        config: the run's settings as text.
        command: what reproduces the run.
        env: versions, machine and the like, by name.
        notes: sentences to show below the verdict.
        training_note: a sentence on the history of training.
        held_out: the score of the learner's thresholds on folds that did not choose them; default: found again
            where the same choice can be made again.
        doubts: how many labels are doubtful; default: counted in ``label_issues``.

    Raises:
        ArgumentError: no picture to report on.
    """
    found = learn.interpret() if interpretation is None else interpretation
    if not len(found):
        raise ArgumentError("a report needs labelled pictures that were predicted; the validation part is empty")
    return _Builder(learn, found).build(
        audit=audit.to_dict() if isinstance(audit, AuditReport) else audit,
        issues=label_issues,
        sweep=sweep,
        title=title or _default_title(learn),
        config=config,
        command=command,
        env=env or {},
        notes=tuple(notes),
        training_note=training_note,
        held_out=held_out,
        doubts=label_doubts(label_issues) if doubts is None else doubts,
    )


class _Builder:
    """Gathers the parts of one report.

    Args:
        learn: the learner.
        found: its predictions.
    """

    def __init__(self, learn: Learner, found: ClassificationInterpretation) -> None:
        self.learn, self.found = learn, found
        self.evidence = evidence_of(learn, found)
        self.album = Album(_reader(found._picture))
        self.missing: dict[str, str] = {}

    def build(
        self,
        *,
        audit: Mapping[str, Any] | None,
        issues: Issues,
        sweep: Sweeps | Recorder | None,
        title: str,
        config: str,
        command: str,
        env: Mapping[str, object],
        notes: tuple[str, ...],
        training_note: str,
        held_out: Estimate | None,
        doubts: LabelDoubts | None,
    ) -> Report:
        """Make every part, numbers first, then pictures in the order of their worth."""
        e, learn = self.evidence, self.learn
        rows, scores = class_rows(e), measure(e, held_out)
        calibration = calibration_facts(e, calibrated=learn.calibration is not None)
        data = None if audit is None else parts.data_facts(audit)
        warned = Warned(
            leaked=None if data is None else len(data.leaked),
            errors=0 if data is None else sum(f.severity == "error" for f in data.findings),
            doubts=doubts,
            trained_on=self.found._is_training_part(),
        )
        curve = calibration.curve
        made = ReportContent(
            title,
            e,
            judge(scores, rows, calibration, warned, is_multi=e.is_multi),
            scores,
            calibration,
            rows,
            reliability_plot(curve.confidence, curve.observed, curve.low, curve.high, curve.count),
            data,
            self._curves(),
            sweep_plot(_sweeps(sweep)),
            None if e.is_multi else confusion_table(e),
            parts.tag_pairs(e),
            pairs=(),
            top=self._top_losses(),
            sliders=self._sliders(),
            doubtful=self._doubtful(issues, doubts),
            doubts=doubts,
            columns=tuple(c for c in relabel.COLUMNS if e.is_multi or c != relabel.TAG),
            slices=self._slices(),
            thumbs={},
            config=config,
            command=command,
            env=env,
            notes=notes,
            training_note=training_note,
            missing=self.missing,
            version=__version__,
            made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        return _finished(made, self.album, self._pairs())

    def _curves(self) -> tuple[Plot, ...]:
        recorder = getattr(self.learn, "recorder", None)
        plots = () if recorder is None else learning_plots(recorder)
        if not plots:
            self.missing["curves"] = "No history of training: this model was loaded, not trained, in this session."
        return plots

    def _pairs(self) -> tuple[PairShots, ...]:
        def shot(index: int | None) -> Any:
            return None if index is None else (index, self.album.shot(index, MEDIUM_PX))

        return tuple(
            PairShots(p, tuple(map(shot, p.pictures)), shot(p.like_actual), shot(p.like_predicted))
            for p in confused_pairs(self.evidence)
        )

    def _top_losses(self) -> tuple[TopLoss, ...]:
        order = np.argsort(-self.evidence.losses, kind="stable")[: parts.MOST_TOP_LOSSES]
        return tuple(self._top_loss(int(i)) for i in order)

    def _top_loss(self, index: int) -> TopLoss:
        e = self.evidence
        explained = self.found._explained_class(index)
        heat = self._heat(index, explained)
        return TopLoss(
            index,
            e.names[index],
            float(e.losses[index]),
            parts.true_names(e, index),
            parts.guesses(e, index),
            self.album.shot(index, LARGE_PX),
            None if heat is None else self.album.shot(index, LARGE_PX, heat=heat),
            e.classes[explained],
        )

    def _heat(self, index: int, explained: int) -> np.ndarray | None:
        """Return a heat map; None, with the reason on the page, where none can be made."""
        if "heat" in self.missing:
            return None
        try:
            found = self.found.grad_cam(index, explained)
        except (OnecycleError, OSError) as error:
            self.missing["heat"] = f"No heat maps: {error}"
            return None
        return found if found.any() else None

    def _sliders(self) -> Any:
        if not self.evidence.is_multi:
            return None
        chosen = self.learn.thresholds
        fixed = () if chosen is None else tuple(sorted(t for group in chosen.exactly_one for t in group))
        e = self.evidence
        return make_sliders(e.decided, e.thresholds, exact=chosen is not None, fixed=fixed)

    def _doubtful(self, issues: Issues, doubts: LabelDoubts | None) -> tuple[DoubtfulPicture, ...] | None:
        if issues is None or doubts is None:
            return None
        most = min(parts.MOST_ISSUES, doubts.n)
        listed = issues.top(most) if isinstance(issues, LabelIssues) else list(issues[:most])
        by_row: dict[int, list[LabelIssue]] = {}
        for issue in listed:
            by_row.setdefault(issue.row, []).append(issue)
        data = self.learn.data
        part = ImageDataset(data.store, np.array(list(by_row), dtype=np.int64), data.labels, data.classes)
        album = Album(_reader(lambda i: part.image(i).numpy()), self.album.budget)
        made = tuple(
            DoubtfulPicture(
                relabel.file_name(found[0].path, data.path),
                album.shot(i, MEDIUM_PX),
                tuple(DoubtfulLabel(x.tag, x.given, x.suggested, x.score) for x in found),
            )
            for i, found in enumerate(by_row.values())
        )
        self.album.budget = album.budget
        return made

    def _slices(self) -> SliceReport | None:
        if len(self.evidence.classes) > _MOST_SLICED:
            self.missing["slices"] = f"More than {_MOST_SLICED} {self.evidence.words}: ask learn.interpret().slices()."
            return None
        try:
            found = self.found.slices()
        except OnecycleError as error:
            self.missing["slices"] = str(error)
            return None
        if not found.slices:
            self.missing["slices"] = NO_COLUMNS
            return None
        return found


METRIC_NAMES = {"fbeta": "sample-F2"}
"""Metrics of training that are called otherwise where they are shown."""

_MOST_SLICED = 100
_DOTTED = 40


def evidence_of(learn: Learner, found: ClassificationInterpretation) -> Evidence:
    """Return the predictions as arrays, with the thresholds and the calibration of the learner."""
    probs = found.preds.numpy()
    shown = learn.calibrated.probs(found.preds).numpy()
    chosen = learn.thresholds if found.is_multi else None
    c = len(found.classes)
    thresholds = np.full(c, DEFAULT_THRESH) if chosen is None else np.array(chosen.values)
    data, train = found.data, found.data.split.train
    return Evidence(
        tuple(map(str, found.classes)),
        found.is_multi,
        probs,
        shown,
        shown if chosen is None else apply_constraints(probs, chosen.exactly_one),
        thresholds,
        chosen is not None,
        found.y_true.numpy(),
        found.losses.numpy(),
        tuple(relabel.file_name(path, data.path) for path in found._dataset().items),
        np.asarray(data.labels.counts(train), dtype=np.int64),
        len(train),
        found._own_groups(None),
    )


def learning_plots(recorder: Recorder) -> tuple[Plot, ...]:
    """Return charts of the losses and of each metric by epoch; empty without a whole epoch, as after a sweep."""
    if not recorder.rows:
        return ()
    losses = recorder.loss_curve()
    ends = np.concatenate([[0], np.cumsum(recorder.nb_batches)])

    def epochs(steps: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(steps, ends, np.arange(len(ends))))

    few = len(losses.steps) <= _DOTTED
    plots = [
        line_plot(
            "Loss",
            [
                Series("training (smoothed)", epochs(losses.steps + 1), losses.train, dotted=few),
                Series("validation", epochs(losses.valid_steps), losses.valid, dotted=True),
            ],
            x_label="epoch",
            y_label="loss",
        )
    ]
    for name, (steps, values) in recorder.metric_curves().items():
        shown = METRIC_NAMES.get(name, name.replace("_", " "))
        series = Series(shown, epochs(steps), values, dotted=True)
        plots.append(line_plot(shown, [series], x_label="epoch", y_label=shown))
    return tuple(plot for plot in plots if plot is not None)


def sweep_plot(sweeps: Sweeps) -> Plot | None:
    """Return the chart of loss against learning rate; None without a sweep."""
    series = [
        Series(f"sweep {i + 1}", np.asarray(lrs[: len(losses)], dtype=float), _before_explosion(losses))
        for i, (lrs, losses) in enumerate(sweeps)
    ]
    return line_plot("Learning-rate finder", series, x_label="learning rate", y_label="loss", log_x=True)


def _before_explosion(losses: Sequence[float]) -> np.ndarray:
    """Return losses, NaN where they are far above the first ones: their height would flatten all else."""
    values = np.asarray(losses, dtype=float)
    start = float(np.nanmedian(values[:10])) if len(values) else 0.0
    return np.where(values > start + 3 * abs(start), np.nan, values)


def _sweeps(sweep: Sweeps | Recorder | None) -> Sweeps:
    if isinstance(sweep, Recorder):
        return [(sweep.lrs, sweep.raw_losses)]
    return sweep or ()


def _finished(content: ReportContent, album: Album, pairs: tuple[PairShots, ...]) -> Report:
    """Spend the rest of the budget on the pictures behind the tables, wrong ones first, and write the page."""
    e = content.evidence
    thumbs = album.thumbnails(parts.worst_first(e).tolist(), thumbnail_px(e.n))
    whole = replace(content, pairs=pairs, thumbs=thumbs, left_out=len(album.left_out), gone=len(album.gone))
    return Report(render(whole), whole)


def label_doubts(issues: Issues, *, n: int | None = None, judged: int | None = None) -> LabelDoubts | None:
    """Count doubtful labels and the pictures that they are on; None where nobody looked.

    Args:
        issues: of ``learn.label_issues()``, or a list, the most doubtful first.
        n: how many of a list are doubtful; default all.
        judged: how many labels a list was chosen from.
    """
    if issues is None:
        return None
    if isinstance(issues, LabelIssues):
        listed, judged = issues.top(issues.n_likely), len(issues)
    else:
        listed = list(issues[:n])
    return LabelDoubts(len(listed), len({issue.row for issue in listed}), judged)


def _reader(read: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray | None]:
    """Return a reader that gives None where a file is gone or broken, so that a report never fails for a picture."""

    def read_or_none(index: int) -> np.ndarray | None:
        try:
            return read(index)
        except (OnecycleError, OSError, ValueError):
            return None

    return read_or_none


def _default_title(learn: Learner) -> str:
    return f"Report on {learn.data.path.name}" if learn.data.path.name else "Report"
