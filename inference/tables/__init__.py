"""Titles and texts from whatever a user has: tables, JSON lines, CSV, text."""
