from __future__ import annotations

import errno
import json
import os
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from train_toys import ToyLoader, toy_model, toy_trainer

from onecycle.errors import CheckpointError, DiskFullError, OnecycleWarning
from onecycle.files import write_whole
from onecycle.text import human_bytes
from onecycle.train import checkpoint as module
from onecycle.train.checkpoint import load_checkpoint, read_manifest, read_weights, save_checkpoint
from onecycle.train.log.recorder import Recorder
from onecycle.train.schedules import Constant

MANIFEST = {"classes": ["clear", "cloudy", "haze"], "epochs_done": 1}


def trained(**kwargs):
    trainer = toy_trainer(**kwargs)
    trainer.fit(1, Constant((1e-2, 1e-2), mom=0.8), ToyLoader(), recorder=Recorder())
    return trainer


def losses_of_next_fit(trainer):
    recorder, trainer.epochs_done = Recorder(), 1
    trainer.fit(1, Constant((1e-2, 1e-2)), ToyLoader(), recorder=recorder)
    return recorder.raw_losses


def save(trainer, stem, **kwargs):
    return save_checkpoint(stem, model=trainer.model, optimizer=trainer.optimizer, **{"manifest": MANIFEST, **kwargs})


def unchanged(model, action, match):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=match):
        action()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("opt_func", [torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9), torch.optim.Rprop])
def test_goes_on_to_the_bit(tmp_path, opt_func):
    first = trained(opt_func=opt_func)
    save(first, tmp_path / "stage-1.5")
    other = toy_trainer(toy_model(seed=9), opt_func=opt_func)
    report = load_checkpoint(
        tmp_path / "stage-1.5",
        model=other.model,
        optimizer=other.ensure_optimizer(),
        expected={"classes": ("clear", "cloudy", "haze")},
    )
    assert report.opt_loaded
    assert report.note == ""
    assert report.manifest == MANIFEST
    assert losses_of_next_fit(other) == losses_of_next_fit(first)


def test_files_say_what_they_are(tmp_path):
    path = save(trained(), tmp_path / "models" / "a")
    assert path == tmp_path / "models" / "a.safetensors"
    words = json.loads((tmp_path / "models" / "a.json").read_text())
    assert words["manifest"] == MANIFEST == read_manifest(tmp_path / "models" / "a")
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.json", "a.safetensors"]
    assert "optimizer.exp_avg.1.1.weight" in read_weights(path)


def test_types_ties_and_layouts_come_back(tmp_path):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low = nn.Parameter(torch.randn(2, 3).half())
            self.brain = nn.Parameter(torch.randn(2, 3).bfloat16())
            self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
            self.a = nn.Linear(3, 3)
            self.b = nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.register_buffer("count", torch.tensor(7))
            self.register_buffer("mask", torch.tensor([True, False]))
            self.register_buffer("nothing", torch.empty(0))

    first, second = Odd(), Odd()
    save_checkpoint(tmp_path / "odd", model=first, manifest={})
    second.count += 1
    load_checkpoint(tmp_path / "odd", model=second)
    for name, t in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], t), name
        assert second.state_dict()[name].dtype == t.dtype
    assert second.b.weight is second.a.weight
    assert second.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_other_classes_are_named(tmp_path):
    trainer = trained()
    save(trainer, tmp_path / "a")
    for classes, words in [
        (["clear", "dark", "haze"], r"number 1 is 'cloudy' in the file and 'dark' here"),
        (["clear", "cloudy"], r"'haze' is only in the file \(3 in the file, 2 here\)"),
    ]:
        load = partial(load_checkpoint, tmp_path / "a", model=trainer.model, expected={"classes": classes})
        unchanged(trainer.model, load, words)
    with pytest.raises(CheckpointError, match="None in the file"):
        load_checkpoint(tmp_path / "a", model=trainer.model, expected={"arch": "resnet34"})


def test_first_tensor_that_differs_is_named(tmp_path):
    save(trained(), tmp_path / "a")
    wider = nn.Sequential(toy_model()[0], nn.Sequential(nn.Dropout(), nn.Linear(8, 5)))
    load = partial(load_checkpoint, tmp_path / "a", model=wider)
    unchanged(wider, load, r"'1\.1\.weight' is 3×8 in the file and 5×8 in the model")
    more = nn.Sequential(*toy_model(), nn.Linear(3, 3))
    unchanged(more, partial(load_checkpoint, tmp_path / "a", model=more), r"'2\.weight' 3×3 of the model is not in")
    less = toy_model()[:1]
    unchanged(less, partial(load_checkpoint, tmp_path / "a", model=less), r"'1\.1\.bias' of the file is not in")
    load_checkpoint(tmp_path / "a", model=more, strict=False)
    assert torch.equal(more[1][1].weight, read_weights(tmp_path / "a.safetensors")["model.1.1.weight"])


def test_optimizer_of_another_freeze_state(tmp_path):
    trainer = trained()
    save(trainer, tmp_path / "a")
    frozen = toy_trainer()
    frozen.model[0].requires_grad_(False)
    optimizer = frozen.ensure_optimizer()
    where = "'0.0.weight' of layer group 0 trains in the file but not now"
    load = partial(load_checkpoint, tmp_path / "a", model=frozen.model, optimizer=optimizer)
    unchanged(frozen.model, partial(load, with_opt=True), where)
    report = load()
    assert not report.opt_loaded
    assert where in report.note
    assert torch.equal(frozen.model[1][1].weight, trainer.model[1][1].weight)
    assert load(with_opt=False).note == ""


def test_optimizer_of_another_class_or_none(tmp_path):
    save(trained(), tmp_path / "a")
    other = toy_trainer(opt_func=torch.optim.SGD)
    load = partial(load_checkpoint, tmp_path / "a", model=other.model)
    assert "state of Adam, the learner trains with SGD" in load(optimizer=other.ensure_optimizer()).note
    assert "no optimizer yet" in load().note
    save_checkpoint(tmp_path / "b", model=other.model, manifest={})
    bare = partial(load_checkpoint, tmp_path / "b", model=other.model, optimizer=other.optimizer)
    assert bare().note == ""
    with pytest.raises(CheckpointError, match="holds none"):
        bare(with_opt=True)


def test_damage_is_found(tmp_path):
    trainer = trained()
    path = save(trainer, tmp_path / "a")
    whole = path.read_bytes()
    load = partial(load_checkpoint, tmp_path / "a", model=trainer.model)
    path.write_bytes(whole[:-10])
    unchanged(trainer.model, load, "damaged")
    path.write_bytes(whole[:-10] + b"x" + whole[-9:])
    unchanged(trainer.model, load, "digest")
    path.write_bytes(b"")
    unchanged(trainer.model, load, "damaged")
    with pytest.raises(CheckpointError, match="damaged"):
        read_manifest(tmp_path / "a")


def test_a_pair_that_does_not_belong_together(tmp_path):
    trainer = trained()
    save(trainer, tmp_path / "a")
    save(trainer, tmp_path / "b", manifest={"classes": ["x"]})
    (tmp_path / "b.json").replace(tmp_path / "a.json")
    load = partial(load_checkpoint, tmp_path / "a", model=trainer.model)
    unchanged(trainer.model, load, r"a\.json does not belong to a\.safetensors.*delete a\.json")
    (tmp_path / "a.json").write_text("{")
    unchanged(trainer.model, load, "does not belong")
    (tmp_path / "a.json").unlink()
    assert load().manifest == MANIFEST


@pytest.mark.parametrize("cut", ["tensors", "JSON", "os.fsync"])
def test_a_crash_leaves_a_checkpoint_that_loads(tmp_path, monkeypatch, cut):
    trainer = trained()
    save(trainer, tmp_path / "a", manifest={"n": 1})

    def crash(*args, **kwargs):
        raise KeyboardInterrupt

    if cut == "os.fsync":
        monkeypatch.setattr("onecycle.files.os.fsync", crash)
    else:
        suffix = ".safetensors" if cut == "tensors" else ".json"
        monkeypatch.setattr(
            module, "write_whole", lambda path, data: (crash if path.suffix == suffix else write_whole)(path, data)
        )
    with pytest.raises(KeyboardInterrupt):
        save(trainer, tmp_path / "a", manifest={"n": 2})
    monkeypatch.undo()
    report = load_checkpoint(tmp_path / "a", model=trainer.model)
    assert report.manifest == {"n": 2 if cut == "JSON" else 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_write_whole_keeps_the_old_file_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    write_whole(path, b"old")

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr("onecycle.files.os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_missing_lists_what_is_there(tmp_path):
    save(trained(), tmp_path / "stage-1")
    with pytest.raises(CheckpointError, match=r"stage-2\.safetensors; saved there: stage-1\."):
        load_checkpoint(tmp_path / "stage-2", model=toy_model())
    with pytest.raises(CheckpointError, match="nothing is saved there"):
        read_weights(tmp_path / "none" / "x.pth")


def test_manifest_must_be_json(tmp_path):
    with pytest.raises(CheckpointError, match="JSON cannot"):
        save_checkpoint(tmp_path / "a", model=toy_model(), manifest={"bad": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_foreign_safetensors_is_not_taken_for_ours(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "f.safetensors")
    assert read_weights(tmp_path / "f.safetensors")["w"].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match="no onecycle checkpoint"):
        load_checkpoint(tmp_path / "f", model=toy_model())


def test_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "VERSION", 99)
    save(trained(), tmp_path / "a")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="update onecycle"):
        load_checkpoint(tmp_path / "a", model=toy_model())


def test_v1_checkpoint_with_its_optimizer(tmp_path):
    source, target = toy_model(seed=1), toy_model(seed=2)
    opt = {"opt": {"state": {}, "param_groups": [{"lr": np.float64(0.1), "moms": slice(None, 3e-3)}]}}
    torch.save({"model": source.state_dict(), **opt}, tmp_path / "v1.pth", _use_new_zipfile_serialization=False)
    report = load_checkpoint(tmp_path / "v1", model=target, expected={"classes": ["unknown to the file"]})
    assert report.manifest == {}
    assert torch.equal(source[1][1].weight, target[1][1].weight)


class Evil:
    def __reduce__(self):
        return (print, ("ran",))


def test_pickles_that_do_something_are_refused(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Evil()}))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            read_weights(tmp_path / name)
    assert "ran" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no named tensors, found list"):
        read_weights(tmp_path / "list.pth")


def test_saved_files_have_the_rights_that_other_new_files_have(tmp_path):
    (tmp_path / "plain").touch()
    path = save_checkpoint(tmp_path / "model", model=nn.Linear(2, 2), manifest={})
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_the_system_s_error_with_the_file(tmp_path, monkeypatch):
    stem = tmp_path / "models" / "best"
    model = toy_model()
    whole = save_checkpoint(stem, model=model, manifest={}).read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=rf"the disk is full \(it needs {human_bytes(len(whole))}, and") as caught:
        save_checkpoint(stem, model=model, manifest={})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(stem) + ".safetensors")
    assert [p.name for p in stem.parent.iterdir()] == ["best.safetensors"]
    assert stem.with_suffix(".safetensors").read_bytes() == whole


# --- damage -----------------------------------------------------------------------------------------


def with_header(path, change):
    """Write a checkpoint's file again with another header, as a text editor for such files would."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["header"])
    change(header)
    save_file(tensors, path, metadata={"header": json.dumps(header)})


def reverse_classes(header):
    header["manifest"]["classes"].reverse()


def swap_optimizer(header):
    header["optimizer"]["groups" if "groups" in header["optimizer"] else next(iter(header["optimizer"]))] = []


@pytest.mark.parametrize(
    "change",
    [
        reverse_classes,
        swap_optimizer,
        lambda header: header["aliases"].update({"model.0.0.weight": "model.1.1.weight"}),
        lambda header: header.pop("header_digest"),
        lambda header: header.pop("manifest"),
        lambda header: header.update(version=0),
        lambda header: header.update(version="2"),
        lambda header: header.update(digest=3),
        lambda header: header.update(more=1),
    ],
)
def test_a_header_that_was_changed_is_refused_without_the_json_beside_it(tmp_path, change):
    trainer = trained()
    path = save(trainer, tmp_path / "a")
    path.with_suffix(".json").unlink()
    with_header(path, change)
    unchanged(trainer.model, lambda: load_checkpoint(tmp_path / "a", model=trainer.model), "is damaged or cut short")
    with pytest.raises(CheckpointError, match="is damaged or cut short"):
        read_manifest(tmp_path / "a")


def test_a_file_of_version_1_beside_a_header_of_version_2_is_refused(tmp_path):
    trainer = trained()
    path = save(trainer, tmp_path / "a")

    def older(header):
        header["version"] = 1
        del header["header_digest"]

    with_header(path, older)
    unchanged(trainer.model, lambda: load_checkpoint(tmp_path / "a", model=trainer.model), "does not belong to")


def test_the_json_beside_is_read_where_it_is_a_file_of_its_size_alone(tmp_path):
    """A pipe was waited for, and a link followed wherever it led."""
    trainer = trained()
    beside = save(trainer, tmp_path / "a").with_suffix(".json")
    beside.unlink()
    os.mkfifo(beside)
    unchanged(trainer.model, lambda: load_checkpoint(tmp_path / "a", model=trainer.model), "no file that can be read")
    beside.unlink()
    (tmp_path / "elsewhere").write_text("{}")
    beside.symlink_to(tmp_path / "elsewhere")
    load_checkpoint(tmp_path / "a", model=trainer.model)


def test_a_file_of_version_1_still_loads_and_says_so(tmp_path):
    trainer = trained()
    path = save(trainer, tmp_path / "a")

    def older(header):
        header["version"] = 1
        del header["header_digest"]

    with_header(path, older)
    words = json.loads(path.with_suffix(".json").read_text())
    del words["header_digest"]
    path.with_suffix(".json").write_text(json.dumps(words | {"version": 1}))
    other = toy_trainer(toy_model(seed=9))
    with pytest.warns(OnecycleWarning, match="by an earlier onecycle.*none of its classes"):
        report = load_checkpoint(tmp_path / "a", model=other.model, optimizer=other.ensure_optimizer())
    assert (report.manifest, report.opt_loaded) == (MANIFEST, True)
    with_header(path, lambda header: header["aliases"].update({"model.x": "model.none"}))
    unchanged(other.model, lambda: load_checkpoint(tmp_path / "a", model=other.model), "is damaged")


@pytest.fixture(scope="module")
def other():
    return toy_trainer(toy_model(seed=9))


def state_of(stem, other):
    """Return all that a checkpoint gives, as values that can be compared."""
    report = load_checkpoint(stem, model=other.model, optimizer=other.ensure_optimizer())
    tensors, header = other.optimizer.state({p: n for n, p in other.model.named_parameters()})
    plain = {n: t.tolist() for n, t in [*other.model.state_dict().items(), *tensors.items()]}
    return plain, header, report.manifest


def test_every_flipped_bit_is_refused_or_without_effect(tmp_path, other):
    """One bit of every 13th byte of the header, and of 40 bytes of the rest."""
    path = save(trained(), tmp_path / "a")
    path.with_suffix(".json").unlink()
    whole, right = path.read_bytes(), state_of(tmp_path / "a", other)
    header_end = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    places = [*range(0, header_end, 13), *rng.integers(header_end, len(whole), 40)]
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            state = state_of(tmp_path / "a", other)
        except CheckpointError:
            refused += 1
        else:
            assert state == right, f"byte {place}"
    assert refused >= 0.9 * len(places)


def test_every_cut_is_refused(tmp_path, other):
    path = save(trained(), tmp_path / "a")
    path.with_suffix(".json").unlink()
    whole = path.read_bytes()
    for percent in range(0, 100, 4):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(CheckpointError):
            state_of(tmp_path / "a", other)


def test_a_flipped_bit_of_the_json_beside_is_refused_or_without_effect(tmp_path, other):
    path = save(trained(), tmp_path / "a")
    beside, right = path.with_suffix(".json"), state_of(tmp_path / "a", other)
    whole = beside.read_bytes()
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        beside.write_bytes(damaged)
        try:
            assert state_of(tmp_path / "a", other) == right, f"byte {place}"
        except CheckpointError:
            continue
