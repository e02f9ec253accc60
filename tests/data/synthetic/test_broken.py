"""Every way to break a line ends in quarantine for the reason that it names."""

from collections import Counter

import pytest

from data.artefacts import schema
from data.synthetic import records
from data.synthetic.broken import _COMMON, FORMS, Breakage, _replace, choose
from tests.builders import parse_lines

LINES = [line[:-1] for line in records.lines(3407, 0, 60, 3_000)]
LINE = next(line for line in LINES if b'"title": ""' not in line and b'"content": ""' not in line)
ALL = [each for forms in FORMS.values() for each in forms]


@pytest.mark.parametrize("way", ALL, ids=lambda way: f"{way.reason}: {way.form}")
def test_the_line_alone_is_refused_for_that_reason_and_its_neighbours_are_kept(
    way: Breakage,
) -> None:
    broken = way.apply(LINE)
    assert b"\n" not in broken
    for block in (broken, LINES[0] + b"\n" + broken + b"\n" + LINES[1]):
        parsed = parse_lines(block, 0, "trn.json", 4 * 2**20)
        assert parsed.quarantine.column("reason").to_pylist() == [way.reason]
        assert parsed.rows.num_rows == parsed.lines - 1


def test_any_line_can_be_broken_in_any_way() -> None:
    for line in LINES:
        for way in ALL:
            assert way.apply(line) != line
    with pytest.raises(ValueError, match="expected b'\"title\"' in the line"):
        _replace(b'"title"', b"")(b"{}")


def test_every_reason_of_the_quarantine_has_several_forms() -> None:
    assert tuple(FORMS) == schema.REASONS
    assert all(len(forms) > 1 for forms in FORMS.values())
    assert all(way.reason == reason for reason, forms in FORMS.items() for way in forms)
    fields = {way.form.split()[-1] for way in FORMS["wrong_type"]}
    assert fields == {"uid", "title", "content"}


def test_reasons_come_as_often_as_each_other_and_every_form_comes() -> None:
    chosen = [choose(3407, place, 0.5) for place in range(20_000)]
    ways = Counter((way.reason, way.form) for way in chosen if way)
    assert {reason for reason, _ in ways} == set(schema.REASONS)
    common = {(way.reason, way.form) for way in ALL if way.reason != "line_too_long"}
    assert common < set(ways)
    for reason in _COMMON:
        count = sum(number for (each, _), number in ways.items() if each == reason)
        assert count == pytest.approx(2_000, rel=0.1)


def test_the_same_record_is_broken_in_the_same_way_and_none_without_a_share() -> None:
    for place in range(2_000):
        assert choose(7, place, 0.3) is choose(7, place, 0.3)
        assert choose(7, place, 0.0) is None
        if choose(7, place, 0.1):  # a larger share breaks more, and the same ones
            assert choose(7, place, 0.3) is choose(7, place, 0.1)
