"""Real runs under real trackers, read back with the trackers' own readers."""

from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.config import TRACKERS
from training.loop import metrics

PROJECT = "title-to-description"
BOTH = "--report_to=[trackio,tensorboard]"
EVALUATED = ("--checkpoints.eval_steps=2", "--checkpoints.keep_best=true")
Points = list[tuple[int, float]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of trackio, which reads its variable only once."""
    from training.model.backend import quietly

    with quietly():
        import trackio
    folder = tmp_path / "trackio"
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", folder)
    monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", folder)
    return folder


def in_trackio() -> dict[str, list[dict[str, Any]]]:
    """Read what each run logged."""
    import trackio

    logs = trackio.SQLiteStorage.get_logs
    return {run.name: logs(PROJECT, run.name, run_id=run.id) for run in trackio.Api().runs(PROJECT)}


def points(logs: list[dict[str, Any]], name: str) -> Points:
    return [(line["step"], line[name]) for line in logs if name in line]


def in_tensorboard(out: Path) -> dict[str, Points]:
    """Read the curves of a run, 32 bits each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard")).Reload()
    names = events.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in names}


def recorded(out: Path, name: str) -> Points:
    lines = metrics.read(out / "metrics.jsonl")
    return [(line["step"], line[name]) for line in lines if name in line]


def adapter(out: Path) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def test_run_killed_and_resumed_is_one_run_with_each_step_once(
    words: list[str], finished: Path, store: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from training.loop.callbacks import KeepLayers

    def stop(_: Any, _args: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    command = [*words, *EVALUATED, BOTH, f"--out={out}"]
    with monkeypatch.context() as patched:
        patched.setattr(KeepLayers, "on_log", stop)  # after the trackers
        assert main(command) == 130
    assert points(in_trackio()[str(out)], "train/loss")[-1][0] == 4
    assert main(command) == 0
    (name, logs), *others = in_trackio().items()
    curves = in_tensorboard(out)
    assert (name, others) == (str(out), [])
    for ours, theirs in (
        ("loss", "train/loss"), ("validation_loss", "eval/loss"),
        ("learning_rate", "train/learning_rate"),
        ("samples_per_second", "train/samples_per_second"), ("tokens", "train/tokens"),
    ):  # fmt: skip
        expected = recorded(out, ours)
        assert points(logs, theirs) == expected
        assert [step for step, _ in curves[theirs]] == [step for step, _ in expected]
        values = [value for _, value in expected]
        assert [value for _, value in curves[theirs]] == pytest.approx(values, rel=1e-6)
    assert [step for step, _ in recorded(out, "loss")] == [1, 2, 3, 4, 5, 6]
    assert adapter(out) == adapter(finished)
    # No word of trackers, nor of their warnings.
    printed = capfd.readouterr()
    assert "track" not in (printed.out + printed.err).replace(str(tmp_path), "").lower()


def test_runs_of_one_process_stay_apart_and_replaced_ones_go(
    words: list[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, steps, *more in (("a", 3), ("b", 2), ("b", 1, "--overwrite=true")):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        last = f"--optimisation.max_steps={steps}"
        assert main([*words, BOTH, "--out=runs/one", last, *more]) == 0
    logged = {name: len(points(logs, "train/loss")) for name, logs in in_trackio().items()}
    assert logged == {"runs/one": 3, "runs/one (2)": 1}
    curves = [in_tensorboard(tmp_path / place / "runs/one")["train/loss"] for place in "ab"]
    assert list(map(len, curves)) == [3, 1]


def test_tracker_that_cannot_write_is_one_line_and_no_loss(
    words: list[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from torch.utils.tensorboard import SummaryWriter

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    store.write_text("a file where a folder is expected")
    monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
    out = tmp_path / "run"
    with caplog.at_level("WARNING", "catalogue"):
        assert main([*words, BOTH, "--optimisation.max_steps=2", f"--out={out}"]) == 0
    starts = [line.partition(", which goes on: ")[0] for line in caplog.messages]
    assert starts == [f"{name} misses figures of this run" for name in ("trackio", "tensorboard")]
    assert [step for step, _ in recorded(out, "loss")] == [1, 2]


def test_trackers_are_those_of_the_trainer() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


def test_unknown_tracker_is_refused_at_once(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--report_to=[tensorbored]", f"--out={tmp_path / 'run'}"])
    assert end.value.code == 2
    assert ", trackio, wandb, azure_ml, flyte, found tensorbored" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
