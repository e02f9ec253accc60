"""Where a report's rows and texts come from: the funnel, the lineage, how it was measured. Pure."""

from collections.abc import Sequence
from typing import Any

from inference.evaluate.page import charts
from inference.evaluate.page.markup import facts, text

_HOUR, _MINUTE = 3_600, 60
_HOW = """\
<p>Intervals: 95 %; of shares of texts exact (Clopper-Pearson), else the wider of percentile and
BCa from {resamples:,} bootstrap resamples of the rows, seed {seed}, the same for every candidate,
so that differences are paired, and none for fewer than 20 rows. A threshold is met or missed
where the whole interval is on one side of it; else there are too few rows to tell. A text repeats
itself where more than {repeats:.0%} of its word 4-grams stood in it before, and runs away where
it did not end by itself. A span is copied from {copied_span} characters on; a text is recited
where it is at least {recited_alike:.0%} alike to a training text. Perplexity is weighted by
tokens, the end of the text included. Where all rows agree, so do all resamples: such an interval
without width says little. ROUGE is rouge-score's F1 without stemming, over words of letters and
digits of any script, and single characters where a script puts no spaces between words; other
measures count these apart as well. A row that lacks what a measure needs is not counted by it,
and the score says of how many rows it is.</p>"""


def head(report: dict[str, Any]) -> str:
    """Say what was judged: run, base, rows, date, hours and card."""
    runs = report["runs"]
    names = ", ".join(run["name"] for run in runs)
    names = names or ", ".join(verdict["label"] for verdict in report["verdicts"])

    def several(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(filter(None, values)))

    kinds = {"unseen": "unseen", "seen": "trained"}
    rows = [f"{own['rows']:,} {kinds[side]}" for side, own in report["sides"].items()]
    pairs = [
        ("Base", several([run["facts"].get("base", "") for run in runs])),
        ("Trained on", several([f"{run['rows']:,} rows" for run in runs])),
        ("Training", several([_time(run["seconds"]) for run in runs])),
        ("Card", several([run["facts"].get("device", "") for run in runs])),
        ("Asked about", " and ".join(rows) + " titles"),
        ("Judged on", report["date"]),
    ]
    return f"<h1><small>Evaluation of</small> {text(names)}</h1>{facts(pairs)}"


def _time(seconds: float | None) -> str:
    if not seconds:
        return ""
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.1f} minutes"
    return f"{seconds / _HOUR:.1f} hours"


def funnel(report: dict[str, Any]) -> str:
    """Draw where the rows went, as far as that is known."""
    own = report["funnel"]
    bars = []
    for stage in own["stages"]:
        bars.append((f"{stage['stage']}: read", stage["read"], "reference"))
        bars += [(f"− {reason}", count, "base") for reason, count in stage["gone"].items()]
        bars.append((f"{stage['stage']}: kept", stage["kept"], "adapter"))
    missing = f'<p class="missing">{text(own["missing"])}</p>' if own["missing"] else ""
    return f"{charts.funnel(bars)}{missing}"


def lineage(report: dict[str, Any]) -> str:
    """List what was made from what, as a tree of lists; a step is at most one deeper."""
    parts, depth = [], -1
    for step in report["lineage"]:
        up = depth - step["depth"]
        parts.append("<ul>" if up < 0 else "</li>" + "</ul></li>" * up)
        depth = step["depth"]
        parts.append(
            f"<li><b>{text(step['stage'])}</b> <span>{text(step['path'])}</span> "
            f"<code>{text(step['digest'][:12])}</code>"
        )
    tree = "".join(parts) + "</li></ul>" * (depth + 1)
    return f'<div class="lineage">{tree}</div>'


def measured(report: dict[str, Any]) -> str:
    """Say how everything was measured, and how the runs' texts were written."""
    settings = report["settings"]
    signatures = "".join(
        f"<li><code>{text(line)}</code></li>" for line in settings["signatures"].values()
    )
    decoding = "".join(
        f"<li>{text(path)}: <code>{text(_flags(how))}</code></li>"
        for path, how in settings["decoding"].items()
    )
    written = "<p>Texts of the runs were written as generate writes them with these flags:</p>"
    return f"{_HOW.format(**settings)}<ul>{signatures}</ul>" + (
        f"{written}<ul>{decoding}</ul>" if decoding else ""
    )


def _flags(how: dict[str, Any]) -> str:
    """Write settings as the flags of ``inference generate``; what is not set has none."""
    return " ".join(f"--{name}={value:g}" for name, value in how.items() if value is not None)
