"""Runs on disk: what their manifests say, and the rows that their prompts show."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from data.artefacts import Counts, Manifest, Run
from data.artefacts.run import RunFacts
from data.errors import ManifestError, ModelError
from data.prompt import Neighbour, Prompt
from tests.builders import finish_run, save_adapter, save_base, show_neighbours

ROWS = [("Green Kettle", "Boils."), ("Quiet Violin", "Plays."), ("Green Lamp", "Shines.")]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose prompts show two neighbours."""
    save_base(tmp_path / "base")
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    return show_neighbours(tmp_path, ROWS, 2)


def recorded(facts: dict[str, Any]) -> Manifest:
    return Manifest("train", {}, {}, (), (), Counts(), facts=json.loads(json.dumps(facts)))


def test_the_facts_of_a_run_are_read_as_they_were_written() -> None:
    facts = RunFacts("base", "0f", Prompt("compact", ["Is it good?", "What is it?"]), 640, 0)
    assert facts.as_facts() == {
        "base": "base",
        "base_digest": "0f",
        "prompt": {"template": "compact", "instruction": ["Is it good?", "What is it?"]},
        "max_length": 640,
        "longest_completion_tokens": 0,
    }
    assert RunFacts.of(recorded(facts.as_facts() | {"steps": 6})) == facts


def test_what_an_earlier_version_did_not_record_stays_unset() -> None:
    facts = RunFacts.of(recorded({"base_digest": "0f", "logits_apart": 0.1}))
    assert facts == RunFacts(base_digest="0f")
    assert facts.as_facts() == {"base_digest": "0f"}


def test_facts_with_neighbours_are_read_as_they_were_written() -> None:
    facts = RunFacts("base", "0f", Prompt("compact", "Is it good?", 2, 40))
    assert facts.as_facts()["prompt"] == {
        "template": "compact", "instruction": "Is it good?", "neighbours": 2,
        "neighbour_tokens": 40,
    }  # fmt: skip
    assert RunFacts.of(recorded(facts.as_facts())) == facts


def test_a_run_finds_what_its_prompts_show(run: Path) -> None:
    model = Run.open(str(run))
    shown = (Neighbour("Green Lamp", "Shines."),)
    assert model.near("Green  KETTLE") == shown
    assert model.near("Quiet Green Tent")[0] == Neighbour("Quiet Violin", "Plays.")
    assert model.near("Tent") == ()
    assert model.render("Green Kettle", "u") == model.prompt.render("Green Kettle", "u", shown)
    # A worker, and the base, find the same.
    assert pickle.loads(pickle.dumps(model)).near("Green Kettle") == shown
    assert model.without_adapter().near("Green Kettle") == shown


def test_other_rows_are_another_run(run: Path) -> None:
    first = Run.open(str(run))
    show_neighbours(run, [*ROWS[:2], ("Green Lamp", "Glows.")], 2)
    second = Run.open(str(run))
    assert second.digest != first.digest
    assert second.near("Green Kettle") == (Neighbour("Green Lamp", "Glows."),)
    assert first.base_digest == second.base_digest


def test_a_run_without_neighbours_has_none(run: Path) -> None:
    digest = Run.open(str(run)).digest
    finish_run(run)
    model = Run.open(str(run))
    assert (model.neighbours, model.near("Green Kettle")) == (None, ())
    assert model.digest != digest


def test_rows_that_are_changed_or_not_listed_are_refused(run: Path) -> None:
    finish_run(run, prompt=Prompt(neighbours=1).recorded)
    with pytest.raises(ModelError, match=r"expected the neighbours\.arrow that its prompts show"):
        Run.open(str(run))
    show_neighbours(run, ROWS)
    payload = (run / "neighbours.arrow").read_bytes()
    (run / "neighbours.arrow").write_bytes(payload.replace(b"Shines.", b"Burns!."))
    with pytest.raises(ManifestError, match="the bytes that its manifest lists"):
        Run.open(str(run))
    (run / "neighbours.arrow").unlink()
    with pytest.raises(ManifestError, match="the file that its manifest lists"):
        Run.open(str(run))
