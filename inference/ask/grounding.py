"""What of an answer its record supports: sentences with other numbers are left out, and kept apart.

Pure: strings in, strings out. Knows numbers alone; whether words are true, nothing here can tell.
"""

import functools
import itertools
import re

from inference import fidelity

# A sentence ends with its mark, an entry of a list with its sign or line: "No. 5" is one, and so is
# "J. Rowling". Some scripts write no space behind it.
_BOUNDARY = re.compile(
    r"(?<!\b[A-Z])[.!?…][\"”’')\]]*\s+(?=[^\s\d])|(?:[;|/]\s|\n)\s*(?=\S)|[。！？।]\s*(?=\S)"
)
# What is shorter, as "Dr.", belongs to what follows.
_FEWEST_WORDS = 3


def split(text: str, title: str, record: str, is_whole: bool = True) -> tuple[str, list[str]]:
    """Part a text's supported sentences from those with numbers that nothing supports.

    Args:
        text: an answer, whole or so far; so far, its last sentence is waited for.
        title: what it is about.
        record: the texts that are known of it.
        is_whole: whether the text is whole.

    Returns:
        The supported ones as one text, and the others, both in order; as an answer grows, both only
        grow.
    """
    ends = [0]
    for boundary in _BOUNDARY.finditer(text):
        is_long = len(text[ends[-1] : boundary.end()].split()) >= _FEWEST_WORDS
        if is_long or boundary[0][0] in "。！？।":
            ends.append(boundary.end())
    if is_whole:
        ends.append(len(text))
    numbers = _unsupported(text[: ends[-1]], title, record)
    supported, others = list[str](), list[str]()
    for begin, end in itertools.pairwise(ends):
        has_other = any(begin <= number.begin < end for number in numbers)
        (others if has_other else supported).append(text[begin:end])
    return "".join(supported).strip(), [sentence.strip() for sentence in others]


# While a sentence is written, what stands before it stays the same.
@functools.lru_cache(maxsize=64)
def _unsupported(text: str, title: str, record: str) -> list[fidelity.Number]:
    return fidelity.check(text, title, record).unsupported
