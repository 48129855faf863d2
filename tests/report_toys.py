"""Contents of reports without a learner: predictions drawn from a seed, pictures of one colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onecycle.evaluation.certainty.decisions import Decisions, KnownSets, Measure
from onecycle.evaluation.certainty.intervals import accuracy, sample_fbeta
from onecycle.evaluation.class_table import class_rows
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report import content as parts
from onecycle.evaluation.report.charts import Series, line_plot, reliability_plot
from onecycle.evaluation.report.confusion import confused_pairs, confusion_table
from onecycle.evaluation.report.content import DoubtfulPicture, ReportContent, TopLoss
from onecycle.evaluation.report.pictures import MEDIUM_PX, PagePictures, thumbnail_px
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.evaluation.report.sliders import make_sliders
from onecycle.evaluation.report.verdict import IssueCount, Warned, judge
from onecycle.evaluation.slices import find_slices

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "javascript:alert(3)",
    "</script><script>alert(4)</script>",
    "\u202egnp.exe",
    "long " + "x" * 300,
    '🛰 emoji, "quoted"',
    "{{ 7 * 7 }}{% raw %}",
    "' onmouseover=alert(5) '",
    "=1+1",
)


def tags(n: int = 80, c: int = 5, *, seed: int = 0, classes: tuple[str, ...] = ()) -> Predictions:
    """Return predictions of tags: the first is easy, the last is rare and missed."""
    rng = np.random.default_rng(seed)
    shares = np.linspace(0.6, 0.05, c)
    truth = rng.random((n, c)) < shares
    noise = np.linspace(0.6, 3.0, c)
    logits = np.where(truth, 2.0, -2.0) + rng.normal(size=(n, c)) * noise
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    names = tuple(f"train/p{i:04d}.jpg" for i in range(n))
    losses = np.abs(probs - truth).mean(axis=1)
    return Predictions.of(
        probs,
        is_multi=True,
        classes=classes or tuple(f"tag {i}" for i in range(c)),
        files=names,
        targets=truth.astype(np.float32),
        losses=losses,
        train_counts=np.maximum(1, (shares * 4 * n)).astype(np.int64),
        n_train=4 * n,
    )


def tags_by_sets(measure: str = "exact", n: int = 80, c: int = 5) -> Predictions:
    """Return predictions of tags, decided by how probable the sets are that occur."""
    p = tags(n, c)
    known = np.unique(p.truth, axis=0)
    rule = Decisions(Measure.named(measure), sets=KnownSets(known, np.zeros(len(known)), 1e-3))
    return replace(p, decisions=rule, decided=rule.decide(p.probs, p.probs).astype(np.int64))


def classes(n: int = 60, c: int = 2, *, seed: int = 0, names: tuple[str, ...] = (), noise: float = 1.5) -> Predictions:
    """Return predictions of single labels."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % c
    logits = rng.normal(size=(n, c)) * noise
    logits[np.arange(n), truth] += 3
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probs = probs.astype(np.float32)
    losses = -np.log(probs[np.arange(n), truth])
    files = tuple(f"train/p{i:04d}.jpg" for i in range(n))
    return Predictions.of(
        probs,
        is_multi=False,
        classes=names or tuple(f"class {i}" for i in range(c)),
        files=files,
        targets=truth,
        losses=losses,
        train_counts=np.full(c, 4 * n // c, dtype=np.int64),
        n_train=4 * n,
    )


def drawn(index: int) -> np.ndarray:
    """Return a picture of its own colour, uint8 ``(96, 96, 3)``, with some texture."""
    rng = np.random.default_rng(index)
    return np.clip(rng.integers(0, 255, 3) + rng.integers(-25, 25, (96, 96, 3)), 0, 255).astype(np.uint8)


def content_of(p: Predictions, *, doubtful: bool = True, read=drawn) -> ReportContent:
    """Put a whole report's content together, as ``reporting`` does it for a learner."""
    pictures = PagePictures(read)
    rows, scores, calibration = (class_rows(p), measure(p), calibration_facts(p))
    pairs = confused_pairs(p)
    top = tuple(
        TopLoss(
            index=i,
            loss=float(p.losses[i]),
            labels=parts.shown_labels(p, i),
            plain=pictures.shot(i, 160),
            heat=pictures.shot(i, 160, heat=np.eye(4)),
            explained=p.classes[0],
        )
        for i in np.argsort(-p.losses)[:4].tolist()
    )
    asked = [
        LabelIssue(0, "", p.classes[0], "yes", "no", 0.01)
        if p.is_multi
        else LabelIssue(0, "", None, p.classes[0], p.classes[1], 0.0001)
    ]
    pages = ReportContent(
        title=f"Report <{p.words}>",
        predictions=p,
        verdict=judge(scores, rows, calibration, Warned(leaked=0), is_multi=p.is_multi),
        scores=scores,
        calibration=calibration,
        rows=rows,
        reliability=None if calibration.curve is None else reliability_plot(calibration.curve),
        data={
            "looked_at": {"rows": 100},
            "findings": [
                {"severity": "warning", "kind": "x", "count": 2, "message": HOSTILE[0], "examples": HOSTILE[:3]}
            ],
        },
        curves=(
            line_plot("Loss", [Series("train", np.arange(9), np.arange(9)[::-1])], x_label="batch", y_label="loss"),
        ),
        sweep=None,
        matrix=None if p.is_multi else confusion_table(p),
        swapped=parts.swapped_tags(p) if p.is_multi else (),
        together=parts.tags_together(p) if p.is_multi else (),
        pairs=pairs,
        shots=pictures.shots((i for pair in pairs for i in pair.positions), MEDIUM_PX),
        top=top,
        sliders=make_sliders(p),
        doubtful=tuple(DoubtfulPicture(p.files[i], pictures.shot(i, MEDIUM_PX), tuple(asked)) for i in range(4))
        if doubtful
        else None,
        issues=IssueCount(flagged=9, n=4, pictures=4, judged=400, expected=5, low=1, high=8),
        columns=("file", "tag", "given", "suggested", "score", "new_label")
        if p.is_multi
        else ("file", "given", "suggested", "score", "new_label"),
        slices=find_slices(
            sample_fbeta() if p.is_multi else accuracy(),
            p.probs,
            p.targets,
            {HOSTILE[1]: [HOSTILE[i % 2] for i in range(len(p))]},
        ),
        thumbs={},
        config="lr: 1e-3\nname: <b>\n",
        command="onecycle train --config run.yaml",
        notes=(HOSTILE[3],),
        env={"versions": {"python": "3.11"}},
        version="0",
        made="today",
    )
    thumbs = pictures.thumbnails(parts.wrong_first(p).tolist(), thumbnail_px(len(p)))
    return replace(pages, thumbs=thumbs, left_out=len(pictures.left_out), gone=len(pictures.gone))
