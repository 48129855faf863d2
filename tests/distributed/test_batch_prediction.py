"""Batch prediction: each picture once, the same bits however often processes end, poisonous pictures set aside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from dying_workers import deadly, failing, killed, poisoned

from onecycle.cli.predict import files_of, run_predict
from onecycle.cli.predict_batch import InParts
from onecycle.cli.screen import Screen
from onecycle.deploy.exported import open_predictor
from onecycle.deploy.portable.predict import Model
from onecycle.distributed import predict_chunk
from onecycle.distributed.prediction.part import read_part
from onecycle.distributed.prediction.plan import BatchPrediction
from onecycle.distributed.prediction.tries import Tries
from onecycle.errors import ArgumentError, DataError, DistributedError
from onecycle.foreign import Refused

CHUNK = 5


def run(model: Path, pictures: Path, out: Path, **how) -> int:
    how = {"workers": 1, "chunk": CHUNK} | how
    return InParts(**how).run(model, files_of([pictures]), out, Screen(quiet=True), say_labels=lambda counts: None)


def table(out: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(p) for p in sorted((out / "parts").iterdir())], ignore_index=True)


def parts(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "parts").iterdir())}


@pytest.fixture(scope="module")
def alone(exported, pictures, tmp_path_factory) -> Path:
    """What one process gives."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert run(exported, pictures, out) == 3  # a file is no picture
    return out


def test_each_picture_is_there_once_as_the_model_answers_it(alone, exported, pictures):
    found, files = table(alone), files_of([pictures])
    assert list(found["name"]) == files
    said = open_predictor(exported).predict(files)
    assert [found["status"][i] for i in range(len(files)) if i not in said.rows] == ["unreadable"]
    good = found[found["status"] == "predicted"]
    assert np.allclose(np.stack(list(good["probabilities"])), said.shown_probs, atol=1e-6)
    assert [tuple(names) for names in good["labels"]] == [said.names_of(d) for d in said.decided]
    assert "cannot identify" in found.loc[found["status"] == "unreadable", "reason"].item()
    manifest = json.loads((alone / "manifest.json").read_text())
    assert (manifest["pictures"], manifest["predicted"], manifest["unreadable"]) == (24, 23, 1)
    assert len(manifest["sha256"]) == 5
    assert set(found["model"]) == {manifest["plan"]["model"]}


def test_the_zip_of_an_export_is_the_same_model_and_nothing_is_predicted_twice(alone, exported, pictures, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(alone, out)
    before = {p: p.stat().st_mtime_ns for p in (out / "parts").iterdir()}
    assert run(exported.with_name("model.zip"), pictures, out, work=None) == 3
    assert {p: p.stat().st_mtime_ns for p in (out / "parts").iterdir()} == before


def test_what_is_damaged_or_missing_is_predicted_again_alone(alone, exported, pictures, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(alone, out)
    paths = sorted((out / "parts").iterdir())
    paths[1].unlink()
    data = bytearray(paths[2].read_bytes())
    data[len(data) // 3] ^= 0xFF
    paths[2].write_bytes(data)
    paths[3].write_bytes(paths[3].read_bytes()[:-7])
    shutil.copy(paths[0], paths[4])
    with pytest.warns(UserWarning, match="predicted again") as said:
        assert run(exported, pictures, out, chunk=None) == 3
    assert [p.name in str(w.message) for p, w in zip(paths[2:], said, strict=True)] == [True] * 3
    assert parts(out) == parts(alone)


def test_no_changed_byte_of_a_part_gives_other_answers(alone, tmp_path):
    """The checksums of parquet's pages leave out some: a changed value there was taken."""
    batch = BatchPrediction.open(alone)
    whole, answers = batch.part(2).read_bytes(), pq.read_table(batch.part(2)).to_pylist()
    shutil.copytree(alone, tmp_path / "out")
    other, seen = BatchPrediction.open(tmp_path / "out"), 0
    for at in range(0, len(whole), 7):
        other.part(2).write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert read_part(other, 2).statuses.total() == len(answers)
        except Refused:
            seen += 1
        else:
            assert pq.read_table(other.part(2)).to_pylist() == answers
    assert seen > len(whole) / 7 / 3


@pytest.mark.parametrize(
    ("change", "message"),
    [({"thresh": 0.4}, "thresh"), ({"chunk": 7}, "chunk is 7, not 5"), ({"pictures": "fewer"}, "pictures are others")],
)
def test_another_prediction_in_the_same_folder_is_refused(change, message, alone, exported, pictures, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(pictures, fewer, ignore=shutil.ignore_patterns("p0*"))
    source = fewer if change.pop("pictures", None) else pictures
    with pytest.raises(ArgumentError, match=message):
        run(exported, source, alone, **change)


def test_another_model_and_a_folder_of_other_things_are_refused(alone, exported, pictures, tmp_path):
    batch = BatchPrediction.open(alone)
    other = BatchPrediction(tmp_path, replace(batch.plan, model="0" * 64))
    with pytest.raises(ArgumentError, match="the model is another"):
        other.check_same(batch.plan, chunk_asked=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"notes\.txt"):
        run(exported, pictures, tmp_path / "mine")
    with pytest.raises(DataError, match="has no plan"):
        predict_chunk(exported, tmp_path / "parts" / "part-00000.parquet")


def test_a_scheduler_can_predict_the_chunks_in_any_order(alone, exported, pictures, tmp_path):
    out = tmp_path / "out"
    assert run(exported, pictures, out, workers=0) == 0
    assert parts(out) == {}
    for k in (4, 2, 0, 2):
        counted = predict_chunk(exported, out / "parts" / f"part-{k:05d}.parquet", threads=1)
        assert counted.pictures == (4 if k == 4 else 5)
    with pytest.raises(DataError, match="has 5 chunks"):
        predict_chunk(exported, out / "parts" / "part-00005.parquet")
    assert not (out / "manifest.json").exists()
    assert run(exported, pictures, out) == 3
    assert parts(out) == parts(alone)


def test_an_export_predicts_in_place_of_its_run(exported, pictures, tmp_path, capsys):
    for model in (exported, exported.with_name("model.zip")):
        out = tmp_path / f"{model.name}.json"
        assert run_predict(model, [pictures], out=out) == 3
        said = capsys.readouterr().out
        assert "model: 23 pictures predicted" in said
        assert "onecycle evaluate" not in said
        found = [json.loads(line) for line in out.read_text().splitlines()]
        answers = {answer["file"]: answer.get("labels") for answer in Model(exported).predict(files_of([pictures]))}
        assert {one["file"]: one.get("labels") for one in found} == answers


# --- processes that end ------------------------------------------------------------------------------------------


def test_killed_workers_are_started_again_and_change_no_bit(alone, exported, pictures, tmp_path):
    kills, out = tmp_path / "kills", tmp_path / "out"
    kills.mkdir()
    for n in range(5):
        (kills / str(n)).touch()
    assert run(exported, pictures, out, workers=3, work=partial(killed, folder=kills, seed=1)) == 3
    assert list(kills.iterdir()) == []
    assert parts(out) == parts(alone)
    assert list((out / "tries").iterdir()) == []


def test_pictures_that_end_their_process_are_set_aside_by_name_with_the_rest_done(alone, exported, pictures, tmp_path):
    names, out = ("p07.png", "p09.png"), tmp_path / "out"
    assert run(exported, pictures, out, workers=2, work=partial(poisoned, names=names)) == 3
    found = table(out)
    aside = found["status"] == "set aside"
    assert [Path(name).name for name in found[aside]["name"]] == list(names)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [Path(name).name for name in manifest["set_aside_names"]] == list(names)
    assert (manifest["predicted"], manifest["unreadable"], manifest["set_aside"]) == (21, 1, 2)
    rest = table(alone)[~aside]
    pd.testing.assert_frame_equal(found[~aside], rest)


def test_a_chunk_that_ends_every_process_is_named_at_the_end_and_the_others_are_there(exported, pictures, tmp_path):
    with pytest.raises(DistributedError, match=r"part-00001\.parquet"):
        run(exported, pictures, tmp_path / "out", workers=2, work=deadly)
    assert len(parts(tmp_path / "out")) == 4
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_error_of_a_worker_is_that_of_the_command(exported, pictures, tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        run(exported, pictures, tmp_path / "out", workers=2, work=failing)
    assert caught.value.errno == 28


def test_notes_are_read_also_where_the_last_one_is_torn(tmp_path):
    path = tmp_path / "tries" / "chunk-00000.txt"
    for _ in range(3):
        tries = Tries(path)
        tries.begin()
        tries.note(3)
        tries.note(7)
        tries.end()
    path.write_text(path.read_text() + "ab12 ")
    tries = Tries(path)
    assert (tries.n_before, tries.set_aside) == (3, [7])
    tries.begin()
    tries.note(4)
    tries.note(None)
    tries.end()
    assert (Tries(path).n_before, Tries(path).set_aside) == (4, [7])
    tries.forget()
    assert not path.exists()
