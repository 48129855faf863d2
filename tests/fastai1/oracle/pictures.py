"""What transforms, sizes and functions of pictures do to pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def picture(h: int = 12, w: int = 16, steep: float = 1.0) -> Any:
    """A picture of smooth hills, so that another way to interpolate changes little; levels are whole."""
    import torch
    from fastai.vision import Image

    rows, columns = np.mgrid[:h, :w] / max(h, w) * steep
    hills = [0.5 + 0.4 * np.sin(2.5 * rows * (k + 1) + 1.7 * k) * np.cos(2 * columns + k) for k in range(3)]
    return Image(torch.tensor(np.round(np.stack(hills) * 255).astype(np.float32) / 255))


def levels(image: Any) -> dict[str, Any]:
    """The shape, and every second grey level of two channels."""
    pixels = (image.data.float() * 255).round().int()
    return {
        "shape": list(image.shape),
        "levels": [*pixels[0].flatten()[::2].tolist(), *pixels[2].flatten()[1::2].tolist()],
    }


def _geometry() -> dict[str, Any]:
    from fastai.vision import crop, flip_affine, flip_lr, rotate, skew, squish, symmetric_warp, tilt, zoom  # fmt: skip

    return {
        "rotate 20": rotate(degrees=(20, 20)),
        "rotate by one number": rotate(degrees=-35),
        "zoom": zoom(scale=(1.4, 1.4)),
        "zoom at a point": zoom(scale=(1.4, 1.4), row_pct=(0.2, 0.2), col_pct=(0.7, 0.7)),
        "squish 0.7": squish(scale=(0.7, 0.7), col_pct=(0.2, 0.2)),
        "squish 1.3": squish(scale=(1.3, 1.3), row_pct=(0.1, 0.1)),
        "flip_lr": flip_lr(),
        "flip_affine": flip_affine(),
        "symmetric_warp": symmetric_warp(magnitude=(0.15, 0.15)),
        **{f"tilt {k}": tilt(direction=(k, k), magnitude=(0.2, 0.2)) for k in range(4)},
        **{f"skew {k}": skew(direction=(k, k), magnitude=(-0.3, -0.3)) for k in range(8)},
        "crop": crop(size=8, row_pct=(0.2, 0.2), col_pct=(0.9, 0.9)),
        "crop to the corner": crop(size=(8, 6), row_pct=(1.0, 1.0), col_pct=(1.0, 1.0)),
    }


def transforms() -> dict[str, Any]:
    """Each transform with parameters that are told, and several at once."""
    from fastai.vision import (
        brightness,
        contrast,
        dihedral,
        dihedral_affine,
        flip_lr,
        rotate,
        symmetric_warp,
        zoom,
    )  # fmt: skip

    image, made = picture(), _geometry()
    made |= {f"brightness {b}": brightness(change=(b, b)) for b in (0.4, 0.6)}
    made |= {f"contrast {s}": contrast(scale=(s, s)) for s in (0.7, 1.5)}
    answer = {name: levels(image.apply_tfms([tfm])) for name, tfm in made.items()}
    square = picture(12, 12)
    for turn in (dihedral, dihedral_affine):
        turned = {f"{turn.__name__} {k}": turn(k=k, is_random=False) for k in range(8)}
        answer |= {name: levels(square.apply_tfms([tfm])) for name, tfm in turned.items()}
    for padding in ("zeros", "border"):
        answer[f"rotate, {padding}"] = levels(image.apply_tfms([made["rotate 20"]], padding_mode=padding))
    answer["rotate, nearest"] = levels(image.apply_tfms([made["rotate 20"]], mode="nearest"))
    several = [flip_lr(), contrast(scale=(1.3, 1.3)), zoom(scale=(1.2, 1.2)), symmetric_warp(magnitude=(0.1, 0.1)),
               rotate(degrees=(15, 15)), brightness(change=(0.55, 0.55))]  # fmt: skip
    return {**answer, "several": levels(image.apply_tfms(several)), "none": levels(image.apply_tfms([]))}


def sizes() -> dict[str, Any]:
    """How pictures are brought to a size, by each method."""
    from fastai.vision import ResizeMethod, crop_pad

    image, answer = picture(24, 32, steep=0.6), {}
    for method in ("CROP", "PAD", "SQUISH"):
        for size in (14, (12, 20), (20, 12), 48, (40, 36)):
            how = {"size": size, "resize_method": getattr(ResizeMethod, method)}
            answer[f"{method} {size}"] = levels(image.apply_tfms([crop_pad()], **how))
        how = {"size": 19, "mult": 8, "resize_method": getattr(ResizeMethod, method)}
        answer[f"{method}, a multiple of 8"] = levels(image.apply_tfms([crop_pad()], **how))
    answer["a number"] = levels(image.apply_tfms([crop_pad()], size=16))
    answer["a pair"] = levels(image.apply_tfms([crop_pad()], size=(12, 20)))
    answer["no transforms"] = levels(image.apply_tfms(None, size=16))
    for row, col in ((0.0, 0.0), (1.0, 0.0), (0.3, 0.8), (1.0, 1.0)):
        window = crop_pad(row_pct=(row, row), col_pct=(col, col))
        answer[f"window at {row}, {col}"] = levels(
            image.apply_tfms([window], size=(20, 12), resize_method=ResizeMethod.CROP)
        )
    return answer


def usual_transforms() -> dict[str, Any]:
    """What ``get_transforms`` holds."""
    from fastai.vision import get_transforms

    asked: dict[str, dict[str, Any]] = {
        "usual": {},
        "vertical": {"flip_vert": True, "max_lighting": 0.1},
        "no zoom": {"max_zoom": 1.0},
        "few": {"do_flip": False, "max_rotate": None, "max_warp": 0.0, "max_lighting": None},
        "strong": {"max_rotate": 45.0, "max_zoom": 1.5, "p_affine": 1.0, "p_lighting": 0.25},
    }
    answer: dict[str, Any] = {}
    for name, how in asked.items():
        train, valid = get_transforms(**how)
        answer[name] = [[t.tfm.__name__, float(t.p)] for t in train], [t.tfm.__name__ for t in valid]
    return {name: [list(part) for part in parts] for name, parts in answer.items()}


def of_arrays() -> dict[str, Any]:
    """Pictures from and to arrays, their sizes and their statistics."""
    import torch
    from fastai.vision import image2np, normalize, pil2tensor, tis2hw
    from fastai.vision.data import channel_view, denormalize

    grid = np.arange(24).reshape(2, 4, 3).astype(np.uint8)
    x = torch.linspace(0, 1, 24).reshape(2, 3, 2, 2)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    return {
        "pil2tensor": pil2tensor(grid, np.float32).tolist(),
        "pil2tensor, grey": list(pil2tensor(grid[..., 0], np.float32).shape),
        "image2np": image2np(pil2tensor(grid, np.float32)).tolist(),
        "image2np, grey": list(image2np(torch.ones(1, 2, 3)).shape),
        "tis2hw": [tis2hw(5), tis2hw((3, 4)), tis2hw((3, 5, 6))],
        "normalize": normalize(x, mean, std).tolist(),
        "denormalize": denormalize(normalize(x, mean, std), mean, std).tolist(),
        "channel_view": channel_view(x).tolist(),
    }


def of_pictures(path: Path) -> dict[str, Any]:
    """Pixels of a file, and of batches."""
    from common import data_of
    from fastai.vision import open_image

    image = open_image(path / "train" / "3" / "0.png")
    batch, _ = data_of(path).one_batch()
    return {
        "shape": list(image.shape),
        "mean": float(image.data.mean()),
        "row": [float(v) for v in image.data[0, 10, 5:15]],
        "batch": list(batch.shape),
        "normalised": [float(v) for v in batch.mean((0, 2, 3))],
    }


CALLS = {f.__name__: f for f in (transforms, sizes, usual_transforms, of_arrays)}
ON_DATA = {f.__name__: f for f in (of_pictures,)}
