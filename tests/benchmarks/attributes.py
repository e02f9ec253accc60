"""``python -m tests.benchmarks.attributes``: how often generated texts name planted attributes.

Invents a catalogue whose descriptions name a brand and a colour that no title holds, trains the
demo's tiny model twice, with both in its prompt and without, and counts the unseen titles' texts
that name them. On two CPU cores a model takes some five minutes; what is there already is kept.
``--settings demo`` trains as ``make demo`` does, ``--settings copying`` long enough at a lower
rate for the base to learn to copy.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from data import console
from data.artefacts.folder import Folder
from data.artefacts.parts import read_batches
from data.subset import load
from data.synthetic import attributes
from tests.demo import named_nouns

SETTINGS = {
    "demo": (),
    "copying": (
        *("--tiny.steps=3600", "--tiny.learning_rate=5e-3"),
        *("--optimisation.max_steps=500", "--optimisation.learning_rate=5e-3"),
    ),
}


def run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], check=True)


def prepare(work: Path) -> Path:
    """Invent, clean and sample the demo's number of rows, with attributes; return the subset."""
    raw, clean, subset = work / "planted.json.gz", work / "clean", work / "subset"
    run("data", "synthesize", "--rows=5000", "--attributes=true", f"--out={raw}")
    recipe = "--config=preprocessing/recipes/sample.yaml"
    named = f"--attributes=[{', '.join(attributes.NAMES)}]"
    run("preprocessing", "clean", recipe, f"--source={raw}", f"--out={clean}", named)
    run("data", "subset", f"--clean={clean}", "--size=2000", f"--out={subset}")
    return subset


def generate(subset: Path, folder: Path, *words: str) -> dict[str, str]:
    """Train a model and let it write; return its texts by uid."""
    trained, written = folder / "run", folder / "generated"
    recipe = "--config=training/recipes/cpu.yaml"
    run("training", "run", recipe, f"--subset={subset}", f"--out={trained}", *words)
    about = (f"--titles={subset}", "--split=test", f"--out={written}")
    run("inference", "generate", f"--run={trained}", *about)
    batches = read_batches(Folder(str(written)))
    return {row["uid"]: row["description"] for batch in batches for row in batch.to_pylist()}


def shares(subset: Path, texts: dict[str, str]) -> str:
    """Describe how many texts name their row's attributes, and their title's noun."""
    rows = {row["uid"]: row for row in load(str(subset))["test"]}
    named = {
        name: {uid for uid, text in texts.items() if rows[uid][name].lower() in text.lower()}
        for name in attributes.NAMES
    }
    named["both"] = set.intersection(*named.values())
    parts = [f"{name} {len(uids) / len(texts):.1%}" for name, uids in named.items()]
    nouns, of = named_nouns(texts, {uid: rows[uid]["title"] for uid in texts})
    return f"{', '.join(parts)} of {len(texts)} texts; nouns {nouns} of {of}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", choices=SETTINGS, default="copying")
    parser.add_argument("--work", type=Path, default=Path("data/store/benchmarks/attributes"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    subset = prepare(options.work)
    shown = f"--prompt.attributes=[{', '.join(attributes.NAMES)}]"
    lines = []
    for name, words in (("with", (shown,)), ("without", ())):
        folder = options.work / f"{options.settings}-{name}"
        texts = generate(subset, folder, *SETTINGS[options.settings], *words)
        lines.append(f"{name} attributes in the prompt: {shares(subset, texts)}")
    console.say("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
