"""The command on small files: what it writes, how it resumes, what it refuses."""

import importlib.util
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import Folder
from data.artefacts.run import Run, locate
from data.prompt import SHOPPER, Chat
from tests import forked
from tests.faults import train_kills
from training.__main__ import main
from training.loop import metrics
from training.model.backend import load_tokenizer

# In float32 on a CPU; Unsloth sums the cross-entropy in chunks, transformers at once.
TOLERANCE = 2e-5
STEPS = 4
NEAR = ["--prompt.neighbours=1", "--prompt.neighbour_tokens=24", "--prompt.template=compact"]

BACKEND_SCRIPT = """
import json, sys
from training import run, __main__
load = run.load_model
def load_and_watch(*given):
    model = load(*given)
    from training.loop import trainer as loop
    step = loop.Trainer.training_step
    def watched(self, of, inputs, *more, **named):
        print("labels", json.dumps(inputs["labels"].tolist()), file=sys.__stdout__)
        weights = [p for p in model.parameters() if p.requires_grad]
        total = sum(float(w.detach().double().abs().sum()) for w in weights)
        print("weights", total, file=sys.__stdout__, flush=True)
        return step(self, of, inputs, *more, **named)
    loop.Trainer.training_step = watched
    return model
run.load_model = load_and_watch
sys.exit(__main__.main(sys.argv[1:]))
"""


def facts_of(out: Path) -> dict[str, Any]:
    return manifest.read(Folder(str(out)), "train").facts


def figures(out: Path) -> list[tuple[Any, ...]]:
    """What must not change between runs: all but the times."""
    names = ("step", "epoch", "loss", "validation_loss", "learning_rate", "grad_norm", "tokens")
    lines = metrics.read(out / "metrics.jsonl")
    return [tuple(line.get(name) for name in names) for line in lines]


def adapter(out: Path) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plain(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("plain") / "run"
    assert main([*words, f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def near(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run whose prompts show a neighbour."""
    out = tmp_path_factory.mktemp("near") / "run"
    more = ["--checkpoints.eval_steps=2", f"--out={out}"]
    assert main([*words, *NEAR, *more]) == 0
    return out


def test_what_a_run_leaves(finished: Path, base: Path, subset: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "adapter", "checkpoints", "loss.png", "manifest.json", "metrics.jsonl",
    ]  # fmt: skip
    record = manifest.read(Folder(str(finished)), "train")
    facts = record.facts
    parent = manifest.read(Folder(str(subset)), "subset")
    assert record.made_from[0].digest == parent.digest
    assert record.counts.read == record.counts.kept == parent.facts["rows"]["train"]
    assert facts["base"] == str(base)
    assert facts["base_digest"] == locate(str(base)).digest
    assert facts["prompt"] == {"template": "alpaca", "instruction": list(SHOPPER)}
    assert (facts["steps"], facts["max_length"], facts["backend"]) == (6, 640, "transformers")
    assert facts["truncated"] == 0
    assert facts["trainable_parameters"] > 0
    assert facts["samples_per_second"] > 0
    assert facts["peak_memory_gib"] > 0
    assert facts["longest_completion_tokens"] < facts["longest_tokens"] <= 640
    assert "adapter/adapter_model.safetensors" in [output.path for output in record.outputs]


def test_metrics_have_a_line_a_step_and_an_evaluation(finished: Path) -> None:
    lines = metrics.read(finished / "metrics.jsonl")
    trained = [line for line in lines if "loss" in line]
    evaluated = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in evaluated] == [2, 4, 6]
    assert set(trained[0]) == {
        "step", "epoch", "loss", "learning_rate", "grad_norm", "samples_per_second", "tokens",
        "seconds",
    }  # fmt: skip
    assert evaluated[-1]["validation_loss"] < evaluated[0]["validation_loss"]
    tokens = [line["tokens"] for line in trained]
    assert tokens == sorted(tokens)
    assert tokens[-1] == facts_of(finished)["tokens"]


def test_checkpoints_are_capped_and_the_best_is_kept(finished: Path) -> None:
    facts = facts_of(finished)
    kept = {path.name for path in (finished / "checkpoints").iterdir()}
    assert len(kept) == 2
    assert f"checkpoint-{facts['best_step']}" in kept
    best = finished / f"checkpoints/checkpoint-{facts['best_step']}/adapter_model.safetensors"
    assert adapter(finished) == best.read_bytes()
    assert facts["adapter_step"] == facts["best_step"]
    assert facts["adapter_validation_loss"] == facts["best_validation_loss"]


def test_best_between_two_checkpoints_is_the_adapter(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.loop.trainer import Trainer

    evaluate, losses = Trainer.evaluation_loop, iter([3.0, 2.0, 2.1])

    def told(self: Trainer, *given: Any, **named: Any) -> Any:
        output = evaluate(self, *given, **named)
        output.metrics["eval_loss"] = next(losses)
        return output

    monkeypatch.setattr(Trainer, "evaluation_loop", told)
    out = tmp_path / "run"
    more = ["--checkpoints.eval_steps=2", "--checkpoints.save_steps=200"]
    assert main([*words, *more, "--checkpoints.keep_best=true", f"--out={out}"]) == 0
    facts = facts_of(out)
    assert (facts["best_step"], facts["adapter_step"], facts["steps"]) == (4, 4, 6)
    assert facts["adapter_validation_loss"] == 2.0
    kept = {path.name: path / "adapter_model.safetensors" for path in out.glob("checkpoints/*")}
    assert set(kept) == {"checkpoint-4", "checkpoint-6"}
    assert adapter(out) == kept["checkpoint-4"].read_bytes()
    assert adapter(out) != kept["checkpoint-6"].read_bytes()


def test_evaluation_changes_no_step(finished: Path, plain: Path) -> None:
    trained = [line for line in figures(finished) if line[2] is not None]
    assert trained == figures(plain)


def test_validation_loss_does_not_depend_on_the_micro_batch(
    finished: Path, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = ["--checkpoints.eval_steps=2", "--optimisation.max_steps=2"]
    assert main([*words, *more, "--optimisation.micro_batch_size=2", f"--out={out}"]) == 0
    losses = [
        next(line["validation_loss"] for line in metrics.read(run / "metrics.jsonl")
             if "validation_loss" in line)
        for run in (finished, out)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_finished_run_ends_at_once(
    plain: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (plain / "manifest.json").stat().st_mtime_ns
    assert main([*words, f"--out={plain}"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert (plain / "manifest.json").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(
    plain: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"--out={plain}", "--seed=1"]) == 1
    told = capsys.readouterr().err
    assert "seed=1" in told
    assert "--overwrite" in told


@pytest.mark.parametrize(("step", "whole"), [(1, "plain"), (3, "plain"), (6, "plain"), (3, "near")])
def test_interrupted_run_goes_on_to_the_same_adapter(
    step: int,
    whole: str,
    request: pytest.FixtureRequest,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from training.loop.callbacks import MetricsCallback

    def stop(self: MetricsCallback, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt

    out, plain = tmp_path / "run", request.getfixturevalue(whole)
    words = words if whole == "plain" else [*words, *NEAR, "--checkpoints.eval_steps=2"]
    with monkeypatch.context() as patched:
        # After step 6 everything is saved, but the manifest is missing.
        patched.setattr(MetricsCallback, "on_train_end" if step == 6 else "on_step_end", stop)
        assert main([*words, f"--out={out}"]) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not (out / "manifest.json").exists()
    if step == 3:
        half = out / "checkpoints" / "checkpoint-5"
        half.mkdir()
        (half / "adapter_model.safetensors").write_bytes(b"half")
    assert main([*words, f"--out={out}"]) == 0
    assert figures(out) == figures(plain)
    assert adapter(out) == adapter(plain)
    assert facts_of(out)["resumed_from_step"] == {1: 0, 3: 2, 6: 6}[step]
    of = manifest.read(Folder(str(out))), manifest.read(Folder(str(plain)))
    assert of[0].facts["tokens"] == of[1].facts["tokens"]


def test_damaged_checkpoint_is_passed_over(
    plain: Path, words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    shutil.copytree(plain, out)
    for name in ("manifest.json", "loss.png"):
        (out / name).unlink()
    shutil.rmtree(out / "adapter")
    (out / "begun.json").write_text(
        json.dumps({"stage": "train", "identity": manifest.read(Folder(str(plain))).identity})
    )
    damaged = out / "checkpoints" / "checkpoint-6" / "optimizer.pt"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with caplog.at_level("WARNING", "catalogue"):
        assert main([*words, f"--out={out}"]) == 0
    assert "checkpoint-6 is passed over: optimizer.pt is damaged" in caplog.text
    assert facts_of(out)["resumed_from_step"] == 4
    assert adapter(out) == adapter(plain)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_says_how_to_go_on(
    number: signal.Signals,
    plain: Path,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from training.loop.trainer import Trainer

    out, steps = tmp_path / "run", 0
    train = Trainer.training_step

    def interrupted(self: Trainer, *given: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 6:  # the second micro-batch of step 3, of which nothing was to be saved
            os.kill(os.getpid(), number)
        return train(self, *given, **named)

    with monkeypatch.context() as patched, caplog.at_level("WARNING", "catalogue"):
        patched.setattr(Trainer, "training_step", interrupted)
        assert main([*words, f"--out={out}"]) == 130
    assert "saved at step 3 of 6; the same command goes on from there" in caplog.text
    assert "interrupted; the same command goes on from here" in capsys.readouterr().err
    assert main([*words, f"--out={out}"]) == 0
    assert facts_of(out)["resumed_from_step"] == 3
    assert figures(out) == figures(plain)
    assert adapter(out) == adapter(plain)


@pytest.mark.parametrize("whole", ["plain", "near"])
def test_killed_while_saving_goes_on_to_the_same_adapter(
    whole: str, request: pytest.FixtureRequest, words: list[str], tmp_path: Path
) -> None:
    out, plain = tmp_path / "run", request.getfixturevalue(whole)
    words = words if whole == "plain" else [*words, *NEAR, "--checkpoints.eval_steps=2"]
    command = ["-m", "training", *words, f"--out={out}"]
    with forked.started(command, tmp_path / "output", tmp_path / "errors") as process:
        at, _ = train_kills.interrupt(process, out, "saving", 6, random.Random(1))  # noqa: S311
    assert at != "ended before"
    assert not (out / "manifest.json").exists()
    assert main([*words, f"--out={out}"]) == 0
    assert adapter(out) == adapter(plain)


def test_early_stopping_and_its_resumption(words: list[str], tmp_path: Path) -> None:
    """A rate far too high: soon no evaluation is better than those before."""
    more = [
        "--optimisation.learning_rate=0.5", "--optimisation.schedule=constant",
        "--optimisation.warmup_steps=0", "--optimisation.max_steps=60",
        "--checkpoints.eval_steps=2", "--checkpoints.patience=2", "--checkpoints.keep_best=true",
        f"--out={tmp_path / 'run'}",
    ]  # fmt: skip
    assert main([*words, *more]) == 0
    facts = facts_of(tmp_path / "run")
    assert facts["steps"] == facts["best_step"] + 4 < 60
    best = tmp_path / f"run/checkpoints/checkpoint-{facts['best_step']}/adapter_model.safetensors"
    assert adapter(tmp_path / "run") == best.read_bytes()
    # Killed after the last checkpoint, before the manifest: nothing is trained any more.
    first = adapter(tmp_path / "run")
    record = json.loads((tmp_path / "run/manifest.json").read_text())
    (tmp_path / "run/manifest.json").unlink()
    begun = {"stage": "train", "identity": record["identity"]}
    (tmp_path / "run/begun.json").write_text(json.dumps(begun))
    assert main([*words, *more]) == 0
    assert facts_of(tmp_path / "run")["steps"] == facts["steps"]
    assert adapter(tmp_path / "run") == first


def test_adapter_that_does_not_move_is_refused(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An optimizer that holds other weights than the model: the loss stays, all else looks well."""
    import torch

    from training.loop.trainer import Trainer

    def create(self: Trainer, *_: Any) -> Any:
        copies = [p.detach().clone() for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(copies, lr=0.01)
        return self.optimizer

    monkeypatch.setattr(Trainer, "create_optimizer", create)
    out = tmp_path / "run"
    assert main([*words, "--checkpoints.save_steps=50", f"--out={out}"]) == 1
    assert "expected an adapter whose weights move" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("loss", "told"),
    [(float("nan"), "found nan"), (0.0, "found 0.0")],
    ids=["a NaN", "no label in a batch"],
)
def test_loss_at_fault_stops_the_run(
    loss: float,
    told: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from training.loop.trainer import Trainer

    compute = Trainer.compute_loss

    def broken(self: Trainer, *given: Any, **named: Any) -> Any:
        # Times, not instead of: the gradient is at fault as well.
        return compute(self, *given, **named) * loss

    monkeypatch.setattr(Trainer, "compute_loss", broken)
    assert main([*words, f"--out={tmp_path / 'run'}"]) == 1
    error = capsys.readouterr().err
    assert "step 1: expected a finite training loss above 0" in error
    assert told in error


def test_preview_shows_what_is_learned_and_writes_nothing(
    words: list[str], subset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    out = tmp_path / "run"
    assert main([*words, "--preview=2", f"--out={out}"]) == 0
    shown = capsys.readouterr().out
    assert not out.exists()
    rows = datasets.load_from_disk(str(subset))["train"]
    for row in rows.select(range(2)):
        assert f"--- {row['uid']}:" in shown
        assert f"[[{row['content']}</s>]]" in shown
        assert f"### Input:\n{row['title']}\n\n### Response:\n[[" in shown
    assert rows[2]["uid"] not in shown


def test_compact_prompt_is_shorter_and_recorded(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = ["--prompt.template=compact", "--optimisation.max_steps=2"]
    assert main([*words, *more, f"--out={out}"]) == 0
    assert facts_of(out)["prompt"]["template"] == "compact"


def test_a_run_carries_what_its_prompts_show(
    near: Path, plain: Path, words: list[str], subset: Path, tokenized: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model, record = Run.open(str(near)), manifest.read(Folder(str(near)), "train")
    assert "neighbours.arrow" in [output.path for output in record.outputs]
    assert record.facts["prompt"] | {"neighbours": 1, "neighbour_tokens": 24} == (
        record.facts["prompt"] | record.identity["prompt"]
    )
    titles = Subset.open(str(subset)).rows("train", ["title"]).column("title").to_pylist()
    shown = [neighbour for title in titles for neighbour in model.near(title)]
    assert len(shown) > 100
    assert all(neighbour.title in titles for neighbour in shown)
    assert max(len(neighbour.description) for neighbour in shown) < 24 * 12
    assert record.facts["mean_tokens"] > 0
    # The next run of the subset finds them; what killed runs left of others is no hindrance.
    folders = sorted(tokenized.iterdir())
    more = ["--optimisation.max_steps=1", "--checkpoints.eval_steps=2"]
    assert main([*words, *NEAR, *more, f"--out={tmp_path / 'run'}"]) == 0
    assert sorted(tokenized.iterdir()) == folders
    assert "tokens a row with 1 neighbour, " in capsys.readouterr().out
    # Another number of them in the same folder is another run, and so is none.
    for other in (["--prompt.neighbours=2"], ["--prompt.neighbours=0"]):
        assert main([*words, *NEAR, *other, *more[1:], f"--out={near}"]) == 1
        assert "prompt.neighbours=" in capsys.readouterr().err
    assert main([*words, "--prompt.neighbours=1", f"--out={plain}"]) == 1
    assert "prompt.neighbours=1" in capsys.readouterr().err
    assert set(manifest.read(Folder(str(plain))).identity["prompt"]) == {"template", "instruction"}
    # The merged model shows the same.
    assert main(["export", f"--run={near}", f"--out={tmp_path / 'merged'}"]) == 0
    merged = Run.open(str(tmp_path / "merged"))
    assert merged.neighbours_digest == model.neighbours_digest
    assert [n for title in titles for n in merged.near(title)] == shown


CHAT = (
    "{{ bos_token }}{% for one in messages %}{{ one.role + ': ' + one.content + '<pad>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def test_a_base_s_own_chat_template_stands_around_prompts(
    words: list[str], base: Path, subset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chatty, out = Path(shutil.copytree(base, tmp_path / "base")), tmp_path / "run"
    chat = [*words, f"--base={chatty}", f"--out={out}", *NEAR, "--prompt.template=chat"]
    assert main(chat) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "expected a chat template, as --prompt.template is chat, found none" in told
    assert not out.exists()
    (chatty / "chat_template.jinja").write_text(CHAT)
    assert main([*chat, "--optimisation.max_steps=2"]) == 0
    model = Run.open(str(out))
    assert model.chat == Chat("<s>user: ", "<pad>\nassistant: ", "<pad>")
    folder = Path("/".join(word.partition("=")[2] for word in words if "tokenized=" in word))
    rows = pa.ipc.open_stream((folder / facts_of(out)["tokenized"] / "rows.arrow").read_bytes())
    tokenizer = load_tokenizer(chatty)
    first = rows.read_next_batch().slice(0, 1).to_pylist()[0]
    row = Subset.open(str(subset)).rows("train", ["uid", "title", "content"]).to_pylist()[0]
    prompt = model.render(row["title"], row["uid"])
    learned = [token for token, label in zip(first["input_ids"], first["labels"], strict=True)
               if label != -100]  # fmt: skip
    assert tokenizer.decode(first["input_ids"]) == (
        f"<s>user: {prompt}<pad>\nassistant: {row['content']}<pad>"
    )
    assert tokenizer.decode(learned) == f"{row['content']}<pad>"
    assert main(["export", f"--run={out}", f"--out={tmp_path / 'merged'}"]) == 0
    settings = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == tokenizer.pad_token_id
    assert Run.open(str(tmp_path / "merged")).chat == model.chat


def test_second_cycle_goes_on_from_the_adapter(
    plain: Path, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "second"
    more = [f"--init_adapter={plain / 'adapter'}", "--optimisation.max_steps=2"]
    more.append("--optimisation.learning_rate=1e-6")
    assert main([*words, *more, f"--out={out}"]) == 0
    first, second = figures(plain), figures(out)
    # A fresh schedule, but not fresh weights, whose second half begins at zero.
    assert second[0][0] == first[0][0]
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (plain, out)]
    seconds = [name for name in weights[0] if "lora_B" in name]
    assert seconds
    for name in seconds:
        assert float(abs(weights[0][name]).max()) > 1e-3
        assert float(abs(weights[1][name] - weights[0][name]).max()) < 1e-4


def test_order_and_loss_are_chosen(words: list[str], tmp_path: Path, plain: Path) -> None:
    out = tmp_path / "run"
    more = ["--optimisation.order=random", "--loss_on=full", "--optimisation.max_steps=2"]
    assert main([*words, *more, f"--out={out}"]) == 0
    assert figures(out)[0] != figures(plain)[0]
    assert facts_of(out)["loss_on"] == "full"


def test_tiny_base_is_built_into_the_run(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "run"
    shape = ["--tiny.vocabulary=400", "--tiny.hidden=32", "--tiny.steps=2"]
    more = [*shape, "--optimisation.max_steps=2", "--backend=auto"]
    # auto without Unsloth, however this machine is equipped.
    monkeypatch.setitem(sys.modules, "unsloth", None)
    with caplog.at_level("INFO", "catalogue"):
        assert main([*words, *more, f"--out={out}"]) == 0
    assert "backend: transformers (unsloth does not import" in caplog.text
    facts = facts_of(out)
    assert facts["base"] == "base"
    assert facts["base_digest"] == locate(str(out / "base")).digest
    told = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (out / "adapter" / told["base_model_name_or_path"]).resolve() == out / "base"
    assert not [path for path in out.iterdir() if path.name.startswith(".tmp-")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--subset=/no/such/subset"], "expected the finished output of subset"),
        (["--base=/no/such/model"], "no such folder"),
        (["--base=nobody/no-such-model"], "hub cannot be reached"),
        (["--base={tmp}/empty"], "config.json"),
        (["--init_adapter={tmp}/empty"], "an adapter"),
        (
            ["--prompt.attributes=[brand]"],
            "attributes brand, which prompts show, found none",
        ),
        (["--max_length=40"], "without room for a single token"),
        (["--max_length=200"], "of the descriptions cut"),
        (["--lora.target_modules=[nothing]"], "nothing"),
        (["--out={tmp}/taken"], "an empty or new folder"),
        (["--out=s3://bucket/run"], "a local folder"),
        (["--optimisation.learning_rate=1e30"], "expected a finite"),
    ],
)
def test_fault_of_input_is_one_line_and_leaves_nothing(
    change: list[str],
    told: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    words = [
        *words, f"--out={tmp_path / 'run'}", "--optimisation.max_steps=3",
        "--checkpoints.save_steps=50", *(word.format(tmp=tmp_path) for word in change),
    ]  # fmt: skip
    assert main(words) in (1, 2)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "taken" / "notes.txt").read_text() == "mine"


def test_subset_without_validation_rows_is_not_evaluated(
    words: list[str],
    subset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import datasets

    smaller = tmp_path / "subset"
    rows = datasets.load_from_disk(str(subset))
    datasets.DatasetDict(train=rows["train"]).save_to_disk(str(smaller))
    record = json.loads((subset / "manifest.json").read_text())
    record["outputs"] = [o for o in record["outputs"] if o["path"].startswith("train/")]
    del record["checksum"], record["digest"]
    (smaller / "manifest.json").write_text(json.dumps(record))
    more = ["--checkpoints.eval_steps=2", "--optimisation.max_steps=2", f"--subset={smaller}"]
    with caplog.at_level("WARNING", "catalogue"):
        assert main([*words, *more, f"--out={tmp_path / 'run'}"]) == 0
    assert "has no validation rows" in caplog.text
    assert facts_of(tmp_path / "run")["best_validation_loss"] is None


def test_eight_bit_optimizer_needs_a_gpu(
    words: list[str], tmp_path: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with caplog.at_level("WARNING", "catalogue"):
        words = [*words, "--optimisation.optimizer=adamw_8bit", f"--out={tmp_path / 'run'}"]
        assert main(words) == 0
    assert "optimizer: adamw_torch, as adamw_8bit needs a GPU" in caplog.text
    assert adapter(tmp_path / "run") == adapter(plain)


def test_backends_agree(words: list[str], tmp_path: Path) -> None:
    """Same labels in every micro-batch, same first weights, losses within ``TOLERANCE``."""
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    runs: dict[str, list[tuple[Any, ...]]] = {}
    printed: dict[str, list[str]] = {}
    kinds: tuple[forked.Kind, ...] = ("unsloth", "transformers")
    for backend in kinds:
        out = tmp_path / backend
        more = [f"--backend={backend}", f"--optimisation.max_steps={STEPS}", f"--out={out}"]
        done = forked.run_python("-c", BACKEND_SCRIPT, *words, *more, kind=backend)
        assert done.returncode == 0, done.stderr
        assert f"backend: {backend} (asked for)" in done.stderr
        assert facts_of(out)["backend"] == backend
        runs[backend] = figures(out)
        printed[backend] = done.stdout.splitlines()
    labels = {name: [w for w in told if w.startswith("labels")] for name, told in printed.items()}
    assert len(labels["unsloth"]) == 2 * STEPS
    assert labels["unsloth"] == labels["transformers"]
    first = {
        name: next(w for w in told if w.startswith("weights")) for name, told in printed.items()
    }
    assert first["unsloth"] == first["transformers"]
    for ours, theirs in zip(runs["unsloth"], runs["transformers"], strict=True):
        assert ours[2] == pytest.approx(theirs[2], abs=TOLERANCE)
        assert (ours[0], ours[4], ours[6]) == (theirs[0], theirs[4], theirs[6])


def test_unsloth_writes_nothing_into_the_working_folder(
    words: list[str], tmp_path: Path, root: Path
) -> None:
    import subprocess
    import sys

    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    out, here = tmp_path / "run", tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [
            sys.executable, "-m", "training", *words, "--backend=auto", f"--out={out}",
            "--optimisation.max_steps=2", "--checkpoints.eval_steps=1",
            "--checkpoints.keep_best=true",
        ],
        cwd=here, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "backend: unsloth (it imports here)" in done.stderr
    assert list(here.iterdir()) == []
    assert done.stdout.partition("\nnext:\n")[0].count("\n") == 1, done.stdout
    shutil.rmtree(out)
