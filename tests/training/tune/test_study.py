"""The journal: what is drawn, kept, and found again after a kill."""

from pathlib import Path

from training.tune.config import Range, Space
from training.tune.study import NAME, Study

LISTS = Space(learning_rate=[1e-3, 1e-2], batch_size=[8, 16, 32])
RANGES = Space(learning_rate=Range(1e-4, 1e-1), batch_size=[8, 16])


def drawn(folder: Path, space: Space, count: int, reopened: bool = False) -> list[object]:
    folder.mkdir(exist_ok=True)
    study = Study(folder, space, seed=7)
    for number in range(count):
        if reopened:
            study = Study(folder, space, seed=7)
        study.propose()
        study.report(number, 0, 3.0 + number % 3)
    return [trial.values for trial in study.trials]


def test_a_list_is_drawn_without_repetition(tmp_path: Path) -> None:
    values = drawn(tmp_path, LISTS, 6)
    assert len({str(value) for value in values}) == 6


def test_interruptions_change_no_draw(tmp_path: Path) -> None:
    for name, space in (("lists", LISTS), ("ranges", RANGES)):
        whole = drawn(tmp_path / f"{name}-whole", space, 6)
        assert drawn(tmp_path / f"{name}-again", space, 6, reopened=True) == whole


def test_values_of_a_range_lie_within_it(tmp_path: Path) -> None:
    for value in drawn(tmp_path, RANGES, 12):
        assert isinstance(value, dict)
        assert 1e-4 <= value["learning_rate"] <= 1e-1
        assert value["batch_size"] in (8, 16)


def test_half_a_line_is_dropped(tmp_path: Path) -> None:
    drawn(tmp_path, LISTS, 2)
    whole = Study(tmp_path, LISTS, seed=7).trials
    with (tmp_path / NAME).open("a") as journal:
        journal.write('{"op_code": 6, "worker')
    study = Study(tmp_path, LISTS, seed=7)
    assert study.trials == whole
    study.note(1, seconds=2.5, steps=[1, 3, 9])
    (_, second) = Study(tmp_path, LISTS, seed=7).trials
    assert (second.seconds, second.steps) == (2.5, (1, 3, 9))


def test_ends_are_marked_for_the_librarys_own_tools(tmp_path: Path) -> None:
    import optuna

    drawn(tmp_path, LISTS, 3)
    study = Study(tmp_path, LISTS, seed=7)
    for rung in (1, 2):
        study.report(0, rung, 2.0)
    study.note(1, fault="out of memory")
    for _ in range(2):  # killed on the way, and again
        study.conclude()
    kept = study._study.get_trials()
    states = optuna.trial.TrialState
    assert [each.state for each in kept] == [states.COMPLETE, states.FAIL, states.PRUNED]
    assert kept[0].value == 2.0
