"""Keep the libraries' banners, bars and warnings off our output."""

import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries' banners off standard output, which is for results, and their warnings too.

    What they warn of is each other's use; faults of rows and losses are our guards' to find.
    """
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def hush() -> None:
    """Turn off the libraries' own progress bars and notes; ``cli.Progress`` shows what is slow."""
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def first_line(error: BaseException) -> str:
    """Give the first line of a library's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
