from __future__ import annotations

import io
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from onecycle.text import format_time
from onecycle.train.log import progress as module
from onecycle.train.log.progress import (
    NotebookProgress,
    PlainProgress,
    Progress,
    TerminalProgress,
    bar_text,
    format_cell,
    format_row,
    html_table,
    in_notebook,
    make_progress,
    table_header,
    table_row,
)
from onecycle.train.log.recorder import EpochRow

NAMES = ["epoch", "train_loss", "valid_loss", "error_rate", "time"]
ROW = EpochRow(0, 4.742209, 7.646913, (0.611399,), 6.4)


def test_times():
    assert [format_time(s) for s in (0, 6.9, 75, 3599, 3600, 36610)] == [
        "00:00",
        "00:06",
        "01:15",
        "59:59",
        "1:00:00",
        "10:10:10",
    ]


def test_cells():
    assert [format_cell(v) for v in (3, 0.25, None, "x", [[1, 0]])] == ["3", "0.250000", "#na#", "x", "[[1, 0]]"]
    assert format_row(EpochRow(2, 1.0, None, (), 1.0), 1) == ["2", "1.000000", "#na#", "#na#", "00:01"]


def test_text_table_is_v1s():
    assert table_header(NAMES) == "epoch     train_loss  valid_loss  error_rate  time"
    wanted = "0         4.742209    7.646913    0.611399    00:06"
    assert table_row(NAMES, format_row(ROW, 1)) == wanted


def test_two_metrics_fit_in_eighty_columns():
    names = ["epoch", "train_loss", "valid_loss", "accuracy_thresh", "multi_label_fbeta", "time"]
    row = format_row(EpochRow(19, 10.0, 10.0, (0.5, 0.5), 4000.0), 2)
    assert max(len(table_header(names)), len(table_row(names, row))) <= 80


def test_html_table_escapes():
    table = html_table(["<b>"], [["1"], ["&"]])
    assert 'class="dataframe"' in table
    assert "<th>&lt;b&gt;</th>" in table
    assert table.count("<tr>") == 2
    assert "<td>&amp;</td>" in table


def test_bar_text():
    assert bar_text(0, 10, 1.0, None) == "0/10 [00:01<--:--]"
    assert bar_text(5, 10, 30.0, 0.12345) == "5/10 [00:30<00:30] loss 0.1235"


def run(reporter, epochs=2):
    reporter.start(NAMES, epochs)
    for epoch in range(epochs):
        reporter.epoch(3)
        for i in range(3):
            reporter.batch(i + 1, 3, lambda: 0.5)
        reporter.validating()
        reporter.row(EpochRow(epoch, 1.0, 2.0, (0.5,), 6.0))
    reporter.finish()


def test_plain_lines_have_no_control_characters():
    stream = io.StringIO()
    run(PlainProgress(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == table_header(NAMES)
    assert lines[1:] == [f"{e}         1.000000    2.000000    0.500000    00:06" for e in (0, 1)]
    assert stream.getvalue().replace("\n", "").isprintable()


def test_silent_says_nothing(capsys):
    run(make_progress(silent=True))
    assert capsys.readouterr() == ("", "")
    assert type(make_progress(silent=True)) is Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_keeps_rows_and_takes_the_bar_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    run(TerminalProgress(stream))
    text = stream.getvalue()
    assert "epoch 1/2" in text
    assert "validating" in text
    for wanted in [table_header(NAMES), "1         1.000000    2.000000    0.500000    00:06"]:
        assert wanted in text
    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    assert max(len(line) for line in bare.split("\n")) <= 80


def test_bar_asks_for_the_loss_on_a_timer(monkeypatch):
    now, asked, drawn = [0.0], [], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    class Bar(Progress):
        shows_bar = True

        def draw(self, done, n_batches, loss):
            drawn.append(done)

    bar = Bar()
    bar.start(NAMES, 1)
    bar.epoch(100)
    for i in range(100):
        now[0] += 0.02
        bar.batch(i + 1, 100, lambda: asked.append(1) or 0.5)
    assert len(asked) in (3, 4)
    assert drawn[0] == 0


def test_choice_by_where_output_goes(monkeypatch):
    assert not in_notebook()
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert isinstance(make_progress(), TerminalProgress)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert isinstance(make_progress(), PlainProgress)
    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert isinstance(make_progress(), NotebookProgress)
    shell.get_ipython = lambda: SimpleNamespace()
    assert isinstance(make_progress(), PlainProgress)


@pytest.fixture
def shown(monkeypatch):
    display = pytest.importorskip("IPython.display")
    outputs = []

    def first(bundle, *, raw, display_id):
        outputs.append(bundle)
        return SimpleNamespace(display_id="id")

    def again(bundle, *, raw, display_id):
        assert display_id == "id"
        outputs.append(bundle)

    monkeypatch.setattr(display, "display", first)
    monkeypatch.setattr(display, "update_display", again)
    return outputs


def test_notebook_redraws_one_output(shown):
    run(NotebookProgress())
    assert "<progress" in shown[1]["text/html"]
    last = shown[-1]
    assert last["text/html"] == html_table(NAMES, [format_row(EpochRow(e, 1.0, 2.0, (0.5,), 6.0), 1) for e in (0, 1)])
    assert last["text/plain"].splitlines()[0] == table_header(NAMES)
    assert len(last["text/plain"].splitlines()) == 3


def test_notebook_without_columns_ends_empty(shown):
    reporter = NotebookProgress()
    reporter.start([], 1)
    reporter.epoch(10)
    reporter.finish()
    assert shown[-1] == {"text/html": "", "text/plain": ""}


def test_notebook_that_never_started_shows_nothing(shown):
    NotebookProgress().finish()
    assert shown == []


@pytest.mark.slow
def test_notebook_output_survives_nbclient():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    code = (
        "from onecycle.train.log.progress import make_progress\n"
        "from onecycle.train.log.recorder import EpochRow\n"
        "p = make_progress(); p.start(['epoch', 'train_loss', 'valid_loss', 'time'], 1); p.epoch(3)\n"
        "p.row(EpochRow(0, 1.0, 2.0, (), 6.0)); p.finish()\n"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=60).execute()
    outputs = book.cells[0].outputs
    assert len(outputs) == 1
    assert "dataframe" in outputs[0]["data"]["text/html"]
    assert "<progress" not in outputs[0]["data"]["text/html"]
    assert outputs[0]["data"]["text/plain"].startswith("epoch")
