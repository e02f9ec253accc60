"""``python -m tests.browser.slow serve …``: the command with a model that takes its time, as large
ones do, and writes to the limit, so that a test can press Stop."""

import sys
import time
from typing import Any

from inference.__main__ import main
from inference.engine.drafts import Drafts
from inference.engine.stream import SlotAnswerer

_SECONDS = 0.3
_NO_TOKEN = -1


def slowly(self: SlotAnswerer, *told: Any) -> None:
    time.sleep(_SECONDS)
    _advance(self, *told)


def endlessly(self: Drafts, rows: int, limit: int, _eos: int, device: Any) -> None:
    _init(self, rows, limit, _NO_TOKEN, device)


_advance, _init = SlotAnswerer._advance, Drafts.__init__

if __name__ == "__main__":
    SlotAnswerer._advance = slowly  # type: ignore[method-assign]
    Drafts.__init__ = endlessly  # type: ignore[method-assign]
    sys.exit(main())
