"""The help of every command, held against the page that was last looked at.

``ONECYCLE_WRITE_HELP=1 pytest tests/cli/test_help.py`` writes the pages anew: read them before committing them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onecycle.cli.main import app

PAGES = Path(__file__).parent / "help"


def names_of(commands) -> list[str]:
    return [(c.name or c.callback.__name__).replace("_", "-") for c in commands if c.callback]


COMMANDS = sorted(
    names_of(app.registered_commands)
    + [
        f"{group.name} {name}"
        for group in app.registered_groups
        for name in names_of(group.typer_instance.registered_commands)
    ]
)


PRINT_ALL = """
import sys
from onecycle.cli.main import main
for command in sys.argv[1:]:
    sys.argv = ["onecycle", *command.split(), "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    print("\\f", end="")
"""


@pytest.fixture(scope="module")
def help_pages() -> dict[str, str]:
    """What ``onecycle … --help`` prints into a pipe of 80 columns, by the command; one process prints them all."""
    env = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1", "TERM": "dumb"}
    env.pop("FORCE_COLOR", None)
    words = [sys.executable, "-c", PRINT_ALL, "", *COMMANDS]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60)
    pages = done.stdout.split("\f")[:-1]
    texts = ["\n".join(line.rstrip() for line in page.splitlines()) + "\n" for page in pages]
    return dict(zip(["", *COMMANDS], texts, strict=True))


def test_the_readme_names_every_command():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert [c for c in COMMANDS if f"`{c}" not in readme and f"onecycle {c}" not in readme] == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_is_the_page_that_was_looked_at(command, help_pages):
    page = help_pages[command]
    assert max(map(len, page.splitlines())) <= 80
    kept = PAGES / f"{command.replace(' ', '-') or 'onecycle'}.txt"
    if os.environ.get("ONECYCLE_WRITE_HELP"):
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(page)
    assert page == kept.read_text()
