"""Workers of the command: forked from a process that has imported what they need."""

import sys
from pathlib import Path

import pytest

from data.cluster import client
from tests.builders import run_python

LOOK = """
import gc, os, sys
from data.cluster.client import connect, prepare

def look():
    import pyarrow as pa
    imported = {"preprocessing.clean", "distributed"} <= sys.modules.keys()
    pa.array([""])
    server = open(f"/proc/{os.getppid()}/cmdline").read()
    kept = gc.isenabled() and gc.get_freeze_count() > 50_000
    return (imported and kept, "pandas" in sys.modules, "forkserver" in server, os.getpid(),
            pa.default_memory_pool().backend_name, os.environ["CARD"])

prepare(["preprocessing.worker"])
with connect(None, None, env=[{"CARD": "0"}, {"CARD": "1"}]) as client:
    found = list(client.run(look).values())
print(len({one[3] for one in found}), sorted((*one[:3], *one[4:]) for one in found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_workers_are_copies_of_one_process_that_needs_no_pandas() -> None:
    said = run_python("-c", LOOK)
    expected = [(True, False, True, "system", card) for card in "01"]
    assert (said.stdout, said.stderr) == (f"2 {expected}\n", "")


LONG = """
from data.cluster.client import connect, prepare

prepare(["preprocessing.worker"])
with connect(1, None) as client:
    print(sum(client.gather(client.map(abs, [-2, 3]))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_where_temporary_files_lie_too_deep_for_a_socket_workers_are_spawned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("deep" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    assert run_python("-c", LONG).stdout == "5\n"


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        (["clean", "--workers", "2"], True),
        (["clean", "--scheduler", "tcp://host:8786"], False),
        (["clean", "--scheduler=tcp://host:8786"], False),
        (["clean", "--help"], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_workers_are_begun_where_the_words_ask_for_some(
    words: list[str], starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(client, "prepare", begun.append)
    client.prepare_for("clean", words, ["preprocessing.worker"])
    assert begun == [["preprocessing.worker"]] * starts
