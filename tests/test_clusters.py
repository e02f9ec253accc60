"""The cluster recipes of docs/cluster.md: they parse, and their commands are our own."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.cli.command_line import _parse, _parser
from preprocessing.__main__ import COMMANDS

PAGE = (Path(__file__).parents[1] / "docs/cluster.md").read_text()
(SCRIPT,) = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(OBJECTS,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "tcp://dask-scheduler:8786"


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(OBJECTS)}


def container(one: dict[str, Any]) -> dict[str, Any]:
    (only,) = one["spec"]["template"]["spec"]["containers"]
    return dict(only)


def parsed(words: list[str]) -> Any:
    """Parse a command as its user's shell would hand it over."""
    assert words[:3] == ["python", "-m", "preprocessing"]
    return _parse(_parser("preprocessing", COMMANDS, words[3:]), COMMANDS, words[3:])[1]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_the_slurm_script_is_bash() -> None:
    done = subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # A line before the directives would end them.
    head = SCRIPT.split("\nset ")[0].splitlines()
    assert head[0].startswith("#!")
    assert all(line.startswith("#SBATCH --") for line in head[1:])


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_the_slurm_job_starts_scheduler_workers_and_command(tmp_path: Path) -> None:
    """With programs of those names that write down how they are called."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    for name in ("dask", "srun", "python"):
        tool = tmp_path / "tools" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\n')
        tool.chmod(0o755)
    env = {"PATH": f"{tmp_path / 'tools'}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path),
           "SLURM_CPUS_PER_TASK": "16"}  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", SCRIPT.replace("python -m", "sleep 1; python -m")], env=env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "unbound" not in done.stderr
    calls = sorted((tmp_path / "calls").read_text().splitlines())
    host = subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()
    address = f"tcp://{host}:8786"
    assert calls[0] == f"dask scheduler --host {host} --port 8786"
    assert calls[2].startswith(f"srun --overlap dask worker {address} --nworkers 16 --nthreads 1")
    config = parsed(calls[1].split())
    assert (config.scheduler, config.source) == (address, "data/store/raw/trn.json.gz")


def test_kubernetes_objects_know_each_other() -> None:
    known = objects()
    service = known["Service", "dask-scheduler"]["spec"]
    scheduler = known["Deployment", "dask-scheduler"]["spec"]
    worker = known["Deployment", "dask-worker"]["spec"]
    assert service["selector"] == scheduler["template"]["metadata"]["labels"]
    for one in (scheduler, worker):
        assert one["selector"]["matchLabels"] == one["template"]["metadata"]["labels"]
    (port,) = service["ports"]
    assert port["targetPort"] == 8786
    command = container(known["Deployment", "dask-scheduler"])["command"]
    assert command == ["dask", "scheduler", "--port", "8786"]
    words = container(known["Deployment", "dask-worker"])["command"]
    assert words[:3] == ["dask", "worker", ADDRESS]
    assert all(isinstance(word, str) for word in words)
    images = {container(one)["image"] for key, one in known.items() if key[0] != "Service"}
    assert len(images) == 1


def test_the_kubernetes_job_is_a_command_of_ours() -> None:
    config = parsed(container(objects()["Job", "clean"])["command"])
    assert (config.scheduler, config.out) == (ADDRESS, "s3://bucket/clean")


def test_dask_takes_the_recipes_flags() -> None:
    from click import Command
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    def flags(command: Command) -> set[str]:
        return {flag for one in command.params for flag in one.opts}

    used = set(re.findall(r"(?<=[\s\[])--[a-z-]+(?=[ ,])", SCRIPT.split("python -m")[0]))
    used -= {"--overlap"} | set(re.findall(r"#SBATCH (--[a-z-]+)", SCRIPT))
    assert used == {"--host", "--port", "--nworkers", "--nthreads", "--local-directory"}
    assert used <= flags(scheduler) | flags(worker)
