"""Options that several commands share; those of a run's settings are made from their declarations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from onecycle.runs.config import Column, Levels, kinds, option_of, settings

if TYPE_CHECKING:
    from onecycle.data.labels.find.columns import LayoutOptions

OUTPUT = "Output"

TABLE = (
    "csv", "folder", "suffix", "path_parts", "delimiter", "label_delim", "fn_col", "label_col", "join_rows",
    "group_col", "split_col",
)  # fmt: skip
SPLIT = ("valid_pct", "seed", "stratify")
FIND_LR = ("data", "arch", "weights", "levels", "size", "bs", *TABLE, *SPLIT, "name", "out")
TRAIN = (
    "data", "epochs", "minutes", "lr", "freeze_epochs", "early_stop", "through_tags", "arch", "weights", "levels",
    "size", "bs", "flip", "flip_vert", "max_rotate", "max_zoom", "max_lighting", "max_warp", *TABLE, "split", *SPLIT,
    "audit", "together", "allow", "label_check", "decide_for", "test_views", "thresholds", "calibrate", "name", "out",
    "track",
)  # fmt: skip
"""Settings that a command has, in the order of its help page."""

Passed = dict[str, Any]
"""Settings that were passed as options, by name."""

Data = Annotated[str, typer.Argument(help=settings()["data"].metadata["help"], show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result alone.", rich_help_panel=OUTPUT)]
Force = Annotated[bool, typer.Option("--force", help="Replace that file.", rich_help_panel=OUTPUT)]
Run = Annotated[Path, typer.Argument(help="Run folder, e.g. runs/planet-001; or latest.", show_default=False)]


class FailOn(StrEnum):
    """The least severity of a finding that ends the command with exit code 1."""

    error = "error"
    warning = "warning"
    never = "never"


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these settings; it gets those that were passed, as ``passed``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            passed = {name: _read(name, values.pop(name)) for name in names}
            command(passed={name: value for name, value in passed.items() if value not in (None, [])}, **values)

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            its = [_parameter(name) for name in names] if own.name == "passed" else [own]
            parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in its]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    """Make the option of a setting, or the argument, where it has no default."""
    declared, kind = settings()[name], _kind(name)
    about = declared.metadata
    shared: dict[str, Any] = {"help": about["help"], "rich_help_panel": about["panel"] or None}
    if declared.default is MISSING and declared.default_factory is MISSING:
        option: Any = typer.Argument(**shared, show_default=False)
    elif kind is bool:
        flag = name.replace("_", "-")
        option = typer.Option(f"--{flag}/--no-{flag}", **shared)
    else:
        least = about["bounds"].get("ge") if kind is int else None
        option = typer.Option(option_of(name), **shared, metavar=about["metavar"], min=least)
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kind(name: str) -> Any:
    """Return the type of a setting as the command line reads it."""
    kind = kinds()[name]
    if kind in (Column, Levels):
        return str
    if get_origin(kind) is list:
        words = get_args(get_args(kind)[0])
        return list[StrEnum(name, {word: word for word in words})]  # type: ignore[misc]
    return next(k for k in (*get_args(kind), kind) if k is not NoneType)


def _read(name: str, value: Any) -> Any:
    """Return a setting as a config file would have it: columns by position and numbers of stages are numbers."""
    if isinstance(value, (list, tuple)):
        return [str(word) for word in value]
    is_number = kinds()[name] in (Column, Levels) and value is not None and value.isdecimal()
    return int(value) if is_number else value


def layout_options(passed: Mapping[str, Any]) -> LayoutOptions:
    """Put together what the user said about a table."""
    from onecycle.data.labels.find.columns import LayoutOptions

    return LayoutOptions(**{name: passed[name] for name in TABLE if name in passed})
