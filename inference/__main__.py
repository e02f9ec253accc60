"""Commands of the inference stage: generate, evaluate, ask, serve."""

import sys
from collections.abc import Sequence

from data import cli
from data.cli import Command
from inference.ask_config import AskConfig, ServeConfig
from inference.config import GenerateConfig
from inference.criteria import EvaluateConfig

COMMANDS = {
    "generate": Command(GenerateConfig, "inference.generate:run"),
    "evaluate": Command(EvaluateConfig, "inference.evaluate:run"),
    "ask": Command(AskConfig, "inference.ask:run", positional=("question",)),
    "serve": Command(ServeConfig, "inference.web:run"),
}
_SWITCHES = ("--compare", "--anyway", "--json", "--gate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    return cli.main("inference", COMMANDS, switches(sys.argv[1:] if argv is None else argv))


def switches(words: Sequence[str]) -> list[str]:
    """Let a switch stand alone: ``--compare`` for ``--compare true``."""
    told: list[str] = []
    for place, word in enumerate(words):
        told.append(word)
        if word in _SWITCHES and words[place + 1 : place + 2] not in (["true"], ["false"]):
            told.append("true")
    return told


if __name__ == "__main__":
    sys.exit(main())
