"""Records of every form: JSON, Python dictionaries, tables, Parquet and Arrow."""

from preprocessing.forms.read import parse, records

__all__ = ["parse", "records"]
