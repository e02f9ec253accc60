"""The stages without what Windows and macOS lack: Unix's own modules, forks, alarms, code pages.

Nothing here runs on those systems; what they do not have is taken away, in every process, and a
file opened in the system's own encoding is an error.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import ROOT, save_base

# Python runs it first, in workers too.
BARE = """
import builtins, os, signal, warnings

UNIX = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}
OURS = {"__main__", "data", "preprocessing", "training", "inference"}
whole = builtins.__import__


def bare(name, globals=None, locals=None, fromlist=(), level=0):
    # Libraries ask for them by the system that they find; we are to ask for none.
    if name in UNIX and (globals or {}).get("__name__", "").partition(".")[0] in OURS:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return whole(name, globals, locals, fromlist, level)


builtins.__import__ = bare
for name in (
    "fork", "forkpty", "setsid", "killpg", "sched_getaffinity",
    "sched_setaffinity", "nice", "getloadavg", "mkfifo", "chown", "posix_fadvise",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "alarm", "pthread_sigmask", "setitimer", "SIGUSR1", "SIGUSR2", "SIGHUP"):
    if hasattr(signal, name):
        delattr(signal, name)
warnings.filterwarnings(
    "error", category=EncodingWarning, module=r"(data|preprocessing|training|inference)\\b"
)
"""


class Bare:
    """Commands in processes that have no more than every system has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "site").mkdir()
        (root / "site/sitecustomize.py").write_text(BARE)

    def __call__(self, line: str) -> str:
        words = [word.replace("~", str(self.root)) for word in line.split()]
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=280,
            check=False,
            env=os.environ | {
                "PYTHONPATH": os.pathsep.join([str(self.root / "site"), str(ROOT)]),
                "PYTHONWARNDEFAULTENCODING": "1", "HF_HUB_OFFLINE": "1",
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    return Bare(tmp_path_factory.mktemp("bare"))


def test_what_is_taken_away_is_missed(bare: Bare) -> None:
    (bare.root / "locks.py").write_text("import fcntl")
    with pytest.raises(AssertionError, match="No module named 'fcntl'"):
        bare("~/locks.py")


def test_the_stages_run(bare: Bare) -> None:
    save_base(bare.root / "base")
    bare("-m data synthesize --rows=400 --out=~/trn.json.gz")
    bare(
        "-m preprocessing clean --source=~/trn.json.gz --out=~/clean --workers=2 "
        "--rules.content_min=20 --rules.content_max=180 --shares.test=0.1"
    )
    bare("-m data subset --clean=~/clean --out=~/subset")
    bare(
        "-m training run --subset=~/subset --out=~/run --base=~/base --backend=transformers "
        "--tokenized=~/tokenized --optimisation.max_steps=2 --optimisation.batch_size=4 "
        "--optimisation.precision=float32 --max_length=256 --max_truncated_share=1"
    )
    bare("-m training export --run=~/run --out=~/gguf --format=gguf --precision=q8_0")
    bare("-m training publish --to=user/name --model=~/gguf --out=~/published --dry_run=true")
    bare(
        "-m inference generate --run=~/run --titles=~/subset --limit=4 --out=~/texts "
        "--max_new_tokens=8 --best_of=1"
    )
    bare(
        "-m inference evaluate --run=~/run --subset=~/subset --out=~/report --rows=4 "
        "--resamples=100 --max_new_tokens=8 --best_of=1"
    )
    told = bare("-m data show ~/report")
    assert "evaluate" in told
