"""What the validation rows cost a finished run, by blocks of rows: what a bootstrap resamples."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from training.curve.fit import Floats
from training.execution import Lender
from training.job import Job
from training.model.adapter import take_weights
from training.model.backend import quietly

# At least 50 blocks where the rows allow, so that the ends of an interval are some rows each.
_BLOCKS = 100


def of_run(folder: Folder, name: str, record: Manifest, job: Job, lender: Lender) -> Floats:
    """Return the nats and tokens of each block of validation rows, [blocks, 2].

    Args:
        folder: where they are kept.
        name: of the file.
        record: of the finished run.
        job: of the run.
        lender: of the model; used only where they are not kept yet.
    """
    if folder.exists(name):
        kept = json.loads(folder.read(name))
        if kept["run"] == record.digest:
            return np.array([kept["nats"], kept["tokens"]], np.float64).T
    model = lender.lend(job)
    take_weights(model, job.out / "adapter")
    measured = measure(job, model)
    nats, tokens = measured.T.tolist()
    payload = {"run": record.digest, "nats": nats, "tokens": tokens}
    folder.commit(name, json.dumps(payload).encode())
    return measured


def measure(job: Job, model: Any) -> Floats:
    """Evaluate as the run does, in small micro-batches, and keep the sums of each apart."""
    # Only now: it imports trl, which Unsloth must come before.
    from training.loop import trainer

    if job.validation is None:
        raise ValueError("no validation rows")
    silent = replace(job, config=replace(job.config, report_to=[]))
    with quietly():
        evaluating = trainer.make_trainer(silent, model, [])
        rows = max(1, len(job.validation.rows) // _BLOCKS)
        evaluating.args.per_device_eval_batch_size = min(rows, job.config.optimisation.micro_batch)
        return np.asarray(evaluating.losses(), np.float64)


def stack(several: list[Floats]) -> tuple[Floats, Floats]:
    """Lay out the blocks of runs: nats, [runs, blocks], and the tokens that all have, [blocks]."""
    return np.stack([blocks[:, 0] for blocks in several]), several[0][:, 1]
