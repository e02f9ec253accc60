"""Rows of a subset as a model sees them: encoded, kept on disk, ordered and batched."""
