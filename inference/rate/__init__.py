"""``inference rate``: people vote between two texts of a title, without knowing whose."""
