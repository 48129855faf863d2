"""What ``doc`` shows, as text and as HTML, for everything that a notebook may point it at."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

import onecycle.errors
from onecycle.doc import WIDTH, as_html, as_text, describe, doc


class Colour(Enum):
    """What a thing looks like."""

    Red = 1
    Blue = "b"


class Bare:
    def __init__(self, size: int = 3) -> None:
        """Make one of this size."""


@dataclass
class Score:
    """A metric with a setting.

    Args:
        beta: weight of recall.
    """

    beta: float = 2.0

    def __call__(self, logits: list[float], targets: list[int]) -> float:
        return self.beta

    @property
    def doubled(self) -> float:
        """Twice the setting."""
        return 2 * self.beta

    def plot(
        self, k: int, figsize: tuple[float, float] = (12, 12), *, kind: Colour = Colour.Red, by: Any = len
    ) -> None:
        """Draw <k> of them & more, where a long first line of prose goes on well beyond the eighty columns of text.

        Args:
            k: how many, with an explanation that is so long that it must be broken into a second line of text.
            by: see ``sorted``.

        Raises:
            ValueError: never.
        """


def shown(capsys: pytest.CaptureFixture[str], obj: object) -> str:
    assert doc(obj) is None
    return capsys.readouterr().out


def test_a_bound_method_shows_signature_source_and_docstring_in_eighty_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, Score().plot)
    lines = text.splitlines()
    assert lines[:6] == [
        "Score.plot(",
        "    k: int,",
        "    figsize: tuple[float, float] = (12, 12),",
        "    *,",
        "    kind: Colour = Colour.Red,",
        "    by: Any = len,",
    ]
    assert "self" not in text
    line = Score.plot.__code__.co_firstlineno
    assert f"method, test_doc.py:{line} ({Score.__module__})" in text.replace("tests/", "")
    assert "Args:\n    k: how many, with an explanation" in text
    assert max(map(len, lines)) <= WIDTH


def test_a_method_seen_through_its_class_is_shown_as_it_is_called() -> None:
    assert describe(Score.plot).signature().startswith("Score.plot(\n    k: int,")


def test_html_escapes_and_formats() -> None:
    page = as_html(describe(Score().plot))
    assert "Draw &lt;k&gt; of them &amp; more" in page
    assert "<k>" not in page
    assert "<li><code>by</code>: see <code>sorted</code>.</li>" in page
    assert "<b>Raises</b>" in page
    assert "self" not in page


def test_html_escapes_names_defaults_and_annotations() -> None:
    def probe(x: str = "<b>") -> None:
        """No <i>markup</i> of mine."""

    probe.__annotations__["x"] = "<script>"

    page = as_html(describe(probe))
    assert "<script>" not in page
    assert "<i>" not in page
    assert "&lt;locals&gt;" in page
    assert "&#x27;&lt;b&gt;&#x27;" in page


def test_in_a_notebook_html_and_text_are_handed_to_the_display(capsys: pytest.CaptureFixture[str]) -> None:
    bundles: list[dict[str, str]] = []
    assert doc(Score, display=bundles.append) is None
    assert capsys.readouterr().out == ""
    about = describe(Score)
    assert bundles == [{"text/html": as_html(about), "text/plain": as_text(about)}]


@pytest.mark.parametrize("kernel", [None, SimpleNamespace()])
def test_a_terminal_gets_text_and_a_kernel_html(
    kernel: SimpleNamespace | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("IPython")
    published: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=kernel))
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: published.append(bundle))
    doc(Score)
    if kernel is None:
        assert capsys.readouterr().out.startswith("Score(beta: float = 2.0)\n")
        assert published == []
    else:
        assert capsys.readouterr().out == ""
        assert "<b>Score</b>" in published[0]["text/html"]


def test_a_class_an_enum_and_a_class_documented_in_its_init(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Score).startswith("Score(beta: float = 2.0)\nclass, ")
    assert "Make one of this size." in shown(capsys, Bare)
    text = shown(capsys, Colour)
    assert text.startswith("Colour\nenum, ")
    assert "What a thing looks like.\n\nMembers:\n    Red: 1\n    Blue: 'b'" in text


def test_an_instance_shows_how_it_is_called_and_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, Score(beta=0.5))
    assert text.startswith("Score(logits: list[float], targets: list[int]) -> float\n")
    assert "instance of Score, Score(beta=0.5), " in " ".join(text.split())
    assert "beta: weight of recall." in text


def test_a_property_shows_no_call(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, Score.doubled)
    assert text.startswith("Score.doubled\nproperty, ")
    assert "Twice the setting." in text


def test_a_partial_names_what_it_fixes_and_documents_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, functools.partial(describe, obj=3))
    assert text.startswith("describe(*, obj: object = 3) -> Documentation\npartial of function with obj=3, ")
    assert "Collect what ``doc`` shows" in text


def test_a_wrapped_function_points_at_the_original() -> None:
    @functools.wraps(describe)
    def wrapper(*args: object) -> object:
        return describe(*args)

    assert describe(wrapper).source == describe(describe).source
    assert describe(wrapper).signature() == "describe(obj: object) -> Documentation"


def test_a_module_lists_what_it_defines(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, onecycle.errors)
    assert text.startswith("onecycle.errors\nmodule, onecycle/errors.py:1 (onecycle.errors)\n")
    assert "    ArgumentError: An argument has a value that cannot work." in text
    assert "OnecycleWarning (UserWarning)" in text  # the drawing of the tree keeps its lines


def test_sources_are_given_from_the_package_on() -> None:
    line = describe.__code__.co_firstlineno
    assert describe(describe).source == f"onecycle/doc.py:{line} (onecycle.doc)"
    assert describe(onecycle).source == "onecycle/__init__.py:1 (onecycle)"


@pytest.mark.parametrize("obj", [len, dict, 3, "text", None])
def test_built_ins_say_that_there_is_no_source(obj: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert "built in or compiled, no Python source (builtins)" in " ".join(shown(capsys, obj).split())


def test_defaults_carry_no_memory_address_and_markers_are_kept() -> None:
    def probe(a, /, b=object(), *rest, c=functools.partial(len), **named):  # type: ignore[no-untyped-def] # noqa: B008
        ...

    assert describe(probe).parameters == ("a", "/", "b=<object object>", "*rest", "c=partial(len, …)", "**named")
    assert describe(probe).text == "(no docstring)"


def test_a_terminal_without_ipython_is_not_made_to_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    doc(Score)
    assert "IPython" not in sys.modules
