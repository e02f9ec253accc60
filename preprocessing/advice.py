"""What helps a user whose lines are refused: the command that makes them ours.

Reads the start of a file; decides nothing.
"""

from data.sources import kinds
from data.sources.kinds import Kind
from preprocessing import source
from preprocessing.source import SourceFile

_SHOWN_FIELDS = 8
# Windows' Western code page: what text that is no UTF-8 mostly is, and Latin-1 nearly the same.
_WESTERN = Kind("Windows-1252 or Latin-1", "iconv -f WINDOWS-1252 -t UTF-8")


def mend_lines(file: SourceFile, reasons: dict[str, int]) -> str:
    """Tell what helps where too many lines of a file are broken.

    Args:
        file: as found.
        reasons: how many of its lines were quarantined, by reason; at least one.

    Returns:
        What the file is and the command that mends it; empty where there is nothing to say.
    """
    most = max(reasons, key=lambda reason: reasons[reason])
    if most == "invalid_utf8":
        convert = _WESTERN.mend(file.url, file.compressed)
        return f"they are no UTF-8, perhaps {_WESTERN.name}; {convert}"
    if most not in ("missing_field", "wrong_type"):
        return ""
    kind = kinds.recognise(source.read_start(file))
    if not kind.record:
        return ""
    then = kinds.to_fields(kind.record)
    if then == "":
        return ""
    names = ", ".join(list(kind.record)[:_SHOWN_FIELDS])
    told = f"its records have the fields {names}"
    if then is None:
        return f"{told}: rename or fill those that are meant by uid, title and content"
    return f"{told}; {kind.mend(file.url, file.compressed, then)}"
