"""The driver of ``rate``: the texts of a report in, a page to vote on, votes out."""

import json
from contextlib import closing
from typing import Any

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.errors import ConfigError, SourceError
from inference.evaluate.judging import Pair, of_votes, read
from inference.judges import RateConfig
from inference.rate.page import Poll, make_app


def run(config: RateConfig) -> None:
    """Serve the page until interrupted, then say how the votes stand.

    Raises:
        ConfigError: the report has no such system, or the port is taken.
        ManifestError: there is no report.
        SourceError: no row has two different texts.
    """
    import uvicorn

    from inference.serve.connections import listen

    poll, names = find(config)
    with closing(listen(config.host, config.port)) as listener:
        port = listener.getsockname()[1]
        console.say(f"{len(poll.pairs)} pairs: {names}; votes go to {config.out}")
        console.say(f"voting on http://{config.host}:{port} (end with Ctrl-C)")
        settings = uvicorn.Config(make_app(poll), log_level="error", timeout_graceful_shutdown=2)
        try:
            uvicorn.Server(settings).run(sockets=[listener])
        finally:
            console.say(standing(config, poll))


def find(config: RateConfig) -> tuple[Poll, str]:
    """Find the pairs to vote on in a report, and name the two systems."""
    folder = Folder(config.report)
    record = manifest.read(folder, "evaluate")
    record.check(folder)
    report = json.loads(folder.read("report.json"))
    systems = {system["key"]: system for system in report["candidates"]}
    judged = next(iter(report["verdicts"]), {"candidate": None})["candidate"]
    one = _chosen(systems, "one", config.one or judged)
    # Where the base wrote nothing, it is in the report by its perplexity alone.
    wrote_nothing = not any(one["against"] in row["texts"] for row in report["rows"])
    against = "reference" if wrote_nothing else one["against"]
    other = _chosen(systems, "other", config.other or against)
    pairs = [
        Pair(row["title"], *(_text(row, system["key"]) for system in (one, other)))
        for row in report["rows"]
        if row["side"] == "unseen"
    ]
    different = {pair.key: pair for pair in pairs if pair.one and pair.one != pair.other}
    if not different:
        expected = f"different texts of {one['key']} and {other['key']}"
        raise SourceError(config.report, expected, "none", "name others with --one and --other")
    return Poll(list(different.values()), config), f"{one['label']} against {other['label']}"


def _chosen(systems: dict[str, Any], flag: str, key: str | None) -> dict[str, Any]:
    if key not in systems:
        raise ConfigError(f"--{flag}", f"one of {', '.join(systems)}", str(key))
    system: dict[str, Any] = systems[key]
    return system


def _text(row: dict[str, Any], key: str) -> str:
    text: str = row["texts"].get(key, {}).get("text", "")
    return row["reference"] if key == "reference" else text


def standing(config: RateConfig, poll: Poll) -> str:
    """Say in one line how all votes on these pairs stand."""
    keys = {pair.key for pair in poll.pairs}
    try:
        votes = [vote for vote in read(config.out) if vote.pair in keys]
    except SourceError:
        votes = []
    if not votes:
        return "no votes yet"
    sums = of_votes(votes)
    agreed = [
        f", {who} {sums[name]['same']} of {sums[name]['of']} times"
        for name, who in (("between", "people agree"), ("within", "one person with itself"))
        if sums[name]["of"]
    ]
    return (
        f"{sums['votes']} votes of {sums['people']} people on {sums['pairs']} pairs: "
        f"{sums['win_rate']:.1%} won ({sums['low']:.1%} to {sums['high']:.1%}){''.join(agreed)}"
    )
