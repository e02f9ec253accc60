"""Signals that stop a run: the first saves, the second stops, one that comes twice is one."""

import os
import signal

import pytest
from transformers import TrainerControl

from training import watcher
from training.ranks import Ranks
from training.watcher import Stopper


def signalled() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_first_signal_asks_for_a_checkpoint_and_the_second_stops() -> None:
    stopper, control = Stopper(Ranks()), TrainerControl()
    with stopper.listening():
        signalled()
        stopper.on_step_end(None, None, control)
        assert control.should_save
        assert control.should_training_stop
        with pytest.raises(KeyboardInterrupt):
            signalled()


@pytest.fixture
def one_of_two() -> Stopper:
    return Stopper(Ranks(1, 2))


def test_signal_that_reaches_one_of_several_processes_twice_is_one(one_of_two: Stopper) -> None:
    with one_of_two.listening():
        signalled()
        signalled()
        assert one_of_two.asked


def test_signal_after_that_of_another_process_is_the_first_here(one_of_two: Stopper) -> None:
    one_of_two.asked = True  # as all processes agree on at the end of a step
    with one_of_two.listening():
        signalled()


def test_later_signal_stops_one_of_several_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watcher, "_TOGETHER", 0.0)
    late = Stopper(Ranks(1, 2))
    with late.listening():
        signalled()
        with pytest.raises(KeyboardInterrupt):
            signalled()
