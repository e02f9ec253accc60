"""A process that measures candidates of a plan: the real Trainer on real rows, a few steps each.

In a process of its own, because running out of GPU memory leaves a process unfit to measure the
next candidate: it then reports that and ends, and the planner starts another.
"""

import gc
import importlib.util
import itertools
import logging
import math
import shutil
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from data.cli import faults, interrupts
from data.console import first_line
from training import hardware, processes
from training.config import PlanConfig
from training.examples.batches import shared_beginning
from training.examples.cache import Tokenised
from training.job import open_subset, prepare
from training.model.backend import count_frozen, count_trainable, load_model, quietly
from training.plan.candidates import (
    OUT_OF_MEMORY,
    Candidate,
    Measured,
    ModelShape,
    Speed,
    micro_batches,
)
from training.plan.pace import Pace
from training.processes import Ranks

# Batches whose tokens are counted to know the padding of each micro-batch.
_BATCHES_COUNTED = 200
# One title in ten thousand repeats itself up to 1,999 characters. Room for a whole micro-batch of
# such rows would cost every other step its kept layers; so the rare batches go through in pieces.
_WHOLE_SHARE = 0.98


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
    speed: Speed


class Order(list[int]):
    """A sampler of rows by their places, for one epoch."""

    def set_epoch(self, _: int) -> None:
        """Do nothing: there is one epoch."""


def serve(pipe: Connection, config: PlanConfig, candidate: Candidate, folder: str) -> None:
    """Load the model, send what the host is, then measure candidates until none comes.

    Args:
        pipe: to the planner; a fault of the input or the machine is sent as its exception.
        config: of the plan.
        candidate: of the family to be measured: a loaded model cannot change its checkpointing.
        folder: for what is written while measuring; the planner removes it.
    """
    interrupts.end_with_parent()
    logging.getLogger("catalogue").setLevel(logging.ERROR)
    processes.leave()
    try:
        worker = Worker(config, candidate, Path(folder))
        pipe.send(worker.host)
        while (order := pipe.recv()) is not None:
            result = worker.measure(*order)
            pipe.send(result)
            if result.fault:
                break
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # the planner is gone
        pass
    except Exception as error:
        if faults.tell(error) is None:
            raise
        pipe.send(error)
    finally:
        pipe.close()


class Worker:
    """A loaded model with its rows."""

    def __init__(self, config: PlanConfig, candidate: Candidate, folder: Path) -> None:
        import torch

        checkpointing, attention = candidate.family
        how = replace(
            config.optimisation, gradient_checkpointing=checkpointing, attention=attention
        )
        config = replace(config, optimisation=how)
        if config.tiny:  # how well it writes does not matter here
            config = replace(config, tiny=replace(config.tiny, steps=0))
        self._on_gpu = torch.cuda.is_available()
        self._steps = config.steps
        self._cold_seconds: float | None = None
        subset = open_subset(config.subset, config.prompt.attributes)
        self._job = prepare(config, subset, folder, Ranks())
        free = hardware.free_bytes()
        job = self._job
        self._model = load_model(config, job.base, job.backend, job.precision)
        self._lengths = _lengths(job.train)
        batches = self._whole_batches()
        self._run = batches[: config.optimisation.max_steps]
        self._whole = sorted(batches, key=lambda batch: int(self._lengths[batch].max()))
        # A micro-batch with a row longer than that of this batch goes through in pieces.
        longest = self._whole[int((len(self._whole) - 1) * _WHOLE_SHARE)]
        self._longest_whole = int(self._widths(self._lengths[longest]).max())
        self.host = self._describe(free)

    def _describe(self, free: int) -> Host:
        job, config = self._job, self._model.config
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        frozen, frozen_bytes = count_frozen(self._model)
        shape = ModelShape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            kv_hidden=(getattr(config, "head_dim", None) or config.hidden_size // heads) * kv_heads,
            vocabulary=config.vocab_size,
            parameters=frozen,
            trainable=count_trainable(self._model),
            weight_bytes=hardware.weight_bytes(job.precision),
            longest=self._longest_whole,
            fused=job.backend.name == "unsloth" and self._on_gpu,
            frozen_bytes=frozen_bytes,
        )
        return Host(
            shape,
            device=str(hardware.machine()["device"]),
            free_bytes=free,
            longest=int(self._lengths.max()),
            backend=job.backend.name,
            has_flash=importlib.util.find_spec("flash_attn") is not None and self._on_gpu,
            rows=len(self._lengths),
            validation_rows=len(job.validation.rows) if job.validation else 0,
            speed=self._speed(),
        )

    def _speed(self) -> Speed:
        """Measure what the machine multiplies, and count the tokens of the run's batches."""
        batch = self._job.config.optimisation.batch_size
        sizes = micro_batches(batch)
        few = self._run[:: max(1, len(self._run) // _BATCHES_COUNTED)]
        tokens = {
            size: sum(self._padded(self._lengths[rows], size) for rows in few) / sum(map(len, few))
            for size in sizes
        }
        shared = shared_beginning(self._job.train.rows) if self._on_gpu else 0
        return Speed(hardware.multiply(self._job.precision), tokens, shared)

    def measure(self, candidate: Candidate, rival: float = math.inf) -> Measured:
        """Train a few steps this way.

        Args:
            candidate: of the family that was loaded.
            rival: seconds of the batch of middling length by the fastest one so far.
        """
        began = time.perf_counter()
        try:
            result = self._measure(candidate, rival)
        except (RuntimeError, MemoryError) as error:
            if faults.fills_disk(error):
                raise
            # Kernels and drivers raise what they like; the planner goes on without this one.
            fault = OUT_OF_MEMORY if faults.lacking(error) else first_line(error)[:200]
            result = Measured(candidate, fault=fault)
        return replace(result, measuring_seconds=round(time.perf_counter() - began, 2))

    def _measure(self, candidate: Candidate, rival: float) -> Measured:
        from training.loop import graphs
        from training.loop.trainer import make_trainer

        config, shape = self._job.config, self.host.shape
        keeps_all = candidate.checkpointing == "none"
        how = replace(
            config.optimisation,
            micro_batch_size=candidate.micro_batch,
            max_tokens=candidate.micro_batch * shape.longest,
            keep_layers=shape.layers if keeps_all else candidate.keep_layers,
        )
        like = replace(self._job, config=replace(config, optimisation=how))
        is_recorded = graphs.are_for(like, shape.layers)
        warm = graphs.warm_steps(candidate.accumulation) if is_recorded else 1
        pace = Pace(self._steps, rival, warm + 2)
        batches = self._batches(candidate, pace.first)
        kept = replace(
            config.checkpoints, eval_steps=len(batches) + 1, save_steps=len(batches) + 1,
            keep_best=False, patience=None,
        )  # fmt: skip
        how = replace(how, max_steps=len(batches))
        config = replace(config, optimisation=how, checkpoints=kept, logging_steps=1)
        job = replace(self._job, config=config, validation=self._longest_validation(candidate))
        clock = _clock(self._on_gpu, pace)
        gc.collect()
        hardware.forget_peak()
        with quietly():
            trainer = make_trainer(job, self._model, [clock], Order(itertools.chain(*batches)))
            recorded = trainer.recorded
            clock.recordings = recordings = recorded.seconds if recorded else []
            trainer.train()
        del trainer
        self._model.zero_grad(set_to_none=True)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        measured = self._result(candidate, clock, batches, recorded.shared if recorded else 0)
        if recordings:
            seconds = self._shapes(candidate.micro_batch) * median(recordings)
            measured = replace(measured, recording_seconds=seconds)
        if not job.validation or not self._job.validation or measured.is_left:
            return measured
        # By tokens, as these rows are longer than most.
        few, rows = (_lengths(tokenised) for tokenised in (job.validation, self._job.validation))
        tokens = [self._padded(lengths, candidate.micro_batch) for lengths in (few, rows)]
        seconds = clock.evaluation * tokens[1] / tokens[0] / len(rows)
        return replace(measured, evaluation_seconds=seconds)

    def _result(
        self, candidate: Candidate, clock: Any, batches: list[list[int]], shared: int
    ) -> Measured:
        pace: Pace = clock.pace
        micro = candidate.micro_batch
        tokens = [self._padded(self._lengths[batch], micro, shared) for batch in batches]
        rows = micro * candidate.accumulation
        run_tokens = self.host.speed.row_tokens[micro] * rows - shared * (rows - rows // micro)
        mean = pace.mean(tokens, run_tokens)
        counted = pace.counted
        if self._cold_seconds is None:
            # Of this process's first candidate, as a run begins in a new process: all that its
            # steps took beyond their share of those that count.
            cold = counted.start if pace.is_quick else len(pace.seconds)
            warm = mean / run_tokens * sum(tokens[:cold])
            self._cold_seconds = max(0.0, sum(pace.seconds[:cold]) - warm)
        own = sum(int(self._lengths[batches[place]].sum()) for place in counted)
        return Measured(
            candidate,
            peak_bytes=hardware.peak_bytes(),
            samples_per_second=rows / mean,
            tokens_per_second=rows / mean * own / sum(len(batches[place]) for place in counted),
            step_seconds=tuple(round(pace.seconds[place], 6) for place in counted),
            step_tokens=tuple(tokens[place] for place in counted),
            glance_seconds=pace.glance,
            is_left=clock.is_left,
            cold_seconds=self._cold_seconds,
            saving_seconds=clock.saving,
        )

    def _padded(self, lengths: np.ndarray, micro_batch: int, shared: int = 0) -> int:
        """Count the tokens of rows as they go through the model, padding included.

        Those that all rows share count once a micro-batch.
        """
        from training.examples.batches import cuts

        total, most = 0, micro_batch * self._longest_whole
        for start in range(0, len(lengths), micro_batch):
            widths = sorted(self._widths(lengths[start : start + micro_batch]).tolist())[::-1]
            total += sum(
                (last - first) * widths[first] - (last - first - 1) * shared
                for first, last in cuts(widths, most)
            )
        return total

    def _widths(self, lengths: np.ndarray) -> np.ndarray:
        """Return the lengths of rows as a GPU's collator rounds them up."""
        from training.examples.batches import rounded

        widest = self._job.config.max_length
        return np.asarray(rounded(lengths, widest)) if self._on_gpu else lengths

    def _shapes(self, micro_batch: int) -> int:
        """Count the widths of the run's micro-batches, each of which is recorded once."""
        return len({
            int(self._widths(self._lengths[batch[start : start + micro_batch]]).max())
            for batch in self._run for start in range(0, len(batch), micro_batch)
        })  # fmt: skip

    def _whole_batches(self) -> list[list[int]]:
        """List the whole batches of the first epoch, in a run's order."""
        from training.examples.batches import KeyedOrder

        config = self._job.config
        size, order = config.optimisation.batch_size, config.optimisation.order
        places = list(KeyedOrder(self._lengths, size, config.seed, order))
        return [places[i : i + size] for i in range(0, len(places) - size + 1, size)] or [places]

    def _batches(self, candidate: Candidate, first: int) -> list[list[int]]:
        """Choose the batches of ``pace``; those of all lengths in a run's order.

        As far as a few batches have one: what compiles for the first batches does so anew once rare
        long rows change the number of rows at a time.
        """
        whole, count, size = self._whole, self._steps, self._job.config.optimisation.batch_size
        by_length = self._lengths.argsort(kind="stable")
        # Memory goes by a single micro-batch, so short rows fill up the others.
        longest = by_length[::-1][: candidate.micro_batch].tolist()
        shortest = by_length[: max(0, min(size, len(by_length)) - len(longest))].tolist()
        places = [int((i + 0.5) * len(whole) / count) for i in range(count)]
        # The first ones are of all lengths too.
        spread = [whole[place] for place in [*places[1::2], *places[::2]]]
        middle = whole[len(whole) // 2]
        return [*[middle] * (first - 1), longest + shortest, *spread, *spread]

    def _longest_validation(self, candidate: Candidate) -> Tokenised | None:
        """Choose a micro-batch of the longest rows, for memory, and the first one, for time."""
        validation, size = self._job.validation, candidate.micro_batch
        if validation is None:
            return None
        longest = _lengths(validation).argsort(kind="stable")[::-1][:size].tolist()
        first = range(min(size, len(validation.rows)))
        return replace(validation, rows=validation.rows.select([*longest, *first]))


def _lengths(tokenised: Tokenised) -> np.ndarray:
    """Return the tokens of each row, [rows]."""
    lengths: np.ndarray = tokenised.rows.with_format("arrow")["length"].to_numpy()
    return lengths


def _clock(on_gpu: bool, pace: Pace) -> Any:
    """Build a callback that times steps, evaluation and saving, and ends them at their pace."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.pace = pace
            self.is_left = False
            self.evaluation = self.saving = 0.0
            self.recordings: list[float] = []
            self._since = 0.0
            self._seen = 0

        def _now(self) -> float:
            if on_gpu:
                torch.cuda.synchronize()
            return time.perf_counter()

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._since = self._now()

        def on_step_end(self, args: Any, _state: Any, control: Any, **_: Any) -> None:
            now = self._now()
            recording = sum(self.recordings[self._seen :])
            verdict = pace.after(now - self._since - recording)
            self._since, self._seen = now, len(self.recordings)
            if verdict != "go on":
                self.is_left = verdict == "behind"
                control.should_save = not self.is_left
                control.should_evaluate = not self.is_left and args.eval_strategy != "no"
                control.should_training_stop = True

        def on_evaluate(self, *_: Any, **__: Any) -> None:
            now = self._now()
            self.evaluation, self._since = now - self._since, now

        def on_save(self, *_: Any, **__: Any) -> None:
            self.saving = self._now() - self._since

    return Clock()
