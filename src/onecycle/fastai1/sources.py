"""Where each name of fastai v1 is found here: in the product, in this annexe, in a library that v1 passed on."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

ANNEXE = (
    *("core", "torch_core", "machine", "aliases", "progress_bars", "networks.layers", "networks.hooks"),
    *(
        "networks.xresnet",
        "networks.wrn",
        "networks.losses",
        "pictures.arrays",
        "pictures.data",
        "training.metrics",
        "training.learner",
    ),
    *("training.protocol", "training.interpretation", "training.hook_callbacks", "training.optimizer"),
    *("training.schedules", "training.functions", "training.loading", "networks.bodies"),
    *("bunch.bunch", "bunch.own_data", "bunch.loader", "pictures.files", "pictures.cleaning", "pictures.transforms"),
    *("pictures.image", "pictures.tfms", "pictures.in_batches"),
)
"""Files of this room whose ``__all__`` are names of v1; the first that has a name gives it."""

PRODUCT = {
    "data.labels.items": "EmptyLabel FloatItem",
    "data.labels.lists": "CategoryList EmptyLabelList FloatList MultiCategoryList",
    "model.cnn": "split_model",
    "model.heads": "SigmoidRange",
    "train.metrics": "auc_roc_score roc_curve",
    "train.regression.loss": "MSELossFlat",
    "train.regression.metrics": "ExpRMSPE ExplainedVariance R2Score RMSE exp_rmspe explained_variance mae "
    "mean_absolute_error mean_squared_error mean_squared_logarithmic_error mse msle r2_score rmse "
    "root_mean_squared_error",
}
"""Modules of the product below ``onecycle`` with names of v1 that are not in the star of ``onecycle.vision``."""

LIBRARIES = {
    "": "abc bz2 collections concurrent csv functools gc gzip hashlib html importlib inspect io itertools json math "
    "mimetypes numbers operator os pathlib pickle pkg_resources random re requests scipy shutil subprocess sys tarfile "
    "tempfile torch typing warnings weakref yaml PIL",
    "abc": "abstractmethod abstractproperty",
    "collections": "Counter OrderedDict defaultdict namedtuple",
    "collections.abc": "Iterable Sized",
    "concurrent.futures": "ProcessPoolExecutor ThreadPoolExecutor",
    "contextlib": "contextmanager",
    "copy": "copy deepcopy",
    "dataclasses": "InitVar dataclass field",
    "enum": "Enum IntEnum",
    "functools": "partial reduce",
    "io": "BufferedWriter BytesIO",
    "matplotlib.patches": "Patch",
    "numbers": "Number",
    "numpy": "array cos exp log sin tan tanh",
    "operator": "attrgetter itemgetter",
    "pandas": "DataFrame Series",
    "pathlib": "Path",
    "pdb": "set_trace",
    "torch": "ByteTensor DoubleTensor FloatTensor HalfTensor LongTensor ShortTensor Tensor as_tensor nn optim",
    "torch.nn.parallel": "DistributedDataParallel",
    "torch.nn.utils": "spectral_norm weight_norm",
    "torch.optim": "AdamW",
    "torch.utils.data": "BatchSampler DataLoader Dataset Sampler TensorDataset",
    "types": "SimpleNamespace",
    "typing": "Any AnyStr Callable Collection Dict Hashable Iterator List Mapping NewType Optional Sequence Tuple "
    "TypeVar Union",
    "warnings": "warn",
}
"""Modules of other packages with the names that v1 passed on; those under ``''`` are modules themselves."""
SHORT = {
    "np": "numpy",
    "pd": "pandas",
    "plt": "matplotlib.pyplot",
    "F": "torch.nn.functional",
    "patches": "matplotlib.patches",
    "patheffects": "matplotlib.patheffects",
}
"""Modules that v1 passed on under another name."""


@cache
def _places() -> dict[str, tuple[str, str]]:
    """Each name with its module and its name there (``''`` for the module itself); the annexe goes before the rest."""
    places = {name: (module, "") for name, module in SHORT.items()}
    places |= {
        name: (module or name, name if module else "") for module, ns in LIBRARIES.items() for name in ns.split()
    }
    for module in (*(f"onecycle.{m}" for m in PRODUCT), "onecycle.vision", *_annexe()):
        names = PRODUCT.get(module.removeprefix("onecycle."), "").split() or import_module(module).__all__
        places |= {name: (module, name) for name in names}
    return places


def _annexe() -> tuple[str, ...]:
    """The annexe's files in an order where the last one wins."""
    return tuple(f"onecycle.fastai1.{name}" for name in reversed(ANNEXE))


def place(name: str) -> str:
    """Return the module that has what v1 called ``name``.

    Raises:
        KeyError: none has.
    """
    return _places()[name][0]


def find(name: str) -> Any:
    """Return what v1 called ``name``.

    Raises:
        KeyError: it is not here.
    """
    module, attribute = _places()[name]
    try:
        return getattr(import_module(module), attribute) if attribute else import_module(module)
    except ImportError as error:  # a library that v1 needed and onecycle does not
        raise KeyError(name) from error
