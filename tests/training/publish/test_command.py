"""Publishing on a hub of our own: what arrives, what is resumed, what is refused."""

import hashlib
import json
from pathlib import Path

import pytest

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.run import Run
from tests.training.publish.conftest import Chain, Publish
from tests.training.publish.hub import TOKEN, Hub

NAME = "models/user/kettles"
# The hub's client tries six times, and waits for 23 seconds in all.
IMPATIENT = """
import sys, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / 100)
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_model_arrives_whole_with_its_card(
    chain: Chain, hub: Hub, publish: Publish, tmp_path: Path
) -> None:
    words = [f"--model={chain.merged}", f"--report={chain.report}", "--license=mit"]
    done = publish(*words)
    assert done.returncode == 0, done.stderr
    there = hub.files(NAME)
    assert there == files(tmp_path / "out/repository")
    listed = manifest.read(Folder(str(chain.merged))).outputs
    assert there.keys() == {"README.md", "manifest.json", *(file.path for file in listed)}
    for file in listed:
        assert there[file.path] == (chain.merged / file.path).read_bytes()
    assert hub.sent == [hashlib.sha256(there["model.safetensors"]).hexdigest()]
    assert hub.repositories[NAME]["private"] is False
    assert hub.tokens == {f"Bearer {TOKEN}"}
    record = manifest.read(Folder(str(tmp_path / "out")), "publish")
    assert record.facts == {"url": f"{hub.url}/user/kettles", "commit": "a" * 40}
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN.encode() in text for text in files(tmp_path / "out").values())
    again = publish(*words)
    assert (again.returncode, hub.commits) == (0, 1)
    assert "already published" in again.stdout


def test_what_was_published_can_be_asked_and_names_no_path(
    chain: Chain, hub: Hub, publish: Publish, tmp_path: Path
) -> None:
    assert publish(f"--model={chain.merged}").returncode == 0
    for name, content in hub.files(NAME).items():
        folder = tmp_path / "downloaded"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        assert str(chain.run.parent).encode() not in content, name
    opened = Run.open(str(folder))
    assert (opened.prompt.template, opened.longest, opened.max_length) == ("compact", 12, 200)
    assert opened.record is not None
    assert opened.record.digest == manifest.read(Folder(str(chain.merged))).digest


def test_a_broken_upload_goes_on_where_it_was(chain: Chain, hub: Hub, publish: Publish) -> None:
    words = [f"--subset={chain.subset}"]
    hub.break_after = 1
    broken = publish(*words, start=("-c", IMPATIENT), HF_HUB_DOWNLOAD_TIMEOUT="2")
    assert broken.returncode == 1, broken.stderr
    assert broken.stderr.splitlines()[-1].startswith("error: user/kettles: the upload broke off")
    assert "type the same command again" in broken.stderr
    assert (len(hub.sent), hub.commits) == (1, 0)
    hub.break_after = None
    done = publish(*words)
    assert done.returncode == 0, done.stderr
    # Three splits, each sent once.
    assert len(hub.sent) == len(set(hub.sent)) == 3
    assert hub.commits == 1


def test_a_dry_run_sends_nothing_and_needs_no_token(
    chain: Chain, hub: Hub, publish: Publish, tmp_path: Path
) -> None:
    dry = publish(f"--model={chain.gguf}", "--dry_run=true", HF_TOKEN="")
    assert dry.returncode == 0, dry.stderr
    assert "nothing was sent" in dry.stdout
    assert (hub.repositories, hub.sent, hub.tokens) == ({}, [], set())
    written = files(tmp_path / "out/repository")
    assert written.keys() == {"README.md", "manifest.json", "model.gguf", "Modelfile"}
    done = publish(f"--model={chain.gguf}")
    assert done.returncode == 0, done.stderr
    assert hub.files(NAME) == written


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"HF_TOKEN": ""}, "error: HF_TOKEN: expected a token of the hub"),
        ({"HF_TOKEN": "hf_other"}, "error: HF_TOKEN: expected a token for user/kettles, found"),
        ({"HF_HUB_OFFLINE": "1"}, "error: user/kettles: HF_HUB_OFFLINE is set; unset it"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "error: user/kettles: the upload broke off"),
    ],
)
def test_a_hub_that_cannot_be_used_is_told_in_a_line(
    env: dict[str, str], line: str, chain: Chain, publish: Publish
) -> None:
    done = publish(f"--model={chain.gguf}", **env)
    assert done.returncode in (1, 2)
    assert done.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in done.stderr


def test_a_hub_that_holds_something_else_is_told(chain: Chain, hub: Hub, publish: Publish) -> None:
    hub.spoil = "model.gguf"
    done = publish(f"--model={chain.gguf}")
    assert done.returncode == 1
    assert "user/kettles/model.gguf: expected the file that was sent, found another" in done.stderr


def test_a_changed_model_is_not_published(
    chain: Chain, hub: Hub, publish: Publish, tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(chain.gguf, tmp_path / "copy"))
    payload = bytearray((copy / "model.gguf").read_bytes())
    payload[len(payload) // 2] ^= 1
    (copy / "model.gguf").write_bytes(payload)
    done = publish(f"--model={copy}")
    assert done.returncode == 1
    assert "expected the bytes that its manifest lists, found others" in done.stderr
    assert hub.repositories == {}


def test_a_report_of_another_run_is_refused(chain: Chain, publish: Publish, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(chain.report, tmp_path / "report"))
    values = json.loads((copy / "report.json").read_text())
    values["runs"][0]["digest"] = "0" * 32
    (copy / "report.json").write_text(json.dumps(values))
    record = manifest.read(Folder(str(chain.report)))
    payload = (copy / "report.json").read_bytes()
    from dataclasses import replace

    from data.artefacts.folder import digest_bytes

    outputs = tuple(
        replace(file, bytes=len(payload), digest=digest_bytes(payload))
        if file.path == "report.json" else file
        for file in record.outputs
    )  # fmt: skip
    replace(record, outputs=outputs).write(Folder(str(copy)))
    done = publish(f"--model={chain.merged}", f"--report={copy}", "--dry_run=true")
    assert done.returncode == 1
    assert "expected a report of the run that was exported, found one of others" in done.stderr


def test_both_at_once_are_refused(chain: Chain, publish: Publish) -> None:
    done = publish(f"--model={chain.merged}", f"--subset={chain.subset}")
    assert done.returncode == 2
    assert "--subset: expected a subset alone, or a model with its report" in done.stderr
