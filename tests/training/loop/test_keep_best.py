"""The best weights: saved when found, kept, taken whole, named; a fake trainer, the real rules.

The fake has transformers' own flow of steps, evaluations and saves and our own way of saving; what
it trains is the number of its step, which is all that its checkpoints hold.
"""

import contextlib
import itertools
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from training.loop import checkpoints, metrics
from training.loop.callbacks import MetricsCallback, SaveBest, losses_of, stalled
from training.loop.trainer import Trainer, conclude
from training.processes import Ranks

STEPS = 24
WEIGHTS = "adapter_model.safetensors"


class Killed(BaseException):
    """As by SIGKILL: nothing may catch it."""


class Fake(Trainer):
    """Evaluates to the losses it is given; ``kill`` is called at each moment of a step."""

    def __init__(
        self, folder: Path, kept: Any, loss: Callable[[int], float], kill: Any = None
    ) -> None:
        self.args = SimpleNamespace(
            output_dir=str(folder), logging_first_step=False, logging_strategy="no",
            eval_strategy=IntervalStrategy.STEPS, eval_delay=0, save_strategy=SaveStrategy.STEPS,
            metric_for_best_model=None,
        )  # fmt: skip
        self.state = TrainerState(
            max_steps=STEPS, eval_steps=kept.eval_steps, save_steps=kept.save_steps
        )
        self.control = TrainerControl()
        self.keep = kept.save_total_limit
        self.accelerator = SimpleNamespace(wait_for_everyone=lambda: None)
        watching = [MetricsCallback(folder / "none", 1, kept.patience, writes=False)]
        keeping = [SaveBest(folder, Ranks())] if kept.keep_best else []
        flow = [DefaultFlowCallback(), *watching, *keeping]
        self.callback_handler = CallbackHandler(flow, None, None, None, None)
        self.loss = loss
        self.kill = kill

    def is_world_process_zero(self) -> bool:
        return True

    def run(self) -> None:
        if resume := checkpoints.newest(Path(self.args.output_dir)):
            self.state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
        while self.state.global_step < STEPS and not self.control.should_training_stop:
            self.state.global_step += 1
            self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
            self._maybe_log_save_evaluate(None, None, None, None, 0.0, None, 0.0)
            self.at("stepped")

    def _evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        step = self.state.global_step
        self.state.log_history.append({"step": step, "eval_loss": self.loss(step)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        self.at("evaluated")
        return {}

    def at(self, moment: str) -> None:
        if self.kill:
            self.kill(moment, self.state.global_step)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder for thousands of checkpoints, in memory where there is one: disks remove slowly."""
    shared = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a number for weights; a test needs no disk that outlives the machine."""

    def save(trainer: Fake, *_: Any) -> None:
        step = trainer.state.global_step
        folder = checkpoints.of_step(Path(trainer.args.output_dir), step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_text(str(step))
        trainer.at("half saved")
        if trainer.kill:  # else none goes on from it
            trainer.state.save_to_json(str(folder / "trainer_state.json"))

    def take(model: dict[str, int], folder: Path) -> None:
        model["step"] = int((folder / WEIGHTS).read_text())

    monkeypatch.setattr("trl.SFTTrainer._save_checkpoint", save)
    monkeypatch.setattr("training.loop.trainer.take_weights", take)
    monkeypatch.setattr("os.fsync", lambda _: None)


def kept(evaluate: int, save: int, **more: Any) -> Any:
    """Settings; not the config itself, as 1,536 of them would take their checks' time."""
    given = {"keep_best": True, "save_total_limit": 2, "patience": None} | more
    return SimpleNamespace(eval_steps=evaluate, save_steps=save, **given)


def end(folder: Path, settings: Any, trainer: Fake) -> tuple[int, int, float | None]:
    """Finish a run; give the step of the weights, and step and loss as they are told."""
    config = SimpleNamespace(checkpoints=settings)
    job: Any = SimpleNamespace(config=config, validation=True, checkpoints=folder, ranks=Ranks())
    model = {"step": trainer.state.global_step}
    outcome = conclude(job, model, trainer.state, 0.0, 0)
    return model["step"], outcome.adapter_step, outcome.adapter_validation_loss


def play(folder: Path, settings: Any, loss: Callable[[int], float]) -> tuple[int, int, Any]:
    trainer = Fake(folder, settings, loss)
    trainer.run()
    return end(folder, settings, trainer)


def evaluated(evaluate: int) -> list[int]:
    return sorted({*range(evaluate, STEPS + 1, evaluate), STEPS})


@pytest.mark.parametrize("evaluate", range(1, 9))
def test_adapter_is_that_of_the_lowest_loss_whenever_it_is_found(
    evaluate: int, memory: Path
) -> None:
    steps = evaluated(evaluate)
    for save, lowest in itertools.product(range(1, 9), range(1, STEPS + 1)):

        def loss(step: int, lowest: int = lowest) -> float:
            return 1.0 + abs(step - lowest) / 10

        # Of two steps as near to it, the earlier.
        best = min(steps, key=lambda step: (abs(step - lowest), step))
        folder = memory / f"{save}-{lowest}"
        assert play(folder, kept(evaluate, save), loss) == (best, best, loss(best)), (save, lowest)
        assert len(list(folder.iterdir())) <= 2
        shutil.rmtree(folder)


@pytest.mark.parametrize("moment", ["evaluated", "half saved", "stepped"])
@pytest.mark.parametrize(("evaluate", "save"), [(5, 2), (3, 7)])
def test_run_killed_at_any_moment_keeps_the_same_weights(
    moment: str, evaluate: int, save: int, memory: Path
) -> None:
    settings = kept(evaluate, save)
    for at, lowest in itertools.product(range(1, STEPS + 1), (5, 20)):

        def loss(step: int, lowest: int = lowest) -> float:
            return 1.0 + abs(step - lowest) / 10

        def kill(what: str, step: int, at: int = at) -> None:
            if (what, step) == (moment, at):
                raise Killed

        folder = memory / f"{at}-{lowest}"
        folder.mkdir()
        killed = Fake(folder, settings, loss, kill)
        with contextlib.suppress(Killed):
            killed.run()
        best = min(evaluated(evaluate), key=lambda step: (abs(step - lowest), step))
        assert play(folder, settings, loss) == (best, best, loss(best)), (at, lowest)


def by(losses: dict[int, float]) -> Callable[[int], float]:
    return lambda step: losses.get(step, 9.0)


def test_issue_by_its_figures(tmp_path: Path) -> None:
    losses = {5: 3.0, 10: 2.5, 15: 2.0, 20: 2.1, STEPS: 2.2}
    assert play(tmp_path, kept(5, 10), by(losses)) == (15, 15, 2.0)


def test_defaults_save_the_best_before_the_first_regular_checkpoint(tmp_path: Path) -> None:
    assert play(tmp_path, kept(8, 200), by({8: 2.0, 16: 2.5, 24: 2.5})) == (8, 8, 2.0)


@pytest.mark.parametrize("worst", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_never_the_best(worst: float, tmp_path: Path) -> None:
    losses = {8: worst, 16: 3.0, 24: worst}
    assert play(tmp_path / "some", kept(8, 8), by(losses)) == (16, 16, 3.0)
    step, told, _ = play(tmp_path / "all", kept(8, 8), lambda _: worst)
    assert (step, told) == (STEPS, STEPS)


def test_patience_stops_and_saves_and_the_best_is_taken(tmp_path: Path) -> None:
    settings = kept(3, 8, patience=2)
    losses = by({3: 4.0, 6: 3.0, 9: 3.0, 12: 3.1, 15: 1.0})
    trainer = Fake(tmp_path, settings, losses, lambda *_: None)
    trainer.run()
    assert trainer.state.global_step == 12
    assert checkpoints.finished(tmp_path) == {6, 12}
    assert end(tmp_path, settings, trainer) == (6, 6, 3.0)
    # Killed now, it finds itself done.
    state = json.loads((checkpoints.of_step(tmp_path, 12) / "trainer_state.json").read_text())
    assert stalled(losses_of(SimpleNamespace(**state)), 2)


def test_without_keep_best_the_last_weights_stay(tmp_path: Path) -> None:
    settings = kept(5, 10, keep_best=False)
    assert play(tmp_path, settings, by({5: 1.0})) == (STEPS, STEPS, 9.0)


def damage_marker(folder: Path) -> None:
    (folder / checkpoints.MARKER).unlink()


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_text("")


@pytest.mark.parametrize("damage", [damage_marker, cut_weights, shutil.rmtree])
def test_damaged_best_is_never_taken_and_the_next_best_is_named(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = kept(5, 10, save_total_limit=4)
    trainer = Fake(tmp_path, settings, by({5: 3.0, 10: 2.0, 15: 1.0, 20: 2.1, STEPS: 2.2}))
    trainer.run()
    damage(checkpoints.of_step(tmp_path, 15))
    with caplog.at_level("WARNING", "catalogue"):
        assert end(tmp_path, settings, trainer) == (10, 10, 2.0)
    assert "the best weights, of step 15, are lost: the adapter is that of step 10" in caplog.text


def test_best_that_went_missing_does_not_keep_the_next_best_from_being_saved(
    tmp_path: Path,
) -> None:
    """As of a run that an earlier version began, which did not save it."""
    losses = by({5: 2.0, 10: 3.0, 15: 2.5, 20: 2.6, STEPS: 2.7})

    def lose(what: str, step: int) -> None:
        if (what, step) == ("stepped", 10):
            shutil.rmtree(checkpoints.of_step(tmp_path, 5))

    settings = kept(5, 10)
    trainer = Fake(tmp_path, settings, losses, lose)
    trainer.run()
    assert end(tmp_path, settings, trainer) == (15, 15, 2.5)


def test_ranking() -> None:
    assert metrics.ranked({2: 3.0, 4: math.nan, 6: 1.0, 8: 1.0, 10: math.inf}) == [6, 8, 2]
