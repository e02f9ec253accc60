# PYTHON_ARGCOMPLETE_OK
"""Commands of the inference stage: generate, evaluate, rate, compare, ask, serve."""

import atexit
import gc
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from data.cli import interrupts
from data.cluster import client

if __name__ == "__main__":
    interrupts.catch()
    # Torch asks the driver's library, not the driver, whether there is a GPU. Its threads wait as
    # generate.command has it; both are read once.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What ``generate``'s workers are forked from imports these, before this process what takes a
    # while. None starts CUDA or computes: a forked process could do neither then.
    client.prepare_for("generate", sys.argv[1:], (
        "inference.left_out", "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama",
        "inference.engine.slots.decoder", "inference.generate.command",
    ))  # fmt: skip
    import inference.left_out  # noqa: F401

    atexit.register(gc.freeze)  # or its end looks at all that is imported, for 0.7 s

from data import next_step
from data.cli import command_line
from data.cli.command_line import Command
from data.cli.extras import MODEL, Need
from data.cli.forgotten import Input
from data.cli.usage import Guide
from inference.compare.config import CompareConfig
from inference.config import AskConfig, EvaluateConfig, GenerateConfig, ServeConfig
from inference.judges import RateConfig

_MEASURES = Need(("pydivsufsort", "rapidfuzz", "rouge_score", "sacrebleu"))
_RUNS = replace(MODEL, when=lambda config: bool(config.runs))
_JUDGE = Need(("openai",), when=lambda config: bool(config.judge))
_MEANING = Need(("model2vec",), when=lambda config: bool(config.semantic))
_PAGE = Need(("fastapi", "uvicorn"))
_RUN = Input(("train", "export"))
_ASKED = {"run": _RUN, "catalogue": Input(("clean",))}
_BOTH = "--run data/store/runs/all --catalogue data/store/clean"
COMMANDS = {
    "generate": Command(
        GenerateConfig, "inference.generate.command:run", (MODEL,), after=next_step.after_generate,
        inputs={"run": _RUN, "titles": Input(("subset", "clean"))},
        guide=Guide(
            examples=(
                "--run data/store/runs/all --titles data/store/subsets/all --split test",
                "--run data/store/runs/all --titles titles.csv --title_column name "
                "--out data/store/generated/mine",
                "--run data/store/runs/all --titles data/store/subsets/all --limit 100 "
                "--checks true --out data/store/generated/first",
            ),
            flags=("run", "titles", "out", "split", "limit", "title_column", "checks", "best_of",
                   "temperature", "overwrite"),
        ),
    ),
    "evaluate": Command(
        EvaluateConfig, "inference.evaluate.command:run", (_MEASURES, _RUNS, _JUDGE, _MEANING),
        after=next_step.after_evaluate,
        inputs={"run": Input(("train",), unless="generated"), "subset": Input(("subset",))},
        guide=Guide(
            examples=(
                "--run data/store/runs/all --subset data/store/subsets/all",
                "--run data/store/runs/all --generated data/store/generated/all "
                "--subset data/store/subsets/all --rows 200",
                "--run '[data/store/runs/all,data/store/runs/10k]' --gate "
                "--subset data/store/subsets/all --out data/store/reports/both",
            ),
            flags=("run", "generated", "subset", "out", "rows", "split", "held_out", "curve",
                   "gate", "overwrite"),
        ),
    ),
    "rate": Command(
        RateConfig, "inference.rate.command:run", (_PAGE,),
        inputs={"report": Input(("evaluate",))},
        guide=Guide(
            examples=(
                "--report data/store/reports/all",
                "--report data/store/reports/all --other reference --pairs 20 "
                "--out data/store/votes/real",
                "--report data/store/reports/all --host 0.0.0.0 --port 8001",
            ),
            flags=("report", "out", "one", "other", "pairs", "repeats", "host", "port"),
        ),
    ),
    "compare": Command(
        CompareConfig, "inference.compare.command:run",
        guide=Guide(
            examples=(
                "--reports '[data/store/reports/1k,data/store/reports/10k]'",
                "--reports '[data/store/reports/1k,data/store/reports/10k,data/store/reports/all]' "
                "--out data/store/reports/sizes",
                "--reports '[data/store/reports/1k,data/store/reports/10k]' --overwrite true",
            ),
            flags=("reports", "out", "overwrite"),
        ),
    ),
    "ask": Command(
        AskConfig, "inference.ask.command:run", (MODEL,), positional=("question",),
        after=next_step.after_ask, inputs=_ASKED,
        guide=Guide(
            examples=(
                f'{_BOTH} "What is The Wild Harbour, a Tarnside novel, about?"',
                f'{_BOTH} --compare "O que é The Wild Harbour?"',
                f"{_BOTH} --json - < questions.txt",
            ),
            flags=("question", "run", "catalogue", "title", "compare", "anyway", "json", "ground",
                   "temperature", "seed"),
        ),
    ),
    "serve": Command(
        ServeConfig, "inference.serve.command:run", (MODEL, _PAGE), inputs=_ASKED,
        guide=Guide(
            examples=(
                _BOTH,
                f"{_BOTH} --report data/store/reports/all",
                f"{_BOTH} --host 0.0.0.0 --port 8000 --allowed_hosts '[shop.example]'",
            ),
            flags=("run", "catalogue", "report", "host", "port", "allowed_hosts", "api_key",
                   "queue", "ground", "temperature"),
        ),
    ),
}  # fmt: skip
_SWITCHES = ("--compare", "--anyway", "--json", "--gate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return command_line.main(
        "inference", COMMANDS, switches(sys.argv[1:] if argv is None else argv)
    )


def switches(words: Sequence[str]) -> list[str]:
    """Let a switch stand alone: ``--compare`` for ``--compare true``."""
    complete: list[str] = []
    for word, after in itertools.zip_longest(words, words[1:]):
        complete.append(word)
        if word in _SWITCHES and after not in ("true", "false"):
            complete.append("true")
    return complete


if __name__ == "__main__":
    sys.exit(main())
