"""llama.cpp beside transformers: ``python -m tests.benchmarks.gguf BASE [--titles 100]``.

Puts a random adapter on a base (a folder with its tokenizer), exports it in each precision, and
counts the titles whose greedy tokens are the same from llama-cpp-python as from transformers in
float32. Needs llama-cpp-python, which is built from source. Ends with 1 where float32 differs.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

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

_Precision = Literal["float32", "float16", "bf16", "q8_0"]
_PRECISIONS: tuple[_Precision, ...] = ("float32", "float16", "bf16", "q8_0")
_BATCH = 25


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


def by_transformers(model: Any, prompts: list[list[int]], end: int, new: int) -> list[list[int]]:
    """The likeliest tokens after each prompt, one prompt at a time as far as rounding goes.

    Many are written at once; those whose tokens are not the likeliest alone are written again.
    """
    import torch

    rows = []
    for at in range(0, len(prompts), _BATCH):
        batch = prompts[at : at + _BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([[end] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        written = model.generate(
            ids, attention_mask=mask, max_new_tokens=new, do_sample=False, eos_token_id=end,
            pad_token_id=end,
        )  # fmt: skip
        rows += [_until(row, end) for row in written[:, width:].tolist()]
    return [
        row if likeliest(model, ids, row) == row else _alone(model, ids, end, new)
        for ids, row in zip(prompts, rows, strict=True)
    ]


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


def _alone(model: Any, ids: list[int], end: int, new: int) -> list[int]:
    import torch

    one = torch.tensor([ids])
    row = model.generate(one, max_new_tokens=new, do_sample=False, eos_token_id=end)[0, len(ids) :]
    return list(row.tolist())


def likeliest(model: Any, ids: list[int], row: list[int]) -> list[int]:
    """The token that transformers finds likeliest in each place of a text after its prompt."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids + row])).logits[0, len(ids) - 1 : -1]
    return list(logits.argmax(-1).tolist())


@contextlib.contextmanager
def opened(file: Path, context: int) -> Iterator[Any]:
    """Open a file by llama.cpp, all of its arithmetic in 32 bits that can be."""
    from llama_cpp import GGML_TYPE_F32, Llama

    model = Llama(
        str(file), n_ctx=context, logits_all=True, verbose=False, n_threads=1,
        type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32,
    )  # fmt: skip
    yield model
    model.close()


def by_llama_cpp(model: Any, ids: list[int], row: list[int]) -> list[int]:
    """The token that llama.cpp finds likeliest in each place of a text after its prompt.

    Where they are the text's own, it would have written it greedily.
    """
    model.reset()
    model.eval(ids + row[:-1])
    return [int(np.argmax(model.scores[at])) for at in range(len(ids) - 1, len(ids) + len(row) - 1)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--titles", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=32)
    flags = parser.parse_args(argv)
    import torch
    from transformers import AutoModelForCausalLM

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
        merged = AutoModelForCausalLM.from_pretrained(str(root / "merged"), dtype=torch.float32)
        merged.eval()
        rows = by_transformers(merged, ids, tokenizer.eos, flags.tokens)
        texts = list(zip(ids, rows, strict=True))
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
                same = sum(by_llama_cpp(model, *pair) == pair[1] for pair in texts)
            shares[precision] = same
            console.say(f"{precision}: {encoded} of {len(ids)} prompts encoded alike, {same} of "
                        f"{len(ids)} titles the same {flags.tokens} greedy tokens")  # fmt: skip
    return int(shares["float32"] < flags.titles)


if __name__ == "__main__":
    sys.exit(main())
