"""Small helpers of ``core`` and ``torch_core``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from common import said, tensors


def lists() -> dict[str, Any]:
    from fastai.basics import (
        camel2snake,
        chunks,
        df_names_to_idx,
        even_mults,
        first_el,
        idx_dict,
        index_row,
        is1d,
        is_dict,
        is_listy,
        is_pathlike,
        is_tuple,
        listify,
        one_hot,
        partition,
        range_of,
        show_some,
        to_int,
        try_int,
        uniqueify,
    )  # fmt: skip
    from pandas import DataFrame

    frame = DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]})
    pairs = [(None, None), ("ab", None), (5, 2), ([5], 3), ([1, 2], None), ((1, 2), [3, 4]), ("a", ["b", "c"])]
    return {
        "listify": [listify(p, q) for p, q in pairs],
        "listify of lengths that differ": said(lambda: listify([1, 2], 3)),
        "is_listy": [is_listy(v) for v in ([1], (1,), "a", {1}, np.ones(2), None)],
        "is_dict, is_tuple, is_pathlike": [is_dict({}), is_tuple((1,)), is_pathlike("a"), is_pathlike(Path("b"))],
        "is1d": [is1d([1, 2]), is1d([[1], [2]]), is1d(np.ones((2, 2)))],
        "to_int": to_int(["1", 2.7, (3, "4")]),
        "try_int": [try_int(v) for v in ("3", "x", 2.5, None)] + [int(try_int(np.array(3)))],
        "one_hot": one_hot([0, 2], 4).tolist(),
        "even_mults": even_mults(0.001, 0.1, 4).tolist(),
        "uniqueify": [uniqueify([3, 1, 3, 2]), uniqueify([3, 1, 3, 2], sort=True)],
        "idx_dict": sorted(idx_dict("xyz").items()),
        "first_el": first_el([{"a": (7, 8)}]),
        "chunks": [list(c) for c in chunks([1, 2, 3, 4, 5], 2)],
        "partition": partition([1, 2, 3, 4, 5], 3),
        "range_of": range_of("abc"),
        "camel2snake": [camel2snake(n) for n in ("CamelCase", "some2String", "HTTPServer", "aB")],
        "show_some": [show_some(range(7)), show_some([1, 2], sep=";"), show_some([]), show_some(None)],
        "index_row": [index_row(frame, [0, 2])["b"].tolist(), index_row(np.arange(4), 2).item(), index_row(None, 1)],
        "df_names_to_idx": [df_names_to_idx(["b"], frame), df_names_to_idx("a", frame), df_names_to_idx([1, 0], frame)],
    }


def functions() -> dict[str, Any]:
    from fastai.basics import compose, func_args, has_arg, ifnone, join_path, join_paths, noop, random_split

    def of_three(a: int, b: int = 2, *rest: int, c: int = 3, **options: int) -> int:
        return a

    np.random.seed(5)
    (train, valid), (others, _) = random_split(0.4, range(20), range(100, 120))
    return {
        "compose": compose([lambda x: x + 1, lambda x: x * 10])(2),
        "func_args": list(func_args(of_three)),
        "has_arg": [has_arg(of_three, n) for n in ("a", "b", "rest", "c", "options")],
        "ifnone": [ifnone(None, 1), ifnone(0, 1), ifnone(False, 1)],
        "noop": noop("x"),
        "join_path": [str(join_path("f")), str(join_path("f", Path("d")))],
        "join_paths": [str(p) for p in join_paths(["a", "b"], "d")],
        "random_split": [train.tolist(), valid.tolist(), others.tolist()],
        "random_split of lengths that differ": said(lambda: random_split(0.5, [1, 2], [1])),
        "random_split of more than all": said(lambda: random_split(1.5, [1, 2])),
    }


def draws() -> dict[str, Any]:
    """Draws of one seed; what is drawn by torch alone may differ between its releases and is not here."""
    from fastai.torch_core import log_uniform, rand_bool, set_all_seed, uniform, uniform_int

    set_all_seed(7)
    return {
        "uniform": [uniform(2.0, 5.0), uniform(3.0), list(uniform(4.0, size=[2]).shape)],
        "log_uniform": log_uniform(0.5, 8.0),
        "rand_bool": [rand_bool(0.5) for _ in range(6)],
        "uniform_int": [uniform_int(0, 9) for _ in range(4)],
        "numpy": float(np.random.rand()),
        "random": random.random(),
    }


def of_tensors() -> dict[str, Any]:
    import torch
    from fastai.torch_core import (
        flatten_check,
        grab_idx,
        logit,
        tensor,
        to_data,
        to_detach,
        to_float,
        to_half,
        to_np,
        trange_of,
    )  # fmt: skip
    from fastai.vision import Category, FloatItem

    half = to_half([torch.ones(2), torch.ones(2).long()])
    items = [Category(1, "b"), (Category(0, "a"), 5), {"k": FloatItem(2.5)}]
    given = [([1, 2],), (1, 2, 3), (np.array([1, 2], dtype=np.int32),), ([],), (np.ones(2),), (torch.ones(1),)]
    return {
        "tensor": [[tensor(*a).tolist(), str(tensor(*a).dtype)] for a in given],
        "to_data": str([np.asarray(to_data(items)[0]).item(), np.asarray(to_data(items)[1][0]).item()]),
        "to_half": [str(t.dtype) for t in half],
        "to_float": [str(t.dtype) for t in to_float(half)],
        "to_np": to_np(tensors(2, 2)).tolist(),
        "to_detach": to_detach([torch.ones(1, requires_grad=True), 3])[0].requires_grad,
        "logit": logit(torch.tensor([0.0, 0.2, 1.0])).tolist(),
        "grab_idx": [grab_idx(torch.arange(4), 2).item(), grab_idx([torch.arange(4), torch.arange(4)], 1)[1].item()],
        "flatten_check": [list(t.shape) for t in flatten_check(torch.ones(2, 3), torch.ones(6))],
        "flatten_check of lengths that differ": said(lambda: flatten_check(torch.ones(2), torch.ones(3))),
        "trange_of": said(lambda: trange_of("abc").tolist()),
        "items": [str(Category(0, "a")), str(FloatItem(0.5))],
        "equal items": [
            bool(Category(0, "a") == Category(0, "a")),
            bool(Category(0, "a") == Category(1, "b")),
            bool(FloatItem(0.5) == FloatItem(0.5)),
            hash(Category(0, "a")) == hash(Category(0, "a")),
        ],
    }


def of_modules() -> dict[str, Any]:
    from fastai.layers import SelfAttention
    from fastai.torch_core import (
        apply_init,
        apply_leaf,
        children,
        first_layer,
        flatten_model,
        has_params,
        in_channels,
        last_layer,
        num_children,
        one_param,
        requires_grad,
        set_bn_eval,
        split_model_idx,
        split_no_wd_params,
        trainable_params,
    )  # fmt: skip
    from fastai.vision import simple_cnn
    from torch import nn

    model = simple_cnn((3, 6, 6), bn=True)
    apply_leaf(model, lambda m: nn.init.constant_(m.weight, 0.2) if hasattr(m, "weight") else None)
    apply_init(model, lambda w: nn.init.constant_(w, 0.7))
    split = split_model_idx(model, [3])
    answer = {
        "first": type(first_layer(model)).__name__,
        "last": type(last_layer(model)).__name__,
        "flat": [type(m).__name__ for m in flatten_model(model)],
        "flat parameters": len(list(nn.Sequential(*flatten_model(SelfAttention(16))).parameters())),
        "children": [num_children(model), len(children(model))],
        "weights after apply_init": [float(p.mean()) for _, p in sorted(model.named_parameters())],
        "split_model_idx": [len(part) for part in split],
        "split_no_wd_params": [len(g) for g in split_no_wd_params(simple_cnn((1, 1, 1), bn=True))],
        "in_channels": in_channels(model),
        "has_params": [has_params(model), has_params(nn.ReLU()), requires_grad(nn.ReLU())],
        "one_param": list(one_param(model).shape),
    }
    requires_grad(model, False)
    set_bn_eval(model)
    bns = [m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    conv = [m.training for m in model.modules() if isinstance(m, nn.Conv2d)]
    frozen = [requires_grad(model), len(list(trainable_params(model)))]
    return {**answer, "frozen": frozen, "set_bn_eval": [bns, conv]}


CALLS = {f.__name__: f for f in (lists, functions, draws, of_tensors, of_modules)}
