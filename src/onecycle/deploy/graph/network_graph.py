"""From pixels to an answer as one network: what is written into an exported file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.deploy.unlike import DistanceGraph, feature_layer, inputs_of
from onecycle.evaluation.certainty.calibration import TINY
from onecycle.evaluation.certainty.decisions import f_weights
from onecycle.model.tag_sets import TagSets

if TYPE_CHECKING:
    from onecycle.deploy.predictor import Predictor
    from onecycle.deploy.unlike import FeatureDistance
    from onecycle.evaluation.certainty.decisions import Decisions


class AnswerGraph(nn.Module):
    """uint8 pictures (N, height, width, 3), resized, to probabilities and labels: a ``Predictor`` in tensor operations.

    Args:
        predictor: it is copied, and computes on the CPU in float32.
        distance: from the training pictures, as one more output; None: none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor, distance: FeatureDistance | None = None) -> None:
        super().__init__()
        self.reading = predictor.reading
        n = self.reading.stored_channels
        means, deviations = predictor.stats or ((0.0,) * n, (1.0,) * n)
        self.register_buffer("mean", torch.tensor(means).view(1, n, 1, 1))
        self.register_buffer("std", torch.tensor(deviations).view(1, n, 1, 1))
        self.model = predictor.model
        self.activation = predictor.activation
        self.is_regression = predictor.is_regression
        self.answer = TagAnswer(predictor) if predictor.is_multi else ClassAnswer(predictor)
        self.distance = None if distance is None else DistanceGraph(distance)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Return what a person sees.

        Returns:
            float32 (N, C) probabilities, calibrated where that was fitted; int64 (N,) class indices, or bool (N, C),
            which tags are given; the network's own probabilities; float32 (N,) how far from the training pictures,
            where ``distance`` says that. Of a network of numbers float32 (N, k) and, where it says that, how far.
        """
        x = (_grey(pictures) if self.reading.grey else pictures).permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        measured = None if self.distance is None else feature_layer(self.model)
        with inputs_of(_tag_sets(self.model)) as scores, inputs_of(measured) as features:
            probs = self.activation(self.model(((x - self.mean) / self.std)[:, : self.reading.channels]))
        far = () if self.distance is None else (self.distance(features[-1]),)
        if self.is_regression:
            return probs[:, None] if probs.ndim == 1 else probs, *far
        shown, decided = self.answer(probs, *scores)
        own = probs + 0  # an output of its own, also where nothing was calibrated
        return shown, decided, own, *far


def _grey(pictures: Tensor) -> Tensor:
    """Return uint8 (N, height, width, 3) in Pillow's mode L, in three equal channels; its fixed-point weights."""
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32)
    sums = (pictures.int() * weights).sum(3, keepdim=True, dtype=torch.int32) + 2**15
    return torch.div(sums, 2**16, rounding_mode="trunc").to(torch.uint8).repeat(1, 1, 1, 3)


def _tag_sets(model: nn.Module) -> TagSets | None:
    *_, last = model.modules()
    return last if isinstance(last, TagSets) else None


class ClassAnswer(nn.Module):
    """The most probable class, and probabilities by temperature scaling."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        calibration = predictor.calibrated.calibration
        self.slope = None if calibration is None else calibration.slope[0]

    def forward(self, probs: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        """Return (shown, decided) for the model's own probabilities, (N, C)."""
        decided = probs.argmax(1)
        if self.slope is None:
            return probs, decided
        return (probs.double().clamp(min=1e-30).log() * self.slope).softmax(1).float(), decided


class TagAnswer(nn.Module):
    """Tags by the rule in use (``Decisions``), and probabilities by Platt scaling."""

    slope: Tensor
    bias: Tensor
    limits: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        calibration, n = predictor.calibrated.calibration, len(predictor.classes)
        self.rule = predictor.calibrated.decisions(predictor.model)
        known = _tag_sets(predictor.model) if self.rule.by_sets else None
        self.by_sets = None if known is None else SetAnswer(self.rule, known)
        self.scaled = calibration is not None
        slope, bias = ((1.0,) * n, (0.0,) * n) if calibration is None else (calibration.slope, calibration.bias)
        limits = self.rule.limits(n)
        for name, numbers in (("slope", slope), ("bias", bias), ("limits", np.ones(n) if limits is None else limits)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64))

    def forward(self, probs: Tensor, *scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return (shown, decided) for the model's own probabilities, (N, C), and the scores that tag sets receive."""
        shown = self._calibrated(probs) if self.scaled else probs
        if self.by_sets is not None:
            return shown, self.by_sets(*scores)
        compared = probs if self.rule.own else shown
        for group in () if self.rule.thresholds is None else self.rule.thresholds.exactly_one:
            compared = _with_winner(compared, torch.tensor(group))
        return shown, compared.double() >= self.limits

    def _calibrated(self, probs: Tensor) -> Tensor:
        p = probs.double().clamp(TINY, 1 - TINY)
        return torch.sigmoid((p.log() - torch.log1p(-p)) * self.slope + self.bias).float()


def _with_winner(probs: Tensor, group: Tensor) -> Tensor:
    """Return probabilities in which the most probable tag of a group has 1 and its others 0."""
    winner = group[probs[:, group].argmax(1)]
    tags = torch.arange(probs.shape[1])
    in_group = (tags[:, None] == group).any(1)
    return torch.where(in_group, (tags == winner[:, None]).to(probs.dtype), probs)


class SetAnswer(nn.Module):
    """The most probable set of tags, or the tags of the largest expected F-beta: ``Decisions`` in tensor operations."""

    weights: Tensor

    def __init__(self, rule: Decisions, sets: TagSets) -> None:
        super().__init__()
        self.known, self.exact = sets, rule.reported.is_exact
        self.register_buffer("weights", torch.from_numpy(f_weights(sets.sets.numpy() > 0, rule.reported.beta)))

    def forward(self, scores: Tensor) -> Tensor:
        """Return which tags are given, bool (N, C), for tag scores (N, C)."""
        probs, sets = self.known.set_probs(scores).double(), self.known.sets
        if self.exact:
            return sets[probs.argmax(1)] > 0.5
        n_tags = sets.shape[1]
        gains = (probs @ self.weights.reshape(len(sets), n_tags**2)).reshape(-1, n_tags, n_tags)  # (N, C, k)
        ranked, order = gains.sort(dim=1, descending=True)
        of_size = (ranked.cumsum(1) * torch.eye(n_tags, dtype=ranked.dtype)).sum(1)  # (N, k): the k best of column k
        best = of_size.argmax(1)
        tags = order.gather(2, best[:, None, None].expand(-1, n_tags, 1))[:, :, 0]
        taken = torch.arange(n_tags)[None] <= best[:, None]
        given = torch.zeros_like(of_size).scatter(1, tags, taken.to(of_size.dtype)) > 0.5
        none = (probs * (sets.sum(1) == 0).double()).sum(1)
        return given & (of_size.max(1).values >= none)[:, None]
