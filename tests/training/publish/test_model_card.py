"""The card of a model: its figures are the report's, its settings the run's."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.manifest import Manifest
from tests.training.publish.conftest import Chain, Publish
from tests.training.publish.hub import Hub
from training.publish import model_card
from training.publish.lineage import Lineage, open_report
from training.publish.model_card import Model


@pytest.fixture(scope="module")
def model(chain: Chain) -> Model:
    record = manifest.read(Folder(str(chain.merged)), "export")
    run = manifest.read(Folder(str(chain.run)), "train").digest
    report = open_report(str(chain.report), run)
    return Model("user/kettles", "merged", Lineage.of(record), report, "apache-2.0")


def split(card: str) -> tuple[dict[str, Any], str]:
    _, metadata, text = card.split("---\n", 2)
    return yaml.safe_load(metadata), text


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_every_figure_is_the_reports(model: Model, chain: Chain) -> None:
    values = json.loads((chain.report / "report.json").read_text())
    text = split(model_card.render(model))[1]
    scores = values["sides"]["unseen"]["scores"]
    by_label = {system["label"]: system["key"] for system in values["candidates"]}
    table = text.partition("with 95 % intervals")[2].split("\n\n")[1].splitlines()
    systems = [by_label[label] for label in cells(table[0])[1:]]
    assert systems[:2] == ["adapter", "base"]
    compared = 0
    for line in table[2:]:
        name, *shown = cells(line)
        metric = next(one for one in values["metrics"] if name.startswith(f"{one['label']} ("))
        for system, cell in zip(systems, shown, strict=True):
            score = scores[system].get(metric["key"])
            if score is None or score["value"] is None:
                assert cell == ""
                continue
            numbers = [float(number.replace(",", "")) for number in re.findall(r"-?[\d,.]+", cell)]
            ends = [score[end] for end in ("value", "low", "high") if score[end] is not None]
            assert numbers == [round(value, metric["digits"]) for value in ends], (name, cell)
            compared += len(numbers)
    assert compared > 60


def test_the_hubs_results_are_the_reports(model: Model, chain: Chain) -> None:
    values = json.loads((chain.report / "report.json").read_text())
    metadata = split(model_card.render(model))[0]
    results = metadata["model-index"][0]["results"][0]["metrics"]
    scores = values["sides"]["unseen"]["scores"]["adapter"]
    assert {one["type"]: one["value"] for one in results} == {
        one["type"]: scores[one["type"]]["value"] for one in results
    }
    assert {"rougeL", "perplexity", "chrf"} <= {one["type"] for one in results}


def test_it_says_verdict_limits_data_settings_and_licence(model: Model, chain: Chain) -> None:
    values = json.loads((chain.report / "report.json").read_text())
    metadata, text = split(model_card.render(model))
    assert metadata["license"] == "apache-2.0"
    assert (metadata["library_name"], metadata["pipeline_tag"]) == (
        "transformers", "text-generation",
    )  # fmt: skip
    plain = text.replace("\\", "")
    assert values["verdicts"][0]["headline"] in plain
    for line in values["verdicts"][0]["lines"]:
        assert line["told"] in plain
    for words in (
        "Cleaned from `raw.json`", "| read | 80 |", "| learning\\_rate | `0.001` |",
        "| lora.r | `4` |", "| plan: predicted\\_seconds | `61.5` |",
        "rows of at most 200 tokens", "Title: TITLE", "that of its base",
    ):  # fmt: skip
        assert words in text, words
    for stage in ("export", "train", "subset", "clean"):
        assert f"| {stage} | `" in text


def test_without_a_report_it_says_so(model: Model) -> None:
    metadata, text = split(model_card.render(replace(model, report=None, license=None)))
    assert "**Not evaluated**" in text
    assert "model-index" not in metadata
    assert "license" not in metadata
    assert "Not known here: it is bound by the licence of its base" in text


def test_what_is_gone_is_said(model: Model) -> None:
    export = model.lineage.stages["export"]
    bare = replace(model, lineage=Lineage(export, {"export": export}, ("train", "subset")))
    text = model_card.render(bare)
    assert "Not recorded where this card was made: clean, subset." in text
    assert "## Training\n\nNot recorded where this card was made." in text


def test_hostile_names_stay_in_their_cells(model: Model) -> None:
    run = model.lineage.stages["train"]
    odd = "a|b`c``\n## Heading <script>"
    changed: Manifest = replace(run, facts=run.facts | {"device": odd, "base": "x/y|`z"})
    stages = model.lineage.stages | {"train": changed}
    card = model_card.render(replace(model, lineage=replace(model.lineage, stages=stages)))
    assert "\n## Heading" not in card
    line = next(line for line in card.splitlines() if line.startswith("| device |"))
    assert line == "| device | ```` a\\|b`c`` ## Heading <script> ```` |"


def test_the_licence_of_a_base_is_asked_of_the_hub(
    chain: Chain, hub: Hub, publish: Publish, tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(chain.merged, tmp_path / "copy"))
    run = Path(shutil.copytree(chain.run, tmp_path / "run"))
    record = manifest.read(Folder(str(run)))
    replace(record, facts=record.facts | {"base": "maker/base"}).write(Folder(str(run)))
    export = manifest.read(Folder(str(copy)))
    parent = replace(export.made_from[0], path=str(run))
    replace(export, made_from=(parent,)).write(Folder(str(copy)))
    hub.licenses["maker/base"] = "llama3.2"
    done = publish(f"--model={copy}", "--dry_run=true")
    assert done.returncode == 0, done.stderr
    metadata, text = split((tmp_path / "out/repository/README.md").read_text())
    assert (metadata["license"], metadata["base_model"]) == ("llama3.2", "maker/base")
    assert "`llama3.2`, that of its base, `maker/base`" in text
