"""The options that several commands share: their types, their help, and how their texts are read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onecycle.data.layout import LayoutOptions

_TABLE, _SPLIT, _OUTPUT = "The table, where it is not found by looking", "The split", "Output"
_NETWORK, _TRAINING, _RUN = "What the network sees", "The network and its training", "The run"

Data = Annotated[
    str,
    typer.Argument(
        help="Folder with a table or with class folders; a table (CSV, TSV, parquet); or a name in URLs.",
        show_default=False,
    ),
]
Csv = Annotated[str | None, typer.Option(help="Table below DATA.", rich_help_panel=_TABLE, metavar="FILE")]
Folder = Annotated[
    str | None, typer.Option(help="Folder of the pictures below DATA.", rich_help_panel=_TABLE, metavar="FOLDER")
]
Suffix = Annotated[
    str | None,
    typer.Option(help="Added to each file name of the table, e.g. .jpg.", rich_help_panel=_TABLE, metavar="TEXT"),
]
LabelDelim = Annotated[
    str | None,
    typer.Option(
        help="Parts the tags of a cell, e.g. ' '; '' for one label a picture.", rich_help_panel=_TABLE, metavar="TEXT"
    ),
]
FnCol = Annotated[
    str | None,
    typer.Option(help="Column of the file names: name or position.", rich_help_panel=_TABLE, metavar="COLUMN"),
]
LabelCol = Annotated[
    str | None, typer.Option(help="Column of the labels: name or position.", rich_help_panel=_TABLE, metavar="COLUMN")
]
GroupCol = Annotated[
    str | None,
    typer.Option(
        help="Column of what must not be in both parts: site, patient, flight.",
        rich_help_panel=_SPLIT,
        metavar="COLUMN",
    ),
]
SplitFile = Annotated[
    str | None,
    typer.Option(help="Take the split of another run: its split.csv.", rich_help_panel=_SPLIT, metavar="FILE"),
]
ValidPct = Annotated[
    float | None,
    typer.Option(help="Share of the pictures that validate; default 0.2.", rich_help_panel=_SPLIT, metavar="SHARE"),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, help="Of the split, the order and every draw; default 42.", rich_help_panel=_SPLIT, metavar="NUMBER"
    ),
]
Stratify = Annotated[
    bool | None,
    typer.Option(
        "--stratify/--no-stratify",
        help="Both parts with the same share of each class or tag; default: yes.",
        rich_help_panel=_SPLIT,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result alone.", rich_help_panel=_OUTPUT)]
Run = Annotated[Path, typer.Argument(help="Run folder, e.g. runs/planet-001; or latest.", show_default=False)]
OptionalData = Annotated[
    str | None,
    typer.Argument(help="Folder with a table or with class folders; a table; or a name in URLs.", show_default=False),
]
Config = Annotated[
    Path | None, typer.Option(help="YAML with the same settings; options win.", rich_help_panel=_RUN, metavar="FILE")
]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Picture size; default: from the pictures.", rich_help_panel=_NETWORK, metavar="PX"),
]
Bs = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Pictures in a batch; default: 64, or fewer for few pictures.",
        rich_help_panel=_NETWORK,
        metavar="N",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Any timm network; default tf_efficientnet_lite0, whose weights come with onecycle.",
        rich_help_panel=_TRAINING,
        metavar="NAME",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="File or folder of pretrained weights.", rich_help_panel=_TRAINING, metavar="PATH")
]
Out = Annotated[
    str | None, typer.Option(help="Folder of the runs; default runs.", rich_help_panel=_RUN, metavar="FOLDER")
]
Name = Annotated[
    str | None, typer.Option(help="Of the run; default: that of DATA.", rich_help_panel=_RUN, metavar="NAME")
]


class FailOn(StrEnum):
    """The least severity of a finding that ends the command with exit code 1."""

    error = "error"
    warning = "warning"
    never = "never"


class Allowed(StrEnum):
    """Faults of the data that need not stop a run."""

    unreadable = "unreadable"
    leaks = "leaks"
    missing = "missing"


class Tracker(StrEnum):
    """Where a run can be logged to, beside its folder."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"


def column(text: str | None) -> int | str | None:
    """Read a column: a position, or a name."""
    return int(text) if text is not None and text.isdecimal() else text


def layout_options(
    csv: str | None,
    folder: str | None,
    suffix: str | None,
    *,
    label_delim: str | None,
    fn_col: str | None,
    label_col: str | None,
    group_col: str | None,
) -> LayoutOptions:
    """Put together what the user said about a table."""
    from onecycle.data.layout import LayoutOptions

    return LayoutOptions(csv, folder, suffix, label_delim, column(fn_col), column(label_col), column(group_col))
