"""The files behind the rows: which are there, which can be read, and what is in them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL.ImageFile import ImageFile

from onecycle.data.audit.findings import Finding, Severity, finding_of
from onecycle.data.audit.fingerprints import Fingerprints
from onecycle.data.labels.items import IMAGE_SUFFIXES
from onecycle.data.pixels.decode import JPEG, decode_for, orientation_of, scaled_by, upright_shape, whole_pixels
from onecycle.data.pixels.memory import room_for
from onecycle.data.pixels.picture_file import UNREADABLE, Samples, open_file, open_picture, reason
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec, resize_pixels
from onecycle.data.progress import work_through
from onecycle.text import by_place, option

if TYPE_CHECKING:
    from onecycle.data.pixels.store import PixelStore

_HUGE_PX, _EIGHTH = 50_000_000, 8  # a larger JPEG is fingerprinted at an eighth of its size
_LARGE_CUT = 0.25  # share of a picture's area that a crop takes away
_DARK = 64  # grey level that a picture with the whole range of its bits passes somewhere
_BLOWN_UP = 2.0  # a picture scaled up by more is mostly invented pixels
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What one file holds."""

    problem: str = ""  # why it cannot be read, "" if it can
    format: str = ""  # Pillow's name, e.g. ``JPEG``
    mode: str = ""  # Pillow's name of the kind of pixels, e.g. ``RGB``, ``L`` (grey), ``CMYK``
    height: int = 0  # px, EXIF orientation applied
    width: int = 0
    orientation: int = 1  # of EXIF, 1 (upright) to 8
    frames: int = 1  # more than 1 in an animation or a file of several pages
    bits: int = 8  # of a sample as stored
    bands: int = 3  # samples a pixel as stored
    alpha: bool = False  # a part may be transparent
    brightest: int = 255  # sample, of a picture with more than 8 bits, once 8 of them are taken


def missing_files(paths: Sequence[str]) -> list[int]:
    """Positions of paths that do not exist; one listing a folder instead of one look a file."""
    folders: dict[str, set[str]] = {}
    missing = []
    for i, path in enumerate(paths):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = set()
            with suppress(OSError, ValueError):  # no such folder, or one that may not be listed
                folders[folder] = set(os.listdir(folder or "."))
        if name not in folders[folder] and not os.path.exists(path):
            missing.append(i)
    return missing


def suffix_hint(path: str) -> str:
    """Name the suffix (or folder) that would have found the first missing file."""
    target, name = Path(path), Path(path).name.strip()
    if "\\" in path and os.path.exists(path.replace("\\", "/")):
        return " The names in the table have backslashes: write / between folders."
    if name not in ("", target.name) and os.path.exists(target.with_name(name)):
        return f" There is {name}: the name in the table has a blank before or after it."
    if not name:
        return ""
    if not os.path.isdir(target.parent):
        where = by_place("--folder says", "path= and folder= say")
        ends = f"of paths of another machine {option('path_parts', 1)} takes the file's name alone"
        return f" The folder {target.parent} does not exist: {where} where they are; {ends}."
    name = glob.escape(target.name)
    below = [p for p in sorted(target.parent.glob(f"*/{name}*")) if p.is_file()]
    near = next((p.relative_to(target.parent) for p in (*sorted(target.parent.glob(f"{name}.*")), *below)), None)
    if near is None:
        return ""
    values = {"folder": near.parent.name, "suffix": near.name[len(target.name) :]}
    said = {name: value for name, value in values.items() if value}
    options = by_place(" ", ", ").join(option(name, value) for name, value in said.items())
    return f" There is {near.as_posix()}: {options}."


def scan(
    paths: Sequence[str],
    *,
    silent: bool = False,
    threads: int = THREADS,
    store: PixelStore | None = None,
    of_row: Sequence[int | None] = (),
) -> tuple[list[FileFacts], Fingerprints]:
    """Decode every file once, in full: what is in it, and its fingerprint.

    Args:
        paths: N files.
        silent: draw no bar.
        threads: they never change the result.
        store: takes the pixels, where it has not decoded its pictures yet.
        of_row: which file each picture of the store is, None for one that is gone.
    """
    scanning = _Scan(paths)
    if store is not None and not store.filled:
        store.fill(None, decode=lambda row: scanning.sized(of_row[row], store.paths[row], store.spec))
    left = [i for i, facts in enumerate(scanning.facts) if facts is None]
    work_through("reading pictures", left, scanning.look, threads=threads, silent=silent or not left)
    return [facts for facts in scanning.facts if facts is not None], scanning.prints


def at_most(path: str, facts: FileFacts, side: int) -> np.ndarray | None:
    """Return a picture with at most ``side`` rows and columns, uint8 ``(H, W, 3)``; None if it cannot be read."""
    with suppress(*UNREADABLE):
        size = (max(1, min(facts.height, side)), max(1, min(facts.width, side)))
        return decode_for(path, ResizeSpec.make(size, ResizeMethod.SQUISH))
    return None


class _Scan:
    """What is in each of N files, as it comes to be known; threads may look at different ones at a time."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.facts: list[FileFacts | None] = [None] * len(paths)
        self.prints = Fingerprints.empty(len(paths))

    def look(self, i: int) -> None:
        """Look at a file; one that cannot be read is a fact too."""
        with suppress(*UNREADABLE):
            self._pixels(i, None)

    def sized(self, i: int | None, path: str, spec: ResizeSpec) -> np.ndarray:
        """Look at a file, and return the pixels that a store has of it; see ``decode_for``."""
        pixels = None if i is None or self.facts[i] is not None else self._pixels(i, spec)
        return decode_for(path, spec) if pixels is None else pixels

    def _pixels(self, i: int, spec: ResizeSpec | None) -> np.ndarray | None:
        try:
            with open_file(self.paths[i]) as file:
                data = file.read()
            with open_picture(data) as picture:
                facts = _facts(picture)  # first: some are gone when the pixels are decoded
                factor = 1 if spec is None else scaled_by(picture, spec)
                reduced = _EIGHTH if picture.format in JPEG and facts.height * facts.width > _HUGE_PX else 1
                with room_for(picture, reduced):
                    pixels = whole_pixels(picture, reduced)
                    self.prints.put(i, pixels)
                    stored = resize_pixels(pixels, spec) if spec and factor == reduced == 1 else None
        except UNREADABLE as error:
            self.facts[i] = FileFacts(problem=reason(error))
            raise
        self.facts[i] = replace(facts, brightest=int(pixels.max())) if facts.bits > 8 else facts
        return decode_for(data, spec) if spec and stored is None else stored


def _facts(picture: ImageFile) -> FileFacts:
    # Pillow reads 16-bit colour as 8-bit; only the raw mode of the file's tiles still tells.
    deep = picture.mode.startswith("I") or ";16" in str(getattr(picture, "tile", ""))
    samples, (height, width) = Samples.of(picture), upright_shape(picture)
    return FileFacts(
        format=picture.format or "",
        mode=picture.mode,
        height=height,
        width=width,
        orientation=orientation_of(picture),
        frames=_frames(picture),
        bits=samples.bits if deep else 8,
        bands=samples.bands or len(picture.getbands()),
        alpha="transparency" in picture.info or picture.mode in _WITH_ALPHA,
    )


def _frames(picture: ImageFile) -> int:
    """Count frames or pages, as far as they can be counted: only the first one is used."""
    with suppress(Exception):
        if picture.format != "MPO" and getattr(picture, "is_animated", False):
            return int(getattr(picture, "n_frames", 1))
    return 1


# -------------------------------------------------------------------- findings


def problem_findings(names: Sequence[str], facts: Sequence[FileFacts]) -> list[Finding]:
    """Report files that cannot be read; ``names`` as the user knows them, one a file."""
    bad = [f"{n} ({f.problem})" for n, f in zip(names, facts, strict=True) if f.problem]
    leave_out = by_place("train --allow unreadable", "unreadable='skip'")
    advice = f"mend or remove these files, or leave them out: {leave_out}"
    return finding_of("error", "unreadable", bad, f"of {len(facts):,} cannot be decoded", advice, unit="file")


_Table = tuple[tuple[str, Callable[[FileFacts], bool], str, str], ...]
"""Rows of kind, test, what follows the number of pictures, advice."""

_ODD_FILES: _Table = (
    ("animated", lambda f: f.frames > 1, "with several frames or pages, of which the first one is used",
     "save the frame that the label is about as a file of its own"),
    ("many-bands", lambda f: f.bands > 4, "with more than four bands, of which red, green and blue are used",
     "choose three bands and save them as RGB if others matter"),
    ("16-bit", lambda f: f.bits > 8, "with more than 8 bits a sample, of which the upper 8 are used",
     "where values fill only a part of the range, stretch them to 8 bits yourself"),
)  # fmt: skip

_REMARKS: _Table = (
    ("cmyk", lambda f: f.mode == "CMYK", "in CMYK, converted without a colour profile",
     "convert them to RGB if colours matter"),
    ("alpha", lambda f: f.alpha, "with transparent parts (alpha), which are shown as the colours stored there",
     "if those would mislead, paint them over"),
    ("exif-orientation", lambda f: f.orientation not in (0, 1), "turned by their EXIF orientation",
     "nothing here, where it is applied; other tools may ignore it"),
)  # fmt: skip


_GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")


def content_findings(names: Sequence[str], facts: Sequence[FileFacts]) -> list[Finding]:
    """Report readable files with unusual contents."""
    readable = [(n, f) for n, f in zip(names, facts, strict=True) if not f.problem]
    findings = []
    levels: tuple[tuple[Severity, _Table], ...] = (("warning", _ODD_FILES), ("note", _REMARKS))
    for severity, table in levels:
        for kind, test, what, advice in table:
            findings += finding_of(severity, kind, [n + _darkness(f) for n, f in readable if test(f)], what, advice)
    # Among coloured pictures, a network may learn the scanner instead of the class.
    grey = [n for n, f in readable if f.mode.split(";")[0] in _GREY_MODES]
    what = f"stored in grey among {len(readable) - len(grey):,} in colour"
    advice = "check that grey does not go with one label, or the network will learn that"
    mixed = grey if len(grey) < len(readable) else []
    return findings + finding_of("note", "grey-among-colour", mixed, what, advice)


def _darkness(facts: FileFacts) -> str:
    """Say how dark a picture of many bits is: 12 bits in a file of 16 come out nearly black."""
    dark = facts.brightest < _DARK
    return f" (nowhere brighter than {facts.brightest} of 255)" if dark else ""


def size_findings(names: Sequence[str], facts: Sequence[FileFacts], resize: ResizeSpec) -> list[Finding]:
    """Report what the resize would cut away or blow up."""
    rows = [(n, f) for n, f in zip(names, facts, strict=True) if not f.problem]
    if resize.size is None:
        return _spread(rows, resize)
    height, width = resize.size
    cut = [(share, n) for n, f in rows if (share := cut_share(f.height, f.width, resize)) > _LARGE_CUT]
    cut.sort(key=lambda pair: -pair[0])
    what = (
        f"of {len(rows):,} would lose more than a quarter of the area when cropped to {height}×{width} px, "
        f"at most {max(cut, default=(0.0,))[0]:.0%}"
    )
    advice = by_place("", "resize_method='squish' or 'pad' keeps all of it, or size=(height, width)")
    findings = finding_of("warning", "crop", [f"{n} ({share:.0%})" for share, n in cut], what, advice)
    small = [f"{n} ({f.height}×{f.width})" for n, f in rows if min(height / f.height, width / f.width) > _BLOWN_UP]
    what = "would be scaled up more than twice"
    findings += finding_of("note", "small", small, what, f"a smaller {option('size')} costs no detail")
    return findings + _spread(rows, resize)


def _spread(rows: Sequence[tuple[str, FileFacts]], resize: ResizeSpec) -> list[Finding]:
    shapes = Counter((f.height, f.width) for _, f in rows)
    if len(shapes) < 2:
        return []
    heights, widths = (sorted(s[i] for s in shapes.elements()) for i in (0, 1))
    ratios = sorted(w / h for h, w in shapes.elements())
    middle = len(rows) // 2
    advice = "" if resize.size else f"{option('size')} brings them to one, so that they can share a batch"
    message = (
        f"{len(shapes):,} different sizes: height {heights[0]}–{heights[-1]} px (median {heights[middle]}), width "
        f"{widths[0]}–{widths[-1]} px (median {widths[middle]}), width/height {ratios[0]:.2f}–{ratios[-1]:.2f}"
    )
    return [Finding("note", "sizes", len(shapes), message, advice=advice)]


def cut_share(height: int, width: int, resize: ResizeSpec) -> float:
    """Return the share of a picture's area that the crop to size takes away, 0 for other methods."""
    if resize.size is None or resize.method is not ResizeMethod.CROP:
        return 0.0
    return 1 - float(np.prod(resize.size) / np.prod(resize.scaled_shape(height, width)))


def files_without_rows(paths: Iterable[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Look in the folders of the pictures for files that no row names.

    Args:
        paths: the rows' files.
        known: other files that belong to the data, e.g. the test pictures.

    Returns:
        pictures without a row, and visible files that are no pictures by their suffix.
    """
    used = {os.path.abspath(p) for p in (*paths, *known)}
    pictures: list[str] = []
    others: list[str] = []
    for folder in sorted({os.path.dirname(p) or "." for p in paths}):
        if not os.path.isdir(folder):
            continue
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if entry.name.startswith(".") or not os.path.isfile(entry.path) or os.path.abspath(entry.path) in used:
                continue
            is_picture = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
            (pictures if is_picture else others).append(entry.path)
    return pictures, others


def orphan_findings(pictures: Sequence[str], others: Sequence[str]) -> list[Finding]:
    """Report what ``files_without_rows`` found, by names as the user knows them."""
    what = "in the folders that no row names: they are not used"
    advice = "add rows for them if their labels were forgotten"
    findings = finding_of("note", "file-without-row", pictures, what, advice)
    unread = [n for n in others if Path(n).suffix.lower() not in _TABLES_AND_TEXTS]
    kinds = Counter(Path(n).suffix.lower() or "no suffix" for n in unread)
    kinds_text = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common(5))
    what = f"beside the pictures that are not read ({kinds_text})"
    advice = "convert them to JPEG or PNG if they are pictures"
    return findings + finding_of("note", "other-file", unread, what, advice, unit="file")


_TABLES_AND_TEXTS = frozenset({".csv", ".tsv", ".txt", ".json", ".xml", ".yaml", ".yml", ".md", ".parquet", ".pdf"})
