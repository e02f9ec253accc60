"""A disk that fills up while cleaning: one clear line, no half file, and the run goes on later."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from preprocessing.__main__ import main as preprocessing
from tests.faults.cleaning import command, digests

SMALL, LARGE = "300k", "50m"
SCRIPT = """
mount -t tmpfs -o size={small} tmpfs {disk} || exit 99
{clean}; echo "full: $?"
find {disk} -name ".tmp-*"; find {disk} -name "part-*" | wc -l
{clean}; echo "still full: $?"
mount -o remount,size={large} tmpfs {disk}
{clean} > /dev/null; echo "free again: $?"
cp -r {disk}/clean {copy}
"""


def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_once_there_is_space(
    root: Path, tmp_path: Path, scheduler: str
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no small disk can be mounted here: unshare is not installed")
    raw, disk, copy, whole = (tmp_path / name for name in ("trn.json", "disk", "copy", "whole"))
    disk.mkdir()
    invent = ("data", "synthesize", f"--out={raw}", "--rows=20000", "--workers=1")
    subprocess.run([sys.executable, "-m", *invent], cwd=root, check=True, capture_output=True)
    settings = ("--block_bytes=500000", "--rules.content_min=100", "--rules.content_max=2000")
    words = " ".join(command(raw, disk / "clean", *settings, "--workers=2"))
    script = SCRIPT.format(small=SMALL, large=LARGE, disk=disk, copy=copy, clean=words)
    # In a mount namespace of its own, which ends with the script.
    told = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=root, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if told.returncode == 99 or "unshare" in told.stderr:
        pytest.skip(f"no small disk can be mounted here: {told.stderr.splitlines()[:1]}")
    full, parts, still, free = told.stdout.split("\n")[:4]
    assert [full, still, free] == ["full: 1", "still full: 1", "free again: 0"], told
    assert int(parts) > 0
    errors = told.stderr.splitlines()
    assert len(errors) == 2
    for line in errors:
        assert line.startswith(f"error: {disk}/clean/")
        assert "expected free space, found the disk full" in line
        assert "run the same command again: it goes on where it stopped" in line
    here = (f"--source={raw}", f"--out={whole}", f"--scheduler={scheduler}", *settings)
    assert preprocessing(["clean", *here]) == 0
    assert digests(copy) == digests(whole)
