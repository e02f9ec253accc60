"""A run that counts the forward passes of each layer; under Unsloth in a process of its own."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests import forked
from training import run
from training.__main__ import main


def count(words: list[str]) -> list[int]:
    """Run, and give the layers in the order of their passes."""
    passes: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "load_model", _counted(run.load_model, passes))
        assert main(words) == 0
    return passes


def count_apart(words: list[str]) -> list[int]:
    """Do so in another process: Unsloth changes the libraries of the one that imports it."""
    done = forked.run_python("-m", "tests.training.counting", *words, kind="unsloth")
    assert done.returncode == 0, done.stderr
    passes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return passes


def _counted(load: Callable[..., Any], passes: list[int]) -> Callable[..., Any]:
    def load_and_count(*given: Any) -> Any:
        model = load(*given)
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer

        layers = [part for part in model.modules() if isinstance(part, LlamaDecoderLayer)]
        for place, layer in enumerate(layers):

            def forward(
                *args: Any, inner: Any = layer.forward, place: int = place, **named: Any
            ) -> Any:
                passes.append(place)
                return inner(*args, **named)

            layer.forward = forward
        return model

    return load_and_count


if __name__ == "__main__":
    print(json.dumps(count(sys.argv[1:])))
