"""``make demo``: every stage on the sample, how long each takes, and what came out of it.

Runs the commands as a shell would; each that is finished already is left alone. Fails where a stage
does, or where the model visibly learned nothing.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import console
from data.synthetic import grammar

STORE = "data/store"
CLEAN, SUBSET, RUN, GENERATED, REPORT = (
    f"{STORE}/{name}"
    for name in ("clean-sample", "subsets/sample", "runs/sample", "generated/sample",
                 "reports/sample")
)  # fmt: skip
SHOWN = 3
_SHORT = 300
# Below this the run went wrong: the untrained base names some nouns by chance.
LEARNED = 0.5
_LONGEST_FIRST = sorted(grammar.NOUNS, key=len, reverse=True)
_NOUN = re.compile(rf"\b(?:{'|'.join(_LONGEST_FIRST)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    words: str
    """Behind ``python -m``."""
    seconds: int
    """What it takes on two cores that have nothing else to do (docs/measured.md)."""


STEPS = (
    Step(f"preprocessing clean --config preprocessing/recipes/sample.yaml --out {CLEAN}", 4),
    Step(f"data subset --clean {CLEAN} --size 2000 --out {SUBSET}", 3),
    Step(f"training run --config training/recipes/cpu.yaml --subset {SUBSET} --out {RUN}", 150),
    Step(
        f"inference generate --run {RUN} --titles {SUBSET} --split test --limit 150 "
        f"--out {GENERATED}", 40,
    ),
    Step(
        f"inference evaluate --config inference/recipes/sample.yaml --run {RUN} "
        f"--generated {GENERATED} --subset {SUBSET} --out {REPORT}", 70,
    ),
)  # fmt: skip


def noun_of(title: str) -> str | None:
    """Name the product that a repaired title of the invented catalogue is about, in lower case."""
    match = _NOUN.search(title)
    return match[0].lower() if match else None


def named_nouns(generated: dict[str, str], titles: dict[str, str]) -> tuple[int, int]:
    """Count the texts that name their title's own noun, and the titles that hold one."""
    nouns = {uid: noun for uid, title in titles.items() if (noun := noun_of(title))}
    named = sum(noun in generated[uid].lower() for uid, noun in nouns.items())
    return named, len(nouns)


def run(number: int, step: Step) -> bool:
    """Run a step and say how long it took; return whether it ended well."""
    name = " ".join(step.words.split()[:2])
    place = f"{number}/{len(STEPS)} {name}"
    console.say(
        console.painted(f"\n{place}", "bold") + f": some {console.duration(step.seconds)}",
        is_safe=True,
    )
    console.say(f"python -m {step.words}\n")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *step.words.split()], stdout=subprocess.PIPE, text=True, check=False
    )
    # What comes next, the demo does itself.
    console.say(done.stdout.partition("\nnext:\n")[0].rstrip())
    console.say(f"{place}: {time.monotonic() - began:.0f} s")
    return done.returncode == 0


def show(rows: list[dict[str, Any]]) -> None:
    """Print titles with what the base, the adapter and a person wrote of them."""
    console.say(f"\n{SHOWN} of {len(rows)} titles that the model never saw\n")
    for row in rows[:SHOWN]:
        texts = {name: (row["texts"].get(name) or {}).get("text") for name in ("base", "adapter")}
        for name, text in {"title": row["title"], **texts, "real": row["reference"]}.items():
            if text:
                console.item(f"{name:<9} ", text if len(text) <= _SHORT else f"{text[:_SHORT]} …")
        console.say()


def main() -> int:
    """Run all steps and sum up."""
    whole = console.duration(sum(step.seconds for step in STEPS))
    console.say(f"{len(STEPS)} commands on 5,000 invented records: some {whole} on two idle cores,")
    console.say("and longer where they are busy. Interrupt it at any time: it goes on from there.")
    began = time.monotonic()
    for number, step in enumerate(STEPS, 1):
        if not run(number, step):
            console.complain(f"the demo ends here: {step.words}", "error: ", "red")
            return 1
    report = json.loads(Path(REPORT, "report.json").read_text(encoding="utf-8"))
    rows = [row for row in report["rows"] if row["side"] == "unseen"]
    show(rows)
    generated = {row["uid"]: row["texts"]["adapter"]["text"] for row in rows}
    named, with_noun = named_nouns(generated, {row["uid"]: row["title"] for row in rows})
    console.say(f"{named} of {with_noun} texts name their title's own noun")
    (verdict,) = report["verdicts"]
    console.item("verdict   ", verdict["headline"], "green" if verdict["passed"] else "red")
    if not verdict["passed"]:
        console.item(
            "why       ",
            "a model of a quarter of a million weights, trained for minutes: it shows that every "
            "stage works, and what the report says of a run that is not fit",
        )
    console.say(f"\n{console.duration(time.monotonic() - began)} in all; the report is "
                f"{REPORT}/report.html")  # fmt: skip
    console.say("\nnext:\n  make serve")
    return 0 if named >= LEARNED * with_noun else 1


if __name__ == "__main__":
    sys.exit(main())
