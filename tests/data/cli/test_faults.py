"""Faults of libraries and the system: one line and a code each; bugs keep their traceback."""

import errno
import json
import lzma
import pickle
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from data.cli import faults
from data.errors import CatalogueError, ConfigError, GateError, SourceError

FULL = "expected free space, found the disk full; " + faults._DISK
MEMORY = "memory: expected enough, found none left; use fewer workers"
WHOLE = "input: expected a whole file, found"
LOST = "processes: another one of the run ended or hangs"


def named(module: str, name: str, base: type[BaseException] = Exception) -> type[BaseException]:
    """An exception class as a library that may not be installed defines it."""
    return type(name, (base,), {"__module__": module})


def caused(outer: BaseException, by: BaseException) -> BaseException:
    outer.__cause__ = by
    return outer


def raised(fail: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        fail()
    return caught.value


def sqlite_error(code: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("database disk image is malformed")
    error.sqlite_errorname = code
    return error


TORCH_SAVE = "[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"
FAULTS: list[tuple[BaseException, int, str]] = [
    (SourceError("a", "b", "c"), 1, "a: expected b, found c"),
    (ConfigError("a", "b", "c"), 2, "a: expected b, found c"),
    (GateError("a", "b", "c"), 3, "a: expected b, found c"),
    (KeyboardInterrupt(), 130, "interrupted; the same command goes on from here"),
    (named("pyarrow.lib", "ArrowCancelled")("Operation cancelled"), 130, "interrupted"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    (OSError(errno.ENOSPC, "No space left on device", "/a"), 1, f"/a: {FULL}"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, f"file system: {FULL}"),
    (RuntimeError(TORCH_SAVE), 1, f"file system: {FULL}"),
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), 1, FULL),
    (RuntimeError("write failed: No space left on device"), 1, f"file system: {FULL}"),
    (caused(RuntimeError("not saved"), OSError(errno.ENOSPC, "full", "/b")), 1, f"/b: {FULL}"),
    (named("safetensors", "SafetensorError")("I/O error (os error 28)"), 1, FULL),
    (named("safetensors", "SafetensorError")("Error while deserializing header"), 1, WHOLE),
    (MemoryError(), 1, MEMORY),
    (pa.lib.ArrowMemoryError("malloc of size 9 failed"), 1, MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, MEMORY),
    (RuntimeError("can't start new thread"), 1, MEMORY),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, MEMORY),
    (named("torch", "OutOfMemoryError", RuntimeError)("CUDA out of memory."), 1, "GPU memory:"),
    (RuntimeError("CUDA error: out of memory\nCompile with"), 1, "GPU memory:"),
    (named("torch", "DistError")("NCCL error\nCuda failure 2 'out of memory'"), 1, "GPU memory:"),
    (RuntimeError("No CUDA GPUs are available"), 1, "GPU: expected one that this torch can use"),
    (PermissionError(errno.EACCES, "Permission denied", "/c"), 1, "/c: Permission denied"),
    (TimeoutError(), 1, "network or process: expected an answer in time, found none"),
    (pa.ArrowInvalid("Parquet magic bytes not found in footer."), 1, WHOLE),
    (pa.ArrowInvalid("Expected to read 9 metadata bytes, but only read 4"), 1, WHOLE),
    (OSError("Couldn't deserialize thrift: TProtocolException\n"), 1, "Couldn't deserialize"),
    (zlib.error("Error -3 while decompressing data"), 1, WHOLE),
    (lzma.LZMAError("Corrupt input data"), 1, WHOLE),
    (EOFError("Compressed file ended before the end-of-stream marker"), 1, WHOLE),
    (raised(lambda: json.loads("{")), 1, WHOLE),
    (raised(lambda: json.loads("[" * 100_000)), 1, "input: expected values within each other"),
    (raised(lambda: yaml.safe_load("[" * 20_000)), 1, "input: expected values within each other"),
    (Exception("expected value at line 1 column 2"), 1, WHOLE),
    (sqlite_error("SQLITE_CORRUPT"), 1, WHOLE),
    (raised(lambda: b"a\xff".decode()), 1, "input: expected text in UTF-8, found byte 0xff at 1"),
    (raised(lambda: "a\udcff".encode()), 1, "name or text: expected UTF-8, found"),
    (named("botocore.exceptions", "NoCredentialsError")("no credentials\nx"), 1,
     "object store: no credentials"),
    (named("aiohttp.client_exceptions", "ClientError")(), 1, "object store: ClientError"),
    (named("distributed.comm.core", "CommClosedError", OSError)("closed"), 1, "workers:"),
    (named("distributed.scheduler", "KilledWorker")("x died"), 1, "workers:"),
    (named("concurrent.futures.process", "BrokenExecutor")("died"), 1, "workers:"),
    (named("torch", "DistError")("NCCL error\nDuplicate GPU detected"), 1,
     "processes: Duplicate GPU detected"),
    (named("torch", "DistError")("ncclRemoteError: a remote process exiting"), 1, LOST),
    (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"), 1, LOST),
    (RuntimeError("[gloo/transport/tcp/device.cc:84] Unable to find address"), 1,
     "processes: [gloo/transport/tcp/device.cc:84] Unable to find address"),
    (ModuleNotFoundError("No module named 'no_such'", name="no_such"), 1,
     "installation: expected no_such, found no no_such; pip install no_such"),
    (ModuleNotFoundError("No module named 'winreg'", name="winreg"), 1,
     "Python: expected its module winreg, found none on this system"),
    (ImportError("cannot import name 'a' from 'pyarrow'", name="pyarrow"), 1,
     "pyarrow: expected a version that fits, found cannot import name"),
    (ImportError("Install no_such_fs to access it"), 1, "installation: Install no_such_fs"),
    (ExceptionGroup("two", [MemoryError(), OSError("x")]), 1, MEMORY),
]  # fmt: skip

BUGS: list[BaseException] = [
    ZeroDivisionError("division by zero"),
    ValueError("not what was meant"),
    KeyError("uid"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    pa.ArrowInvalid("Could not convert 'x' with type str: tried to convert to int64"),
    ImportError("cannot import name 'nothing' from 'data'", name="data"),
    ModuleNotFoundError("No module named 'training.nothing'", name="training.nothing"),
    sqlite_error("SQLITE_ERROR"),
    raised(lambda: "é".encode("ascii")),
    Exception("what is this"),
    AssertionError("never"),
    ExceptionGroup("two", [MemoryError(), ValueError("x")]),
]


@pytest.mark.parametrize(
    ("error", "code", "line"), FAULTS, ids=[repr(e)[:60] for e, _, _ in FAULTS]
)
def test_a_fault_is_told_in_one_line(error: BaseException, code: int, line: str) -> None:
    told = faults.tell(error)
    assert told is not None
    assert told[1] == code
    assert line in told[0]
    assert "\n" not in told[0]


@pytest.mark.parametrize("error", BUGS, ids=[repr(e)[:60] for e in BUGS])
def test_a_bug_is_not_told(error: BaseException) -> None:
    assert faults.tell(error) is None


def test_recursion_of_our_own_is_a_bug() -> None:
    def again(depth: int) -> int:
        return again(depth + 1)

    assert faults.tell(raised(lambda: again(0))) is None


def test_what_an_error_only_came_up_beside_is_not_what_it_is_told_by() -> None:
    def fail() -> None:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError:
            raise KeyError("uid")  # noqa: B904  # the context, no cause

    assert faults.tell(raised(fail)) is None


def test_a_worker_s_error_keeps_its_line_on_the_way_to_the_driver() -> None:
    error = pickle.loads(pickle.dumps(CatalogueError("a", "b", "c")))
    assert faults.tell(error) == ("a: expected b, found c", 1)


def test_a_damaged_file_read_by_its_library_is_told(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from safetensors import safe_open

    (tmp_path / "a").write_bytes(b"x" * 100)
    for read in (lambda: pq.ParquetFile(tmp_path / "a"),
                 lambda: pa.ipc.open_stream((tmp_path / "a").read_bytes()),
                 lambda: safe_open(tmp_path / "a", "np")):  # fmt: skip
        told = faults.tell(raised(read))
        assert told is not None
        assert told[1] == 1
