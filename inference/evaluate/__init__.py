"""``inference evaluate``: runs and ready texts in, a report with a verdict out."""
