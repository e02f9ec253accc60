"""How close in meaning texts are to the real descriptions: cosines of static embeddings.

Offline and without torch: a folder with a model2vec model, some 15 to 120 MB, is all it needs.
"""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.artefacts.folder import digest_file
from data.console import first_line
from data.errors import ModelError
from inference.evaluate.metrics import Floats, counted

_WEIGHTS = "model.safetensors"


def identify(folder: str) -> dict[str, str]:
    """Identify what measures meaning.

    Raises:
        ModelError: the folder holds no model.
    """
    file = Path(folder) / _WEIGHTS
    if not file.is_file():
        raise ModelError(folder, "a folder with a model2vec model", f"no {_WEIGHTS}", _HINT)
    return {"weights": digest_file(file), "model2vec": importlib.metadata.version("model2vec")}


_HINT = "save one there, as docs/inference.md says"


class Meaning:
    """A model of meaning, and the references that it has read."""

    def __init__(self, folder: str) -> None:
        from model2vec import StaticModel

        try:
            self._model: Any = StaticModel.from_pretrained(folder)
        except Exception as error:  # the library raises whatever its readers do
            actual = first_line(error)
            raise ModelError(folder, "a model2vec model", actual, _HINT) from error

    def closeness(self, texts: Sequence[str], references: Sequence[str]) -> Floats:
        """Return rows that average: [N, 2], the cosine, 0 to 1, and 1; 0 for an empty text.

        Opposites are as far from the meaning as strangers: a cosine below 0 is 0.
        """
        one, other = (self._unit(column) for column in (texts, references))
        return counted(np.clip((one * other).sum(axis=1), 0, 1))

    def _unit(self, texts: Sequence[str]) -> Floats:
        vectors = np.asarray(self._model.encode(list(texts)), np.float64).reshape(len(texts), -1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return unit
