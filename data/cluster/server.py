"""The first that the process imports which workers are forked from: Dask, and no collections.

Also what each worker would import as it starts. Each begins collections again.
"""

import atexit
import gc

gc.disable()
atexit.register(gc.freeze)  # or its end looks at all that is imported, for 0.2 s

import distributed  # noqa: E402
import distributed.http.worker  # noqa: E402, F401
import numpy.random  # noqa: E402, F401
import tornado.platform.asyncio  # noqa: E402, F401
from distributed.versions import get_versions  # noqa: E402

from data.cluster import key, secret  # noqa: E402, F401

secret.trust_no_store()
get_versions()  # what it imports
