"""The data path alone: the loaders of onecycle and fastai with the lesson's augmentation, and no network.

python benchmarks/data_path.py [--rounds 3] [--epochs 4] [--peers-python PATH]
"""

from __future__ import annotations

import argparse

from harness import report, sides
from harness.sides import Side

OWN = "onecycle"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides.add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=4, help="the first one and those after it")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--bs", type=int, default=64)
    parser.add_argument("--pictures", type=int, help="fewer than all, to try this script")
    args = parser.parse_args()
    all_sides = [
        sides.own(OWN),
        *sides.peers(
            args,
            Side("fastai, no workers", "fastai_side.py", args.peers_python, {"workers": 0}),
            Side("fastai, 2 workers", "fastai_side.py", args.peers_python, {"workers": 2}),
        ),
    ]
    rates: dict[str, dict[str, list[float]]] = {s.name: {"first": [], "later": []} for s in all_sides}
    with sides.workplace() as folder:
        for round_ in range(args.rounds):
            job = sides.planet(args.data, round_, 0, args.pictures)
            job = {**job, "valid": job["train"][:1], "size": args.size, "bs": args.bs, "epochs": args.epochs}
            for side in all_sides:
                run = sides.run(side, "loader", {**job, "train": job["train"][1:]}, folder)
                by_epoch = [line["rate"] for line in run.lines if "rate" in line]
                rates[side.name]["first"].append(by_epoch[0])
                rates[side.name]["later"] += by_epoch[1:]
                print(f"round {round_}: {side.name}: {[round(r, 1) for r in by_epoch]} img/s", flush=True)
                write(args, rates)


def write(args: argparse.Namespace, rates: dict[str, dict[str, list[float]]]) -> None:
    """Write what has been measured so far."""
    words = {"first": "img/s, first epoch", "later": "img/s, later epochs"}
    medians = {
        (name, part): report.summary(values)["median"]
        for name, parts in rates.items()
        for part, values in parts.items()
        if values
    }
    rows = [
        {"side": name, "measure": words[part], **report.summary(parts[part])}
        for name, parts in rates.items()
        for part in words
        if parts[part]
    ]
    for part, text in words.items():
        peers = {n: m for (n, p), m in medians.items() if p == part and n != OWN}
        if peers:
            best = max(peers, key=lambda name: peers[name])
            ratio = medians[OWN, part] / peers[best]
            rows.append({"side": f"onecycle to {best}", "measure": f"ratio of medians: {text}", "median": ratio})
    method = f"""
        Planet's training files, {args.size} px, batch {args.bs}, the lesson's augmentation (the 8 positions of a
        square, rotation 10°, zoom up to 1.05, lighting 0.1, no warp) and normalisation; every batch is ready for the
        network and then dropped. onecycle: an empty cache, so the first epoch decodes, resizes and stores; freed
        memory is kept for the next batch, as in every fit; fastai:
        Resize per picture, aug_transforms and Normalize on the batch. {args.epochs - 1} later epochs a round, a
        process each, in turn. The ratio is to the faster of fastai's two settings.
    """
    report.write("data_path", method, rows, peers=sides.versions(args))


if __name__ == "__main__":
    main()
