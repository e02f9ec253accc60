"""What a shell completes: commands, flags and their values, asked by argcomplete's shell function.

The parser is one of the standard library's, made of the configs' fields: quick, and argcomplete
knows no other whose commands have flags of their own.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Any

from data.cli import usage

ASKED = "_ARGCOMPLETE"
"""Variable of the environment that the shell function sets."""


def complete(program: str, configs: Mapping[str, tuple[Any, tuple[str, ...]]]) -> None:
    """Write what may follow and end the process, where a shell asks.

    Args:
        program: as in ``python -m PROGRAM``.
        configs: by command, its config's class and the fields that are given without a flag.
    """
    import argcomplete

    words = os.environ["COMP_LINE"].split()
    parser = argparse.ArgumentParser(f"python -m {program}")
    commands = parser.add_subparsers()
    for name, (config, positional) in configs.items():
        command = commands.add_parser(name, add_help=False)
        if name not in words:
            continue
        command.add_argument("--help", choices=[usage.ALL], nargs="?")
        command.add_argument("--config")
        for flag, about in usage.flags(config):
            if flag in positional:
                command.add_argument(flag, nargs="?")
            else:
                command.add_argument(f"--{flag}", choices=about.choices or None)
    argcomplete.autocomplete(parser, always_complete_options="long")
