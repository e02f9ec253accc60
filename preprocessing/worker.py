"""What workers of this machine are forked from: all that cleaning imports, once for all of them."""

import contextlib
import sys
from types import ModuleType

import pyarrow as pa

from data import text
from data.sources import streams
from preprocessing import clean, forms, rules  # noqa: F401

# With the first array of a process pyarrow imports pandas, where that is installed: as long as all
# else here, and cleaning needs none. Of an empty module its Python half finds that it is none, and
# its C++ half, which the second array reaches, that it holds nothing; neither looks again.
sys.modules["pandas"] = ModuleType("pandas")
with contextlib.suppress(AttributeError):
    pa.array([""])
pa.array([""])
del sys.modules["pandas"]
# What opening the first file imports.
with streams.open_url(__file__):
    pass
# What repair makes of ftfy's tables once a process.
text.repair_column(pa.array(["&amp;\u201c"]))
