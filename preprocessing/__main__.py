"""Commands of the cleaning stage: clean."""

import sys
from collections.abc import Sequence

from data.cli import command_line, interrupts
from preprocessing.config import CleanConfig

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

COMMANDS = {"clean": command_line.Command(CleanConfig, "preprocessing.clean:run")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return command_line.main("preprocessing", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
