"""Runs and models on disk: what they are made of, and what each passes before it is used.

Training and inference must mean the same base, whole and finite. Safetensors only, and never a
model's own code. Imports no model library: what loads is passed in.
"""

import dataclasses
import json
import logging
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.artefacts import manifest
from data.artefacts.folder import Folder, digest_all, digest_file
from data.artefacts.manifest import Manifest
from data.cli import faults
from data.errors import ModelError
from data.prompt import Prompt

log = logging.getLogger("catalogue")

ADAPTER = "adapter_model.safetensors"
BASE = "base"
"""Folder of a base that a run made itself, beside its adapter; also its name in the facts."""

# What a model is made of; other weights in a repository are the same ones in other forms.
_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja"]
# JSON files beside the weights that say which tokens are special.
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_EXPECTED = "a local model folder or an id on the Hugging Face hub"
_HINT = "check the name, the network and HF_HUB_OFFLINE"
_WHOLE = "weights that are whole and fit their config.json"
# Tokens of a description, for a model whose training is not recorded.
_USUAL_LONGEST = 256


@dataclass(frozen=True)
class Base:
    """A model on this machine's disk."""

    name: str
    """As the user named it: an id on the hub or a path."""
    folder: Path
    digest: str
    """Of its config and weights."""


@dataclass(frozen=True)
class RunFacts:
    """What the manifest of a run records for later stages; that of an export has all but ``base``.

    The fields are the keys in the manifest.
    """

    base: str = ""
    """An id on the hub or a path; ``BASE``: the folder in the run's own."""
    base_digest: str = ""
    prompt: Prompt | None = None
    max_length: int | None = None
    """Tokens of a trained row at most."""
    longest_completion_tokens: int | None = None
    mean_completion_tokens: int | None = None
    long_completion_tokens: int | None = None
    """98 % of the descriptions trained on keep within these."""

    @classmethod
    def of(cls, record: Manifest) -> "RunFacts":
        """Read them from the manifest of a run or an export; earlier versions wrote fewer."""
        names = {field.name for field in dataclasses.fields(cls)}
        facts = {name: value for name, value in record.facts.items() if name in names}
        if "prompt" in facts:
            facts["prompt"] = Prompt(**facts["prompt"])
        return cls(**facts)

    def as_facts(self) -> dict[str, Any]:
        """Return what is set, as it stands in a manifest."""
        facts = dataclasses.asdict(self)
        return {name: value for name, value in facts.items() if value not in (None, "")}

    def find_base(self, run: Path) -> Base:
        """Find the base of a run's adapter.

        Raises:
            ModelError: it is missing, or not the one that the adapter was trained on.
        """
        base = locate(str(run / BASE) if self.base == BASE else self.base)
        if base.digest != self.base_digest:
            expected = f"the base that the adapter was trained on ({self.base_digest[:12]})"
            other = f"another ({base.digest[:12]})"
            raise ModelError(base.name, expected, other, "bring back the base")
        return base


@dataclass(frozen=True)
class Run:
    """A finished training run, or a merged model: found on disk, not loaded."""

    base: str
    """Folder of the base, or of the merged model."""
    adapter: str | None
    """Its folder; none: a merged model."""
    digest: str
    """Of weights and tokenizer: the same digest writes the same text."""
    prompt: Prompt
    longest: int
    """Tokens of the longest description that was trained on."""
    record: Manifest | None = None
    """Of the run, or of the export; none: a model from elsewhere."""
    settings: str = ""
    """Digest of the JSON files beside the weights that change the text as well."""
    base_digest: str = ""
    max_length: int | None = None
    """Tokens of a trained row at most, where that is recorded."""
    mean_completion_tokens: int | None = None
    """Tokens of a description that was trained on, where that is recorded."""
    long_completion_tokens: int | None = None
    """Tokens that 98 % of them keep within, where that is recorded."""

    @classmethod
    def open(cls, path: str) -> "Run":
        """Find a run or a merged model, check its files and read its facts.

        Args:
            path: a run's folder (``adapter/`` and manifest), or a model's (``config.json``).

        Raises:
            ManifestError: the run is unfinished, or a file of it was changed.
            ModelError: neither is there, or the base is not the one that the adapter was trained
                on.
        """
        folder, record = Path(path), None
        if not folder.is_dir():
            raise ModelError(path, "the folder of a run or of a model", "none")
        is_merged = (folder / "config.json").is_file()
        if not is_merged or Folder(path).exists(manifest.NAME):
            record = manifest.read(Folder(path), "export" if is_merged else "train")
            record.check(Folder(path))
        facts = RunFacts.of(record) if record else RunFacts()
        base = locate(path) if is_merged else facts.find_base(folder)
        weights, settings = [base.digest], [base.folder / name for name in _SETTINGS]
        adapter, tokenizer = folder / "adapter", base.folder / "tokenizer.json"
        if is_merged:
            _warn_of_defaults(path, facts)
        elif (adapter / ADAPTER).is_file():
            weights.append(digest_file(adapter / ADAPTER))
            settings.insert(0, adapter / "adapter_config.json")
        else:
            raise ModelError(str(adapter), f"an adapter with {ADAPTER}", "none")
        if not tokenizer.is_file():
            raise ModelError(str(base.folder), "a tokenizer.json", "none")
        return cls(
            base=str(base.folder),
            adapter=None if is_merged else str(adapter),
            digest=digest_all([*weights, digest_file(tokenizer)]),
            prompt=facts.prompt or Prompt(),
            longest=int(facts.longest_completion_tokens or _USUAL_LONGEST),
            record=record,
            settings=digest_all([digest_file(f.resolve()) for f in settings if f.is_file()]),
            base_digest=facts.base_digest or base.digest,
            max_length=facts.max_length,
            mean_completion_tokens=facts.mean_completion_tokens,
            long_completion_tokens=facts.long_completion_tokens,
        )

    @property
    def max_new_tokens(self) -> int:
        """Tokens of a text at most, unless a command says otherwise: the longest and an eighth."""
        return self.longest + self.longest // 8 + 1

    def without_adapter(self) -> "Run":
        """Return the base alone: same prompt, same limits."""
        return dataclasses.replace(self, adapter=None, digest=f"base of {self.digest}")


def _warn_of_defaults(path: str, facts: RunFacts) -> None:
    """Warn of what a merged model does not record; one from elsewhere records nothing."""
    if facts.longest_completion_tokens is None:
        prompt = "" if facts.prompt else f"the {Prompt().template} prompt and "
        log.warning("%s does not tell how it was trained: %s%s tokens a description at most",
                    path, prompt, _USUAL_LONGEST)  # fmt: skip


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
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
        raise ModelError(name, "config.json and weights in safetensors", names)
    digests = [digest_file(file.resolve()) for file in (folder / "config.json", *weights)]
    return Base(name, folder, digest_all(digests))


def _fetch(name: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(name, _EXPECTED, "no such folder", _HINT)
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except errors.HFValidationError as error:
        raise ModelError(name, _EXPECTED, "neither", _HINT) from error
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as error:
        reason = "no such model there, or no right to read it"
        raise ModelError(name, _EXPECTED, reason, _HINT) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        reason = "not in the cache, and the hub cannot be reached"
        raise ModelError(name, _EXPECTED, reason, _HINT) from error


def load(folder: str | Path, auto: Any, **how: Any) -> Any:
    """Load a model that is whole, finite, not quantised, and says how long its texts may be.

    Its own generation settings are ignored: texts follow from weights and our flags alone.

    Args:
        folder: with config.json and weights in safetensors.
        auto: ``transformers.AutoModelForCausalLM``.
        how: further arguments, such as ``dtype``; with ``device_map={"": "meta"}`` names, shapes
            and settings alone are checked, in the time that it takes to read the files' heads.

    Raises:
        ModelError: a tensor is missing, of another shape or not finite, or a setting is one that
            training, export or inference cannot use.
    """
    where = str(folder)
    _check_settings(Path(folder))
    try:
        loaded, seen = auto.from_pretrained(
            where, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **how
        )
    except Exception as error:
        if faults.lacking(error):
            raise
        # Of safetensors, transformers or torch: each has errors of its own.
        raise ModelError(where, _WHOLE, _reason(error)) from error
    _check_names(seen["missing_keys"], (), where, _WHOLE)
    if getattr(loaded.config, "max_position_embeddings", None) is None:
        expected = "a config.json with max_position_embeddings"
        raise ModelError(where, expected, "none", "take a base that says how many tokens it reads")
    check_finite(loaded.named_parameters(), where)
    loaded.generation_config = type(loaded.generation_config)()
    return loaded


def _check_settings(folder: Path) -> None:
    """Refuse what config.json alone shows to be unusable, before a library fails on it."""
    where = str(folder)
    try:
        settings = json.loads((folder / "config.json").read_text())
        kind, quantised = settings.get("model_type"), settings.get("quantization_config")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(where, "a config.json", _reason(error)) from error
    if not kind:
        raise ModelError(where, "a config.json with a model_type", "none")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        hint = "take the base in 16 or 32 bits"
        raise ModelError(where, "weights that are not quantised", str(method or "some"), hint)


def _reason(error: Exception) -> str:
    """Return in a line what a library's error means."""
    text = str(error)
    if "trust_remote_code" in text:
        return "one that needs code of its own, which is never run"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Its first line names the class that was loaded into.
    if lines and lines[0].startswith("Error(s) in loading") and len(lines) > 1:
        return lines[1]
    if "ignore_mismatched_sizes" in text:
        return "tensors of other shapes"
    return lines[0] if lines else type(error).__name__


def check_finite(tensors: Iterable[tuple[str, Any]], where: str, hint: str = "") -> None:
    """Check that no weight is NaN or infinite, in one pass.

    Raises:
        ModelError: one is; names its tensor.
    """
    for name, tensor in tensors:
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # What is not finite stays so in a sum, in a twentieth of the time of a test of each: 0.4 s
        # for 1.1e9 weights on one core. A sum of large finite ones may overflow: then each is.
        if not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise ModelError(where, "finite weights", f"NaN or infinity in {name}", hint)


def _check_names(
    missing: Collection[str], other: Collection[str], where: str, expected: str
) -> None:
    for names, kind in ((missing, "lacks"), (other, "holds beside it")):
        if names:
            first, more = min(names), f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(where, expected, f"one that {kind} {first}{more}")


def check_vocabulary(tokenizer: Any, loaded: Any, where: str) -> None:
    """Check that the model has an embedding for every token of its tokenizer.

    Raises:
        ModelError: the tokenizer has more tokens; they would read foreign memory.
    """
    embeddings = loaded.get_input_embeddings().weight.shape[0]
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokens > embeddings:
        expected = f"a tokenizer of at most the model's {embeddings:,} tokens"
        raise ModelError(where, expected, f"{tokens:,}", "take the tokenizer that came with it")


def with_adapter(loaded: Any, folder: str | Path, peft: Any) -> Any:
    """Put an adapter onto its base: every tensor there, finite, and no other.

    Args:
        loaded: the base.
        folder: of the adapter.
        peft: the module.

    Raises:
        ModelError: it is damaged, not finite, or of another base.
    """
    where, expected = str(folder), "an adapter of this base model"
    names = adapter_names(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing tensors, which are refused below
            both = peft.PeftModel.from_pretrained(loaded, where).eval()
    except Exception as error:
        if faults.lacking(error):
            raise
        raise ModelError(where, expected, _reason(error)) from error
    check_adapter(both, names, where, peft)
    return both


def adapter_names(folder: str | Path) -> set[str]:
    """Read the names of an adapter's tensors.

    Raises:
        ModelError: there is none in safetensors, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / ADAPTER
    if not path.is_file():
        raise ModelError(str(folder), f"an adapter with {ADAPTER}", "none")
    try:
        with safe_open(str(path), "np") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(str(folder), "an adapter of this base model", _reason(error)) from error


def check_adapter(both: Any, names: set[str], where: str, peft: Any) -> None:
    """Check that an adapter on its base has the tensors that its file had, all finite.

    Raises:
        ModelError: one is missing, another is there, or one is not finite; names it.
    """
    own = peft.get_peft_model_state_dict(both, save_embedding_layers=False)
    expected = "an adapter with the tensors that its adapter_config.json asks for"
    _check_names(own.keys() - names, names - own.keys(), where, expected)
    check_finite(own.items(), where)
