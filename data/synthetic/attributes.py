"""Attributes of invented records: a brand and a colour that the description names, not the title.

Pure: a line in, a line with two more fields out. A model can name them only where its prompt shows
them, so that a check can see what showing them is worth.
"""

import json

from data.synthetic import draws, grammar

NAMES = ("brand", "colour")
# Those before it are taken by ``records`` and ``broken``.
_STREAM = 6
_SENTENCES = (
    "Offered by {brand} in {colour}.",
    "From {brand}, and in {colour}.",
    "Brought out by {brand} in {colour}.",
)


def plant(seed: int, place: int, line: bytes) -> bytes:
    """Give the record at a place, counted from 0, its brand and colour."""
    word = draws.word(seed, _STREAM, place)
    choices = (grammar.BRANDS, grammar.COLOURS, _SENTENCES)
    brand, colour, sentence = (
        options[(word >> 16 * turn) % 2**16 % len(options)] for turn, options in enumerate(choices)
    )
    record = json.loads(line)
    colour = colour.lower()
    if record["content"]:
        named = sentence.format(brand=brand, colour=colour)
        record["content"] = f"{named} {record['content']}"
    texts = {name: record.pop(name) for name in ("uid", "title", "content")}
    planted = dict(zip(NAMES, (brand, colour), strict=True))
    return json.dumps(texts | planted | record).encode() + b"\n"
