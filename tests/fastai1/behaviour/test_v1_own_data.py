"""Bunches of data sets and loaders of one's own, as lessons on tensors and kernels with a ``Dataset`` make them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


def points(n, seed):
    """Points in eight dimensions, whose class is where they are largest among the first three."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32))
    return x, x[:, :3].argmax(dim=1)


class Points(Dataset):
    """A data set as kernels write them."""

    c, classes = 3, ["a", "b", "c"]

    def __init__(self, n=60, seed=0):
        self.x, self.labels = points(n, seed)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.labels[i]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture
def data(vision, fastai, tmp_path):
    import fastai.basics

    sets = Points(64, 0), Points(30, 1), Points(9, 2)
    return fastai.basics.DataBunch.create(*sets, path=tmp_path, bs=10, num_workers=0)


def test_tensors_train(vision, fastai, tmp_path):
    from fastai.basics import DataBunch, Learner, accuracy

    sets = TensorDataset(*points(200, 0)), TensorDataset(*points(60, 1))
    data = DataBunch.create(*sets, bs=16, path=tmp_path, num_workers=0)
    x, y = next(iter(data.train_dl))
    assert (tuple(x.shape), tuple(y.shape), y.dtype) == ((16, 8), (16,), torch.int64)
    learn = Learner(data, network(), loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
    before = float(learn.validate()[0])
    learn.fit_one_cycle(4, 1e-2)
    loss, right = (float(v) for v in learn.validate())
    assert loss < 0.8 * before
    assert right > 0.7


def test_parts_and_their_batches(data):
    assert [len(dl) for dl in (data.train_dl, data.valid_dl, data.fix_dl, data.test_dl)] == [6, 3, 7, 1]
    assert [len(ds) for ds in (data.train_ds, data.valid_ds, data.fix_ds, data.test_ds)] == [64, 30, 64, 9]
    assert [len(y) for _, y in data.train_dl] == [10] * 6
    assert torch.cat([y for _, y in data.fix_dl]).tolist() == data.train_ds.labels.tolist()
    first, second = (torch.cat([x for x, _ in data.train_dl]) for _ in range(2))
    assert not torch.equal(first, second)
    assert (data.batch_size, data.train_dl.batch_size, data.train_dl.num_workers) == (10, 10, 0)
    assert (data.empty_val, data.device.type) == (False, data.train_dl.device.type)


def test_names_of_the_data_set_are_those_of_the_bunch(data):
    assert (data.c, list(data.classes)) == (3, ["a", "b", "c"])
    assert data.train_dl.labels is data.train_ds.labels
    with pytest.raises(AttributeError):
        _ = data.no_such_thing


def test_predictions(vision, data):
    learn = vision.Learner(data, network(), loss_func=nn.CrossEntropyLoss())
    learn.fit(1, 1e-2)
    outputs = learn.model(data.valid_ds.x.to(data.device)).softmax(dim=1)
    probs, targets = learn.get_preds()
    assert probs.tolist() == pytest.approx(np.array(outputs.tolist()), abs=1e-4)
    assert targets.tolist() == data.valid_ds.labels.tolist()
    assert len(learn.get_preds(ds_type=vision.DatasetType.Test)[0]) == 9
    assert len(learn.get_preds(ds_type=vision.DatasetType.Fix)[0]) == 64
    assert learn.pred_batch().shape == (10, 3)


def test_groups_the_finder_and_files(vision, data):
    learn = vision.Learner(data, network(), loss_func=nn.CrossEntropyLoss())
    learn.split(lambda model: (model[2],))
    learn.freeze()
    assert [p.requires_grad for p in learn.model.parameters()] == [False, False, True, True]
    learn.unfreeze()
    learn.lr_find(num_it=12)
    assert 0 < len(learn.recorder.lrs) <= 12
    learn.fit_one_cycle(1, slice(1e-4, 1e-2))
    before = [p.detach().clone() for p in learn.model.parameters()]
    learn.save("points")
    learn.fit(1, 1e-2)
    learn.load("points")
    assert all(torch.equal(p, q) for p, q in zip(learn.model.parameters(), before, strict=True))


def test_interpretation_where_classes_are_said(vision, data):
    learn = vision.Learner(data, network(), loss_func=vision.CrossEntropyFlat())
    interp = vision.ClassificationInterpretation.from_learner(learn)
    matrix = interp.confusion_matrix()
    assert (matrix.shape, matrix.sum()) == ((3, 3), 30)
    assert {name for a, b, _ in interp.most_confused() for name in (a, b)} <= {"a", "b", "c"}


def test_own_loaders(vision, fastai, tmp_path):
    from fastai.basics import DataBunch

    loaders = [DataLoader(Points(20, i), batch_size=5, shuffle=i == 0) for i in range(2)]
    data = DataBunch(*loaders, path=tmp_path)
    learn = vision.Learner(data, network(), loss_func=nn.CrossEntropyLoss())
    learn.fit(2)
    assert len(learn.recorder.val_losses) == 2
    assert len(learn.recorder.losses) == 8
    assert torch.cat([y for _, y in data.fix_dl]).tolist() == data.train_ds.labels.tolist()


def test_collate_fn_and_functions_of_batches(vision, tmp_path):
    def halves(items):
        return torch.stack([x / 2 for x, _ in items]), torch.stack([y for _, y in items])

    sets = Points(20, 0), Points(10, 1)
    data = vision.ImageDataBunch.create(*sets, bs=5, path=tmp_path, num_workers=0, collate_fn=halves)
    x, _ = next(iter(data.valid_dl))
    assert torch.equal(x.cpu(), sets[1].x[:5] / 2)
    data.add_tfm(lambda batch: (batch[0] + 1, batch[1]))
    x, _ = next(iter(data.valid_dl))
    assert torch.equal(x.cpu(), sets[1].x[:5] / 2 + 1)
    one = data.one_batch(vision.DatasetType.Valid)
    assert torch.equal(one[0], x.cpu())


def test_a_loader_alone(vision, fastai):
    from fastai.basics import DeviceDataLoader

    dl = DeviceDataLoader.create(Points(20, 0), bs=6, device=torch.device("cpu"), tfms=None, num_workers=0)
    assert [len(y) for _, y in dl] == [6, 6, 6, 2]
    assert [len(y) for _, y in dl.new(drop_last=True, batch_size=8)] == [8, 8]
    assert len(dl.dataset) == 20


def test_callbacks_are_told_of_each_batch(vision, data):
    seen = []

    class Look(vision.LearnerCallback):
        def on_batch_begin(self, last_input, last_target, train, **state):
            seen.append((train, len(last_target)))

    learn = vision.Learner(data, network(), loss_func=nn.CrossEntropyLoss(), callback_fns=[Look])
    learn.fit(1)
    assert seen == [(True, 10)] * 6 + [(False, 10)] * 3


def test_the_loss_of_the_data_set(vision, data):
    class Own(Points):
        @property
        def y(self):
            return self

        loss_func = nn.NLLLoss()

    sets = Own(20, 0), Own(10, 1)
    made = type(data).create(*sets, bs=5, num_workers=0)
    assert made.loss_func is Own.loss_func
    assert vision.Learner(made, network()).loss_func is Own.loss_func
