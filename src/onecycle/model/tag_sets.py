"""Tags as sets: the last layer of a head that knows which tags occur together.

Of C tag scores z it makes a probability of each of the K tag sets that training has, p(S) ∝ exp(Σ z of its tags +
o(S)), o(S) a number of the set's own, and gives the log-odds of each tag under these: sigmoid of them is the marginal
probability, so all that reads tags one by one (losses, metrics, calibration, export) reads them as from any head.

Source: Ghamrawi and McCallum 2005, "Collective multi-label classification" (the CML model over supported label sets).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TagSets(nn.Module):
    """Log-odds of each tag, (N, C), from tag scores (N, C), by way of the sets of tags.

    Args:
        n_sets: K.
        n_tags: C.
    """

    sets: Tensor
    offsets: Tensor
    unseen: Tensor

    def __init__(self, n_sets: int, n_tags: int) -> None:
        super().__init__()
        self.register_buffer("sets", torch.zeros(n_sets, n_tags))  # 0/1 (K, C)
        self.register_buffer("offsets", torch.zeros(n_sets))  # (K,)
        self.register_buffer("unseen", torch.tensor(1e-3))  # share left to sets that training does not have

    @classmethod
    def of(cls, sets: Tensor, offsets: Tensor, n: int) -> TagSets:
        """Make the layer of known sets (K, C) and their offsets (K,), which n training pictures have."""
        made = cls(*sets.shape)
        for name, value in (("sets", sets), ("offsets", offsets), ("unseen", torch.tensor(1 / (n + 2)))):
            getattr(made, name).copy_(value.detach())
        return made.to(sets.device)

    def set_probs(self, scores: Tensor) -> Tensor:
        """Return the probability of each set, (N, K)."""
        return (scores.to(self.sets.dtype) @ self.sets.T + self.offsets).softmax(1)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the log-odds of each tag, (N, C); no tag is quite certain, as a new picture may have a new set."""
        probs, half = self.set_probs(scores), self.unseen / 2
        there, absent = ((1 - self.unseen) * (probs @ sets) + half for sets in (self.sets, 1 - self.sets))
        return there.log() - absent.log()
