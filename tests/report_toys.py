"""Contents of reports without a learner: predictions drawn from a seed, pictures of one colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onecycle.evaluation.certainty.intervals import accuracy, sample_fbeta
from onecycle.evaluation.report import content as parts
from onecycle.evaluation.report.charts import Series, line_plot, reliability_plot
from onecycle.evaluation.report.class_table import class_rows
from onecycle.evaluation.report.confusion import confused_pairs, confusion_table
from onecycle.evaluation.report.content import DoubtfulLabel, DoubtfulPicture, PairShots, ReportContent, TopLoss
from onecycle.evaluation.report.evidence import Evidence
from onecycle.evaluation.report.pictures import MEDIUM_PX, Album, thumbnail_px
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.evaluation.report.sliders import make_sliders
from onecycle.evaluation.report.verdict import LabelDoubts, Warned, judge
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


def tags(n: int = 80, c: int = 5, *, seed: int = 0, classes: tuple[str, ...] = ()) -> Evidence:
    """Return evidence of tags: the first is easy, the last is rare and missed."""
    rng = np.random.default_rng(seed)
    shares = np.linspace(0.6, 0.05, c)
    truth = rng.random((n, c)) < shares
    noise = np.linspace(0.6, 3.0, c)
    logits = np.where(truth, 2.0, -2.0) + rng.normal(size=(n, c)) * noise
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    names = tuple(f"train/p{i:04d}.jpg" for i in range(n))
    losses = np.abs(probs - truth).mean(axis=1)
    return Evidence(
        classes or tuple(f"tag {i}" for i in range(c)),
        True,
        probs,
        probs,
        probs,
        np.full(c, 0.5),
        False,
        truth.astype(np.float32),
        losses,
        names,
        np.maximum(1, (shares * 4 * n)).astype(np.int64),
        4 * n,
    )


def classes(n: int = 60, c: int = 2, *, seed: int = 0, names: tuple[str, ...] = (), noise: float = 1.5) -> Evidence:
    """Return evidence of single labels."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % c
    logits = rng.normal(size=(n, c)) * noise
    logits[np.arange(n), truth] += 3
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probs = probs.astype(np.float32)
    losses = -np.log(probs[np.arange(n), truth])
    files = tuple(f"train/p{i:04d}.jpg" for i in range(n))
    return Evidence(
        names or tuple(f"class {i}" for i in range(c)),
        False,
        probs,
        probs,
        probs,
        np.full(c, 0.5),
        False,
        truth,
        losses,
        files,
        np.full(c, 4 * n // c, dtype=np.int64),
        4 * n,
    )


def drawn(index: int) -> np.ndarray:
    """Return a picture of its own colour, uint8 ``(96, 96, 3)``, with some texture."""
    rng = np.random.default_rng(index)
    return np.clip(rng.integers(0, 255, 3) + rng.integers(-25, 25, (96, 96, 3)), 0, 255).astype(np.uint8)


def content_of(evidence: Evidence, *, doubtful: bool = True, read=drawn, exact: bool = False) -> ReportContent:
    """Put a whole report's content together, as ``reporting`` does it for a learner."""
    album = Album(read)
    rows, scores, calibration = (class_rows(evidence), measure(evidence), calibration_facts(evidence, calibrated=False))
    curve = calibration.curve

    def shot(i: int | None):
        return None if i is None else (i, album.shot(i, MEDIUM_PX))

    top = tuple(
        TopLoss(
            i,
            evidence.names[i],
            float(evidence.losses[i]),
            parts.true_names(evidence, i),
            parts.guesses(evidence, i),
            album.shot(i, 160),
            album.shot(i, 160, heat=np.eye(4)),
            evidence.classes[0],
        )
        for i in np.argsort(-evidence.losses)[:4].tolist()
    )
    asked = [
        DoubtfulLabel(evidence.classes[0], "yes", "no", 0.01)
        if evidence.is_multi
        else DoubtfulLabel(None, evidence.classes[0], evidence.classes[1], 0.0001)
    ]
    pages = ReportContent(
        f"Report <{evidence.words}>",
        evidence,
        judge(scores, rows, calibration, Warned(leaked=0), is_multi=evidence.is_multi),
        scores,
        calibration,
        rows,
        reliability_plot(curve.confidence, curve.observed, curve.low, curve.high, curve.count),
        parts.data_facts(
            {
                "looked_at": {"rows": 100},
                "findings": [
                    {"severity": "warning", "kind": "x", "count": 2, "message": HOSTILE[0], "examples": HOSTILE[:3]}
                ],
            }
        ),
        (line_plot("Loss", [Series("train", np.arange(9), np.arange(9)[::-1])], x_label="batch", y_label="loss"),),
        None,
        None if evidence.is_multi else confusion_table(evidence),
        parts.tag_pairs(evidence),
        pairs=tuple(
            PairShots(p, tuple(map(shot, p.pictures)), shot(p.like_actual), shot(p.like_predicted))
            for p in confused_pairs(evidence)
        ),
        top=top,
        sliders=make_sliders(evidence.decided, evidence.thresholds, exact=exact) if evidence.is_multi else None,
        doubtful=tuple(DoubtfulPicture(evidence.names[i], album.shot(i, MEDIUM_PX), tuple(asked)) for i in range(4))
        if doubtful
        else None,
        doubts=LabelDoubts(4, 4, 400),
        columns=("file", "tag", "given", "suggested", "score", "new_label")
        if evidence.is_multi
        else ("file", "given", "suggested", "score", "new_label"),
        slices=find_slices(
            sample_fbeta() if evidence.is_multi else accuracy(),
            evidence.probs,
            evidence.targets,
            {HOSTILE[1]: [HOSTILE[i % 2] for i in range(evidence.n)]},
        ),
        thumbs={},
        config="lr: 1e-3\nname: <b>\n",
        command="onecycle train --config run.yaml",
        notes=(HOSTILE[3],),
        env={"versions": {"python": "3.11"}},
        version="0",
        made="today",
    )
    thumbs = album.thumbnails(parts.worst_first(evidence).tolist(), thumbnail_px(evidence.n))
    return replace(pages, thumbs=thumbs, left_out=len(album.left_out), gone=len(album.gone))
