"""What a run starts from: the precision that the card has of its own, memory that grows."""

import os

import pytest
import torch

from data.errors import ConfigError
from training import __main__ as program
from training import hardware
from training.config import Optimisation, TrainConfig


@pytest.mark.parametrize(("has_own", "expected"), [(True, "bf16"), (False, "fp16")])
def test_automatic_precision_asks_for_bf16_of_the_cards_own(
    has_own: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or has_own

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with caplog.at_level("INFO", "catalogue"):
        assert hardware.precision(TrainConfig()) == expected
    told = (
        []
        if has_own
        else ["precision: fp16 with a gradient scaler, as Tesla T4 has no bf16 of its own"]
    )
    assert caplog.messages == told
    by_name = TrainConfig(optimisation=Optimisation(precision="bf16"))
    assert hardware.precision(by_name) == "bf16"


def test_automatic_precision_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.precision(TrainConfig()) == "float32"
    half = TrainConfig(optimisation=Optimisation(precision="fp16"))
    with pytest.raises(ConfigError, match="auto, bf16 or float32, as there is no GPU"):
        hardware.precision(half)


@pytest.mark.parametrize(
    ("machine", "release", "earlier", "expected"),
    [
        ("x86_64", "6.1.0-32-amd64", {}, "expandable_segments:True"),
        ("x86_64", "6.1.0", {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ("x86_64", "6.1.0", {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, "backend:native"),
        ("x86_64", "4.4.0-19041-Microsoft", {}, None),
        ("x86_64", "5.15.167.4-microsoft-standard-WSL2", {}, None),
        ("AMD64", "11", {}, None),
        ("aarch64", "5.15.148-tegra", {}, None),
    ],
)
def test_every_command_asks_for_memory_that_grows_where_drivers_can(
    machine: str, release: str, earlier: dict[str, str], expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(program.platform, "machine", lambda: machine)
    monkeypatch.setattr(program.platform, "release", lambda: release)
    seen: list[str | None] = []

    def run(*_: object) -> int:
        seen.append(os.environ.get("PYTORCH_ALLOC_CONF"))
        return 0

    monkeypatch.setattr(program.command_line, "main", run)
    monkeypatch.setattr(os, "environ", dict(earlier))
    assert program.main([]) == 0
    assert seen == [expected]
