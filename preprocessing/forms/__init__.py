"""Records of every form: JSON, Python dictionaries, tables, Parquet and Arrow."""

from preprocessing.forms.read import parse, records
from preprocessing.forms.splitting import hidden

__all__ = ["hidden", "parse", "records"]
