"""Grad-CAM: where in the picture a network speaks for one class.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, equations 1 and 2, at the output of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from onecycle.errors import ArgumentError


def grad_cam(model: nn.Module, x: torch.Tensor, class_index: int | torch.Tensor) -> np.ndarray:
    """Return a map for each picture: ReLU(Σₖ wₖ·Aₖ), A the body's output, wₖ the spatial mean of ∂logit/∂Aₖ.

    The body runs without gradients, so a frozen one costs no more than a prediction. The model is read in
    eval mode and left as it was: its modes, gradients, buffers and ``requires_grad`` flags do not change.

    Args:
        model: ``Sequential(body, head)``; the body returns ``(N, K, h, w)``, the head logits ``(N, C)``. Of a list of
            such maps the last is A; what the head reads in earlier ones is not shown.
        x: normalised pictures ``(N, 3, H, W)`` or one ``(3, H, W)``, on the model's device.
        class_index: one class for all pictures, or int64 ``(N,)``.

    Returns:
        float32 ``(N, h, w)``, each value ≥ 0; the scale is that of the logits, not of probabilities.

    Raises:
        ArgumentError: another kind of model, ``x`` that is not a batch of pictures, or no such class.
    """
    if not (isinstance(model, nn.Sequential) and len(model) == 2):
        raise ArgumentError(
            "a heatmap needs nn.Sequential(body, head), as cnn_learner makes it; received "
            f"{type(model).__name__} with {len(list(model.children()))} parts. Pass heatmap=False"
        )
    body, head = model
    batch = x[None] if x.ndim == 3 else x
    if batch.ndim != 4:
        raise ArgumentError(f"Grad-CAM takes pictures (N, 3, H, W) or (3, H, W); received {tuple(x.shape)}")
    with _eval_mode(model), torch.inference_mode(False):
        with torch.no_grad():
            seen = getattr(body, "plain", body)  # of several views of a picture, the one that is shown
            outputs = seen(batch.clone() if batch.is_inference() else batch)
        *earlier, activations = outputs if isinstance(outputs, list) else [outputs]
        gradient = _gradient(lambda last: head([*earlier, last] if earlier else last), activations, class_index)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        maps = torch.relu((weights * activations).sum(dim=1))
    return np.asarray(maps.float().cpu().numpy())


def _gradient(
    head: Callable[[torch.Tensor], torch.Tensor], activations: torch.Tensor, class_index: int | torch.Tensor
) -> torch.Tensor:
    """Return ∂logit/∂activations for each picture's class, without touching any parameter's ``.grad``."""
    if activations.ndim != 4:
        shape = tuple(activations.shape)
        raise ArgumentError(f"Grad-CAM needs a body with maps (N, K, h, w) as output; received {shape}")
    with torch.enable_grad():
        leaf = activations.detach().requires_grad_(True)
        logits = head(leaf.clone())  # the copy lets the head begin with an in-place layer
        classes = _checked_classes(class_index, logits)
        score = logits.gather(1, classes[:, None]).sum()  # in eval mode no picture sees another: the sum separates
        return torch.autograd.grad(score, leaf)[0]


def _checked_classes(class_index: int | torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    n, c = logits.shape
    classes = torch.as_tensor(class_index, dtype=torch.int64, device=logits.device)
    if classes.ndim > 1 or (classes.ndim == 1 and len(classes) != n):
        raise ArgumentError(f"class_index is one class or {n} of them; received shape {tuple(classes.shape)}")
    if ((classes < 0) | (classes >= c)).any():
        raise ArgumentError(f"class_index must lie in 0..{c - 1}, the model's {c} classes; received {class_index}")
    return classes.expand(n)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
