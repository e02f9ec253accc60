"""Pictures of lengths and of where rows went: what is drawn is what was counted."""

from typing import Any

import numpy as np
import pytest

from data import charts
from data.charts import Lengths

FUNNEL = [("read", 100), ("dropped: content_empty", 30), ("quarantined: invalid_json", 1),
          ("kept", 69)]  # fmt: skip


def drawn(lengths: Lengths | None, funnel: list[tuple[str, int]] = FUNNEL) -> Any:
    figure = charts.draw("clean", funnel, lengths)
    assert charts.picture(figure).startswith(b"\x89PNG")
    return figure


def bars(axes: Any, label: str) -> list[tuple[float, float]]:
    """Where each bar of a kind begins, and its height."""
    found = next(each for each in axes.containers if each.get_label() == label)
    return [(bar.get_x(), bar.get_height()) for bar in found]


def test_each_bin_is_drawn_as_high_as_it_was_counted() -> None:
    lengths = Lengths([0, 1, 100, 400, 500, 1000], [0, 0, 0, 9, 0, 0], [50, 2, 30, 20, 4, 0])
    axes = drawn(lengths).axes[0]
    assert bars(axes, "read, as in the file") == [(1, 2), (100, 30), (400, 20), (500, 4)]
    assert bars(axes, "kept, repaired") == [(1, 0), (100, 0), (400, 9), (500, 0)]
    assert axes.get_title(loc="right") == "not drawn: 50 empty ones"
    assert axes.get_xscale() == "log"


def test_bounds_stand_where_the_rules_have_them() -> None:
    edges, counts = [0, 100, 400, 501, 1000], [0, 5, 5, 5, 0]
    for low, high, at, told in (
        (400, 500, [400, 501], "bounds: 400 to 500"),
        (400, None, [400], "bounds: 400 or more"),
        (0, 500, [501], "bounds: 0 to 500"),
        (None, None, [], None),
    ):
        axes = drawn(Lengths(edges, counts, counts, low, high)).axes[0]
        assert [line.get_xdata()[0] for line in axes.lines] == at
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [label for label in labels if label.startswith("bounds")] == ([told] if told else [])


def test_the_funnel_goes_down_from_what_was_read_to_what_was_kept() -> None:
    [axes] = drawn(None).axes
    rows = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert rows == [(0, 100), (70, 100), (69, 70), (0, 69)]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name for name, _ in FUNNEL]
    assert [text.get_text().strip() for text in axes.texts] == [
        "100  (100.0%)", "30  (30.0%)", "1  (1.0%)", "69  (69.0%)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lengths", [[0], [7], [0, 0, 1], [400, 500, 450], [1, 190_000], list(range(3_000))]
)
def test_bins_hold_every_text_once_and_can_be_drawn(lengths: list[int]) -> None:
    counted = charts.bins(np.array(lengths), "description")
    assert sum(counted.kept) == len(lengths)
    assert counted.kept[0] == lengths.count(0)
    assert len(counted.edges) == len(counted.kept)
    last = [edge for edge, count in zip(counted.edges, counted.kept, strict=True) if count][-1]
    assert last <= max(lengths)
    drawn(counted, [("read", len(lengths)), ("kept", len(lengths))])


def test_nothing_read_can_be_drawn() -> None:
    drawn(Lengths([0, 1, 10], [0, 0, 0], [0, 0, 0]), [("read", 0), ("kept", 0)])
