"""Files that are no pictures, damaged ones and odd ones: each is named, or read; nothing else is raised."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import tempfile
import threading
import time
import zlib
from contextlib import suppress

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle.data.audit import files
from onecycle.data.labels.table import LabelTable
from onecycle.data.layout import find_layout
from onecycle.data.pixels import decode, memory, picture_file
from onecycle.data.pixels.image import from_pillow, open_image
from onecycle.data.pixels.memory import room_for
from onecycle.data.pixels.picture_file import UNREADABLE, open_picture, reason
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
RAMP = np.linspace(0, 65535, 240).reshape(12, 20).astype("<u2")
ORIENTATION = 0x0112


def written(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def why(data: object) -> str:
    """Return why a picture cannot be read, "" if it can."""
    try:
        decode.decode_rgb(data)
    except UNREADABLE as error:
        return reason(error)
    return ""


def box(brand: bytes, *others: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + bytes(4) + b"".join(others) + bytes(100)


# -------------------------------------------------------------------- what a file is


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "an empty file"),
        (bytes(300), "nothing but zeros"),
        (box(b"heic"), "HEIC"),
        (box(b"mif1", b"mif1", b"heic"), "HEIC"),
        (box(b"mif1", b"mif1"), "HEIF"),
        (box(b"crx "), "raw photograph"),
        (box(b"isom"), "video"),
        (b"<!DOCTYPE html><html>quota exceeded", "HTML"),
        (b"\xef\xbb\xbf\n<HTML>", "HTML"),
        ("<html>".encode("utf-16"), "HTML"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC>', "HTML"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG"),
        (b"<annotation><folder>", "XML"),
        (b'{"error": "rate limit"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "PostScript"),
        (b"PK\3\4abc", "archive"),
        (bytes(128) + b"DICM" + bytes(99), "DICOM"),
        (b"\x93NUMPY\1\0", "NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5"),
        (b"\xff\x0aabc", "JPEG XL"),
        (b"\xff\xd8\xff", "a JPEG that is damaged at its start"),
        (b"\x89PNG\r\n\x1a\n", "a PNG that is damaged at its start"),
        (b"Not Found", "text, not a picture; it starts with 'Not Found'"),
        ("ängström\n".encode() * 40, "text, not a picture"),
        (b"\x1b[31mred", "not a picture, or damaged at its start"),
        (b"/9j/4AAQSkZJRgABAQ", "base64"),
        (b"data:image/png;base64,iVBORw0KGgo", "base64"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "starts with ._"),
        (b"8BPS\0\1", "Photoshop"),
        (b"v/1\1\2\0\0\0", "high dynamic range"),
        (written(PIL.Image.fromarray(RGB), "WEBP")[:-9], "a WebP picture that is cut off or damaged"),
        (written(PIL.Image.fromarray(RGB), "TIFF", compression="tiff_lzw")[:-9], "a TIFF that is cut off"),
        (b"\xff", "not a picture, or damaged at its start"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(data, expected):
    assert expected in why(data)


def special(folder, kind: str) -> str:
    path = str(folder / "x.jpg")
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        os.mkdir(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    elif kind == "a device":
        os.symlink("/dev/zero", path)
    elif kind == "a link that leads back to itself":
        os.symlink(path, path)
    elif kind == "no such file":
        os.symlink(path + "nothing", path)
    elif kind == "NUL":
        return path.replace("x", "\0")
    else:
        return str(folder / ("x" * 300))
    return path


@pytest.mark.parametrize(
    "kind",
    ["a named pipe", "a folder", "a socket", "a device", "a link that leads back to itself", "no such file", "NUL",
     "File name too long"],
)  # fmt: skip
def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path, kind):
    path = special(tmp_path, kind)
    PIL.Image.fromarray(RGB).save(tmp_path / "good.png")
    assert kind in why(path)
    paths = [path, str(tmp_path / "good.png")]
    (facts, good), _ = files.scan(paths, silent=True)
    assert kind in facts.problem
    assert not good.problem
    (failed,) = PixelStore(paths, ResizeSpec.make(4), cache="disk").fill(None)
    assert (failed.path, failed.reason) == (path, facts.problem)
    with pytest.raises(DataError, match="cannot read"):
        open_image(path)


def test_a_folder_without_pictures_says_what_is_in_it(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.heic").write_bytes(box(b"heic"))
    for call in (lambda: find_layout(str(tmp_path)), lambda: LabelTable.from_folder(tmp_path)):
        with pytest.raises(DataError, match=r"no pictures in .*2 \.heic.*convert them to JPEG or PNG"):
            call()


def test_a_text_file_is_refused_and_a_stream_that_cannot_go_back_is_read(tmp_path):
    (tmp_path / "a").write_text("abc")
    with (tmp_path / "a").open() as file:
        assert "binary" in why(file)

    class Stream:
        def read(self, n: int = -1) -> bytes:
            return written(PIL.Image.fromarray(RGB), "PNG")

    assert np.array_equal(decode.decode_rgb(Stream()), RGB)


# -------------------------------------------------------------------- whatever a decoder raises


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), NotImplementedError(), OverflowError("x"), MemoryError(), IndexError("x"), TypeError("x"),
     KeyError("x"), SyntaxError("x"), ZeroDivisionError(), struct.error("x"), EOFError(), AttributeError("x"),
     UnicodeDecodeError("utf8", b"x", 0, 1, "x"), PIL.Image.DecompressionBombError("x"), RecursionError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("where", ["open", "pixels"])
def test_whatever_a_decoder_raises_is_one_bad_file(tmp_path, monkeypatch, error, where):
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path in paths:
        PIL.Image.fromarray(RGB).save(path)
    bad = os.stat(paths[0]).st_size
    with open(paths[0], "ab") as file:
        file.write(b"x")

    def fail(*args: object) -> None:
        raise error

    real = picture_file._read_by

    def read(reader, file, head):
        picture = real(reader, file, head)
        if file.seek(0, 2) != bad:
            if where == "open":
                fail()
            picture.load = fail
        return picture

    monkeypatch.setattr(picture_file, "_read_by", read)
    facts, _ = files.scan(paths, silent=True)
    assert [bool(f.problem) for f in facts] == [True, False]
    (failed,) = PixelStore(paths, ResizeSpec.make(4)).fill(None)
    assert failed.reason == facts[0].problem
    with pytest.raises(DataError, match=r"cannot read .*0\.png"):
        open_image(paths[0])


FORMATS = {
    "JPEG": {}, "PNG": {}, "GIF": {}, "BMP": {}, "PPM": {}, "TIFF": {}, "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF jpeg": {"compression": "jpeg"}, "WEBP": {}, "AVIF": {}, "JPEG2000": {}, "TGA": {}, "ICO": {}, "QOI": {},
    "PCX": {}, "SGI": {}, "DDS": {}, "JPEG progressive": {"progressive": True}, "MPO": {"save_all": True},
}  # fmt: skip
FILES = [written(PIL.Image.fromarray(RGB), name.split()[0], **options) for name, options in FORMATS.items()]
EXIF = PIL.Image.Exif()
EXIF[ORIENTATION] = 6
EXIF[0x010E] = "a picture"
FILES += [
    written(PIL.Image.fromarray(RGB), name, exif=EXIF.tobytes()) for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
]
FILES += [written(PIL.Image.fromarray(RAMP), name) for name in ("PNG", "TIFF", "JPEG2000")]
FILES += [written(PIL.Image.fromarray(RGB).convert("P"), name) for name in ("PNG", "GIF", "TIFF")]


@settings(max_examples=150, deadline=2000, derandomize=True)
@given(
    st.sampled_from(FILES),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    st.booleans(),
)
def test_a_damaged_file_is_read_or_named(data, keep, changes, early):
    damaged = bytearray(data[: int(len(data) * keep)] if not changes else data)
    for at, byte in changes:
        damaged[int(at * min(len(data), 120 if early else len(data)))] = byte
    problem = why(bytes(damaged))
    assert "\n" not in problem
    (facts,), _ = scanned(bytes(damaged))
    assert bool(facts.problem) == bool(problem)


def scanned(data: bytes):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return files.scan([file.name], silent=True)


# -------------------------------------------------------------------- odd metadata


def exif_entry(kind: int, count: int, value: bytes) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, ORIENTATION, kind, count) + value.ljust(4, b"\0") + bytes(4)


@pytest.mark.parametrize(
    "exif",
    [exif_entry(1, 1, b"\1"), exif_entry(7, 1, b"\1"), exif_entry(2, 4, b"top\0"), exif_entry(3, 1, b"\x63\0"),
     exif_entry(3, 2, b"\1\0\0\0"), exif_entry(3, 0, b""), exif_entry(9, 1, b"\xff\xff\xff\xff"),
     exif_entry(12, 1, b"\xff\0\0\0"), exif_entry(3, 2**31, b"\1"),
     b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, ORIENTATION, 5, 1, 26, 0) + bytes(8),
     b"Exif\0\0garbage!!", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_orientation_that_is_no_number_counts_as_upright(kind, exif):
    try:
        data = written(PIL.Image.fromarray(RGB), kind, exif=exif)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, struct.error, UserWarning):
        pytest.skip("Pillow does not write it")
    assert decode.decode_rgb(data).shape == RGB.shape
    assert decode.picture_shape(data) == RGB.shape[:2]
    assert scanned(data)[0][0].orientation == 1


def png_chunk(name: bytes, data: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "chunk",
    [png_chunk(b"tEXt", b"a\0b", crc=1), png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
     png_chunk(b"zTXt", b"a\0\0garbage"), png_chunk(b"iTXt", b"a\0\1\0\0\0garbage"), png_chunk(b"zTXt", b"a\0\7x"),
     png_chunk(b"iCCP", b"a\0\0garbage"), png_chunk(b"pHYs", b"1"), png_chunk(b"gAMA", b""), png_chunk(b"cHRM", b"1"),
     png_chunk(b"eXIf", b"MM\0"), png_chunk(b"abCd", b"whatever", crc=7)],
    ids=range(11),
)  # fmt: skip
def test_damaged_remarks_of_a_png_are_ignored(chunk, at_end):
    data = written(PIL.Image.fromarray(RGB), "PNG")
    cut = data.index(b"IEND") - 4 if at_end else 33
    assert np.array_equal(decode.decode_rgb(data[:cut] + chunk + data[cut:]), RGB)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize("at", [2, 20], ids=["first", "second"])
@pytest.mark.parametrize(
    "remark",
    [segment(0xE0, b"JFIF"), segment(0xE0, b"JFIF\0\1\1\7\0\0\0\0"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff<x"),
     segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="9"'), segment(0xE2, b"ICC_PROFILE\0\1"),
     segment(0xE2, b"ICC_PROFILE\0\5\2garbage"), segment(0xE2, b"MPF\0garbage"), segment(0xE3, b""),
     segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"), segment(0xEE, b"Adobe"), segment(0xFE, b"\xff\0caf\xe9"),
     segment(0xE1, b"Exif\0\0MM") + segment(0xE1, b"Exif\0\0II*\0"), segment(0xE1, exif_entry(5, 1, b"\x10\x27")[:-4])],
    ids=range(13),
)  # fmt: skip
def test_damaged_remarks_of_a_jpeg_are_ignored(remark, at):
    for mode in ("RGB", "L", "CMYK")[: 3 if at == 2 else 2]:  # one in CMYK has no first part of that length
        data = written(PIL.Image.fromarray(RGB).convert(mode), "JPEG")
        odd = data[:at] + remark + data[at:]
        assert np.array_equal(decode.decode_rgb(odd), decode.decode_rgb(data))
        assert decode.picture_shape(odd) == RGB.shape[:2]
        assert why(odd[: len(odd) // 2])


def test_a_jpeg_with_a_damaged_profile_is_still_turned():
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    data = written(PIL.Image.fromarray(RGB), "JPEG", exif=exif)
    odd = data[:2] + segment(0xE2, b"ICC_PROFILE\0\1") + data[2:]
    assert np.array_equal(decode.decode_rgb(odd), decode.decode_rgb(data))
    assert decode.decode_rgb(odd).shape == (20, 12, 3)


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_orientation_behind_the_pixels_of_a_png_counts_for_its_shape_too(orientation):
    data = written(PIL.Image.fromarray(RGB), "PNG")
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    end = data.index(b"IEND") - 4
    late = data[:end] + png_chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]
    early = written(PIL.Image.fromarray(RGB), "PNG", exif=exif)
    assert np.array_equal(decode.decode_rgb(late), decode.decode_rgb(early))
    assert decode.picture_shape(late) == decode.picture_shape(early) == decode.decode_rgb(late).shape[:2]
    for loaded in (False, True):
        with PIL.Image.open(io.BytesIO(late)) as picture:
            if loaded:
                picture.load()
            assert np.array_equal(shown(picture), decode.decode_rgb(late))


def test_damaged_pixels_of_a_png_are_not():
    data = written(PIL.Image.fromarray(RGB), "PNG")
    middle = len(data) // 2
    assert why(data[:middle] + bytes(20) + data[middle + 20 :])
    assert why(data[:33] + png_chunk(b"tEXt", b"a\0b", crc=1) + data[33:middle])


def test_a_damaged_second_frame_is_no_fault_of_the_first():
    frames = [PIL.Image.fromarray(np.full((9, 9, 3), i * 40, np.uint8)) for i in range(3)]
    data = written(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert not scanned(data[: len(data) * 2 // 3])[0][0].problem


# -------------------------------------------------------------------- grey levels


def tiff(
    bits: int, data: bytes, *, photometric: int = 1, form: int = 1, order: str = "<", extra: tuple[int, int] = ()
) -> bytes:
    """Write a grey TIFF of 12 × 20 pixels."""
    tags = [(256, 20), (257, 12), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, 12),
            (279, len(data)), *([extra] if extra else []), (339, form)]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(order + "HHII", t, 4, 1, start if t == 273 else v) for t, v in tags)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return head + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4) + data


def packed12(values: np.ndarray) -> bytes:
    a, b = values.reshape(-1, 2).astype(int).T
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()


EIGHT = (RAMP >> 8).astype(np.uint8)
GREYS = {
    "8 bits": tiff(8, EIGHT.tobytes()),
    "8 bits, 0 is white": tiff(8, (255 - EIGHT).tobytes(), photometric=0),
    "12 bits": tiff(12, packed12(RAMP >> 4)),
    "16 bits": tiff(16, RAMP.tobytes()),
    "16 bits, 0 is white": tiff(16, (65535 - RAMP).tobytes(), photometric=0),
    "8 bits of undefined format": tiff(8, EIGHT.tobytes(), form=4),
    "16 bits of undefined format": tiff(16, RAMP.astype(">u2").tobytes(), form=4, order=">"),
    "12 bits, 0 is white": tiff(12, packed12(4095 - (RAMP >> 4)), photometric=0),
    "16 bits, big-endian, 0 is white": tiff(16, (65535 - RAMP).astype(">u2").tobytes(), photometric=0, order=">"),
    "16 bits, big-endian": tiff(16, RAMP.astype(">u2").tobytes(), order=">"),
    "16 bits, deflated, 0 is white": written(
        PIL.Image.fromarray(65535 - RAMP), "TIFF", compression="tiff_deflate", tiffinfo={262: 0}
    ),
    "PNG": written(PIL.Image.fromarray(EIGHT), "PNG"),
    "PNG of 16 bits": written(PIL.Image.fromarray(RAMP), "PNG"),
    "JPEG 2000 of 16 bits": written(PIL.Image.fromarray(RAMP), "JPEG2000"),
    "PGM": written(PIL.Image.fromarray(EIGHT), "PPM"),
    "PGM of 16 bits": b"P5\n20 12\n65535\n" + RAMP.astype(">u2").tobytes(),
    "PGM to 4095": b"P5\n20 12\n4095\n" + (RAMP >> 4).astype(">u2").tobytes(),
    "PGM to 1023": b"P5\n20 12\n1023\n" + (RAMP >> 6).astype(">u2").tobytes(),
    "PGM as text": b"P2\n20 12\n65535\n" + " ".join(map(str, RAMP.ravel())).encode(),
    "palette": written(PIL.Image.fromarray(EIGHT).convert("P"), "PNG"),
    "with alpha": written(PIL.Image.fromarray(EIGHT).convert("LA"), "PNG"),
    "CMYK": written(PIL.Image.fromarray(np.dstack([0 * EIGHT] * 3 + [255 - EIGHT]), "CMYK"), "TIFF"),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_levels_are_right_to_one_level(name):
    results = [decode.decode_rgb(GREYS[name])]
    with suppress(PIL.UnidentifiedImageError):  # not every one of these is Pillow's to open
        results.append(shown(PIL.Image.open(io.BytesIO(GREYS[name]))))
    for pixels in results:
        assert np.abs(pixels.astype(int) - EIGHT[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff(8, EIGHT.tobytes(), form=2), "signed"),
        (tiff(16, RAMP.tobytes(), form=2), "signed"),
        (tiff(32, RAMP.astype("<u4").tobytes()), "32-bit"),
        (tiff(32, RAMP.astype("<f4").tobytes(), form=3), "32-bit"),
        (tiff(10, packed12(RAMP)), "a TIFF of 1 band of 10 bits"),
        (tiff(14, RAMP.tobytes()), "a TIFF of 1 band of 14 bits"),
        (tiff(8, EIGHT.tobytes(), form=2, photometric=0), "8 signed bits whose 0 is white"),
        (tiff(16, RAMP.tobytes(), form=2, photometric=0), "signed"),
        (tiff(16, (RAMP / 65535).astype("<f2").tobytes(), form=3), "16 floating-point bits"),
        (tiff(12, packed12(RAMP >> 4), order=">"), "a TIFF of 1 band of 12 bits"),
        (tiff(8, EIGHT.tobytes(), extra=(338, 0)), "1 of them neither grey nor colour"),
        (written(PIL.Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "32-bit"),
    ],
)
def test_samples_without_one_meaning_in_8_bits_are_named(data, expected):
    assert expected in why(data)
    assert expected in scanned(data)[0][0].problem


def with_preview(tags: dict[int, int]) -> bytes:
    return written(PIL.Image.fromarray(RGB), "TIFF", tiffinfo=tags)


@pytest.mark.parametrize(("tags", "is_raw"), [({254: 1, 330: 8}, True), ({50706: 1, 330: 8}, True), ({254: 1}, False),
                                              ({330: 8}, False)])  # fmt: skip
def test_the_preview_of_a_raw_photograph_is_not_taken_for_it(tags, is_raw):
    data = with_preview(tags)
    if is_raw:
        assert "raw photograph" in why(data)
    else:
        assert np.array_equal(decode.decode_rgb(data), RGB)


@pytest.mark.parametrize("damage", ["cut", "bad", "bands"])
def test_a_damaged_tiff_writes_nothing_to_the_screen(damage, capfd):
    data = bytearray(written(PIL.Image.fromarray(np.tile(RGB, (9, 9, 1))), "TIFF", compression="tiff_lzw"))
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "bad":
        data[len(data) // 2 :][:60] = b"\xff" * 60
        data[20:80] = b"\xff" * 60
    else:
        data = bytearray(
            tiff(16, RAMP.tobytes()).replace(struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 13))
        )
    why(bytes(data))
    assert capfd.readouterr() == ("", "")


# -------------------------------------------------------------------- what Pillow opened


def shown(picture: PIL.Image.Image) -> np.ndarray:
    """Return the pixels of what is taken from a Pillow picture."""
    result = from_pillow(picture)
    return decode.decode_rgb(result) if isinstance(result, bytes) else result.numpy()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_pillow_picture_is_turned_as_its_file_is(kind, orientation, loaded, monkeypatch):
    monkeypatch.setenv(decode.DECODER_VARIABLE, "pillow")
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    data = written(PIL.Image.fromarray(RGB), kind, exif=exif)
    pictures = [PIL.Image.open(io.BytesIO(data)) for _ in range(3)]
    if loaded:
        pictures[0].load()
    for picture in (pictures[0], pictures[1].copy(), PIL.ImageOps.exif_transpose(pictures[2])):
        assert np.array_equal(shown(picture), decode.decode_rgb(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LA", "PA", "La", "RGBa",
                                  "RGBX", "LAB", "I;16"])  # fmt: skip
def test_every_mode_of_pillow_is_shown(mode):
    picture = PIL.Image.fromarray(RAMP) if mode == "I;16" else PIL.Image.new(mode, (4, 3))
    assert shown(picture).shape == (*picture.size[::-1], 3)


def test_a_jpeg_that_pillow_opened_is_closed_and_still_there(tmp_path):
    PIL.Image.fromarray(np.tile(RGB, (20, 20, 1))).save(tmp_path / "a.jpg")
    spec = ResizeSpec.make(24)
    picture = PIL.Image.open(tmp_path / "a.jpg")
    for _ in range(2):
        data = from_pillow(picture)
        assert np.array_equal(decode.decode_for(data, spec), decode.decode_for(tmp_path / "a.jpg", spec))
    assert np.array_equal(np.asarray(picture), np.asarray(PIL.Image.open(io.BytesIO(data))))
    with (tmp_path / "a.jpg").open("rb") as file:
        from_pillow(PIL.Image.open(file))
        assert not file.closed


def test_a_frame_that_was_sought_and_edited_pixels_are_taken_as_they_are():
    frames = [PIL.Image.fromarray(np.full((9, 9), 80 * i, np.uint8)) for i in range(3)]
    with PIL.Image.open(io.BytesIO(written(frames[0], "GIF", save_all=True, append_images=frames[1:]))) as picture:
        picture.seek(2)
        assert (shown(picture) == 160).all()
    with PIL.Image.open(io.BytesIO(written(PIL.Image.fromarray(RGB), "JPEG"))) as picture:
        picture.paste((1, 2, 3), (0, 0, 20, 12))
        assert (shown(picture) == (1, 2, 3)).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pillow_picture_without_a_range_is_refused(mode):
    with pytest.raises(DataError, match="32-bit pixels have no fixed range"):
        from_pillow(PIL.Image.new(mode, (4, 3)))


def test_a_pillow_picture_whose_file_is_cut_off_or_closed_is_refused(tmp_path):
    data = written(PIL.Image.fromarray(RGB), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        pass
    cut = PIL.Image.open(io.BytesIO(data[: len(data) // 2]))
    for bad in (picture, cut):
        with pytest.raises((DataError, OSError)):
            shown(bad)


# -------------------------------------------------------------------- memory


def header_only(width: int, height: int) -> bytes:
    """Return a PNG of this size without pixels."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(bytes(9)))
    )


@pytest.mark.parametrize("sides", [(20_000, 20_000), (60_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_takes_too_much_memory_is_refused_before_it_is_decoded(sides):
    problem = why(header_only(*sides))
    assert f"{sides[0]:,} × {sides[1]:,} pixels take" in problem
    assert "scale the picture down" in problem


@pytest.mark.parametrize(("kind", "how"), [("PNG", {}), ("TIFF", {"compression": "group4"})])
def test_a_few_bytes_must_not_fill_the_memory(kind, how):
    page = PIL.Image.new("1", (4961, 7016))  # A4 at 600 dpi, blank
    with open_picture(written(page, kind, **how)) as picture, room_for(picture):
        assert picture.size == page.size
    larger = written(page.resize((7000, 9900)), kind, **how)
    assert "too much for a file of" in why(larger)
    if kind == "TIFF":  # what follows a PNG is not counted
        with open_picture(larger + bytes(200_000)) as picture, room_for(picture):  # as one with something on the page
            assert picture.size == (7000, 9900)


def test_a_big_jpeg_is_decoded_at_a_fraction(monkeypatch):
    data = written(PIL.Image.fromarray(np.tile(RGB, (40, 40, 1))), "JPEG")
    monkeypatch.setattr(memory, "MOST_BYTES", 480 * 800 * 8)
    assert "480" in why(data)
    assert decode.decode_for(data, ResizeSpec.make(48)).shape == (48, 80, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_wait_for_room_that_its_parent_holds(monkeypatch):
    data = written(PIL.Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(memory, "MOST_BYTES", RGB.shape[0] * RGB.shape[1] * 16)
    with open_picture(data) as picture, room_for(picture):
        child = os.fork()
        if not child:
            signal.alarm(5)
            with suppress(BaseException), open_picture(data) as again, room_for(again):
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_decodes_wait_for_their_turn_and_leave_room_after_an_error(monkeypatch):
    data = written(PIL.Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(memory, "MOST_BYTES", 2 * RGB.shape[0] * RGB.shape[1] * 16)
    at_once, most, lock = 0, 0, threading.Lock()

    def work(fail: bool) -> None:
        nonlocal at_once, most
        with open_picture(data) as picture, room_for(picture):
            with lock:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.005)
            with lock:
                at_once -= 1
            if fail:
                raise ValueError("x")

    def quietly(i: int) -> None:
        with suppress(ValueError):
            work(i % 3 == 0)

    threads = [threading.Thread(target=quietly, args=(i,)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 2
    assert not any(t.is_alive() for t in threads)
