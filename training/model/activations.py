"""Which layers keep their activations while the others recompute them in the backward pass.

Recomputing costs about a third of the arithmetic of a step and saves most of its memory. Where
some memory is left, the last layers keep theirs: they are freed first in the backward pass, so
that they do not stand beside the activations of a layer that is being recomputed.
"""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

_FUNCTION = "_gradient_checkpointing_func"


def keep_layers(model: Any, count: int) -> int:
    """Let the last layers of a model keep their activations, and no others.

    Args:
        model: whose layers recompute, through transformers or through Unsloth; both hand a
            layer's forward pass to the function that is replaced here.
        count: of layers.

    Returns:
        How many layers there are.
    """
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for place, layer in enumerate(layers):
        function = getattr(layer, _FUNCTION, None)
        if isinstance(function, _Keep):
            function = function.recomputing
        if place >= len(layers) - count:
            function = _Keep(function)
        if function is not None:
            setattr(layer, _FUNCTION, function)
    return len(layers)


class _Keep:
    """Calls a layer's forward pass as it is, and remembers what would recompute it."""

    def __init__(self, recomputing: Callable[..., Any] | None) -> None:
        self.recomputing = recomputing

    def __call__(self, function: Callable[..., Any], *given: Any, **_: Any) -> Any:
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
