"""``onecycle report``: the page about a run, made from its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onecycle.cli.screen import Screen
from onecycle.errors import DataError
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.evaluation.report.verdict import IssueCount
from onecycle.learner.fine_tune.best import StageChoice
from onecycle.learner.learner import Learner
from onecycle.learner.report import Issues, Report, build_report, count_issues
from onecycle.runs.checkpoints import read_history, read_issues, read_sweeps
from onecycle.runs.folder import RunFolder, write_output
from onecycle.runs.load import interpretation_of, load_bunch, load_learner
from onecycle.runs.split import read_split
from onecycle.settings import MOST_SETTINGS


def run_report(run: Path, *, out: Path | None = None) -> int:
    """Make the report of a run from what its folder keeps; pictures are read from the data set, where it lies.

    Args:
        run: the run folder.
        out: the page; default ``report.html`` of the run.

    Raises:
        DataError: no such run, one that was not judged, or data that is gone or has changed.
    """
    folder, screen = RunFolder.open_finished(run), Screen()
    if not folder.predictions.exists():
        again = f"onecycle train --resume {shlex.quote(str(folder.path))}"
        raise DataError(
            f"{folder.path} has no predictions to report on: its training has not ended. Go on with `{again}`"
        )
    with screen.running(), screen.status("writing the report"):
        learn = load_learner(folder, bunch=load_bunch(folder))
        learn.recorder = read_history(folder)
        made = report_of_run(folder, learn, interpretation_of(folder, learn), issues=read_issues(folder, learn.data))
        path = write_output(out or folder.report, made.html.encode("utf-8"))
    screen.row("answer", made.content.verdict.bottom_line.text)
    screen.row("report", f"{path} ({len(made.html) / 1e6:.1f} MB, one file, opens in any browser)")
    screen.row("next", "predict pictures of your own")
    screen.command(f"onecycle predict {shlex.quote(str(folder.path))} PICTURES")
    return 0


def report_of_run(
    run: RunFolder, learn: Learner, interpretation: ClassificationInterpretation, *, issues: Issues
) -> Report:
    """Put what a run's folder knows into one page.

    Args:
        run: the folder.
        learn: its learner; ``recorder`` has the history.
        interpretation: predictions of the validation part.
        issues: labels to look at again; None where nobody looked.
    """
    audit = run.read_json(run.data).get("audit")
    metrics = run.read_json(run.metrics) if run.metrics.exists() else {}
    return build_report(
        learn,
        interpretation=interpretation,
        audit=audit,
        label_issues=issues,
        sweep=read_sweeps(run) or None,
        title=run.name,
        config=run.read(run.config, MOST_SETTINGS).decode("utf-8", "replace"),
        command=f"onecycle train --config {shlex.quote(str(run.config))}",
        env=run.read_json(run.env),
        notes=notes_of(run, audit),
        training_note=read_choice(run).note,
        issue_count=issue_count_of(metrics, issues),
    )


def issue_count_of(metrics: Mapping[str, Any], issues: Issues) -> IssueCount | None:
    """Return how many labels look doubtful; runs of earlier versions did not ask how many would if all were right."""
    if metrics.get("label_doubts"):
        return IssueCount(**metrics["label_doubts"])
    return count_issues(issues, n=metrics.get("label_issues"), judged=metrics.get("labels_judged"))


def notes_of(run: RunFolder, audit: Mapping[str, Any] | None) -> list[str]:
    """Return what a reader of the numbers must know about how the run came about."""
    notes = []
    if audit is None:
        notes.append("Nobody looked for copies and damaged files (--no-audit), so leaks are not excluded.")
    elif audit["leaked"]:
        n = len(audit["leaked"])
        notes.append(f"{n} validation pictures are copies of training pictures, so the numbers are too good.")
    if left_out := sum(side == "left out" for _, side in read_split(run.split)):
        notes.append(f"{left_out} pictures of the data are in neither part: missing, unreadable, or elsewhere.")
    return notes


def read_choice(run: RunFolder) -> StageChoice:
    """Return the stages that were judged and which one is kept; none where nobody wrote them down."""
    saved = run.read_json(run.metrics).get("stages") if run.metrics.exists() else None
    return StageChoice() if saved is None else StageChoice.from_dict(saved)
