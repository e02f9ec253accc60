"""The command: answers, evidence, questions back, JSON, lines of questions, refusals."""

import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import console
from data.errors import ConfigError
from data.prompt import Prompt
from inference import fidelity
from inference.__main__ import main, switches
from inference.config import AskConfig, AssistantConfig, ServeConfig
from tests.builders import CATALOGUE, finish_run, show_neighbours, write_clean

Ask = Callable[..., int]
ROWS = [
    *CATALOGUE,
    ("u3", "<b>Bold</b> & Sons", "<script>alert(1)</script> is the name of this book, oddly."),
    ("u4", "The Quiet Clock", "A clock without a tick."),
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("ask") / "clean", ROWS, parts=2)


@pytest.fixture
def ask(clean: Path, run: Path) -> Ask:
    def go(*words: str) -> int:
        return main(["ask", *words, f"--run={run}", f"--catalogue={clean}", "--device=cpu"])

    return go


def test_an_answer_comes_with_its_evidence(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("What is the quiet violin about?", "--compare") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("The Quiet Violin\n\n")
    for name in ("base says", "record", "line", "training", "recited", "seed"):
        assert f"\n{name}" in shown
    assert "A novel of a violin that nobody plays" in shown
    assert "raw.json, byte 200" in shown


def test_what_is_untrue_is_flagged_under_the_answer(
    ask: Ask, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [fidelity.Number(0, 2, "12", "12"), fidelity.Number(4, 8, "1998", "1998")]
    checks = fidelity.Checks(["Quiet"], ["Violin"], [*numbers, numbers[0]], 0.0)
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(fidelity, "check", lambda *words: (seen.append(words), checks)[1])
    assert ask("What is the quiet violin about?", "--compare") == 0
    shown = capsys.readouterr().out
    assert seen[0][1:] == ("The Quiet Violin", ROWS[2][2])
    assert len(seen) == 1  # what the base says is not checked
    assert "\ntitle words 1 of 2 kept, missing: Violin\n" in shown
    assert "\nnumbers     not supported by title or record: 12, 1998\n" in shown
    checks = fidelity.Checks(["Quiet", "Violin"], [], [], 0.0)
    assert ask("What is the quiet violin about?") == 0
    shown = capsys.readouterr().out
    assert "\ntitle words 2 of 2 kept\n" in shown
    assert "\nnumbers" not in shown


def test_json_holds_the_same_every_time(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("me fale sobre o Quiet Violn", "--json", "--seed=5")
    assert ask(*words) == 0
    first = capsys.readouterr().out
    assert ask(*words) == 0
    assert capsys.readouterr().out == first
    told = json.loads(first)
    assert (told["status"], told["title"], told["seed"]) == ("answered", "The Quiet Violin", 5)
    assert told["record"] == {
        **{"uid": "u2", "title": "The Quiet Violin", "content": ROWS[2][2]},
        **{"split": told["record"]["split"], "source": "raw.json", "byte_offset": 200},
    }
    assert told["new_tokens"] > 0
    assert told["base_answer"] is None
    checks = fidelity.check(told["answer"], "The Quiet Violin", ROWS[2][2])
    assert told["checks"] == json.loads(json.dumps(dataclasses.asdict(checks)))
    assert {"title_words_kept", "title_words_missing", "unsupported"} < set(told["checks"])


def test_the_text_on_the_terminal_is_the_answer(
    ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    question = ("What is the quiet violin about?", "--seed=9")
    assert ask(*question, "--json") == 0
    told = json.loads(capsys.readouterr().out)["answer"]
    assert ask(*question) == 0
    said = capsys.readouterr().out.removeprefix("The Quiet Violin\n\n")
    printed = console.printable(told)
    assert said.startswith(printed)
    assert said[len(printed) :].startswith(("\n", " [cut at the limit]\n"))


ASKED = "Is the quiet violin sad?"
TRAINED = "Write a product description."
SEVERAL = ["What is it like?", "What does it offer?", TRAINED]


@pytest.mark.parametrize(
    ("known", "wording", "told"),
    [
        (TRAINED, "auto", TRAINED),
        (TRAINED, "question", ASKED),
        (SEVERAL, "auto", ASKED),
        (SEVERAL, "trained", Prompt(instruction=SEVERAL).choose("u2")),
    ],
)
def test_the_adapter_is_asked_in_words_that_it_knows(
    known: Any,
    wording: str,
    told: str,
    clean: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = Path(shutil.copytree(run, tmp_path / "run"))
    finish_run(own, prompt={"template": "alpaca", "instruction": known})
    seen: list[tuple[Any, ...]] = []
    real = Prompt.ask
    monkeypatch.setattr(
        Prompt, "ask", lambda self, *told: (seen.append(told), real(self, *told))[1]
    )
    words = [f"--run={own}", f"--catalogue={clean}", "--device=cpu", f"--wording={wording}"]
    assert main(["ask", f" {ASKED} ", *words]) == 0
    assert seen == [(told, "The Quiet Violin", [], "")]
    said = f"asked as    {told} (the wording that the adapter was trained with)"
    assert (said in capsys.readouterr().out) == (told != ASKED)
    assert main(["ask", ASKED, *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instruction"] == told


def test_several_titles_are_asked_about(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("Tell me about the green copper kettle") == 1
    told = capsys.readouterr()
    assert "1. Green Copper Kettle, 2-Litre" in told.out
    assert "2. Green Copper Kettle, 3-Litre" in told.out
    assert "name it with --title" in told.err
    assert ask("Tell me about it", "--title", "green copper kettle 3 litre", "--json") == 0
    assert json.loads(capsys.readouterr().out)["record"]["uid"] == "u1"


def test_on_a_terminal_a_number_chooses(
    ask: Ask, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "2")
    assert ask("Tell me about the green copper kettle") == 0
    assert "byte 100" in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", lambda _: "7")
    assert ask("Tell me about the green copper kettle") == 2


def test_what_is_not_there_is_not_answered(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("What is the Zanzibar Teapot like?", "--json") == 1
    told = capsys.readouterr()
    assert "expected a title of the catalogue, found none" in told.err
    answer = json.loads(told.out)
    assert (answer["status"], answer["answer"], answer["record"]) == ("no_match", None, None)


def test_an_invention_is_marked(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("What is the Zanzibar Teapot like?", "--anyway", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["title"], told["training"]) == (
        *("invented", "Zanzibar Teapot", "unknown"),
    )
    assert told["record"] is None
    assert told["finish_reason"]
    assert ask("What is the Zanzibar Teapot like?", "--anyway") == 0
    assert "what follows is invented" in capsys.readouterr().out


def test_markup_is_only_text(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("what is <b>bold</b> & sons", "--json") == 0
    assert json.loads(capsys.readouterr().out)["record"]["uid"] == "u3"


@pytest.mark.parametrize(
    ("question", "told"),
    [("", "an empty one"), ("  ", "an empty one"), ("?!", "no word"), ("a " * 5_000, "10,000")],
)
def test_what_is_no_question_is_refused(
    ask: Ask, question: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(question) == 2
    assert told in capsys.readouterr().err


def test_a_line_of_json_for_every_line(
    ask: Ask, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "the quiet violin\n\nthe zanzibar teapot\n???\nThe Quiet Clock, please\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(asked))
    assert ask("-") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("status") for line in lines] == ["answered", "no_match", None, "answered"]
    assert "no word" in lines[2]["error"]
    assert ask("the quiet violin", "--json") == 0
    assert json.loads(capsys.readouterr().out) == lines[0]


def test_a_missing_model_or_catalogue_is_told(
    clean: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = str(tmp_path / "none")
    assert main(["ask", "kettle", f"--run={nothing}", f"--catalogue={clean}"]) == 1
    assert "the folder of a run or of a model" in capsys.readouterr().err
    assert main(["ask", "kettle", f"--run={run}", f"--catalogue={nothing}"]) == 1
    assert "the finished output of clean" in capsys.readouterr().err


def test_switches_stand_alone() -> None:
    told = switches(["ask", "q", "--compare", "--json", "false", "--anyway", "--title", "--json"])
    assert told == [
        *("ask", "q", "--compare", "true", "--json", "false", "--anyway", "true"),
        *("--title", "--json", "true"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"matches": 0}, {"max_characters": 0}, {"max_new_tokens": 0}, {"temperature": -1.0},
        {"top_p": 0.0}, {"seed": 2**63}, {"memory_limit": "much"}, {"temperature": 1e-9},
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AssistantConfig(**wrong)
    with pytest.raises(ConfigError):
        AskConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"port": 70_000}, {"port": -1}, {"queue": 0}, {"top_p": 2.0}])
def test_a_server_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServeConfig(**wrong)


def test_a_question_may_be_as_long_as_is_set(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("ok?", "--json", "--max_characters=3") == 1
    assert "expected a title of the catalogue" in capsys.readouterr().err
    assert ask("ok?", "--json", "--max_characters=2") == 2
    assert "expected at most 2 characters, found 3" in capsys.readouterr().err


# What the prompt shows ----------------------------------------------------------------------------


@pytest.fixture
def ask_grounded(clean: Path, run: Path, tmp_path: Path) -> Ask:
    """Ask a run whose prompts show one row of a similar title."""
    folder = Path(shutil.copytree(run, tmp_path / "grounded"))
    near = "A drama of a violin that everybody plays, in a loud house by the sea."
    show_neighbours(folder, [("The Loud Violin", near), ("A Kettle", "It boils.")])

    def go(*words: str) -> int:
        return main(["ask", *words, f"--run={folder}", f"--catalogue={clean}", "--device=cpu"])

    return go


def answer_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.parametrize(
    ("ground", "question", "expected", "titles"),
    [
        ((), "The Quiet Violin", "record", ["The Quiet Violin"]),
        (("--ground=record",), "The Quiet Violin", "record", ["The Quiet Violin"]),
        (("--ground=neighbours",), "The Quiet Violin", "neighbours", ["The Loud Violin"]),
        (("--ground=none",), "The Quiet Violin", "none", []),
        ((), "My Own Violin", "neighbours", ["The Loud Violin"]),
        ((), "Zzyzx Qwfp", "none", []),
    ],
)
def test_the_prompt_shows_what_the_answer_is_grounded_in(
    ask_grounded: Ask, capsys: Any, ground: tuple[str, ...], question: str, expected: str,
    titles: list[str],
) -> None:  # fmt: skip
    words = (*ground, f"--title={question}", "--anyway", "--json")
    assert ask_grounded(f"What is {question} like?", *words) == 0
    answer = answer_of(capsys)
    assert (answer["ground"], [row["title"] for row in answer["shown"]]) == (expected, titles)


def test_what_was_shown_changes_the_answer_and_is_named_below_it(
    ask_grounded: Ask, capsys: Any
) -> None:
    answers = set()
    for ground in ("record", "neighbours", "none"):
        assert ask_grounded("Quiet Violin", f"--ground={ground}", "--json") == 0
        answers.add(answer_of(capsys)["answer"])
    assert len(answers) == 3
    assert ask_grounded("Quiet Violin") == 0
    assert "\ngrounded in its own record, whose description the prompt showed" in (
        capsys.readouterr().out
    )
    assert ask_grounded("Quiet Violin", "--ground=neighbours") == 0
    assert "\ngrounded in similar titles that the prompt showed: The Loud Violin" in (
        " ".join(capsys.readouterr().out.split("\n            ")).replace("  ", " ")
    )


@pytest.mark.parametrize("ground", ["record", "neighbours"])
def test_a_run_without_neighbours_cannot_be_grounded(
    ask: Ask, capsys: pytest.CaptureFixture[str], ground: str
) -> None:
    assert ask("Quiet Violin", f"--ground={ground}") == 2
    assert "expected a run trained with --prompt.neighbours" in capsys.readouterr().err


# Attributes ---------------------------------------------------------------------------------------

ABOUT = {"brand": ["", "", "Ostravik & <b>", "", ""], "price": ["9", "9", "1998.50", "9", "9"]}


@pytest.fixture
def ask_about(run: Path, tmp_path: Path) -> Ask:
    """Ask a run whose prompts show brand and price, about rows that have them."""
    clean = write_clean(tmp_path / "clean", ROWS, parts=2, **ABOUT)
    prompt = Prompt(instruction=TRAINED, attributes=["price", "brand"]).recorded
    folder = finish_run(Path(shutil.copytree(run, tmp_path / "about")), prompt=prompt)

    def go(*words: str) -> int:
        return main(["ask", f"--run={folder}", f"--catalogue={clean}", "--device=cpu", *words])

    return go


def test_the_prompt_shows_the_attributes_of_the_record(
    ask_about: Ask, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    real = Prompt.ask
    monkeypatch.setattr(
        Prompt, "ask", lambda self, *told: (prompts.append(real(self, *told)), prompts[-1])[1]
    )
    assert ask_about("What is the quiet violin about?", "--json") == 0
    record = answer_of(capsys)["record"]
    assert record["attributes"] == {"brand": "Ostravik & <b>", "price": "1998.50"}
    assert prompts[0].endswith(
        "### Input:\nPrice: 1998.50\nBrand: Ostravik & <b>\nThe Quiet Violin\n\n### Response:\n"
    )
    assert ask_about("Zzyzx Qwfp", "--title=Zzyzx Qwfp", "--anyway", "--json") == 0
    assert prompts[1].endswith("### Input:\nZzyzx Qwfp\n\n### Response:\n")
    assert answer_of(capsys)["record"] is None


def test_attributes_are_evidence_and_support_numbers(
    ask_about: Ask, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    check = fidelity.check
    monkeypatch.setattr(fidelity, "check", lambda *words: (seen.append(words[2]), check(*words))[1])
    assert ask_about("What is the quiet violin about?") == 0
    assert "\nattributes  Brand: Ostravik & <b>; Price: 1998.50\n" in capsys.readouterr().out
    assert seen == [f"{ROWS[2][2]}\nOstravik & <b>\n1998.50"]


def test_a_catalogue_without_the_attributes_is_refused(
    ask_about: Ask, clean: Path, capsys: Any
) -> None:
    assert ask_about("Quiet Violin", f"--catalogue={clean}") == 1
    assert "expected attributes price, brand, which prompts show, found none" in (
        capsys.readouterr().err
    )
