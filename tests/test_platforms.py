"""Every module imports where Unix's own are missing, as on Windows."""

import importlib
import os
import pkgutil
import signal
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

import pytest

import data
import inference
import preprocessing
import training

UNIX = ("fcntl", "grp", "pty", "pwd", "resource", "termios")
MODULES = [
    f"{folder.__name__}.{module.name}"
    for folder in (data, preprocessing, training, inference)
    for module in pkgutil.iter_modules(folder.__path__)
]


@pytest.fixture
def no_unix(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:  # with the libraries, which know where they are
        importlib.import_module(name)
    for name in UNIX:
        monkeypatch.setitem(sys.modules, name, None)
    for of, names in (
        (os, ("fork", "getuid", "sysconf", "sched_getaffinity", "killpg", "register_at_fork")),
        (signal, ("SIGKILL", "SIGALRM", "SIGPIPE", "SIGHUP", "alarm", "pthread_sigmask")),
    ):
        for name in names:
            monkeypatch.delattr(of, name, raising=False)


def test_every_module_imports_without_unix(no_unix: None) -> None:
    for name in MODULES:
        path = importlib.import_module(name).__file__
        assert path is not None
        # Run once more, beside the one that is loaded.
        module = ModuleType(name)
        module.__dict__.update(__file__=path, __package__=name.partition(".")[0])
        code: Any = SourceFileLoader(name, path).get_code(name)
        exec(code, module.__dict__)  # noqa: S102  # our own source
