"""How far predictions can be trusted: the methods of an interpretation that need no picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from onecycle.errors import ArgumentError, DataWarning, warn
from onecycle.evaluation.certainty.calibration import CalibrationReport, calibration_report
from onecycle.evaluation.certainty.constraints import Constraint, propose_constraints
from onecycle.evaluation.certainty.intervals import Estimate, WeightedScore, default_scores, estimate
from onecycle.evaluation.certainty.thresholds import Average, Rule, ThresholdReport, choose_thresholds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GroupIds = Sequence[object] | np.ndarray
FEW = 5
TRAINED_ON = "The model was fitted to these very pictures, so all of this flatters it."


class Trust(ABC):
    """Predictions with the truth beside them, and how sure the numbers drawn from them are.

    Attributes:
        learn: the learner that predicted.
        data: the bunch; ``data.labels`` and ``data.split.train`` give the baseline.
        ds_type: which part was predicted; None means the validation set.
        classes: C names.
        is_multi: several labels a picture.
        preds: float ``(N, C)`` probabilities as the model gives them.
        y_true: int64 ``(N,)``, or 0/1 ``(N, C)``.
    """

    learn: Any
    data: Any
    ds_type: Any
    classes: list[Any]
    is_multi: bool
    preds: Tensor
    y_true: Tensor

    def metrics(
        self, scores: Sequence[WeightedScore] | None = None, *, groups: GroupIds | None = None, seed: int = 0
    ) -> list[Estimate]:
        """Return scores with their 95 % intervals and what guessing by the training part's classes would score.

        Args:
            scores: of ``onecycle.evaluation.certainty.intervals``. Default: accuracy and error rate (and, from ten
                classes on, top-5 accuracy); for tags sample-F2 at 0.2, micro-F1 at 0.5 and macro-AP.
            groups: an id for each picture (its scene, its patient): pictures of a group are not independent,
                and the interval then says how sure the number is for new groups. Default: those that the split
                was made by (``group_col``), if any.
            seed: of the bootstrap.
        """
        chosen = default_scores(len(self.classes), is_multi=self.is_multi) if scores is None else scores
        probs, targets = self._arrays()
        prior, groups = self._training_shares(), self._own_groups(groups)
        return [estimate(s, probs, targets, prior=prior, groups=groups, seed=seed) for s in chosen]

    def summary(
        self, scores: Sequence[WeightedScore] | None = None, *, groups: GroupIds | None = None, seed: int = 0
    ) -> str:
        """Return ``metrics`` as lines to print, with what they were measured on."""
        groups = self._own_groups(groups)
        found = self.metrics(scores, groups=groups, seed=seed)
        drawn = "pictures" if groups is None else f"{len(set(groups)):,} groups of pictures"
        head = f"{len(self.preds):,} pictures of the {self._part_name()}; in brackets the 95 % interval over"
        lines = [f"{head}\n{drawn}, and what a guess without looking would score:"]
        lines += [f"  {e}" for e in found]
        few = int(((self.y_true > 0).sum(dim=0) < FEW).sum()) if self.is_multi else 0
        if few:
            lines.append(f"{few} of {len(self.classes)} tags have fewer than {FEW} pictures here: a mean over tags is")
            lines.append("unsure because of them, more so than its interval shows.")
        if getattr(self.learn, "thresholds", None) is not None:
            lines.append("predict uses other thresholds, those of choose_thresholds(): its report has")
            lines.append("their score, on pictures that did not choose them.")
        return "\n".join(lines + ([TRAINED_ON] if self._is_training_part() else []))

    def calibration(self, *, n_folds: int = 10, seed: int = 0, groups: GroupIds | None = None) -> CalibrationReport:
        """Judge the probabilities, as they are and calibrated on pictures other than those judged.

        ``learn.calibrate()`` does the same and has ``predict`` use it.

        Args:
            n_folds: each is judged by what the others gave.
            seed: of folds and bootstrap.
            groups: as in ``metrics``; a group stays in one fold.

        Warns:
            DataWarning: of the training part, whose probabilities say little about new pictures.
        """
        self._warn_of_training_part()
        probs, targets = self._arrays()
        return calibration_report(
            probs, targets, classes=self.classes, n_folds=n_folds, seed=seed, groups=self._own_groups(groups)
        )

    def plot_calibration(
        self, *, figsize: tuple[float, float] | None = None, return_fig: bool | None = None
    ) -> Figure | None:
        """Draw the reliability curves before and after calibration, each fold calibrated by the others."""
        from onecycle.evaluation.certainty import trust_plots

        report = self.calibration()
        curves = {"as the model gives it": report.curve_before, "calibrated (held out)": report.curve_after}
        figure = trust_plots.reliability_figure(curves, figsize=figsize)
        return figure if return_fig else None

    def choose_thresholds(
        self,
        beta: float = 2.0,
        *,
        average: Average = "sample",
        precision: float | None = None,
        default: float = 0.5,
        rule: Rule | None = None,
        exactly_one: Sequence[Sequence[Any]] = (),
        n_folds: int = 5,
        seed: int = 0,
        groups: GroupIds | None = None,
    ) -> ThresholdReport:
        """Choose from which probability on each tag is given, and report by cross-fitting what that gains.

        ``learn.choose_thresholds()`` does the same and has ``predict`` use them.

        Args:
            beta: how many times recall matters as much as precision.
            average: ``sample``: F-beta of each picture's tags (Planet's score); ``tag``: of each tag's pictures.
            precision: choose for this precision of each tag instead.
            default: the threshold that is kept unless another is clearly better.
            rule: take this rule in any case: ``default``, ``one for all tags`` or ``per tag``.
            exactly_one: groups of tag names of which the most probable is given, always; see ``constraints``.
            n_folds, seed, groups: as in ``calibration``.

        Raises:
            ArgumentError: one label a picture, a tag that is not there, or a value out of its range.

        Warns:
            DataWarning: of the training part, whose probabilities say little about new pictures.
        """
        self._warn_of_training_part()
        probs, targets = self._arrays()
        return choose_thresholds(
            probs,
            targets,
            beta=beta,
            average=average,
            precision=precision,
            default=default,
            rule=rule,
            exactly_one=[[self._tag_index(name) for name in group] for group in exactly_one],
            classes=self.classes,
            n_folds=n_folds,
            seed=seed,
            groups=self._own_groups(groups),
        )

    def constraints(self) -> list[Constraint]:
        """Return groups of tags of which every labelled picture has exactly one; nothing is applied.

        Where such a group is a rule and no accident, pass its ``tags`` as ``exactly_one=[tags]`` to
        ``choose_thresholds``.
        """
        if not self.is_multi:
            raise ArgumentError("with one label a picture there is always exactly one class; nothing to find")
        return propose_constraints(self.data.labels.targets, self.classes)

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.preds.numpy(), self.y_true.numpy()

    def _own_groups(self, groups: GroupIds | None) -> GroupIds | None:
        """Return the given groups, else those of the split, for the pictures of this part."""
        made_by = getattr(self.data.split, "groups", None)
        if groups is not None or made_by is None:
            return groups
        own: np.ndarray = made_by[self._dataset().rows]
        return own

    @abstractmethod
    def _dataset(self) -> Any: ...

    def _training_shares(self) -> np.ndarray:
        train = self.data.split.train
        shares: np.ndarray = self.data.labels.counts(train) / max(len(train), 1)
        return shares

    def _tag_index(self, name: Any) -> int:
        if name not in self.classes:
            raise ArgumentError(f"there is no tag {name!r}; the tags are {', '.join(map(str, self.classes))}")
        return self.classes.index(name)

    def _is_training_part(self) -> bool:
        return getattr(self.ds_type, "name", "Valid") in ("Train", "Fix")

    def _warn_of_training_part(self) -> None:
        if self._is_training_part():
            warn(f"{TRAINED_ON} Use the validation set, which does not.", DataWarning)

    def _part_name(self) -> str:
        name = getattr(self.ds_type, "name", "Valid")
        return f"{ {'Valid': 'validation', 'Train': 'training', 'Fix': 'training'}.get(name, name) } set"
