"""The start of ``onecycle train``: the data is found and looked through, what speaks against training stops it."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from onecycle import __version__
from onecycle.cli.screen import Screen
from onecycle.data.audit.audit import audit_table
from onecycle.data.audit.findings import AuditReport, Finding
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.layout import DataLayout
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError, DataError, OutputError, UnreadableImagesError
from onecycle.files import FULL_DISK, disk_full
from onecycle.learner.learner import Learner
from onecycle.runs import build
from onecycle.runs.checkpoints import environment
from onecycle.runs.config import FILE, OPTION, SKIPPED, RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.split import split_text
from onecycle.text import plural
from onecycle.train.device.machine import device_name, n_cores

MOST_LEAKED = 0.01
"""A larger share of the validation pictures that training sees too stops a run: the numbers would be too good."""

MOST_DATA_LINES = 10
"""Lines of the first screen about where the data is."""


@dataclass(frozen=True)
class TrainingStart:
    """All that is known before a run begins."""

    config: RunConfig  # with what looking at the data says
    layout: DataLayout  # where the data is
    data: ImageDataBunch
    audit: AuditReport | None  # what is wrong with the data; None where nobody looked


def prepare_data(config: RunConfig, screen: Screen) -> TrainingStart:
    """Find the data, look it through and split it; the first part of the first screen.

    Raises:
        DataError: faults that stop a run, each with the option that allows it.
        ArgumentError: copies are to be kept together, and nothing looks for them.
    """
    if config.together and not config.audit and config.origin("audit") in (OPTION, FILE):
        raise ArgumentError("--together keeps copies on one side that the audit finds: leave --no-audit out")
    show_machine(config, screen)
    layout = build.layout_of(config)
    for line in layout.lines()[:MOST_DATA_LINES]:
        screen.line(line)
    if config.decide_for is not None and not layout.is_multi:
        raise ArgumentError("--for is for tags; with one class a picture the most probable is predicted: leave it out")
    config = build.settled(config, layout)
    screen.event("data", **build.described(layout), reasons=[list(r) for r in layout.reasons])
    split = build.split_of(config, layout)
    shapes = {} if config.size is not None else build.some_shapes([path for path in layout.pictures.paths if path])
    config = build.with_size(config, (), shapes)
    audit, store = None, None
    if config.audit:
        resize = ResizeSpec.make(config.size)
        store = PixelStore(layout.pictures.paths, resize, cache="disk")
        store.known_shapes = shapes
        audit = audit_table(
            layout.pictures, split, resize, together=config.together, store=store, silent=not screen.is_live
        )
        check_faults(audit, config)
    data = build.make_bunch(config, layout, split, store=store)
    n_drawn = len(data.split.valid)
    if audit is not None and config.together:
        data = build.with_copies_together(data, audit)
    config, data = build.with_batches(config, data)
    if data.c < 2:
        if data.is_multi:
            raise DataError(
                f"there is only one tag, {data.classes[0]!r}, so there is nothing to tell apart; check --label-col, or "
                "label pictures with it and without it as two classes"
            )
        raise DataError(
            f"all {len(data.labels):,} pictures have one and the same label, {data.classes[0]!r}, so there is nothing "
            f"to tell apart; {'check --label-col' if layout.csv else 'each class needs a folder of its own'}"
        )
    _show_split(config, data, audit, screen, moved=n_drawn - len(data.split.valid))
    return TrainingStart(config, layout, data, audit)


def check_faults(audit: AuditReport, config: RunConfig) -> None:
    """Stop where files are missing or unreadable, or too many validation pictures are in training too.

    Raises:
        UnreadableImagesError, DataError: what was found, with examples and the option that allows it.
    """
    findings = {finding.kind: finding for finding in audit.findings}
    for kind, option in SKIPPED.items():
        if kind in findings and option not in config.allow:
            raise UnreadableImagesError(_stop_text(findings[kind], option, "left out and counted"))
    share = len(audit.leaked) / max(audit.looked_at["valid"], 1)
    if share > MOST_LEAKED and "leaks" not in config.allow:
        advice = "Keep copies on one side with --together, or by a column of groups with --group-col."
        what = "trained as it is; the report says that the numbers are too good"
        raise DataError(_stop_text(findings["leak"], "leaks", what, advice))


def _stop_text(finding: Finding, option: str, what: str, advice: str = "") -> str:
    lines = [finding.message, *(f"  {example}" for example in finding.examples)]
    more = finding.count - len(finding.examples)
    if finding.examples and more > 0:
        lines.append(f"  and {more:,} more")
    if not advice and finding.advice and "--allow" not in finding.advice:  # else the last line says it
        advice = f"{finding.advice[0].upper()}{finding.advice[1:].rstrip('.')}."
    if advice:
        lines.append(advice)
    return "\n".join([*lines, f"Mend the data, or go on with --allow {option} ({what})."])


def show_machine(config: RunConfig, screen: Screen) -> None:
    """Show versions and device: the first line."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, cores = device_name(device), n_cores()
    screen.row("onecycle", f"{__version__}, torch {torch.__version__}, {name}, {cores} cores, seed {config.seed}")
    screen.event("start", onecycle=__version__, torch=torch.__version__, device=name, cores=cores, seed=config.seed)


def _show_split(
    config: RunConfig, data: ImageDataBunch, audit: AuditReport | None, screen: Screen, *, moved: int
) -> None:
    n_train, n_valid = len(data.split.train), len(data.split.valid)
    text = f"{n_train:,} pictures train, {n_valid:,} validate; {guarantee(config, data, audit)}"
    if audit is not None and config.together:
        text += f" (--together moved {moved:,} to training)"
    screen.row("split", text)
    findings = None
    if audit is not None:
        screen.row("audit", audit_line(audit, config.data))
        findings = [{"kind": f.kind, "severity": f.severity, "count": f.count} for f in audit.findings]
    screen.event("split", train=n_train, valid=n_valid, moved=moved, how=data.split.how, findings=findings)


def guarantee(config: RunConfig, data: ImageDataBunch, audit: AuditReport | None) -> str:
    """Say what the split promises."""
    if not len(data.split.valid):
        return "nothing validates, so nothing will be measured"
    if config.split is not None:
        how = f"the split of {config.split}"
    elif data.split.how.startswith(("by the folders", "by column")):
        how = data.split.how
    elif data.split.groups is not None:
        how = f"no {config.group_col} is in both"
        if n := len(data.lists.pictures.alike_groups):
            how += f" as the ids are written, but {plural(n, 'set')} of them differ in case or zeros alone"
    else:
        how = _stratified_text(data) if config.stratify else "at random"
    if audit is None:
        return how
    n = len(audit.leaked)
    return f"{how}, {f'{n} of those that validate are copies of ones that train' if n else 'no copies across'}"


def _stratified_text(data: ImageDataBunch) -> str:
    """Say what stratifying gave: the same shares, or how many classes it could not give a validation picture."""
    n = int((data.labels.counts(data.split.valid) == 0).sum())
    if n:
        what = f"{data.labels.word} has" if n == 1 else f"{data.labels.words} have"
        return f"stratified; {n:,} {what} no validation picture"
    if "moved to training" in data.split.how:
        return "stratified, then copies kept in training"
    return f"each {data.labels.word} with the same share in both"


def audit_line(audit: AuditReport, data: str) -> str:
    """Say in a line or two what the audit found, and where all of it is to be seen."""
    if not audit.findings:
        return f"{audit.looked_at['files']:,} files looked through, nothing found"
    counts = {s: sum(f.severity == s for f in audit.findings) for s in ("error", "warning", "note")}
    total = ", ".join(plural(n, name) for name, n in counts.items() if n)
    worst = [f for f in audit.findings if f.severity == "error"][:3] or list(audit.findings[:1])
    named = ", ".join(f"{f.kind} ({f.count:,})" for f in worst)
    more = " …" if len(audit.findings) > len(worst) else ""
    return f"{total}: {named}{more}; all: onecycle check {shlex.quote(data)}"


def create_run(start: TrainingStart, learn: Learner, name: str, screen: Screen) -> RunFolder:
    """Make the folder of a run, and write down what is known before anything is trained; the learner moves there.

    Settings are left to the caller: with them it is a run, and one that can be taken up again or that is over.
    """
    run = RunFolder.create(start.config.out, name, latest=False)
    learn.path = run.path
    screen.log_to(run.log)
    run.write_json(run.env, environment(start.config.seed, start.data.device))
    audit = None if start.audit is None else start.audit.to_dict()
    classes, is_multi = [str(c) for c in start.data.classes], start.data.is_multi
    layout, how = build.described(start.layout), start.data.split.how
    record = {"layout": layout, "classes": classes, "is_multi": is_multi, "audit": audit, "split": how}
    run.write_json(run.data, record)
    run.write_text(run.split, split_text(start.data))
    return run


def check_writable(folder: Path) -> None:
    """Fail before any work is done where the folder of the runs cannot be written; it is not made yet.

    Raises:
        OutputError: it cannot.
    """
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".onecycle-", dir=there)).rmdir()
    except OSError as error:
        if error.errno in FULL_DISK:
            raise disk_full(error, folder) from error
        why = f"runs cannot be written to {folder}: {error.strerror}"
        raise OutputError(f"{why}; choose another folder with --out") from error
