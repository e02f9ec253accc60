"""The one prompt template that training and inference share.

Pure string work: no tokenizer here. The end-of-sequence token is written by the tokenising
code from the tokenizer's own id, never by a library's default.
"""

from dataclasses import dataclass

from data.errors import ConfigError

# Stanford Alpaca's prompt with input (https://github.com/tatsu-lab/stanford_alpaca), character
# for character as the notebooks had it.
_ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{title}\n\n### Response:\n"
)

TEMPLATES = {"alpaca": _ALPACA}


@dataclass(frozen=True)
class Prompt:
    """How a title becomes a prompt; recorded with the adapter, so that inference uses the same."""

    template: str = "alpaca"
    """Name of the template: alpaca."""

    instruction: str = "Write a product description."
    """What the model is told to do with the title."""

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            expected = f"one of {', '.join(TEMPLATES)}"
            raise ConfigError("--prompt.template", expected, repr(self.template))
        if not self.instruction.strip():
            raise ConfigError("--prompt.instruction", "a sentence", repr(self.instruction))

    def render(self, title: str) -> str:
        """Render the prompt of one title; the description follows it directly."""
        # Not str.format twice: a title may itself hold braces.
        text = TEMPLATES[self.template]
        head, tail = text.split("{title}")
        return head.replace("{instruction}", self.instruction) + title + tail
