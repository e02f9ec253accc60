"""How texts are written, as flags that several commands share. Imports nothing heavy."""

from dataclasses import dataclass

from data.errors import ConfigError

BEST_OF = 4
"""Texts a title, unless another number is asked for."""


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when a text ends, the same in all commands."""

    temperature: float = 1.0
    """0 always takes the likeliest token; higher values take unlikely ones more often."""

    top_p: float = 1.0
    """When sampling, draw from the likeliest tokens that together hold this probability."""

    min_p: float = 0.05
    """When sampling, leave out tokens less likely than this share of the likeliest one's
    probability."""

    repetition_penalty: float = 1.0
    """Divide the chance of a token that the text holds already, 1.1 for instance; 1: do not. The
    title's own words are never penalised."""

    no_repeat_ngram: int = 8
    """Never write a run of so many tokens twice in a text; 0: allow it."""

    end_after: int | None = None
    """From so many tokens on, a text ends with its sentence; 0: never. None: the length that 98 %
    of the descriptions that the model was trained on keep within, where that is recorded."""

    def __post_init__(self) -> None:
        # A temperature of almost 0 divides the logits into infinities.
        if self.temperature and not 0.01 <= self.temperature <= 100:
            expected = "0 for greedy, or 0.01 to 100"
            raise ConfigError("--temperature", expected, str(self.temperature))
        if not 0 < self.top_p <= 1:
            raise ConfigError("--top_p", "more than 0, at most 1", str(self.top_p))
        if not 0 <= self.min_p < 1:
            raise ConfigError("--min_p", "0 or more, less than 1", str(self.min_p))
        if not 1 <= self.repetition_penalty <= 10:
            raise ConfigError("--repetition_penalty", "1 to 10", str(self.repetition_penalty))
        if self.no_repeat_ngram < 0 or self.no_repeat_ngram == 1:
            expected = "0, or 2 and more"
            raise ConfigError("--no_repeat_ngram", expected, str(self.no_repeat_ngram))
        if self.end_after is not None and self.end_after < 0:
            raise ConfigError("--end_after", "0 or more", str(self.end_after))


@dataclass(frozen=True)
class BestOf(Decoding):
    """How many texts are written a title, of which the best is kept."""

    best_of: int | None = None
    """Texts to write a title, of which the one is kept that says most of its title, invents and
    repeats least and ends; none: 4, or 1 at temperature 0. 1 is the fastest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.best_of is not None and self.best_of < 1:
            raise ConfigError("--best_of", "at least 1", str(self.best_of))
        if self.texts_per_title > 1 and not self.temperature:
            expected = "1, as texts at temperature 0 are all the same"
            raise ConfigError("--best_of", expected, str(self.best_of), "set --temperature 1")

    @property
    def texts_per_title(self) -> int:
        """How many texts are written a title."""
        return self.best_of or (BEST_OF if self.temperature else 1)
