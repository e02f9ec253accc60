"""Commands of the inference stage: generate, evaluate, ask, serve."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace

from data.cli import command_line, interrupts
from data.cli.command_line import Command
from data.cli.extras import MODEL, Need
from inference.config import AskConfig, EvaluateConfig, GenerateConfig, ServeConfig

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

_MEASURES = Need(("pydivsufsort", "rapidfuzz", "rouge_score", "sacrebleu"))
_RUNS = replace(MODEL, when=lambda config: bool(config.runs))
_PAGE = Need(("gradio", "fastapi", "uvicorn"))
COMMANDS = {
    "generate": Command(GenerateConfig, "inference.generate.command:run", (MODEL,)),
    "evaluate": Command(EvaluateConfig, "inference.evaluate.command:run", (_MEASURES, _RUNS)),
    "ask": Command(AskConfig, "inference.ask.command:run", (MODEL,), positional=("question",)),
    "serve": Command(ServeConfig, "inference.serve.command:run", (MODEL, _PAGE)),
}
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
