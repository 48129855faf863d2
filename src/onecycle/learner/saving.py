"""Where saved models go, and what is saved with them: weights, optimizer state and the settings they belong to.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import copy
import glob
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

import torch

from onecycle import settings
from onecycle.data.augment.transforms import flatten
from onecycle.deploy.calibrated import Calibrated
from onecycle.deploy.predictor import predictor_of
from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning, warn
from onecycle.files import FULL_DISK, beside, claim
from onecycle.learner.checks import misfits
from onecycle.learner.heads.exchange import adopt_network
from onecycle.model.budget import network_of
from onecycle.model.manifests import check_saved
from onecycle.train import checkpoint
from onecycle.train.losses import ACTIVATIONS

if TYPE_CHECKING:
    from onecycle.deploy.bundle import Bundle
    from onecycle.deploy.card import Card
    from onecycle.deploy.weights.check import Weights


def save(learn: Any, stem: Path, *, with_opt: bool) -> Path:
    """Write a learner's weights, optimizer state and settings; ``Learner.save`` says more."""
    if not learn.trainer.ranks.is_first:  # of processes that train together, one writes
        return stem.with_name(f"{stem.name}.safetensors")
    optimizer = learn.trainer.optimizer if with_opt else None
    return checkpoint.save_checkpoint(stem, model=learn.model, optimizer=optimizer, manifest=manifest(learn))


def load(learn: Any, stem: Path, strict: bool, with_opt: bool | None) -> None:
    """Read what ``save`` wrote into a learner, or change nothing; ``Learner.load`` says more."""
    _ = learn.layer_groups  # a replaced layer joins its group before the optimizer's state is compared
    is_ours = stem.with_name(f"{stem.name}.safetensors").exists()
    network = None
    if is_ours:
        saved = checkpoint.read_manifest(stem)
        check_saved(saved, stem)
        network = saved.get("network")
    with network_of(stem.with_name(f"{stem.name}.safetensors")):
        put_back = adopt_network(learn, network)
    try:
        report = checkpoint.load_checkpoint(
            stem,
            model=learn.model,
            optimizer=None if with_opt is False else learn.trainer.ensure_optimizer(),
            expected={"classes": list(learn.data.classes), "is_multi": learn.data.is_multi},
            strict=strict,
            with_opt=with_opt,
        )
    except CheckpointError:
        put_back()
        raise
    if report.note:
        print(report.note)
    if not all(bool(t.isfinite().all()) for t in learn.model.state_dict().values() if t.is_floating_point()):
        warn(f"{report.path} holds weights that are no numbers (NaN): of a training that diverged", OnecycleWarning)
    learn.weights_version += 1
    learn.calibrated = Calibrated.from_manifest(report.manifest, len(learn.data.classes))
    misfits.take_manifest(learn, report.manifest, strict=strict)
    if learn.calibrated:
        learn.say(f"loaded with {learn.calibrated}, which predict uses")
    learn.body_trained = learn.body_trained or None
    # Never backwards: no order and no draw comes twice in one run.
    learn.trainer.epochs_done = max(learn.trainer.epochs_done, int(report.manifest.get("epochs_done", 0)))


class ExportOptions(TypedDict, total=False):
    """How an export is written.

    archive: write a .zip, too (True). examples: put three pictures of the validation part into it, with the answers
    (True). web: put a page into it that predicts in the browser (False). force: replace an exported folder that is
    there (False). weights: ``half`` stores the network's in 16 bits, ``int8`` most of them in 8; float32 is computed
    with either way (float32). accept: write them so also where more than one decision in 200 changes (False).
    """

    archive: bool
    examples: bool
    web: bool
    force: bool
    weights: Weights
    accept: bool


def export(learn: Any, file: str | Path, **options: Unpack[ExportOptions]) -> Bundle:
    """Write a learner as an exported folder; ``Learner.export`` says more."""
    from onecycle.deploy.bundle import MOST_PICTURES, export_bundle
    from onecycle.deploy.card import Card
    from onecycle.deploy.unlike import spread
    from onecycle.deploy.weights.check import of_rows

    data = learn.data
    if not len(data.split.valid):
        raise ArgumentError("an export is verified with validation pictures, and these data have none")
    predictions = None if data.is_regression else learn.interpret().predictions
    folder = Path(learn.path) / (Path(file).with_suffix("") if Path(file).suffix == ".pkl" else file)
    valid = spread(data.split.valid, MOST_PICTURES)
    files, training = ([data.store.paths[row] for row in rows] for rows in (valid, data.split.train))
    made = {"arch": str((learn.network or {}).get("arch", "")), "data": data.path.name}
    if predictions is None:
        card = _card_of_numbers(learn, folder.name, **made)
    else:
        card = Card.of(predictions, name=folder.name, **made)
    predictor = replace(learn.predictor(), model=copy.deepcopy(learn.model).cpu(), device=torch.device("cpu"))
    labelled = None if predictions is None else of_rows(predictions, valid)
    return export_bundle(predictor, folder, files, card, training=training, labelled=labelled, **options)


def _card_of_numbers(learn: Any, name: str, arch: str, data: str) -> Card:
    from onecycle.deploy.card import Card, number_scores

    values, targets = (column.numpy() for column in learn.get_preds()[:2])
    n_train, scores = len(learn.data.split.train), number_scores(values, targets)
    return Card(name=name, arch=arch, data=data, scores=scores, n_train=n_train, n_valid=len(values))


def manifest(learn: Any) -> dict[str, Any]:
    """Describe what a model was trained on (classes, preprocess, seed, split), its calibration and its thresholds."""
    data, predictor = learn.data, predictor_of(learn)
    stats, resize = predictor.stats, predictor.resize
    tfms = data.lists.tfms[1] if data.lists.tfms and predictor.augmenter is not None else ()
    own = [transform.name for transform in flatten(tfms)]
    own += [getattr(function, "__name__", type(function).__name__) for function in predictor.dl_tfms]
    return {
        "classes": list(data.classes),
        "is_multi": data.is_multi,
        **({"is_regression": True} if data.is_regression else {}),
        **predictor.reading.manifest(),
        "stats": None if stats is None else [list(channels) for channels in stats],
        "size": resize.size,
        "resize_method": resize.method.name,
        "padding_mode": resize.padding_mode,
        "scaled_decode": resize.scaled_decode,
        "epochs_done": learn.trainer.epochs_done,
        "seed": data.seed,
        "split": data.split.record([Path(p).name for p in data.store.paths]),
        "network": learn.network,
        "activation": next(name for name, function in ACTIVATIONS.items() if function is predictor.activation),
        "own_transforms": own,
        **learn.seen.manifest(),
        **learn.calibrated.manifest(),
    }


class PathAttribute:
    """An attribute of a learner: a folder that stays where it is when the working directory changes."""

    def __get__(self, learn: Any, owner: type) -> Path:
        return cast("Path", learn.__dict__["path"])

    def __set__(self, learn: Any, value: str | Path | None) -> None:
        learn.__dict__["path"] = Path(learn.data.path if value is None else value).absolute()


# --- where models go ------------------------------------------------------------------------------


def _folders(path: Path, model_dir: Path) -> list[Path]:
    """Where saved models may be, the first choice first."""
    below = Path(path.name) / model_dir
    return [path / model_dir, Path.cwd() / "runs" / below, settings.home() / "runs" / below]


def saved_stem(path: Path, model_dir: Path, file: str | Path) -> Path:
    """Return the path without suffix of a saved model: where ``save`` writes now, else the first folder that has it."""
    file = _without_suffix(file)
    folders = [f for f in _folders(path, model_dir) if f.is_dir()]
    stems = [f / file for f in sorted(folders, key=lambda f: not _is_writable(f))] or [path / model_dir / file]
    return next((s for s in stems if any(s.parent.glob(f"{glob.escape(s.name)}.*"))), stems[0])


def stem(folder: Path, file: str | Path) -> Path:
    """Return the path without suffix that a model is saved under.

    Raises:
        ArgumentError: an empty name.
    """
    if not isinstance(file, str | Path) or not str(file).strip() or "\0" in str(file):
        raise ArgumentError("a saved model needs a name: learn.save('stage-1')")
    return folder / _without_suffix(file)


def _without_suffix(file: str | Path) -> Path:
    """Return the name of a model without the ending that its file has, where it was said, too."""
    file = Path(file)
    return file.with_suffix("") if file.suffix in (".safetensors", ".pth") else file


def writable_folder(path: Path, model_dir: Path) -> Path:
    """Return ``path/model_dir``, made if missing; where that cannot be written, a run folder elsewhere.

    Raises:
        CheckpointError: neither there, nor below the working directory, nor in onecycle's own folder.
    """
    for folder in _folders(path, model_dir):
        if _is_writable(folder):
            return folder
    wanted = path / model_dir
    raise CheckpointError(f"no folder to save models in: {wanted} is not writable; set learn.path to one that is")


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in ``folder`` (made if missing); asked of the disk, not of permission bits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = beside(folder / "write")
        claim(probe)
        probe.unlink()
    except OSError as error:
        return error.errno in FULL_DISK  # no reason to write elsewhere: saving says what is needed, and what is free
    return True
