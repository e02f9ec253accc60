"""Every fault that a user can do something about: one base error and its children.

An error says where, what was expected, what was there instead and the command that helps; the
command line prints that as one line and never a traceback. All are picklable, because
workers raise them and drivers print them. Imports nothing.
"""


class CatalogueError(Exception):
    """A fault of the input or of the machine, described in one line.

    Args:
        where: the file, folder, flag or row.
        expected: what should have been there; empty for an event.
        found: what was there, or what happened.
        hint: the command or step that helps; may be empty.
    """

    exit_code = 1

    def __init__(self, where: str, expected: str, found: str, hint: str = "") -> None:
        # All four go to ``args``, so that pickling rebuilds the error from them.
        super().__init__(where, expected, found, hint)

    def __str__(self) -> str:
        where, expected, actual, hint = self.args
        line = f"{where}: expected {expected}, found {actual}" if expected else f"{where}: {actual}"
        return f"{line}; {hint}" if hint else line


class ConfigError(CatalogueError, ValueError):
    """A flag or recipe value that makes no sense."""

    exit_code = 2


class SourceError(CatalogueError, ValueError):
    """The raw input is missing, empty, truncated or not what its name says."""


class NetworkError(CatalogueError, RuntimeError):
    """The network or an object store failed: nothing is wrong with the input, nor what is made."""


class QuarantineError(CatalogueError, ValueError):
    """More lines are broken than ``max_quarantined_share`` allows."""


class SchemaError(CatalogueError, TypeError):
    """A table lacks a column or holds one of another type."""


class ManifestError(CatalogueError, ValueError):
    """A manifest is missing, unreadable or of another stage."""


class BalanceError(CatalogueError, ArithmeticError):
    """Rows read, kept, dropped and quarantined do not add up: a bug, never an input's fault."""


class OutputError(CatalogueError, ValueError):
    """The output folder holds something that must not be mixed with this run."""


class SubsetError(CatalogueError, ValueError):
    """A subset cannot be made with these settings, or is not a subset."""


class BatchError(CatalogueError, ValueError):
    """Rows that must not be trained on: no label, no end-of-sequence, prompt in the loss."""


class ModelError(CatalogueError, ValueError):
    """A model, tokenizer or adapter is missing or does not fit the others."""


class GateError(CatalogueError, ValueError):
    """A quality gate was set and failed."""

    exit_code = 3


class ExtraError(CatalogueError, ImportError):
    """A package that an extra brings is not installed."""
