"""The Modelfile: what Ollama makes of it is the prompt that the run was trained with."""

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

from data.artefacts.run import RunFacts
from data.prompt import SHOPPER, TEMPLATES, Chat, Prompt
from inference.decoding import BestOf
from training.export import modelfile

PIECES = (
    *("{{", "}}", "{{ .Prompt }}", "{{- ", " -}}", "{", "}", '"', '"""', "`", "\\", "\\n", "'"),
    *("\n", "\r\n", "\t", " ", "$", "{{/*", "*/}}", "FROM x", "#", "{title}", "{instruction}"),
    *("\0", "\x1b", "\xa0", "\u200d", "\u2028", "\ufeff", "é", "日本", "😀", "🫠", "</s>", "%s"),
    *("Kettle", "of steel", "###", "Description:", "### Response:\n", "{% raw %}", "{#"),
)
HOSTILE = [
    "".join(random.Random(seed).choices(PIECES, k=1 + seed % 12))  # noqa: S311
    for seed in range(100)
]
FRAMES = {
    **{name: Prompt(name) for name in TEMPLATES},
    "several questions": Prompt(instruction=list(SHOPPER)),
    "neighbours and attributes": Prompt("compact", neighbours=2, attributes=["brand"]),
    **{f"hostile {seed}": Prompt("compact", HOSTILE[seed] + "x") for seed in range(40, 60)},
    "every piece": Prompt("alpaca", "".join(PIECES)),
}
CHAT = Chat('<|start|>{{ user }}\r\n"', "<|end|>\n<|start|>assistant\n{", "<|end|>")
MODEL = modelfile.Model("model.gguf", 2048, "</s>")
ACTION = re.compile(r'{{ (?:(\.Prompt)|"((?:\\u[0-9a-f]{4}|\\U[0-9a-f]{8})+)") }}')
GO = """
package main

import ("bytes"; "encoding/json"; "os"; "text/template")

func main() {
	var asked struct{ Template string; Titles []string }
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil { panic(err) }
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(asked.Template))
	var prompts []string
	for _, title := range asked.Titles {
		var b bytes.Buffer
		if err := parsed.Execute(&b, map[string]any{"Prompt": title}); err != nil { panic(err) }
		prompts = append(prompts, b.String())
	}
	json.NewEncoder(os.Stdout).Encode(prompts)
}
"""


def facts_of(prompt: Prompt) -> RunFacts:
    chat = CHAT if prompt.template == "chat" else None
    return RunFacts(prompt=prompt, chat=chat, max_length=512, longest_completion_tokens=160)


def expected(prompt: Prompt, title: str) -> str:
    text = prompt.render(title)
    return CHAT.head + text + CHAT.tail if prompt.template == "chat" else text


def commands(text: str) -> list[tuple[str, str]]:
    """Read a Modelfile as Ollama does: characters that Go does not print are left out, a value
    ends with its line once its quotes are closed."""
    parsed, name, value, state = [], "", "", "nil"
    for character in [*text, "\n"]:
        ends = character in "\r\n"
        if state == "nil":
            state = "comment" if character == "#" else state if character in " \t\r\n" else "name"
            name = character if state == "name" else ""
        elif state == "comment":
            state = "nil" if ends else state
        elif state == "name":
            if character == " " and name.lower() != "parameter":
                state, value = "value", ""
            else:
                assert character.isalnum() or character in " _", name
                name = name.removeprefix("PARAMETER ") + character
                name = "PARAMETER " if name.lower() == "parameter " else name
        elif character in " \t" or (ends and unquoted(value) is None):
            value += character
        elif ends:
            parsed.append((name.lower(), unquoted(value) or ""))
            state = "nil"
        elif character.isprintable():
            value += character
    return parsed


def unquoted(value: str) -> str | None:
    value = value.strip()
    if value.startswith('"""'):
        return value[3:-3] if len(value) >= 6 and value.endswith('"""') else None
    if value.startswith('"'):
        return value[1:-1] if len(value) >= 2 and value.endswith('"') else None
    return value


def rendered(template: str, title: str) -> str:
    """Render the part of Go's templates that a Modelfile of ours may hold, and no other."""

    def value(action: re.Match[str]) -> str:
        return title if action[1] else str(json.loads(f'"{surrogates(action[2])}"'))

    assert "{" not in ACTION.sub("", template)
    return ACTION.sub(value, template)


def surrogates(code: str) -> str:
    """Write a Go string of code points as JSON has it."""
    if code.startswith("\\U"):
        return json.dumps(chr(int(code[2:], 16)))[1:-1]
    return code


def template_of(prompt: Prompt) -> str:
    return dict(commands(modelfile.render(facts_of(prompt), MODEL, "0f")))["template"]


@pytest.mark.parametrize("prompt", FRAMES.values(), ids=FRAMES)
def test_ollamas_prompt_is_ours(prompt: Prompt) -> None:
    template = template_of(prompt)
    for title in HOSTILE:
        assert rendered(template, title) == expected(prompt, title)


@pytest.mark.skipif(not shutil.which("go"), reason="no Go, whose templates Ollama's are")
@pytest.mark.parametrize("prompt", FRAMES.values(), ids=FRAMES)
def test_gos_own_templates_say_the_same(prompt: Prompt, tmp_path: Path) -> None:
    source = tmp_path / "main.go"
    source.write_text(GO)
    asked = json.dumps({"Template": template_of(prompt), "Titles": HOSTILE})
    done = subprocess.run(
        ["go", "run", str(source)], input=asked.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == [expected(prompt, title) for title in HOSTILE]


@pytest.mark.parametrize("prompt", FRAMES.values(), ids=FRAMES)
def test_the_chat_template_inside_the_file_says_the_same(prompt: Prompt) -> None:
    template = jinja2.Environment().from_string(modelfile.jinja(facts_of(prompt)))  # noqa: S701
    for title in HOSTILE:
        messages = [{"role": "user", "content": title}]
        assert template.render(messages=messages) == expected(prompt, title)


def test_parameters_are_those_of_generate() -> None:
    parameters = dict(commands(modelfile.render(facts_of(Prompt()), MODEL, "0f")))
    defaults = BestOf()
    assert float(parameters["temperature"]) == defaults.temperature
    assert float(parameters["top_p"]) == defaults.top_p
    assert float(parameters["min_p"]) == defaults.min_p
    assert float(parameters["repeat_penalty"]) == defaults.repetition_penalty == 1
    assert parameters["top_k"] == "0"
    assert (parameters["num_ctx"], parameters["num_predict"]) == ("2048", "181")
    assert (parameters["from"], parameters["stop"]) == ("./model.gguf", "</s>")


def test_what_it_cannot_do_is_said() -> None:
    prompt = Prompt("compact", list(SHOPPER), neighbours=1, attributes=["brand", "price"])
    text = modelfile.render(facts_of(prompt), MODEL, "0f")
    for words in ("best_of", "no_repeat_ngram", "end_after", "One of the 6", "Similar titles",
                  "Attributes (brand, price)"):  # fmt: skip
        assert words in text
    assert f"no run of {BestOf().no_repeat_ngram} tokens" in text
    plain = modelfile.render(facts_of(Prompt()), MODEL, "0f")
    assert "Similar titles" not in plain
    assert "Attributes" not in plain
