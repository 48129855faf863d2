"""The layer of tag sets: marginal log-odds by enumeration, and what no training picture has."""

from __future__ import annotations

import torch

from onecycle.model.tag_sets import TagSets


def test_log_odds_are_those_of_the_marginals_over_the_sets():
    sets = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]])
    layer = TagSets.of(sets, torch.tensor([0.3, -0.2, 0.1]), n=10**6)
    scores = torch.tensor([[0.5, -1.0, 2.0]])
    weights = torch.tensor([0.3 + 0.5, -0.2 + 0.5 - 1.0, 0.1 - 1.0 + 2.0]).exp()
    probs = weights / weights.sum()
    torch.testing.assert_close(layer.set_probs(scores)[0], probs)
    torch.testing.assert_close(layer(scores).sigmoid()[0], probs @ sets, atol=1e-5, rtol=1e-5)


def test_no_tag_is_ever_quite_certain():
    layer = TagSets.of(torch.tensor([[1.0, 0], [1, 0]]), torch.zeros(2), n=98)
    probs = layer(torch.tensor([[1e4, -1e4]])).sigmoid()
    torch.testing.assert_close(probs, torch.tensor([[1 - 0.005, 0.005]]))
