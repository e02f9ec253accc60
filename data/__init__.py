"""The catalogue at rest, and what every stage agrees on.

Imports none of the stages: they import this.
"""
