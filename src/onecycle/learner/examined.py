"""A classifier that looks back at its data: features of the pictures, pictures alike, labels that look wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.learner.features import FrozenFeatures, LabelledFeatures
from onecycle.learner.saving import SavedClassifier

if TYPE_CHECKING:
    from onecycle.data.audit.findings import AuditReport
    from onecycle.evaluation.interpretation import ClassificationInterpretation
    from onecycle.evaluation.label_issues import LabelIssue
    from onecycle.learner.label_issues import LabelIssues
    from onecycle.learner.report import Report, Sweeps
    from onecycle.learner.similar import SimilarPictures


class ExaminedClassifier(SavedClassifier):
    """A classifier whose body's features say something about the data."""

    _features: FrozenFeatures

    def features(self) -> np.ndarray:
        """Return the body's features of all labelled pictures, float32 ``(N, D)`` in the order of the table's rows.

        ``data.audit(features=learn.features())`` then lists validation pictures with a close training picture, too.
        Rows that are in neither part (unreadable ones) are zeros. This learner is not changed.

        Raises:
            ArgumentError: a model that cannot be cut behind its body.
        """
        found = self._labelled_features()
        vectors = found.vectors().numpy()
        table = np.zeros((len(self._data.labels), vectors.shape[1]), dtype=np.float32)
        table[found.rows] = vectors
        return table

    def similar(self, index: int, k: int = 5) -> SimilarPictures:
        """Return the training pictures most like validation picture ``index``; ``.show()`` draws them.

        Where a prediction is wrong, they often say why: a wrong label, a copy, another class that looks the same.

        Args:
            index: position in the validation set, as ``interpret().top_losses()`` gives it.
            k: how many.

        Raises:
            ArgumentError: no such picture, or a model that cannot be cut behind its body.
        """
        from onecycle.learner.similar import similar_pictures

        return similar_pictures(self._labelled_features(), self._data, index, k=k)

    def label_issues(self, folds: int = 5, *, seed: int | None = None) -> LabelIssues:
        """Rank the labels of all training and validation pictures, the most doubtful first.

        Features of the body are computed once; then ``folds`` new heads are trained, each judging pictures whose
        labels it has not seen. This learner is not changed. ``print`` the result, ``.show()`` the pictures, write
        them ``.to_csv(path)`` to edit, and go on with ``data.relabel(path)``.

        Args:
            folds: number of heads, 2 or more.
            seed: of the folds and the heads; default the data's.

        Raises:
            ArgumentError: a number of folds that cannot work, or a model without a head of its own.
        """
        from onecycle.learner.label_issues import check_labels

        found = self._labelled_features()
        return check_labels(
            found, self._data, folds=folds, seed=seed, body_trained=self.body_trained, silent=self.silent
        )

    def report(
        self,
        *,
        interpretation: ClassificationInterpretation | None = None,
        audit: AuditReport | Mapping[str, Any] | None = None,
        label_issues: LabelIssues | Sequence[LabelIssue] | None = None,
        sweep: Sweeps | None = None,
        title: str = "",
        notes: Sequence[str] = (),
    ) -> Report:
        """Put what is known of this model into one HTML page; a notebook shows it, ``.save(path)`` writes it.

        Args:
            interpretation: predictions to report; default those of the validation part, made now.
            audit: of ``data.audit()``.
            label_issues: of ``learn.label_issues()``.
            sweep: of the learning-rate finder: pairs (learning rates, losses).
            title: of the page.
            notes: sentences to show below the verdict.

        Raises:
            ArgumentError: the validation part is empty.
        """
        from onecycle.learner.report import build_report

        return build_report(
            self,
            interpretation=interpretation,
            audit=audit,
            label_issues=label_issues,
            sweep=sweep,
            title=title,
            notes=notes,
        )

    def _labelled_features(self) -> LabelledFeatures:
        self._data.prepare(silent=self.silent)
        return self._features.of_labelled(self.model, self._data, stats=self.norm_stats, silent=self.silent)
