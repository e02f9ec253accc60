"""``subset``: which rows of the catalogue are trained on and held out, written and loaded."""

from data.subset.command import load, run, shrink
from data.subset.config import SubsetConfig

__all__ = ["SubsetConfig", "load", "run", "shrink"]
