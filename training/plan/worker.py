"""A process that measures candidates of a plan: the real Trainer on real rows, a few steps each.

In a process of its own, because running out of GPU memory leaves a process unfit to measure the
next candidate: it then says so and ends, and the planner starts another.
"""

import contextlib
import gc
import itertools
import logging
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data.cli import faults
from data.errors import ModelError
from training import children, distributed, hardware, job
from training.config import PlanConfig, TrainConfig
from training.distributed import Ranks
from training.model.backend import load_model
from training.plan.candidates import Candidate, Measured, ModelShape
from training.plan.plan import Ledger
from training.quiet import first_line

log = logging.getLogger("catalogue")

_WARM_UP = 1
# One title in ten thousand repeats itself up to 1,999 characters. Room for a whole micro-batch of
# such rows would cost every other step its kept layers; so the rare batches go through in pieces.
_WHOLE_SHARE = 0.98


@dataclass(frozen=True)
class Setup:
    """What a process loads once for all its candidates."""

    config: TrainConfig
    candidate: Candidate
    """Of the family to be measured: a loaded model cannot change its checkpointing."""
    folder: str
    """For what is written while measuring; removed later."""
    steps: int
    """Batches measured a candidate, each twice, with the longest rows between."""


@dataclass(frozen=True)
class Host:
    """What the planner must know of machine, model and rows."""

    shape: ModelShape
    device: str
    free_bytes: int
    longest: int
    """Tokens of the longest row."""
    backend: str
    has_flash: bool
    rows: int
    validation_rows: int


@dataclass(frozen=True)
class Fault:
    """A fault of the input or the machine, on its way to the planner."""

    error: Exception


class Batches:
    """Whole batches of rows, given by their places: a sampler."""

    def __init__(self, places: Sequence[Sequence[int]]) -> None:
        self._places = [place for batch in places for place in batch]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def set_epoch(self, _: int) -> None:
        """Do nothing: there is one epoch."""


def serve(pipe: Connection, setup: Setup) -> None:
    """Load the model, tell the ground, then measure candidates until none comes."""
    children.end_with_parent()
    logging.getLogger("catalogue").setLevel(logging.ERROR)
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    distributed.leave()
    try:
        bench = Worker(setup)
        pipe.send(bench.ground)
        while (candidate := pipe.recv()) is not None:
            result = bench.measure(candidate)
            pipe.send(result)
            if result.fault:
                break
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # the planner is gone
        pass
    except Exception as error:
        if faults.tell(error) is None:
            raise
        pipe.send(Fault(error))
    finally:
        pipe.close()


class Worker:
    """A loaded model with its rows."""

    def __init__(self, setup: Setup) -> None:
        import torch

        family = setup.candidate
        self._setup = setup
        self._folder = Path(setup.folder)
        self._cold_seconds: float | None = None
        how = replace(
            setup.config.optimisation,
            gradient_checkpointing=family.family[0],
            attention=family.attention,
        )
        config = replace(setup.config, optimisation=how)
        if config.tiny:  # how well it writes does not matter here
            config = replace(config, tiny=replace(config.tiny, steps=0))
        self._config = config
        subset = job.open_subset(config.subset)
        self._on_gpu = torch.cuda.is_available()
        self._prepared = job.prepare(config, subset, self._folder, Ranks())
        free = torch.cuda.mem_get_info()[0] if self._on_gpu else _free_host_bytes()
        self._precision = hardware.precision(config)
        self._loaded = load_model(
            config, self._prepared.base, self._prepared.backend, self._precision
        )
        rows = self._prepared.train.rows.with_format("arrow")
        self._lengths = rows["length"].to_numpy()
        self.ground = self._look(free)

    def _look(self, free: int) -> Host:
        import importlib.util

        config = self._loaded.model.config
        parameters = list(self._loaded.model.parameters())
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        validation = self._prepared.validation
        shape = ModelShape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            kv_hidden=config.hidden_size // heads * kv_heads,
            vocabulary=config.vocab_size,
            parameters=sum(p.numel() for p in parameters if not p.requires_grad),
            trainable=self._loaded.trainable,
            weight_bytes=2 if self._precision == "bf16" else 4,
            longest=self._whole_length(),
            fused=self._loaded.backend.name == "unsloth" and self._on_gpu,
        )
        return Host(
            shape, str(hardware.machine()["device"]), free, int(self._lengths.max()),
            self._loaded.backend.name,
            importlib.util.find_spec("flash_attn") is not None and self._on_gpu,
            len(self._lengths), len(validation.rows) if validation else 0,
        )  # fmt: skip

    def measure(self, candidate: Candidate) -> Measured:
        """Train a few steps this way: rows of all lengths, the longest, all lengths again."""
        began = time.perf_counter()
        try:
            told = self._measure(candidate)
        except (RuntimeError, MemoryError) as error:
            if faults.fills_disk(error):
                raise
            # Kernels and drivers raise what they like; the planner goes on without this one.
            lacking = faults.lacking(error)
            told = Measured(
                candidate, fault="out of memory" if lacking else first_line(error)[:200]
            )
        return replace(told, measuring_seconds=round(time.perf_counter() - began, 2))

    def _measure(self, candidate: Candidate) -> Measured:
        import torch

        from training.loop.trainer import Job, make_trainer
        from training.quiet import quietly

        layers = self.ground.shape.layers
        keeps_all = candidate.checkpointing == "none"
        batches = self._batches()
        how = replace(
            self._config.optimisation,
            micro_batch_size=candidate.micro_batch,
            max_tokens=candidate.micro_batch * self.ground.shape.longest,
            keep_layers=layers if keeps_all else candidate.keep_layers,
            max_steps=len(batches),
        )
        kept = replace(
            self._config.checkpoints, eval_steps=len(batches), save_steps=len(batches),
            keep_best=False, patience=None,
        )  # fmt: skip
        config = replace(
            self._config, optimisation=how, checkpoints=kept, report_to=[], logging_steps=1
        )
        folder = self._folder / "checkpoints"
        job = Job(
            config, self._loaded, self._prepared.train.rows, self._longest_validation(candidate),
            self._precision, folder, self._folder / "metrics.jsonl",
        )  # fmt: skip
        clock = _clock(self._on_gpu)
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            _forget_host_peak()
        with quietly():
            trainer = make_trainer(job, [clock], Batches(batches))
            trainer.train()
        del trainer
        self._loaded.model.zero_grad(set_to_none=True)
        shutil.rmtree(folder, ignore_errors=True)
        return self._result(candidate, clock, batches, len(job.validation or ()))

    def _result(
        self, candidate: Candidate, clock: Any, batches: list[list[int]], evaluated: int
    ) -> Measured:
        import torch

        steps = [later - earlier for earlier, later in itertools.pairwise(clock.steps)]
        measured = batches[_WARM_UP : _WARM_UP + self._setup.steps]
        first, second = steps[: -len(measured)], steps[-len(measured) :]
        padded = [self._padded(batch, candidate) for batch in batches]
        cold, warm = padded[: len(first)], padded[len(first) :]
        if self._cold_seconds is None:
            # Of this process's first candidate, as a run begins in a new process: all that its
            # steps took beyond their share of a warm pass.
            self._cold_seconds = max(0.0, sum(first) - sum(second) / sum(warm) * sum(cold))
        taken = sum(second)
        samples = sum(len(batch) for batch in measured)
        tokens = sum(int(self._lengths[batch].sum()) for batch in measured)
        peak = torch.cuda.max_memory_reserved() if self._on_gpu else _host_peak()
        return Measured(
            candidate,
            peak_bytes=peak,
            samples_per_second=samples / taken,
            tokens_per_second=tokens / taken,
            step_seconds=tuple(round(each, 6) for each in second),
            step_tokens=tuple(warm),
            cold_seconds=self._cold_seconds,
            evaluation_seconds=clock.evaluation / evaluated if evaluated else 0.0,
            saving_seconds=clock.saving,
        )

    def _padded(self, batch: list[int], candidate: Candidate) -> int:
        """Count the tokens of a batch as they go through the model, padding included."""
        from training.examples.batches import cuts

        most = candidate.micro_batch * self.ground.shape.longest
        total = 0
        for at in range(0, len(batch), candidate.micro_batch):
            rows = self._lengths[batch[at : at + candidate.micro_batch]]
            widths = sorted(rows.tolist(), reverse=True)
            total += sum((last - first) * widths[first] for first, last in cuts(widths, most))
        return total

    def _whole(self) -> list[list[int]]:
        """Give the whole batches of the first epoch, that with the shortest longest row first."""
        from training.examples.batches import KeyedOrder

        how, seed = self._config.optimisation, self._config.seed
        places = list(KeyedOrder(self._lengths, how.batch_size, seed, how.order))
        size = how.batch_size
        whole = [places[i : i + size] for i in range(0, len(places) - size + 1, size)] or [places]
        return sorted(whole, key=lambda batch: int(self._lengths[batch].max()))

    def _whole_length(self) -> int:
        """Choose how long a row may be before its micro-batch goes through in pieces."""
        whole = self._whole()
        return int(self._lengths[whole[int((len(whole) - 1) * _WHOLE_SHARE)]].max())

    def _batches(self) -> list[list[int]]:
        """Choose a warm-up and batches spread over all lengths, the longest, the spread ones again.

        In a run's order, as far as a few batches have one: what compiles for the first batches does
        so anew once rare long rows change the number of rows at a time.
        """
        size = self._config.optimisation.batch_size
        longest = self._lengths.argsort(kind="stable")[::-1][:size].tolist()
        whole = self._whole()
        count = self._setup.steps
        spread = [whole[int((i + 0.5) * len(whole) / count)] for i in range(count)]
        return [whole[len(whole) // 2], *spread, whole[-1], longest, *spread]

    def _longest_validation(self, candidate: Candidate) -> Any:
        """Take two micro-batches, so that evaluation shows what it takes."""
        if self._prepared.validation is None:
            return None
        rows = self._prepared.validation.rows
        lengths = rows.with_format("arrow")["length"].to_numpy()
        longest = lengths.argsort(kind="stable")[::-1][: 2 * candidate.micro_batch]
        return rows.select(longest.tolist())


def _clock(on_gpu: bool) -> Any:
    """Make a callback that notes when steps, evaluation and saving end."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.steps: list[float] = []
            self.evaluation = self.saving = 0.0
            self._since = 0.0

        def _now(self) -> float:
            if on_gpu:
                torch.cuda.synchronize()
            return time.perf_counter()

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.steps.append(self._now())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self._since = self._now()
            self.steps.append(self._since)

        def on_evaluate(self, *_: Any, **__: Any) -> None:
            now = self._now()
            self.evaluation, self._since = now - self._since, now

        def on_save(self, *_: Any, **__: Any) -> None:
            self.saving = self._now() - self._since

    return Clock()


def _free_host_bytes() -> int:
    """Give the memory that this machine's host can still give without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


_STATUS = Path("/proc/self/status")


def _forget_host_peak() -> None:
    """Begin anew to note this process's peak resident set, where the kernel can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _host_peak() -> int:
    """Give this process's peak resident set in bytes."""
    if not _STATUS.exists():
        return int(hardware.machine()["peak_memory_gib"] * 2**30)
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) * 1024 if found else 0


# Importing Unsloth and loading a large model, or a step of a large batch on a slow machine.
_PATIENCE = 900.0
_GOODBYE = 20.0


class WorkerHandle:
    """The process that measures, started anew for another family or after a fault."""

    def __init__(self, config: PlanConfig, scratch: Path, ledger: Ledger | None = None) -> None:
        self._config = config
        self._scratch = scratch
        self._ledger = ledger
        self._process: Any = None
        self._pipe: Any = None
        self._family: Any = None
        self._seen: set[Candidate] = set()
        self._is_new = True

    def start(self, candidate: Candidate) -> Host:
        """Start a process for a candidate's family; give what it finds there.

        Raises:
            CatalogueError: the input is at fault, or the process died.
        """
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        # Nothing of a plan in it: such a config would ask for one again.
        config = replace(self._config, plan=None)
        setup = Setup(config, candidate, str(self._scratch), self._config.steps)
        # Not a daemon, which may not start the process that builds a tiny base; should this one
        # be killed, the pipe's end tells the other.
        process = context.Process(target=serve, args=(other, setup))
        with children.sheltered():
            process.start()
            self._process = process
        other.close()
        self._family, self._is_new = candidate.family, True
        answer = self._answer()
        if isinstance(answer, Fault):
            raise answer.error
        if not isinstance(answer, Host):
            mend = "free some memory, or lower --optimisation.batch_size"
            raise ModelError("plan", "a process that loads the model", "one that died", mend)
        return answer

    def _answer(self) -> Any:
        try:
            return self._pipe.recv() if self._pipe.poll(_PATIENCE) else None
        except (EOFError, OSError):
            return None

    def measure(self, candidate: Candidate) -> Measured:
        """Measure a candidate; a process that dies or hangs is a fault of the candidate."""
        if self._ledger and (known := self._ledger.take(candidate)):
            log.info("measured before the interruption: %s", candidate)
            return known
        if self._process is None or candidate.family != self._family:
            self.start(candidate)
        log.info("measuring %s%s", candidate, " again" if candidate in self._seen else "")
        self._seen.add(candidate)
        self._pipe.send(candidate)
        answer = self._answer()
        if isinstance(answer, Fault):
            raise answer.error
        if not isinstance(answer, Measured):
            answer = Measured(candidate, fault="the process died")
        if answer.fault:
            # Not kept: memory may be free another time, and an interruption kills processes too.
            self.close()
            return answer
        if self._ledger:
            self._ledger.keep(answer, self._is_new)
        self._is_new = False
        return answer

    def close(self, patience: float = _GOODBYE) -> None:
        """End the process; one that has not ended within so many seconds is killed."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
            self._process.join(patience)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._pipe.close()
        self._process = None
