"""The command rate: which texts of a report are voted on, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.artefacts.folder import Artefact, Folder, digest_bytes
from data.artefacts.manifest import Counts, Manifest
from data.errors import ConfigError, ManifestError, SourceError
from inference.evaluate.judging import Ballot
from inference.judges import RateConfig
from inference.rate import command


def _report(folder: Path, texts: dict[str, str] | None = None) -> str:
    texts = texts or {"adapter": "It boils {}.", "base": "{} {} {}"}
    systems = [("adapter", "Adapter", "base"), ("base", "Base", None)]
    systems += [("reference", "Real description", None)]
    rows = [
        {"title": f"Kettle {i}", "side": side, "reference": f"Kettle {i}, of steel.",
         "texts": {key: {"text": text.format(i, i, i)} for key, text in texts.items()}}
        for side in ("unseen", "seen") for i in range(10)
    ]  # fmt: skip
    value: dict[str, Any] = {
        "verdicts": [{"candidate": "adapter"}], "rows": rows,
        "candidates": [
            {"key": key, "label": label, "against": base} for key, label, base in systems
        ],
    }  # fmt: skip
    payload = json.dumps(value).encode()
    Folder(str(folder)).commit("report.json", payload)
    artefact = Artefact("report.json", 20, len(payload), digest_bytes(payload))
    Manifest("evaluate", {}, {}, (), (artefact,), Counts()).write(Folder(str(folder)))
    return str(folder)


def test_adapter_against_base_on_unseen_titles(tmp_path: Path) -> None:
    config = RateConfig(report=_report(tmp_path / "r"), out=str(tmp_path / "v"))
    poll, names = command.find(config)
    assert names == "Adapter against Base"
    assert len(poll.pairs) == 10
    assert {(pair.one, pair.other) for pair in poll.pairs} >= {("It boils 3.", "3 3 3")}


def test_against_real_descriptions_where_the_base_wrote_nothing(tmp_path: Path) -> None:
    report = _report(tmp_path / "r", {"adapter": "It boils {}."})
    poll, names = command.find(RateConfig(report=report, pairs=4, repeats=0))
    assert names == "Adapter against Real description"
    assert len(poll.pairs) == 4
    assert poll.pairs[0].other.endswith("of steel.")


def test_what_cannot_be_voted_on_is_refused(tmp_path: Path) -> None:
    report = _report(tmp_path / "r")
    with pytest.raises(ConfigError, match="--other: expected one of adapter, base, reference"):
        command.find(RateConfig(report=report, other="nobody"))
    with pytest.raises(SourceError, match="different texts of base and base"):
        command.find(RateConfig(report=report, one="base", other="base"))
    with pytest.raises(ManifestError):
        command.find(RateConfig(report=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="--repeats"):
        RateConfig(pairs=2, repeats=3)


def test_it_says_how_the_votes_stand(tmp_path: Path) -> None:
    config = RateConfig(report=_report(tmp_path / "r"), out=str(tmp_path / "v"))
    poll, _ = command.find(config)
    assert command.standing(config, poll) == "no votes yet"
    for name in ("ana", "bo"):
        ballot = Ballot.open(config.out, name)
        for pair in poll.pairs[:4]:
            ballot.cast(pair.key, 1)
    assert command.standing(config, poll) == (
        "8 votes of 2 people on 4 pairs: 100.0% won (39.8% to 100.0%), people agree 4 of 4 times"
    )
