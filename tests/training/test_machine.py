"""Faults of the machine in a run: one line with what helps, whichever library tells them."""

import errno
from pathlib import Path

import pytest

from data.cli import faults
from data.errors import BatchError, ModelError
from training import execution
from training.config import TrainConfig
from training.processes import Ranks

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing"),
    RuntimeError('Error while serializing: I/O error: No space left on device (os error 28)'),
]  # fmt: skip
MEMORY = [
    MemoryError(),
    MemoryError("std::bad_alloc"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate "
                 "memory: you tried to allocate 1099511627776 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("unable to mmap 68 bytes: Cannot allocate memory (12)"),
    RuntimeError("can't start new thread"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_python.so: failed to map segment from shared object"),
]  # fmt: skip


@pytest.mark.parametrize("error", FULL)
def test_full_disk_is_told_by_the_runs_folder(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as told:  # noqa: SIM117
        with execution.explained_faults(TrainConfig(), tmp_path, Ranks()):
            raise error
    line, code = faults.tell(told.value) or ("", 0)
    assert line.startswith(f"{tmp_path}: expected free space, found the disk full;")
    assert code == 1


@pytest.mark.parametrize("error", MEMORY)
def test_too_little_memory_is_told_with_what_helps(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as told:  # noqa: SIM117
        with execution.explained_faults(TrainConfig(), tmp_path, Ranks()):
            raise error
    line = str(told.value)
    assert line.startswith("memory: expected room for 32 rows at a time, found too little;")
    assert "lower --optimisation.micro_batch_size" in line


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), BatchError("rows", "memory", "out of memory"), KeyError("x")]
)
def test_other_errors_stay_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as told:  # noqa: SIM117
        with execution.explained_faults(TrainConfig(), tmp_path, Ranks()):
            raise error
    assert told.value is error
