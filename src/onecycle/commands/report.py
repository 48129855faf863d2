"""``onecycle report``: the page about a run, made from its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onecycle.errors import DataError
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.learner import Learner
from onecycle.reporting import Issues, Report, build_report
from onecycle.runs.folder import RunFolder, write_output
from onecycle.runs.history import read_history
from onecycle.runs.load import interpretation_of, load_bunch, load_learner
from onecycle.runs.record import read_issues, read_sweeps
from onecycle.runs.split import read_split
from onecycle.screen import Screen


def run_report(run: Path, *, out: Path | None = None) -> int:
    """Make the report of a run from what its folder keeps; pictures are read from the data set, where it lies.

    Args:
        run: the run folder.
        out: the page; default ``report.html`` of the run.

    Raises:
        DataError: no such run, one that was not judged, or data that is gone or has changed.
    """
    folder, screen = RunFolder.open(run), Screen()
    if not folder.predictions.exists():
        raise DataError(
            f"{folder.path} has no predictions to report on: its training has not ended. "
            f"Go on with `onecycle train --resume {shlex.quote(str(folder.path))}`"
        )
    with screen.running(), screen.status("writing the report"):
        data = load_bunch(folder)
        learn = load_learner(folder, bunch=data)
        learn.recorder = read_history(folder)
        found = interpretation_of(folder, learn)
        made = report_of_run(folder, learn, found, issues=read_issues(folder, data))
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
        issues: labels that look wrong; None where nobody looked.
    """
    audit = run.read_json(run.data)["audit"]
    return build_report(
        learn,
        interpretation=interpretation,
        audit=audit,
        label_issues=issues,
        sweep=read_sweeps(run) or None,
        title=run.name,
        config=run.config.read_text(encoding="utf-8"),
        command=f"onecycle train --config {shlex.quote(str(run.config))}",
        env=run.read_json(run.env),
        notes=notes_of(run, audit),
    )


def notes_of(run: RunFolder, audit: Mapping[str, Any] | None) -> list[str]:
    """Return what a reader of the numbers must know about how the run came about."""
    notes = []
    if audit is None:
        notes.append("Nobody looked for copies and damaged files (--no-audit), so leaks are not excluded.")
    elif audit["leaked"]:
        n = len(audit["leaked"])
        notes.append(f"{n} validation pictures are copies of training pictures, so the numbers are too good.")
    left_out = sum(part == "left out" for _, part in read_split(run.split))
    if left_out:
        notes.append(
            f"{left_out} pictures of the data are in neither part: missing, unreadable, or elsewhere."
        )
    return notes
