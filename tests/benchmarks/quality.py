"""``make bench-quality``: what each way of decoding makes of real weights and a real catalogue.

    python -m tests.benchmarks.quality --catalogue FILE [FILE ...] [--base smollm2] [--short]

Cleans the catalogue, takes a subset, trains one adapter by the recipe ``rtx3060.yaml`` and lets
every way of ``WAYS`` write descriptions of the same held-out titles. Beside them stand the
bare title, the nearest trained row copied, the real descriptions and the base. What is finished in
``--work`` is not done again, and its table holds the ways that other calls wrote there; texts are
written anew where the code that writes them changed.

Prints a table and writes it to ``quality.md``, all figures with intervals to ``quality.json``, and
texts to be read with one's own eyes to ``texts.md``. ``--short`` is for a CPU: short descriptions,
few and small steps, 16 titles, three ways. It shows that everything works, and no more.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import console
from data.artefacts import manifest
from data.artefacts.dataset import Subset
from data.artefacts.folder import digest_all, digest_file
from data.artefacts.run import Run
from data.errors import CatalogueError
from inference import engine, fidelity, overlap, selection
from inference.config import EvaluateConfig, GenerateConfig
from inference.engine import Completion, Request, Settings
from inference.evaluate import metrics, samples, systems
from inference.evaluate.metrics import Floats, Sample
from inference.evaluate.samples import EvalSet, Trained
from tests.benchmarks import smollm2

Flags = dict[str, Any]

PLAIN: Flags = {
    "temperature": 0.0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "no_repeat_ngram": 0,
    "best_of": 1, "end_after": 0,
}  # fmt: skip
"""Every control off: always the likeliest token. A way changes some of it."""

_TOP_P = {"temperature": 0.7, "top_p": 0.9}
_MIN_P = {"temperature": 0.7, "min_p": 0.1}
_WARM = {"temperature": 1.0, "min_p": 0.05}
_ENDING: Flags = {"no_repeat_ngram": 8, "end_after": None}

_CHANGES: dict[str, Flags] = {
    "greedy": {},
    "penalty 1.05": {"repetition_penalty": 1.05},
    "penalty 1.15": {"repetition_penalty": 1.15},
    "no 4-gram": {"no_repeat_ngram": 4},
    "no 8-gram": {"no_repeat_ngram": 8},
    "t 1": {"temperature": 1.0},
    "t 0.7 top-p 0.9": _TOP_P,
    "t 0.7 min-p 0.1": _MIN_P,
    "t 0.7 min-p 0.1 + penalty 1.05": _MIN_P | {"repetition_penalty": 1.05},
    "t 1 min-p 0.05": _WARM,
    "t 0.7 top-p 0.9 + best of 4": _TOP_P | {"best_of": 4},
    "t 0.7 min-p 0.1 + ending + best of 4": _MIN_P | _ENDING | {"best_of": 4},
    "t 0.9 min-p 0.05 + ending + best of 4":
        _ENDING | {"temperature": 0.9, "min_p": 0.05, "best_of": 4},
    "t 1 min-p 0.03 + ending + best of 4":
        _ENDING | {"temperature": 1.0, "min_p": 0.03, "best_of": 4},
    "t 1 min-p 0.05 + ending + best of 8": _WARM | _ENDING | {"best_of": 8},
}  # fmt: skip
"""«ending»: no run of 8 tokens twice, and a text that is long ends with its sentence."""
BASE = "base greedy"
WAYS: dict[str, Flags] = {
    "defaults": {}, "defaults with 1 text": {"best_of": 1},
    **{name: PLAIN | flags for name, flags in _CHANGES.items()}, BASE: PLAIN,
}  # fmt: skip
"""By name, the settings of ``inference generate``; the defaults are what users get unasked."""
SHORT = ("greedy", "t 0.7 top-p 0.9", BASE)

OVER_TITLE = "over_title"
COLUMNS = {
    "rougeL": "ROUGE-L", OVER_TITLE: "over the title", "repeated": "4-grams repeated, %",
    "repeating": "texts that repeat, %", "ended": "end, %", "looped": "loop, %",
    "title_words": "title words kept, %", "title_numbers": "title numbers kept, %",
    "unsupported": "numbers unsupported, %", "length": "times the real length",
    "copied": "copied, %", "recited": "recited, %",
}  # fmt: skip
"""Of the table, by metric."""
_WITH_INTERVAL = ("rougeL", OVER_TITLE)
TITLE, NEAREST, REAL = "the title itself", "nearest trained row", "real descriptions"
# Share of a text's word 4-grams from which it is called one that repeats itself.
_REPEATS = 0.2
_SHOWN = 20


@dataclass(frozen=True)
class Case:
    """What all ways share."""

    model: Run
    side: EvalSet
    trained: Trained
    max_new_tokens: int | None
    digest: str
    """Of the model, the rows, the limit and the code that decides which texts are written."""


@dataclass(frozen=True)
class Texts:
    """What one way wrote, a text a row."""

    case: str
    """Digest of the case."""
    flags: Flags
    texts: list[str]
    reasons: list[str]
    tokens: int
    """Of all texts, kept or not."""
    seconds: float
    """Of writing all, once everything is compiled."""
    every: list[list[tuple[str, str]]]
    """All texts of each title with how they ended, the best first."""


def command(*words: str | Path) -> None:
    """Run a command of ours; end where it fails, as it says why itself."""
    code = subprocess.run([sys.executable, "-m", *map(str, words)], check=False).returncode
    if code:
        sys.exit(code)


def prepare(options: argparse.Namespace) -> None:
    """Clean the catalogue, take the subset and train, each by its command."""
    work, base = options.work, options.base
    raw = work / "catalogue"
    raw.mkdir(parents=True, exist_ok=True)
    for link in raw.iterdir():
        link.unlink()
    for place, file in enumerate(options.catalogue):
        (raw / f"{place}-{file.name}").symlink_to(file.resolve(strict=True))
    if base == "smollm2":
        base = work / "base"
        smollm2.build(base)
    names = ("--rules.content_min", "--rules.content_max")
    rules = [f"{name}={bound}" for name, bound in zip(names, options.characters, strict=True)]
    shares = ["--shares.validation=0.005", "--shares.test=0.11"]
    command("preprocessing", "clean", "--source", raw, "--out", work / "clean", *rules, *shares)
    rows = [f"--test={options.rows}", f"--size={options.train_rows or 'null'}"]
    command("data", "subset", "--clean", work / "clean", "--out", work / "subset", *rows)
    how = ["--config", "training/recipes/rtx3060.yaml", "--optimisation.precision=auto"]
    how += ["--optimisation.gradient_checkpointing=none"]
    how += [f"--optimisation.epochs={options.epochs}"] if options.epochs else []
    how += [f"--prompt.neighbours={options.neighbours}"] if options.neighbours is not None else []
    if options.short:
        how += ["--optimisation.batch_size=8", "--optimisation.max_steps=12"]
        how += ["--optimisation.precision=float32", "--backend=transformers"]
    else:
        # A batch with more tokens, which memory might not hold, goes through in pieces.
        how += ["--optimisation.max_tokens=32768"]
    where = ["--subset", work / "subset", "--tokenized", work / "tokenized", "--out", work / "run"]
    command("training", "run", "--base", base, *where, *how)


def find(options: argparse.Namespace) -> Case:
    """Open what ``prepare`` left: the run, the held-out rows and the trained ones."""
    model, path = Run.open(str(options.work / "run")), str(options.work / "subset")
    subset = Subset.open(path)
    side = samples.unseen(path, "test", options.rows, [])
    trained = Trained(subset.record.digest, subset.rows("train", samples.COLUMNS))
    limit = 64 if options.short else None
    files = {console: "*.py", fidelity: "*.py", engine: "**/*.py"}
    rooms = [(Path(str(room.__file__)).parent, pattern) for room, pattern in files.items()]
    code = [digest_file(file) for room, pattern in rooms for file in sorted(room.glob(pattern))]
    digest = digest_all([model.digest, trained.digest, f"{len(side)}", f"{limit}", *code])
    return Case(model, side, trained, limit, digest)


def write(way: str, case: Case) -> Texts:
    """Write a text for every title in one way."""
    model = case.model.without_adapter() if way == BASE else case.model
    config = GenerateConfig(max_new_tokens=case.max_new_tokens, **WAYS[way])
    settings = Settings.of(config, model, engine.choose(config.engine, model))
    writer = engine.load(model, settings)
    rows = zip(case.side.uids, case.side.titles, strict=True)
    requests = [Request(uid, model.render(title, uid)) for uid, title in rows]
    ranked: list[list[tuple[float, Completion]]] = []
    seconds = 0.0
    # On a GPU the first pass compiles and records.
    for _ in range(2 if settings.device == "cuda" else 1):
        began = time.perf_counter()
        ranked = selection.write(
            writer,
            requests,
            case.side.titles,
            config.texts_per_title,
            model.mean_completion_tokens,
        )
        seconds = time.perf_counter() - began
    texts = [best.text for (_, best), *_ in ranked]
    reasons = [best.finish_reason for (_, best), *_ in ranked]
    tokens = sum(text.new_tokens for several in ranked for _, text in several)
    every = [[(text.text, text.finish_reason) for _, text in several] for several in ranked]
    return Texts(case.digest, WAYS[way], texts, reasons, tokens, seconds, every)


def forget() -> None:
    """Free what a way loaded and compiled: torch compiles only a few versions of one step."""
    import torch

    torch.compiler.reset()
    engine.free_memory(engine.choose_device("auto"))


def read(way: str, case: Case, folder: Path) -> Texts | None:
    """Read the texts of a way, unless they are missing or others would be written now."""
    file = folder / f"{way}.json"
    earlier = json.loads(file.read_text()) if file.is_file() else {"case": None}
    is_same = earlier["case"] == case.digest and earlier["flags"] == WAYS[way]
    return Texts(**earlier) if is_same else None


def write_all(ways: Sequence[str], case: Case, folder: Path) -> dict[str, str]:
    """Write the texts of every way that has none; return why ways failed."""
    folder.mkdir(exist_ok=True)
    failed: dict[str, str] = {}
    for way in ways:
        if read(way, case, folder):
            continue
        try:
            written = write(way, case)
        except Exception as error:
            failed[way] = f"{type(error).__name__}: {console.first_line(error)}"
            console.say(f"{way}: no texts, {failed[way]}")
        else:
            new = folder / "new"
            new.write_text(json.dumps(asdict(written), indent=1))
            new.rename(folder / f"{way}.json")
            ended = written.reasons.count("stop") / len(written.reasons)
            repeated = _repeated(written.texts).mean()
            speed = f"{written.seconds:.1f} s, {written.tokens / written.seconds:,.0f} tokens/s"
            console.say(f"{way}: {speed}, {ended:.0%} end, {repeated:.1%} of 4-grams repeated")
        forget()
    return failed


def measure(case: Case, written: dict[str, Texts]) -> dict[str, dict[str, Sample]]:
    """Score the ways, and what they are compared with, on the same resamples: by way and metric."""
    side = case.side
    compared = {way: texts.texts for way, texts in written.items()}
    compared |= {TITLE: side.titles, NEAREST: systems.nearest_by_title(side, case.trained).texts}
    compared |= {REAL: side.references}
    stats: dict[tuple[str, str], tuple[Floats, metrics.Score]] = {}
    for name, texts in compared.items():
        tables = _count(texts, case, name)
        if name in written:
            for metric, reason in (("ended", "stop"), ("looped", "loop")):
                tables[metric] = metrics.counted([r == reason for r in written[name].reasons])
        for metric in COLUMNS.keys() & tables.keys():
            score = metrics.SCORES.get(metric, metrics.percent)
            stats[name, metric] = (tables[metric], score)
    figures: dict[str, dict[str, Sample]] = {name: {} for name in compared}
    sampled = metrics.resample(stats, EvaluateConfig.resamples, EvaluateConfig.seed)
    for (name, metric), sample in sampled.items():
        figures[name][metric] = sample
    for name in (*written, NEAREST):
        figures[name][OVER_TITLE] = figures[name]["rougeL"].minus(figures[TITLE]["rougeL"])
    return figures


def _count(texts: list[str], case: Case, name: str) -> dict[str, Floats]:
    """Count what each text adds to each metric: [rows, 2] by metric."""
    side, repeated = case.side, _repeated(texts)
    tables = metrics.against_references(texts, side.references)
    tables |= metrics.faithful(texts, side.titles, side.references)
    tables["repeated"] = metrics.counted(repeated)
    tables["repeating"] = metrics.counted((repeated > _REPEATS).tolist())
    if name == REAL:
        del tables["rougeL"], tables["unsupported"]
    if name != NEAREST:
        copies = overlap.find_copies(texts, case.trained.texts, EvaluateConfig.copied_span)
        tables["copied"] = metrics.counted(copies.copied)
        tables["recited"] = metrics.counted(_is_recited(texts, case.trained))
    return tables


def _repeated(texts: Sequence[str]) -> Floats:
    """Return for each text the share of its word 4-grams that stand in it earlier."""
    counts = np.array([fidelity.repeated(text) for text in texts], np.float64).reshape(-1, 2)
    return np.asarray(counts[:, 0] / np.maximum(counts[:, 1], 1))


def _is_recited(texts: list[str], trained: Trained) -> list[bool]:
    """Mark the texts that are almost a training text."""
    from rapidfuzz.distance import Indel

    rows = overlap.find_nearest(texts, trained.texts).row
    alike = [
        Indel.normalized_similarity(text, trained.texts[int(row)].as_py()) if row >= 0 else 0.0
        for text, row in zip(texts, rows, strict=True)
    ]
    return [likeness >= EvaluateConfig.recited_alike for likeness in alike]


def describe(options: argparse.Namespace, case: Case) -> str:
    """Say in a line what was measured, where and when."""
    facts = case.model.record.facts if case.model.record else {}
    loss, day = facts.get("best_validation_loss"), time.strftime("%Y-%m-%d")
    trained = f"{case.trained.rows.num_rows:,} train rows, {facts.get('steps')} steps"
    trained += f", {loss:.3f} nats of validation loss" if loss else ""
    return f"{facts.get('device')}, {day}: {options.base}, {trained}; {len(case.side):,} titles."


def table(figures: dict[str, dict[str, Sample]], written: dict[str, Texts]) -> str:
    """Lay the figures out in Markdown, a row a way."""

    def cell(metric: str, sample: Sample | None) -> str:
        estimate = sample.estimate() if sample else None
        if not estimate or estimate.value is None:
            return ""
        text = f"{estimate.value:.{2 if metric == 'length' else 1}f}"
        if metric in _WITH_INTERVAL and estimate.low is not None:
            text += f" ({estimate.low:.1f} to {estimate.high:.1f})"
        return text

    header = ["way", *COLUMNS.values(), "tokens/s", "seconds"]
    rows = [header, ["---"] * len(header)]
    for name, own in figures.items():
        cells = [cell(metric, own.get(metric)) for metric in COLUMNS]
        if texts := written.get(name):
            cells += [f"{texts.tokens / texts.seconds:,.0f}", f"{texts.seconds:.1f}"]
        rows.append([name, *cells, *[""] * (len(header) - 1 - len(cells))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def show_texts(case: Case, written: dict[str, Texts]) -> str:
    """Return the first titles with their real descriptions and the text of every way."""
    lines = []
    for place, title in enumerate(case.side.titles[:_SHOWN]):
        lines += [f"## {title}", f"**{REAL}**: {case.side.references[place]}"]
        lines += [f"**{way}** ({own.reasons[place]}): {own.texts[place]}"
                  for way, own in written.items()]  # fmt: skip
    return console.printable("\n\n".join(lines) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", default="smollm2", help="a folder, or smollm2 from its package")
    parser.add_argument("--catalogue", type=Path, nargs="+", required=True, help="JSON lines")
    parser.add_argument("--work", type=Path, default=Path("data/store/bench-quality"))
    parser.add_argument("--rows", type=int, help="titles to write for: 500, or 16 with --short")
    parser.add_argument("--train_rows", type=int, help="all of them, or 200 with --short")
    parser.add_argument("--characters", type=int, nargs=2, help="a text's bounds: 100 1200")
    parser.add_argument("--epochs", type=float, help="those of the recipe")
    parser.add_argument("--neighbours", type=int, help="in a prompt; those of the recipe")
    parser.add_argument("--ways", help="all, short, or names of WAYS with commas between")
    parser.add_argument("--short", action="store_true", help="to try the script on a CPU")
    options = parser.parse_args()
    options.rows = options.rows or (16 if options.short else 500)
    options.characters = options.characters or (100, 250 if options.short else 1200)
    options.train_rows = options.train_rows or (200 if options.short else None)
    lists = {"all": list(WAYS), "short": list(SHORT)}
    chosen = (options.ways or ("short" if options.short else "all")).split(",")
    options.ways = [way for name in chosen for way in lists.get(name, [name.strip()])]
    if unknown := set(options.ways) - WAYS.keys():
        parser.error(f"--ways: expected some of {list(WAYS)}, found {unknown}")
    return options


def main() -> None:
    options = parse()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Threads that wait by spinning starve each other on busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        prepare(options)
        case = find(options)
    except (CatalogueError, OSError) as error:
        sys.exit(f"error: {error}")
    folder = options.work / "texts"
    failed = write_all(options.ways, case, folder)
    written = {way: texts for way in WAYS if (texts := read(way, case, folder))}
    figures, about = measure(case, written), describe(options, case)
    results = {
        "about": about, "versions": manifest.versions(), "failed": failed, "flags": WAYS,
        "ways": {name: {metric: asdict(sample.estimate()) for metric, sample in own.items()}
                 for name, own in figures.items()},
        "speed": {way: {"tokens": texts.tokens, "seconds": texts.seconds}
                  for way, texts in written.items()},
    }  # fmt: skip
    lines = [about, table(figures, written), *(f"{way}: {why}" for way, why in failed.items())]
    shown = "\n\n".join(lines) + "\n"
    (options.work / "quality.json").write_text(json.dumps(results, indent=1))
    (options.work / "quality.md").write_text(shown)
    (options.work / "texts.md").write_text(show_texts(case, written))
    console.say(f"\n{shown}")


if __name__ == "__main__":
    main()
