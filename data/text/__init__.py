"""Repair of text columns at Arrow speed, defined by one line."""

from data.text.columns import remove_characters, repair, repair_column
from data.text.joined import Joined, find, pieces

__all__ = ["Joined", "find", "pieces", "remove_characters", "repair", "repair_column"]
