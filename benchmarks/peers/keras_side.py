"""Keras' side (torch backend): its transfer-learning guide on the same body, which it wraps as a layer.

Keras has no EfficientNet-Lite0 of its own, so timm's body with the same weights is a ``TorchModuleWrapper`` layer.
As in the guide the body is frozen and runs in inference mode while the head trains, with light augmentation, batch 32
and Adam's defaults; then all layers train at a learning rate of 1e-5.

    python keras_side.py JOB.json
"""

from __future__ import annotations

import keras
import numpy as np
import shared
import timm
import torch
from PIL import Image
from shared import Item, Job, tell


class Tagged(torch.utils.data.Dataset):
    """Pictures, float (3, size, size) in [0, 255], with 0/1 targets."""

    def __init__(self, items: list[Item], classes: list[str], size: int) -> None:
        self.paths, self.targets, self.size = [p for p, _ in items], shared.encode(items, classes), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = Image.open(self.paths[i]).convert("RGB").resize((self.size, self.size), Image.BILINEAR)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float(), self.targets[i]


class Tell(keras.callbacks.Callback):
    """Says the quality after each epoch."""

    def __init__(self, loader: torch.utils.data.DataLoader) -> None:
        super().__init__()
        self.loader, self.n = loader, 0
        self.targets = loader.dataset.targets

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.n += 1
        logits = torch.as_tensor(self.model.predict(self.loader, verbose=0))
        tell(f2=shared.sample_f2(logits, self.targets), epoch=self.n)


def quality(job: Job) -> None:
    """The guide's recipe: the head on a frozen body, then everything at a small learning rate."""
    tell(phase="imported")
    keras.utils.set_random_seed(job["seed"])
    keras.config.set_image_data_format("channels_first")
    loaders = [
        torch.utils.data.DataLoader(
            Tagged(job[part], job["classes"], job["size"]),
            batch_size=job["bs"],
            shuffle=part == "train",
            num_workers=job["workers"],
            persistent_workers=job["workers"] > 0,
        )
        for part in ("train", "valid")
    ]
    model, body = network(job)
    told = Tell(loaders[1])
    model.compile(keras.optimizers.Adam(), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(loaders[0], epochs=job["epochs"], callbacks=[told], verbose=0)
    body.trainable = True
    body.module.requires_grad_(True)
    model.compile(keras.optimizers.Adam(1e-5), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(loaders[0], epochs=10, callbacks=[told], verbose=0)


def network(job: Job) -> tuple[keras.Model, keras.Layer]:
    """The guide's network: augmentation, scaling, frozen body, dropout, one dense layer."""
    timm_body = timm.create_model(
        shared.ARCH, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": job["weights"]}
    )
    body = keras.layers.TorchModuleWrapper(timm_body, output_shape=(None, timm_body.num_features))
    body.trainable = False
    inputs = keras.Input((3, job["size"], job["size"]))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.1)(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = body(x, training=False)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(inputs, keras.layers.Dense(len(job["classes"]))(x)), body


if __name__ == "__main__":
    shared.main({"quality": quality})
