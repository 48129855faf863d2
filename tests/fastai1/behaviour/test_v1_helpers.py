"""Metrics and helpers, as fastai 1's own tests ask for them."""

from __future__ import annotations

import numpy as np
import pytest


def rows(*values):
    import torch

    return torch.tensor(values, dtype=torch.float32)


def test_accuracy_in_any_shape(vision):
    import torch

    always_1, truth = rows([0, 1, 0, 0, 0]).expand(5, -1), torch.arange(5)
    assert float(vision.accuracy(always_1, truth)) == pytest.approx(0.2)
    assert float(vision.error_rate(always_1, truth)) == pytest.approx(0.8)
    assert float(vision.accuracy(torch.eye(5), truth)) == 1
    words = torch.eye(4)[[0, 2, 2, 1]].expand(3, 4, 4)  # right at two of four places
    assert float(vision.accuracy(words, torch.arange(4).expand(3, -1))) == 0.5


@pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)])
def test_the_k_best(vision, k, share):
    import torch

    order = rows([4, 3, 2, 1]).expand(4, -1)  # class 0 before 1 before 2 before 3
    assert float(vision.top_k_accuracy(order, torch.arange(4), k)) == share


def test_tags_above_a_threshold(vision):
    import torch

    assert float(vision.accuracy_thresh(torch.linspace(0, 1, 5), torch.ones(5))) == pytest.approx(0.8)
    assert float(vision.fbeta(torch.ones(1, 10), torch.ones(1, 10))) == pytest.approx(1)
    assert float(vision.fbeta(torch.zeros(1, 10), torch.zeros(1, 10))) == 0


def test_metrics_of_numbers(vision):
    import torch
    from fastai import metrics as m

    truth = torch.arange(-10, 10).float()
    assert float(m.mean_absolute_error(truth + 1, truth)) == 1
    assert float(m.mean_squared_error(truth - 2, truth)) == 4
    assert float(m.root_mean_squared_error(truth[:, None] + 2, truth)) == 2
    assert float(m.r2_score(truth, truth)) == 1
    assert float(m.explained_variance(truth + 5, truth)) == pytest.approx(1)
    assert float(m.exp_rmspe(torch.ones(1, 5), torch.ones(5))) == 0
    logs = truth.exp() - 1
    assert float(m.mean_squared_logarithmic_error(logs, (truth + 2).exp() - 1)) == pytest.approx(4, rel=1e-3)
    with pytest.raises(Exception):  # noqa: B017
        m.mean_squared_error(truth, truth[:3])


@pytest.mark.parametrize(
    ("p", "q", "list_of"),
    [(None, None, []), ("hi", None, ["hi"]), (5, 1, [5]), (5, [1, 1], [5, 5]), ("ab", ["c", "d"], ["ab", "ab"])],
)
def test_listify(vision, p, q, list_of):
    assert vision.listify(p, q) == list_of


def test_recurse(vision):
    def plus(x, a=1):
        return vision.recurse(lambda v, a: v + a, x, a)

    assert plus(1) == 2
    assert plus((1, 2), a=3) == [4, 5]
    assert plus({"a": 1, "b": [1, {"c": 2}]}) == {"a": 2, "b": [2, {"c": 3}]}


def test_pieces(vision):
    assert vision.partition([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert vision.partition([], 3) == []
    assert list(vision.chunks([0, 1, 2, 3], 3)) == [[0, 1, 2], [3]]
    assert vision.uniqueify([1, 1, 3, 3, 5]) == [1, 3, 5]
    assert vision.idx_dict(np.array([1, 2, 3])) == {1: 0, 2: 1, 3: 2}


def test_arrays_are_split(vision):
    (a, b), (others, b_others) = vision.arrays_split([True, False, True], [1, 2, 3], ["a", "b", "c"])
    assert (a.tolist(), b.tolist(), others.tolist(), b_others.tolist()) == ([1, 3], ["a", "c"], [2], ["b"])
    train, valid = vision.random_split(0.4, [1, 2, 3, 4, 5], list("abcde"))
    assert (len(train), len(valid)) == (2, 2)
    assert sorted([*train[0], *valid[0]]) == [1, 2, 3, 4, 5]
    for wrong in ((1.1, [1, 2, 3]), (0.1, [1, 2, 3], [1, 2])):
        with pytest.raises(Exception):  # noqa: B017
            vision.random_split(*wrong)


def test_items_are_equal_by_what_they_hold(vision):
    from collections import Counter

    cat, dog, again = (vision.Category(n, name) for n, name in ((0, "cat"), (1, "dog"), (0, "cat")))
    assert cat == again
    assert cat != dog
    assert Counter([cat, dog, again])[cat] == 2
    assert vision.recurse_eq([rows(1, 2), [3]], [rows(1, 2), [3]])
    assert not vision.recurse_eq([rows(1, 2)], [rows(1, 2), 3])


def test_columns_become_categories(vision):
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    vision.series2cat(frame, "a")
    assert (str(frame["a"].dtype), str(frame["b"].dtype)) == ("category", "int64")
    assert vision.df_names_to_idx(["b", "a"], frame) == [1, 0]


def test_axes_are_always_a_grid(vision):
    shapes = [(2, 3), (1, 1), (1, 2)]
    assert [vision.subplots(r, c, figsize=(3, 3)).shape for r, c in shapes] == shapes


def test_folders_of_classes(vision, path):
    assert [p.name for p in vision.find_classes(path / "train")] == ["3", "7"]
    assert {p.name for p in (path / "train").ls()} == {"3", "7"}
    assert vision.join_paths(["a"], vision.Path("d")) == [vision.Path("d/a")]


def test_tensors(vision):
    import torch

    array = np.array([1, 2, 3])
    assert vision.np_address(vision.tensor(array).numpy()) == vision.np_address(array)
    assert vision.tensor([1, 2]).tolist() == vision.tensor(1, 2).tolist() == [1, 2]
    assert vision.model_type(np.dtype("float64")) is torch.float32
    assert vision.model_type(np.dtype("int32")) is torch.int64
    assert vision.model_type(np.dtype("U1")) is None
    assert vision.np2model_tensor(np.ones((2, 2))).dtype is torch.float32
    assert [t.dtype for t in vision.batch_to_half([torch.ones(1), torch.ones(1)])] == [torch.half, torch.float32]
    assert isinstance(vision.to_np(torch.ones(2)), np.ndarray)


def test_networks(vision):
    import torch

    model = vision.simple_cnn((3, 6, 6), bn=True)
    assert (vision.in_channels(model), len(vision.range_children(model))) == (3, 3)
    half = vision.model2half(vision.simple_cnn((3, 6, 6), bn=True))
    assert (half[0][0].weight.dtype, half[0][2].weight.dtype) == (torch.half, torch.float32)
    assert [len(group) for group in vision.split_no_wd_params(vision.simple_cnn((1, 1, 1), bn=True))][:2] == [1, 2]
    assert vision.split_model(model, [model[2][0]])[1][0] is model[2][0]
    with vision.ModelOnCPU(model) as same:
        assert same is model
    with vision.NoneReduceOnCPU(torch.nn.CrossEntropyLoss()) as loss:
        assert loss(torch.ones(3, 8), torch.zeros(3).long()).sum().item() == pytest.approx(6.238, abs=1e-3)


def test_batch_norms_that_do_not_train(vision):
    model = vision.simple_cnn((3, 6, 6), bn=True)
    vision.requires_grad(model, False)
    vision.set_bn_eval(model)
    assert [model[0][2].training, model[0][0].training] == [False, True]
