"""Texts of any script: repaired, and cut into words."""
