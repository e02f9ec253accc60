"""llama.cpp beside transformers: ``python -m tests.benchmarks.gguf BASE [--titles 100]``.

Puts a random adapter on a base (a folder with its tokenizer), exports it in each precision, and
counts the titles whose greedy tokens are the same from llama-cpp-python as from transformers in
float32. Needs llama-cpp-python, which is built from source. Ends with 1 where float32 differs.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data import console
from data.artefacts.folder import Folder
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.run import Run, locate
from data.prompt import Prompt
from data.synthetic.records import lines
from data.tokens import TextTokenizer
from training.export import command, gguf
from training.export.config import ExportConfig
from training.model.backend import hush, load_tokenizer

_PRECISIONS = ("float32", "float16", "bf16", "q8_0")


def titles(number: int) -> list[str]:
    """Invented titles, none twice."""
    import json

    records = (json.loads(line) for line in lines(3407, 0, 4 * number, 4 * number))
    return list(dict.fromkeys(r["title"].strip() for r in records if r["title"].strip()))[:number]


def make_run(base: Path, run: Path) -> Path:
    """A finished run: a small random adapter on a base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = LoraConfig(
        r=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), settings
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn_like(weight) * 0.002)
    model.save_pretrained(run / "adapter")
    load_tokenizer(base).save_pretrained(run / "adapter")
    facts = {"base": str(base), "base_digest": locate(str(base)).digest,
             "prompt": Prompt("compact").recorded, "longest_completion_tokens": 64}  # fmt: skip
    Manifest("train", {}, {"seed": 1}, (), (), Counts(), facts=facts).write(Folder(str(run)))
    return run


def by_transformers(folder: Path, prompts: list[list[int]], end: int, new: int) -> list[list[int]]:
    """The likeliest tokens after each prompt, and how near the closest rival ever came."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    rows = []
    for ids in prompts:
        made = model.generate(
            torch.tensor([ids]), max_new_tokens=new, do_sample=False, eos_token_id=end
        )
        rows.append(made[0, len(ids) :].tolist())
    return rows


@contextlib.contextmanager
def opened(file: Path, context: int) -> Iterator[Any]:
    """Open a file by llama.cpp, all of its arithmetic in 32 bits that can be."""
    from llama_cpp import GGML_TYPE_F32, Llama

    model = Llama(
        str(file), n_ctx=context, logits_all=True, verbose=False, n_threads=os.cpu_count(),
        type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32,
    )  # fmt: skip
    yield model
    model.close()


def greedy(model: Any, ids: list[int], end: int, new: int) -> list[int]:
    """The likeliest tokens after a prompt, by llama.cpp."""
    model.reset()
    model.eval(ids)
    row: list[int] = []
    while len(row) < new:
        row.append(int(np.argmax(model.scores[model.n_tokens - 1])))
        if row[-1] == end:
            break
        model.eval(row[-1:])
    return row


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--titles", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=32)
    flags = parser.parse_args(argv)
    hush()
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        run = make_run(flags.base.resolve(), root / "run")
        command.run(ExportConfig(run=str(run), out=str(root / "merged"), precision="float32"))
        tokenizer = TextTokenizer(load_tokenizer(root / "merged"))
        prompts = [
            Run.open(str(root / "merged")).render(title, "") for title in titles(flags.titles)
        ]
        ids = tokenizer.encode(prompts)
        expected = by_transformers(root / "merged", ids, tokenizer.eos, flags.tokens)
        shares = {}
        for precision in _PRECISIONS:
            out = root / precision
            command.run(
                ExportConfig(run=str(run), out=str(out), format="gguf", precision=precision)
            )
            with opened(out / gguf.NAME, max(map(len, ids)) + flags.tokens + 8) as model:
                begins = ids[0][:1] == [model.token_bos()]
                encoded = sum(
                    model.tokenize(prompt.encode(), add_bos=begins, special=False) == row
                    for prompt, row in zip(prompts, ids, strict=True)
                )
                rows = [greedy(model, row, tokenizer.eos, flags.tokens) for row in ids]
            same = sum(one == other for one, other in zip(rows, expected, strict=True))
            shares[precision] = same
            console.say(f"{precision}: {encoded} of {len(ids)} prompts encoded alike, {same} of "
                        f"{len(ids)} titles the same {flags.tokens} greedy tokens")  # fmt: skip
    return int(shares["float32"] < flags.titles)


if __name__ == "__main__":
    sys.exit(main())
