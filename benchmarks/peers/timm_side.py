"""timm's side: its loader, transforms, loss, optimizer and schedule in a loop that follows its ``train.py``.

python timm_side.py JOB.json
"""

from __future__ import annotations

import shared
import timm
import torch
from PIL import Image
from shared import Item, Job, tell
from timm.data import create_loader
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2


class Tagged(torch.utils.data.Dataset):
    """Pictures with 0/1 targets; the loader sets ``transform``, as it does for timm's own data sets."""

    def __init__(self, items: list[Item], classes: list[str]) -> None:
        self.paths, self.targets = [path for path, _ in items], shared.encode(items, classes)
        self.transform = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(Image.open(self.paths[i]).convert("RGB")), self.targets[i]


def quality(job: Job) -> None:
    """All layers, cosine schedule; quality after each epoch."""
    tell(phase="imported")
    torch.manual_seed(job["seed"])
    model = timm.create_model(
        shared.ARCH, pretrained=True, num_classes=len(job["classes"]), pretrained_cfg_overlay={"file": job["weights"]}
    )
    cfg = model.pretrained_cfg
    common = {
        "input_size": (3, job["size"], job["size"]),
        "batch_size": job["bs"],
        "mean": cfg["mean"],
        "std": cfg["std"],
        "num_workers": job["workers"],
        "use_prefetcher": False,
        "device": torch.device("cpu"),
        "interpolation": "bilinear",
    }
    train = create_loader(Tagged(job["train"], job["classes"]), is_training=True, **common)
    valid = create_loader(Tagged(job["valid"], job["classes"]), crop_pct=1.0, **common)
    loss_func = BinaryCrossEntropy(smoothing=0.0)
    optimizer = create_optimizer_v2(model, "adamw", lr=job["lr"], weight_decay=0.01)
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=job["epochs"], step_on_epochs=False, updates_per_epoch=len(train)
    )
    n_updates = 0
    for epoch in range(job["epochs"]):
        model.train()
        for x, y in train:
            loss = loss_func(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            n_updates += 1
            scheduler.step_update(num_updates=n_updates)
        tell(f2=validate(model, valid), epoch=epoch)
        scheduler.step(epoch + 1)


@torch.inference_mode()
def validate(model: torch.nn.Module, loader: torch.utils.data.DataLoader) -> float:
    """Sample-F2 of the validation pictures."""
    model.eval()
    parts = [(model(x), y) for x, y in loader]
    return shared.sample_f2(torch.cat([p for p, _ in parts]), torch.cat([y for _, y in parts]))


if __name__ == "__main__":
    shared.main({"quality": quality})
