"""Signals that stop a run: the first saves, the second stops, one that comes twice is one."""

import os
import signal

import pytest
from transformers import TrainerControl

from training.loop.callbacks import SignalCallback
from training.processes import Ranks


def stops() -> bool:
    """Signal this process; tell whether that stops it at once."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        return True
    return False


def test_first_signal_asks_for_a_checkpoint_and_the_second_stops() -> None:
    stopper, control = SignalCallback(Ranks()), TrainerControl()
    with stopper.listening():
        assert not stops()
        stopper.on_step_end(None, None, control)
        assert control.should_save
        assert control.should_training_stop
        assert stops()


def test_signal_that_reaches_one_of_several_processes_twice_is_one() -> None:
    stopper = SignalCallback(Ranks(1, 2))
    with stopper.listening():
        assert not stops()
        assert not stops()
    assert stopper.is_requested


def test_signal_after_that_of_another_process_is_the_first_here() -> None:
    stopper = SignalCallback(Ranks(1, 2))
    stopper.is_requested = True  # as all processes agree on at the end of a step
    with stopper.listening():
        assert not stops()


def test_later_signal_stops_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loop.callbacks._TOGETHER", 0.0)
    stopper = SignalCallback(Ranks(1, 2))
    with stopper.listening():
        assert not stops()
        assert stops()
