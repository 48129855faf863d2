"""Keys and shapes of what is saved, of heads and of networks from nothing, and where they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import few, fill, tensors, undrawn


def _keys(model: Any) -> list[Any]:
    return [[k, list(v.shape)] for k, v in model.state_dict().items()]


def networks(path: Path) -> dict[str, Any]:
    from fastai.layers import conv_layer, res_block, simple_cnn
    from fastai.vision import cnn_learner, create_head, models
    from fastai.vision.models.xresnet import xresnet18

    made = {
        "create_head": create_head(1024, 5),
        "create_head, two layers": create_head(64, 3, lin_ftrs=[32, 16], ps=[0.1, 0.2, 0.3], bn_final=True),
        "create_head, one pooling": create_head(32, 3, concat_pool=False),
        "conv_layer": conv_layer(3, 8),
        "conv_layer, no norm": conv_layer(3, 8, norm_type=None, stride=2),
        "conv_layer, one dimension": conv_layer(3, 8, is_1d=True),
        "conv_layer, transposed": conv_layer(3, 8, transpose=True, leaky=0.1),
        "conv_layer with attention": conv_layer(16, 16, self_attention=True),
        "res_block": res_block(8),
        "res_block, dense": res_block(8, dense=True, bottle=True),
        "simple_cnn": simple_cnn((3, 8, 4)),
        "simple_cnn, sizes": simple_cnn((3, 8, 4), kernel_szs=[5, 3], strides=[1, 2], bn=True),
        "xresnet18": xresnet18(c_out=7),
        "resnet18": cnn_learner(few(path), models.resnet18, pretrained=False).model,
    }
    return {n: _keys(model) for n, model in made.items()}


def families(path: Path) -> dict[str, Any]:
    """Heads, groups and parameters of the networks of v1."""
    from fastai.vision import cnn_learner, models

    data, answer = few(path), {}
    for name in ("resnet34", "resnet50", "densenet121", "squeezenet1_1", "vgg11_bn", "alexnet", "mobilenet_v2"):
        with undrawn():
            learn = cnn_learner(data, getattr(models, name), pretrained=False, init=None)
        groups = [sum(p.numel() for p in group.parameters()) for group in learn.layer_groups]
        answer[name] = [_keys(learn.model[1]), groups]
        del learn
    return answer


def outputs() -> dict[str, Any]:
    """What layers give, with the same weights."""
    import torch
    from fastai.layers import (
        AdaptiveConcatPool2d,
        Flatten,
        Lambda,
        PoolFlatten,
        View,
        bn_drop_lin,
        conv_layer,
        res_block,
        sigmoid_range,
        simple_cnn,
    )  # fmt: skip
    from fastai.vision import create_head

    x = tensors(2, 16, 6, 6)
    made = {
        "pools": AdaptiveConcatPool2d(),
        "pools of 2": AdaptiveConcatPool2d(2),
        "flatten": Flatten(),
        "flatten all": Flatten(full=True),
        "lambda": Lambda(lambda t: t * 2),
        "pool, flatten": PoolFlatten(),
        "view": View(2, -1),
        "conv": fill(conv_layer(16, 4)).eval(),
        "conv, batch-norm zero": conv_layer(16, 4, norm_type=None),
        "residual": fill(res_block(16)).eval(),
        "head": fill(create_head(32, 3)).eval(),
        "network": fill(simple_cnn((16, 8, 3), bn=True)).eval(),
    }
    fill(made["conv, batch-norm zero"])
    answer: dict[str, Any] = {}
    with torch.no_grad():
        for name, layer in made.items():
            out = layer(x)
            answer[name] = [list(out.shape), float(out.mean()), float(out.std()), out.flatten()[:4].tolist()]
    return {
        **answer,
        "sigmoid_range": sigmoid_range(torch.tensor([-2.0, 0.0, 3.0]), 1.0, 5.0).tolist(),
        "bn_drop_lin": [type(m).__name__ for m in bn_drop_lin(4, 2, p=0.5, actn=torch.nn.ReLU())],
    }


CALLS = {f.__name__: f for f in (outputs,)}
ON_DATA = {f.__name__: f for f in (networks, families)}
