"""No guard fires on the real records with the shipped recipes, where this machine has them."""

import gzip
import html
import json
from pathlib import Path

import ftfy
import pytest
import yaml

from data.prompt import SHOPPER, Prompt
from training import guards
from training.examples.encoder import Encoder, TokenisationConfig
from training.model import tiny

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))


@pytest.mark.real
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_no_guard_fires(recipe: Path, real_records: Path) -> None:
    with gzip.open(real_records, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    rows = [
        {name: " ".join(ftfy.fix_text(html.unescape(each[name])).split()) for name in each}
        for each in ({n: record[n] for n in ("uid", "title", "content")} for record in records)
    ]
    rows = [row for row in rows if row["title"] and 100 <= len(row["content"]) <= 1000]
    assert len(rows) > 1_000
    config = yaml.safe_load(recipe.read_text())
    prompt = Prompt(**{"instruction": list(SHOPPER)} | config.get("prompt", {}))
    texts = (f"{row['title']}\n{row['content']}" for row in rows)
    tokenizer = tiny.train_tokenizer(texts, 4_000, config["max_length"])
    form = TokenisationConfig(prompt, config.get("loss_on", "completion"), config["max_length"])
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table, seen = Encoder(tokenizer, form).encode_rows(columns)
    guards.check_truncated(seen.truncated, seen.left_out, len(rows), [], 0.01)
    assert table.num_rows == len(rows)
