"""Which layers keep their activations while the others recompute them in the backward pass.

Recomputing costs about a third of the arithmetic of a step and saves most of its memory. Where
some memory is left, the last layers keep theirs: they are freed first in the backward pass, so
that they do not stand beside the activations of a layer that is being recomputed.
"""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer


def keep_layers(model: Any, count: int) -> int:
    """Let the last layers of a model keep their activations.

    Args:
        model: whose layers recompute, through transformers or through Unsloth; both hand a
            layer's forward pass to the function that is replaced here.
        count: of layers.

    Returns:
        How many layers there are.
    """
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers[max(0, len(layers) - count) :] if count else []:
        layer._gradient_checkpointing_func = _just_call
    return len(layers)


def _just_call(function: Callable[..., Any], *given: Any, **_: Any) -> Any:
    return function(*given)


class KeepLayers(TrainerCallback):  # type: ignore[misc]
    """Does so when training begins: the Trainer sets the layers' functions shortly before."""

    def __init__(self, count: int) -> None:
        self._count = count

    def on_train_begin(
        self, _args: Any, _state: Any, _control: Any, model: Any = None, **_: Any
    ) -> None:
        """Replace the functions of the last layers."""
        keep_layers(model, self._count)
