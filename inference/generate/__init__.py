"""``inference generate``: titles in, descriptions as Parquet out."""
