"""Row rules: which rows stay, and to which reason each of the others fell."""

from preprocessing.rules.rows import Drops as Drops
from preprocessing.rules.rows import clean_rows as clean_rows
from preprocessing.rules.rows import code_points as code_points
from preprocessing.rules.rows import count_lengths as count_lengths
