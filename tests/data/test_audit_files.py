"""What is found about files: unreadable, unusual, missing, left over, cut or blown up."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import PIL.Image
import pytest
from audit_toys import drawn, write

from onecycle.data.audit import files
from onecycle.data.pixels.resize import ResizeSpec

GREY = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def facts_of(path) -> files.FileFacts:
    (facts,), _ = files.scan([str(path)], silent=True)
    return facts


def findings(path) -> dict[str, files.Finding]:
    facts = facts_of(path)
    found = files.problem_findings(["x"], [facts]) + files.content_findings(["x"], [facts])
    return {f.kind: f for f in found}


def test_a_clean_picture_has_no_finding(tmp_path):
    path = write(tmp_path / "a.jpg", drawn(0, side=60))
    facts = facts_of(path)
    assert (facts.format, facts.mode, facts.height, facts.width, facts.bits) == ("JPEG", "RGB", 60, 60, 8)
    assert findings(path) == {}


def test_unreadable_files_are_named_with_the_reason(tmp_path):
    whole = write(tmp_path / "a.jpg", drawn(0, side=60)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    paths = [str(tmp_path / n) for n in ("a.jpg", "cut.jpg", "text.jpg", "gone.jpg")]
    facts, prints = files.scan(paths, silent=True)
    (found,) = files.problem_findings(paths, facts)
    assert (found.severity, found.kind, found.count) == ("error", "unreadable", 3)
    assert "runcated" in found.examples[0]
    assert found.examples[2].endswith("gone.jpg (no such file)")
    assert [bool(d) for d in prints.digests] == [True, False, False, False]


def save_animation(path):
    frames = [PIL.Image.fromarray(np.full((20, 20), 80 * i, np.uint8)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def save_cmyk(path):
    PIL.Image.fromarray(drawn(0, side=40)).convert("CMYK").save(path)


def save_turned(path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(drawn(0, side=40)[:30]).save(path, exif=exif)


def save_alpha(path):
    PIL.Image.fromarray(drawn(0, side=40)).convert("RGBA").save(path)


@pytest.mark.parametrize(
    ("name", "save", "severity", "kind"),
    [
        ("a.gif", save_animation, "warning", "animated"),
        ("a.tif", save_animation, "warning", "animated"),
        ("a.jpg", save_cmyk, "note", "cmyk"),
        ("a.png", lambda p: PIL.Image.fromarray(GREY).save(p), "warning", "16-bit"),
        ("a.tif", lambda p: PIL.Image.fromarray(GREY).save(p), "warning", "16-bit"),
        ("a.jpg", save_turned, "note", "exif-orientation"),
        ("a.png", save_alpha, "note", "alpha"),
        ("a.png", lambda p: PIL.Image.fromarray(drawn(0, side=40)).save(p, transparency=(0, 0, 0)), "note", "alpha"),
    ],
)
def test_unusual_files_are_reported(tmp_path, name, save, severity, kind):
    save(tmp_path / name)
    found = findings(tmp_path / name)
    assert list(found) == [kind]
    assert found[kind].severity == severity
    assert found[kind].advice


@pytest.mark.parametrize(
    ("top", "said"), [(1023, "than 3 of"), (4095, "than 15 of"), (16383, "than 63 of"), (65535, "")]
)
def test_a_picture_that_fills_a_part_of_its_16_bits_is_said_to_be_dark(tmp_path, top, said):
    values = np.linspace(0, top, 64 * 48).reshape(64, 48).astype(np.uint16)
    for suffix in ("png", "tif"):
        PIL.Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        (example,) = findings(tmp_path / f"a.{suffix}")["16-bit"].examples
        assert said in example
        assert ("nowhere brighter" in example) == bool(said)


def test_the_size_of_a_turned_picture_is_that_of_the_upright_one(tmp_path):
    save_turned(tmp_path / "a.jpg")
    facts = facts_of(tmp_path / "a.jpg")
    assert (facts.height, facts.width, facts.orientation) == (40, 30, 6)


def tiff(bands: int) -> bytes:
    """Write a TIFF of 4 × 4 pixels with bands of 8 bits."""
    pixels = bytes(16 * bands)
    entries = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
        (277, 3, 1, bands), (278, 3, 1, 4), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + table


def test_a_tiff_of_many_bands_says_so(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = facts_of(tmp_path / "a.tif").problem
    assert problem.startswith("a TIFF of 8 bands of 8 bits")


def test_grey_among_colour_is_noted_and_all_grey_is_not(tmp_path):
    write(tmp_path / "grey.png", drawn(0, side=40)[..., 0])
    write(tmp_path / "colour.png", drawn(1, side=40))
    facts, _ = files.scan([str(tmp_path / n) for n in ("grey.png", "colour.png")], silent=True)
    (found,) = files.content_findings(["grey.png", "colour.png"], facts)
    assert (found.kind, found.examples) == ("grey-among-colour", ("grey.png",))
    assert files.content_findings(["grey.png"], facts[:1]) == []


# -------------------------------------------------------------------- sizes


def sized(*shapes: tuple[int, int]) -> tuple[list[str], list[files.FileFacts]]:
    return [f"{h}x{w}" for h, w in shapes], [files.FileFacts(height=h, width=w) for h, w in shapes]


def kinds(found) -> list[str]:
    return [f.kind for f in found]


def test_pictures_of_one_fitting_size_have_no_finding():
    assert files.size_findings(*sized((100, 110), (100, 110)), ResizeSpec.make(64)) == []


def test_what_a_crop_cuts_away_is_reported_the_worst_first():
    names, facts = sized((100, 100), (100, 400), (100, 150), (100, 120))
    found = files.size_findings(names, facts, ResizeSpec.make(64))
    assert kinds(found) == ["crop", "sizes"]
    assert (found[0].count, found[0].examples) == (2, ("100x400 (75%)", "100x150 (33%)"))
    assert kinds(files.size_findings(names, facts, ResizeSpec.make(64, "squish"))) == ["sizes"]


def test_pictures_that_would_be_blown_up():
    found = files.size_findings(*sized((20, 20), (100, 100)), ResizeSpec.make(64))
    assert kinds(found) == ["small", "sizes"]
    assert found[0].examples == ("20x20 (20×20)",)


def test_different_sizes_without_a_resize_ask_for_one():
    (found,) = files.size_findings(*sized((50, 60), (60, 50)), ResizeSpec())
    assert "height 50–60 px" in found.message
    assert "0.83–1.20" in found.message
    assert "size=" in found.advice


@pytest.mark.parametrize(("shape", "share"), [((100, 100), 0.0), ((100, 200), 0.5), ((50, 200), 0.75)])
def test_the_share_that_a_square_crop_cuts(shape, share):
    assert files.cut_share(*shape, ResizeSpec.make(50)) == pytest.approx(share)


# -------------------------------------------------------------------- folders


def test_files_without_rows_and_files_that_are_no_pictures(tmp_path):
    for name in ("a.jpg", "b.jpg", "test.jpg", "c.heic", "labels.csv", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.jpg").touch()
    path = str(tmp_path / "a.jpg")
    pictures, others = files.files_without_rows([path], [str(tmp_path / "test.jpg")])
    assert [p.removeprefix(f"{tmp_path}/") for p in pictures] == ["b.jpg"]
    found = files.orphan_findings(pictures, others)
    assert kinds(found) == ["file-without-row", "other-file"]
    assert "1 .heic" in found[1].message


def test_a_folder_with_its_rows_and_its_table_has_no_finding(tmp_path):
    for name in ("a.jpg", "labels.csv", "README.md"):
        (tmp_path / name).touch()
    assert files.orphan_findings(*files.files_without_rows([str(tmp_path / "a.jpg")], [])) == []


def test_hints_at_the_file_that_is_meant(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").write_bytes(b"")
    assert files.suffix_hint(str(tmp_path / "train" / "a")) == " There is a.jpg: suffix='.jpg'."
    assert files.suffix_hint(str(tmp_path / "a")) == " There is train/a.jpg: folder='train', suffix='.jpg'."
    assert "write / between folders" in files.suffix_hint(f"{tmp_path}/train\\a.jpg")
    assert "has a blank before or after it" in files.suffix_hint(str(tmp_path / "train" / "a.jpg "))
    assert "path_parts=1 takes" in files.suffix_hint(str(tmp_path / "nowhere" / "a"))
    assert files.suffix_hint(str(tmp_path / "train" / "b")) == ""
    (tmp_path / "train" / "[1].jpg").write_bytes(b"")  # a name that a pattern of files would read otherwise
    assert files.suffix_hint(str(tmp_path / "train" / "[1]")) == " There is [1].jpg: suffix='.jpg'."
    assert files.suffix_hint(str(tmp_path / "train" / "?")) == ""
