"""Settings of ``publish``. Imports nothing heavy."""

import re
from dataclasses import dataclass

from data.artefacts.manifest import placement
from data.errors import ConfigError

_MODEL = "data/store/exported/all"
_NAME = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class PublishConfig:
    """Put an exported model on the Hugging Face hub, with a card made from what was recorded.

    The token comes from the environment (HF_TOKEN) alone. Run it again after an interruption: what
    has arrived is not sent again.
    """

    to: str
    """Where: user/name or organisation/name."""

    model: str = placement(_MODEL)
    """Folder of an exported model, of any form; local."""

    report: str | None = placement(None)
    """Folder of the evaluation of the run that was exported, whose figures the card shows. None:
    the card says that there is none."""

    subset: str | None = placement(None)
    """Publish this subset instead, as a dataset that stays private until you open it: its texts
    are others'."""

    license: str | None = None
    """Licence of the base, or of the texts, as the hub writes it, such as apache-2.0. None: the
    hub is asked for the base's; the card says so where it is not known."""

    out: str = placement("data/store/published/all")
    """Folder for card and files as they are sent; local. Files are links where possible."""

    dry_run: bool = placement(False)
    """Write the folder, and send nothing."""

    overwrite: bool = placement(False)
    """Replace what an earlier command wrote here; the hub keeps all versions."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.to):
            raise ConfigError("--to", "user/name", repr(self.to))
        if self.subset is not None and (self.model != _MODEL or self.report is not None):
            expected = "a subset alone, or a model with its report"
            raise ConfigError("--subset", expected, "both", "publish them one after the other")
