"""Commands of the cleaning stage: clean."""

import sys
from collections.abc import Sequence

from data.cli import command_line, interrupts
from data.cli.extras import Need
from data.cluster import client
from preprocessing.config import CleanConfig

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

_LANGUAGES = Need(("pycld2",), lambda config: bool(config.rules.languages))


def _start_workers(config: CleanConfig) -> None:
    if not config.scheduler:
        client.prepare(["preprocessing.worker"])


COMMANDS = {
    "clean": command_line.Command(
        CleanConfig, "preprocessing.clean:run", (_LANGUAGES,), ahead=_start_workers
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return command_line.main("preprocessing", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
