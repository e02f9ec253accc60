"""Questions as people type them: several phrasings, two languages, slips of the finger, parts.

From titles alone, by a seed; knows nothing of how titles are searched for.
"""

import random
import re

ENGLISH = (
    "What is {} like?",
    "Tell me about {}",
    "what can you tell me about {}?",
    "Describe {}.",
    "I'm thinking of buying {}, what should I know?",
    "Can you give me a summary of {} please",
    "is {} any good",
    "hi! could you describe {} for me",
    "{}",
    "Why would someone want {}?",
    'What is "{}" about?',
    "please write a description for {}",
)
PORTUGUESE = (
    "O que é {}?",
    "Me fale sobre {}",
    "Como é o {}?",
    "Descreva o produto {}.",
    "gostaria de saber mais sobre {}, por favor",
    "Você pode me contar sobre {}?",
    "do que se trata {}",
    "Oi! Quero comprar {}. O que devo saber?",
    "Para que serve {}?",
    "Qual a descrição do título {}?",
    "O que você acha de “{}”?",
)
_ACCENTED = str.maketrans("aeiouAEIOU", "áéíóúÁÉÍÓÚ")


def slip(word: str, draw: random.Random) -> str:
    """Misspell a word as fingers do: two letters swapped, one lost, doubled or hit beside."""
    place = draw.randrange(1, len(word) - 1)
    match draw.choice(["swap", "lose", "double", "beside"]):
        case "swap":
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        case "lose":
            return word[:place] + word[place + 1 :]
        case "double":
            return word[:place] + word[place] + word[place:]
        case _:
            return word[:place] + draw.choice("aeinorst") + word[place + 1 :]


def misspell(text: str, draw: random.Random) -> str:
    """Put a slip into one long word in four, into one at least where there is one."""
    pieces = re.split(r"(\W+)", text)
    long = [i for i, piece in enumerate(pieces) if len(piece) >= 5 and piece.isalpha()]
    for i in draw.sample(long, -(-len(long) // 4)):
        pieces[i] = slip(pieces[i], draw)
    return "".join(pieces)


def part_of(title: str, draw: random.Random) -> str:
    """Take a run of at least half of a title's words, three or more."""
    listed = title.split()
    length = draw.randint(min(max(3, -(-len(listed) // 2)), len(listed)), max(len(listed) - 1, 1))
    start = draw.randint(0, len(listed) - length)
    return " ".join(listed[start : start + length])


def ask(title: str, draw: random.Random, slips: bool) -> str:
    """Ask about a title, in one of the phrasings, perhaps misspelt or in another case."""
    named = misspell(title, draw) if slips else title
    form = draw.random()
    if form < 0.2:
        named = named.lower()
    elif form < 0.25:
        named = named.upper()
    elif form < 0.3:
        named = named.translate(_ACCENTED)
    return draw.choice(draw.choice((ENGLISH, PORTUGUESE))).format(named)


def questions(
    titles: list[str], count: int, seed: int, slips: float
) -> list[tuple[str, str, bool]]:
    """Make questions: half name a whole title, half a part; some with slips.

    Args:
        titles: to ask about; those of fewer than 4 words are only named whole.
        count: of questions.
        seed: same seed, same questions.
        slips: share of the questions that are misspelt.

    Returns:
        (question, title, whether the whole title is named).
    """
    draw = random.Random(seed)  # noqa: S311
    pairs = []
    for i, title in enumerate(draw.sample(sorted(set(titles)), count)):
        is_whole = i % 2 == 0 or len(title.split()) < 4
        named = title if is_whole else part_of(title, draw)
        pairs.append((ask(named, draw, draw.random() < slips), title, is_whole))
    return pairs
