"""How a Llama turns its positions, as llama.cpp is told."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFWriter

_KINDS = ("default", "linear", "llama3")


class Rotary:
    """The width and base of the rotation, and how its frequencies are stretched."""

    def __init__(self, config: Any, where: str) -> None:
        """Read a Llama's settings.

        Raises:
            ModelError: the frequencies are stretched in a way that a file here cannot say.
        """
        settings = dict(config.rope_parameters)
        self.kind = str(settings.get("rope_type", "default"))
        if self.kind not in _KINDS or settings.get("partial_rotary_factor", 1.0) != 1.0:
            expected = f"rotary positions of the kind {', '.join(_KINDS)}"
            raise ModelError(where, expected, self.kind, "export --format merged")
        heads = config.hidden_size // config.num_attention_heads
        self.width = int(getattr(config, "head_dim", None) or heads)
        """Of a head."""
        self._settings = settings

    def describe(self, writer: "GGUFWriter") -> None:
        """Write the settings."""
        from gguf import RopeScalingType

        writer.add_rope_dimension_count(self.width)
        writer.add_rope_freq_base(self._settings["rope_theta"])
        if self.kind == "linear":
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(self._settings["factor"])

    @property
    def factors(self) -> np.ndarray | None:
        """What Llama 3.1 divides its frequencies by, ``[width / 2]``; none for others.

        As transformers' ``_compute_llama3_parameters`` has it.
        """
        if self.kind != "llama3":
            return None
        settings = self._settings
        places = np.arange(0, self.width, 2, dtype=np.float32) / self.width
        waves = 2 * math.pi * settings["rope_theta"] ** places
        turns = settings["original_max_position_embeddings"] / waves
        low, high = settings["low_freq_factor"], settings["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return np.asarray(1 / ((1 - smooth) / settings["factor"] + smooth), np.float32)
