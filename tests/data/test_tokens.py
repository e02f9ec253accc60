"""One way from text to ids, whatever a tokenizer adds before, behind or inside."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from data.errors import ModelError
from data.prompt import Chat
from data.tokens import TextTokenizer, chat_of

SPECIAL = ["<s>", "</s>", "[SEP]"]
BEGIN, END, SEPARATOR = range(3)
PROMPTS = ["Write.\nTitle: Steel Kettle\nDescription:\n", "A </s> of <s>\n", "ß\n"]
TEXTS = ["Boils water.", " Says </s> and [SEP] goes on.", "xß"]


class Fake:
    """What a tokenizer of transformers is looked at for."""

    name_or_path = "fake"

    def __init__(self, backend: Any, eos: int | None = END) -> None:
        self.backend_tokenizer, self.eos_token_id = backend, eos


def byte_level(template: str | None) -> Any:
    """Every byte a token, with special tokens around a text as the template says."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(SPECIAL + alphabet)}, []))
    made.add_special_tokens(SPECIAL)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if template:
        numbered = [(name, SPECIAL.index(name)) for name in SPECIAL]
        made.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=numbered
        )
    return made


def prefixing(template: str | None) -> Any:
    """Sets a space before every text, as Llama's own does."""
    made = byte_level(template)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


@pytest.mark.parametrize("make", [byte_level, prefixing])
@pytest.mark.parametrize(
    ("template", "begin"),
    [
        (None, []),
        ("<s> $A", [BEGIN]),
        ("<s> $A </s>", [BEGIN]),
        ("$A </s>", []),
        ("<s> $A [SEP]", [BEGIN]),
        ("<s> [SEP] $A [SEP] </s>", [BEGIN, SEPARATOR]),
    ],
)
def test_a_prompt_has_special_tokens_at_its_beginning_alone(
    make: Callable[[str | None], Any], template: str | None, begin: list[int]
) -> None:
    tokens = TextTokenizer(Fake(make(template)))
    plain = make(None)
    plain.encode_special_tokens = True
    heads = tokens.encode(PROMPTS)
    assert heads == [begin + plain.encode(text).ids for text in PROMPTS]
    wholes, parted = tokens.extend(PROMPTS, heads, TEXTS)
    both = [prompt + text for prompt, text in zip(PROMPTS, TEXTS, strict=True)]
    assert wholes == [begin + plain.encode(text).ids for text in both]
    assert parted == 0
    for ids in (*heads, *wholes):
        assert not set(ids[len(begin) :]) & {BEGIN, END, SEPARATOR}


def merging(adds_space: bool) -> Any:
    """Would merge a newline with an x behind it."""
    made = prefixing(None) if adds_space else byte_level(None)
    newline = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("\n")[0][0]
    vocabulary = made.get_vocab() | {f"{newline}x": made.get_vocab_size()}
    made.model = models.BPE(vocabulary, [(newline, "x")])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=adds_space, use_regex=False)
    return made


@pytest.mark.parametrize("adds_space", [False, True])
def test_a_description_is_parted_where_it_would_share_a_token_and_gets_no_space(
    adds_space: bool,
) -> None:
    backend = merging(adds_space)
    tokens = TextTokenizer(Fake(backend))
    prompts, texts = ["Title\n", "Title\n"], ["xy", "yx"]
    heads = tokens.encode(prompts)
    wholes, parted = tokens.extend(prompts, heads, texts)
    assert parted == 1
    ids = backend.get_vocab()
    assert [whole[len(head) :] for head, whole in zip(heads, wholes, strict=True)] == [
        [ids["x"], ids["y"]],
        [ids["y"], ids["x"]],
    ]


def test_texts_are_cut_behind_whole_characters() -> None:
    tokens = TextTokenizer(Fake(byte_level("<s> $A </s>")))
    assert tokens.cut(["abcdef", "ab </s>", "é", "aéb", "日本"], 4) == [
        "abcd",
        "ab <",
        "é",
        "aéb",
        "日",
    ]
    assert tokens.cut(["aéb", "日本", "a  b"], 2) == ["a", "", "a"]
    assert tokens.cut([], 4) == []


class Chatty(Fake):
    """Ends turns with a token that is not its end of sequence."""

    chat_template = "some"

    def apply_chat_template(
        self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool, **_: Any
    ) -> str:
        turns = "".join(f"<s>{one['role']}\n{one['content'].strip()}[SEP]\n" for one in messages)
        return "Be brief.\n" + turns + ("<s>assistant\n" if add_generation_prompt else "")


@pytest.mark.parametrize("make", [byte_level, prefixing])
def test_special_tokens_around_a_message_are_real_and_those_in_it_are_text(
    make: Callable[[str | None], Any],
) -> None:
    tokenizer = Chatty(make("<s> $A </s>"))
    chat = chat_of(tokenizer)
    assert chat == Chat("Be brief.\n<s>user\n", "[SEP]\n<s>assistant\n", "[SEP]")
    tokens = TextTokenizer(tokenizer, chat)
    assert tokens.eos == SEPARATOR
    heads = tokens.encode(["A [SEP] </s>", "<s>"])
    assert [[at for at in ids if at <= SEPARATOR] for ids in heads] == [[0, 2, 0], [0, 2, 0]]
    plain = byte_level(None)
    plain.encode_special_tokens = True
    written = make(None).decode(heads[0], skip_special_tokens=False).replace(" ", "")
    whole = "Be brief.\n<s>user\nA [SEP] </s>[SEP]\n<s>assistant\n"
    assert written == whole.replace(" ", "")
    rows, parted = tokens.extend(["A [SEP] </s>", "<s>"], heads, ["Is [SEP].", "x"])
    assert parted == 0
    assert [row[len(head) :] for row, head in zip(rows, heads, strict=True)] == [
        plain.encode("Is [SEP].").ids, plain.encode("x").ids,
    ]  # fmt: skip
    assert tokens.digest != TextTokenizer(tokenizer).digest


def test_a_template_that_tells_the_date_tells_the_same_one_every_day() -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(None), eos_token="</s>")
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y %H:%M:%S') }}\n"
        "{% for one in messages %}{{ one.role }}: {{ one.content }}</s>{% endfor %}"
    )
    assert chat_of(tokenizer) == Chat("26 Jul 2024 00:00:00\nuser: ", "</s>", "</s>")


@pytest.mark.parametrize("make", [byte_level, prefixing])
def test_what_stands_behind_a_message_begins_with_no_space_of_its_own(
    make: Callable[[str | None], Any],
) -> None:
    tokens = TextTokenizer(Fake(make(None)), Chat("<s>[INST]", "[/INST]", "</s>"))
    (ids,) = tokens.encode(["a"])
    assert make(None).decode(ids, skip_special_tokens=False).replace("<s> ", "<s>").lstrip() == (
        "<s>[INST]a[/INST]"
    )


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    with pytest.raises(ModelError, match=r"fake: expected a chat template.*found none"):
        chat_of(Fake(byte_level(None)))


def test_truncation_and_padding_of_the_tokenizer_do_not_reach_the_ids() -> None:
    backend = byte_level("<s> $A")
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    assert [len(ids) for ids in TextTokenizer(Fake(backend)).encode(["abcdefgh", "a"])] == [9, 2]


def test_the_digest_follows_what_decides_the_ids() -> None:
    made = [
        Fake(byte_level(None)), Fake(byte_level("<s> $A")), Fake(byte_level("<s> $A"), SEPARATOR),
        Fake(prefixing("<s> $A")), Fake(byte_level("<s> $A [SEP]")),
    ]  # fmt: skip
    digests = [TextTokenizer(each).digest for each in made]
    assert len(set(digests)) == 5
    assert TextTokenizer(Fake(byte_level(None))).digest == digests[0]


def test_no_texts_are_no_ids() -> None:
    tokens = TextTokenizer(Fake(byte_level("<s> $A </s>")))
    assert (tokens.encode([]), tokens.extend([], [], [])) == ([], ([], 0))


def test_a_tokenizer_without_backend_or_end_is_refused() -> None:
    with pytest.raises(ModelError, match="fake: expected a fast tokenizer"):
        TextTokenizer(Fake(None))
    with pytest.raises(ModelError, match="an end-of-sequence token, found none"):
        TextTokenizer(Fake(byte_level(None), None))
