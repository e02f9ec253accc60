"""Scores equal the libraries' own on fixed pairs, or a hand count; intervals hold the truth."""

import math

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from inference.evaluate import metrics
from inference.evaluate.metrics import (
    Estimate,
    Sample,
    combine,
    exact_interval,
    percent,
    perplexity,
    ratio,
    resample,
    share,
    weights,
)

TEXTS = [
    "A green kettle of steel that boils water in two minutes.",
    "The novel tells of a quiet river, of a lamp and of 3,000 small boats.",
    "Bright lamp.",
    "",
]
REAL = [
    "This steel kettle, in green, boils a litre of water within two minutes!",
    "A novel about a quiet river and the boats on it.",
    "A copper lamp for the garden, small and bright.",
    "A jacket that lasts.",
]


def _score(name: str, table: np.ndarray) -> float:
    return float(metrics.SCORES[name](table.sum(axis=0, keepdims=True))[0])


def test_bleu_and_chrf_are_sacrebleus() -> None:
    tables = metrics.against_references(TEXTS, REAL)
    assert _score("bleu", tables["bleu"]) == BLEU().corpus_score(TEXTS, [REAL]).score
    chrf = CHRF(word_order=2)
    assert _score("chrf", tables["chrf"]) == chrf.corpus_score(TEXTS, [REAL]).score
    rows = metrics.SCORES["chrf"](tables["chrf"])
    for row, text, real in zip(rows, TEXTS, REAL, strict=True):
        assert row == chrf.sentence_score(text, [real]).score


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_scores(kind: str) -> None:
    table = metrics.against_references(TEXTS, REAL)[kind]
    scorer = RougeScorer([kind])
    own = [scorer.score(real, text)[kind].fmeasure for text, real in zip(TEXTS, REAL, strict=True)]
    assert table[:, 0].tolist() == own
    assert _score(kind, table) == pytest.approx(100 * np.mean(own))
    assert own[0] > 0


def test_signatures_tell_the_settings() -> None:
    signs = metrics.signatures([])
    assert "|nw:2|" in signs["chrf"]
    assert "tok:13a" in signs["bleu"]


def test_length_is_characters_over_characters() -> None:
    tables = metrics.against_references(["abcd", ""], ["ab", "cd"])
    assert _score("length", tables["length"]) == 1.0


def test_distinct_counts_different_ngrams_of_all_texts() -> None:
    tables = metrics.of_texts(["A lamp", "a lamp lamp", ""])
    # a, lamp of five words; (a, lamp), (lamp, lamp) of three pairs.
    assert _score("distinct1", tables["distinct1"]) == pytest.approx(2 / 5)
    assert _score("distinct2", tables["distinct2"]) == pytest.approx(2 / 3)


def test_repetition_counts_what_the_same_text_said_before() -> None:
    tables = metrics.of_texts(["one two three four one two three four", "one two three four"])
    # Five runs of four words with one of them twice, and one run.
    assert tables["repetition"].tolist() == [[1, 5], [0, 1]]


def test_a_text_repeats_itself_from_more_than_a_fifth_of_its_4_grams_on() -> None:
    phrase, others = "one two three four", "a b c d e f g h i j"
    tables = metrics.of_texts(
        [f"{phrase} {phrase}", f"{phrase} {others} {phrase}", f"{phrase} {phrase} {phrase}", ""]
    )
    # 1 of 5, 1 of 15, 5 of 9, and no 4-gram.
    assert tables["repetition"].tolist() == [[1, 5], [1, 15], [5, 9], [0, 0]]
    assert tables["repeating"].tolist() == [[0, 1], [0, 1], [1, 1], [0, 1]]


def test_faithful_adds_up_what_rows_keep() -> None:
    tables = metrics.faithful(
        ["A kettle of 2 litres.", "Some lamp, 7 watts."],
        ["Green Kettle", "Lamp 7W"],
        ["Boils.", "Shines."],
    )
    assert tables["title_words"].tolist() == [[1, 2], [1, 1]]
    assert tables["title_numbers"].tolist() == [[0, 0], [1, 1]]
    assert tables["unsupported"].tolist() == [[1, 1], [0, 1]]
    assert tables["inventing"].tolist() == [[1, 1], [0, 1]]


def test_no_rows() -> None:
    for name, table in metrics.of_texts([]).items():
        assert table.shape == (0, 2), name


def test_keys_are_unique() -> None:
    assert len(metrics.SCORES) == len(metrics.METRICS)


SAME = {
    "Russian": "Чайник из стали кипятит воду за две минуты.",
    "Japanese": "この鉄瓶は二分でお湯を沸かし、長く温かさを保ちます。",
    "Chinese": "这款不锈钢水壶两分钟内烧开水。",
    "Thai": "กาต้มน้ำสแตนเลสต้มน้ำได้ในสองนาที",
    "Arabic": "غلاية من الصلب تغلي الماء في دقيقتين",
    "Hindi": "यह केतली दो मिनट में पानी उबालती है।",
    "Korean": "이 강철 주전자는 2분 만에 물을 끓입니다.",
    "emoji": "🎉 😀 🇧🇷 🎁",
    "mixed": "iPhone 15 ケース for 男性, ＡＢＣ１２３ и чехол",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_equal_texts_score_in_full_in_any_script(text: str) -> None:
    other = "Something else altogether."
    tables = metrics.against_references([text, other], [text, text])
    for name in ("rouge1", "rouge2", "rougeL"):
        assert tables[name].tolist() == [[1, 1], [0, 1]], name
    for name in ("bleu", "chrf"):
        assert _score(name, tables[name][:1]) == pytest.approx(100), name
        assert _score(name, tables[name][1:]) < 10, name


@pytest.mark.parametrize("text", [SAME["Japanese"], SAME["Thai"], SAME["Hindi"], SAME["Russian"]])
def test_titles_are_kept_and_texts_repeat_in_any_script(text: str) -> None:
    kept = metrics.faithful([text, "Something else."], [text, text], ["", ""])
    assert _score("title_words", kept["title_words"][:1]) == 100
    assert _score("title_words", kept["title_words"][1:]) == 0
    again = metrics.of_texts([text, f"{text} {text}"])["repetition"]
    assert _score("repetition", again[:1]) < 5
    assert _score("repetition", again[1:]) > 35


def test_half_a_japanese_text_is_half_kept() -> None:
    tables = metrics.against_references(["鉄瓶"], ["鉄瓶茶碗"])
    assert tables["rouge1"][0, 0] == pytest.approx(2 / 3)
    assert tables["rougeL"][0, 0] == pytest.approx(2 / 3)
    assert tables["rouge2"][0, 0] == pytest.approx(1 / 2)


def test_what_cannot_be_measured_is_nothing_rather_than_0() -> None:
    tables = metrics.against_references(["!!!", "Lamp"], ["!!!", "Lamp"])
    assert tables["rouge1"].tolist() == [[0, 0], [1, 1]]
    assert tables["rouge2"].tolist() == [[0, 0], [0, 0]]
    assert np.isnan(_score("bleu", tables["bleu"][1:]))
    # A text that says nothing where something was to be said is 0, though.
    empty = metrics.against_references([""], ["A green kettle of steel."])
    assert [_score(name, empty[name]) for name in ("rouge1", "rouge2", "rougeL", "bleu")] == [0] * 4


def test_signatures_say_that_characters_are_words() -> None:
    signs = metrics.signatures(["A lamp", SAME["Russian"], SAME["Japanese"]])
    assert "tok:13a+char" in signs["bleu"]
    assert signs["rouge"].endswith("tok:unicode+char")
    assert "char" not in "".join(metrics.signatures(["A lamp", SAME["Russian"]]).values())


# Bootstrap intervals: they hold the truth as often as they say, and differences are paired.


def _mean(values: np.ndarray) -> tuple[np.ndarray, object]:
    return np.stack([values, np.ones(len(values))], axis=1), ratio


def test_intervals_cover_the_truth_in_about_95_of_100() -> None:
    draw = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        values = draw.exponential(2.0, size=120)
        estimate = resample({"mean": _mean(values)}, 400, trial)["mean"].estimate()
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 2.0 <= estimate.high
    assert 0.91 * 300 <= hits <= 0.98 * 300


def test_intervals_of_a_ratio_of_sums_cover_the_truth() -> None:
    draw = np.random.default_rng(6)
    hits = 0
    for trial in range(300):
        tokens = draw.integers(20, 200, size=120).astype(float)
        nats = tokens * draw.normal(1.5, 0.4, size=120)
        table = np.stack([nats, tokens], axis=1)
        estimate = resample({"p": (table, perplexity)}, 400, trial)["p"].estimate()
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= np.exp(1.5) <= estimate.high
    assert 0.91 * 300 <= hits <= 0.98 * 300


def test_differences_are_paired() -> None:
    draw = np.random.default_rng(7)
    hard = draw.normal(50, 20, size=200)
    samples = resample({"one": _mean(hard + 1), "other": _mean(hard)}, 500, 1)
    gain = samples["one"].minus(samples["other"]).estimate()
    assert (gain.value, gain.low, gain.high) == pytest.approx((1, 1, 1))
    apart = samples["one"].estimate()
    assert apart.high is not None
    assert apart.low is not None
    assert apart.high - apart.low > 4


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(50.0)
    one, same, other = (
        resample({"m": _mean(values)}, 200, seed)["m"].estimate() for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_every_resample_holds_as_many_rows() -> None:
    drawn = np.concatenate(list(weights(40, 70, 1)))
    assert drawn.shape == (70, 40)
    assert (drawn.sum(axis=1) == 40).all()


@pytest.mark.parametrize("rows", [1, 2, 19])
def test_few_rows_have_no_interval(rows: int) -> None:
    values = np.arange(rows, dtype=float) * 2
    estimate = resample({"m": _mean(values)}, 200, 1)["m"].estimate()
    assert estimate == Estimate(rows - 1.0)


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        (0, 64, 0.0, 5.6),
        (0, 300, 0.0, 1.22),
        (32, 64, 37.23, 62.77),
        (297, 300, 97.11, 99.79),
        (1, 1, 2.5, 100.0),
        (300, 300, 98.78, 100.0),
        (5_000, 100_000, 4.87, 5.14),
    ],
)
def test_exact_intervals(part: int, whole: int, low: float, high: float) -> None:
    """Clopper and Pearson's, as tables and R's binom.test have them."""
    ends = [100 * end for end in exact_interval(part, whole)]
    assert ends == pytest.approx([low, high], abs=0.01)


@pytest.mark.parametrize(("part", "whole"), [(1, 2), (3, 7), (2, 40), (39, 40), (150, 200)])
def test_exact_intervals_leave_out_2_5_percent_on_each_side(part: int, whole: int) -> None:
    def chance(share: float, counts: range) -> float:
        return sum(math.comb(whole, k) * share**k * (1 - share) ** (whole - k) for k in counts)

    low, high = exact_interval(part, whole)
    assert chance(low, range(part, whole + 1)) == pytest.approx(0.025)
    assert chance(high, range(part + 1)) == pytest.approx(0.025)


def test_a_share_of_texts_has_an_exact_interval() -> None:
    table = np.stack([np.arange(12) < 3, np.ones(12)], axis=1).astype(float)
    sample = resample({"s": (table, share)}, 200, 1)["s"]
    assert sample.count == (3, 12)
    low, high = exact_interval(3, 12)
    assert sample.estimate() == Estimate(25.0, 100 * low, 100 * high)
    # A difference of two shares is none itself.
    assert sample.minus(sample).count is None


def test_figures_of_other_rows_are_combined_a_block_at_a_time() -> None:
    one = Sample(6.0, np.array([6.0, 9.0]), 40, np.array([5.0, 7.0]))
    other = Sample(3.0, np.array([2.0, 3.0]), 30, np.array([2.0]))
    quotient = combine(np.divide, one, other, are_paired=False)
    assert (quotient.value, quotient.rows) == (2.0, 30)
    assert quotient.drawn.tolist() == [3.0, 3.0]
    assert quotient.without.tolist() == [5 / 3, 7 / 3, 3.0]


def test_what_is_not_defined_is_none_and_never_nan() -> None:
    table = np.zeros((5, 2))
    assert resample({"m": (table, percent)}, 200, 1)["m"].estimate() == Estimate(None)
    rare = np.zeros((50, 2))
    rare[0] = 1
    # Most resamples hold the row, but too many do not.
    assert resample({"m": (rare, percent)}, 200, 1)["m"].estimate() == Estimate(100.0)


def test_nothing_to_score() -> None:
    assert resample({}, 200, 1) == {}


def test_numbers_that_only_neighbours_support_are_counted_apart() -> None:
    texts = ["Holds 3 litres, 7 cups, 9 lids and 2 handles.", "Holds 3 litres."]
    titles, records = ["Kettle, 3-Litre", "Kettle"], ["With 9 lids.", "x"]
    shown = ["Kettle, 2-Litre\nFills 7 cups with 9 lids.", ""]
    counts = metrics.numbers_of_neighbours(texts, titles, records, shown)
    assert counts.tolist() == [[2, 4], [0, 1]]
