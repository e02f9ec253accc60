"""A model or a subset on the hub: a card that says what was measured, the files, the upload."""
