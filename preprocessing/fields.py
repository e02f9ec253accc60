"""Which fields of a record become uid, title, content and attributes, and how values become text.

Pure. A text is text, or a list of texts joined by spaces; a number is its digits.
"""

from dataclasses import dataclass
from typing import Any

from data.prompt import attribute_text
from preprocessing.config import COLUMNS, CleanConfig


class Number(str):
    """A number as its digits: of any length, and yet no text."""


@dataclass(frozen=True)
class Fields:
    """The fields of records that are read."""

    uid: str | None = "uid"
    """None: the row's number in its file, from 0, stands in for it."""
    title: str = "title"
    content: str = "content"
    attributes: tuple[tuple[str, str], ...] = ()
    """Our name and theirs."""
    is_strict: bool = True
    """Whether all three are text, as where no columns are stated: no lists, no numbers."""

    @classmethod
    def of(cls, config: CleanConfig) -> "Fields":
        """Read the fields off a config."""
        columns = {name: name for name in COLUMNS} | (config.columns or {})
        attributes = tuple((name, columns.get(name) or name) for name in config.attributes)
        title, content = str(columns["title"]), str(columns["content"])
        return cls(columns["uid"], title, content, attributes, config.columns is None)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, each once, in order."""
        uid = () if self.uid is None else (self.uid,)
        theirs = (theirs for _, theirs in self.attributes)
        return tuple(dict.fromkeys((*uid, self.title, self.content, *theirs)))

    @property
    def required(self) -> tuple[str, ...]:
        """Those without which a record is none, each once."""
        uid = () if self.uid is None else (self.uid,)
        return tuple(dict.fromkeys((*uid, self.title, self.content)))

    def texts(self, record: dict[str, Any], number: int) -> tuple[str, ...] | str:
        """Return uid, title, content and attributes of a record, or the reason why it is none.

        Args:
            record: with numbers as ``Number``.
            number: of the row in its file.
        """
        if any(name not in record for name in self.required):
            return "missing_field"
        uid = Number(number) if self.uid is None else record[self.uid]
        if isinstance(uid, Number) and (self.uid is None or not self.is_strict):
            uid = str(uid)
        texts = [uid if type(uid) is str else None]
        texts += [self._text(record[name]) for name in (self.title, self.content)]
        if any(text is None for text in texts):
            return "wrong_type"
        texts += [attribute_text(record.get(theirs)) for _, theirs in self.attributes]
        return tuple(str(text) for text in texts)

    def _text(self, value: Any) -> str | None:
        if type(value) is str:
            return value
        if self.is_strict or not isinstance(value, list):
            return None
        return " ".join(value) if all(type(item) is str for item in value) else None
