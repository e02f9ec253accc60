"""The server behind the protocol of OpenAI's API: the same answers for every client of it."""

from inference.serve.openai.door import Door

__all__ = ["Door"]
