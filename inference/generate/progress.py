"""How far the parts in work are: workers report it now and then, the driver moves its bar."""

import threading
import time

from data import console
from data.cluster.parts import report

# Seconds between two reports on a part.
_REPORT_EVERY = 0.5


class PartReporter:
    """Reports from a worker how far its part is; sums, so that a lost event does no harm."""

    def __init__(self, topic: str, index: int, rows: int, texts: int) -> None:
        self._topic, self._index, self._most, self._texts = topic, index, rows, texts
        self._rows = self._tokens = 0
        self._last = 0.0

    def __call__(self, rows: int, tokens: int) -> None:
        """Count further texts, several a row, and tokens, as the engine writes them."""
        self._rows, self._tokens = self._rows + rows, self._tokens + tokens
        now = time.monotonic()
        if now - self._last >= _REPORT_EVERY:
            self._last = now
            # Rows may be written again with fewer slots, where memory ran out.
            report(
                self._topic, (self._index, min(self._rows // self._texts, self._most), self._tokens)
            )


class PartsProgress:
    """Moves the bar by what workers report of parts in work, and corrects it by finished ones."""

    def __init__(self, bar: console.Progress) -> None:
        self._bar = bar
        self._began = time.perf_counter()
        self._in_work: dict[int, tuple[int, int]] = {}
        """By part: rows and tokens since it was begun."""
        self._finished: set[int] = set()
        self._rows = self._tokens = self._advanced = 0
        # Events come in a thread of the cluster's.
        self._lock = threading.Lock()

    def hear(self, event: tuple[float, tuple[int, int, int]]) -> None:
        """Note what a worker reports: its part, with the rows and tokens so far."""
        _, (index, rows, tokens) = event
        with self._lock:
            if index not in self._finished:
                self._in_work[index] = (rows, tokens)
                self._advance()

    def finish(self, index: int, rows: int, new_tokens: int) -> None:
        """Count a finished part: its rows, and the tokens that this run wrote."""
        with self._lock:
            self._in_work.pop(index, None)
            self._finished.add(index)
            self._rows += rows
            self._tokens += new_tokens
            self._advance()

    def _advance(self) -> None:
        rows = self._rows + sum(rows for rows, _ in self._in_work.values())
        tokens = self._tokens + sum(tokens for _, tokens in self._in_work.values())
        rate = tokens / (time.perf_counter() - self._began)
        self._bar.advance(rows - self._advanced, tokens_per_second=f"{rate:,.0f}")
        self._advanced = rows
