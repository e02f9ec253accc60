"""The one prompt template that training and inference share.

Pure string work: no tokenizer here. The end-of-sequence token is written by the tokenising
code from the tokenizer's own id, never by a library's default.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from data.errors import ConfigError

# Stanford Alpaca's prompt with input (https://github.com/tatsu-lab/stanford_alpaca), character
# for character as the notebooks had it.
_ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n{neighbours}### Input:\n{attributes}{title}\n\n"
    "### Response:\n"
)
# A catalogue is learned without Alpaca's preamble, which is about a quarter of all tokens trained.
_COMPACT = "{instruction}\n{neighbours}{attributes}Title: {title}\nDescription:\n"

# What the base's own chat template makes a user's message of.
_CHAT = "{instruction}\n{neighbours}{attributes}Title: {title}"

TEMPLATES = {"alpaca": _ALPACA, "compact": _COMPACT, "chat": _CHAT}
_NEAR = "Similar title: {title}\nIts description: {description}\n"
_NEIGHBOUR = {
    "alpaca": "### Similar input:\n{title}\n\n### Its response:\n{description}\n\n",
    "compact": _NEAR,
    "chat": _NEAR,
}
_PLACES = re.compile("{neighbours}|{attributes}|{title}|{description}")
_MOST_NEIGHBOURS = 8
_LONGEST_TITLE = 300
"""Characters of a shown row's title at most; of 5,833 real titles none is longer."""
_TITLE_TOKENS = 128

COLUMNS = ("uid", "title", "content", "split", "sample_key", "source", "byte_offset", "family")
"""What rows of our stages always hold, so that no attribute has such a name."""
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")

SHOPPER = (
    "What is this product like?",
    "Tell me about this product.",
    "What should I know before I buy this?",
    "What does this product offer?",
    "Why would someone want this?",
    "Write a product description.",
)
"""What a shopper would ask about a title."""

# Makes the choice independent of other hashes of a uid.
_CHOICE = 0x7175657374696F6E


def check_attributes(flag: str, names: Sequence[str]) -> None:
    """Check the names of attributes.

    Raises:
        ConfigError: one is there twice, of other characters, or one of ``COLUMNS``.
    """
    for name in names:
        if not _NAME.fullmatch(name) or name in COLUMNS or names.count(name) > 1:
            expected = (
                f"a letter, then letters, digits and _, each once, none of {', '.join(COLUMNS)}"
            )
            raise ConfigError(flag, expected, repr(name))


@dataclass(frozen=True)
class Neighbour:
    """A trained row of a similar title, as a prompt shows it."""

    title: str
    description: str
    """Maybe cut."""


@dataclass(frozen=True)
class Chat:
    """What a base's own chat template sets around a user's message; recorded with the adapter."""

    head: str
    tail: str
    """Up to the answer."""
    end: str
    """The special token that ends an answer."""


@dataclass(frozen=True)
class Prompt:
    """How a title becomes a prompt; recorded with the adapter, so that inference uses the same."""

    template: str = "alpaca"
    """Name of the template: alpaca; compact, which does without Alpaca's preamble; or chat, a
    user's message in the base's own chat template."""

    instruction: list[str] | str = "Write a product description."
    """What the model is told to do with the title: one sentence, or a list of questions of which
    a hash of the row's uid chooses one."""

    neighbours: int = 0
    """How many of the most similar train rows stand before the title, with their descriptions; 0
    to 8, and never the row itself or one of its family."""

    neighbour_tokens: int = 96
    """Tokens of each neighbour's description at most."""

    attributes: list[str] = field(default_factory=list, metadata={"optional": True})
    """Attributes of the catalogue to show before the title, a line each, such as [brand, price];
    a row without one goes without its line."""

    def __post_init__(self) -> None:
        check_attributes("--prompt.attributes", self.attributes)
        if self.template not in TEMPLATES:
            expected = f"one of {', '.join(TEMPLATES)}"
            raise ConfigError("--prompt.template", expected, repr(self.template))
        if not self.instructions or not all(text.strip() for text in self.instructions):
            expected = "a sentence, or a list of questions"
            raise ConfigError("--prompt.instruction", expected, repr(self.instruction))
        if not 0 <= self.neighbours <= _MOST_NEIGHBOURS:
            expected = f"0 to {_MOST_NEIGHBOURS}"
            raise ConfigError("--prompt.neighbours", expected, str(self.neighbours))
        if self.neighbour_tokens < 1:
            raise ConfigError("--prompt.neighbour_tokens", "at least 1", str(self.neighbour_tokens))

    @property
    def recorded(self) -> dict[str, Any]:
        """What decides the prompts, for manifests: what they do not show is left out."""
        names = ["template", "instruction"]
        names += ["neighbours", "neighbour_tokens"] if self.neighbours else []
        names += ["attributes"] if self.attributes else []
        return {name: getattr(self, name) for name in names}

    @property
    def shown_tokens(self) -> int:
        """Tokens of the neighbours, at most but for titles of rare letters."""
        return self.neighbours * (self.neighbour_tokens + _TITLE_TOKENS)

    @property
    def instructions(self) -> list[str]:
        """All the instructions that a row may get."""
        return [self.instruction] if isinstance(self.instruction, str) else list(self.instruction)

    def about(self, values: Mapping[str, str]) -> str:
        """Write the lines of a row's attributes that prompts show, empty ones left out."""
        shown = [(name, values.get(name)) for name in self.attributes]
        return "".join(f"{label(name)}: {value}\n" for name, value in shown if value)

    def about_rows(self, columns: Mapping[str, Sequence[str]], rows: int) -> list[str]:
        """Write the lines of several rows, by columns that hold at least those attributes."""
        shown = {name: columns[name] for name in self.attributes}
        return [
            self.about({name: column[row] for name, column in shown.items()}) for row in range(rows)
        ]

    def render(
        self, title: str, uid: str = "", neighbours: Sequence[Neighbour] = (), about: str = ""
    ) -> str:
        """Render the prompt of one title; the description follows it directly.

        The row's uid chooses among several instructions, always the same one.
        """
        return self.ask(self.choose(uid), title, neighbours, about)

    def choose(self, uid: str) -> str:
        """Choose the instruction of a row."""
        several = self.instructions
        place = 0
        if len(several) > 1:
            place = xxhash.xxh3_64_intdigest(uid.encode(), _CHOICE) % len(several)
        return several[place]

    def ask(
        self, instruction: str, title: str, neighbours: Sequence[Neighbour] = (), about: str = ""
    ) -> str:
        """Render a prompt with an instruction of one's own.

        Args:
            instruction: what to do with the title.
            title: as it stands.
            neighbours: the most similar first; it comes last in the prompt, next to the title,
                where a small model sees it best.
            about: the lines of the title's attributes, as ``about`` writes them.
        """
        # Not str.format twice: a title may itself hold braces.
        head, middle, before, tail = _PLACES.split(TEMPLATES[self.template])
        head = head.replace("{instruction}", instruction)
        shown = "".join(self._show(neighbour) for neighbour in reversed(neighbours))
        return head + shown + middle + about + before + title + tail

    def _show(self, neighbour: Neighbour) -> str:
        head, middle, tail = _PLACES.split(_NEIGHBOUR[self.template])
        title = neighbour.title[:_LONGEST_TITLE]
        return head + title + middle + neighbour.description + tail


def attribute_text(value: Any) -> str:
    """Return a JSON value as the text of an attribute; empty for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, set)):
        return " ".join(map(attribute_text, value))
    if isinstance(value, dict):
        texts = ((name, attribute_text(item)) for name, item in value.items())
        return " ".join(f"{name}: {text}" for name, text in texts if text)
    return str(value)


def attribute_texts(column: Iterable[Any]) -> list[str]:
    """Return a column of Arrow's nested values as texts of an attribute; U+FFFD for no UTF-8."""
    texts = []
    for value in column:
        try:
            texts.append(attribute_text(value.as_py()))
        except UnicodeDecodeError:
            texts.append("\ufffd")
    return texts


def label(name: str) -> str:
    """Name an attribute for people and models: ``shoe_size`` as Shoe size."""
    return name[0].upper() + name[1:].replace("_", " ")
