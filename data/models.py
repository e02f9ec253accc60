"""Where a model lies on disk: a local folder, or the hub's cache; and its digest.

Training and inference must mean the same base. Safetensors only. Imports no model library.
"""

from dataclasses import dataclass
from pathlib import Path

from data.errors import ModelError
from data.shards import digest_all, digest_file

# What a model is made of; other weights in a repository are the same ones in other forms.
_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja"]
_EXPECTED = "a local model folder or an id on the Hugging Face hub"
_MEND = "check the name, the network and HF_HUB_OFFLINE"


@dataclass(frozen=True)
class Base:
    """A model on this machine's disk."""

    name: str
    """As asked for: an id on the hub or a path."""
    folder: Path
    digest: str
    """Of its config and weights."""


def locate(name: str) -> Base:
    """Find a base on disk, or fetch it from the hub into the cache.

    Raises:
        ModelError: there is no such model, no network, or no safetensors in it.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetch(name)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
        raise ModelError(name, "config.json and weights in safetensors", inside)
    digests = [digest_file(file.resolve()) for file in (folder / "config.json", *weights)]
    return Base(name, folder, digest_all(digests))


def _fetch(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(name, _EXPECTED, "no such folder", _MEND)
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except errors.HFValidationError as error:
        raise ModelError(name, _EXPECTED, "neither", _MEND) from error
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as error:
        found = "no such model there, or no right to read it"
        raise ModelError(name, _EXPECTED, found, _MEND) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        found = "not in the cache, and the hub cannot be reached"
        raise ModelError(name, _EXPECTED, found, _MEND) from error
