"""The settings of a run: one value a setting, checked, written to YAML and read back; and where each came from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from onecycle.errors import ArgumentError

Allowed = Literal["unreadable", "leaks", "missing"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]

DEFAULT_ARCH = "tf_efficientnet_lite0"
"""The network whose weights come with an installed package, so that a run needs no network."""

DEFAULT_EPOCHS = 4
"""Epochs with all layers, where neither ``epochs`` nor ``minutes`` says otherwise.

Measured on Planet (800 training pictures, 224 px, three stratified splits), the head alone and then four epochs:
macro-AP 0.567 to 0.591, 0.565 to 0.605 and 0.549 to 0.564; sample-F2 0.899 to 0.898, 0.868 to 0.875 and 0.876 to 0.873
(each interval is 0.04 wide). Fewer epochs than four made it worse on one split of two (128 px), and four are the fewest
of which half are run on smaller pictures. They take about two minutes on two cores.
"""

Column = int | str | None
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("The data", ("data", "csv", "folder", "suffix", "label_delim", "fn_col", "label_col", "group_col")),
    ("Which pictures validate", ("split", "valid_pct", "seed", "stratify")),
    ("What stops a run before it starts, and what does not", ("audit", "together", "allow", "label_check")),
    ("What the network sees", ("size", "bs", "flip", "flip_vert", "max_rotate", "max_zoom", "max_lighting",
                               "max_warp")),
    ("The network and its training", ("arch", "weights", "epochs", "minutes", "lr", "freeze_epochs")),
    ("After training", ("thresholds", "calibrate")),
    ("Where the run goes", ("name", "out", "track")),
)  # fmt: skip

OPTION, FILE, DEFAULT = "option", "config file", "default"


class RunConfig(BaseModel):
    """All settings of ``onecycle train``, each under its option's name with ``_`` for ``-``.

    None means: found out when the run starts, by looking at the data or by measuring.

    Attributes:
        data: folder of class folders, a table, or a name in ``URLs``.
        csv: table below the folder.
        folder: of the pictures, below the folder of the data set.
        suffix: added to each file name of the table.
        label_delim: splits a cell into tags; an empty text takes a cell as one label.
        fn_col, label_col, group_col: columns, by name or position.
        split: table of files and parts, as a run writes it; the settings below then draw nothing.
        valid_pct: share of the pictures that validate.
        seed: of the split, the order and every draw.
        stratify: give both parts the same share of each class or tag.
        audit: look at every file for copies, leaks and damage first.
        together: keep copies of a picture, which the audit finds, in one part: those that validate move to training.
        allow: faults that do not stop the run: ``unreadable``, ``leaks``, ``missing``.
        label_check: look for labels that are probably wrong.
        size: px of the pictures that the network sees.
        bs: pictures in a batch.
        flip: mirror half of the training pictures left and right.
        flip_vert: all 8 positions of a square instead (satellite, microscope).
        max_rotate, max_zoom, max_lighting, max_warp: as in ``get_transforms``.
        arch: name of the network.
        weights: file or folder of its pretrained weights.
        epochs: with all layers, after the head's.
        minutes: for training, instead of ``epochs``.
        lr: peak learning rate of the head (``base_lr`` of ``fine_tune``).
        freeze_epochs: epochs of the head alone.
        thresholds: choose from which probability on each tag is given.
        calibrate: make probabilities right.
        name: of the run; default that of the data set.
        out: folder of the runs.
        track: trackers that the run is logged to.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, strict=True)

    data: str
    csv: str | None = None
    folder: str | None = None
    suffix: str | None = None
    label_delim: str | None = None
    fn_col: Column = None
    label_col: Column = None
    group_col: Column = None
    split: str | None = None
    valid_pct: Share = 0.2
    seed: Annotated[int, Field(ge=0)] = 42
    stratify: bool = True
    audit: bool = True
    together: bool = False
    allow: list[Allowed] = []
    label_check: bool = True
    size: Count | None = None
    bs: Annotated[int, Field(ge=2)] | None = None
    flip: bool = True
    flip_vert: bool = False
    max_rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    max_zoom: Annotated[float, Field(ge=1, le=10)] = 1.1
    max_lighting: Share = 0.2
    max_warp: Share = 0.2
    arch: str = DEFAULT_ARCH
    weights: str | None = None
    epochs: Annotated[int, Field(ge=0)] | None = None
    minutes: Positive | None = None
    lr: Positive | None = None
    freeze_epochs: Annotated[int, Field(ge=0)] | None = None
    thresholds: bool = True
    calibrate: bool = True
    name: str | None = None
    out: str = "runs"
    track: list[Tracker] = []

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.minutes is not None:
            raise ValueError(
                f"epochs and minutes both say how long to train ({self.epochs} and {self.minutes}); keep one"
            )
        if self.epochs == 0 and self.freeze_epochs == 0:
            raise ValueError("there is nothing to train: epochs and freeze_epochs are both 0")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a YAML file of settings.

        Raises:
            ArgumentError: no such file, an unknown key (with near ones), or a value that cannot work; the message
                names the key, what was expected, what was received, and the line.
        """
        return cls.merged(Path(path), {})

    @classmethod
    def merged(cls, file: str | Path | None, given: Mapping[str, Any]) -> Self:
        """Put settings together: those given on the command line win over those of a file.

        ``epochs`` on the command line replaces ``minutes`` of the file, and the reverse.

        Args:
            file: YAML, or None.
            given: settings by name; None counts as not given.

        Raises:
            ArgumentError: as in ``read``; the message names the option where the value came from there.
        """
        values, lines = ({}, {}) if file is None else _read_yaml(Path(file))
        options = {name: _simple(value) for name, value in given.items() if value is not None}
        if "epochs" in options or "minutes" in options:
            values = {k: v for k, v in values.items() if k not in ("epochs", "minutes")}
        origins = dict.fromkeys(values, FILE) | dict.fromkeys(options, OPTION)
        merged = {**values, **options}
        _check_keys(merged, origins, file, lines)
        try:
            config = cls.model_validate(merged)
        except ValidationError as error:
            raise ArgumentError(_message(error, origins, file, lines)) from None
        config._origins = origins
        return config

    def origin(self, name: str) -> str:
        """Say where a setting's value came from: ``option``, ``config file``, ``default``, or how it was found."""
        return self._origins.get(name, DEFAULT)

    def found(self, name: str, value: Any, how: str) -> Self:
        """Return these settings with one that was found by looking or measuring, and how.

        Raises:
            ArgumentError: a value that cannot work.
        """
        try:
            other = type(self).model_validate({**self.model_dump(), name: value})
        except ValidationError as error:
            raise ArgumentError(_message(error, {}, None, {})) from None
        other._origins = {**self._origins, name: how}
        return other

    @property
    def length(self) -> tuple[int | None, float | None]:
        """(epochs, minutes), one of which is not None."""
        if self.minutes is not None:
            return None, self.minutes
        return (DEFAULT_EPOCHS if self.epochs is None else self.epochs), None

    def to_yaml(self) -> str:
        """Return the settings as YAML, with a comment a group and where each value came from; ``read`` reads it."""
        lines = ["# All settings of a run. Again: onecycle train --config THIS_FILE"]
        for title, names in _GROUPS:
            lines += ["", f"# {title}"]
            for name in names:
                value = yaml.safe_dump(getattr(self, name), allow_unicode=True, default_flow_style=True, width=10_000)
                text = value.removesuffix("...\n").strip()
                lines.append(f"{name}: {text}  # {_one_line(self.origin(name))}")
        return "\n".join(lines) + "\n"

    def command(self) -> str:
        """Return the shell command that runs these settings again, quoted; what was found is found again."""
        words = ["onecycle", "train", self.data]
        defaults = type(self).model_fields
        for name in (n for _, names in _GROUPS for n in names if n != "data"):
            value = getattr(self, name)
            is_default = value == defaults[name].get_default(call_default_factory=True)
            if not is_default and self.origin(name) in (OPTION, FILE):
                words += _option_words(name, value)
        return shlex.join(words)


def _simple(value: Any) -> Any:
    """Return paths and the words of an enumeration as plain text, and tuples as lists."""
    if isinstance(value, (list, tuple)):
        return [_simple(item) for item in value]
    return str(value) if isinstance(value, (str, Path)) else value


def _option_words(name: str, value: Any) -> list[str]:
    """Return an option as words of a command line."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, list):
        return [word for item in value for word in (option, str(item))]
    return [option, f"{value:g}" if isinstance(value, float) else str(value)]


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the settings of a file, and the line of each."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArgumentError(f"there is no settings file {path}; pass one that a run wrote, its config.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} cannot be read as settings: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ArgumentError(f"{path} is not valid YAML: {_one_line(str(error))}") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise ArgumentError(f"{path} should hold settings, one `name: value` a line; received {type(values).__name__}")
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in lines:
            raise ArgumentError(f"{path}, lines {lines[name]} and {key.start_mark.line + 1}: {name!r} is set twice")
        lines[name] = key.start_mark.line + 1
    return {str(k): _as_meant(str(k), v) for k, v in values.items()}, lines


def _as_meant(name: str, value: Any) -> Any:
    """Return a number for ``1e-3``, which YAML 1.1 takes for text."""
    field = RunConfig.model_fields.get(name)
    if isinstance(value, str) and field is not None and "float" in str(field.annotation):
        with suppress(ValueError):
            return float(value)
    return value


def _where(name: str, origins: Mapping[str, str], file: str | Path | None, lines: Mapping[str, int]) -> str:
    if origins.get(name) == FILE:
        return f"{file}, line {lines.get(name, 1)}: "
    return ""


def _check_keys(
    values: Mapping[str, Any], origins: Mapping[str, str], file: str | Path | None, lines: Mapping[str, int]
) -> None:
    known = RunConfig.model_fields
    for name in values:
        if name in known:
            continue
        plain = name.replace("-", "_")
        near = [plain] if plain in known else get_close_matches(plain, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}"
        raise ArgumentError(f"{_where(name, origins, file, lines)}there is no setting {name!r}; {hint}")
    if "data" not in values:
        where = f"{file} does not say" if file is not None else "nothing says"
        raise ArgumentError(f"{where} which data to train on: `data: FOLDER` in the file, or `onecycle train FOLDER`")


def _message(
    error: ValidationError, origins: Mapping[str, str], file: str | Path | None, lines: Mapping[str, int]
) -> str:
    """Say what is wrong with the first value: setting, expected, received, and where it stands."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # settings that do not go together
        text = first["msg"].removeprefix("Value error, ")
        return text if file is None else f"{file}: {text}"
    name = str(first["loc"][0])
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if len(first["loc"]) > 1 and first["type"] != "literal_error":
        field = RunConfig.model_fields[name].annotation
        expected = f"{expected} ({field})" if "valid" not in expected else expected
    return f"{_where(name, origins, file, lines)}{name} should be {expected}; received {first['input']!r}"
