"""How likely a model finds real descriptions: negative log-likelihood of each, in nats.

Imports torch only inside functions. Rows are tokenised as in training: the description follows
its prompt, text never makes a special token, the end-of-sequence id comes last.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.artefacts.run import Run
from inference.engine import weights
from inference.engine.requests import Request, Settings

Floats = NDArray[np.float64]

_IGNORED = -100
# Logits of a batch in float32: half a GiB.
_MOST_LOGITS = 2**27
_MOST_ROWS = 64


def score(
    model: Run, settings: Settings, prompts: Sequence[Request], replies: Sequence[str]
) -> Floats:
    """Compute what the real descriptions cost.

    Args:
        model: base, with or without an adapter.
        settings: device, memory and threads.
        prompts: N, one a description.
        replies: N descriptions.

    Returns:
        [N, 2]: negative log-likelihood of the description and its end in nats, and its tokens; a
        row that the context cuts counts as far as it goes, one without room is (0, 0).
    """
    loaded, tokenizer = weights.load(model, settings)
    limit = min(tokenizer.context, model.max_length or tokenizer.context)
    heads = tokenizer.encode(prompts)
    ids, _ = tokenizer.tokens.extend([request.prompt for request in prompts], heads, list(replies))
    rows = [[*whole, tokenizer.eos][:limit] for whole in ids]
    costs = np.zeros((len(rows), 2))
    for places in batches([len(row) for row in rows], int(loaded.config.vocab_size)):
        prompt_tokens = [len(heads[place]) for place in places]
        costs[places] = cost(loaded, [rows[place] for place in places], prompt_tokens)
    return costs


def batches(lengths: Sequence[int], vocabulary: int) -> Iterator[list[int]]:
    """Cut rows into batches of like lengths whose logits fit: positions, longest first."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        rows = len(batch) + 1
        if batch and (rows > _MOST_ROWS or rows * lengths[batch[0]] * vocabulary > _MOST_LOGITS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def cost(loaded: Any, rows: Sequence[list[int]], prompt_tokens: Sequence[int]) -> Floats:
    """Compute the negative log-likelihood and the tokens of what follows each prompt: [rows, 2].

    Args:
        loaded: the model.
        rows: ids of prompt, description and end of sequence.
        prompt_tokens: how many ids of each row are its prompt's.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    positions = torch.arange(ids.shape[1])
    is_within = positions < torch.tensor([[len(row)] for row in rows])
    is_prompt = positions < torch.tensor([[tokens] for tokens in prompt_tokens])
    mask = is_within.long()
    labels = ids.masked_fill(is_prompt | ~is_within, _IGNORED)
    device: torch.device = loaded.device
    with torch.inference_mode():
        logits = loaded(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        target = labels[:, 1:].to(device)
        nats = cross_entropy(
            logits[:, :-1].float().transpose(1, 2), target, ignore_index=_IGNORED, reduction="none"
        )
        tokens = (target != _IGNORED).double().sum(1)
        costs: Floats = torch.stack([nats.double().sum(1), tokens], dim=1).cpu().numpy()
    return costs
