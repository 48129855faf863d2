"""From a learner to its report: gathers what is known of a model and of its data into one HTML page.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import datetime
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from onecycle import __version__
from onecycle.data.audit.findings import AuditReport
from onecycle.data.datasets import ImageDataset
from onecycle.data.labels import relabel
from onecycle.errors import ArgumentError, OnecycleError, check_keywords
from onecycle.evaluation.class_table import class_rows
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.report import content as say
from onecycle.evaluation.report.charts import Plot, Series, line_plot, reliability_plot
from onecycle.evaluation.report.confusion import confused_pairs, confusion_table
from onecycle.evaluation.report.content import DoubtfulPicture, ReportContent, TopLoss
from onecycle.evaluation.report.page import render
from onecycle.evaluation.report.pictures import LARGE_PX, MEDIUM_PX, PagePictures, thumbnail_px
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.evaluation.report.sliders import make_sliders
from onecycle.evaluation.report.verdict import IssueCount, Warned, judge
from onecycle.evaluation.slices import SliceReport
from onecycle.files import name_below, write_whole
from onecycle.learner.label_issues import LabelIssues
from onecycle.train.log.recorder import Recorder

NO_COLUMNS = "There is no column beside names and labels, and no {word} with enough pictures to look at apart."
Sweeps = Sequence[tuple[Sequence[float], Sequence[float]]]
Issues = LabelIssues | Sequence[LabelIssue] | None


@dataclass(frozen=True)
class Report:
    """A report as one HTML page; a notebook shows it inline."""

    html: str = field(repr=False)
    content: ReportContent = field(repr=False)  # what it says, as values and arrays

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all, and return its path."""
        write_whole(Path(path), self.html.encode("utf-8"))
        return Path(path)

    def _repr_html_(self) -> str:
        # Sandboxed: the page's script runs, without access to the notebook around it.
        frame = '<iframe title="onecycle report" sandbox="allow-scripts allow-downloads" width="100%" height="800"'
        return f'{frame} srcdoc="{html.escape(self.html, quote=True)}"></iframe>'

    def __repr__(self) -> str:
        verdict = self.content.verdict.bottom_line.text
        return f"Report({self.content.title!r}, {len(self.html) / 1e6:.1f} MB: {verdict})"


class ReportOptions(TypedDict, total=False):
    """What ``learn.report`` puts into its page; what is not there is left out, with the reason."""

    interpretation: ClassificationInterpretation | None  # predictions to report; default: of validation, made now
    audit: AuditReport | Mapping[str, Any] | None  # of data.audit(), or its to_dict()
    label_issues: Issues  # of learn.label_issues(), or a list, the most doubtful first
    sweep: Sweeps | Recorder | None  # of the finder: pairs (learning rates, losses), or the recorder of a sweep
    title: str  # of the page; default the network's and the data's names
    notes: Sequence[str]  # sentences to show below the verdict


class RunReportOptions(ReportOptions, total=False):
    """What a run knows besides."""

    config: str  # its settings as text
    command: str  # what reproduces it
    env: Mapping[str, object]  # versions, machine and the like, by name
    training_note: str  # a sentence on the history of training
    issue_count: IssueCount | None  # how many labels are doubtful; default: counted in label_issues


def build_report(learn: Any, **options: Unpack[RunReportOptions]) -> Report:
    """Put what is known of a trained model into one page; what is not known is left out, with the reason.

    Args:
        learn: the learner.
        options: see ``ReportOptions`` and ``RunReportOptions``.

    Raises:
        TypeError: a keyword that is not among them.
        ArgumentError: no picture to report on.
    """
    check_keywords("build_report", options, RunReportOptions.__annotations__)
    interpretation = options.get("interpretation")
    interpretation = learn.interpret() if interpretation is None else interpretation
    now, of = learn.data, interpretation.data
    if interpretation.learn is not learn or of.split is not now.split or of.labels is not now.labels:
        raise ArgumentError(
            "this interpretation is of other data than the learner's; learn.interpret() makes one of it"
        )
    if not len(interpretation):
        raise ArgumentError("a report needs labelled pictures that were predicted; the validation part is empty")
    return _Builder(learn, interpretation, options).build()


class _Builder:
    """Gathers what one report shows."""

    def __init__(self, learn: Any, interpretation: ClassificationInterpretation, options: RunReportOptions) -> None:
        self.learn, self.interpretation, self.options = learn, interpretation, options
        self.predictions = interpretation.predictions
        self.pictures = PagePictures(_reader(interpretation.picture))
        self.missing: dict[str, str] = {}
        counted = options.get("issue_count")
        self.issue_count = count_issues(options.get("label_issues")) if counted is None else counted

    def build(self) -> Report:
        """Make every section, numbers first, then pictures in the order of their worth."""
        p, o, scores = self.predictions, self.options, measure(self.predictions)
        rows, calibration, sweep = class_rows(p), calibration_facts(p), o.get("sweep")
        audit = o.get("audit")
        data: Mapping[str, Any] | None = audit.to_dict() if isinstance(audit, AuditReport) else audit
        warned = Warned.of(data, issues=self.issue_count, trained_on=self.interpretation.is_training_part)
        folder = self.learn.data.path.name
        content = ReportContent(
            title=o.get("title") or (f"Report on {folder}" if folder else "Report"),
            predictions=p,
            verdict=judge(scores, rows, calibration, warned, is_multi=p.is_multi),
            scores=scores,
            calibration=calibration,
            rows=rows,
            reliability=None if calibration.curve is None else reliability_plot(calibration.curve),
            data=data,
            curves=self._curves(),
            sweep=sweep_plot([(sweep.lrs, sweep.raw_losses)] if isinstance(sweep, Recorder) else sweep or ()),
            matrix=None if p.is_multi else confusion_table(p),
            swapped=say.swapped_tags(p) if p.is_multi else (),
            together=say.tags_together(p) if p.is_multi else (),
            pairs=confused_pairs(p),
            shots={},
            top=self._top_losses(),
            sliders=make_sliders(p),
            doubtful=self._doubtful(o.get("label_issues"), self.issue_count),
            issues=self.issue_count,
            columns=tuple(c for c in relabel.COLUMNS if p.is_multi or c != relabel.TAG),
            slices=self._slices(),
            thumbs={},
            config=o.get("config", ""),
            command=o.get("command", ""),
            env=o.get("env") or {},
            notes=tuple(o.get("notes", ())),
            training_note=o.get("training_note", ""),
            missing=self.missing,
            version=__version__,
            made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        return self._finished(content)

    def _finished(self, content: ReportContent) -> Report:
        """Spend the rest of the budget on the pictures behind the tables, wrong ones first, and write the page."""
        p, pictures = self.predictions, self.pictures
        shots = pictures.shots((i for pair in content.pairs for i in pair.positions), MEDIUM_PX)
        thumbs = pictures.thumbnails(say.wrong_first(p).tolist(), thumbnail_px(len(p)))
        whole = replace(content, shots=shots, thumbs=thumbs, left_out=len(pictures.left_out), gone=len(pictures.gone))
        return Report(render(whole), whole)

    def _curves(self) -> tuple[Plot, ...]:
        plots = learning_plots(self.learn.recorder)
        if not plots:
            self.missing["curves"] = "No history of training: this model was loaded, not trained, in this session."
        return plots

    def _top_losses(self) -> tuple[TopLoss, ...]:
        """Return the pictures with the largest losses, plain and under a heat map where it shows anything."""
        p = self.predictions
        worst = np.argsort(-p.known_losses, kind="stable")[: say.MOST_TOP_LOSSES].tolist()
        heats = self._heats(worst)
        return tuple(
            TopLoss(
                index=index,
                loss=float(p.known_losses[index]),
                labels=say.shown_labels(p, index),
                plain=self.pictures.shot(index, LARGE_PX),
                heat=None if heat is None or not heat.any() else self.pictures.shot(index, LARGE_PX, heat=heat),
                explained=p.classes[self.interpretation.explained_class(index)],
            )
            for index, heat in zip(worst, heats, strict=True)
        )

    def _heats(self, indices: Sequence[int]) -> Sequence[np.ndarray | None]:
        """Return their heat maps; None each, with the reason on the page, where they cannot be made."""
        there = [i for i in indices if self.pictures.read(i) is not None]
        try:
            heats = dict(zip(there, self.interpretation.grad_cams(there), strict=True))
        except (OnecycleError, OSError) as error:
            self.missing["heat"] = f"No heat maps: {error}"
            heats = {}
        return [heats.get(i) for i in indices]

    def _doubtful(self, issues: Issues, count: IssueCount | None) -> tuple[DoubtfulPicture, ...] | None:
        if issues is None or count is None:
            return None
        most = min(say.MOST_ISSUES, count.n)
        by_row: dict[int, list[LabelIssue]] = {}
        for issue in issues.top(most) if isinstance(issues, LabelIssues) else issues[:most]:
            by_row.setdefault(issue.row, []).append(issue)
        data = self.learn.data
        dataset = ImageDataset(data.store, np.array(list(by_row), dtype=np.int64), data.labels, data.classes)
        pictures = PagePictures(_reader(lambda i: dataset.image(i).numpy()), self.pictures.budget)
        doubtful = []
        for i, of_row in enumerate(by_row.values()):
            name = name_below(of_row[0].path, data.path)
            doubtful.append(DoubtfulPicture(name, pictures.shot(i, MEDIUM_PX), tuple(of_row)))
        self.pictures.budget = pictures.budget
        return tuple(doubtful)

    def _slices(self) -> SliceReport | None:
        words = self.predictions.words
        why = NO_COLUMNS.format(word=self.predictions.word)
        if len(self.predictions.classes) > _MOST_SLICED:
            why = f"More than {_MOST_SLICED} {words}: ask learn.interpret().slices()."
        else:
            try:
                if (report := self.interpretation.slices()).slices:
                    return report
            except OnecycleError as error:
                why = str(error)
        self.missing["slices"] = why
        return None


METRIC_NAMES = {"fbeta": "sample-F2"}
"""Metrics of training that are called otherwise where they are shown."""

_MOST_SLICED = 100
_DOTTED = 40


def learning_plots(recorder: Recorder) -> tuple[Plot, ...]:
    """Return charts of the losses and of each metric by epoch; empty without a whole epoch, as after a sweep."""
    if not recorder.rows:
        return ()
    losses = recorder.loss_curve()
    ends = np.concatenate([[0], np.cumsum(recorder.nb_batches)])

    def epochs(steps: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(steps, ends, np.arange(len(ends))))

    few = len(losses.steps) <= _DOTTED
    train = Series("training (smoothed)", epochs(losses.steps + 1), losses.train, dotted=few)
    valid = Series("validation", epochs(losses.valid_steps), losses.valid, dotted=True)
    plots = [line_plot("Loss", [train, valid], x_label="epoch", y_label="loss")]
    for name, (steps, values) in recorder.metric_curves().items():
        shown = METRIC_NAMES.get(name, name.replace("_", " "))
        series = Series(shown, epochs(steps), values, dotted=True)
        plots.append(line_plot(shown, [series], x_label="epoch", y_label=shown))
    return tuple(plot for plot in plots if plot is not None)


def sweep_plot(sweeps: Sweeps) -> Plot | None:
    """Return the chart of loss against learning rate; None without a sweep."""
    series = [
        Series(f"sweep {i}", np.asarray(lrs[: len(losses)], dtype=float), _before_explosion(losses))
        for i, (lrs, losses) in enumerate(sweeps, 1)
    ]
    return line_plot("Learning-rate finder", series, x_label="learning rate", y_label="loss", log_x=True)


def _before_explosion(losses: Sequence[float]) -> np.ndarray:
    """Return losses, NaN where they are far above the first ones: their height would flatten all else."""
    values = np.asarray(losses, dtype=float)
    start = float(np.nanmedian(values[:10])) if len(values) else 0.0
    return np.where(values > start + 3 * abs(start), np.nan, values)


def count_issues(issues: Issues, *, n: int | None = None, judged: int | None = None) -> IssueCount | None:
    """Count doubtful labels and the pictures that they are on; None where nobody looked.

    Args:
        issues: of ``learn.label_issues()``, or a list, the most doubtful first.
        n: how many of a list are doubtful; default all.
        judged: how many labels a list was chosen from.
    """
    if issues is None:
        return None
    if isinstance(issues, LabelIssues):
        return issues.count
    listed = list(issues[:n])
    pictures = len({issue.row for issue in listed})
    return IssueCount(flagged=len(listed), n=len(listed), pictures=pictures, judged=judged)


def _reader(read: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray | None]:
    """Return a reader that gives None where a file is gone or broken, so that a report never fails for a picture."""

    def read_or_none(index: int) -> np.ndarray | None:
        try:
            return read(index)
        except (OnecycleError, OSError, ValueError):
            return None

    return read_or_none
