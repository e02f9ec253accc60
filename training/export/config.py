"""Settings of ``export``. Imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Literal

from data.artefacts.manifest import OPTIONAL, placement
from data.errors import ConfigError
from data.prompt import Prompt

_QUANTISED = ("q8_0", "q4_k_m")


@dataclass(frozen=True)
class ExportConfig:
    """Write a run as other tools take it: merged for transformers, GGUF for Ollama and llama.cpp.

    A merged model is checked by comparing its logits with those of adapter and base; a GGUF file
    by reading back its tensors.
    """

    run: str = placement("data/store/runs/all")
    """Folder of a finished training run; local. For GGUF an exported model's as well, or that of
    a model from elsewhere, with --prompt.template."""

    out: str = placement("data/store/exported/all")
    """Folder for the model, its tokenizer and the manifest; local."""

    format: Literal["merged", "gguf", "adapter"] = field(default="merged", metadata=OPTIONAL)
    """merged: adapter and base as one model in safetensors; gguf: that as one file for llama.cpp,
    with an Ollama Modelfile; adapter: the adapter alone, for PEFT."""

    precision: Literal["bf16", "float16", "float32", "q8_0", "q4_k_m"] = "bf16"
    """Of the weights written. The last two are for gguf alone: 8 bits, and 4 bits by llama.cpp's
    own llama-quantize, which must be there."""

    prompt: Prompt | None = field(default=None, metadata=OPTIONAL)
    """How a title becomes a prompt, for a model that records none; others keep their own."""

    overwrite: bool = placement(False)
    """Replace the output of an earlier export."""

    def __post_init__(self) -> None:
        if self.precision in _QUANTISED and self.format != "gguf":
            expected = f"bf16, float16 or float32, as --format is {self.format}"
            raise ConfigError("--precision", expected, self.precision)
