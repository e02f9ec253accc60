"""``python -m tests.browser.slow serve …``: the command with a model that takes its time, as large
ones do, so that a test can press Stop."""

import sys
import time
from typing import Any

from inference.__main__ import main
from inference.engine.stream import SlotAnswerer

_SECONDS = 0.3


def slowly(self: SlotAnswerer, *told: Any) -> None:
    time.sleep(_SECONDS)
    _advance(self, *told)


_advance = SlotAnswerer._advance

if __name__ == "__main__":
    SlotAnswerer._advance = slowly  # type: ignore[method-assign]
    sys.exit(main())
