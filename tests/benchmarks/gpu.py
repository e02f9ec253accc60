"""``make bench-gpu``: training on the GPU at hand, under a 12 GB card's memory, against its peers.

Speed and memory do not depend on what the weights say, so the base is a TinyLlama of random bf16
weights, made here: nothing is downloaded. A run on real weights gives the same samples/s; its
losses are another matter, and are not reported.

Measured, each in a process of its own, ``--repeats`` times: the notebook's code (Unsloth), TRL +
PEFT alone, ``rtx3060`` with the notebook's prompt and with the compact one at the notebook's 128
rows and at its own 32, and as it stands, all as ``--plan auto`` chose, and its predicted time
against the actual. ``--card 3060`` (``make bench-gpu CARD=3060``) does it all on that card's
stand-in, and says what share of its matrix products is reached.

Then runs killed and gone on with, and the plan against a sweep of all its candidates; with
``--parts ranks`` one GPU against two. Figures are written to ``--out`` as they come; a part that
would pass ``--budget`` seconds is left out and named.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.cli import command_line
from data.cli.command_line import Command
from tests.benchmarks import stand_in, tinyllama
from tests.benchmarks.plan_sweep import Sweep
from training.config import PlanConfig
from training.loop import metrics
from training.plan.plan import Plan

# Steps until the allocator and the compiled kernels are warm.
WARM_UP = 6
RECIPE_ROWS = 32
COMPACT = ("--prompt.template=compact", "--prompt.neighbours=0")
INSTRUCTION = "--prompt.instruction=Write a book review."
TINY = {
    "vocab_size": 1_000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip


class Bench:
    """The parts, and what came of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.results: dict[str, Any] = {"speeds": {}, "left_out": [], "failed": {}}
        self._began = time.monotonic()
        self._took: dict[str, float] = {}

    def run(self, name: str, *words: str, timeout: float = 300) -> None:
        """Run a module of ours; its output goes to a log."""
        log = self.options.out / f"{name}.log"
        with log.open("w") as file:
            done = subprocess.Popen([sys.executable, "-m", *words], stdout=file, stderr=file)
            try:
                done.wait(timeout)
            except subprocess.TimeoutExpired:
                # A launcher ends its processes; killed, it would leave them on the GPUs.
                done.terminate()
                done.wait(60)
                raise
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}\n{log.read_text()[-2000:]}")

    def part(self, name: str, work: Callable[[], Any], kind: str = "") -> Any:
        """Do a part if its like fits the budget; a part that fails is noted, the others go on."""
        kind = kind or name
        spent = self.spent()
        expected = self._took.get(kind, self.options.guess)
        if spent + expected > self.options.budget:
            self.results["left_out"].append(name)
            return None
        began = time.monotonic()
        result = None
        try:
            result = work()
        except (RuntimeError, OSError, subprocess.TimeoutExpired, KeyError) as error:
            self.results["failed"][name] = str(error)[-1500:]
        self._took[kind] = time.monotonic() - began
        console.say(f"{spent:5.0f} s  {name}: {self._took[kind]:.0f} s")
        self.write()
        return result

    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def write(self) -> None:
        text = json.dumps(self.results, indent=1, default=str)
        (self.options.out / "result.json").write_text(text)

    def prepare(self) -> None:
        """Invent, clean and sample a catalogue with the project's own commands; make the base."""
        raw, clean, subset = (str(self.work / name) for name in ("trn.json", "clean", "subset"))
        if not (self.work / "subset" / "manifest.json").exists():
            # About 5 lines of 100 have a description of 400 to 500 characters.
            lines, rows = str(self.options.rows * 25), str(self.options.rows)
            self.run("synthesize", "data", "synthesize", "--rows", lines, "--out", raw)
            self.run("clean", "preprocessing", "clean", "--source", raw, "--out", clean)
            size = ["--size", rows, "--out", subset]
            self.run("subset", "data", "subset", "--clean", clean, *size)
        shape = TINY if self.options.tiny else tinyllama.SHAPE
        # In another process: MPS ends once its clients have, and this one outlives it.
        words = [str(self.work / "base"), json.dumps(shape), self.options.device]
        self.run("base", "tests.benchmarks.tinyllama", *words)

    def card(self) -> dict[str, float]:
        """Measure what the card multiplies and copies."""
        self.run("card", "tests.benchmarks.stand_in")
        last = (self.options.out / "card.log").read_text().splitlines()[-1]
        figures: dict[str, float] = json.loads(last)
        return figures

    def ours(self, *more: str, rows: int = 0) -> list[str]:
        """Words that every command of ours gets."""
        words = [
            "--config", "training/recipes/rtx3060.yaml", "--base", str(self.work / "base"),
            "--subset", str(self.work / "subset"), "--tokenized", str(self.work / "tokenized"),
            "--plans", str(self.work / "plans"), "--backend", self.options.backend, INSTRUCTION,
        ]  # fmt: skip
        if self.options.device == "cuda":
            words += ["--memory_limit", self.options.memory_limit]
        else:
            words += ["--optimisation.precision=float32"]
            if self.options.backend == "transformers":
                words += ["--optimisation.gradient_checkpointing=every"]
        rows = rows or self.options.batch
        sizes = [f"--optimisation.{name}batch_size={rows}" for name in ("", "micro_")]
        return [*words, *sizes, *more]

    def train(self, name: str, *more: str, rows: int = 0) -> list[dict[str, Any]]:
        """Train ``--steps`` steps by the command, ``--repeats`` times in a process."""
        outs = [self.work / f"{name}-{place}" for place in range(self.options.repeats)]
        for out in outs:
            shutil.rmtree(out, ignore_errors=True)
        steps = f"--optimisation.max_steps={self.options.steps}"
        # One evaluation and one checkpoint at the end.
        saves = [f"--checkpoints.{event}_steps={self.options.steps}" for event in ("eval", "save")]
        words = ["run", *self.ours(steps, *saves, *more, rows=rows)]
        words = [str(self.options.repeats), str(self.work / name), *words]
        self.run(name, "tests.benchmarks.train_ours", *words, timeout=1200)
        return [self.figures(out) for out in outs]

    def planned(self, rows: int, *more: str) -> Callable[[str], list[dict[str, Any]]]:
        """Return what trains as ``--plan auto`` chooses, under the name that it gets."""
        return lambda name: self.train(name, "--plan=auto", *more, rows=rows)

    def figures(self, out: Path) -> dict[str, Any]:
        """Return speed after the warm-up, peak and the plan's prediction of a finished run."""
        facts = manifest.read(Folder(str(out)), "train").facts
        trained = _trained(out)
        ends = [0.0, *(line["seconds"] for line in trained)]
        steps = [end - start for start, end in itertools.pairwise(ends)]
        tokens = [later["tokens"] - line["tokens"] for line, later in itertools.pairwise(trained)]
        samples = [
            line["samples_per_second"] * step for line, step in zip(trained, steps, strict=True)
        ]
        speeds = [t / s for t, s in zip(tokens, steps[1:], strict=True)][WARM_UP - 1 :]
        # A few steps compile anew, which is little of a long run and much of this one.
        steady = statistics.median(speeds)
        return {
            "samples_per_second": sum(samples[WARM_UP:]) / sum(steps[WARM_UP:]),
            # Over all rows: those of so few steps are longer or shorter.
            "steady_samples_per_second": steady / facts["mean_tokens"],
            "tokens_per_second": sum(tokens[WARM_UP - 1 :]) / sum(steps[WARM_UP:]),
            # As if what all rows begin with were computed for each.
            "tflops": steady * self.flop_a_token(out) / 1e12,
            "step_seconds": [round(step, 3) for step in steps],
            "peak_gib": facts["peak_memory_gib"],
            "device": facts["device"],
            "plan": facts.get("plan"),
            "backend": facts["backend"],
        }

    def flop_a_token(self, out: Path) -> float:
        """Count the arithmetic of a run as planned, or as its recipe has it: all recomputed."""
        shape = TINY if self.options.tiny else tinyllama.SHAPE
        layers, file = shape["num_hidden_layers"], out / "plan.json"
        kept = Plan.from_json(file.read_text()).candidate.kept(layers) if file.exists() else 0
        return stand_in.flop_a_token(shape, kept / layers)

    def ranks(self) -> dict[str, Any]:
        """Train on one GPU and on two: ``--batch`` rows each, then the same total on one.

        With the compact prompt, as planned for one, whose plan two share; by the median step, as
        the first steps of a new shape compile, in one run more than in another. With the adapter of
        two, a few descriptions are written.
        """
        one, two = f"{self.options.batch}", f"{2 * self.options.batch}"
        ranks: dict[str, Any] = {}
        for backend in self.options.backends.split(","):
            plan = self.work / f"ranks-{backend}-1-{one}"
            for name, count, batch in (("one", 1, one), ("two", 2, two), ("same total", 1, two)):
                key = f"{backend}, {name}"
                choice = str(plan) if name == "same total" else "auto"
                work = functools.partial(self.launch, count, batch, backend, f"--plan={choice}")
                figures = self.part(f"ranks-{backend}-{name.replace(' ', '-')}", work, "ranks")
                if figures:
                    ranks[key] = figures
                    self.results["ranks"] = ranks
                    self.write()
        return ranks

    def launch(self, count: int, batch: str, backend: str, *more: str) -> dict[str, Any]:
        out = self.work / f"ranks-{backend}-{count}-{batch}"
        shutil.rmtree(out, ignore_errors=True)
        words = [
            "training", "run", *self.ours(*COMPACT, *more),
            f"--optimisation.batch_size={batch}", f"--backend={backend}",
            f"--optimisation.max_steps={self.options.steps}",
            "--checkpoints.eval_steps=1000", "--checkpoints.save_steps=1000", "--out", str(out),
        ]  # fmt: skip
        if count > 1:
            launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
            words = [*launcher, "-m", *words]
        self.run(out.name, *words, timeout=500)
        trained = _trained(out)
        speeds = [line["samples_per_second"] for line in trained[WARM_UP:]]
        if count > 1:
            self.write_with(out)
        facts = manifest.read(Folder(str(out)), "train").facts
        return {
            "samples_per_second": statistics.median(speeds),
            "samples_per_second_of_steps": speeds,
            "losses": [line["loss"] for line in trained],
            "peak_gib": facts["peak_memory_gib"],
            "plan": facts["plan"],
        }

    def write_with(self, run: Path) -> None:
        """Load a run's adapter and write a few descriptions, which fails where it does not fit."""
        titles = ["--titles", str(self.work / "subset"), "--limit", "16", "--max_new_tokens", "8"]
        words = [*titles, "--run", str(run), "--out", f"{run}-generated", "--overwrite", "true"]
        self.run(f"{run.name}-generated", "inference", "generate", "--engine=reference", *words)

    def sweep(self) -> dict[str, Any]:
        """Set the choice of the plan against all its candidates."""
        command = {"plan": Command(PlanConfig, "training.plan.command:run")}
        parser = command_line._parser("training", command, list(command))
        _, config, _ = command_line._parse(parser, command, ["plan", *self.ours()])
        last = self.options.budget - 30
        return Sweep(config, self.work, lambda: self.spent() < last).run(self.options.share)

    def peer(self, name: str, peer: str, micro: int) -> list[dict[str, Any]]:
        result, work = self.work / f"{name}.json", self.work / f"{name}-work"
        words = ["--base", self.work / "base", "--subset", self.work / "subset", "--out", result]
        words += ["--work", work, "--batch", self.options.batch, "--micro_batch", micro]
        words += ["--steps", self.options.peer_steps, "--repeats", self.options.repeats]
        words += ["--memory_limit", self.options.memory_limit]
        self.run(name, "tests.benchmarks.train_peers", peer, *map(str, words), timeout=500)
        repeats: list[dict[str, Any]] = json.loads(result.read_text())
        return repeats

    def settings(self) -> dict[str, Callable[[str], list[dict[str, Any]]]]:
        batch = self.options.batch
        alpaca = ("--prompt.template=alpaca", "--prompt.neighbours=0")
        prompts = {"alpaca": alpaca, "compact": COMPACT}
        ways: dict[str, Callable[[str], list[dict[str, Any]]]] = {
            f"rtx3060, {prompt}, {rows} rows": self.planned(rows, *words)
            for rows in (batch, min(batch, RECIPE_ROWS)) for prompt, words in prompts.items()
        }  # fmt: skip
        own = min(batch, RECIPE_ROWS)
        ways |= {
            f"rtx3060 as it stands, {own} rows": self.planned(own),
            # The logits of 128 rows alone are over the limit.
            "TRL + PEFT": lambda name: self.peer(name, "trl", max(1, batch // 4)),
        }  # fmt: skip
        if self.options.backend == "unsloth":
            ways = {"notebook": lambda name: self.peer(name, "notebook", batch)} | ways
        names = self.options.settings.split("|")
        return {key: measure for key, measure in ways.items() if any(name in key for name in names)}

    def speeds(self) -> None:
        """Measure every setting in a process of its own, ``--repeats`` times."""
        for setting, measure in self.settings().items():
            name = setting.replace(" ", "").replace(",", "-").replace("+", "-")
            repeats = self.part(name, functools.partial(measure, name))
            if repeats:
                self.results["speeds"][setting] = repeats
                self.write()

    def plan(self, name: str, *more: str) -> dict[str, Any]:
        """Plan; return what was chosen and all that was measured."""
        self.run(name, "training", "plan", *self.ours(*more), timeout=500)
        console.say((self.options.out / f"{name}.log").read_text())
        plans = sorted(self.work.glob("plans/*/plan.json"), key=lambda path: path.stat().st_mtime)
        plan: dict[str, Any] = json.loads(plans[-1].read_text())
        return plan

    def kills(self) -> list[dict[str, Any]]:
        report = self.options.out / "kills.json"
        words = ["--subset", self.work / "subset", "--base", self.work / "base", "--rounds", 2]
        words += ["--work", self.work / "kills", "--report", report, "--backend"]
        words += [self.options.backend, "--steps", 12, "--save_steps", 4, "--"]
        more = self.ours("--checkpoints.eval_steps=4")
        for name in ("--base", "--subset", "--backend", "--tokenized"):
            place = more.index(name)
            del more[place : place + 2]
        self.run("kills", "tests.faults.train_kills", *map(str, words), *more, timeout=400)
        rounds: list[dict[str, Any]] = json.loads(report.read_text())
        return rounds


def show(results: dict[str, Any], card: tuple[str, float] | None) -> None:
    """Print the table; ``card`` is what was stood in for, and its own products in 1e12 FLOP/s."""
    peers = results["speeds"].get("notebook", [])
    base = [run["steady_samples_per_second"] for run in peers]
    reached = (results.get("card") or {}).get("tflops")
    if reached:
        console.say(f"the card multiplies {reached:.1f}e12 FLOP/s in bf16")
    rows = []
    for setting, runs in results["speeds"].items():
        speed = statistics.median(run["samples_per_second"] for run in runs)
        peak = max(run["peak_gib"] for run in runs)
        shares = [run["tflops"] / reached for run in runs if reached and "tflops" in run]
        share = f"{statistics.median(shares):.0%}" if shares else ""
        steady = statistics.median(run["steady_samples_per_second"] for run in runs)
        times = f"{steady / statistics.median(base):.2f}" if base else ""
        figures = [f"{speed:.1f}", f"{steady:.1f}", times, f"{peak:.2f}", share, str(len(runs))]
        rows.append([setting, *figures])
    header = (
        "setting", "samples/s", "of all rows", "x notebook", "peak GiB", "of the products", "runs",
    )  # fmt: skip
    console.say(console.table(rows, header))
    for setting, runs in results["speeds"].items():
        for run in runs:
            if plan := run.get("plan"):
                ratio = plan["actual_seconds"] / plan["predicted_seconds"] - 1
                console.say(f"{setting}: {plan['candidate']}, time {ratio:+.1%} of the prediction")
    for name in ("sweep", "kills"):
        if part := results.get(name):
            console.say(f"{name}: {json.dumps(part)}")
    for key, figures in results.get("ranks", {}).items():
        losses = ", ".join(f"{loss:.4f}" for loss in figures["losses"][::5])
        console.say(f"{key}: {figures['samples_per_second']:.1f} samples/s; losses {losses}")
        if not key.endswith("same total"):  # which the plan of fewer rows does not predict
            console.say(f"  {figures['plan']}")
    if card and reached:
        # Nothing of ours was measured on the card itself.
        name, own = card
        console.say(f"prediction for a {name}, by products alone: {own / reached:.2f} times these")
    failed = json.dumps(results["failed"], indent=1)
    console.say(f"left out: {results['left_out']}; failed: {failed}")


def _trained(run: Path) -> list[metrics.Line]:
    """Return a run's lines of steps, without those of validation."""
    return [line for line in metrics.read(run / "metrics.jsonl") if "loss" in line]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--card", choices=stand_in.CARDS, help="measure on its stand-in")
    parser.add_argument(
        "--steps", type=int, default=40, help="of a run; the first ones record new widths"
    )
    parser.add_argument("--peer_steps", type=int, help="26, or 14 on a small card")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--settings", default="", help="measure those with one of these in their name: a|b"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--backend", default="unsloth")
    parser.add_argument("--backends", default="unsloth,transformers", help="of the part ranks")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--memory_limit", default="11.65GiB")
    parser.add_argument("--budget", type=float, default=3600, help="seconds for everything")
    parser.add_argument("--share", default="0/1", help="of the sweep's groups: part/parts")
    parser.add_argument("--guess", type=float, default=60, help="seconds of a part not yet seen")
    parser.add_argument("--parts", default="plan,speeds,sweep,kills")
    parser.add_argument("--tiny", action="store_true", help="a toy model, to try the script")
    parser.add_argument("--out", type=Path, default=Path("data/store/reports/bench-gpu"))
    options = parser.parse_args()
    if options.card:
        options.memory_limit = stand_in.CARDS[options.card].memory_limit
    options.peer_steps = options.peer_steps or (14 if options.card else 26)
    return options


def main() -> None:
    options = parse()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with contextlib.ExitStack() as shared:
        if options.card:
            shared.enter_context(stand_in.share(stand_in.CARDS[options.card].percent))
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Measure all parts and print the tables."""
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    bench.results["versions"] = manifest.versions()
    if options.device == "cuda":
        bench.results["card"] = bench.part("card", bench.card)
    bench.part("prepare", bench.prepare)
    steps = f"--optimisation.max_steps={options.steps}"
    if "plan" in options.parts:
        bench.results["plan"] = bench.part("plan", lambda: bench.plan("plan", steps))
    if "speeds" in options.parts:
        bench.speeds()
    if "kills" in options.parts:
        bench.results["kills"] = bench.part("kills", bench.kills)
    if "sweep" in options.parts:
        bench.results["sweep"] = bench.part("sweep", bench.sweep)
    if "ranks" in options.parts:
        bench.ranks()
    bench.write()
    name = options.card
    show(bench.results, (name, stand_in.CARDS[name].own_tflops) if name else None)


if __name__ == "__main__":
    main()
