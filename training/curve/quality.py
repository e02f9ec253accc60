"""The quality of the runs' texts, by ``inference evaluate`` as a command of its own."""

import contextlib
import io
import json
import runpy
import sys
from typing import Any

from data.artefacts.folder import Folder
from data.errors import ModelError
from training import processes
from training.curve.config import CurveConfig
from training.curve.summary import QUALITY

_FOLDER = "quality"


def judge(config: CurveConfig, folders: list[str], out: Folder) -> dict[str, dict[str, Any]]:
    """Judge runs on the subset's test rows: scores with intervals by the run's folder.

    Raises:
        ModelError: the command failed; it has said why.
    """
    flags = {"run": json.dumps(folders), "subset": config.subset, "seed": config.seed,
             "out": out.path(_FOLDER), "base": "false"}  # fmt: skip
    if config.memory_limit:
        flags["memory_limit"] = config.memory_limit
    if config.overwrite:
        flags["overwrite"] = "true"
    words = ["evaluate", *(f"--{name}={value}" for name, value in flags.items())]
    with processes.start(_command, words) as judging:
        code = judging.result()
    if code:
        hint = "its line above says why"
        raise ModelError("inference evaluate", "the quality of the runs", f"exit code {code}", hint)
    report = json.loads(out.read(f"{_FOLDER}/report.json"))
    scores = report["sides"]["unseen"]["scores"]
    return {
        system["run"]: {
            name: {part: scores[system["key"]][name][part] for part in ("value", "low", "high")}
            for name in QUALITY
            if name in scores[system["key"]]
        }
        for system in report["candidates"]
        if system["kind"] == "adapter"
    }


def _command(words: list[str]) -> int:
    """Run the command, which ends with the process that asked for it; what it prints is ours."""
    sys.argv = ["inference", *words]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_module("inference", run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
