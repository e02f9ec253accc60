"""What texts say: literal texts in, the verdict of each out."""

import pyarrow as pa
import pytest

from preprocessing.rules import wording


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("no tag: 1 < 2 and 3 > 2, a <3 b, <Anna>", "no tag: 1 < 2 and 3 > 2, a <3 b, <Anna>"),
        ("a<br>b<BR/>c", "a b c"),
        ("<ul><li>One</li><li>Two</li></ul>", "One Two"),
        ("un<b>believ</b>able", "unbelievable"),
        ('see <a href="https://example.org/?a=1&b=2">here</a>.', "see here."),
        ('<div class="a"> <h4>Kettle</h4> <img src="k.png"/> Boils. </div>', "Kettle Boils."),
        ("a<script type='x'>if (a < b) { c() }</script>b", "a b"),
        ("a <!-- <b>not</b> seen --> b", "a b"),
        ("<style>p { color: red }</style>Red", "Red"),
        ("<p>1&nbsp;kg &amp; more</p>", "1 kg & more"),
        ("<p></p>", ""),
    ],
)
def test_tags_become_text(text: str, stripped: str) -> None:
    others = ["plain", ""]
    column = pa.array([others[0], text, others[1]], pa.string())
    assert wording.strip_html(column).to_pylist() == [others[0], stripped, others[1]]


@pytest.mark.parametrize(
    ("title", "is_markup"),
    [
        ("<span id='x'>Kettle</span>", True),
        ("&lt;span class=&quot;a-size", True),
        ("</div>", True),
        ("var aPageStart = (new Date()).getTime();", True),
        ("function() { return 1 }", True),
        (".box{display: none}", True),
        ("Love < Hate", False),
        ("A <3 Story", False),
        ("Function Point Methods: A Guide", False),
        ("The Beautiful {Special Edition}", False),
        ("", False),
    ],
)
def test_titles_that_are_markup(title: str, is_markup: bool) -> None:
    assert wording.is_markup(pa.array([title])).to_pylist() == [is_markup]


@pytest.mark.parametrize(
    ("text", "is_boilerplate"),
    [
        ("A fine book.--This text refers to theHardcoveredition.", True),
        ("All of it new. SAME DAY SHIPPING!", True),
        ("This product is manufactured on demand using discs.", True),
        ("Usually ships within 2 days.", True),
        ("It ships in 3 days", True),
        ("The text refers to the war of 1812, when ships from Spain were stopped.", False),
        ("The history of shipping, fast ships and free ports", False),
        ("", False),
    ],
)
def test_boilerplate(text: str, is_boilerplate: bool) -> None:
    assert wording.is_boilerplate(pa.array([text])).to_pylist() == [is_boilerplate]


@pytest.mark.parametrize(
    ("text", "is_shouting"),
    [
        ("BRAND NEW! ÜBER GROSS", True),
        ("DISPLAY CASE, BLACK AND WHITE, 12 x 8", True),
        ("IBM PC with DOS", False),
        ("12 x 8", False),
        ("", False),
        ("東京", False),
    ],
)
def test_shouting(text: str, is_shouting: bool) -> None:
    assert wording.is_shouting(pa.array([text])).to_pylist() == [is_shouting]


ENGLISH = "This kettle boils a litre of water in three minutes and turns itself off."
PORTUGUESE = "Esta chaleira ferve um litro de \u00e1gua em tr\u00eas minutos e desliga-se sozinha."
GERMAN = "Dieser Wasserkocher bringt einen Liter Wasser in drei Minuten zum Kochen."
CHINESE = "\u8fd9\u4e2a\u6c34\u58f6\u4e09\u5206\u949f\u5185\u70e7\u5f00\u4e00\u5347\u6c34"


def test_languages_other_than_those_asked_for_are_foreign() -> None:
    pytest.importorskip("pycld2", reason="the extra languages is not installed")
    column = pa.array([ENGLISH, PORTUGUESE, GERMAN, CHINESE])
    assert wording.is_foreign(column, ["en", "pt"]).to_pylist() == [False, False, True, True]
    assert wording.is_foreign(column, ["zh"]).to_pylist() == [True, True, True, False]


def test_a_text_whose_language_cannot_be_recognised_is_not_foreign() -> None:
    pytest.importorskip("pycld2", reason="the extra languages is not installed")
    column = pa.array(["", "42", "CD", "a\ufffeb"])
    assert wording.is_foreign(column, ["en"]).to_pylist() == [False] * 4
