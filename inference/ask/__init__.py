"""``inference ask``: a question in, an answer with what it rests on out."""

from inference.ask.assistant import Answer, Assistant
from inference.ask.attribution import LEAST_COPIED, STATES, Copied

__all__ = ["LEAST_COPIED", "STATES", "Answer", "Assistant", "Copied"]
