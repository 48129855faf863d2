"""Worlds whose truth is known: labels, groups and models that are drawn, as real ``Predictions``.

A label has its own share of the pictures. A model sees a score x = separation · truth + noise and gives the exact
posterior probability, so that its probabilities mean what they say unless ``sharp`` or ``jitter`` makes them wrong.
Groups (a scene, a patient) share a random intercept of the labels and of the model's noise; one picture's distribution
is the same with and without groups, so that one population of independent pictures gives the truth of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import expit, logsumexp, ndtri

from onecycle.evaluation.certainty.decisions import F2, Decisions
from onecycle.evaluation.certainty.intervals import WeightedScore
from onecycle.evaluation.certainty.thresholds import choose_thresholds
from onecycle.evaluation.predictions import Predictions

PLANET = (
    0.934, 0.701, 0.318, 0.209, 0.194, 0.169, 0.124, 0.093, 0.055, 0.05, 0.019, 0.009, 0.008, 0.007, 0.006, 0.002, 0.001
)  # fmt: skip
"""Shares of the 17 tags among the 1,000 pictures of the Planet sample."""
EVEN_TAGS = (0.4, 0.35, 0.3, 0.25, 0.2)
BORDER_TAGS = (0.3,) * 17
RARE_TAGS = (0.15,) * 10  # none reaches 20 %
N_POPULATION = 200_000

SEPARATION = {"blind": 0.0, "mediocre": 1.2, "good": 2.5, "very good": 4.0, "perfect": 14.0}
"""How far the scores of pictures with and without a label lie apart, in standard deviations of the noise."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Pictures of a kind and a model of a kind."""

    shares: tuple[float, ...]  # of each class (they sum to 1) or tag
    is_multi: bool
    model: str = "good"  # of SEPARATION
    per_group: int = 1  # pictures of a group; 1: each stands alone
    icc: float = 0.25  # correlation of a yes or no at even odds between two pictures of a group
    sharp: float = 1.0  # log-odds are multiplied by this: above 1 the model is too sure of itself
    jitter: float = 0.0  # standard deviation of noise on the log-odds: a blind model with it still ranks at random

    def draw(self, rng: np.random.Generator, n: int) -> Predictions:
        """Return predictions of n labelled pictures, with groups where the world has them."""
        c = len(self.shares)
        latent, noise = self._normal(rng, n), self._normal(rng, n)
        z, targets = self._tags(latent, noise) if self.is_multi else self._classes(latent, noise)
        z = self.sharp * z + self.jitter * rng.normal(size=z.shape)
        probs = expit(z) if self.is_multi else np.exp(z - logsumexp(z, axis=1, keepdims=True))
        groups = None if self.per_group == 1 else np.arange(n) // self.per_group
        n_train = 4 * n
        counts = (
            rng.binomial(n_train, self.shares) if self.is_multi else rng.multinomial(n_train, np.array(self.shares))
        )
        return Predictions.of(
            probs.astype(np.float32),
            is_multi=self.is_multi,
            decisions=Decisions(F2),
            files=tuple(f"{i}.jpg" for i in range(n)) if n <= 20_000 else ("x.jpg",) * n,
            classes=tuple(f"label {i}" for i in range(c)),
            targets=targets,
            losses=_losses(probs, targets),
            groups=groups,
            train_counts=counts.astype(np.int64),
            n_train=n_train,
        )

    def _normal(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return standard normal values, float64 ``(n, C)``, that those of a group share in part."""
        own = rng.normal(size=(n, len(self.shares)))
        if self.per_group == 1:
            return own
        # Two normal values with this correlation are on one side of 0 as the ICC asks (Sheppard 1899).
        rho = math.sin(math.pi / 2 * self.icc)
        common = rng.normal(size=(-(-n // self.per_group), len(self.shares)))
        return np.sqrt(rho) * np.repeat(common, self.per_group, axis=0)[:n] + np.sqrt(1 - rho) * own

    def _tags(self, latent: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares, d = np.array(self.shares), SEPARATION[self.model]
        truth = latent < ndtri(shares)
        z = np.log(shares) - np.log1p(-shares) + d * (d * truth + noise) - d**2 / 2
        return z, truth.astype(np.int64)

    def _classes(self, latent: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw classes; the class of a picture comes from one of its latent values."""
        d, c = SEPARATION[self.model], len(self.shares)
        edges = ndtri(np.clip(np.cumsum(self.shares)[:-1], 0, 1))
        targets = np.searchsorted(edges, latent[:, 0])
        return np.log(self.shares) + d * (d * np.eye(c)[targets] + noise), targets.astype(np.int64)

    def population(self) -> Predictions:
        """Return so many independent pictures that chance no longer matters; always the same."""
        return _population(replace(self, per_group=1))

    def true_score(self, score: WeightedScore) -> float:
        """Return a score over the population."""
        p = self.population()
        return float(score.weighted(p.probs, p.known_targets, np.ones((1, len(p))))[0])


def with_thresholds(p: Predictions) -> Predictions:
    """Return predictions of tags decided by thresholds that were chosen on these very pictures."""
    chosen = choose_thresholds(p.probs, p.known_targets, classes=p.classes, groups=p.groups)
    decided = chosen.thresholds.decide(p.probs).astype(np.int64)
    return replace(p, decisions=Decisions(thresholds=chosen.thresholds), decided=decided, held_out=chosen.decided)


@lru_cache(maxsize=8)
def _population(world: World) -> Predictions:
    return world.draw(np.random.default_rng(987_654), N_POPULATION)


def _losses(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    safe = np.clip(probs, 1e-7, 1 - 1e-7)
    if targets.ndim == 1:
        return np.asarray(-np.log(safe[np.arange(len(targets)), targets]), dtype=np.float32)
    return np.asarray(-np.log(np.where(targets > 0, safe, 1 - safe)).mean(axis=1), dtype=np.float32)
