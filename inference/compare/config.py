"""Settings of ``compare``. Imports nothing heavy, so that ``--help`` is quick."""

from dataclasses import dataclass, field

from data.artefacts.manifest import placement
from data.errors import ConfigError


@dataclass(frozen=True)
class CompareConfig:
    """Put reports side by side: what differs between their runs, and how surely.

    Reads reports of `inference evaluate`; no model is needed. Best of the same rows, as then
    differences are paired. Writes compare.html and compare.json.
    """

    reports: list[str] | str = field(default_factory=list, metadata={"identity": False})
    """Folders of reports, two or more, '[a,b]'; the others are compared with the first."""

    out: str = placement("data/store/reports/compared")
    """Folder for the page and its figures; local or an fsspec URL."""

    overwrite: bool = placement(False)
    """Replace an earlier comparison."""

    def __post_init__(self) -> None:
        paths = [path.rstrip("/") for path in self.paths]
        if len(paths) < 2:
            actual = ", ".join(paths) or "none"
            raise ConfigError("--reports", "two reports or more, '[a,b]'", actual)
        if len(set(paths)) < len(paths):
            raise ConfigError("--reports", "each path once", ", ".join(paths))

    @property
    def paths(self) -> list[str]:
        """The reports' folders."""
        return [self.reports] if isinstance(self.reports, str) else list(self.reports)
