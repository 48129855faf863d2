"""The split of another run: the same pictures in each part, for the bunch and for the audit, or a clear refusal."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import pytest

from onecycle.errors import DataError, DataWarning
from onecycle.runs.build import layout_of, make_bunch, settled, split_of
from onecycle.runs.config import RunConfig
from onecycle.runs.split import read_split, split_like, split_text


@pytest.fixture
def colours(colour_path, tmp_path) -> Path:
    """Forty pictures with tags, and the split of one seed in ``first.csv``."""
    shutil.copytree(colour_path / "train", tmp_path / "colours" / "train")
    lines = (colour_path / "tags.csv").read_text().splitlines()[:41]
    (tmp_path / "colours" / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "first.csv").write_text(split_text(bunch_of(config_of(tmp_path / "colours", seed=1))))
    return tmp_path / "colours"


def config_of(data: Path, **given: object) -> RunConfig:
    asked = RunConfig.merged(None, {"data": str(data), "size": 32, **given})
    return settled(asked, layout_of(asked))


def bunch_of(config: RunConfig):
    return make_bunch(config, layout_of(config))


def test_another_seed_with_the_split_of_the_first_has_its_parts(colours, tmp_path):
    first, other = bunch_of(config_of(colours, seed=1)), bunch_of(config_of(colours, seed=2))
    assert first.split.valid.tolist() != other.split.valid.tolist()
    same = config_of(colours, seed=2, split=str(tmp_path / "first.csv"))
    data = bunch_of(same)
    assert data.split.valid.tolist() == first.split.valid.tolist()
    assert data.split.train.tolist() == first.split.train.tolist()
    assert split_of(same, layout_of(same)).valid.tolist() == first.split.valid.tolist()


def test_the_folder_of_a_run_means_its_split(colours, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(tmp_path / "first.csv", tmp_path / "run" / "split.csv")
    same = config_of(colours, seed=2, split=str(tmp_path / "run"))
    assert same.split == str((tmp_path / "run" / "split.csv").resolve())
    assert bunch_of(same).split.valid.tolist() == bunch_of(config_of(colours, seed=1)).split.valid.tolist()


def test_it_holds_where_the_disk_writes_accents_in_another_way(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    (tmp_path / "split.csv").write_text(f"file,part\n{nfc}1.jpg,train\n{nfd}2.jpg,valid\n", encoding="utf-8")
    split = split_like([f"{tmp_path}/{nfc}2.jpg", f"{tmp_path}/{nfd}1.jpg"], tmp_path, tmp_path / "split.csv")
    assert (split.train.tolist(), split.valid.tolist()) == ([1], [0])


def test_it_holds_when_labels_change(colours, tmp_path):
    before = bunch_of(config_of(colours, seed=1)).split.valid.tolist()
    table = colours / "labels.csv"
    table.write_text(table.read_text().replace(" even", "", 6))
    assert bunch_of(config_of(colours, split=str(tmp_path / "first.csv"))).split.valid.tolist() == before


def test_new_pictures_are_in_neither_part_which_is_said(colours, tmp_path):
    text = (tmp_path / "first.csv").read_text().splitlines()
    (tmp_path / "short.csv").write_text("\n".join(text[:-2]) + "\n")
    with pytest.warns(DataWarning, match="2 pictures came"):
        data = bunch_of(config_of(colours, split=str(tmp_path / "short.csv")))
    assert len(data.split.train) + len(data.split.valid) == 38


def test_pictures_that_are_gone_and_damaged_tables_are_refused(colours, tmp_path):
    (tmp_path / "gone.csv").write_text((tmp_path / "first.csv").read_text() + "train/gone.jpg,valid\n")
    with pytest.raises(DataError, match=r"1 picture of the split .*gone\.csv.*train/gone\.jpg"):
        bunch_of(config_of(colours, split=str(tmp_path / "gone.csv")))
    (tmp_path / "bad.csv").write_text("file,part\ntrain/p000.jpg,test\n")
    with pytest.raises(DataError, match="line 2, column part: expected train, valid or left out"):
        read_split(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "none.csv")
