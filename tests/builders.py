"""Builders that tests import by name: invented records, raw files, folders of each stage, models.

Each writes what its stage would, small and by hand, so that a test states what it is about.
"""

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from data import neighbours, sampling
from data.artefacts import schema
from data.artefacts.folder import Artefact, Folder, digest_file
from data.artefacts.manifest import Counts, Manifest
from data.artefacts.parts import commit_part, part_name
from data.artefacts.run import locate
from data.prompt import Prompt
from data.sampling import SplitShares
from inference.engine import Settings
from preprocessing.fields import Fields
from preprocessing.parse import Parsed, Records, line_bounds, parse_records

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    *("kettle", "steel", "green", "quiet", "garden", "novel", "lamp", "boils"),
    *("folds", "lasts", "small", "bright", "river", "paper", "copper"),
)
CONTEXT = 256
NOUNS = ("kettle", "lamp", "novel", "jacket", "violin", "clock", "tent", "mirror")
COLOURS = ("green", "copper", "white", "quiet", "small")


def raw_line(uid: str, title: str = "Kettle", content: str = "Boils water.", **other: Any) -> bytes:
    """One raw line in the shape of the catalogue, without its newline."""
    record = {"uid": uid, "title": title, "content": content} | other
    return json.dumps(record).encode()


def random_text(characters: int, seed: int = 0) -> str:
    """Words of exactly so many characters, neither starting nor ending with a space."""
    draw = random.Random(seed)  # noqa: S311
    text = ""
    while len(text) < characters:
        text += draw.choice(WORDS) + " "
    text = text[:characters]
    return text[:-1] + "." if text.endswith(" ") else text


def parse_lines(data: bytes, offset: int, source: str, max_line_bytes: int) -> Parsed:
    """Parse a block of whole lines, as ``clean`` does."""
    starts, stops = line_bounds(data)
    records = Records(data, starts, stops, starts + offset)
    return parse_records(records, source, Fields(), max_line_bytes)


def raw_lines(rows: int) -> list[bytes]:
    """Invented records: most pass ``content_min=20, content_max=200``; one in a hundred is broken,
    and entities, mojibake, double spaces, empty fields and duplicates are among them."""
    lines = []
    for i in range(rows):
        title = f"{WORDS[i % 15].title()} No. {i % (rows // 2 + 1)} &amp; Son"
        content = random_text(30 + i % 120, seed=i % (rows - rows // 20 or 1))
        match i % 100:
            case 3:
                lines.append(b'{"uid": "' + str(i).encode() + b'", "title": broken}')
                continue
            case 7 | 17 | 27:
                title = ""
            case 8 | 18 | 28:
                content = ""
            case 9:
                content = f"CafÃ© DuNord  &#x92;{content}&nbsp;"
            case 10:
                content = "short"
            case 11:
                content = random_text(300, seed=i)
        lines.append(raw_line(f"{i:010d}", title, content, target_ind=[i], target_rel=[1.0]))
    return lines


def write_raw(path: Path, lines: list[bytes]) -> Path:
    """Write lines as a raw file, gzip where its name ends so."""
    payload = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(payload) if path.suffix == ".gz" else payload)
    return path


_BROKEN = {
    "invalid_json": {
        "text": b"no JSON at all",
        "cut short": b'{"uid": "1", "title": "t", "conte',
        "a line of an array": b'{"uid": "1", "title": "t", "content": "c"},',
        "one of our fields twice": b'{"uid": "1", "title": "t", "title": "u", "content": "c"}',
        "one of our fields twice, once escaped": (
            b'{"uid": "1", "title": "t", "\\u0074itle": "u", "content": "c"}'
        ),
        "two objects": (
            b'{"uid": "1", "title": "t", "content": "c"}{"uid": "2", "title": "t", "content": "c"}'
        ),
        "null between two objects": (
            b'{"uid":"1","title":"t","content":"c"}null{"uid":"2","title":"t","content":"c"}'
        ),
        "NUL between two objects": (
            b'{"uid":"1","title":"t","content":"c"}\0{"uid":"2","title":"t","content":"c"}'
        ),
        "raw NUL in a text": b'{"uid": "1", "title": "a\0b", "content": "c"}',
        "raw NUL in another field": b'{"uid": "1", "title": "t", "content": "c", "x": "\0"}',
        "only NULs": b"\0\0\0\0",
        "raw tab in a text": b'{"uid": "1", "title": "a\tb", "content": "c"}',
        "high surrogate alone": b'{"uid": "1", "title": "\\ud800", "content": "c"}',
        "low surrogate alone": b'{"uid": "1", "title": "\\udc00", "content": "c"}',
        "mark inside the file": b'\xef\xbb\xbf{"uid": "1", "title": "t", "content": "c"}',
        "nested without end": b'{"uid": "1", "title": "t", "content": "c", "x": ' + b"[" * 20_000,
        "single quotes": b"{'uid': '1', 'title': 't', 'content': 'c'}",
    },
    "invalid_utf8": {
        "Latin-1": b'{"uid": "1", "title": "caf\xe9", "content": "c"}',
        "surrogate as UTF-8": b'{"uid": "1", "title": "\xed\xa0\x80", "content": "c"}',
        "overlong UTF-8": b'{"uid": "1", "title": "\xc0\xaf", "content": "c"}',
        "invalid UTF-8 in another field": (
            b'{"uid": "1", "title": "t", "content": "c", "x": "\xff"}'
        ),
    },
    "not_an_object": {
        "null": b"null",
        "number": b"17",
        "string": b'"uid title content"',
        "array": b'["uid", "title", "content"]',
    },
    "missing_field": {
        "empty object": b"{}",
        "no uid": b'{"title": "t", "content": "c"}',
        "no title": b'{"uid": "1", "content": "c"}',
        "no content": b'{"uid": "1", "title": "t"}',
        "field in other case": b'{"UID": "1", "title": "t", "content": "c"}',
    },
    "wrong_type": {
        "number for uid": b'{"uid": 1, "title": "t", "content": "c"}',
        "fraction for title": b'{"uid": "1", "title": 1.5, "content": "c"}',
        "null for title": b'{"uid": "1", "title": null, "content": "c"}',
        "true for content": b'{"uid": "1", "title": "t", "content": true}',
        "array for content": b'{"uid": "1", "title": "t", "content": ["c"]}',
        "object for title": b'{"uid": "1", "title": {"en": "t"}, "content": "c"}',
    },
}
REFUSED = {
    name: (line, reason) for reason, lines in _BROKEN.items() for name, line in lines.items()
}
"""Lines that are no records, and why."""

_TEXTS = b'{"uid": "1", "title": "t", "content": "c"'

KEPT = {
    "plain": (_TEXTS + b"}", ("1", "t", "c")),
    "other fields": (
        b'{"uid":"1","target_ind":[1,2],"title":"t","content":"c","target_rel":[0.5]}',
        ("1", "t", "c"),
    ),
    "windows line end": (_TEXTS + b"}\r", ("1", "t", "c")),
    "space around": (b" \t" + _TEXTS + b"} ", ("1", "t", "c")),
    "empty texts": (b'{"uid": "", "title": "", "content": ""}', ("", "", "")),
    "escaped NUL": (b'{"uid": "1", "title": "a\\u0000b", "content": "c"}', ("1", "a\0b", "c")),
    "escaped newline": (b'{"uid": "1", "title": "a\\nb", "content": "c"}', ("1", "a\nb", "c")),
    "escaped pair of surrogates": (
        b'{"uid": "1", "title": "\\ud83d\\ude00", "content": "c"}',
        ("1", "😀", "c"),
    ),
    "beyond ASCII": ('{"uid":"1","title":"Café 😀","content":"c"}'.encode(), ("1", "Café 😀", "c")),
    "braces in texts": (b'{"uid":"1","title":"}{","content":"}\\n{"}', ("1", "}{", "}\n{")),
    "looks like dates": (
        b'{"uid": "2020-01-01", "title": "2020-01-01", "content": "10:00:00"}',
        ("2020-01-01", "2020-01-01", "10:00:00"),
    ),
    "NaN elsewhere": (_TEXTS + b', "x": NaN}', ("1", "t", "c")),
    "huge integer elsewhere": (_TEXTS + b', "x": ' + b"9" * 6_000 + b"}", ("1", "t", "c")),
    "deep nesting elsewhere": (
        _TEXTS + b', "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        ("1", "t", "c"),
    ),
    "another field twice": (_TEXTS + b', "x": 1, "x": "2"}', ("1", "t", "c")),
    "null elsewhere": (_TEXTS + b', "x": null}', ("1", "t", "c")),
    "our names deeper down": (_TEXTS + b', "x": {"uid": 1, "title": null}}', ("1", "t", "c")),
}
"""Lines that are records, however odd, and the texts that they hold."""


def write_clean(
    folder: Path, rows: list[tuple[str, str, str]], parts: int = 3, held_out: float = 0.1,
    **attributes: list[str],
) -> Path:  # fmt: skip
    """A finished clean folder of literal (uid, title, content) rows, as the cleaning writes it.

    Attributes are columns by name.
    """
    to = Folder(str(folder))
    keys = sampling.sample_keys([uid for uid, _, _ in rows], 3407)
    shares = SplitShares(held_out, held_out)
    split = sampling.splits([title for _, title, _ in rows], 3407, shares)
    full = [
        (*row, split[i], keys[i], "raw.json", 100 * i, *(own[i] for own in attributes.values()))
        for i, row in enumerate(rows)
    ]  # offsets rise with the position in the file
    outputs, form = [], schema.with_attributes(schema.CLEAN, list(attributes))
    for index in range(parts):
        own = full[len(full) * index // parts : len(full) * (index + 1) // parts]
        columns = list(zip(*sorted(own, key=lambda row: (row[4], row[0])), strict=True))
        arrays = [pa.array(column, field.type) for column, field in zip(columns, form, strict=True)]
        table = pa.table(arrays, schema=form)
        outputs.append(commit_part(to, part_name(index), table))
    Manifest(
        stage="clean",
        config={"seed": 3407, **({"attributes": list(attributes)} if attributes else {})},
        identity={"seed": 3407},
        inputs=(Artefact("/raw.json", len(rows), 1, "0f"),),
        outputs=tuple(outputs),
        counts=Counts(len(rows), len(rows)),
    ).write(to)
    return folder


def digest_files(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder but its manifest, which holds seconds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "manifest.json"
    }


def run_python(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run this Python in a process of its own, from the checkout."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


CATALOGUE = [
    ("u0", "Green Copper Kettle, 2-Litre", "Boils two litres of water and whistles a green tune."),
    ("u1", "Green Copper Kettle, 3-Litre", "Boils three litres of water and whistles twice."),
    ("u2", "The Quiet Violin", "A novel of a violin that nobody plays until the storm comes."),
]
"""Clean rows to ask about: two titles that are much alike, and another."""


def some_titles(rows: int) -> list[str]:
    """Titles of many lengths, none twice."""
    return [
        f"{COLOURS[i % 5].title()} {NOUNS[i % 8]} No. {i}" + " of steel, boxed" * (i % 4)
        for i in range(rows)
    ]


def write_titles(path: Path, titles: list[str]) -> Path:
    """Write titles as JSON lines with uids u0, u1, ..."""
    rows = [{"uid": f"u{i}", "title": title} for i, title in enumerate(titles)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_tokenizer(folder: Path) -> None:
    """A byte-level BPE that writes <s> before every text, as Llama's own does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([Prompt().render(title) for title in some_titles(40)], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def save_base(folder: Path, seed: int = 0, hidden: int = 32) -> Path:
    """Random weights that are far from ties and end about half of the texts within 14 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[1] *= 1.8
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_adapter(folder: Path, base: Path, seed: int = 1) -> None:
    """A LoRA whose both halves are random: what it adds is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)


def show_neighbours(run: Path, rows: list[tuple[str, str]], most: int = 1) -> Path:
    """Finish a run whose prompts show rows of (title, description), each title its own family."""
    file = run / neighbours.NAME
    titles, descriptions = zip(*rows, strict=True)
    families = pa.array([sampling.title_key(title) for title in titles], pa.uint64())
    table = pa.table([titles, descriptions, families], schema=neighbours.ROWS)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    prompt = Prompt(instruction="Write a product description.", neighbours=most)
    rows_file = Artefact(file.name, len(rows), file.stat().st_size, digest_file(file))
    return finish_run(run, (rows_file,), prompt=prompt.recorded)


def finish_run(run: Path, outputs: tuple[Artefact, ...] = (), **facts: Any) -> Path:
    """Write the manifest that a training run ends with."""
    base = locate(str(run / "base"))
    told = {
        "base": "base",
        "base_digest": base.digest,
        "prompt": {"template": "alpaca", "instruction": "Write a product description."},
        "longest_completion_tokens": 12,
    }
    record = Manifest("train", {}, {"seed": 1}, (), outputs, Counts(), facts=told | facts)
    record.write(Folder(str(run)))
    return run


def greedy(**changes: Any) -> Settings:
    """Settings of an engine that writes greedily on a CPU, nothing else on."""
    plain: dict[str, Any] = {
        "max_new_tokens": 14, "temperature": 0.0, "top_p": 1.0, "min_p": 0.0,
        "repetition_penalty": 1.0, "no_repeat_ngram": 0, "end_after": 0, "seed": 1,
        "batch_size": None, "engine": "fast", "device": "cpu", "memory_limit": None, "threads": 1,
    }  # fmt: skip
    return Settings(**plain | changes)


def save_meaning(folder: Path, words: list[str]) -> str:
    """Save a model2vec model of some words: each in a direction of its own, all others nowhere."""
    import numpy as np
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    names = ["[UNK]", *dict.fromkeys(words)]
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.eye(len(names), dtype=np.float32)
    StaticModel(vectors, tokenizer).save_pretrained(str(folder))
    return str(folder)
