"""The pixel store: pictures decoded and resized once, into a file of the cache or into memory."""

from __future__ import annotations

import mmap
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from onecycle.data.pixels import cache as pixel_cache
from onecycle.data.pixels import pixel_file
from onecycle.data.pixels.decode import decoder_version, picture_shape, uses_simplejpeg
from onecycle.data.pixels.image import Image, unreadable
from onecycle.data.pixels.memory import MOST_BYTES
from onecycle.data.pixels.packed import Failures, PackedPixels, PixelLayout
from onecycle.data.pixels.picture_file import UNREADABLE, Source, reason
from onecycle.data.pixels.pixel_file import CacheUnusable, Manifest, Say
from onecycle.data.pixels.reading import Reading, greyed
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec, resize_pixels
from onecycle.data.progress import work_through
from onecycle.errors import ArgumentError, DataError, DataWarning, Unreadable, UnreadableImagesError, warn
from onecycle.files import remove
from onecycle.settings import pixel_folder
from onecycle.text import by_place, human_bytes, option, shown_path

if TYPE_CHECKING:
    from array import array

LOADING_THREADS = min(16, os.cpu_count() or 1)

_CHOICES = ("disk", "memory", "off")


class PixelStore:
    """Resized pixels of N pictures, decoded once where there is room for them, else read anew each time.

    The file is written by one process, however many ask for it, and taken as it is by all later ones, until a picture,
    the size or a decoder changes. It is mapped, not read: what a batch does not need stays on the disk.

    Args:
        paths: the pictures.
        spec: the size that they are brought to (windows are cut later).
        cache: where decoded pictures are kept: ``disk`` (a file of the cache folder), ``memory``, or ``off``.
        max_bytes: the most that may be kept in memory, where ``cache`` says so or the disk cannot take them; default
            half of what is free now. Beyond it, pictures are decoded for each batch.
        threads: decoding threads; they never change the result.
        reading: how files are read; with a function of the user's, pixels are kept in memory at most, as a later run
            cannot know what that function did.

    Raises:
        ArgumentError: another value of ``cache``.
    """

    def __init__(
        self,
        paths: Sequence[str],
        spec: ResizeSpec,
        *,
        cache: str = "memory",
        max_bytes: int | None = None,
        threads: int = LOADING_THREADS,
        reading: Reading | None = None,
    ) -> None:
        if cache not in _CHOICES:
            raise ArgumentError(
                "pixel_cache is 'disk' (decoded pictures are kept in a file of the cache folder), 'memory' or 'off' "
                f"(they are decoded for each batch); received {cache!r}"
            )
        uses_simplejpeg()  # a wrong setting is no picture's fault
        self.paths = paths
        self.spec = spec
        self.reading = reading or Reading()
        self.cache = "memory" if cache == "disk" and self.reading.function is not None else cache
        self._read_ahead: dict[str, np.ndarray] = {}  # pixels by path, from a function that was called for their size
        self.max_bytes = default_store_bytes() if max_bytes is None else max_bytes
        self.threads = max(1, threads)
        self._packed: PackedPixels | None = None
        self._key: str | None = None  # of the file that is mapped
        self._failed: list[Unreadable] | None = None
        self._why_streamed = ""  # why nothing is kept
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._decode: Callable[[int], np.ndarray] | None = None  # another one that ``fill`` was called with
        self._said_damage = False
        self.decode_s: float | None = None  # that a picture took, in all threads; None where none was decoded here
        self.known_shapes: Mapping[str, tuple[int, int]] = {}  # of pictures whose headers were read already

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def filled(self) -> bool:
        """Whether every picture has been decoded (and so checked) once."""
        return self._failed is not None

    @property
    def is_packed(self) -> bool:
        """Whether the decoded pictures are kept, on the disk or in memory."""
        return self._packed is not None

    @property
    def in_memory(self) -> bool:
        """Whether the decoded pictures are kept in memory."""
        return self._packed is not None and self._packed.mapped is None

    @property
    def shapes(self) -> np.ndarray | None:
        """Heights and widths of the pictures as kept, int64 ``(N, 2)``; None where they are not kept."""
        packed = self._packed
        if packed is None:
            return None
        return np.tile(packed.shape or (0, 0), (len(self), 1)) if packed.table is None else packed.table[:, 1:]

    def describe(self) -> str:
        """Say in one clause where pixels come from."""
        if self._packed is None:
            if self.filled or self.cache == "off":
                return f"pixels decoded anew for each batch ({self._why_streamed or 'pixel_cache=off'})"
            return "pixels not decoded yet"
        where = f"in {shown_path(pixel_folder())}" if self._key else "on the disk, for this run only"
        where = "in memory" if self.in_memory else where
        return f"pixels decoded once ({human_bytes(self._packed.flat.nbytes)} {where})"

    def read(self, position: int) -> np.ndarray:
        """Return the resized pixels of one picture, uint8 ``(h, w, 3)``; not to be written to.

        Raises:
            UnreadableImagesError: the picture cannot be decoded.
        """
        self._check(np.array([position]))
        pixels = None if self._packed is None else self._packed.picture(position)
        if pixels is not None:
            return pixels
        try:
            return self.reading.pixels(self.paths[position], self.spec)
        except UNREADABLE as error:
            raise UnreadableImagesError(f"cannot read picture {self.paths[position]}: {reason(error)}") from error

    def gather(self, positions: np.ndarray, *, pinned: bool = False) -> tuple[torch.Tensor, np.ndarray]:
        """Return a batch's pixels on one canvas, each picture in the upper left corner.

        Args:
            positions: int64 ``(n,)``.
            pinned: gather them where a GPU can fetch them, without another copy.

        Returns:
            uint8 ``(n, stored_channels, H, W)`` (channels-last in memory) and int64 ``(n, 2)`` heights and widths.

        Raises:
            DataError: a picture that cannot be read, or ones of such different shapes that their canvas is too large.
        """
        self._check(positions)
        packed = self._packed
        if packed is not None and packed.shape is not None and packed.can_take(positions):
            canvas = empty_canvas((len(positions), *packed.shape, packed.channels), pinned=pinned)
            packed.take(positions, canvas.numpy())
            return canvas.permute(0, 3, 1, 2), np.tile(np.array(packed.shape, dtype=np.int64), (len(positions), 1))
        pictures = self.read_many(positions)
        shapes = np.array([p.shape[:2] for p in pictures], dtype=np.int64)
        self._check_canvas(positions, shapes)
        return on_one_canvas(pictures, shapes, pinned=pinned), shapes

    def will_need(self, positions: np.ndarray) -> None:
        """Announce a batch, int64 ``(n,)``, that is gathered soon: what lies on the disk is read meanwhile."""
        if self._packed is not None:
            self._packed.will_need(positions)

    def _check(self, positions: np.ndarray) -> None:
        """Decode again what is not as it was written to the disk, and say so; the next run makes the set anew.

        Raises:
            UnreadableImagesError: a damaged picture whose file cannot be read any more.
        """
        packed, key = self._packed, self._key
        damaged = [] if packed is None else packed.damaged(positions)
        if packed is None or not damaged:
            return
        where = (
            "a file of the pixel cache that has gone" if key is None else shown_path(pixel_file.file_path(key, ".bin"))
        )
        for position in damaged:
            path = self.paths[position]
            try:
                packed.mend(position, self.reading.pixels(path, self.spec))
            except UNREADABLE as error:
                raise UnreadableImagesError(
                    f"the decoded pixels of {path} in {where} are damaged, and the picture itself cannot be read "
                    f"again: {reason(error)}. Put the picture back, or run it again: the next run decodes all anew"
                ) from error
            finally:
                if key is not None:
                    remove(pixel_file.file_path(key, ".json"))  # nobody opens it any more
        if not self._said_damage:
            self._said_damage = True
            warn(
                f"{where} is damaged: the pixels of {self.paths[damaged[0]]} are not those that were written. What is "
                "damaged is decoded again now, and all of it in the next run; the disk may be failing",
                DataWarning,
            )

    def _check_canvas(self, positions: np.ndarray, shapes: np.ndarray) -> None:
        """Refuse a batch whose pictures are so thin and so different that the canvas of all is far larger than they."""
        channels = self.reading.stored_channels
        n_bytes = len(shapes) * int(shapes.max(axis=0).prod()) * channels
        if n_bytes > max(MOST_BYTES, 4 * int(shapes.prod(axis=1).sum()) * channels):
            tall, wide = shapes.argmax(axis=0)
            named = " and ".join(
                f"{self.paths[positions[i]]} ({shapes[i][0]:,}×{shapes[i][1]:,} px as stored)" for i in (tall, wide)
            )
            other = "resize_method='squish' or 'pad', "
            raise DataError(
                f"a batch with {named} takes {human_bytes(n_bytes)}: pass "
                f"{by_place('', other)}a smaller {option('size')} or a smaller {option('bs')}"
            )

    def read_many(self, positions: Iterable[int]) -> list[np.ndarray]:
        """Read several pictures, in threads where they must be decoded."""
        wanted = [int(p) for p in positions]
        if self._packed is not None or self.threads == 1:
            return [self.read(p) for p in wanted]
        if self._pool is None or self._pool[0] != os.getpid():  # made once, and anew in a forked process
            self._pool = os.getpid(), ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        return list(self._pool[1].map(self.read, wanted))

    def fill(self, say: Say | None = print, *, decode: Callable[[int], np.ndarray] | None = None) -> list[Unreadable]:
        """Decode every picture once, or find that done: keep the pixels if there is room.

        Args:
            say: takes a line for the user where something is not as asked for; None keeps quiet.
            decode: called in threads with each position to be decoded; it returns, or raises, what ``decode_for`` of
                this path and spec does. With it, who has to look at whole pictures anyway shares their decoding.

        Returns:
            The pictures that cannot be read.
        """
        say = say or _quiet
        if self._failed is None:
            self._decode = decode
            if self.cache == "disk" and len(self):
                self._fill_on_disk(say)
            else:
                self._fill_in_memory(self._layout(), say)
            self._decode = None
            if self._packed is not None:
                self._pool = None  # its threads end with it
        return self._failed or []

    # ---------------------------------------------------------------- decoding

    def _each_file(self, function: Callable[[list[int]], None], title: str) -> None:
        """Call a function with the positions of every file, in threads; several rows may name one."""
        firsts: dict[str, int] = {}
        others: dict[int, list[int]] = {}
        for i, path in enumerate(self.paths):
            first = firsts.setdefault(path, i)
            if first != i:
                others.setdefault(first, []).append(i)
        work_through(title, list(firsts.values()), lambda i: function([i, *others.get(i, ())]), threads=self.threads)

    def _layout(self) -> PixelLayout:
        """Find the shape of every picture; from its header, where it decides."""
        shapes, failures = np.zeros((len(self), 2), dtype=np.int32), Failures()

        def measure(positions: list[int]) -> None:
            try:
                shapes[positions] = self._stored_shape(self.paths[positions[0]])
            except UNREADABLE as error:
                failures.add(positions, error)

        if self.spec.method is ResizeMethod.SQUISH:
            shapes[:] = np.array(self.spec.size)
        else:
            self._each_file(measure, "reading picture sizes")
        return PixelLayout(shapes, failures, self.reading.stored_channels)

    def _stored_shape(self, path: str) -> tuple[int, int]:
        """Find the stored shape of one picture, by its header; a function of the user's must read it for that."""
        if self.reading.function is None:
            return self.spec.stored_shape(*(self.known_shapes.get(path) or picture_shape(path)))
        pixels = self.reading.pixels(path, self.spec)
        if sum(p.nbytes for p in list(self._read_ahead.values())[:1]) * len(self._read_ahead) < self.max_bytes // 2:
            self._read_ahead[path] = pixels
        return pixels.shape[0], pixels.shape[1]

    def _pixels_of(self, path: str) -> np.ndarray:
        ahead = self._read_ahead.pop(path, None)
        return self.reading.pixels(path, self.spec) if ahead is None else ahead

    def _decode_all(self, layout: PixelLayout, put: Callable[[int, np.ndarray], None] | None) -> None:
        """Decode every picture, and hand its position and its pixels, flat uint8, on."""
        decode_row = self._decode_row()

        def decode(positions: list[int]) -> None:
            if positions[0] in layout.failures.reasons:
                return
            try:
                pixels = decode_row(positions[0])
                if pixels.shape[:2] != tuple(layout.shapes[positions[0]]):
                    raise ValueError("the picture's size differs from what its header says")
            except UNREADABLE as error:
                layout.failures.add(positions, error)
                return
            if put is not None:
                flat = np.ascontiguousarray(pixels).reshape(-1)
                for position in positions:
                    put(position, flat)

        started = time.monotonic()
        self._each_file(decode, "decoding pictures")
        self.decode_s = (time.monotonic() - started) / max(1, len(self))

    def _decode_row(self) -> Callable[[int], np.ndarray]:
        decode = self._decode
        if decode is None:
            return lambda row: self._pixels_of(self.paths[row])
        return (lambda row: greyed(decode(row))) if self.reading.grey else decode

    def _unreadable(self, reasons: Iterable[tuple[int, str]]) -> list[Unreadable]:
        return [Unreadable(i, self.paths[i], why) for i, why in sorted(reasons)]

    # ---------------------------------------------------------------- in memory

    def _fill_in_memory(self, layout: PixelLayout, say: Say, *, why: str = "", room: bool = True) -> None:
        """Keep the pixels in memory if they fit and may be kept; check all pictures in any case.

        Args:
            layout: what goes where.
            say: takes a line for the user.
            why: the disk did not take them; a sentence without its end, or, without ``room``, with it.
            room: whether memory may take them instead.
        """
        size, keeps = human_bytes(layout.n_bytes), self.cache != "off" and room
        fits = keeps and layout.n_bytes <= self.max_bytes
        flat = np.empty(layout.n_bytes, dtype=np.uint8) if fits else None
        if why and fits:
            say(f"{why}: the decoded pictures are kept in memory ({size})")
        elif why:
            say(f"{why}: pictures are decoded anew in each epoch" if room else why)
        elif keeps and not fits:
            say(
                f"{len(self):,} decoded pictures take {size}, more than the {human_bytes(self.max_bytes)} that may "
                "be kept in memory: they are decoded anew in each epoch"
            )

        def put(position: int, pixels: np.ndarray) -> None:
            start = layout.offset(position)
            if flat is not None:
                flat[start : start + len(pixels)] = pixels

        self._decode_all(layout, put)
        self._failed = self._unreadable(layout.failures.reasons.items())
        if flat is None:
            self._why_streamed = f"{size} not kept" if self.cache != "off" else ""
            return
        flat.flags.writeable = False
        table = layout.table() if layout.shape is None else None
        bad, channels = frozenset(layout.failures.reasons), layout.channels
        self._packed = PackedPixels(flat=flat, shape=layout.shape, table=table, bad=bad, channels=channels)

    # ---------------------------------------------------------------- on the disk

    def _fill_on_disk(self, say: Say) -> None:
        """Map the file that holds these pixels, made now if there is none; else keep them in memory, or not at all."""
        stamps = pixel_file.stamps_of(self.paths)
        key = pixel_file.key_of(self.paths, stamps, self._recipe())
        if self._open(key, _quiet):
            return
        layout: PixelLayout | None = None
        why, room = "", True
        try:
            with pixel_cache.filling(key, say):
                if self._open(key, say):  # another process made it meanwhile
                    return
                layout = self._layout()
                if layout.n_bytes:
                    self._write(key, stamps, layout, say)
        except CacheUnusable as error:
            why, room = str(error), not isinstance(error, pixel_cache.TooLarge)
        if self._packed is None:
            self._fill_in_memory(layout or self._layout(), say, why=why, room=room)

    def _recipe(self) -> str:
        """Name all but the pictures that decides about the stored bytes."""
        size = "×".join(map(str, self.spec.size or ()))
        scaled = ", scaled decode" if self.spec.size and self.spec.scaled_decode else ""
        grey = ", grey" if self.reading.grey else ""
        return f"{decoder_version()}; {self.spec.method.name} {size}{scaled}{grey}"

    def _write(self, key: str, stamps: array[int], layout: PixelLayout, say: Say) -> None:
        """Decode into a new file; it gets its name unless something in it may be different next time."""
        span = pixel_file.Span.of(len(self), layout.n_bytes, layout.shape)
        sums = np.zeros(len(self), dtype=np.uint32)
        with pixel_cache.new_store(key, span.end, say=say) as unfinished:

            def put(position: int, pixels: np.ndarray) -> None:
                sums[position] = zlib.crc32(pixels.data)
                unfinished.write(layout.offset(position), pixels.data)

            self._decode_all(layout, put)
            table = (layout.table().tobytes() if layout.shape is None else b"") + sums.tobytes()
            unfinished.write(span.table, table)
            manifest = Manifest(
                n=len(self),
                n_bytes=unfinished.n_bytes,
                pixel_bytes=layout.n_bytes,
                shape=layout.shape,
                folder=os.path.dirname(os.path.abspath(self.paths[0])),
                recipe=self._recipe(),
                made=datetime.now(UTC).isoformat(timespec="seconds"),
                unreadable=sorted(layout.failures.reasons.items()),
                table_sum=zlib.crc32(table),
            )
            unlasting = self._why_unlasting(stamps, layout)
            if unlasting:
                say(f"{unlasting}: the decoded pictures are kept for this run only")
                with unfinished.path.open("rb") as file:
                    self._adopt(file, manifest)
                return
            unfinished.finish(manifest)
        if not self._open(key, say):
            raise CacheUnusable(f"The pixel cache {shown_path(pixel_folder())} lost what was written to it")

    def _why_unlasting(self, stamps: array[int], layout: PixelLayout) -> str | None:
        """Say why the next run may not find the same pixels, None if it will."""
        changed = pixel_file.first_change(stamps, pixel_file.stamps_of(self.paths))
        if changed is not None:
            return f"{self.paths[changed]} was changed while the pictures were decoded"
        if layout.failures.passing is not None:
            position = layout.failures.passing
            return f"{self.paths[position]} could not be read just now ({layout.failures.reasons[position]})"
        return None

    def _open(self, key: str, say: Say) -> bool:
        """Map the file of this key, if there is a whole one."""
        opened = pixel_file.open_store(key, say)
        if opened is None:
            return False
        file, manifest = opened
        with file:
            self._adopt(file, manifest)
        self._key = key
        return True

    def _adopt(self, file: BinaryIO, manifest: Manifest) -> None:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        everything = np.frombuffer(mapped, dtype=np.uint8)
        span = pixel_file.Span.of(manifest.n, manifest.pixel_bytes, manifest.shape)
        table = None
        if manifest.shape is None:
            table = everything[span.table : span.sums].view(np.int64).reshape(manifest.n, 3)
        self._packed = PackedPixels(
            flat=everything[: manifest.pixel_bytes],
            shape=manifest.shape,
            table=table,
            bad=frozenset(i for i, _ in manifest.unreadable),
            mapped=mapped,
            sums=everything[span.sums : span.end].view(np.uint32),
            read_ahead=manifest.pixel_bytes > free_bytes(),
        )
        self._failed = self._unreadable(manifest.unreadable)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process: threads, and the map of a file."""
        state = {**self.__dict__, "_pool": None}
        if self._packed is not None and self._packed.mapped is not None:
            state.update(_packed=None, _failed=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._key is not None and not self._open(self._key, _quiet):
            self._key = None  # the file has gone: ``fill`` makes it again


def _quiet(line: str) -> None:
    """Say nothing."""


def on_one_canvas(pictures: Sequence[np.ndarray], shapes: np.ndarray, *, pinned: bool = False) -> torch.Tensor:
    """Put pictures of any shapes into one tensor, each in the upper left corner, the rest 0.

    Args:
        pictures: uint8 ``(h, w, c)`` each; at least one.
        shapes: int64 ``(n, 2)``, their heights and widths.
        pinned: see ``gather``.

    Returns:
        uint8 ``(n, c, H, W)``, channels-last in memory.
    """
    height, width = (int(side) for side in shapes.max(axis=0))
    canvas = empty_canvas((len(pictures), height, width, pictures[0].shape[2]), pinned=pinned)
    if (shapes == shapes[0]).all():
        np.stack(pictures, out=canvas.numpy())
    else:
        canvas.zero_()
        for place, picture in zip(canvas.numpy(), pictures, strict=True):
            place[: picture.shape[0], : picture.shape[1]] = picture
    return canvas.permute(0, 3, 1, 2)


def empty_canvas(shape: tuple[int, ...], *, pinned: bool) -> torch.Tensor:
    """Return memory for a batch, uint8."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)


def default_store_bytes() -> int:
    """Return half of the memory that is free now: what decoded pictures may take."""
    return free_bytes() // 2


def free_bytes() -> int:
    """Return the memory that is free now, the system's own cache of files included."""
    try:
        with open("/proc/meminfo") as lines:
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 4 * 1024**3  # no such file outside Linux: a laptop can spare half of that


class PicturesInMemory(PixelStore):
    """Pictures from outside the data, brought to size by the same preprocess.

    A file is decoded as the data's own are, at a fraction of its size where the spec allows it; the pixels of an Image
    are taken as they are, and an array holds pixels uint8 ``(h, w, 3)`` that ``decode_for`` gave.
    """

    def __init__(
        self, pictures: Sequence[Image | Source | np.ndarray], spec: ResizeSpec, reading: Reading | None = None
    ) -> None:
        names = [f"picture {i}" for i in range(len(pictures))]
        super().__init__(names, spec, cache="off", threads=1, reading=reading)
        self._pictures = pictures

    def read(self, position: int) -> np.ndarray:
        """Return the resized pixels of one picture, uint8 ``(h, w, 3)``.

        Raises:
            DataError: a file that cannot be decoded.
        """
        picture = self._pictures[position]
        if isinstance(picture, np.ndarray):
            return picture
        try:
            if not isinstance(picture, Image):
                return self.reading.pixels(picture, self.spec)
            pixels = resize_pixels(self.reading.fitted(picture.numpy(), self.paths[position]), self.spec)
            return greyed(pixels) if self.reading.grey else pixels
        except UNREADABLE as error:
            raise unreadable(self.paths[position] if isinstance(picture, Image) else picture, error) from error
