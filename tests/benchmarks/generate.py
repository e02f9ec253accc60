"""``make bench-generate``: ways to write the same descriptions on the GPU at hand, side by side.

Each way is a process of its own on the same prompts and weights (``tinyllama``), other prompts in
each round, every row going on to ``--new_tokens`` whatever the model says, medians of
``--rounds``. ``first`` includes loading, compiling and recording; the others are the steady state,
tokenising and decoding included. Prints the table and saves it as JSON with the card named.
"""

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data import console
from data.console import parse_memory
from data.prompt import Prompt
from tests.benchmarks import stand_in, tinyllama

SMALL = {
    "vocab_size": 2_000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
WAYS = (
    "generate:1", "generate:64", "generate:256", "generate:512", "unsloth:512", "ours:0",
    "defaults:0", "vllm:0",
)  # fmt: skip
"""A way and its rows at a time; 0: as it chooses. All are greedy but ``defaults``, which is ours
with the controls that users get, one text a title. ``vllm`` is tried where it is installed."""
Write = Callable[[list[str]], list[str]]


def ours(options: argparse.Namespace, size: int) -> Write:
    from data.artefacts.run import Run
    from inference.engine import drafts
    from inference.engine.batch import FastEngine
    from inference.engine.requests import Request, Settings

    greedy = {"temperature": 0.0, "no_repeat_ngram": 0, "end_after": 0}
    # With an ending, which no row comes to.
    chosen = greedy if options.way == "ours:0" else {"end_after": options.new_tokens}
    settings = Settings(
        max_new_tokens=options.new_tokens, seed=0, batch_size=size or None, engine="fast",
        device=options.device, memory_limit=options.memory_limit, threads=None,
        texts=10**9, **chosen,  # the steady state: compiled
    )  # fmt: skip
    drafts._LEAST_LOOP = options.new_tokens  # no row ends as it loops
    writer = FastEngine(Run.open(str(options.work / "base")), settings)
    writer._texts.eos = -1  # no row ends before its limit

    def write(prompts: list[str]) -> list[str]:
        requests = [Request(str(place), prompt) for place, prompt in enumerate(prompts)]
        texts = [completion.text for completion in writer.generate(requests)]
        slots = {cap: decoder.shape for cap, decoder in writer._decoders.items()}
        print(f"decoders: {slots}", file=sys.stderr)
        return texts

    return write


def stock(options: argparse.Namespace, size: int) -> Write:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = str(options.work / "base")
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, device_map=options.device)
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    return batches(model, tokenizer, options, size)


def unsloth(options: argparse.Namespace, size: int) -> Write:
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        str(options.work / "base"), max_seq_length=2048, load_in_4bit=False
    )
    FastLanguageModel.for_inference(model)
    tokenizer.padding_side = "left"
    return batches(model, tokenizer, options, size)


def vllm(options: argparse.Namespace, size: int) -> Write:
    # In this process, so that its peak counts.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    import torch
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    limits: dict[str, Any] = {}
    if options.memory_limit:
        most = parse_memory(options.memory_limit)
        total = torch.cuda.get_device_properties(0).total_memory
        # The cache's outright: others on the card change what is free while vLLM measures that. The
        # rest is for weights and for what a step keeps.
        limits = {"gpu_memory_utilization": most / total, "kv_cache_memory_bytes": most - 4 * 2**30}
    engine = LLM(str(options.work / "base"), dtype="bfloat16", max_model_len=2048, **limits)
    greedy = SamplingParams(temperature=0.0, max_tokens=options.new_tokens, ignore_eos=True)

    def write(prompts: list[str]) -> list[str]:
        answers = engine.generate(prompts, greedy, use_tqdm=False)
        return [answer.outputs[0].text.strip() for answer in answers]

    return write


def batches(model: Any, tokenizer: Any, options: argparse.Namespace, size: int) -> Write:
    import torch

    def write(prompts: list[str]) -> list[str]:
        texts = []
        for start in range(0, len(prompts), size):
            batch = tokenizer(prompts[start : start + size], return_tensors="pt", padding=True)
            batch = batch.to(options.device)
            with torch.inference_mode():
                output = model.generate(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                    do_sample=False, min_new_tokens=options.new_tokens,
                    max_new_tokens=options.new_tokens,
                )  # fmt: skip
            new = output[:, batch["input_ids"].shape[1] :]
            texts += [
                text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)
            ]
        return texts

    return write


KINDS: dict[str, Callable[..., Write]] = {
    "ours": ours,
    "defaults": ours,
    "generate": stock,
    "unsloth": unsloth,
    "vllm": vllm,
}


def measure(options: argparse.Namespace) -> None:
    """Run one way; print its figures as JSON."""
    import torch

    kind, size = options.way.split(":")
    began = time.perf_counter()
    # The slow ways write fewer rows: a whole number of batches, at most some ten seconds.
    is_slow = KINDS[kind] in (stock, unsloth)
    rows = min(options.rows, max(2 * int(size), 2)) if is_slow else options.rows
    # Others in each round, as an engine may remember prompts.
    titles = iter(tinyllama.titles(rows * (options.rounds + 1)))
    rounds = [
        [Prompt().render(title) for title in itertools.islice(titles, rows)]
        for _ in range(options.rounds + 1)
    ]
    if options.memory_limit and options.device == "cuda" and kind != "vllm":
        total = torch.cuda.get_device_properties(0).total_memory
        share = min(parse_memory(options.memory_limit) / total, 1.0)
        torch.cuda.set_per_process_memory_fraction(share)
    write = KINDS[kind](options, int(size))
    texts = write(rounds[0])
    first = time.perf_counter() - began
    seconds = []
    for prompts in rounds[1:]:
        began = time.perf_counter()
        write(prompts)
        seconds.append(time.perf_counter() - began)
    on_gpu = options.device == "cuda"
    peak = torch.cuda.max_memory_reserved() / 2**30 if on_gpu else 0.0
    result = {
        "way": options.way, "rows": rows, "first": first, "seconds": seconds, "peak_gib": peak,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu", "texts": texts[:512],
    }  # fmt: skip
    print(json.dumps(result))


def roofline(options: argparse.Namespace) -> dict[str, float]:
    """Measure the card's own ceilings: TFLOP/s of a large product, TB/s of a large copy."""
    import torch

    if options.device != "cuda":
        return {}

    def best(work: Callable[[], Any]) -> float:
        times: list[float] = []
        for _ in range(10):
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            stop.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(stop) / 1e3)
        return statistics.median(times)

    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    large = torch.randn(2**29, device="cuda", dtype=torch.bfloat16)
    product, copy = best(lambda: square @ square), best(large.clone)
    return {"tflops": 2 * 8192**3 / product / 1e12, "tb_per_s": 2 * large.nbytes / copy / 1e12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8_192)
    parser.add_argument("--new_tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--card", choices=stand_in.CARDS, help="stood in for by the one at hand")
    parser.add_argument("--memory_limit")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a small model, to try the script")
    parser.add_argument("--timeout", type=float, default=240, help="seconds a way")
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=Path("data/store/bench-generate"))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.card:
        options.memory_limit = stand_in.CARDS[options.card].memory_limit
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if options.card and "CUDA_MPS_PIPE_DIRECTORY" not in os.environ:
        # In a process of its own: the share ends once all that use it have ended.
        with stand_in.share(stand_in.CARDS[options.card].percent):
            words = [sys.executable, "-m", "tests.benchmarks.generate", *sys.argv[1:]]
            sys.exit(subprocess.run(words, check=False).returncode)
    tinyllama.build(
        options.work / "base", SMALL if options.small else tinyllama.SHAPE, options.device
    )
    if options.way:
        measure(options)
        return
    results: list[dict[str, Any]] = []
    for way in options.ways:
        if way.startswith("vllm") and not importlib.util.find_spec("vllm"):
            console.say(f"{way}: left out, as vllm is not installed")
            continue
        words = [sys.executable, "-m", "tests.benchmarks.generate", "--way", way, *sys.argv[1:]]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=True, timeout=options.timeout
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = error.stderr if isinstance(error.stderr, str) else str(error.stderr)
            console.say(f"{way}: no result ({type(error).__name__})\n{said[-2000:]}")
            continue
        results.append(json.loads(done.stdout.splitlines()[-1]))
        console.say(f"{way}: {results[-1]['seconds']}  {done.stderr.splitlines()[-1:]}")
    report(results, roofline(options), options)


def report(results: list[dict[str, Any]], card: dict[str, float], options: Any) -> None:
    texts = {result["way"]: result.pop("texts") for result in results}
    slow = [texts[way] for way in ("generate:512", "generate:64") if way in texts]
    reference = slow[0] if slow else []
    lines = []
    for result in results:
        median = statistics.median(result["seconds"])
        speed = result["rows"] * options.new_tokens / median
        pairs = list(zip(texts[result["way"]], reference, strict=False))
        result["equal"] = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
        equal = f"{result['equal']:.1%}" if pairs else "-"
        lines.append([
            result["way"], f"{result['rows']:,}", f"{median:.2f}", f"{speed:,.0f}",
            f"{result['first']:.1f}", f"{result['peak_gib']:.2f}", equal,
        ])  # fmt: skip
    header = ("way", "rows", "seconds", "tokens/s", "first s", "peak GiB", "rows equal")
    cap = options.memory_limit or "no cap"
    device = results[0]["device"] if results else options.device
    console.say(f"\n{device}, {cap}, {options.new_tokens} new tokens, medians of {options.rounds}")
    console.say(f"ceilings measured: {json.dumps(card)}\n")
    console.say(console.table(lines, header))
    if options.report:
        options.report.write_text(json.dumps({"card": card, "ways": results}, indent=2))


if __name__ == "__main__":
    main()
