"""Prompts in, texts out: the protocol, and the reference engine on transformers' ``generate``.

The only file of this stage that imports torch, transformers and peft, and only inside functions.
Loads safetensors only, never remote code. Knows nothing of files of titles or of Dask.
"""

import functools
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from weakref import WeakKeyDictionary

from data import manifest, models
from data.cli import parse_memory
from data.errors import ConfigError, ModelError
from data.manifest import Manifest
from data.prompt import Prompt
from data.shards import Folder, digest_all, digest_file
from data.tokens import TextTokenizer
from inference import progress
from inference.choice import Chooser, row_key

if TYPE_CHECKING:
    import torch

log = logging.getLogger("catalogue")

# For a model that does not tell what it was trained on.
_UNKNOWN_LONGEST = 256
_WORTH_THREADS = 20_000_000
_REFERENCE_BATCH = 64
_PROBE = 32
# Relative distance (2-norm) of logits before and after merging: rounding of weights alone.
_MERGED_APART = {"torch.bfloat16": 0.1, "torch.float32": 1e-3}


@dataclass(frozen=True)
class Request:
    """One text to write."""

    uid: str
    """Keys the draws, so that a row's text does not depend on its batch."""
    prompt: str


@dataclass(frozen=True)
class Completion:
    """One text written."""

    text: str
    finish_reason: str
    """``stop`` at the end of sequence, ``length`` at the limit."""
    prompt_tokens: int
    new_tokens: int
    """Without the end of sequence."""


class Engine(Protocol):
    """What the driver needs of an engine; several threads may call it, one of them decodes."""

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Tell how many tokens each prompt leaves in the model's context, below 0 for none."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, in the order of the requests."""
        ...


@dataclass(frozen=True)
class Model:
    """The weights to write with, found but not loaded."""

    base: str
    """Folder of the base, or of the merged model."""
    adapter: str | None
    digest: str
    """Of weights and tokenizer: the same digest writes the same text."""
    prompt: Prompt
    longest: int
    """Tokens of the longest description that was trained on."""
    made: Manifest | None = None
    """Of the run, or of the export."""
    settings: str = ""
    """Digest of the JSON files beside the weights that change the text as well."""


@dataclass(frozen=True)
class Settings:
    """How an engine writes."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    batch_size: int | None
    """Titles at a time; none: as many as memory allows, 64 in the reference engine."""
    engine: Literal["fast", "reference"]
    device: str
    memory_limit: str | None
    threads: int | None
    """CPU threads of one worker; none: as torch likes."""


def find_model(run: str) -> Model:
    """Find the weights of a run, or a merged model.

    Args:
        run: a run's folder (``adapter/`` and manifest), or a model's (``config.json``).

    Raises:
        ManifestError: the run is unfinished.
        ModelError: neither is there, or the base is not the one that the adapter was trained on.
    """
    folder = Path(run)
    if (folder / "config.json").is_file():
        return _merged(run)
    if not folder.is_dir():
        raise ModelError(run, "the folder of a run or of a model", "none")
    made = manifest.read(Folder(run), "train")
    adapter = folder / "adapter"
    if not (adapter / models.ADAPTER).is_file():
        raise ModelError(str(adapter), f"an adapter with {models.ADAPTER}", "none")
    facts = made.facts
    told = str(facts["base"])
    base = models.locate(str(folder / "base") if told == "base" else told)
    if base.digest != facts["base_digest"]:
        expected = f"the base that the adapter was trained on ({facts['base_digest'][:12]})"
        raise ModelError(base.name, expected, f"another ({base.digest[:12]})")
    weights = [base.digest, digest_file(adapter / models.ADAPTER), _tokenizer_digest(base.folder)]
    return Model(
        str(base.folder), str(adapter), digest_all(weights), Prompt(**facts["prompt"]),
        _longest(facts), made, _settings_digest(adapter / "adapter_config.json", base.folder),
    )  # fmt: skip


def _merged(folder: str) -> Model:
    """Find a merged model: one that ``export`` made tells its prompt, one from elsewhere cannot."""
    base = models.locate(folder)
    digest = digest_all([base.digest, _tokenizer_digest(base.folder)])
    made = None
    if Folder(folder).exists(manifest.NAME):
        made = manifest.read(Folder(folder), "export")
    facts = made.facts if made else {"prompt": {}}
    prompt, longest = Prompt(**facts["prompt"]), _longest(facts)
    if "longest_completion_tokens" not in facts:
        asked = f"the {prompt.template} prompt and " if made is None else ""
        log.warning("%s does not tell how it was trained: %s%s tokens a description at most",
                    folder, asked, longest)  # fmt: skip
    settings = _settings_digest(base.folder)
    return Model(str(base.folder), None, digest, prompt, longest, made, settings)


def _longest(facts: dict[str, Any]) -> int:
    return int(facts.get("longest_completion_tokens") or _UNKNOWN_LONGEST)


def _settings_digest(*places: Path) -> str:
    """Digest what ``Model.digest`` leaves out: the adapter's scale, which tokens are special."""
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    files = [place for place in places if place.is_file()]
    files += [folder / name for folder in places for name in names if (folder / name).is_file()]
    return digest_all([digest_file(file.resolve()) for file in files])


def _tokenizer_digest(folder: Path) -> str:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(str(folder), "a tokenizer.json", "none")
    return digest_file(file)


class Texts:
    """A model's tokenizer: requests to ids, and ids to completions."""

    context: int = 0
    """Positions of the model; set once it is loaded."""

    def __init__(self, model: Model, settings: Settings) -> None:
        import torch
        from transformers import AutoTokenizer

        # A worker sees the GPU that it is to use as its first.
        index = 0 if choose_device(settings.device) == "cuda" else None
        self.device = torch.device(choose_device(settings.device), index)
        self.tokenizer = AutoTokenizer.from_pretrained(
            model.base, padding_side="left", trust_remote_code=False
        )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokens = TextTokenizer(self.tokenizer)
        self.eos = self.tokens.eos

    def fit(self, loaded: Any) -> None:
        """Take the context from the loaded model, which must know every token.

        Raises:
            ModelError: the tokenizer has more tokens than the model.
        """
        models.check_vocabulary(self.tokenizer, loaded, str(self.tokenizer.name_or_path))
        self.context = int(loaded.config.max_position_embeddings)

    def encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts."""
        return self.tokens.encode([request.prompt for request in requests])

    def completions(self, prompts: list[list[int]], new: list[list[int]]) -> list[Completion]:
        """Make completions of new tokens: up to the end of sequence, or where the context ends."""
        kept: list[list[int]] = []
        stopped: list[bool] = []
        for prompt, tokens in zip(prompts, new, strict=True):
            # A row is cut where the context ends, whatever its batch had room for.
            within = tokens[: self.context - len(prompt)]
            stopped.append(self.eos in within)
            kept.append(within[: within.index(self.eos)] if stopped[-1] else within)
        texts = [self.tokenizer.decode(each, skip_special_tokens=True) for each in kept]
        return [
            Completion(text.strip(), "stop" if ends else "length", len(prompt), len(tokens))
            for text, ends, prompt, tokens in zip(texts, stopped, prompts, kept, strict=True)
        ]

    @functools.cached_property
    def _ids(self) -> "WeakKeyDictionary[Request, list[int]]":
        return WeakKeyDictionary()

    def encode_once(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenise prompts, and remember them as long as their requests live.

        Whoever asks for room asks for texts next, and tokenising twice is no small part of both.
        """
        known = {each: ids for each in requests if (ids := self._ids.get(each)) is not None}
        new = [each for each in dict.fromkeys(requests) if each not in known]
        fresh = dict(zip(new, self.encode(new), strict=True))
        self._ids.update(fresh)
        known |= fresh
        return [known[each] for each in requests]


class ReferenceEngine:
    """transformers' ``generate`` on merged weights: any device, batches sorted by length."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._settings = settings
        self._texts = Texts(model, settings)
        self._device = self._texts.device
        limit_memory(settings, self._device)
        self._model = load_merged(model, self._device)
        limit_threads(settings, self._model)
        self._texts.fit(self._model)
        self._context = self._texts.context
        self._one_at_a_time = threading.Lock()

    def room(self, requests: Sequence[Request]) -> list[int]:
        """Tell how many tokens each prompt leaves in the model's context."""
        return [self._context - len(ids) for ids in self._texts.encode_once(requests)]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write the texts, longest prompts first, given back in the order of the requests."""
        ids = self._texts.encode_once(requests)
        order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
        written: dict[int, list[int]] = {}
        size = self._settings.batch_size or _REFERENCE_BATCH
        for start in range(0, len(order), size):
            places = order[start : start + size]
            batch = [ids[place] for place in places]
            with self._one_at_a_time:
                tokens = self._write(batch, [requests[place].uid for place in places])
            written.update(zip(places, tokens, strict=True))
            progress.tell(len(places), sum(map(len, tokens)))
        return self._texts.completions(ids, [written[place] for place in range(len(requests))])

    def _write(self, ids: list[list[int]], uids: list[str]) -> list[list[int]]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        tokenizer, settings = self._texts.tokenizer, self._settings
        padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )
        drawn = [_keyed_choice(uids, settings)] if settings.temperature else []
        try:
            with torch.inference_mode():
                output = self._model.generate(
                    input_ids=padded["input_ids"],
                    attention_mask=padded["attention_mask"],
                    generation_config=config,
                    logits_processor=LogitsProcessorList(drawn),
                )
        except torch.OutOfMemoryError as error:
            expected, found = f"memory for {len(ids)} titles at once", "too little"
            mend = "ask for fewer with --batch_size"
            raise ModelError(str(self._device), expected, found, mend) from error
        new: list[list[int]] = output[:, padded["input_ids"].shape[1] :].tolist()
        return new


def _keyed_choice(uids: Sequence[str], settings: Settings) -> Any:
    """Make a logits processor that turns greedy choice into a draw keyed by row and step."""
    import torch
    from transformers import LogitsProcessor

    chooser = Chooser(settings.temperature, settings.top_p)
    keys = torch.tensor([row_key(uid, settings.seed) for uid in uids])

    class KeyedChoice(LogitsProcessor):  # type: ignore[misc]
        step = 0

        def __call__(self, _: Any, scores: Any) -> Any:
            steps = torch.full((len(scores),), self.step, device=scores.device)
            self.step += 1
            chosen = chooser.choose(scores, keys.to(scores.device), steps)
            return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    return KeyedChoice()


def limit_memory(settings: Settings, device: "torch.device") -> None:
    """Keep this process below ``--memory_limit`` on a GPU."""
    import torch

    if settings.memory_limit and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = parse_memory(settings.memory_limit) / total
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), device)


def limit_threads(settings: Settings, loaded: Any) -> None:
    """Give torch on a CPU its share of the cores, and a small model one of them."""
    import torch

    if settings.threads and loaded.device.type == "cpu":
        # Threads of a small model wait for each other longer than they compute: 64 rows of the
        # sample's model took 1.4 s with one thread, 6 s with two on two busy cores.
        is_small = loaded.num_parameters() < _WORTH_THREADS
        torch.set_num_threads(1 if is_small else settings.threads)


def load_merged(model: Model, device: "torch.device") -> Any:
    """Load base weights, put the adapter into them, in 16 bits on a GPU and 32 on a CPU.

    Raises:
        ModelError: base or adapter are not whole and finite, or do not fit each other.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Missing and other tensors are told by our own error.
    logging.set_verbosity_error()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    loaded = models.load(
        model.base, AutoModelForCausalLM, dtype=dtype, device_map={"": device}
    ).eval()
    if model.adapter:
        loaded = _with_adapter(loaded, model.adapter)
    return loaded.eval()


def _with_adapter(loaded: Any, adapter: str) -> Any:
    """Merge an adapter into its base; the merged model must say what both together said."""
    import peft

    both = models.with_adapter(loaded, adapter, peft)
    before = _probe(both)
    merged = both.merge_and_unload(safe_merge=True)
    apart = float((_probe(merged) - before).norm() / before.norm())
    if not apart <= _MERGED_APART[str(merged.dtype)]:
        found = f"logits that are {apart:.1%} apart"
        raise ModelError(adapter, "a merge that says what adapter and base say", found)
    return merged


def _probe(model: Any) -> "torch.Tensor":
    """Give the logits of a few tokens: float32 [tokens, vocabulary]."""
    import torch

    ids = torch.arange(_PROBE, device=model.device)[None] % model.config.vocab_size
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits[0].float()
    return logits


def choose_device(asked: str) -> str:
    """Choose ``cuda`` or ``cpu``.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ConfigError("--device", "a CUDA device", "none that torch can use")
    return asked if asked != "auto" else ("cuda" if there else "cpu")


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
