"""Which labels are doubtful: out-of-fold predictions of quick heads on the features of the body, ranked.

The body's features are computed once. Then the pictures are dealt into folds, and for each fold a new head learns
from the others and predicts it, so that no head has seen the label that it is asked about.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.datasets import ImageDataset
from onecycle.data.labels import relabel
from onecycle.data.labels.items import Labels
from onecycle.data.labels.stratified import stratified_folds
from onecycle.data.progress import counting_bar
from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.label_noise import DoubtCount
from onecycle.evaluation.label_issues import LabelIssue, RankedLabels, as_issues, rank_labels
from onecycle.evaluation.report.verdict import IssueCount
from onecycle.files import csv_text, name_below, text_name, write_whole
from onecycle.learner.features import LabelledFeatures
from onecycle.model.heads import AdaptiveConcatPool2d, Flatten, bn_drop_lin, init_head, set_prior_bias
from onecycle.text import aligned, cut
from onecycle.train.evaluate import eval_mode
from onecycle.train.frozen import FeatureLoader, FeatureSet
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.losses import activation_for, class_log_prior, loss_for
from onecycle.train.schedules import OneCycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD_STEPS = 200
"""Updates of each head, at least; with many pictures three epochs are more.

A head is one linear layer. On Planet (1,000 tiles, EfficientNet-Lite0, 224 px) with 5 % of 17,000 tags flipped, 93 %
of them are among the first tenth of the list; with a hidden layer of 512 it is 94 %, and heads take ten times as long.
"""

_BS, _MAX_LR = 64, 3e-3
_TABLE_ROWS = 20


@dataclass(frozen=True)
class LabelIssues:
    """Labels to look at again, the most doubtful first; ``str()`` is a table of the first ones.

    How they are counted, and how often that was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    data: ImageDataBunch = field(repr=False)  # whose labels were judged
    ranked: RankedLabels = field(repr=False)  # all judged labels; with tags each (picture, tag) is one
    rows: np.ndarray = field(repr=False)  # int64 (N,), the row in the labelled table of each picture in ranked
    probs: np.ndarray = field(repr=False)  # float32 (N, C), the out-of-fold probabilities
    folds: int  # how many heads were trained
    body: str  # what is known of the body's training, a sentence

    def __len__(self) -> int:
        return len(self.ranked)

    @property
    def doubts(self) -> DoubtCount:
        """How many labels look doubtful, how many would if all were right, and how many more that is."""
        return self.ranked.doubts

    @property
    def count(self) -> IssueCount:
        """The same in words, with what was judged and the pictures that the excess is on."""
        listed = self.top(self.doubts.excess)
        return IssueCount.of(self.doubts, listed=len(listed), pictures=len({i.row for i in listed}), judged=len(self))

    def top(self, n: int | None = None) -> list[LabelIssue]:
        """Return the first ``n`` labels; default as many as look doubtful beyond those that would if all were right,
        but at least 100 (or all)."""
        paths = self.data.store.paths
        return as_issues(
            self.ranked,
            self.data.classes,
            rows=self.rows,
            paths=[paths[row] for row in self.rows],
            is_multi=self.data.is_multi,
            n=max(self.doubts.excess, 100) if n is None else n,
        )

    def to_csv(self, path: str | Path, n: int | None = None, *, raw: bool = False) -> Path:
        """Write the first ``n`` labels as a table to edit; ``data.relabel(path)`` reads it back.

        Fill in ``new_label`` where a label should change (for tags: yes or no); an empty cell keeps it.

        Args:
            path: of the table; it is replaced if it exists.
            n: as in ``top``.
            raw: write names as they are; default: an apostrophe before what a spreadsheet may run as a formula, which
                ``data.relabel`` and ``onecycle relabel`` take away again.
        """
        rows = [
            (text_name(i.path, self.data.path), i.tag, i.given, i.suggested, f"{i.score:.3g}", "") for i in self.top(n)
        ]
        table: list[Sequence[str | None]] = [relabel.COLUMNS, *rows]
        if not self.data.is_multi:
            at = relabel.COLUMNS.index(relabel.TAG)
            table = [(*row[:at], *row[at + 1 :]) for row in table]
        write_whole(Path(path), csv_text(table, raw=raw).encode("utf-8", "replace"))
        return Path(path)

    def show(self, k: int = 9, *, figsize: tuple[float, float] = (12, 12), return_fig: bool = False) -> Figure | None:
        """Draw the ``k`` pictures with the most doubtful labels: given, suggested, how likely the given one is."""
        from onecycle.evaluation.plots import grid_of_pictures

        if k < 1:
            raise ArgumentError(f"k is the number of pictures to draw, at least 1; received {k}")
        listed = self.top(k)
        rows = np.array([issue.row for issue in listed], dtype=np.int64)
        dataset = ImageDataset(self.data.store, rows, self.data.labels, self.data.classes)
        tags = ["" if issue.tag is None else f"{issue.tag}: " for issue in listed]
        figure = grid_of_pictures(
            [dataset.image(i).numpy() for i in range(len(listed))],
            [f"{tag}{i.given} / {i.suggested} / {_score(i.score)}" for tag, i in zip(tags, listed, strict=True)],
            figsize=figsize,
            suptitle="Given / Suggested / Probability of the given label",
        )
        return figure if return_fig else None

    def __str__(self) -> str:
        said = self.count.text(is_multi=self.data.is_multi)
        lines = [
            *textwrap.wrap(f"{said[0].upper()}{said[1:]}. Asked were {self.folds} heads that had not seen them.", 80),
            "The most doubtful:",
            *_table(self.top(_TABLE_ROWS), self.data.path),
            self.body,
        ]
        if self.ranked.n_unjudged:
            lines.append(f"{self.ranked.n_unjudged:,} could not be judged: no other picture has their label.")
        return "\n".join(lines)


def check_labels(
    features: LabelledFeatures,
    data: ImageDataBunch,
    *,
    folds: int = 5,
    seed: int | None = None,
    body_trained: bool | None = False,
    silent: bool = False,
) -> LabelIssues:
    """Judge all labels of a bunch by out-of-fold predictions.

    Args:
        features: of the body, of its labelled pictures.
        data: the bunch.
        folds: number of heads, 2 or more; one a group where the split has fewer groups.
        seed: of the folds and the heads; default the bunch's.
        body_trained: whether the body was trained on these labels; None if that is not known.
        silent: show no bar.

    Raises:
        ArgumentError: a number of folds that cannot work.
    """
    if len(features.rows) < 4:
        raise ArgumentError(f"judging labels takes at least 4 labelled pictures; received {len(features.rows)}")
    used = data.seed if seed is None else seed
    labels = Labels(data.classes, data.labels.targets[features.rows], data.is_multi)
    groups = None if data.split.groups is None else data.split.groups[features.rows]
    names = [data.store.paths[row] for row in features.rows]
    if groups is not None and folds > (n_groups := len(np.unique(groups))) >= 2:
        folds = n_groups  # a group stays in one fold
    fold_of = stratified_folds(names, labels, folds, seed=used, groups=groups)
    probs = _out_of_fold_probs(features, fold_of, data, seed=used, silent=silent)
    ranked = rank_labels(probs, labels.targets, judged=taught(labels, fold_of), seed=used)
    return LabelIssues(data, ranked, features.rows, probs, folds, _body_sentence(body_trained))


def _out_of_fold_probs(
    features: LabelledFeatures, fold_of: np.ndarray, data: ImageDataBunch, *, seed: int, silent: bool
) -> np.ndarray:
    """Return float32 ``(N, C)``: each picture's probabilities by a head that learned from the other folds."""
    n_folds, activ = int(fold_of.max()) + 1, activation_for(loss_for(data.is_multi))
    probs = torch.empty(len(fold_of), data.c)
    with nullcontext(lambda _: None) if silent else counting_bar("checking labels, fold", n_folds) as advance:
        for fold in range(n_folds):
            held = torch.from_numpy(np.flatnonzero(fold_of == fold))
            rest = torch.from_numpy(np.flatnonzero(fold_of != fold))
            head = _trained_head(features.features[rest], features.targets[rest], data, seed=seed + fold)
            with eval_mode(head), torch.no_grad():
                batches = torch.split(features.features[held], 1024)
                probs[held] = torch.cat([activ(head(batch.to(data.device))).cpu() for batch in batches])
            advance(1)
    return probs.numpy()


def taught(labels: Labels, fold_of: np.ndarray) -> np.ndarray:
    """Say which labels the other folds could teach, bool of the labels' shape.

    A class that only pictures of one fold have is unknown to the head that judges them, and would always count as
    wrong. The absence of a tag can always be judged.
    """
    n_folds = int(fold_of.max()) + 1
    counts = np.stack([labels.counts(np.flatnonzero(fold_of == fold)) for fold in range(n_folds)])
    elsewhere = (counts.sum(axis=0) - counts)[fold_of] > 0  # (N, C)
    if labels.is_multi:
        return np.asarray(elsewhere | (labels.targets == 0))
    return np.asarray(elsewhere[np.arange(len(labels)), labels.targets])


def _trained_head(features: Tensor, targets: Tensor, data: ImageDataBunch, *, seed: int) -> nn.Sequential:
    """Train a new head; the same features and seed give the same head."""
    n, is_multi = len(targets), data.is_multi
    pool: list[nn.Module] = [AdaptiveConcatPool2d()] if features.ndim == 4 else []
    nf = features.shape[1] * (2 if pool else 1)
    head = nn.Sequential(*pool, Flatten(), *bn_drop_lin(nf, data.c, p=0.5))
    init_head(head, seed=seed)
    counts = targets.sum(0) if is_multi else torch.bincount(targets, minlength=data.c)
    set_prior_bias(head, class_log_prior(counts, is_multi=is_multi, n=n))
    head.to(data.device)
    bs = max(2, min(_BS, n // 2))

    def order(epoch: int) -> np.ndarray:
        drawn = np.random.default_rng([seed, epoch]).permutation(n)
        return drawn[: n - n % bs]  # a left-over picture alone would have no batch statistics

    loader = FeatureLoader(FeatureSet(features[None], targets), bs=bs, order=order, device=data.device)
    epochs = max(3, -(-HEAD_STEPS // len(loader)))
    trainer = Trainer(model=head, layer_groups=[head], loss_func=loss_for(is_multi), seed=seed)
    trainer.fit(epochs, OneCycle(epochs * len(loader), (_MAX_LR,)), loader, recorder=Recorder())
    return head


def _body_sentence(body_trained: bool | None) -> str:
    if body_trained is False:
        return "The body was not trained on these labels."
    was = "was trained" if body_trained else "may have been trained (its weights were loaded)"
    return (
        f"The body {was} on these labels, wrong ones included, so errors in\n"
        "training pictures can be missed; a learner with a fresh body finds more."
    )


def _score(score: float) -> str:
    return "<0.001" if score < 0.001 else f"{score:.3f}"


def _table(issues: Sequence[LabelIssue], root: Path) -> list[str]:
    """Lay issues out in columns, 80 characters at most."""
    with_tags = any(issue.tag is not None for issue in issues)
    widths = (30, 22, 5, 9, 6) if with_tags else (30, 19, 19, 6)
    rows = [["picture", *(["tag"] if with_tags else []), "given", "suggested", "score"]]
    for i in issues:
        tag = [i.tag or ""] if with_tags else []
        rows.append([name_below(i.path, root), *tag, i.given, i.suggested, _score(i.score)])
    return aligned([[cut(c, w) for c, w in zip(row, widths, strict=True)] for row in rows], least=widths)
