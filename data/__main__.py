"""Commands on the catalogue at rest: subset, synthesize, show."""

import sys
from collections.abc import Sequence

from data.cli import command_line, interrupts
from data.cli.extras import Need
from data.show import ShowConfig
from data.subset import SubsetConfig
from data.synthetic.command import SynthesizeConfig

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

_PICTURE = Need(("matplotlib",), lambda config: config.plot is not None)
COMMANDS = {
    "subset": command_line.Command(SubsetConfig, "data.subset:run"),
    "synthesize": command_line.Command(SynthesizeConfig, "data.synthetic.command:run"),
    "show": command_line.Command(ShowConfig, "data.show:run", (_PICTURE,), positional=("path",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return command_line.main("data", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
