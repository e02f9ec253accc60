"""The first that the process imports which workers are forked from: Dask, and no collections.

Each worker begins them again.
"""

import gc

gc.disable()

import distributed  # noqa: E402, F401
