"""Parts made on a cluster: every block once, resumed, repeated where a worker dies, cancelled."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from distributed import get_worker
from distributed.comm import CommClosedError

from data.artefacts.folder import Folder
from data.artefacts.parts import commit_part, list_parts, part_name
from data.cluster.client import connect
from data.cluster.parts import report, results, run_parts
from data.errors import CatalogueError, SourceError


@dataclass(frozen=True)
class Numbers:
    """A block of one number."""

    index: int


def make(block: Numbers, folder: Folder) -> str:
    """Commit the part of a block."""
    commit_part(folder, part_name(block.index), pa.table({"number": [block.index]}))
    return "made"


def verify(block: Numbers, folder: Folder) -> str:
    """Find the part of a block there."""
    assert part_name(block.index) in list_parts(folder)
    return "verified"


@pytest.mark.parametrize("count", [0, 20])
def test_parts_that_are_there_are_verified_and_all_others_made(
    scheduler: str, tmp_path: Path, count: int
) -> None:
    folder = Folder(str(tmp_path))
    for index in (1, 4):
        make(Numbers(index), folder)

    def run() -> dict[int, str]:
        blocks = (Numbers(index) for index in range(20))
        tasks = (make, verify)
        with connect(None, scheduler) as client:
            outcome = run_parts(
                client, folder, blocks, tasks, lambda block: (block, folder), count=count
            )
            return {block.index: part for block, part in outcome}

    assert run() == {i: "verified" if i in (1, 4) else "made" for i in range(20)}
    assert list_parts(folder) == [part_name(index) for index in range(20)]
    assert run() == dict.fromkeys(range(20), "verified")


def test_parts_are_made_where_no_worker_is_there_just_then(scheduler: str, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    blocks = (Numbers(index) for index in range(5))
    with connect(None, scheduler) as client, pytest.MonkeyPatch.context() as patched:
        patched.setattr(client, "nthreads", dict)
        made = run_parts(
            client, folder, blocks, (make, verify), lambda block: (block, folder), count=5
        )
        assert sorted(block.index for block, _ in made) == [0, 1, 2, 3, 4]


def die_once(block: Numbers, mark: Path) -> int:
    """Take the worker down with the first attempt at a block."""
    import os

    if block.index == 2 and not mark.exists():
        mark.touch()
        os._exit(1)
    return block.index


# Dask drops the connections that a dead worker refuses without closing them.
@pytest.mark.filterwarnings("ignore:.*unclosed <ssl:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("number", "count"), [(5, 0), (20, 20)])
def test_what_a_worker_had_that_died_is_made_by_another(
    tmp_path: Path, number: int, count: int
) -> None:
    mark, handed_out = tmp_path / "died", []

    def arguments(block: Numbers) -> tuple[Numbers, Path]:
        handed_out.append(block.index)
        return block, mark

    blocks = (Numbers(index) for index in range(number))
    tasks, folder = (die_once, die_once), Folder(str(tmp_path / "out"))
    with connect(2, None) as client:
        outcome = run_parts(client, folder, blocks, tasks, arguments, count=count)
        assert sorted(part for _, part in outcome) == list(range(number))
    assert mark.exists()
    assert set(handed_out) == set(range(number))


def pass_on(block: Numbers) -> int:
    return block.index


def test_blocks_are_handed_out_together_and_one_by_one_near_the_end(
    scheduler: str, tmp_path: Path
) -> None:
    sizes: list[int] = []
    handed_out: list[int] = []

    def arguments(block: Numbers) -> tuple[Numbers]:
        handed_out.append(block.index)
        return (block,)

    blocks = (Numbers(index) for index in range(40))
    with connect(None, scheduler) as client:
        tasks = (pass_on, pass_on)
        parts = run_parts(client, Folder(str(tmp_path)), blocks, tasks, arguments, 0, count=40)
        next(parts)
        for _ in parts:
            if len(handed_out) > sum(sizes):
                sizes.append(len(handed_out) - sum(sizes))
    assert handed_out == list(range(40))
    assert sizes == [8, 4, 4, 4, 4, 4, 3, 2, *7 * [1]]


def note_slowly(block: Numbers, path: Path) -> None:
    """Write the number of a block after a while."""
    time.sleep(0.3)
    with path.open("a") as file:
        file.write(f"{block.index}\n")


def test_at_an_interrupt_nothing_more_is_handed_out_and_the_driver_does_not_wait(
    scheduler: str, tmp_path: Path
) -> None:
    path, handed_out = tmp_path / "notes", []

    def arguments(block: Numbers) -> tuple[Numbers, Path]:
        handed_out.append(block.index)
        return block, path

    def interrupt(client: Any) -> None:
        blocks = (Numbers(index) for index in range(50))
        tasks = (note_slowly, note_slowly)
        parts = run_parts(client, Folder(str(tmp_path / "out")), blocks, tasks, arguments)
        next(parts)
        parts.throw(KeyboardInterrupt)

    with connect(None, scheduler) as client:
        with pytest.raises(KeyboardInterrupt):
            interrupt(client)
        assert handed_out == [0, 1, 2]  # two workers and one ahead


def send(number: int, topic: str) -> int:
    """Report a number from a worker."""
    report(topic, (number, get_worker().address))
    return number


def test_what_a_task_reports_reaches_the_driver(scheduler: str) -> None:
    events: list[Any] = []
    with connect(None, scheduler) as client:
        client.subscribe_topic("numbers", lambda event: events.append(event[1]))
        assert client.submit(send, 7, "numbers", pure=False).result() == 7
        give_up = time.monotonic() + 10
        while not events and time.monotonic() < give_up:
            time.sleep(0.01)
        client.unsubscribe_topic("numbers")
        assert [number for number, _ in events] == [7]


def fail_on_three(number: int) -> int:
    if number == 3:
        raise SourceError("a.json", "lines", "none")
    return number * 2


def test_results_come_for_every_item_and_items_are_read_no_further_than_needed(
    scheduler: str,
) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            read.append(number)
            yield number

    with connect(None, scheduler) as client:
        found = {}
        submit = partial(start, client, abs)
        for item, result in results(client, items(), submit, ahead=2):
            found[item] = result
            assert len(read) <= len(found) + 4  # two workers and two ahead
    assert found == {number: number for number in range(20)}


def test_no_items_are_no_results(scheduler: str) -> None:
    with connect(None, scheduler) as client:
        assert list(results(client, iter([]), partial(start, client, abs))) == []


def test_what_a_task_raises_reaches_the_driver_as_it_was_raised(scheduler: str) -> None:
    with connect(None, scheduler) as client, pytest.raises(SourceError) as caught:
        list(results(client, iter(range(9)), partial(start, client, fail_on_three)))
    assert str(caught.value) == "a.json: expected lines, found none"


def note(number: int, path: str) -> None:
    time.sleep(number / 10)
    with open(path, "a") as file:
        file.write(f"{number}\n")


def test_once_the_driver_gives_up_no_task_goes_on_writing(scheduler: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"

    def give_up(client: Any) -> None:
        def submit(number: int, attempt: int) -> Any:
            return client.submit(note, number, str(path), pure=False)

        for _ in results(client, iter(range(4)), submit):
            raise SourceError("a.json", "lines", "none")

    with connect(None, scheduler) as client:
        with pytest.raises(SourceError):
            give_up(client)
        assert sorted(path.read_text().split()) == list("0123")


def start(client: Any, task: Any, item: Any, attempt: int) -> Any:
    return client.submit(task, item, key=f"{task.__name__}-{id(client)}-{item}-{attempt}")


@pytest.mark.parametrize("deaths", [2, 99])
def test_a_task_is_handed_out_again_where_the_worker_that_gets_its_data_dies(
    scheduler: str, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    monkeypatch.setattr("data.cluster.parts._PAUSE", 0.0)
    attempts: list[int] = []

    def submit(number: int, attempt: int) -> Any:
        attempts.append(attempt)
        if len(attempts) <= deaths:
            raise CommClosedError("in <TCP (closed)>: Stream is closed")
        return start(client, abs, number, attempt)

    with connect(None, scheduler) as client:
        if deaths == 2:
            assert list(results(client, iter([5]), submit)) == [(5, 5)]
            assert attempts == [0, 1, 2]
        else:
            with pytest.raises(CatalogueError, match="that gets a task's data died"):
                list(results(client, iter([5]), submit))
            assert attempts == [0, 1, 2, 3]
