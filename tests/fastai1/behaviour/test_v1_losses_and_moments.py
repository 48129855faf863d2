"""Losses of any shape, what callbacks are told outside of a fit, files of epochs, and grey pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_cross_entropy_of_sequences_and_maps(vision):
    logits, targets = drawn(4, 5, 3), torch.arange(20).reshape(4, 5) % 3
    wanted = F.cross_entropy(logits.reshape(-1, 3), targets.reshape(-1))
    assert float(vision.CrossEntropyFlat()(logits, targets)) == pytest.approx(float(wanted), abs=1e-6)
    maps, classes = drawn(2, 3, 4, 4), torch.arange(32).reshape(2, 1, 4, 4) % 3
    wanted = F.cross_entropy(maps, classes[:, 0])
    assert float(vision.CrossEntropyFlat(axis=1)(maps, classes)) == pytest.approx(float(wanted), abs=1e-6)
    weighted = vision.CrossEntropyFlat(weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=0)
    wanted = F.cross_entropy(logits.reshape(-1, 3), targets.reshape(-1), torch.tensor([1.0, 2.0, 3.0]), ignore_index=0)
    assert float(weighted(logits, targets)) == pytest.approx(float(wanted), abs=1e-6)


def test_binary_cross_entropy_of_a_column(vision):
    logits, targets = drawn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    wanted = F.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
    assert float(vision.BCEWithLogitsFlat()(logits, targets)) == pytest.approx(float(wanted), abs=1e-6)
    each = vision.BCEWithLogitsFlat(reduction="none")(logits, targets)
    assert each.shape == (6,)


def test_the_loss_of_mixed_targets(vision, fastai):
    from fastai.callbacks.mixup import MixUpLoss

    logits = drawn(4, 3)
    mixed = torch.tensor([[0, 1, 0.7], [2, 2, 1.0], [1, 0, 0.5], [0, 2, 0.9]])
    first, second = (F.cross_entropy(logits, mixed[:, i].long(), reduction="none") for i in range(2))
    wanted = first * mixed[:, 2] + second * (1 - mixed[:, 2])
    inside = nn.CrossEntropyLoss()
    made = MixUpLoss(inside)
    assert float(made(logits, mixed)) == pytest.approx(float(wanted.mean()), abs=1e-6)
    assert float(MixUpLoss(F.cross_entropy, "sum")(logits, mixed)) == pytest.approx(float(wanted.sum()), abs=1e-5)
    plain = torch.tensor([0, 1, 2, 0])
    assert float(made(logits, plain)) == pytest.approx(float(F.cross_entropy(logits, plain)), abs=1e-6)
    assert made.get_old() is inside
    assert inside.reduction == "mean"


@pytest.fixture
def learn(vision, path, tmp_path):
    data = vision.ImageDataBunch.from_folder(path, bs=4, num_workers=0, size=16)
    return vision.Learner(data, vision.simple_cnn((3, 4, 2)), metrics=vision.accuracy, path=tmp_path)


def test_validation_outside_of_a_fit_tells_callbacks(vision, learn):
    from fastai.torch_core import add_metrics

    told = []

    class Look(vision.LearnerCallback):
        def on_train_begin(self, **state):
            told.append("train")

        def on_epoch_begin(self, **state):
            told.append("epoch")

        def on_batch_begin(self, last_input, train, **state):
            told.append((len(last_input), train))

        def on_batch_end(self, last_loss, **state):
            told.append(float(last_loss) > 0)

        def on_epoch_end(self, last_metrics, **state):
            told.append(len(last_metrics))
            return add_metrics(last_metrics, 7.0)

    usual = [float(v) for v in learn.validate()]
    found = [float(v) for v in learn.validate(callbacks=[Look(learn)])]
    assert found == pytest.approx([*usual, 7.0], abs=1e-5)
    assert told == ["train", "epoch", (4, False), True, (2, False), True, 2]
    del told[:]
    learn.callbacks.append(Look(learn))
    assert [float(v) for v in learn.validate(metrics=[])][1:] == [7.0]
    assert len(told) == 7


def test_a_later_fit_goes_on_from_the_file_of_the_epoch_before(vision, fastai, learn, capsys):
    from fastai.callbacks import SaveModelCallback

    def saving(name):
        return [SaveModelCallback(learn, every="epoch", name=name)]

    learn.fit_one_cycle(2, 1e-2, callbacks=saving("at"))
    after = [p.detach().clone() for p in learn.model.parameters()]
    with torch.no_grad():
        for p in learn.model.parameters():
            p.zero_()
    learn.fit_one_cycle(3, 1e-9, tot_epochs=3, start_epoch=2, wd=0.0, callbacks=saving("at"))
    assert "Loaded at_1" in capsys.readouterr().out
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(learn.model.parameters(), after, strict=True))
    learn.fit_one_cycle(3, 1e-9, tot_epochs=3, start_epoch=2, callbacks=saving("gone"))
    assert "Model gone_1 not found" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:transforms of your own")
def test_transforms_of_grey_pictures_see_one_channel(vision, path):
    seen = []

    def _look(x):
        seen.append(tuple(x.shape))
        return x * 0.5

    look = vision.TfmPixel(_look)
    lists = vision.ImageList.from_folder(path, convert_mode="L").split_by_folder().label_from_folder()
    data = lists.transform(([look()], []), size=16).databunch(bs=4, num_workers=0)
    x, _ = next(iter(data.train_dl))
    assert x.shape == (4, 1, 16, 16)
    assert set(seen) == {(1, 16, 16)}
    assert data.train_ds[0][0].shape == data.valid_ds[0][0].shape == (1, 16, 16)


def test_a_mixup_of_ones_own_with_its_loss(vision, fastai, learn):
    from fastai.callbacks.mixup import MixUpLoss

    sizes = []

    class Mixes(vision.LearnerCallback):
        _order = -20

        def on_train_begin(self, **state):
            self.learn.loss_func = MixUpLoss(self.learn.loss_func)

        def on_batch_begin(self, last_input, last_target, train, **state):
            if not train:
                return None
            other = torch.arange(len(last_target) - 1, -1, -1)
            mixed = last_input * 0.6 + last_input[other] * 0.4
            share = torch.full((len(last_target),), 0.6, device=last_input.device)
            target = torch.stack([last_target.float(), last_target[other].float(), share], dim=1)
            sizes.append(tuple(target.shape))
            return {"last_input": mixed, "last_target": target}

        def on_train_end(self, **state):
            self.learn.loss_func = self.learn.loss_func.get_old()

    before = learn.loss_func
    usual = float(learn.validate()[0])
    learn.fit(2, 1e-9, wd=0.0, callbacks=[Mixes(learn)])
    assert sizes == [(4, 3)] * 6
    assert learn.loss_func is before
    assert [float(v) for v in learn.recorder.val_losses] == pytest.approx([usual] * 2, abs=1e-4)
    assert float(learn.validate()[0]) == pytest.approx(usual, abs=1e-4)
