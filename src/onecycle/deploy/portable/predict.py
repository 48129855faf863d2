"""Predict pictures with the model in this folder, exactly as it predicted where it was trained.

    pip install numpy pillow onnxruntime
    python predict.py PICTURE...

prints one JSON object a picture: its labels and the probability of each class. From Python:

    from predict import Model
    for answer in Model().predict(["a.jpg", "b.png"]):
        print(answer["file"], answer["labels"])

Nothing else is needed: neither PyTorch nor onecycle. ``model.onnx`` takes pixels; what comes before them, from the file
to the size of the network, is written out below, since a picture that is resized in another way gets other answers.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

HERE = Path(__file__).resolve().parent
MOST_PIXELS = 206_000_000  # of one picture, at the size that it is decoded at
BATCH = 32  # pictures that go through the network together
MOST_WINDOWS = 8  # that an enlarged picture keeps
ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
PADDING = {"reflection": "reflect", "border": "edge", "zeros": "constant"}

Image.MAX_IMAGE_PIXELS = None  # the limit above is on what is decoded, not on what the file holds
Source = str | os.PathLike[str] | bytes | IO[bytes]


class Unreadable(ValueError):
    """A file that is no picture, or one of a kind that is not read."""


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its digest, so that damage and changes are seen."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


class Model:
    """The model of a folder.

    Args:
        folder: with ``model.onnx`` and ``manifest.json``; default where this file lies.
        threads: of the processor for one batch; 0: all.
    """

    def __init__(self, folder: str | os.PathLike[str] = HERE, *, threads: int = 0) -> None:
        self.folder = Path(folder)
        self.manifest = self.read_manifest()
        self.classes: list[str] = self.manifest["classes"]
        self.is_multi: bool = self.manifest["is_multi"]
        self.is_regression: bool = self.manifest.get("is_regression", False)
        self.read_by: str | None = (self.manifest.get("reading") or {}).get("function")
        self.preprocess: dict[str, Any] = self.manifest["preprocess"]
        self.session = self.opened(self.folder / "model.onnx", threads)
        self.measures_unlike = any(output.name == "unlike" for output in self.session.get_outputs())

    def read_manifest(self) -> dict[str, Any]:
        """Read what the folder says of itself, and check that nothing of it and of the network is damaged."""
        manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        schema = manifest["schema_version"]
        if schema not in (1, 2):
            raise ValueError(f"{self.folder} has schema {schema}; this file reads schemas 1 and 2")
        if schema == 2 and manifest.pop("digest", "") != manifest_digest(manifest):
            raise ValueError(f"{self.folder / 'manifest.json'} is damaged: it does not give the digest in it")
        said = manifest.get("sha256", {}).get("model.onnx")  # none while the folder is being made
        with open(self.folder / "model.onnx", "rb") as file:
            if said is not None and hashlib.file_digest(file, "sha256").hexdigest() != said:
                raise ValueError(f"{file.name} is not the file that was exported and verified")
        return manifest

    def opened(self, file: Path, threads: int) -> Any:
        """Open the network; another runtime stands in by an object with the same ``run`` and ``get_outputs``."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def predict(self, files: Iterable[Source]) -> Iterator[dict[str, Any]]:
        """Give for each file, in order, ``file`` with ``labels`` and ``probabilities``, or with ``error``.

        A model of numbers gives ``numbers`` in place of both.

        Where that was measured, ``unlike`` says how far a picture lies from the training pictures: above 1 farther than
        nearly all of the validation pictures, so that what is known of the model does not hold for it.
        """
        waiting: list[tuple[Source, np.ndarray | str]] = []
        for file in files:
            try:
                waiting.append((file, self.pixels(file)))
            except (OSError, ValueError) as error:
                waiting.append((file, str(error) or type(error).__name__))
            if len(waiting) >= (BATCH if self.preprocess["size"] else 1):
                yield from self._answers(waiting)
                waiting = []
        yield from self._answers(waiting)

    def _answers(self, waiting: Sequence[tuple[Source, np.ndarray | str]]) -> Iterator[dict[str, Any]]:
        pixels = [p for _, p in waiting if not isinstance(p, str)]
        found = iter(zip(*self.run(np.stack(pixels)), strict=True) if pixels else ())
        for file, result in waiting:
            name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else ""
            if isinstance(result, str):
                yield {"file": name, "error": result}
            else:
                yield {"file": name} | self.answer(*next(found))

    def answer(self, probs: np.ndarray, label: Any, unlike: float) -> dict[str, Any]:
        """Return what ``run`` gives for one picture by its names."""
        shown = {c: float(p) for c, p in zip(self.classes, probs, strict=True)}
        known = {} if np.isnan(unlike) else {"unlike": float(unlike)}
        if self.is_regression:
            return {"numbers": shown, **known}
        return {"labels": self.names(label), "probabilities": shown, **known}

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the network.

        Args:
            pixels: uint8 (N, H, W, 3).

        Returns:
            probabilities float32 (N, C); class indices (N,) or tags bool (N, C); float32 (N,), how far from the
            training pictures, NaN where that was not measured. Of a model of numbers these, float32 (N, C), twice.
        """
        if self.is_regression:
            names = ["numbers", *(["unlike"] if self.measures_unlike else [])]
            numbers, *far = self.session.run(names, {"pictures": pixels})
            return numbers, numbers, far[0] if far else np.full(len(numbers), np.nan, np.float32)
        if not self.measures_unlike:
            probs, labels = self.session.run(["probabilities", "labels"], {"pictures": pixels})
            return probs, labels, np.full(len(probs), np.nan, np.float32)
        probs, labels, unlike = self.session.run(["probabilities", "labels", "unlike"], {"pictures": pixels})
        return probs, labels, unlike

    def own(self, pixels: np.ndarray) -> np.ndarray:
        """Return the network's own probabilities before any calibration, float32 (N, C), for uint8 (N, H, W, 3)."""
        if self.is_regression:
            return self.run(pixels)[0]
        return np.asarray(self.session.run(["uncalibrated"], {"pictures": pixels})[0])

    def names(self, label: Any) -> list[str]:
        """Return the names in one picture's label."""
        places = np.flatnonzero(label) if self.is_multi else [int(label)]
        return [self.classes[i] for i in places]

    def pixels(self, file: Source) -> np.ndarray:
        """Return a picture as the network takes it, uint8 (height, width, 3).

        Raises:
            OSError, ValueError: it cannot be read.
        """
        if self.read_by:
            raise Unreadable(
                f"pictures were read by {self.read_by}, a function that is not in this folder: give its pixels to run()"
            )
        try:
            with opened(file) as picture:
                return self._windowed(self._decoded(picture))
        except (OSError, ValueError):
            raise
        except Exception as error:  # decoders raise whatever they like: it is about this file alone
            raise Unreadable(f"the picture is damaged: its decoder ended with {type(error).__name__}") from error

    def _decoded(self, picture: ImageFile.ImageFile) -> np.ndarray:
        factor = self._factor(picture)
        if picture.width // factor * (picture.height // factor) > MOST_PIXELS:
            raise Unreadable(f"{picture.width:,} × {picture.height:,} pixels are more than can be decoded safely")
        upright = picture.size[::-1] if orientation_of(picture) not in ON_ITS_SIDE else picture.size
        return self._scaled(picture, factor, upright)

    # ------------------------------------------------------------------ the size of the network

    def _factor(self, picture: Image.Image) -> int:
        """Return at which fraction of its size a JPEG is decoded: the result is still twice as large as needed."""
        shape = picture.size[::-1] if orientation_of(picture) not in ON_ITS_SIDE else picture.size
        allowed = self.preprocess["size"] and self.preprocess["scaled_decode"] and min(shape) >= 64
        if not allowed or picture.format not in ("JPEG", "MPO"):
            return 1
        wanted = self._stored_shape(*shape)
        fits = (f for f in (8, 4, 2) if all(-(-s // f) >= 2 * w for s, w in zip(shape, wanted, strict=True)))
        return next(fits, 1)

    def _scaled(self, picture: ImageFile.ImageFile, factor: int, upright: tuple[int, int]) -> np.ndarray:
        orientation = orientation_of(picture)
        if not self.preprocess["size"]:
            return turned(rgb(picture), orientation)
        wanted = self._stored_shape(*upright)
        if factor > 1:
            visible = picture.height / factor, picture.width / factor
            picture.draft(picture.mode, (picture.width // factor, picture.height // factor))
            there = wanted[::-1] if orientation in ON_ITS_SIDE else wanted
            return turned(scaled_to(rgb(picture), there, visible, (0.0, 0.0)), orientation)
        scaled = self._scaled_shape(*upright)
        visible = upright[0] * (wanted[0] / scaled[0]), upright[1] * (wanted[1] / scaled[1])
        start = (upright[0] - visible[0]) / 2, (upright[1] - visible[1]) / 2
        return scaled_to(turned(rgb(picture), orientation), wanted, visible, start)

    def _scaled_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) that scaling gives a whole picture."""
        size, method = self.preprocess["size"], self.preprocess["method"]
        if method == "SQUISH":
            return size[0], size[1]
        ratios = size[0] / height, size[1] / width
        scale = max(ratios) if method == "CROP" else min(ratios)
        new = round(height * scale), round(width * scale)
        if method == "CROP":
            return max(new[0], size[0]), max(new[1], size[1])
        return min(max(new[0], 1), size[0]), min(max(new[1], 1), size[1])

    def _stored_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of what is scaled: of a long thin picture that is enlarged, both ends are left out."""
        scaled, size = self._scaled_shape(height, width), self.preprocess["size"]
        if self.preprocess["method"] != "CROP":
            return scaled
        most = max(height * width, MOST_WINDOWS * size[0] * size[1])
        longest = [s - max(0, s - most // other + 1) // 2 * 2 for s, other in zip(scaled, scaled[::-1], strict=True)]
        return max(longest[0], size[0]), max(longest[1], size[1])

    def _windowed(self, pixels: np.ndarray) -> np.ndarray:
        """Cut or fill to the size of the network around the centre."""
        size = self.preprocess["size"]
        if not size:
            return pixels
        for axis, wanted in enumerate(size):
            spare = pixels.shape[axis] - wanted
            if spare > 0:
                start = (spare + 1) // 2
                pixels = pixels[start : start + wanted] if axis == 0 else pixels[:, start : start + wanted]
            elif spare < 0:
                before = -spare // 2
                widths = [(0, 0), (0, 0), (0, 0)]
                widths[axis] = (before, -spare - before)
                pixels = np.pad(pixels, widths, mode=PADDING[self.preprocess["padding_mode"]])  # type: ignore[call-overload]
        return np.ascontiguousarray(pixels)


# ---------------------------------------------------------------------- from a file to RGB


def opened(file: Source) -> ImageFile.ImageFile:
    """Open a picture; EPS is refused, since reading it would run another program."""
    picture = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    if picture.format == "EPS":
        picture.close()
        raise Unreadable("a PostScript drawing; convert it to JPEG or PNG")
    return picture


def orientation_of(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; Pillow applies a TIFF's itself."""
    value = 1
    with suppress(Exception):  # odd metadata is no fault of the pixels
        value = picture.getexif().get(0x0112, 1)
    return int(value) if picture.format != "TIFF" and value in range(1, 9) else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to (H, W, 3)."""
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in ON_ITS_SIDE:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[::-1] if orientation == 8 else pixels)


def rgb(picture: Image.Image) -> np.ndarray:
    """Return uint8 (H, W, 3): 16 bits keep their upper 8, alpha is dropped, CMYK is converted plainly."""
    picture.load()
    if picture.mode == "RGB":
        return np.array(picture)
    tags = getattr(picture, "tag_v2", {})
    bits, negative, samples = tags.get(258, (16,)), tags.get(262) == 0, tags.get(339, (1,))
    if 2 in np.ravel(samples) or (negative and picture.mode != "L"):
        raise Unreadable("a TIFF whose samples are signed, or whose 0 is white; save it with 8 unsigned bits")
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        values = np.asarray(picture).astype(np.int64) >> (int(np.ravel(bits)[0]) - 8)
        return np.repeat(values.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode in ("F", "I"):
        raise Unreadable("32-bit pixels have no fixed range; save the picture with 8 or 16 bits")
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode == "L":
        return np.repeat(np.array(picture)[:, :, None], 3, axis=2)
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))


def scaled_to(
    pixels: np.ndarray, wanted: tuple[int, int], visible: tuple[float, float], start: tuple[float, float]
) -> np.ndarray:
    """Scale uint8 (H, W, 3) to (height, width), widths first: bilinear with antialiasing, on 8-bit values."""
    if (*wanted, *wanted) == (*pixels.shape[:2], *visible):
        return pixels
    most = 8 * max(len(pixels) * pixels.shape[1], wanted[0] * wanted[1])
    return in_two_passes(pixels, wanted, visible, start, most)


def in_two_passes(
    pixels: np.ndarray, wanted: tuple[int, int], visible: tuple[float, float], start: tuple[float, float], most: int
) -> np.ndarray:
    """Scale with at most so many pixels between the passes, as training does: thin pictures are cut, or halved."""
    top, left = start
    if wanted[1] * len(pixels) > most:
        reach = math.ceil(max(1.0, visible[0] / wanted[0])) + 1  # of the bilinear filter, to each side
        first = max(0, math.floor(top) - reach)
        pixels, top = pixels[first : math.ceil(top + visible[0]) + reach], top - first
    if wanted[1] * len(pixels) > most and wanted[0] > 1:
        n = wanted[0] // 2
        share = visible[0] * n / wanted[0]
        upper = in_two_passes(pixels, (n, wanted[1]), (share, visible[1]), (top, left), most)
        rest = (wanted[0] - n, wanted[1]), (visible[0] - share, visible[1]), (top + share, left)
        return np.concatenate((upper, in_two_passes(pixels, *rest, most)))
    height, how = len(pixels), Image.Resampling.BILINEAR
    narrowed = Image.fromarray(pixels).resize((wanted[1], height), how, (left, 0.0, left + visible[1], float(height)))
    rows = (0.0, top, float(wanted[1]), top + visible[0])
    return np.array(narrowed.resize((wanted[1], wanted[0]), how, rows))


def main() -> int:
    """Predict the files named on the command line."""
    parser = argparse.ArgumentParser(description="Predict pictures; one JSON object a line.")
    parser.add_argument("pictures", nargs="+", help="files")
    files, failed = parser.parse_args().pictures, 0
    print_utf8()
    try:
        for answer in Model().predict(files):
            failed += "error" in answer
            print(json.dumps(answer, ensure_ascii=False), flush=True)
    except BrokenPipeError:  # who reads has enough, as head; nothing more is written, also at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 3 if failed else 0


def print_utf8() -> None:
    """Print UTF-8 wherever this runs; a file's name that is none is written as JSON escapes it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
