"""A process that measures candidates of a plan: the real Trainer on real rows, a few steps each.

In a process of its own, because running out of GPU memory leaves a process unfit to measure the
next candidate: it then says so and ends, and the planner starts another.
"""

import contextlib
import gc
import itertools
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data import faults
from training import children, inputs, model, ranks, record
from training.config import TrainConfig
from training.plan import Candidate, Measured, Shape
from training.quiet import first_line
from training.ranks import Ranks

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
class Ground:
    """What the planner must know of machine, model and rows."""

    shape: Shape
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
    ranks.leave()
    try:
        bench = Bench(setup)
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


class Bench:
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
        subset = inputs.open_subset(config.subset)
        self._on_gpu = torch.cuda.is_available()
        self._prepared = inputs.prepare(config, subset, self._folder, Ranks())
        free = torch.cuda.mem_get_info()[0] if self._on_gpu else _free_host_bytes()
        self._precision = inputs.precision(config)
        self._loaded = model.load(
            config, self._prepared.base, self._prepared.backend, self._precision
        )
        rows = self._prepared.train.rows.with_format("arrow")
        self._lengths = rows["length"].to_numpy()
        self.ground = self._look(free)

    def _look(self, free: int) -> Ground:
        import importlib.util

        config = self._loaded.model.config
        parameters = list(self._loaded.model.parameters())
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        validation = self._prepared.validation
        shape = Shape(
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
        return Ground(
            shape, str(record.machine()["device"]), free, int(self._lengths.max()),
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

        from training import loop
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
        job = loop.Job(
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
            trainer = loop.make_trainer(job, [clock], Batches(batches))
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
        from training.batches import cuts

        most = candidate.micro_batch * self.ground.shape.longest
        total = 0
        for at in range(0, len(batch), candidate.micro_batch):
            rows = self._lengths[batch[at : at + candidate.micro_batch]]
            widths = sorted(rows.tolist(), reverse=True)
            total += sum((last - first) * widths[first] for first, last in cuts(widths, most))
        return total

    def _whole(self) -> list[list[int]]:
        """Give the whole batches of the first epoch, that with the shortest longest row first."""
        from training.batches import KeyedOrder

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
        return int(record.machine()["peak_memory_gib"] * 2**30)
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) * 1024 if found else 0
