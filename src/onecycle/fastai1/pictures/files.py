"""Lesson 2's files: pictures from lists of addresses, and a look whether all can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image

from onecycle.data.labels.items import IMAGE_SUFFIXES, list_images
from onecycle.data.pixels.image import open_image
from onecycle.data.pixels.picture_file import picture_bytes
from onecycle.errors import DataError
from onecycle.fastai1.pictures.arrays import resize_to
from onecycle.files import write_whole

__all__ = ["download_image", "download_images", "download_url", "get_files", "verify_image", "verify_images"]


def get_files(
    path: Any, extensions: Iterable[str] | None = None, recurse: bool = False, exclude: Any = None, include: Any = None,
    presort: bool = False, followlinks: bool = False,
) -> list[Path]:  # fmt: skip
    """List the files of a folder, sorted; hidden ones are left out.

    Args:
        path: the folder.
        extensions: keep only names that end so, whatever their case.
        recurse: look into folders below, too.
        exclude, include: names of folders directly below ``path``.
    """
    root, wanted = Path(path), None if extensions is None else {e.lower() for e in extensions}
    out, only = (set(map(str, v or ())) for v in (exclude, include))
    found = []
    for file in sorted(root.rglob("*") if recurse else root.iterdir()):
        parts = file.relative_to(root).parts
        hidden = any(part.startswith(".") for part in parts)
        top = parts[0] if len(parts) > 1 else None
        unwanted = top is not None and (top in out or (bool(only) and top not in only))
        if file.is_file() and not hidden and not unwanted and (wanted is None or file.suffix.lower() in wanted):
            found.append(file)
    return found


def download_url(url: str, dest: Any, overwrite: bool = False, timeout: float = 4, **_: Any) -> None:
    """Fetch one address into the file ``dest``, unless it is there.

    Raises:
        OSError: what ``requests`` raises.
    """
    if not overwrite and Path(dest).exists():
        return
    import requests

    answer = requests.get(url, timeout=timeout)
    answer.raise_for_status()
    write_whole(Path(dest), answer.content)


def download_image(url: str, dest: Any, timeout: float = 4) -> None:
    """Fetch one address; what goes wrong is printed."""
    try:
        download_url(url, dest, overwrite=True, timeout=timeout)
    except (OSError, ValueError) as error:  # of requests; an address that is none
        print(f"Error {url} {error}")


def download_images(urls: Any, dest: Any, max_pics: int = 1000, max_workers: int = 8, timeout: float = 4) -> None:
    """Fetch pictures into a folder, as ``00000000.jpg`` and so on; what goes wrong is printed.

    Args:
        urls: a file with an address a line, or a list of addresses.
        dest: the folder, made if missing.
        max_pics: the first so many.
        max_workers: at once.
        timeout: seconds to wait for each.
    """
    lines = Path(urls).read_text().splitlines() if isinstance(urls, (str, Path)) else list(urls)
    addresses = [line.strip() for line in lines if line.strip()][:max_pics]
    folder = Path(dest)
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(numbered: tuple[int, str]) -> None:
        i, url = numbered
        suffixes = [s.lower() for s in re.findall(r"\.\w+(?=\?|$)", url)]
        suffix = next((s for s in suffixes if s in IMAGE_SUFFIXES), ".jpg")
        download_image(url, folder / f"{i:08d}{suffix}", timeout)

    with ThreadPoolExecutor(max(1, max_workers)) as pool:
        list(pool.map(fetch, enumerate(addresses)))


def verify_image(file: Path, delete: bool, max_size: int | None, dest: Path, interp: Any, ext: str | None) -> None:
    """Look at one picture; see ``verify_images``."""
    try:
        picture = open_image(file)
    except DataError as error:
        print(f"{error}{'; deleted' if delete else ''}")
        if delete:
            file.unlink()
        return
    if max_size is None or max(picture.size) <= max_size:
        return
    pillow = PIL.Image.fromarray(picture.numpy())
    smaller = dest / f"{file.stem}{ext or file.suffix}"
    write_whole(smaller, picture_bytes(pillow.resize(resize_to(pillow, max_size), resample=interp), smaller))


def verify_images(
    path: Any, delete: bool = True, max_workers: int = 4, max_size: int | None = None, recurse: bool = False,
    dest: Any = ".", n_channels: int = 3, interp: Any = PIL.Image.Resampling.BILINEAR, ext: str | None = None, **_: Any,
) -> None:  # fmt: skip
    """Look whether all pictures of a folder can be read; what cannot is printed and, with ``delete``, deleted.

    v1 wrote pictures of other kinds (CMYK, say) anew as well; here they are read as they are, and left alone.

    Args:
        path: the folder.
        delete: delete what cannot be read.
        max_workers: at once.
        max_size: pictures with a longer side are written scaled down to it, into ``path/dest``.
        recurse: look into folders below, too.
        dest: folder below ``path`` for those; ``.`` for in their place.
        interp, ext: Pillow's interpolation, and another ending for what is written.
    """
    root = Path(path)

    def look(file: Path) -> None:
        verify_image(file, delete, max_size, file.parent if str(dest) == "." else root / dest, interp, ext)

    every: Callable[[Path], None] = look
    with ThreadPoolExecutor(max(1, max_workers)) as pool:
        list(pool.map(every, list_images(root, recurse=recurse)))
