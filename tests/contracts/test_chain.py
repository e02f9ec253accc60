"""One tiny model goes the whole way through the real commands, as itself and as its export."""

import json
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

import inference.__main__ as inference_stage
from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.tokens import TextTokenizer
from tests import asking
from tests.contracts.conftest import INSTRUCTIONS, command
from tests.serving import serving_forked


def texts(folder: Path) -> dict[str, str]:
    rows = pq.read_table(sorted(folder.glob("part-*.parquet"))).to_pylist()
    return {row["uid"]: row["description"] for row in rows}


def test_run_and_export_mean_the_same_prompt_and_ids(chain: Path) -> None:
    from transformers import AutoTokenizer

    run = manifest.read(Folder(str(chain / "run")), "train")
    export = manifest.read(Folder(str(chain / "export")), "export")
    for fact in ("prompt", "max_length", "longest_completion_tokens", "base_digest"):
        assert export.facts[fact] == run.facts[fact]
    assert run.facts["prompt"]["instruction"] == INSTRUCTIONS
    prompts = [f"{title}</s> {title}" for title in texts(chain / "texts of run").values()]
    adapter, merged = (
        TextTokenizer(AutoTokenizer.from_pretrained(str(folder)))
        for folder in (chain / "run" / "adapter", chain / "export")
    )
    assert adapter.encode(prompts) == merged.encode(prompts)
    assert adapter.eos == merged.eos


def test_run_and_export_write_the_same_texts(chain: Path) -> None:
    of_run, of_export = texts(chain / "texts of run"), texts(chain / "texts of export")
    assert of_run == of_export
    assert len(of_run) >= 10
    assert len(set(of_run.values())) > len(of_run) / 2


def test_plain_transformers_writes_what_the_export_writes(chain: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from data.prompt import Prompt

    export = manifest.read(Folder(str(chain / "export")), "export")
    prompt = Prompt(**export.facts["prompt"])
    model = AutoModelForCausalLM.from_pretrained(str(chain / "export"), dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(str(chain / "export"))
    rows = pq.read_table(sorted((chain / "texts of run").glob("part-*.parquet"))).to_pylist()
    for row in rows[:10]:
        asked = prompt.render(row["title"], row["uid"], about=prompt.about(row))
        assert f"\nColour: {row['colour']}\nBrand: {row['brand']}\nTitle: " in asked
        ids = tokenizer(asked, return_tensors="pt")["input_ids"]
        out = model.generate(ids, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]
        assert tokenizer.decode(out, skip_special_tokens=True).strip() == row["description"]


def test_a_question_gets_one_answer_from_command_and_page(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = sorted((chain / "clean").glob("part-*.parquet"))
    title = pq.read_table(shards)["title"][0].as_py()
    flags = {"catalogue": chain / "clean", "temperature": 0, "max_new_tokens": 24, "device": "cpu"}
    replies = []
    for model in ("run", "export"):
        capsys.readouterr()
        command(inference_stage, "ask", title, "--json", run=chain / model, **flags)
        replies.append(json.loads(capsys.readouterr().out))
    assert replies[0]["answer"] == replies[1]["answer"]
    assert replies[0]["record"]["title"] == title
    assert set(replies[0]["record"]["attributes"]) == {"brand", "colour"}
    words = [f"--{flag}={value}" for flag, value in flags.items()]
    with (
        serving_forked(f"--run={chain / 'run'}", *words) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        assert asking.answer(client, title, seed=replies[0]["seed"]) == replies[0]


def test_the_report_judges_the_texts_that_were_written(chain: Path) -> None:
    command(
        inference_stage, "evaluate", "--resamples=100", run=chain / "run", subset=chain / "subset",
        generated=chain / "texts of run", out=chain / "report",
    )  # fmt: skip
    report = manifest.read(Folder(str(chain / "report")), "evaluate")
    parents = {parent.stage: parent.digest for parent in report.made_from}
    for stage, folder in (("generate", "texts of run"), ("train", "run"), ("subset", "subset")):
        if stage in parents:
            assert parents[stage] == manifest.read(Folder(str(chain / folder))).digest
    assert "generate" in parents
