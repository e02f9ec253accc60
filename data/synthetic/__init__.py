"""An invented catalogue with the real file's fields, defects and proportions."""
