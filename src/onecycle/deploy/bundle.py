"""The folder that is handed over: a model that answers as the run did, on a machine without PyTorch.

    NAME/
    ├── model.onnx        pixels in, probabilities and labels out; resize, network, calibration, thresholds inside
    ├── manifest.json     classes, preprocess, thresholds, versions, what was verified, digests of the other files
    ├── README.md         the model card
    ├── predict.py        from files to answers: numpy, Pillow and onnxruntime, nothing else
    ├── test.py           checks that the examples are answered as expected
    ├── Dockerfile       the same in a container, with the versions that it was verified with
    ├── examples/         pictures, and expected.json
    └── web/              where it was asked for: a page that predicts in the browser

It is written beside its name and gets it only once it was verified.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import onecycle
from onecycle.deploy.card import Card, card_text
from onecycle.deploy.folder import is_archived_bundle, is_bundle, open_model
from onecycle.deploy.graph.onnx_model import OPSET, onnx_of
from onecycle.deploy.pages import web_page
from onecycle.deploy.portable.predict import manifest_digest
from onecycle.deploy.unlike import MOST_TRAINING, FeatureDistance, distance_of, spread
from onecycle.deploy.verify import Verification, made_pictures, only_pillow, verify
from onecycle.deploy.weights.check import AskedWeights, Weights, WeightsCheck, store_in_fewer_bits
from onecycle.errors import ArgumentError
from onecycle.files import sync_folder, sync_parts, unfinished, write_part, write_whole, write_zip, writing
from onecycle.settings import MANIFEST, MODEL
from onecycle.text import by_place

if TYPE_CHECKING:
    from onecycle.deploy.portable.predict import Model
    from onecycle.deploy.predictor import Predictor
    from onecycle.evaluation.predictions import Predictions

SCHEMA = 2  # 1 had no digest of the manifest
PORTABLE, TEMPLATES = (Path(__file__).parent / name for name in ("portable", "templates"))
FILES = ("predict.py", "test.py")
MOST_PICTURES = 500
"""Pictures of the validation part that an export is verified with, where there are so many."""

DOCKERFILE = "Dockerfile"
EXAMPLES = 3
_PACKAGES = ("torch", "timm", "onnx", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Bundle:
    """An exported model that was verified."""

    folder: Path
    archive: Path | None  # the same as one .zip
    verification: Verification
    n_bytes: int  # of all its files
    weights: WeightsCheck | None  # what fewer bits a weight change; None: float32 weights

    def __repr__(self) -> str:
        v = self.verification
        return (
            f"Bundle {self.folder}: verified with {v.pictures} pictures and {v.made} made ones, "
            f"answers differ by {v.max_difference:.1e} at most"
            + ("" if self.weights is None else f"; with {self.weights.weights} weights {self.weights.summary}")
        )


def export_bundle(
    predictor: Predictor,
    folder: Path,
    files: Sequence[str],
    card: Card,
    *,
    training: Sequence[str] = (),
    weights: Weights = "float32",
    accept: bool = False,
    labelled: Predictions | None = None,
    archive: bool = True,
    examples: bool = True,
    web: bool = False,
    force: bool = False,
) -> Bundle:
    """Write a predictor as a folder that answers as it does, or leave nothing.

    Args:
        predictor: the model with its preprocess and its way to decide.
        folder: the new folder; its name is the model's.
        files: pictures to verify with, of the validation part; the first of each label become examples.
        card: what the model card says.
        training: pictures that trained it, to tell pictures that are unlike them; none: it does not tell.
        weights: how the network's are stored: ``half`` in 16 bits, ``int8`` most of them in 8, fitted with pictures of
            ``training``; float32 is computed with either way.
        accept: write fewer bits a weight also where more than one decision in 200 changes; the card says so.
        labelled: predictions of ``files``, with the truth, to score fewer bits a weight; None: they are not scored.
        archive: write ``NAME.zip`` beside it, too.
        examples: put three of the pictures into it.
        web: put a page into it that predicts in the browser.
        force: replace a folder that is there, if it is an exported model.

    Raises:
        ArgumentError: the folder is there, a package is missing, the network cannot be exported, or the weights cannot
            be stored so.
        DiskFullError: there is no room; an export that was there before is whole.
        ExportError: it does not answer as the predictor does, or fewer bits a weight change too many decisions.
    """
    check_place(folder, archive=archive, force=force)
    asked = AskedWeights(weights, accept, training, labelled)
    asked.check()
    _check_kind(predictor, asked, web=web)
    folder = Path(os.path.abspath(folder))
    with writing(folder), unfinished(folder.parent, folder.name) as scratch:
        new = scratch / folder.name
        new.mkdir()
        _write_web(new / "web", web_page() if web else {})
        with only_pillow():
            distance = distance_of(predictor, spread(training, MOST_TRAINING), files)
        verification, check = _write(predictor, new, files, card, distance, asked, examples=examples)
        zipped = write_zip(scratch / f"{folder.name}.zip", new) if archive else None
        sync_parts()
        if folder.exists():
            folder.rename(scratch / "replaced")
        new.rename(folder)
        if zipped is not None:
            zipped = zipped.replace(folder.with_name(f"{folder.name}.zip"))
        sync_folder(folder.parent)
    n_bytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return Bundle(folder, zipped, verification, n_bytes, check)


def _check_kind(predictor: Predictor, asked: AskedWeights, *, web: bool) -> None:
    """Refuse what only classes and tags in files can have.

    Raises:
        ArgumentError: fewer bits a weight, or a page, for numbers or for pictures that a function of the user's reads.
    """
    if not predictor.is_regression and predictor.reading.function is None:
        return
    why = "numbers, no labels" if predictor.is_regression else "labels of pictures that are read in a way of your own"
    for wanted, what in ((asked.weights != "float32", "weights of fewer bits are"), (web, "a page in the browser is")):
        if wanted:
            raise ArgumentError(f"{what} for models of labels of plain pictures, and this one gives {why}")


def _write(
    predictor: Predictor,
    new: Path,
    files: Sequence[str],
    card: Card,
    distance: FeatureDistance | None,
    asked: AskedWeights,
    *,
    examples: bool,
) -> tuple[Verification, WeightsCheck | None]:
    network = onnx_of(predictor, distance)
    write_part(new / MODEL, network.SerializeToString())
    for name in FILES:
        write_part(new / name, (PORTABLE / name).read_bytes())
    manifest = _manifest(predictor, card) | {"unlike": None if distance is None else distance.manifest()}
    manifest["onnx"] |= {"weights": asked.weights}
    _write_manifest(new, manifest)
    container = (TEMPLATES / DOCKERFILE).read_text(encoding="utf-8").format(**manifest["versions"])
    write_part(new / DOCKERFILE, container.encode())
    model = open_model(new)
    with unfinished(None, "onecycle_drawn") as drawn:
        made = made_pictures(drawn) if predictor.reading.function is None else []
        verification = verify(predictor, model, files, made, distance)
    verification.check()
    check = None
    if asked.weights != "float32":
        model, check = store_in_fewer_bits(new, network, model, files, asked)
    _write_examples(model, new / "examples", files if examples and predictor.reading.function is None else [])
    write_part(new / "README.md", card_text(card, manifest, verification, check).encode())
    manifest |= {"verification": verification.to_dict(), "weights_check": check.to_dict() if check else None}
    _write_manifest(new, manifest | {"sha256": _digests(new)})
    return verification, check


def _manifest(predictor: Predictor, card: Card) -> dict[str, Any]:
    resize, calibrated, numbers = predictor.resize, predictor.calibrated, predictor.is_regression
    channels = predictor.reading.stored_channels
    rgb = ", RGB" if channels == 3 else ""
    return {
        "schema_version": SCHEMA,
        "name": card.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": [str(c) for c in predictor.classes],
        "is_multi": predictor.is_multi,
        "is_regression": numbers,
        **predictor.reading.manifest(),
        "preprocess": {
            "size": resize.size,  # (height, width)
            "method": resize.method.name,
            "padding_mode": resize.padding_mode,
            "scaled_decode": resize.scaled_decode,
        },
        **calibrated.manifest(),
        "limits": _limits(predictor),
        "decisions": "none, it gives numbers" if numbers else _decisions(predictor),
        "rule": predictor.decisions.to_dict(),
        "onnx": {"opset": OPSET, "input": f"pictures uint8 (N, H, W, {channels}){rgb}", "precision": "fp32"},
        "scores": card.scores,
        "class_quality": card.class_quality,
        "versions": {
            "onecycle": onecycle.__version__,
            "python": ".".join(map(str, sys.version_info[:2])),
            **{p: importlib.metadata.version(p) for p in _PACKAGES},
        },
    }


def _decisions(predictor: Predictor) -> str:
    return str(predictor.decisions) if predictor.is_multi else "the most probable class"


def _limits(predictor: Predictor) -> list[float] | None:
    """Return each tag's threshold as a person sees it, on calibrated probabilities; None where no thresholds decide."""
    own = predictor.decisions.limits(len(predictor.classes)) if predictor.is_multi else None
    if own is None:
        return None
    shown = predictor.calibrated.probs(torch.from_numpy(own[None]).float()) if predictor.decisions.own else own[None]
    return [float(limit) for limit in shown[0]]


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(manifest))
    sealed = plain | {"digest": manifest_digest(plain)}
    write_whole(folder / MANIFEST, (json.dumps(sealed, indent=1, ensure_ascii=False) + "\n").encode())


def _write_examples(model: Model, folder: Path, files: Sequence[str]) -> None:
    """Copy pictures, with different labels where there are, and write what the model answers."""
    folder.mkdir()
    first: dict[tuple[str, ...], tuple[str, dict[str, Any]]] = {}
    others: list[tuple[str, dict[str, Any]]] = []
    with only_pillow():
        for file, answer in zip(files, model.predict(files), strict=True):
            if "error" in answer:
                continue
            if first.setdefault(tuple(answer.get("labels", ())), (file, answer))[0] != file and len(others) < EXAMPLES:
                others.append((file, answer))
    expected = []
    for i, (file, answer) in enumerate([*first.values(), *others][:EXAMPLES], 1):
        name = f"{i}{Path(file).suffix.lower()}"
        write_part(folder / name, Path(file).read_bytes())
        expected.append(answer | {"file": f"examples/{name}"})
    write_whole(folder / "expected.json", json.dumps(expected, indent=1, ensure_ascii=False).encode())


def _write_web(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        folder.mkdir(exist_ok=True)
        write_part(folder / name, text.encode())


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def check_place(folder: Path, *, archive: bool, force: bool) -> None:
    """Refuse what can be refused before any work: a package that is missing, a name that is taken.

    Raises:
        ArgumentError: either of them, or a name for a folder that only a .zip should have.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ArgumentError(f"an export needs {', '.join(missing)}: pip install 'onecycle[export]'")

    folder = Path(os.path.abspath(folder))
    another = by_place("name another folder with --out", "name another folder")
    if folder.suffix.lower() == ".zip":
        raise ArgumentError(
            f"{folder} is a name for a .zip: name the folder, {folder.stem}, and {folder.name} is written beside it"
        )
    zipped = folder.with_name(f"{folder.name}.zip")
    for path, ours in ((folder, is_bundle(folder)), (zipped, is_archived_bundle(zipped))):
        if not os.path.lexists(path) or (path == zipped and not archive) or (ours and force):
            continue
        replaced = by_place("--force replaces it", "force=True replaces it")
        why = f"is there already; {replaced}" if ours else "is there already, and is no exported model"
        raise ArgumentError(f"{path} {why}; or {another}")
