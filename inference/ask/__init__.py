"""``inference ask``: a question in, an answer with what it rests on out."""
