"""The settings of a run: each declared once, for the command line, its help page, the config file and Python.

Loads neither pydantic, which checks values, nor YAML before it needs them: ``onecycle --help`` reads the declarations.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_type_hints

from onecycle.errors import ArgumentError
from onecycle.foreign import Refused, check_plain, read_plain
from onecycle.settings import MOST_PX, MOST_SETTINGS
from onecycle.text import safe_text

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Allowed = Literal["unreadable", "leaks", "missing"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]

SKIPPED = {"missing-file": "missing", "unreadable": "unreadable"}
"""Findings of the audit that ``allow`` leaves the files of out, with its words for them."""

AUTO = "auto"
"""The best network whose weights are on this machine and that fits the time; where it is asked for by an option or a
file, weights may be fetched, too."""

DEFAULT_EPOCHS, EPOCHS_OF_FEW = 4, 6
"""Epochs after the head's, where neither ``epochs`` nor ``minutes`` says otherwise; the second for so few pictures that
the last stages train alone.

Four are the fewest of which half are run on smaller pictures; fewer made Planet worse on one split of two (128 px, all
layers). Of the last stages six take a third longer than four. On inner folds of the training parts (Lite0, weights half
way) the log loss fell from the head's by 3.0 % with four epochs and 5.1 % with six on Planet's tags (7 folds), by 2.4
and 1.9 on its strings (2), 7.3 and 10.5 on drawn tiles (2), 2 and 28 on digits (2); on mosaics (2) it rose by 2.1 and
fell by 5.2, on Fashion-MNIST (2) it rose by 1.2 and 3.6.
"""

MOST_SEED = 2**63 - 1

_LONGEST_SHOWN = 200
_MOST_DEPTH, _MOST_EVENTS = 8, 5_000  # of a file of settings

Column = int | str | None

Levels = int | str
"""As ``cnn_learner`` has them, where ``none`` is its None."""

TABLE, SPLIT = "The table, where it is not found by looking", "The split"
NETWORK, TRAINING = "What the network sees", "The network and its training"
STOPS, AFTER, RUN = "What stops a run", "After training", "The run"
"""Headings of the help pages."""

OPTION, FILE, DEFAULT = "option", "config file", "default"

_COMMENTED = re.compile(r"(\w+): .*  # (.{1,1000})")
"""A line of config.yaml: a setting, and where it came from."""

GROUPS = {
    "data": "The data", "split": "Which pictures validate", "size": NETWORK, "arch": TRAINING, "decide_for": AFTER,
    "name": "Where the run goes", "audit": "What stops a run before it starts, and what does not",
}  # fmt: skip
"""Comments of config.yaml, by the setting that each stands above."""


def setting(default: Any, panel: str, metavar: str, help: str, *, option: str = "", **bounds: float) -> Any:
    """Declare a setting of a run.

    Args:
        default: its value where nobody says one; ``MISSING`` where somebody must, a list for what may be said often.
        panel: heading of the help page that it stands under.
        metavar: what the help page calls its value; empty for yes or no.
        help: for the help page; ``{}`` is where the default stands.
        option: what the command line calls it, where that is not its name.
        **bounds: ``ge``, ``gt``, ``le`` or ``lt`` of pydantic's ``Field``.
    """
    shown = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
    about = {"panel": panel, "metavar": metavar, "help": help.format(shown), "bounds": bounds, "option": option}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of ``onecycle train``, each under its option's name with ``_`` for ``-``; values are checked.

    None means: found out when the run starts, by looking at the data or by measuring.

    Raises:
        ArgumentError: a value that cannot work, or two that do not go together.
    """

    data: str = setting(
        MISSING, "", "", "Folder with a table or with class folders; a table (CSV, TSV, parquet); or a name in URLs."
    )
    csv: str | None = setting(None, TABLE, "FILE", "Table below DATA.")
    folder: str | None = setting(
        None, TABLE, "FOLDER", "Folder of the pictures below DATA; class folders: train,valid."
    )
    suffix: str | None = setting(None, TABLE, "TEXT", "Added to each file name of the table, e.g. .jpg.")
    path_parts: int | None = setting(
        None, TABLE, "N", "Last parts of the table's paths to take: 2 for b/c.jpg of /a/b/c.jpg.", ge=1
    )
    delimiter: str | None = setting(None, TABLE, "TEXT", "Delimiter of the table's cells; default: found.")
    label_delim: str | None = setting(None, TABLE, "TEXT", "Delimiter of tags, e.g. ' '; '' for one label a picture.")
    fn_col: Column = setting(None, TABLE, "COLUMN", "Column of the file names: name or position.")
    label_col: Column = setting(None, TABLE, "COLUMN", "Column of the labels: name or position; several of 0/1: a,b,c.")
    join_rows: bool | None = setting(None, TABLE, "", "Each row has one tag of its picture; default: no.")
    group_col: Column = setting(
        None, SPLIT, "COLUMN", "Column of what must not be in both parts: site, patient, flight."
    )
    split_col: Column = setting(
        None, SPLIT, "COLUMN", "Column of the split, or fold=4 where 4 validates; '' draws one; default: found."
    )
    split: str | None = setting(None, SPLIT, "FILE", "Take the split of another run: its split.csv.")
    # With a split of another run, these three draw nothing.
    valid_pct: float = setting(0.2, SPLIT, "SHARE", "Share of the pictures that validate; default {}.", ge=0, lt=1)
    seed: int = setting(42, SPLIT, "NUMBER", "Of the split, the order and every draw; default {}.", ge=0, le=MOST_SEED)
    stratify: bool = setting(True, SPLIT, "", "Both parts with the same share of each class or tag; default: {}.")
    audit: bool = setting(True, STOPS, "", "Look at every file first; default: {}.")
    together: bool = setting(False, STOPS, "", "Keep copies of a picture on one side; default: {}.")
    allow: list[Allowed] = setting(
        [],
        STOPS,
        "FAULT",
        "unreadable or missing: train without those pictures; leaks: with them as they are. "
        "May be given several times.",
    )
    label_check: bool = setting(True, AFTER, "", "Look for wrong labels; default: {}.")
    size: int | None = setting(None, NETWORK, "PX", "Picture size; default: from the pictures.", ge=8, le=MOST_PX)
    bs: int | None = setting(None, NETWORK, "N", "Pictures in a batch; default: 64, or fewer for few pictures.", ge=2)
    flip: bool = setting(True, NETWORK, "", "Mirror pictures; default: {}.")
    flip_vert: bool = setting(False, NETWORK, "", "All 8 positions, as for pictures from above; default: {}.")
    max_rotate: float = setting(10.0, NETWORK, "ANGLE", "Degrees; default {:g}.", ge=0, le=180)
    max_zoom: float = setting(1.1, NETWORK, "FACTOR", "Default {}.", ge=1, le=10)
    max_lighting: float = setting(0.2, NETWORK, "SHARE", "Default {}.", ge=0, lt=1)
    max_warp: float = setting(0.2, NETWORK, "SHARE", "Perspective; default {}.", ge=0, lt=1)
    arch: str = setting(
        AUTO,
        TRAINING,
        "NAME",
        "Any timm network; auto: the best that fits the time, fetched if need be; default: the best that is here.",
    )
    weights: str | None = setting(None, TRAINING, "PATH", "File or folder of pretrained weights.")
    levels: Levels = setting(
        AUTO, TRAINING, "N", "Stages that the head reads: the last N; auto: all; none: fastai v1's head; default {}."
    )
    # These are keywords of ``Learner.fine_tune``, too, and said in its words; defaults are the command's own.
    epochs: int | None = setting(
        None,
        TRAINING,
        "N",
        f"After the head's stage; 0 for the head alone; default {EPOCHS_OF_FEW}, of many pictures {DEFAULT_EPOCHS}.",
        ge=0,
    )
    minutes: float | None = setting(None, TRAINING, "MINUTES", "For everything, instead of epochs.", gt=0)
    lr: float | None = setting(None, TRAINING, "RATE", "Peak learning rate of the head; default: found.", gt=0)
    freeze_epochs: int | None = setting(None, TRAINING, "N", "Of the head alone; default: planned.", ge=0)
    early_stop: bool = setting(True, TRAINING, "", "End where the rest cannot become the best stage; default: {}.")
    through_tags: bool = setting(True, TRAINING, "", "Predict labels that are strings of tags by tags; default: {}.")
    decide_for: str | None = setting(
        None, AFTER, "MEASURE", "Tags: decide for f2, f1, exact or precision=0.9; default: f2.", option="--for"
    )
    test_views: bool = setting(True, AFTER, "", "Predict by means over views mirrored as in training; default: {}.")
    thresholds: bool = setting(True, AFTER, "", "Choose them for tags; default: {}.")
    calibrate: bool = setting(True, AFTER, "", "Make probabilities right; default: {}.")
    name: str | None = setting(None, RUN, "NAME", "Of the run; default: that of DATA.")
    out: str = setting("runs", RUN, "FOLDER", "Folder of the runs; default {}.")
    track: list[Tracker] = setting(
        [], RUN, "TRACKER", "Log to tensorboard, mlflow or wandb, too. May be given several times."
    )
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)  # where values came from

    def __post_init__(self) -> None:
        for name, value in _checked(self.values()).items():
            object.__setattr__(self, name, value)  # a whole number where a float is meant is one now

    def values(self) -> dict[str, Any]:
        """Return the settings by name."""
        return {name: getattr(self, name) for name in settings()}

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a YAML file of settings.

        Raises:
            ArgumentError: no such file, an unknown key (with near ones), or a value that cannot work; the message
                names the key, what was expected, what was received, and the line.
        """
        return cls.merged(Path(path), {})

    @classmethod
    def of_run(cls, path: Path) -> Self:
        """Read the settings of a run, each with where it came from, as the comment behind it says.

        Raises:
            ArgumentError: as in ``read``.
        """
        config = cls.read(path)
        lines = read_plain(path, MOST_SETTINGS).decode("utf-8").splitlines()
        said = {match[1]: match[2] for match in map(_COMMENTED.fullmatch, lines) if match}
        return replace(config, origins={**config.origins, **{n: how for n, how in said.items() if n in settings()}})

    @classmethod
    def merged(cls, file: str | Path | None, options: Mapping[str, Any]) -> Self:
        """Put settings together: options of the command line win over settings of a file.

        ``epochs`` on the command line replaces ``minutes`` of the file, and the reverse.

        Args:
            file: YAML, or None.
            options: settings by name; None counts as not said.

        Raises:
            ArgumentError: as in ``read``; the message names the option where the value came from there.
        """
        values, lines = ({}, {}) if file is None else _read_yaml(Path(file))
        options = {name: _simple(value) for name, value in options.items() if value is not None}
        if "epochs" in options or "minutes" in options:
            values = {k: v for k, v in values.items() if k not in ("epochs", "minutes")}
        where = {name: f"{file}, line {lines.get(name, 1)}: " for name in values if name not in options}
        values |= options
        _check_keys(values, where, file)
        _checked(values, where, "" if file is None else f"{file}: ")
        return cls(**values, origins=dict.fromkeys(where, FILE) | dict.fromkeys(options, OPTION))

    def origin(self, name: str) -> str:
        """Say where a setting's value came from: ``option``, ``config file``, ``default``, or how it was found."""
        return self.origins.get(name, DEFAULT)

    def found(self, name: str, value: Any, how: str) -> Self:
        """Return these settings with one that was found by looking or measuring, and how.

        Raises:
            ArgumentError: a value that cannot work.
        """
        return replace(self, **{name: value, "origins": {**self.origins, name: how}})

    @property
    def length(self) -> tuple[int | None, float | None]:
        """(epochs, minutes), one of which is not None."""
        if self.minutes is not None:
            return None, self.minutes
        return (DEFAULT_EPOCHS if self.epochs is None else self.epochs), None

    def to_yaml(self) -> str:
        """Return the settings as YAML, with a comment a group and where each value came from; ``read`` reads it."""
        import yaml

        lines = ["# All settings of a run. Again: onecycle train --config THIS_FILE"]
        for name in settings():
            if name in GROUPS:
                lines += ["", f"# {GROUPS[name]}"]
            text = yaml.safe_dump(getattr(self, name), allow_unicode=True, default_flow_style=True, width=10_000)
            text = text.removesuffix("...\n").strip()
            lines.append(f"{name}: {text}  # {safe_text(' '.join(self.origin(name).split()))}")
        return "\n".join(lines) + "\n"

    def command(self) -> str:
        """Return the shell command that runs these settings again, quoted; what was found is found again."""
        words = ["onecycle", "train", self.data]
        for name, declared in settings().items():
            value = getattr(self, name)
            if name != "data" and value != _default(declared) and self.origin(name) in (OPTION, FILE):
                words += _option_words(name, value)
        return shlex.join(words)


@cache
def settings() -> dict[str, Field[Any]]:
    """Return the declarations by name, in the order of config.yaml; their ``metadata`` is that of ``setting``."""
    return {f.name: f for f in fields(RunConfig) if f.metadata}


@cache
def kinds() -> dict[str, Any]:
    """Return the type of each setting."""
    return get_type_hints(RunConfig)


@cache
def _model() -> type[BaseModel]:
    """Return what checks values: strictly, a number is no truth value and a text no number."""
    from pydantic import ConfigDict, Field, create_model

    checks: dict[str, Any] = {
        name: (kinds()[name], Field(_default(declared), **declared.metadata["bounds"]))
        for name, declared in settings().items()
    }
    return create_model("RunConfig", __config__=ConfigDict(strict=True, allow_inf_nan=False), **checks)


def _default(declared: Field[Any]) -> Any:
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def _checked(values: Mapping[str, Any], where: Mapping[str, str] | None = None, file: str = "") -> dict[str, Any]:
    """Return all settings, of the types that are declared.

    Args:
        values: settings by name.
        where: what the message about a setting begins with, by name.
        file: what the message about several begins with.

    Raises:
        ArgumentError: a value that cannot work, or two that do not go together.
    """
    from pydantic import ValidationError

    try:
        checked = _model().model_validate(values).model_dump()
    except ValidationError as error:
        raise ArgumentError(_message(error, where or {})) from None
    epochs, minutes = checked["epochs"], checked["minutes"]
    if epochs is not None and minutes is not None:
        raise ArgumentError(f"{file}epochs and minutes both say how long to train ({epochs} and {minutes}); keep one")
    if epochs == 0 and checked["freeze_epochs"] == 0:
        raise ArgumentError(f"{file}there is nothing to train: epochs and freeze_epochs are both 0")
    levels = checked["levels"]
    if levels not in (AUTO, "none") and (isinstance(levels, str) or levels < 1):
        stages = "auto, none or the number of stages that the head reads, 1 or more"
        raise ArgumentError(f"{file}levels should be {stages}; received {levels!r}")
    if checked["decide_for"] is not None:
        _check_measure(checked, file)
    return checked


def _check_measure(values: Mapping[str, Any], file: str) -> None:
    from onecycle.evaluation.certainty.decisions import Measure

    try:
        measure = Measure.named(values["decide_for"])
    except ArgumentError as error:
        raise ArgumentError(f"{file}decide_for: {error}") from None
    if measure.precision is not None and not values["thresholds"]:
        raise ArgumentError(f"{file}decide_for: {measure} is reached by thresholds, and these are not to be chosen")


def _simple(value: Any) -> Any:
    """Return paths and the words of an enumeration as plain text, and tuples as lists."""
    if isinstance(value, (list, tuple)):
        return [_simple(item) for item in value]
    return str(value) if isinstance(value, (str, Path)) else value


def option_of(name: str) -> str:
    """Return what the command line calls a setting."""
    return settings()[name].metadata["option"] or f"--{name.replace('_', '-')}"


def _option_words(name: str, value: Any) -> list[str]:
    """Return an option as words of a command line."""
    option = option_of(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, list):
        return [word for item in value for word in (option, str(item))]
    return [option, f"{value:g}" if isinstance(value, float) else str(value)]


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the settings of a file, and the line of each."""
    import yaml

    try:
        text = read_plain(path, MOST_SETTINGS).decode("utf-8")
    except FileNotFoundError:
        raise ArgumentError(f"there is no settings file {path}; pass one that a run wrote, its config.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} cannot be read as settings: {error}") from error
    except Refused as error:
        raise ArgumentError(f"{error}; pass one that a run wrote, its config.yaml") from None
    try:
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader), path)
        node, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # 2020-99-99 is no date, say
        why = safe_text(" ".join(str(error).split()))[:300]
        raise ArgumentError(f"{path} is not valid YAML: {why}") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise ArgumentError(f"{path} should hold settings, one `name: value` a line; received {type(values).__name__}")
    try:
        check_plain(values, str(path), finite=False)  # its line is named where numbers are checked
    except Refused as error:
        raise ArgumentError(str(error)) from None
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)[:100]
        if name in lines:
            raise ArgumentError(f"{path}, lines {lines[name]} and {key.start_mark.line + 1}: {name!r} is set twice")
        lines[name] = key.start_mark.line + 1
    return {str(k)[:100]: _as_meant(str(k), v) for k, v in values.items()}, lines


def _check_events(events: Iterable[Any], path: Path) -> None:
    """Refuse what takes long to read or to write out again, as soon as it comes: depth, number, references."""
    import yaml

    depth = 0
    for i, event in enumerate(events):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ArgumentError(f"{path}: settings have no references (*name) to other places of the file")
        if depth > _MOST_DEPTH:
            raise ArgumentError(f"{path} has more than {_MOST_DEPTH} lists and mappings in each other")
        if i > _MOST_EVENTS:
            raise ArgumentError(f"{path} has more than {_MOST_EVENTS:,} names and values; settings are some 50")


def _as_meant(name: str, value: Any) -> Any:
    """Return a number for ``1e-3``, which YAML 1.1 takes for text."""
    if isinstance(value, str) and "float" in str(kinds().get(name)):
        with suppress(ValueError):
            return float(value)
    return value


def _check_keys(values: Mapping[str, Any], where: Mapping[str, str], file: str | Path | None) -> None:
    known = settings()
    for name in (n for n in values if n not in known):
        plain = name.replace("-", "_")
        near = [plain] if plain in known else get_close_matches(plain, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}"
        raise ArgumentError(f"{where.get(name, '')}there is no setting {name!r}; {hint}")
    if "data" not in values:
        who = f"{file} does not say" if file is not None else "nothing says"
        raise ArgumentError(f"{who} which data to train on: `data: FOLDER` in the file, or `onecycle train FOLDER`")


def _message(error: ValidationError, where: Mapping[str, str]) -> str:
    """Say what is wrong with the first value: setting, expected, received, and where it stands."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    expected = first["msg"].removeprefix("Input should be ")
    if len(first["loc"]) > 1 and first["type"] != "literal_error" and "valid" not in expected:
        expected = f"{expected} ({kinds()[name]})"
    received = repr(first["input"])
    received = received if len(received) <= _LONGEST_SHOWN else f"{received[:_LONGEST_SHOWN]} …"
    return f"{where.get(name, '')}{name} should be {expected}; received {received}"
