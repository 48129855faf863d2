"""From pixels to an answer as one network: what is written into an exported file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from onecycle.evaluation.certainty.calibration import TINY
from onecycle.evaluation.predictions import DEFAULT_THRESH

if TYPE_CHECKING:
    from onecycle.deploy.predictor import Predictor


class AnswerGraph(nn.Module):
    """uint8 pictures (N, height, width, 3), resized, to probabilities and labels: a ``Predictor`` in tensor operations.

    Args:
        predictor: it is copied, and computes on the CPU in float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        means, deviations = predictor.stats or ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(means).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(deviations).view(1, 3, 1, 1))
        self.model = predictor.model
        self.activation = predictor.activation
        self.answer = TagAnswer(predictor) if predictor.is_multi else ClassAnswer(predictor)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a person sees.

        Returns:
            float32 (N, C) probabilities, calibrated where that was fitted; and int64 (N,) class indices, or bool
            (N, C), which tags are given.
        """
        x = pictures.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        answer: tuple[Tensor, Tensor] = self.answer(self.activation(self.model((x - self.mean) / self.std)))
        return answer


class ClassAnswer(nn.Module):
    """The most probable class, and probabilities by temperature scaling."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        calibration = predictor.calibrated.calibration
        self.slope = None if calibration is None else calibration.slope[0]

    def forward(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (shown, decided) for the model's own probabilities, (N, C)."""
        decided = probs.argmax(1)
        if self.slope is None:
            return probs, decided
        return (probs.double().clamp(min=1e-30).log() * self.slope).softmax(1).float(), decided


class TagAnswer(nn.Module):
    """Tags by their thresholds, and probabilities by Platt scaling."""

    slope: Tensor
    bias: Tensor
    thresholds: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        calibrated, n = predictor.calibrated, len(predictor.classes)
        self.scaled = calibrated.calibration is not None
        slope, bias = ((1.0,) * n, (0.0,) * n)
        if calibrated.calibration is not None:
            slope, bias = calibrated.calibration.slope, calibrated.calibration.bias
        chosen = calibrated.thresholds
        self.exactly_one = () if chosen is None else chosen.exactly_one
        self.by_own = chosen is not None  # chosen thresholds are compared with the model's own probabilities
        values = (DEFAULT_THRESH,) * n if chosen is None else chosen.values
        for name, numbers in (("slope", slope), ("bias", bias), ("thresholds", values)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64))

    def forward(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (shown, decided) for the model's own probabilities, (N, C)."""
        shown = self._calibrated(probs) if self.scaled else probs
        compared = probs if self.by_own else shown
        for group in self.exactly_one:
            compared = _with_winner(compared, torch.tensor(group))
        return shown, compared.double() >= self.thresholds

    def _calibrated(self, probs: Tensor) -> Tensor:
        p = probs.double().clamp(TINY, 1 - TINY)
        return torch.sigmoid((p.log() - torch.log1p(-p)) * self.slope + self.bias).float()


def _with_winner(probs: Tensor, group: Tensor) -> Tensor:
    """Return probabilities in which the most probable tag of a group has 1 and its others 0."""
    winner = group[probs[:, group].argmax(1)]
    tags = torch.arange(probs.shape[1])
    in_group = (tags[:, None] == group).any(1)
    return torch.where(in_group, (tags == winner[:, None]).to(probs.dtype), probs)
