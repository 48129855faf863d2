"""Bunches of a notebook's own data: what is drawn comes again, and what cannot be done says so in one sentence."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from onecycle.data.bunch import ImageDataBunch as ProductBunch
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError, OnecycleWarning
from onecycle.fastai1.bunch.loader import DeviceDataLoader
from onecycle.fastai1.bunch.own_data import DataBunch
from onecycle.fastai1.pictures.data import ImageDataBunch
from onecycle.fastai1.training.learner import Learner
from onecycle.train.loop import Callback
from onecycle.train.losses import BCEWithLogitsFlat
from onecycle.train.schedules import Constant


class Noisy(Dataset):
    """Draws with Python, numpy and torch each time."""

    c = 2

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return torch.tensor([i, random.random(), np.random.rand(), float(torch.rand(()))]), i % 2


class Tags(Noisy):
    c, classes = 3, ("x", "y", "z")

    def __getitem__(self, i):
        return super().__getitem__(i)[0], torch.tensor([1.0, 0.0, 1.0])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(4), 0)] * 5)


def made(kind=Noisy, **options):
    return DataBunch.create(kind(), kind(), **{"bs": 5, "device": "cpu", **options})


def learner(data, n=2, loss=None):
    torch.manual_seed(0)
    return Learner(data, nn.Linear(4, n), loss_func=loss or nn.CrossEntropyLoss(), silent=True)


def weights(learn):
    return torch.cat([p.detach().flatten() for p in learn.model.parameters()])


def test_draws_are_functions_of_seed_epoch_and_step():
    trained = []
    for seed in (1, 2):
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        learn = learner(made())
        learn.fit(2, 0.1)
        trained.append(weights(learn))
    assert torch.equal(*trained)


def test_the_state_of_the_user_s_generators_is_left_alone():
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    before = torch.rand(()), random.random(), np.random.rand()
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    list(made().train_dl)
    assert (torch.rand(()), random.random(), np.random.rand()) == before


def test_passes_differ_and_come_again():
    loader = made().train_dl
    first, second = (torch.cat([x for x, _ in loader]) for _ in range(2))
    assert not torch.equal(first, second)
    loader.set_epoch(0)
    assert torch.equal(torch.cat([x for x, _ in loader]), first)
    assert torch.equal(loader.batch_at(1, 2).x, second[10:15])


def test_a_fit_is_taken_up_again(tmp_path):
    class Stop(Callback):
        def on_batch_begin(self, trainer, batch, rng):
            if trainer.next_epoch == 1 and trainer.batch_no == 2:
                raise KeyboardInterrupt

    def run(name, *callbacks):
        learn = learner(made(path=tmp_path / name))
        learn.fit_schedule(3, Constant((0.1,)), callbacks=callbacks, resume=True)
        return weights(learn)

    with pytest.raises(KeyboardInterrupt):
        run("stopped", Stop())
    assert torch.equal(run("stopped"), run("whole"))


def test_kinds_of_targets():
    assert (made().is_multi, made().classes, made().is_regression) == (False, [0, 1], False)
    tags = made(Tags)
    assert (tags.is_multi, tags.classes) == (True, ["x", "y", "z"])
    learn = learner(tags, 3, BCEWithLogitsFlat())
    learn.fit(1)
    assert learn.interpret().confusion_matrix().sum() == 72
    unknown = made(lambda: TensorDataset(torch.zeros(9, 4), torch.zeros(9)))
    assert unknown.is_regression
    assert "targets of data sets of your own" in repr(learner(unknown, 1, nn.MSELoss()))
    with pytest.raises(AttributeError, match="training data set has 'c'"):
        _ = unknown.c


def test_a_bunch_of_pictures_made_of_loaders_is_one_of_loaders():
    loaders = DataLoader(Noisy(), 4), DataLoader(Noisy(), 4)
    data = ImageDataBunch(*loaders, device="cpu")
    assert type(data) is DataBunch
    assert isinstance(data, ProductBunch)
    assert type(ImageDataBunch(train_dl=loaders[0], valid_dl=loaders[1], device="cpu")) is DataBunch
    assert issubclass(ImageDataBunch, DataBunch)


def test_parts_that_are_set_and_sizes():
    data = made()
    data.train_dl = DataLoader(Noisy(), 6, sampler=WeightedRandomSampler([0.0] * 23 + [1.0], 12))
    assert torch.cat([x for x, _ in data.train_dl])[:, 0].tolist() == [23.0] * 12
    data.batch_size = 8
    assert [len(data.train_dl), len(data.valid_dl)] == [2, 3]
    data.valid_dl = data.valid_dl.new(batch_size=3)
    assert len(data.valid_dl) == 8
    learn = learner(data)
    learn.fit(1)
    assert len(learn.recorder.losses) == 2


def test_batches_in_a_list_are_a_loader():
    batches = [(torch.full((3, 4), float(i)), torch.tensor([0, 1, 1])) for i in range(4)]
    data = DataBunch(batches, batches[:2], device="cpu")
    learn = learner(data)
    learn.fit(2)
    assert (len(learn.recorder.losses), len(learn.get_preds()[0])) == (8, 6)
    data.add_tfm(lambda batch: (batch[0] * 2, batch[1]))
    assert [float(x[0, 0]) for x, _ in data.train_dl] == [0.0, 2.0, 4.0, 6.0]
    with pytest.raises(ArgumentError, match="this is of kind list"):
        learn.get_preds(DatasetType.Train)


def test_several_processes_give_what_one_gives_where_items_draw_nothing():
    sets = [TensorDataset(torch.arange(48.0).reshape(12, 4), torch.arange(12) % 2) for _ in range(2)]
    one, other = (DataBunch.create(*sets, bs=4, device="cpu", num_workers=n).train_dl for n in (0, 1))
    assert [x.tolist() for x, _ in one] == [x.tolist() for x, _ in other]


def test_without_validation():
    data = DataBunch.create(Noisy(), bs=5, device="cpu")
    assert data.empty_val
    learn = learner(data)
    learn.fit(1)
    assert learn.recorder.rows[0].valid_loss is None
    with pytest.raises(ArgumentError, match="'Valid'"):
        learn.get_preds()


def test_without_a_loss_it_is_v1s_and_said():
    with pytest.warns(OnecycleWarning, match="nll_loss, as in v1"):
        learn = Learner(made(), nn.Sequential(nn.Linear(4, 2), nn.LogSoftmax(1)), silent=True)
    learn.fit(1)
    data = made()
    data.loss_func = nn.NLLLoss()
    assert Learner(data, nn.Linear(4, 2)).loss_func is data.loss_func


@pytest.mark.parametrize("method", ["predict", "export", "TTA", "show_results", "fine_tune", "solve_head", "features"])
def test_what_needs_pictures_says_so(method):
    learn = learner(made())
    with pytest.raises(ArgumentError, match=rf"data sets or loaders of your own, and {method}\(\) needs pictures"):
        getattr(learn, method)()


@pytest.mark.parametrize("method", ["show_batch", "normalize", "export", "add_test", "audit"])
def test_what_a_bunch_of_ones_own_cannot_do(method):
    with pytest.raises(ArgumentError, match="there are no pictures"):
        getattr(made(), method)()


def test_interpretation_of_what_is_not_known():
    unknown = learner(made(lambda: TensorDataset(torch.zeros(9, 4), torch.zeros(9, dtype=torch.int64))))
    with pytest.raises(ArgumentError, match="does not say c or classes"):
        unknown.interpret()
    with pytest.raises(ArgumentError, match="files are not known"):
        learner(made()).interpret().plot_top_losses(4)


def test_batches_that_are_no_pairs():
    data = made(lambda: TensorDataset(torch.zeros(9, 4), torch.zeros(9), torch.zeros(9)))
    with pytest.raises(ArgumentError, match=r"a batch is \(x, y\), a tensor each; received list of Tensor, Tensor, Te"):
        learner(data).fit(1)
    with pytest.raises(ArgumentError, match="has no length"):
        DeviceDataLoader(DataLoader(Stream(), 2), "cpu")
    with pytest.raises(ArgumentError, match="a DataBunch is made of data sets"):
        DataBunch.from_folder(".")
    with pytest.raises(ArgumentError, match="none to count"):
        Learner(made(), nn.Linear(4, 2), loss_func=nn.CrossEntropyLoss(), class_weights="balanced")
