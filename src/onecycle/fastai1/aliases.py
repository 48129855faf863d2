"""The names of types that fastai v1 used in its signatures; notebooks annotate functions of their own with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from io import BufferedWriter, BytesIO
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn, optim

# Tables, by what each stands for:
# fmt: off
KWArgs = dict[str, Any]
ArgStar = ItemsList = Collection[Any]
PathOrStr = Path | str
PathLikeOrBinaryStream = Path | str | BufferedWriter | BytesIO
FilePathList = Collection[Path]
ImgLabel = str
StrList = ImgLabels = Collection[str]
OptStrList = Collection[str] | None
OptStrTuple = tuple[str, str] | None
Tokens = Collection[Collection[str]]
IntsOrStrs = int | Collection[int] | str | Collection[str]
ListOrItem = Collection[Any] | int | float | str
OptListOrItem = ListOrItem | None
ListSizes = Collection[tuple[int, int]]
Sizes = list[list[int]]
BatchSamples = Collection[tuple[Collection[int], int]]
Floats = float | Collection[float]
StartOptEnd = float | tuple[float, float]
OptRange = tuple[float, float] | None
Point = tuple[float, float]
Points = Collection[tuple[float, float]]

NPArray = NPArrayMask = NPImage = AffineMatrix = np.ndarray
NPArrayList = Collection[np.ndarray]
NPArrayableList = Collection[np.ndarray | list[Any]]
SplitArrayList = list[tuple[np.ndarray, np.ndarray]]
OptStats = tuple[np.ndarray, np.ndarray] | None
DataFrameOrChunks = pd.DataFrame | Iterator[pd.DataFrame]
OptDataFrame = pd.DataFrame | None

TensorImage = Rank0Tensor = LogitTensorImage = Tensor
TensorImageSize = tuple[int, int, int]
Tensors = Tensor | Collection["Tensors"]
FloatOrTensor = float | Tensor
IntOrTensor = int | Tensor
BoolOrTensor = bool | Tensor
TensorOrNumber = Tensor | Number
TensorOrNumList = Collection[Tensor | Number]
Weights = Mapping[str, Tensor]
ModuleList = Collection[nn.Module]
ParamList = Collection[nn.Parameter]
OptOptimizer = optim.Optimizer | None

AnnealFunc = Callable[[Number, Number, float], Number]
KeyFunc = Callable[[int], int]
ListRules = Collection[Callable[[str], str]]
LambdaFunc = AffineFunc = CoordFunc = PixelFunc = LightingFunc = HookFunc = Callable[..., Any]
LayerFunc = Callable[[nn.Module], None]
LossFunction = Callable[[Tensor, Tensor], Tensor]
OptLossFunc = LossFunction | None
MetricFunc = Callable[[Tensor, Tensor], Any]
MetricFuncList = Collection[MetricFunc]
MetricsList = TfmList = Collection[Any]
OptMetrics = MetricsList | None
SplitFunc = Callable[[nn.Module], list[nn.Module]]
OptSplitFunc = SplitFunc | None
SplitFuncOrIdxList = Callable[..., Any] | Collection[ModuleList]
# fmt: on

_NOT_ALIASES = re.compile("Any|BufferedWriter|BytesIO|Callable|Collection|Iterator|Mapping|Number|Path|Tensor")
__all__ = sorted(name for name in globals() if name[0].isupper() and not _NOT_ALIASES.fullmatch(name))
