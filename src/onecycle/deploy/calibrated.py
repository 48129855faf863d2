"""What validation pictures chose for a model: calibration, thresholds and the measure that decisions are made for.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onecycle.errors import ArgumentError, CheckpointError
from onecycle.evaluation.certainty.calibration import Calibration
from onecycle.evaluation.certainty.decisions import Decisions, KnownSets, Measure
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.model.tag_sets import TagSets

if TYPE_CHECKING:
    from onecycle.evaluation.certainty.calibration import CalibrationReport
    from onecycle.evaluation.certainty.thresholds import ThresholdReport


@dataclass(frozen=True)
class Calibrated:
    """The calibration, the thresholds and the measure in use; each may be None.

    Thresholds are compared with the model's own probabilities, so calibrating before or after choosing them
    changes what is shown, not what is decided.
    """

    calibration: Calibration | None = None
    thresholds: TagThresholds | None = None
    measure: Measure | None = None  # what decisions about tags are made for

    def __bool__(self) -> bool:
        return self != Calibrated()

    def decisions(self, model: nn.Module) -> Decisions:
        """Return the rule for tags of a model that these belong to."""
        return Decisions(self.measure, self.thresholds, known_sets(model))

    def probs(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the probabilities to show for the model's own, float32 ``(N, C)``; these where none was fitted."""
        if self.calibration is None:
            return raw
        return torch.from_numpy(self.calibration.apply(raw.numpy())).float()

    def manifest(self) -> dict[str, Any]:
        """Return what is saved with a model, as JSON can hold it; ``from_manifest`` reads it."""
        return {
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "thresholds": None if self.thresholds is None else self.thresholds.to_dict(),
            "measure": None if self.measure is None else self.measure.name,
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], n_classes: int) -> Calibrated:
        """Read what ``manifest`` wrote; a file that has none gives none.

        Raises:
            CheckpointError: entries that are damaged or belong to other classes.
        """
        saved, chosen = manifest.get("calibration"), manifest.get("thresholds")
        try:
            calibration = None if saved is None else Calibration.from_dict(saved)
            thresholds = None if chosen is None else TagThresholds.from_dict(chosen)
            measure = None if manifest.get("measure") is None else Measure.named(manifest["measure"])
        except ArgumentError as err:
            raise CheckpointError(f"the saved model's calibration or thresholds are damaged: {err}") from err
        lengths = {len(calibration.slope)} if calibration else set()
        lengths |= {len(thresholds.values)} if thresholds else set()
        if lengths - {n_classes}:
            raise CheckpointError(
                f"the saved model's calibration is for {max(lengths)} classes, and there are {n_classes}"
            )
        return cls(calibration, thresholds, measure)

    def __str__(self) -> str:
        names = [] if self.calibration is None else [f"calibration ({self.calibration})"]
        if self.thresholds is not None:
            names.append(f"thresholds for {self.thresholds.goal}")
        elif self.measure is not None:
            names.append(f"decisions for {self.measure}")
        return " and ".join(names)


def known_sets(model: nn.Module) -> KnownSets | None:
    """Return the sets of tags that a model's head knows as arrays; None for another head."""
    *_, last = model.modules()
    if not isinstance(last, TagSets):
        return None
    sets, offsets = last.sets.detach().cpu().numpy() > 0, last.offsets.detach().cpu().double().numpy()
    return KnownSets(sets, offsets, float(last.unseen))


# What validation pictures chose is taken over where held-out folds show that it helps; ``Learner`` and ``train`` alike.


def adopt_thresholds(learn: Any, report: ThresholdReport, measure: Measure | None = None) -> str:
    """Have ``predict`` decide by these thresholds, or by the default that stayed; returns the sentence that says so.

    Args:
        learn: the learner.
        report: of the choice.
        measure: that was named, and that they were chosen for; None: thresholds alone were asked for.
    """
    learn.calibrated = replace(learn.calibrated, thresholds=report.thresholds, measure=measure)
    if report.thresholds.default is not None:
        return (
            f"predict gives a tag from a probability of {report.thresholds.default:g} on, the default: on held-out "
            "folds no other choice is clearly better."
        )
    return "predict now decides by them, unless it is given thresh=."


def adopt_measure(learn: Any, name: str, choose: Callable[..., ThresholdReport] | None) -> str:
    """Have ``predict`` decide about tags for a measure from now on; returns the sentences that say how.

    Args:
        learn: the learner.
        name: of the measure, as the user says it.
        choose: chooses thresholds, by the measure's options, where they are needed; None: the usual one is taken.

    Raises:
        ArgumentError: an unknown measure, one class a picture, or a precision without thresholds to reach it.
    """
    measure = Measure.named(name)
    if not learn.data.is_multi:
        raise ArgumentError(f"{name} is for tags; with one class a picture the most probable is predicted")
    if measure.precision is not None and choose is None:
        raise ArgumentError(f"{measure} is reached by chosen thresholds, so these cannot be left out")
    asked = replace(learn.calibrated, measure=measure, thresholds=None)
    if measure.is_exact or choose is None or asked.decisions(learn.model).by_sets:
        learn.calibrated = asked
        return f"predict decides for {measure}: {learn.decisions}."
    report = choose(**measure.threshold_options)
    return f"{report}\n{adopt_thresholds(learn, report, measure)}"


def adopt_calibration(learn: Any, report: CalibrationReport) -> str:
    """Have ``predict`` show calibrated probabilities where that is shown to help; returns the sentence that says so."""
    change = report.log_loss
    if not report.helps:
        return (
            "Not calibrated, predict stays as it is: on held-out folds it is not shown to lower the log loss\n"
            f"({change.value:+.3f}, 95 % interval {change.low:+.3f} to {change.high:+.3f}; more pictures may help)."
        )
    learn.calibrated = replace(learn.calibrated, calibration=report.calibration)
    return (
        "predict now gives calibrated probabilities (raw=True: the model's own):\n"
        f"ECE {report.before.value:.3f} before, {report.after.value:.3f} after, on held-out folds."
    )
