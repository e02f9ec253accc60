"""How likely a model finds real descriptions: negative log-likelihood of each, in nats.

Imports torch only inside functions. Rows are tokenised as in training: the description follows
its prompt, text never makes a special token, the end-of-sequence id comes last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.engine.requests import Request, Settings
from inference.engine.texts import Texts
from inference.engine.weights import Model, limit_memory, limit_threads, load_merged

Floats = NDArray[np.float64]

_PAD = 0
_IGNORED = -100
# Logits of a batch in float32: half a GiB.
_MOST_LOGITS = 2**27
_MOST_ROWS = 64


@dataclass(frozen=True)
class ScoredRow:
    """A description in tokens."""

    ids: list[int]
    """Prompt, description, end of sequence."""
    prompt: int
    """Tokens of the prompt."""


def score(
    model: Model, settings: Settings, prompts: Sequence[Request], replies: Sequence[str]
) -> Floats:
    """Score what the real descriptions cost.

    Args:
        model: base, with or without an adapter.
        settings: device, memory and threads.
        prompts: N, one a description.
        replies: N descriptions.

    Returns:
        [N, 2]: negative log-likelihood of the description and its end in nats, and its tokens; a
        row that the context cuts counts as far as it goes, one without room is (0, 0).
    """
    texts = Texts(model, settings)
    limit_memory(settings, texts.device)
    loaded = load_merged(model, texts.device)
    limit_threads(settings, loaded)
    texts.fit(loaded)
    limit = texts.context
    if model.made:
        limit = min(limit, int(model.made.facts.get("max_length") or limit))
    rows = encode(texts, prompts, replies, limit)
    found = np.zeros((len(rows), 2))
    for places in batches([len(row.ids) for row in rows], int(loaded.config.vocab_size)):
        found[places] = cost(loaded, [rows[place] for place in places])
    return found


def encode(
    texts: Texts, prompts: Sequence[Request], replies: Sequence[str], limit: int
) -> list[ScoredRow]:
    """Tokenise prompts with their descriptions, up to a number of tokens."""
    heads = texts.encode(prompts)
    bodies, _ = texts.tokens.extend([each.prompt for each in prompts], heads, list(replies))
    return [
        ScoredRow([*ids, texts.eos][:limit], len(head))
        for head, ids in zip(heads, bodies, strict=True)
    ]


def batches(lengths: Sequence[int], vocabulary: int) -> Iterator[list[int]]:
    """Cut rows into batches of like lengths whose logits fit: positions, longest first."""
    held: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = lengths[held[0]] if held else lengths[place]
        if len(held) == _MOST_ROWS or (len(held) + 1) * longest * vocabulary > _MOST_LOGITS:
            if held:
                yield held
            held = []
        held.append(place)
    if held:
        yield held


def cost(loaded: Any, rows: Sequence[ScoredRow]) -> Floats:
    """Give each row's negative log-likelihood and tokens: [rows, 2]."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), _PAD)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), _IGNORED)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        mask[place, : len(row.ids)] = 1
        labels[place, row.prompt : len(row.ids)] = torch.tensor(row.ids[row.prompt :])
    device: torch.device = loaded.device
    with torch.inference_mode():
        logits = loaded(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        target = labels[:, 1:].to(device)
        nats = cross_entropy(
            logits[:, :-1].float().transpose(1, 2), target, ignore_index=_IGNORED, reduction="none"
        )
        told = torch.stack([nats.double().sum(1), (target != _IGNORED).double().sum(1)], dim=1)
    made: Floats = told.cpu().numpy()
    return made
