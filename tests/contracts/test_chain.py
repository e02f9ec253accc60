"""One tiny model goes the whole way through the real commands, as itself and as its export."""

import base64
import json
import re
from pathlib import Path
from types import ModuleType

import httpx
import pyarrow.parquet as pq
import pytest

import data.__main__ as data_stage
import inference.__main__ as inference_stage
import preprocessing.__main__ as preprocessing_stage
import training.__main__ as training_stage
from data.artefacts import manifest
from data.artefacts.folder import Folder
from data.tokens import TextTokenizer
from tests.builders import save_base
from tests.serving import serving

RECORDS = 900
QUESTION = "What is it like?"
INSTRUCTIONS = ["Write a product description.", QUESTION]
ANSWER = "/gradio_api/call/ask"


def command(stage: ModuleType, name: str, *words: str, **flags: object) -> None:
    """Run a command as its user would; its exit code must be 0."""
    assert stage.main([name, *words, *(f"--{flag}={value}" for flag, value in flags.items())]) == 0


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of every stage: records, clean, subset, run, export, and texts of run and export."""
    root = tmp_path_factory.mktemp("chain")
    command(data_stage, "synthesize", rows=RECORDS, out=root / "trn.json.gz", attributes="true")
    command(
        preprocessing_stage, "clean", "--rules.content_min=20", "--rules.content_max=180",
        "--shares.test=0.1", "--attributes=[brand, colour]", source=root / "trn.json.gz",
        out=root / "clean", workers=1,
    )  # fmt: skip
    command(data_stage, "subset", clean=root / "clean", out=root / "subset")
    command(
        training_stage, "run", "--prompt.template=compact", "--optimisation.batch_size=8",
        f"--prompt.instruction={json.dumps(INSTRUCTIONS)}", "--optimisation.max_steps=4",
        "--prompt.attributes=[colour, brand]",
        "--optimisation.precision=float32", base=save_base(root / "base"), max_length=256,
        max_truncated_share=0.1, subset=root / "subset", out=root / "run", backend="transformers",
    )  # fmt: skip
    command(training_stage, "export", run=root / "run", out=root / "export", precision="float32")
    for model in ("run", "export"):
        command(
            inference_stage, "generate", run=root / model, titles=root / "subset",
            out=root / f"texts of {model}", temperature=0, max_new_tokens=24,
            keep_columns="[brand, colour]",
        )  # fmt: skip
    return root


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
    with serving(f"--run={chain / 'run'}", *words) as (address, _), httpx.Client() as client:
        body = {"data": [title, None, False, False, replies[0]["seed"]]}
        event = client.post(f"{address}{ANSWER}", json=body).json()["event_id"]
        stream = client.get(f"{address}{ANSWER}/{event}", timeout=60).text
    download = re.findall(r'base64,([^"\\]+)', stream)[-1]
    assert json.loads(base64.b64decode(download)) == replies[0]


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
