"""What ``make demo`` shows at its end: the drop table, titles with their real and generated
descriptions, how many generated texts name their title's own noun, and where everything lies.

Reads artefacts only; fails where the model visibly learned nothing.
"""

import re
import sys
import textwrap

from data import console
from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.artefacts.parts import read_batches
from data.subset import load
from data.synthetic import grammar

STORE = "data/store"
STAGES = {
    "clean shards": f"{STORE}/clean-sample",
    "subset": f"{STORE}/subsets/sample",
    "run (adapter, loss.png)": f"{STORE}/runs/sample",
    "generated": f"{STORE}/generated/sample",
}
SHOWN = 3
# Below this the run went wrong: the untrained base names some nouns by chance.
LEARNED = 0.5
_LONGEST_FIRST = sorted(grammar.NOUNS, key=len, reverse=True)
_NOUN = re.compile(rf"\b(?:{'|'.join(_LONGEST_FIRST)})\b", re.IGNORECASE)


def noun_of(title: str) -> str | None:
    """Name the product that a repaired title of the invented catalogue is about, in lower case."""
    match = _NOUN.search(title)
    return match[0].lower() if match else None


def named_nouns(generated: dict[str, str], titles: dict[str, str]) -> tuple[int, int]:
    """Count the texts that name their title's own noun, and the titles that hold one."""
    nouns = {uid: noun for uid, title in titles.items() if (noun := noun_of(title))}
    named = sum(noun in generated[uid].lower() for uid, noun in nouns.items())
    return named, len(nouns)


def main() -> int:
    folders = {name: Folder(path) for name, path in STAGES.items()}
    clean = manifest.read(folders["clean shards"], "clean")
    real = {row["uid"]: row["content"] for row in load(STAGES["subset"])["test"]}
    rows = [row for batch in read_batches(folders["generated"]) for row in batch.to_pylist()]
    console.say("\nWhere the 5,000 lines of the sample went\n")
    console.say(manifest.funnel(clean))
    console.say(f"\n{SHOWN} of {len(rows)} test titles, which the model never saw\n")
    for row in rows[:SHOWN]:
        console.say(f"title      {row['title']}")
        for name, text in (("real", real[row["uid"]]), ("generated", row["description"])):
            console.say(textwrap.fill(f"{name:<10} {text[:300]}", 98, subsequent_indent=" " * 11))
        console.say()
    generated = {row["uid"]: row["description"] for row in rows}
    named, with_noun = named_nouns(generated, {row["uid"]: row["title"] for row in rows})
    console.say(f"{named} of {with_noun} generated descriptions name their title's own noun\n")
    for name, path in STAGES.items():
        console.say(f"{name:<24} {path}")
    console.say(f"\nlook closer: .venv/bin/python -m data show {STAGES['generated']}")
    return 0 if named >= LEARNED * with_noun else 1


if __name__ == "__main__":
    sys.exit(main())
