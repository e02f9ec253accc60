"""What the page says of itself: the run that answers, its verdict, what may be asked."""

import json
import logging
from pathlib import Path
from typing import Any

from data.errors import SourceError
from inference.ask import Assistant
from inference.config import ServeConfig

log = logging.getLogger("catalogue")

_EXAMPLES, _LONGEST_EXAMPLE = 3, 70
_HINT = "make one with `python -m inference evaluate`"


def find_report(config: ServeConfig) -> Path | None:
    """Find the report's page.

    Raises:
        SourceError: it is missing.
    """
    if config.report is None:
        return None
    path = Path(config.report)
    file = path / "report.html" if path.is_dir() else path
    if not file.is_file():
        raise SourceError(config.report, "a report.html", "none", _HINT)
    return file


def about(assistant: Assistant, report: Path | None, most_titles: int) -> dict[str, Any]:
    """Return what the page shows before anybody asks."""
    count, titles = assistant.titles(_LONGEST_EXAMPLE, _EXAMPLES)
    config = assistant.config
    return {
        "run": Path(config.run.rstrip("/")).name,
        "model": assistant.model.digest,
        "titles": count,
        "examples": titles,
        "verdict": _verdict(assistant, report) if report else None,
        "has_report": report is not None,
        "seed": config.seed,
        "temperature": config.temperature,
        "max_characters": config.max_characters,
        "most_titles": most_titles,
    }


def _verdict(assistant: Assistant, report: Path) -> dict[str, Any] | None:
    """Read what the report beside its page says of the run that answers."""
    try:
        values = json.loads(report.with_name("report.json").read_text(encoding="utf-8"))
        run = assistant.model.record
        own = {item["path"] for item in values["runs"] if run and item["digest"] == run.digest}
        judged = {item["key"] for item in values["candidates"] if item["run"] in own}
        verdict = next((item for item in values["verdicts"] if item["candidate"] in judged), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: no verdict in it (%s)", report.with_name("report.json"), error)
        return None
    if verdict is None:
        log.warning("%s: a report of another run than the one that answers", report)
        return None
    return {name: verdict[name] for name in ("headline", "passed", "label")}
