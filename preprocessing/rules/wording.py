"""What texts say: markup, boilerplate, capitals, languages; for rules that are off by default.

Pure: a column in, a column or a verdict a text out; no I/O, no Dask.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import text

_INLINE = "a|abbr|b|big|cite|code|em|font|i|ins|kbd|mark|q|s|small|span|strike|strong|sub|sup|tt|u"
_BLOCK = (
    "article|aside|blockquote|body|br|button|caption|center|dd|del|div|dl|dt|fieldset|figcaption|"
    "figure|footer|form|frame|h[1-6]|head|header|hr|html|iframe|img|input|label|li|link|main|meta|"
    "nav|noscript|object|ol|option|p|param|picture|pre|script|section|select|source|style|svg|"
    "table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
)
_ATTRIBUTES = r"(?:[\s/][^<>]*)?>"
# What is no text at all; tags that stand inside words; tags that part words.
_UNSEEN = r"(?is)<!--.*?-->|<(?:script|style)\b[^<>]*>.*?</(?:script|style)\s*>"
_INSIDE = rf"(?i)</?(?:{_INLINE}){_ATTRIBUTES}"
_PARTING = rf"(?i)</?(?:{_BLOCK}){_ATTRIBUTES}"
_MARKUP_TITLE = (
    rf"(?i)(?:<|&lt;|&#0*60;)/?(?:{_INLINE}|{_BLOCK})(?:[\s/>]|&gt;|&#0*62;|$)"
    r"|\bfunction ?\w* ?\(|\bvar \w+ ?=|\b(?:document|window)\.\w|\{ ?[a-z-]+ ?:"
)
_BOILERPLATE = (
    r"(?i)\bthis text refers to\b|\bthis product is manufactured on demand\b"
    r"|\bstandard return policy\b|\bthis (?:item|product) is not returnable\b"
    r"|\b(?:fast|free|same[ -]day|one[ -]day|next[ -]day|two[ -]day|worldwide) shipping\b"
    r"|\b(?:usually )?ships (?:within|from and sold|in \d|the same day|next day)\b"
)
_UNKNOWN = "un"
_CAPITALS = 9
"""Capitals for every small letter, beyond which a text shouts."""


def strip_html(texts: pa.StringArray) -> pa.StringArray:
    """Take the tags, comments and scripts out of repaired texts.

    A tag that parts words (``<br>``, ``</li>``) leaves a space, one inside a word (``<b>``) none.
    ftfy unescapes nothing beside a ``<``, so what held a tag is repaired once more.
    """
    tagged = pc.match_substring_regex(texts, f"{_UNSEEN}|{_INSIDE}|{_PARTING}")
    seen = texts.filter(tagged)
    for pattern, instead in ((_UNSEEN, " "), (_INSIDE, ""), (_PARTING, " ")):
        seen = pc.replace_substring_regex(seen, pattern, instead)
    return pc.replace_with_mask(texts, tagged, text.repair_column(seen))


def is_markup(titles: pa.StringArray) -> pa.BooleanArray:
    """Whether each raw title is HTML, a style sheet or a script rather than a name."""
    return pc.match_substring_regex(titles, _MARKUP_TITLE)


def is_boilerplate(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether each text holds a notice of another edition, of shipping or of returns."""
    return pc.match_substring_regex(texts, _BOILERPLATE)


def is_shouting(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether of the letters of each text more than nine in ten are capitals."""
    return pa.concat_arrays([_is_shouting(piece) for piece in text.pieces(texts)])


def _is_shouting(texts: pa.StringArray) -> pa.BooleanArray:
    joined = text.Joined.of(texts)
    small = np.append(0, np.cumsum((joined.data >= ord("a")) & (joined.data <= ord("z"))))
    # Small letters of ASCII alone rule most texts out; RE2 takes its time to count.
    likely = _CAPITALS * np.diff(small[joined.offsets]) < np.diff(joined.offsets)
    counted = texts.filter(pa.array(likely))
    capitals = pc.count_substring_regex(counted, r"\p{Lu}")
    letters = pc.count_substring_regex(counted, r"\p{Ll}")
    likely[likely] = pc.greater(capitals, pc.multiply(letters, _CAPITALS))
    return pa.array(likely)


def is_foreign(texts: pa.StringArray, languages: list[str]) -> pa.BooleanArray:
    """Whether each text is surely in another language than these; one too short to tell is not."""
    known = {*languages, _UNKNOWN}
    return pa.array([_language(each) not in known for each in texts.to_pylist()], pa.bool_())


def _language(text: str) -> str:
    """Recognise the language of a text: its code, without the script."""
    import pycld2

    try:
        _, _, most = pycld2.detect(text)
    except pycld2.error:  # code points that are no characters
        return _UNKNOWN
    return str(most[0][1]).partition("-")[0]
