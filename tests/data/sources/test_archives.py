"""Members of archives: which are listed, and which archives are refused."""

import io
import zipfile

import pytest

from data.errors import SourceError
from data.sources import archives


def listed(payload: bytes, kind: str) -> list[archives.Member]:
    return list(archives.members(io.BytesIO(payload), "raw", kind, 100))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_a_zip_that_unpack_without_a_bound_are_refused(method: int) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as file:
        file.writestr("a.json", b"\n" * 9)
    with pytest.raises(SourceError) as caught:
        listed(sink.getvalue(), archives.ZIP)
    assert str(caught.value) == (
        "raw: expected a zip archive with deflate, found a.json packed in another way;"
        " unpack it first"
    )
