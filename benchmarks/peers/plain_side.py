"""The yardstick: decode the pictures with Pillow and run the network over them once, as a person would write it.

No memory format, no precision, no setting of the allocator, no thread is chosen; the network is in evaluation mode.

    python plain_side.py JOB.json
"""

from __future__ import annotations

import time

import numpy as np
import shared
import timm
import torch
from PIL import Image
from shared import Job, tell


def inference(job: Job) -> None:
    """Time of decoding and of the network over the training pictures, batch by batch."""
    tell(phase="imported")
    model = timm.create_model(
        shared.ARCH, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": job["weights"]}
    ).eval()
    tell(phase="network")
    paths = [path for path, _ in job["train"]]
    decode_s = network_s = 0.0
    features = []
    for i in range(0, len(paths), job["bs"]):
        start = time.perf_counter()
        x = torch.stack([pixels(path, job["size"]) for path in paths[i : i + job["bs"]]])
        decoded = time.perf_counter()
        with torch.inference_mode():
            features.append(model(x))
        decode_s += decoded - start
        network_s += time.perf_counter() - decoded
    tell(decode_s=decode_s, network_s=network_s, n=len(torch.cat(features)))


def pixels(path: str, size: int) -> torch.Tensor:
    """One picture, float (3, size, size), normalised to −1 to 1."""
    picture = Image.open(path).convert("RGB").resize((size, size), Image.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(127.5).sub(1)


if __name__ == "__main__":
    shared.main({"inference": inference})
