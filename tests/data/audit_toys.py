"""Drawn pictures for the tests of the audit: strong and faint texture, and copies of each kind."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from onecycle.data.audit.fingerprints import Fingerprints


def drawn(seed: int, *, side: int = 128, contrast: float = 30.0) -> np.ndarray:
    """Draw a picture with structure of every size, as natural ones have, uint8 ``(side, side, 3)``."""
    rng = np.random.default_rng(seed)
    grey = np.zeros((side, side))
    for cells in (2, 4, 8, 16, 32, 64):
        noise = rng.normal(size=(cells, cells)).astype(np.float32)
        layer = PIL.Image.fromarray(noise).resize((side, side), PIL.Image.Resampling.BICUBIC)
        grey += np.asarray(layer) * cells**-0.5
    pixels = 120 + contrast * grey[..., None] * np.array([1.0, 0.9, 0.8]) + rng.normal(size=(side, side, 1))
    return pixels.clip(0, 255).astype(np.uint8)


def lookalike(seed: int, *, side: int = 64) -> np.ndarray:
    """Draw a cell: all are alike but for slight differences of size and place, uint8 ``(side, side, 3)``."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] - side / 2) / side * 64
    down, right = rng.normal(0, 1.5, 2)
    body = np.hypot(x - right, y - down) - rng.normal(18, 2)
    core = np.hypot(x - right - rng.normal(0, 4), y - down - rng.normal(0, 4)) - rng.normal(6, 1)
    grey = 200 - 90 / (1 + np.exp(body)) - 60 / (1 + np.exp(core)) + rng.normal(0, 3, (side, side))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def saved_anew(pixels: np.ndarray, quality: int = 60) -> np.ndarray:
    """Return a picture after a JPEG of this quality."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def resized(pixels: np.ndarray, side: int = 80) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels).resize((side, side), PIL.Image.Resampling.LANCZOS))


def cropped(pixels: np.ndarray, top: int = 3, left: int = 5, bottom: int = 4, right: int = 2) -> np.ndarray:
    return pixels[top : len(pixels) - bottom, left : pixels.shape[1] - right]


def printed(pictures: list[np.ndarray]) -> Fingerprints:
    """Return the fingerprints of pictures."""
    prints = Fingerprints.empty(len(pictures))
    for i, pixels in enumerate(pictures):
        prints.put(i, pixels)
    return prints


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def form(number: int, *, side: int = 160) -> np.ndarray:
    """Draw a page of a form: all are alike but for the number in it, uint8 ``(side, side, 3)``."""
    page = PIL.Image.new("RGB", (side, side), "white")
    pen, font = PIL.ImageDraw.Draw(page), PIL.ImageFont.load_default(13)
    for row, words in enumerate(
        ["DELIVERY NOTE", "Company Ltd", "Street 12", "", f"No. {number:05}", "", "with thanks"]
    ):
        pen.text((12, 10 + 20 * row), words, fill="black", font=font)
    return np.asarray(page)
