"""What becomes of an error that nobody caught: a line and an exit code, or a traceback.

Libraries have a hundred errors for a full disk, too little memory or a damaged file. Those become
one line; any other error is a bug, and keeps its traceback.
"""

import errno
import json
import lzma
import re
import zlib
from collections.abc import Iterator

from data.cli import extras, interrupts
from data.console import OUTPUT_CLOSED, first_line
from data.errors import CatalogueError

# Their errors (no connection, no credentials) are often no OSErrors.
_STORES = {
    "adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "httpcore", "httpx",
    "huggingface_hub", "requests", "s3fs", "urllib3",
}  # fmt: skip
_FULL = re.compile(
    r"no space left on device|disk quota exceeded|os error (28|122)\b|disk is full"
    # torch.save: what it wrote is shorter than it should be
    r"|PytorchStreamWriter failed|inline_container.*unexpected pos",
    re.IGNORECASE | re.DOTALL,
)
_GPU_MEMORY = re.compile(
    r"(CUDA|Cuda failure|HIP|XPU|MPS)\b.*out of memory|CU(BLAS|DNN|SPARSE)_STATUS_ALLOC_FAILED"
)
_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|unable to allocate|std::bad_alloc"
    r"|not enough memory|can't start new thread|malloc of size \d+ failed"
    # a library that is loaded
    r"|failed to map segment from shared object",
    re.IGNORECASE,
)
_NO_GPU = re.compile(
    r"No CUDA GPUs are available|NVIDIA driver on your system is too old|Found no NVIDIA driver"
    r"|CUDA driver version is insufficient|no kernel image is available"
)
_DAMAGED = re.compile(
    r"parquet|magic|footer|thrift|deserializ|decompress|zstd|snappy|lz4|corrupt|truncated"
    r"|unexpected end|\bIPC\b|not an arrow file|flatbuffer|buffer.*size|end of (file|stream)"
    r"|expected to (be able to )?read|malformed|invalid metadata",
    re.IGNORECASE,
)
_RUST_JSON = re.compile(r"at line \d+ column \d+|\(os error \d+\)")
_DATABASE = re.compile(r"SQLITE_(CORRUPT|NOTADB|IOERR|CANTOPEN|READONLY|BUSY|LOCKED|PROTOCOL)")
_LOST_PROCESS = re.compile(r"(?i)by peer|broken pipe|timed out waiting|remote process exit")
_PARSERS = {"yaml", "json", "jsonargparse", "ast", "copy", "omegaconf"}
_LOST = ("KilledWorker", "CommClosedError", "FutureCancelledError", "ClosedClientError")
_LESS = {
    "GPU memory": "end what else runs on it, or have fewer rows at a time",
    "memory": "use fewer workers",
}
_DISK = "free some and run the same command again: it goes on where it stopped"


def tell(error: BaseException) -> tuple[str, int] | None:
    """Describe a fault of the input or the machine.

    Returns:
        The line, empty where nothing is to be said, and the exit code; None for a bug.
    """
    if isinstance(error, CatalogueError):
        return str(error), error.exit_code
    if isinstance(error, BaseExceptionGroup):
        faults = [tell(part) for part in error.exceptions]
        return faults[0] if all(faults) else None
    for cause in _causes(error):
        if isinstance(cause, KeyboardInterrupt) or _is(cause, "pyarrow", "ArrowCancelled"):
            return interrupts.LINE, interrupts.CODE
        if isinstance(cause, CatalogueError):
            return str(cause), cause.exit_code
        if isinstance(cause, BrokenPipeError) and not cause.filename:
            return "", OUTPUT_CLOSED
        if line := _of_machine(cause) or _of_input(cause) or _of_others(cause):
            return line, 1
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it was raised from; not one that was only being handled."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _is(error: BaseException, module: str, *names: str) -> bool:
    """Whether an error is of a library's class; the library is not imported."""
    return any(
        kind.__module__.partition(".")[0] == module and (not names or kind.__name__ in names)
        for kind in type(error).__mro__
    )


def fills_disk(error: BaseException) -> bool:
    """Whether an error is that of a full disk, whichever library raised it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, Exception) and _FULL.search(str(error)) is not None


def lacking(error: BaseException) -> str | None:
    """Name the memory that was lacking, a card's or the host's; None for another error."""
    text = str(error)
    if _is(error, "torch", "OutOfMemoryError") or _GPU_MEMORY.search(text):
        return "GPU memory"
    no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
    no_process = isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN
    from_machine = _MEMORY.search(text) and (
        isinstance(error, RuntimeError | OSError | ImportError) or _is(error, "safetensors_rust")
    )
    if isinstance(error, MemoryError) or no_memory or no_process or from_machine:
        return "memory"
    return None


def _of_machine(error: BaseException) -> str | None:
    """Describe a lack of disk, of memory, of a GPU or of a module."""
    if fills_disk(error):
        where = str(getattr(error, "filename", None) or "file system")
        return f"{where}: expected free space, found the disk full; {_DISK}"
    if memory := lacking(error):
        return f"{memory}: expected enough, found none left; {_LESS[memory]}"
    if isinstance(error, RuntimeError) and _NO_GPU.search(str(error)):
        return f"GPU: expected one that this torch can use, found {first_line(error)}"
    return extras.explain(error) if isinstance(error, ImportError) else None


def _of_input(error: BaseException) -> str | None:
    """Describe input that no parser or reader takes."""
    if isinstance(error, RecursionError) and _is_parsers(error):
        return "input: expected values within each other a few deep, found hundreds"
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return f"input: expected text in UTF-8, found byte 0x{byte:02x} at {error.start:,}"
    if isinstance(error, UnicodeEncodeError) and "surrogates" in (error.reason or ""):
        around = error.object[max(error.start - 40, 0) : error.end + 40]
        return f"name or text: expected UTF-8, found {around!r}; rename it"
    if _is_damage(error):
        hint = "make it again by the command that made it"
        return f"input: expected a whole file, found {first_line(error)}; {hint}"
    return None


def _is_parsers(error: RecursionError) -> bool:
    """Whether a parser gave up, and not code of ours."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = last.tb_frame.f_globals.get("__name__", "") if last else ""
    return "JSON" in str(error) or module.partition(".")[0] in _PARSERS


def _is_damage(error: BaseException) -> bool:
    text = str(error)
    return bool(
        (_is(error, "pyarrow", "ArrowInvalid", "ArrowSerializationError") and _DAMAGED.search(text))
        or _is(error, "safetensors", "SafetensorError")
        or isinstance(error, zlib.error | lzma.LZMAError | EOFError | json.JSONDecodeError)
        or _is(error, "isal")
        # tokenizers raises plain exceptions
        or (type(error) is Exception and _RUST_JSON.search(text))
        or _DATABASE.match(getattr(error, "sqlite_errorname", ""))
    )


def _of_others(error: BaseException) -> str | None:
    """Describe a fault of an object store, of workers or of the operating system."""
    if type(error).__module__.partition(".")[0] in _STORES:
        return f"object store: {first_line(error)}"
    if _is(error, "distributed", *_LOST) or _is(error, "concurrent", "BrokenExecutor"):
        return f"workers: one was lost: {first_line(error)}"
    if _is(error, "torch", "DistError") or "gloo/transport" in str(error):
        if _LOST_PROCESS.search(str(error)):
            return "processes: another one of the run ended or hangs; its own output says why"
        return f"processes: {(str(error).splitlines() or ['no connection'])[-1]}"
    if not isinstance(error, OSError):
        return None
    if _is(error, "distributed"):
        return f"workers: they cannot be reached: {first_line(error)}"
    if isinstance(error, TimeoutError) and not str(error):
        return "network or process: expected an answer in time, found none"
    reason = error.strerror or first_line(error)
    return f"{error.filename}: {reason}" if error.filename else reason
