"""Text to token ids: prompts, and prompts with their descriptions, the same in every stage.

What is trained on, scored and asked must begin with the same ids. Works on a tokenizer of
transformers that is handed in; imports no model library.
"""

import datetime
from functools import cached_property
from typing import Any

from data.artefacts.folder import digest_bytes
from data.errors import ModelError
from data.prompt import Chat

# Texts that a description is set behind where it cannot be encoded alone; the first that shares
# no token with it is taken.
_ANCHORS = ("\n", ":", "0", "a")
# Stand for the user's message and the answer; templates may strip white space, but no letters.
_MESSAGE, _ANSWER = "MESSAGEOFTHEUSER", "ANSWEROFTHEMODEL"
# What templates that tell today's date tell: else a run that goes on tomorrow had other prompts.
# Llama 3's own where it knows none.
_DAY = datetime.date(2024, 7, 26)


def chat_of(tokenizer: Any) -> Chat:
    """Read what a tokenizer's chat template sets around a message and behind an answer.

    An answer ends with the template's first special token behind it, else with the tokenizer's own
    end of sequence.

    Raises:
        ModelError: it has no chat template, or one that takes no single message of a user.
    """
    name, hint = str(tokenizer.name_or_path), "take --prompt.template compact, or a chat model"
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(name, "a chat template, as --prompt.template is chat", "none", hint)
    message = {"role": "user", "content": _MESSAGE}
    answer = {"role": "assistant", "content": _ANSWER}
    try:
        asked, whole = (
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=asks, strftime_now=_DAY.strftime
            )
            for messages, asks in (([message], True), ([message, answer], False))
        )
    except Exception as error:  # templates raise what they like
        raise ModelError(name, "a chat template for one message", str(error), hint) from error
    head, message_stands, tail = asked.partition(_MESSAGE)
    _, answer_stands, behind = whole.partition(_ANSWER)
    if not (message_stands and answer_stands):
        raise ModelError(name, "a chat template that shows its messages", "another", hint)
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    special = {token.content: behind.find(token.content) for token in added if token.special}
    ends = sorted((at, token) for token, at in special.items() if at >= 0)
    return Chat(head, tail, ends[0][1] if ends else str(tokenizer.eos_token))


class TextTokenizer:
    """A fast tokenizer's own ids, with special tokens at the beginning alone.

    Some tokenizers end every text with special tokens, an end-of-sequence most often: a prompt
    has none, and who trains on a description ends it himself. Text that happens to spell a
    special token stays text: a description that holds ``</s>``, which old web pages do, must not
    end there.
    """

    def __init__(self, tokenizer: Any, chat: Chat | None = None) -> None:
        """Copy the backend of transformers' tokenizer: truncation and padding set later stay out.

        Args:
            tokenizer: of the base.
            chat: what stands around prompts, whose special tokens are real ones.

        Raises:
            ModelError: it is a slow one, or has no end-of-sequence token.
        """
        backend, name = getattr(tokenizer, "backend_tokenizer", None), str(tokenizer.name_or_path)
        if backend is None:
            raise ModelError(name, "a fast tokenizer (tokenizer.json)", "a slow one")
        if tokenizer.eos_token_id is None:
            raise ModelError(name, "a tokenizer with an end-of-sequence token", "none")
        self.eos = int(tokenizer.eos_token_id)
        """Id of the token that ends a description."""
        self._backend = type(backend).from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._around: tuple[list[int], list[int]] | None = None
        if chat:
            self.eos = int(self._backend.token_to_id(chat.end))
            self._around = (self._plain([chat.head])[0], self._tail(chat.tail))
        self._backend.encode_special_tokens = True

    @cached_property
    def ending(self) -> list[int]:
        """The special tokens that the tokenizer sets behind a text."""
        probe = self._backend.encode("x")
        first = next(
            (at for at, mask in enumerate(probe.special_tokens_mask[::-1]) if not mask),
            len(probe.ids),
        )
        return list(probe.ids[len(probe.ids) - first :])

    @cached_property
    def _begins_words(self) -> bool:
        """Whether a text alone begins otherwise than behind another one: with a space."""
        behind = [self._behind(anchor, "x") for anchor in _ANCHORS]
        return any(behind) and self._plain(["x"])[0] not in behind

    @property
    def digest(self) -> str:
        """Digest all that decides the ids."""
        rules = f"{self._backend.to_str()}\n{self.eos}"
        # The first version encoded otherwise with such tokenizers.
        if self.ending not in ([], [self.eos]) or self._begins_words:
            rules += "\nends and begins nowhere"
        if self._around:
            rules += f"\nbetween {self._around}"
        return digest_bytes(rules.encode())

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Encode prompts: with the tokenizer's own begin-of-sequence where it adds one.

        With a chat template, with what it sets around them instead.
        """
        if self._around:
            head, tail = self._around
            return [[*head, *ids, *tail] for ids in self._tails(texts)]
        return self.alone(texts)

    def alone(self, texts: list[str]) -> list[list[int]]:
        """Encode texts that nothing stands around but a begin-of-sequence."""
        cut = len(self.ending)
        encoded = self._backend.encode_batch_fast(texts)
        return [one.ids[: len(one.ids) - cut] for one in encoded]

    def cut(self, texts: list[str], most: int) -> list[str]:
        """Cut texts behind so many tokens at most, never inside a character."""
        encoded = self._backend.encode_batch(texts, add_special_tokens=False)
        return [
            text[: _whole(one.offsets, most)].rstrip()
            for text, one in zip(texts, encoded, strict=True)
        ]

    def extend(
        self, prompts: list[str], heads: list[list[int]], descriptions: list[str]
    ) -> tuple[list[list[int]], int]:
        """Encode prompts with their descriptions, none of whose tokens reaches into the prompt.

        With a token across the boundary, inference could never feed what was trained on.

        Args:
            prompts: N.
            heads: N, from ``encode``.
            descriptions: N.

        Returns:
            N lists that begin with their heads, without an end-of-sequence; and how many had to
            be parted at the boundary.
        """
        if self._around:
            return [
                head + ids for head, ids in zip(heads, self._tails(descriptions), strict=True)
            ], 0
        both = [prompt + text for prompt, text in zip(prompts, descriptions, strict=True)]
        wholes = self.encode(both)
        parted = [at for at, head in enumerate(heads) if wholes[at][: len(head)] != head]
        for at in parted:
            wholes[at] = heads[at] + self._tail(descriptions[at])
        return wholes, len(parted)

    def _tails(self, texts: list[str]) -> list[list[int]]:
        """Encode texts that others stand before."""
        return [self._tail(text) for text in texts] if self._begins_words else self._plain(texts)

    def _tail(self, text: str) -> list[int]:
        """Encode a text that another one stands before."""
        if self._begins_words:
            for anchor in _ANCHORS:
                if (tail := self._behind(anchor, text)) is not None:
                    return tail
        return self._plain([text])[0]

    def _behind(self, anchor: str, text: str) -> list[int] | None:
        """Encode a text behind another one; None where they share a token."""
        head, both = self._plain([anchor, anchor + text])
        return both[len(head) :] if both[: len(head)] == head else None

    def _plain(self, texts: list[str]) -> list[list[int]]:
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [one.ids for one in encoded]


def _whole(offsets: list[tuple[int, int]], most: int) -> int | None:
    """Return where the last of so many tokens ends that shares no character with the next one.

    None where there are no more tokens than that.
    """
    if len(offsets) <= most:
        return None
    while most and offsets[most - 1][1] > offsets[most][0]:
        most -= 1
    return offsets[most - 1][1] if most else 0
