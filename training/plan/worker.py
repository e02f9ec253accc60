"""A process that measures candidates of a plan: the real Trainer on real rows, a few steps each.

In a process of its own, because running out of GPU memory leaves a process unfit to measure the
next candidate: it then reports that and ends, and the planner starts another.
"""

import gc
import importlib.util
import itertools
import logging
import shutil
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data.cli import faults, interrupts
from data.console import first_line
from training import hardware, processes
from training.config import PlanConfig
from training.examples.cache import Tokenised
from training.job import open_subset, prepare
from training.model.backend import count_trainable, load_model, quietly
from training.plan.candidates import Candidate, Measured, ModelShape
from training.processes import Ranks

_WARM_UP = 1
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
        while (candidate := pipe.recv()) is not None:
            result = worker.measure(candidate)
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
        self._lengths = job.train.rows.with_format("arrow")["length"].to_numpy()
        self._whole = self._whole_batches()
        self.host = self._describe(free)

    def _describe(self, free: int) -> Host:
        job, config = self._job, self._model.config
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        frozen = (p.numel() for p in self._model.parameters() if not p.requires_grad)
        # A micro-batch with a row longer than that of this batch goes through in pieces.
        longest_whole = self._whole[int((len(self._whole) - 1) * _WHOLE_SHARE)]
        shape = ModelShape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            kv_hidden=config.hidden_size // heads * kv_heads,
            vocabulary=config.vocab_size,
            parameters=sum(frozen),
            trainable=count_trainable(self._model),
            weight_bytes=hardware.weight_bytes(job.precision),
            longest=int(self._lengths[longest_whole].max()),
            fused=job.backend.name == "unsloth" and self._on_gpu,
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
        )

    def measure(self, candidate: Candidate) -> Measured:
        """Train a few steps this way: rows of all lengths, the longest, all lengths again."""
        began = time.perf_counter()
        try:
            result = self._measure(candidate)
        except (RuntimeError, MemoryError) as error:
            if faults.fills_disk(error):
                raise
            # Kernels and drivers raise what they like; the planner goes on without this one.
            fault = "out of memory" if faults.lacking(error) else first_line(error)[:200]
            result = Measured(candidate, fault=fault)
        return replace(result, measuring_seconds=round(time.perf_counter() - began, 2))

    def _measure(self, candidate: Candidate) -> Measured:
        from training.loop.trainer import make_trainer

        config, shape, batches = self._job.config, self.host.shape, self._batches()
        keeps_all = candidate.checkpointing == "none"
        how = replace(
            config.optimisation,
            micro_batch_size=candidate.micro_batch,
            max_tokens=candidate.micro_batch * shape.longest,
            keep_layers=shape.layers if keeps_all else candidate.keep_layers,
            max_steps=len(batches),
        )
        kept = replace(
            config.checkpoints, eval_steps=len(batches), save_steps=len(batches),
            keep_best=False, patience=None,
        )  # fmt: skip
        config = replace(config, optimisation=how, checkpoints=kept, logging_steps=1)
        job = replace(self._job, config=config, validation=self._longest_validation(candidate))
        clock = _clock(self._on_gpu)
        gc.collect()
        hardware.forget_peak()
        with quietly():
            trainer = make_trainer(job, self._model, [clock], Order(itertools.chain(*batches)))
            trainer.train()
        del trainer
        self._model.zero_grad(set_to_none=True)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        evaluated = len(job.validation.rows) if job.validation else 0
        return self._result(candidate, clock, batches, evaluated)

    def _result(
        self, candidate: Candidate, clock: Any, batches: list[list[int]], evaluated: int
    ) -> Measured:
        steps = [later - earlier for earlier, later in itertools.pairwise(clock.steps)]
        measured = batches[_WARM_UP : _WARM_UP + self._steps]
        first, second = steps[: -len(measured)], steps[-len(measured) :]
        padded = [self._padded(batch, candidate) for batch in batches]
        cold, warm = padded[: len(first)], padded[len(first) :]
        if self._cold_seconds is None:
            # Of this process's first candidate, as a run begins in a new process: all that its
            # steps took beyond their share of a warm pass.
            self._cold_seconds = max(0.0, sum(first) - sum(second) / sum(warm) * sum(cold))
        seconds = sum(second)
        samples = sum(len(batch) for batch in measured)
        tokens = sum(int(self._lengths[batch].sum()) for batch in measured)
        return Measured(
            candidate,
            peak_bytes=hardware.peak_bytes(),
            samples_per_second=samples / seconds,
            tokens_per_second=tokens / seconds,
            step_seconds=tuple(round(step, 6) for step in second),
            step_tokens=tuple(warm),
            cold_seconds=self._cold_seconds,
            evaluation_seconds=clock.evaluation / evaluated if evaluated else 0.0,
            saving_seconds=clock.saving,
        )

    def _padded(self, batch: list[int], candidate: Candidate) -> int:
        """Count the tokens of a batch as they go through the model, padding included."""
        from training.examples.batches import cuts

        most = candidate.micro_batch * self.host.shape.longest
        total = 0
        for start in range(0, len(batch), candidate.micro_batch):
            rows = self._lengths[batch[start : start + candidate.micro_batch]]
            widths = sorted(rows.tolist(), reverse=True)
            total += sum((last - first) * widths[first] for first, last in cuts(widths, most))
        return total

    def _whole_batches(self) -> list[list[int]]:
        """List the whole batches of the first epoch, sorted by their longest rows."""
        from training.examples.batches import KeyedOrder

        config = self._job.config
        size, order = config.optimisation.batch_size, config.optimisation.order
        places = list(KeyedOrder(self._lengths, size, config.seed, order))
        whole = [places[i : i + size] for i in range(0, len(places) - size + 1, size)] or [places]
        return sorted(whole, key=lambda batch: int(self._lengths[batch].max()))

    def _batches(self) -> list[list[int]]:
        """Choose a warm-up and batches spread over all lengths, the longest, the spread ones again.

        In a run's order, as far as a few batches have one: what compiles for the first batches does
        so anew once rare long rows change the number of rows at a time.
        """
        whole, count, size = self._whole, self._steps, self._job.config.optimisation.batch_size
        longest = self._lengths.argsort(kind="stable")[::-1][:size].tolist()
        spread = [whole[int((i + 0.5) * len(whole) / count)] for i in range(count)]
        return [whole[len(whole) // 2], *spread, whole[-1], longest, *spread]

    def _longest_validation(self, candidate: Candidate) -> Tokenised | None:
        """Choose the longest rows for two micro-batches, enough to time evaluation by."""
        validation = self._job.validation
        if validation is None:
            return None
        lengths = validation.rows.with_format("arrow")["length"].to_numpy()
        longest = lengths.argsort(kind="stable")[::-1][: 2 * candidate.micro_batch]
        return replace(validation, rows=validation.rows.select(longest.tolist()))


def _clock(on_gpu: bool) -> Any:
    """Build a callback that times steps, evaluation and saving."""
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
