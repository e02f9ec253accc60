"""``show``: what an artefact's folder holds, for a person."""

from data.show.command import ShowConfig, lengths_of, run

__all__ = ["ShowConfig", "lengths_of", "run"]
