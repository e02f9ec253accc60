"""Repair of text columns at Arrow speed, defined by one line."""

from data.text.columns import remove_characters, repair, repair_column
from data.text.joined import Joined, flatnonzero, pieces

__all__ = ["Joined", "flatnonzero", "pieces", "remove_characters", "repair", "repair_column"]
