"""Commands on the catalogue at rest: subset, synthesize, show."""

from data import interrupts

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

import sys
from collections.abc import Sequence

from data import cli
from data.extras import Need
from data.show import ShowConfig
from data.subset import SubsetConfig
from data.synthesize import SynthesizeConfig

_PICTURE = Need(("matplotlib",), lambda config: config.plot is not None)
COMMANDS = {
    "subset": cli.Command(SubsetConfig, "data.subset:run"),
    "synthesize": cli.Command(SynthesizeConfig, "data.synthesize:run"),
    "show": cli.Command(ShowConfig, "data.show:run", (_PICTURE,), positional=("path",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return cli.main("data", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
