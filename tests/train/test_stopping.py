"""Signals that end a process: the first one stops what runs, or waits for it; who handles one himself keeps it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from onecycle.train.resume import stopping
from onecycle.train.resume.stopping import STOPPING, Deferred, Stoppable, StoppedError


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Ctrl-C as in a terminal: a shell has it ignored by what runs beside it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_the_block_with_its_own_code(number):
    before = signal.getsignal(number)
    with pytest.raises(StoppedError) as caught, Stoppable():
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", STOPPING)
def test_a_deferred_signal_is_obeyed_where_that_is_asked_for(number):
    steps = []

    def block() -> None:
        with Deferred(lambda: False, lambda: steps.append("never")) as waiting:
            signal.raise_signal(number)
            steps.append("went on")
            waiting.obey()
            steps.append("never")

    with pytest.raises(StoppedError), Stoppable():
        block()
    assert steps == ["went on"]


def test_where_a_block_may_be_left_it_is_saved_and_left_at_once():
    steps = []
    with pytest.raises(StoppedError), Stoppable(), Deferred(lambda: True, lambda: steps.append("saved")):
        signal.raise_signal(signal.SIGTERM)
    assert steps == ["saved"]


def test_a_second_signal_ends_the_process(monkeypatch):
    ended = []
    monkeypatch.setattr(stopping, "end_at_once", ended.append)

    def block() -> None:
        with Stoppable(), Deferred(lambda: False, lambda: None) as waiting:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert ended == [signal.SIGINT]
            waiting.obey()

    with pytest.raises(StoppedError):
        block()


def test_a_process_that_is_ended_at_once_has_the_code_of_the_signal():
    pid = os.fork()
    if pid == 0:
        stopping.end_at_once(signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_signal_that_somebody_handles_is_left_alone(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with Stoppable(), Deferred(lambda: True, lambda: None):
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_signals_are_left_alone():
    seen = []

    def work() -> None:
        with Stoppable(), Deferred(lambda: True, lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
