# PYTHON_ARGCOMPLETE_OK
"""Commands on the catalogue at rest: subset, synthesize, show."""

import sys
from collections.abc import Sequence

from data.cli import interrupts

if __name__ == "__main__":
    interrupts.catch()  # before the imports that take a while

from data import next_step
from data.cli import command_line
from data.cli.command_line import Command
from data.cli.extras import Need
from data.cli.forgotten import Input
from data.cli.usage import Guide
from data.show import ShowConfig
from data.subset import SubsetConfig
from data.synthetic.command import SynthesizeConfig

_PICTURE = Need(("matplotlib",), lambda config: config.plot is not None)
COMMANDS = {
    "subset": Command(
        SubsetConfig, "data.subset:run", after=next_step.after_subset,
        inputs={"clean": Input(("clean",))},
        guide=Guide(
            examples=(
                "--clean data/store/clean --out data/store/subsets/all",
                "--clean data/store/clean --size 10000 --out data/store/subsets/10k",
                "--clean data/store/clean --near_duplicates once --out data/store/subsets/once",
            ),
            flags=("clean", "size", "out", "validation", "test", "near_duplicates", "similarity",
                   "order", "overwrite"),
        ),
    ),
    "synthesize": Command(
        SynthesizeConfig, "data.synthetic.command:run", after=next_step.after_synthesize,
        guide=Guide(
            examples=(
                "--rows 100000",
                "--rows 100000 --defects 0 --out data/store/raw/clean-text.json.gz",
                "--rows 5000 --attributes true --out data/store/raw/attributes.json.gz",
            ),
            flags=("rows", "out", "seed", "defects", "broken_share", "attributes", "workers"),
        ),
    ),
    "show": Command(
        ShowConfig, "data.show:run", (_PICTURE,), positional=("path",),
        after=next_step.after_show, inputs={"path": Input()},
        guide=Guide(
            examples=(
                "data/store/clean",
                "data/store/clean --quarantined all --rows 0",
                "data/store/generated/all --rows 20 --plot lengths.png",
            ),
            flags=("path", "rows", "quarantined", "plot"),
        ),
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return command_line.main("data", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
