"""A row becomes tokens: the prompt, the description and the end-of-sequence, with their labels.

Pure: rows in, a table and its figures out. Knows nothing of files, models or optimisation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from data.prompt import Neighbour, Prompt
from data.tokens import TextTokenizer, chat_of
from training import guards

IGNORED = guards.IGNORED
TOKENISED = pa.schema(
    [
        pa.field("input_ids", pa.list_(pa.int32())),
        pa.field("labels", pa.list_(pa.int32())),
        pa.field("length", pa.int32()),
    ]
)
"""A row as the model sees it; ``labels`` is ``IGNORED`` where nothing is learned."""

Near = Callable[[str], tuple[Neighbour, ...]]
"""Finds what the prompt of a title shows of others, the most similar first."""

NAMED = 20
_SAMPLED, _LONG = 10_000, 0.98
"""Cut or left out rows that are named at most."""


@dataclass(frozen=True)
class TokenisationConfig:
    """How a row becomes tokens."""

    prompt: Prompt
    loss_on: Literal["completion", "full"]
    max_length: int


@dataclass(frozen=True)
class Seen:
    """Figures of tokenised rows; adding two adds every number."""

    rows: int = 0
    tokens: int = 0
    learned: int = 0
    """Tokens with a label."""
    truncated: int = 0
    truncated_uids: tuple[str, ...] = ()
    """Of the first rows whose description was cut."""
    left_out: int = 0
    """Rows, not among ``rows``, whose prompt alone fills ``max_length``."""
    left_out_uids: tuple[str, ...] = ()
    """Of the first of them."""
    split_boundaries: int = 0
    """Rows where prompt and description, written together, would have shared a token."""
    longest: int = 0
    longest_completion: int = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        return {"no_room": self.left_out} if self.left_out else {}

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.learned + other.learned,
            self.truncated + other.truncated,
            (self.truncated_uids + other.truncated_uids)[:NAMED],
            self.left_out + other.left_out,
            (self.left_out_uids + other.left_out_uids)[:NAMED],
            self.split_boundaries + other.split_boundaries,
            max(self.longest, other.longest),
            max(self.longest_completion, other.longest_completion),
        )


class Encoder:
    """Turns rows into ids and labels; adds the end-of-sequence id itself.

    Raises:
        ModelError: the tokenizer is a slow one, or has no end-of-sequence token, or no chat
            template where the prompt's is that.
    """

    def __init__(self, tokenizer: Any, form: TokenisationConfig) -> None:
        self.tokenizer, self.form = tokenizer, form
        self.chat = chat_of(tokenizer) if form.prompt.template == "chat" else None
        self._tokens = TextTokenizer(tokenizer, self.chat)

    @property
    def digest(self) -> str:
        """Digest all that decides the ids of a text."""
        return self._tokens.digest

    @property
    def columns(self) -> list[str]:
        """Name what it reads of rows."""
        return ["uid", "title", "content", *self.form.prompt.attributes]

    def cut(self, descriptions: list[str]) -> list[str]:
        """Cut descriptions to what a prompt shows of neighbours."""
        return self._tokens.cut(descriptions, self.form.prompt.neighbour_tokens)

    def encode_rows(
        self, rows: dict[str, list[str]], near: Near = lambda _title: ()
    ) -> tuple[pa.Table, Seen]:
        """Tokenise a batch of rows.

        Args:
            rows: lists of N, named by ``columns``.
            near: finds the neighbours of a title.

        Returns:
            At most N rows of schema ``TOKENISED``, and their figures. A row is left out where its
            prompt leaves no room for a single token of its description.

        Raises:
            BatchError: a row must not be trained on.
        """
        prompt = self.form.prompt
        about = prompt.about_rows(rows, len(rows["uid"]))
        prompts = [
            prompt.render(title, uid, near(title), lines)
            for title, uid, lines in zip(rows["title"], rows["uid"], about, strict=True)
        ]
        heads = self._tokens.encode(prompts)
        has_room = [len(head) < self.form.max_length for head in heads]
        left_out = [uid for uid, room in zip(rows["uid"], has_room, strict=True) if not room]
        uids = list(compress(rows["uid"], has_room))
        heads = list(compress(heads, has_room))
        contents = list(compress(rows["content"], has_room))
        bodies, split = self._tokens.extend(list(compress(prompts, has_room)), heads, contents)
        lengths = [len(head) for head in heads]
        table, seen = self._lay_out(uids, lengths, bodies)
        guards.check_rows(table, uids, self._tokens.eos, self.form.max_length)
        if self.form.loss_on == "completion":
            guards.check_prompt_unlearned(table, lengths, uids)
        return table, replace(
            seen, split_boundaries=split, left_out=len(left_out),
            left_out_uids=tuple(left_out[:NAMED]),
        )  # fmt: skip

    def completion_tokens(self, contents: pa.ChunkedArray) -> tuple[int, int]:
        """Count the tokens of descriptions with their end: the mean, and what 98 % keep within.

        The first 10,000 are counted; they are a random sample, as subsets are in random order.
        """
        texts = contents.slice(0, _SAMPLED).to_pylist()
        lengths = [len(ids) + 1 for ids in self._tokens.alone(texts)]
        figures = np.mean(lengths), np.quantile(lengths, _LONG)
        mean, long = (min(round(float(figure)), self.form.max_length) for figure in figures)
        return mean, long

    def _lay_out(
        self, uids: list[str], heads: list[int], bodies: list[list[int]]
    ) -> tuple[pa.Table, Seen]:
        limit, eos = self.form.max_length, self._tokens.eos
        ids, labels, cut = [], [], []
        for uid, head, body in zip(uids, heads, bodies, strict=True):
            row = [*body, eos]
            if len(row) > limit:
                row = row[:limit]
                cut.append(uid)
            ids.append(np.array(row, np.int32))
            label = ids[-1].copy()
            if self.form.loss_on == "completion":
                label[:head] = IGNORED
            labels.append(label)
        lengths = np.array([len(row) for row in ids], np.int32)
        columns = [_list_column(ids), _list_column(labels), pa.array(lengths)]
        learned = sum(int((label != IGNORED).sum()) for label in labels)
        completions = lengths - np.array(heads)
        seen = Seen(
            len(uids), int(lengths.sum()), learned, len(cut), tuple(cut[:NAMED]),
            longest=int(lengths.max(initial=0)),
            longest_completion=int(completions.max(initial=0)),
        )  # fmt: skip
        return pa.table(columns, schema=TOKENISED), seen


def _list_column(rows: list[np.ndarray]) -> pa.Array:
    offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
    values = np.concatenate([np.empty(0, np.int32), *rows])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
