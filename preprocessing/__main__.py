# PYTHON_ARGCOMPLETE_OK
"""Commands of the cleaning stage: clean."""

import gc
import sys
from collections.abc import Sequence

from data.cli import interrupts
from data.cluster import client

if __name__ == "__main__":
    interrupts.catch()
    # It imports what cleaning needs while this process does: both before what takes a while.
    client.prepare_for("clean", sys.argv[1:], ["preprocessing.worker"])
    gc.disable()  # what is imported stays; on again once it is

from data import next_step
from data.cli import command_line
from data.cli.extras import Need
from data.cli.forgotten import RAW, Input
from data.cli.usage import Guide
from preprocessing.config import CleanConfig

_LANGUAGES = Need(("pycld2",), lambda config: bool(config.rules.languages))
COMMANDS = {
    "clean": command_line.Command(
        CleanConfig, "preprocessing.clean:run", (_LANGUAGES,),
        after=next_step.after_clean, inputs={"source": Input((RAW,))},
        guide=Guide(
            examples=(
                "--config preprocessing/recipes/sample.yaml",
                "--source data/store/raw/trn.json.gz --out data/store/clean",
                "--source data/store/raw/trn.json.gz --rules.content_min 100 "
                "--rules.content_max 2000 --out data/store/clean-long",
            ),
            flags=("source", "out", "rules.content_min", "rules.content_max", "rules.languages",
                   "attributes", "preset", "workers", "scheduler", "overwrite"),
        ),
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    return command_line.main("preprocessing", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
