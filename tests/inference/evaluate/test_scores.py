"""Slices: which rows stand in which."""

import numpy as np

from inference.evaluate.scores import slices


def _cut(titles: list[str], alike: list[float] | None = None) -> dict[str, list[int]]:
    likeness = None if alike is None else np.array(alike)
    return {
        f"{kind}: {name}": np.flatnonzero(mask).tolist()
        for kind, name, mask in slices(titles, likeness)
    }


def test_titles_are_cut_by_what_they_tell() -> None:
    titles = ["Tent", "Lamp 7", "Chaleira verde, aço", "Kettle of green steel, 2 l"]
    assert _cut(titles, [0.79, 0.2, 0.8, 1.0]) == {
        "length: up to 6 characters": [0, 1],
        "length: 7 to 19 characters": [2],
        "length: over 19 characters": [3],
        "number: with a number": [1, 3],
        "number: without a number": [0, 2],
        "letters: ASCII only": [0, 1, 3],
        "letters: with other letters": [2],
        "twin: a trained title is 80% alike or more": [2, 3],
        "twin: no trained title is": [0, 1],
    }


def test_a_cut_that_parts_nothing_is_left_out() -> None:
    assert _cut(["Lamp", "Tent"], [0.1, 0.2]) == {}
    assert _cut(["Lamp 7", "Tent"]) == {
        "length: up to 4 characters": [1],
        "length: over 5 characters": [0],
        "number: with a number": [0],
        "number: without a number": [1],
    }
