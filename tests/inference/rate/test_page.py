"""The page of votes: blind, resumable, each vote once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from inference.evaluate.judging import Ballot, Pair
from inference.judges import RateConfig
from inference.rate.page import Poll, make_app

PAIRS = [Pair(f"Kettle {i}", f"Boils {i} litres.", f"It is no. {i}.") for i in range(12)]


def _poll(folder: Path, **fields: int) -> Poll:
    config = RateConfig(out=str(folder), **{"pairs": 6, "repeats": 2, **fields})  # type: ignore[arg-type]
    return Poll(list(PAIRS), config)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(make_app(_poll(tmp_path)), base_url="http://127.0.0.1:7861") as client:
        yield client


def test_everybody_sees_the_same_pairs_in_an_order_of_their_own(tmp_path: Path) -> None:
    poll = _poll(tmp_path)
    ana, bo = poll.order("ana"), poll.order("bo")
    assert ana == _poll(tmp_path).order("ana")
    assert {shown.pair for shown in ana} == {shown.pair for shown in bo}
    assert [shown.pair for shown in ana] != [shown.pair for shown in bo]
    assert len(ana) == 8
    for first, again in zip(ana[:2], ana[6:], strict=True):
        assert first.pair == again.pair
        assert first.is_swapped != again.is_swapped
    swapped = [shown.is_swapped for name in "abcdefghij" for shown in poll.order(name)]
    assert 0.25 < sum(swapped) / len(swapped) < 0.75


def test_a_vote_is_for_the_text_and_not_for_its_side(tmp_path: Path) -> None:
    poll = _poll(tmp_path)
    while (showing := poll.next("ana")) is not None:
        # The first text, wherever it stands.
        poll.vote("ana", str(showing.place), "right" if showing.is_swapped else "left")
    votes = Ballot.open(str(tmp_path), "ana").votes
    assert [vote.score for vote in votes] == [1] * 8


def test_who_comes_back_goes_on(tmp_path: Path) -> None:
    poll = _poll(tmp_path)
    for _ in range(3):
        showing = poll.next("ana")
        assert showing
        poll.vote("ana", str(showing.place), "neither")
    anew = _poll(tmp_path)
    third = anew.next("ana")
    assert third == anew.order("ana")[3]
    # A second click on the same page is no second vote.
    anew.vote("ana", "2", "left")
    assert len(anew.ballot("ana").votes) == 3


def test_the_page_shows_two_texts_and_not_whose(client: TestClient) -> None:
    assert "Your name" in client.get("/").text
    page = client.get("/?person=ana").text
    assert "1 of 8" in page
    assert "Boils" in page
    assert "It is no." in page
    assert "<script" not in page
    for word in ("adapter", "base", "reference", "swapped", "is_"):
        assert word not in page
    assert "default-src 'none'" in client.get("/").headers["content-security-policy"]


def test_voting_by_the_form(client: TestClient, tmp_path: Path) -> None:
    fields = {"person": "ana", "place": "0", "choice": "left"}
    answer = client.post("/vote", data=fields)
    assert answer.status_code == 200
    assert "2 of 8" in answer.text
    assert len(Ballot.open(str(tmp_path), "ana").votes) == 1
    for place in range(1, 8):
        answer = client.post("/vote", data=fields | {"place": str(place)})
    assert "Thank you" in answer.text


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"person": "../x", "place": "0", "choice": "left"}, {}, 400),
        ({"person": "ana", "place": "0", "choice": "both"}, {}, 400),
        ({"person": "ana", "place": "0", "choice": "left"}, {"origin": "http://evil.test"}, 403),
        ({"person": "ana", "place": "0", "choice": "left"}, {"host": "evil.test"}, 400),
        ({"person": "a" * 9_000}, {}, 413),
        ({}, {}, 400),
    ],
)
def test_what_is_no_vote_is_refused(
    client: TestClient, tmp_path: Path, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    assert client.post("/vote", data=fields, headers=headers).status_code == status
    assert not list(tmp_path.iterdir())


def test_markup_is_shown_as_text(tmp_path: Path) -> None:
    pairs = [Pair("<i>", "<script>alert(1)</script>", "{title} $body")]
    app = make_app(Poll(pairs, RateConfig(out=str(tmp_path))))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = client.get("/?person=ana").text
    assert "<script" not in page
    assert "{title} $body" in page
