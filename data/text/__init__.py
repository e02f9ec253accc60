"""Repair of text columns at Arrow speed, defined by one line."""

from data.text.columns import remove_characters, repair, repair_column
from data.text.joined import Joined, pieces

__all__ = ["Joined", "pieces", "remove_characters", "repair", "repair_column"]
