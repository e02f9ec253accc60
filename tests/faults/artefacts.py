"""``python -m tests.faults.artefacts flips|pairs|cost``: artefacts are believed where they hold.

Makes one chain of artefacts, from records to report, then:

- ``flips``: flips one bit of an artefact, reads it by the command that its user would type, and
  puts it back. The command must refuse and name file or folder, or write the same bytes.
- ``pairs``: starts the same command twice at once. One writes the right output; the other says who
  is at work, or waits and finds it finished.
- ``cost``: the share of each command's time that goes into comparing bytes with a manifest.

Ends with 1 where one of them is not so.
"""

import argparse
import concurrent.futures
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data import console
from data.artefacts import folder as folders

LOCKED = "in work by"


@dataclass(frozen=True)
class Step:
    """A command of the chain; ``{}`` in its words stands for the folder of the chain."""

    name: str
    words: str
    out: str = ""
    """Folder that it writes; none: it prints."""
    reads: str = ""
    """Folder of the artefact that is damaged before it; none: the raw file has no digests."""

    def command(self, root: Path, out: Path) -> list[str]:
        """Return stage, command and flags."""
        words = [word.replace("{}", str(root)) for word in self.words.split()]
        return [*words, f"--out={out}"] if self.out else words


TRAIN = (
    "training run --subset={}/subset --backend=transformers --tokenized={}/tokenized "
    "--tiny.vocabulary=600 --tiny.hidden=32 --tiny.intermediate=64 --tiny.steps=40 "
    "--tiny.layers=2 --max_length=640 --max_truncated_share=1 --optimisation.batch_size=8 "
    "--optimisation.max_steps=6 --optimisation.precision=float32 --checkpoints.save_steps=2"
)
WRITE = "--device=cpu --max_new_tokens=16 --temperature=0"
CHAIN = (
    Step(
        "clean",
        "preprocessing clean --source={}/trn.json --rules.content_min=20 --workers=1 "
        "--rules.content_max=600 --shares.test=0.1 --shares.validation=0.1",
        "clean",
    ),
    Step("subset", "data subset --clean={}/clean", "subset", "clean"),
    Step("train", TRAIN, "run", "subset"),
    Step("export", "training export --run={}/run --precision=float32", "export", "run"),
    Step(
        "generate",
        f"inference generate --run={{}}/run --titles={{}}/subset --limit=12 {WRITE}",
        "texts",
        "run",
    ),
    Step(
        "evaluate",
        "inference evaluate --run={}/run --subset={}/subset --generated={}/texts --base=false "
        "--resamples=100 --device=cpu --max_new_tokens=16 --rows=12",
        "report",
        "texts",
    ),
    Step(
        "ask",
        f"inference ask Kettle --anyway --json --run={{}}/run --catalogue={{}}/clean {WRITE}",
        reads="clean-titles",
    ),
)
# Further readers of what the chain makes: of the tokenised rows, a checkpoint, the export.
MORE = (
    Step("train", TRAIN, "run", "tokenized"),
    Step("resume", TRAIN, "run", "checkpoint"),
    Step(
        "generate",
        f"inference generate --run={{}}/export --titles={{}}/subset --limit=12 {WRITE}",
        "texts of export",
        "export",
    ),
    Step("show", "data show {}/report", reads="report"),
)


def run(words: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it printed.

    A fault that would be a traceback counts as code 70.
    """
    printed = io.StringIO()
    stage = importlib.import_module(f"{words[0]}.__main__")
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = stage.main(words[1:])
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:
            return 70, repr(error)
    return code, printed.getvalue()


def make_chain(root: Path, rows: int) -> None:
    """Make every artefact once."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    raw = ["data", "synthesize", f"--rows={rows}", f"--out={root / 'trn.json'}"]
    export = next(step for step in MORE if step.reads == "export")
    for words in (raw, *(step.command(root, root / step.out) for step in (*CHAIN, export))):
        code, printed = run(words)
        if code:
            raise SystemExit(f"{' '.join(words)} ended with {code}: {printed}")


def payload(out: Path) -> dict[str, str]:
    """Return the digests of an output's data files: all but times, logs and checkpoints."""
    kept = ("*.parquet", "*.arrow", "*.safetensors", "report.json")
    files = {file for form in kept for file in out.rglob(form) if "checkpoint" not in str(file)}
    return {str(file.relative_to(out)): folders.digest_file(file) for file in sorted(files)}


def damaged(root: Path, reads: str) -> Path:
    """Return the folder in which a bit is flipped."""
    if reads == "checkpoint":
        return max((root / "run" / "checkpoints").glob("checkpoint-*"), key=lambda p: p.name)
    return root / reads


def flip(job: tuple[Step, Path, int, int]) -> tuple[str, str]:
    """Flip one bit, read the artefact, put the bit back; each process has a chain of its own.

    Returns:
        ``found``, ``no effect`` or what went wrong; and where the bit was.
    """
    step, root, seed, rows = job
    draw = random.Random(seed)  # noqa: S311
    own = root.with_name(f"{root.name}-{os.getpid()}")
    if not own.exists():
        make_chain(own, rows)
    artefact = damaged(own, step.reads)
    files = sorted(
        file for file in artefact.rglob("*") if file.is_file() and file.stat().st_size
        and (step.reads != "run" or "checkpoints" not in file.parts)
    )  # fmt: skip
    file = draw.choice(files)
    whole = file.read_bytes()
    place = draw.randrange(8 * len(whole))
    changed = bytearray(whole)
    changed[place // 8] ^= 1 << place % 8
    out = own / "again"
    shutil.rmtree(out, ignore_errors=True)
    if step.name == "resume":  # as a kill would leave it
        shutil.copytree(own / "run", out)
        (out / "manifest.json").unlink()
        shutil.rmtree(out / "adapter")
        file = out / file.relative_to(own / "run")
    words = step.command(own, out)
    expected = payload(own / step.out) if step.out else spoken(run(words)[1])
    times = file.stat()
    file.write_bytes(changed)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    folders._CHECKED.clear()  # as a new process would begin
    code, printed = run(words)
    same = (payload(out) if step.out else spoken(printed)) == expected
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(whole)
    where = f"{file.relative_to(own)} bit {place}"
    if code == 0:
        return ("no effect" if same else "WRONG"), where
    is_named = any(name in printed for name in (file.name, artefact.name, out.name))
    return ("found" if code == 1 and is_named else f"code {code}: {printed[-300:]}"), where


def spoken(printed: str) -> object:
    """Return what a command says that must not change: of an answer, its text and record."""
    try:
        reply = json.loads(printed[printed.index("{") :])
    except ValueError:
        return printed
    return reply["answer"], reply["record"]


def flips(root: Path, only: list[str], count: int, rows: int, workers: int) -> bool:
    """Flip ``count`` bits of every kind of artefact; print what became of them."""
    steps = [step for step in (*CHAIN, *MORE) if step.reads in (only or {step.reads} - {""})]
    context = multiprocessing.get_context("spawn")
    is_right = True
    table = []
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        for step in steps:
            began = time.perf_counter()
            jobs = [(step, root, seed, rows) for seed in range(count)]
            fates = list(pool.map(flip, jobs))
            counts = Counter(fate for fate, _ in fates)
            others = [pair for pair in fates if pair[0] not in ("found", "no effect")]
            is_right &= not others
            table.append([
                f"{step.reads}, read by {step.name}", str(counts["found"]),
                str(counts["no effect"]), str(len(others)),
            ])  # fmt: skip
            print(table[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
            for fate, where in others[:5]:
                print(f"    {where}: {fate}", flush=True)
    print(console.table(table, ["artefact", "refused", "without effect", "wrong"]))
    return is_right


def pair(job: tuple[Step, Path, int]) -> str:
    """Start one command twice at once; return what became of it."""
    step, root, number = job
    own = root / f"pair-{step.name}-{number}"
    shutil.rmtree(own, ignore_errors=True)
    words = [sys.executable, "-m", *step.command(root, own)]
    if not step.out:
        words.append(f"--index={own}")
    both = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in both]
    codes = sorted(process.returncode for process in both)
    refused = sum(LOCKED in text for text in printed)
    same = not step.out or payload(own) == payload(root / step.out)
    shutil.rmtree(own, ignore_errors=True)
    if not same or codes not in ([0, 0], [0, 1]) or (codes == [0, 1] and not refused):
        return f"codes {codes}, same output {same}: {printed[0][-200:]!r} {printed[1][-200:]!r}"
    return "one at work" if codes == [0, 1] else "both ended"


def pairs(root: Path, only: list[str], count: int, workers: int) -> bool:
    """Start ``count`` pairs of every command of the chain; print what became of them."""
    is_right = True
    with concurrent.futures.ThreadPoolExecutor(max(1, workers // 2)) as pool:
        for step in (step for step in CHAIN if step.name in (only or {step.name})):
            fates = Counter(pool.map(pair, [(step, root, number) for number in range(count)]))
            is_right &= set(fates) <= {"one at work", "both ended"}
            print(f"{step.name}: {dict(fates)}", flush=True)
    return is_right


def cost(root: Path, limit: float) -> bool:
    """Measure how long each command of a chain compares bytes, against its whole time."""
    seconds = 0.0
    digest = folders.digest_file

    def timed(*words: object, **more: object) -> str:
        nonlocal seconds
        began = time.perf_counter()
        try:
            return digest(*words, **more)  # type: ignore[arg-type]
        finally:
            seconds += time.perf_counter() - began

    is_right = True
    table = []
    for step in (*CHAIN, *MORE[2:3]):
        for module in list(sys.modules.values()):
            if vars(module).get("digest_file") is digest:
                module.digest_file = timed  # type: ignore[attr-defined]
        out = root / "timed"
        shutil.rmtree(out, ignore_errors=True)
        folders._CHECKED.clear()  # as a new process would begin
        seconds, began = 0.0, time.perf_counter()
        code, printed = run(step.command(root, out))
        whole = time.perf_counter() - began
        if code:
            raise SystemExit(printed)
        is_right &= seconds < limit * whole
        table.append([step.name, f"{whole:.2f}", f"{seconds:.3f}", f"{seconds / whole:.1%}"])
    print(console.table(table, ["command", "seconds", "comparing bytes", "share"]))
    return is_right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("flips", "pairs", "cost"))
    parser.add_argument("--only", nargs="*", default=[], help="artefacts, or commands for pairs")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("data/store/faults/artefacts"))
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = options.work.resolve()
    make_chain(root, options.rows)
    match options.what:
        case "flips":
            is_right = flips(
                root, options.only, options.count or 120, options.rows, options.workers
            )
        case "pairs":
            is_right = pairs(root, options.only, options.count or 20, options.workers)
        case _:
            is_right = cost(root, 0.03)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
