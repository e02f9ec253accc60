"""Sample keys and splits: the documented derivation, the shares, and who falls together."""

import re
from collections import Counter

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from data.sampling import SplitShares, derive_key, normalise_title, sample_keys, splits

TITLES = [f"Title {i}" for i in range(20_000)]


def test_a_sample_key_is_the_documented_keyed_hash_of_the_uid() -> None:
    uids = ["0000031909", "", "é"]
    key = xxhash.xxh3_64(b"sample:3407").intdigest()
    assert derive_key("sample", 3407) == key == 11592452473591636315
    expected = [xxhash.xxh3_64(uid.encode(), seed=key).intdigest() for uid in uids]
    assert sample_keys(uids, 3407) == expected
    # As first released: subsets made then must come out again.
    assert expected[0] == 2129784838258854176


def test_a_split_is_the_documented_keyed_hash_of_the_normalised_title() -> None:
    key = xxhash.xxh3_64(b"split:3407").intdigest()
    assert key == 4573124444104670589
    for title in ("Dune", "The Kettle, no. 2"):
        normalised = "".join(c for c in title.casefold() if c.isalnum())
        place = xxhash.xxh3_64(normalised.encode(), seed=key).intdigest() / 2**64
        expected = "test" if place < 0.3 else "validation" if place < 0.5 else "train"
        assert splits([title], 3407, SplitShares(validation=0.2, test=0.3)) == [expected]
    # As first released: a title that was held out must stay so.
    held_out = {
        i: split
        for i, split in enumerate(splits(TITLES[:110], 3407, SplitShares()))
        if split != "train"
    }
    assert held_out == {1: "validation", 26: "test", 33: "validation", 76: "test",
                        107: "validation"}  # fmt: skip


@pytest.mark.parametrize("shares", [SplitShares(), SplitShares(validation=0.1, test=0.2)])
def test_the_shares_come_out(shares: SplitShares) -> None:
    counts = Counter(splits(TITLES, 3407, shares))
    for name in ("validation", "test"):
        share = getattr(shares, name)
        deviation = (len(TITLES) * share * (1 - share)) ** 0.5
        assert abs(counts[name] - len(TITLES) * share) < 4 * deviation


def test_without_shares_all_is_for_training() -> None:
    assert set(splits(TITLES, 1, SplitShares(0.0, 0.0))) == {"train"}


def test_a_larger_share_of_one_split_keeps_what_was_held_out_for_it() -> None:
    few, many = (splits(TITLES, 3407, SplitShares(0.0, share)) for share in (0.01, 0.05))
    assert all(b == "test" for a, b in zip(few, many, strict=True) if a == "test")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dune", "DUNE"),
        ("Dune: Part Two", "dune part two"),
        ("Spider-Man", "Spider Man"),
        ("Straße", "STRASSE"),
        ("under_score", "UnderScore"),
        ("It's", "Its!"),
    ],
)
def test_spellings_of_one_title_fall_together(one: str, other: str) -> None:
    assert normalise_title(one) == normalise_title(other)
    shares = SplitShares(0.3, 0.3)
    for seed in range(50):
        assert splits([one], seed, shares) == splits([other], seed, shares)


@pytest.mark.parametrize(("one", "other"), [("???", "!!!"), ("Dune", "Dunes"), ("a1", "a2")])
def test_other_titles_are_told_apart(one: str, other: str) -> None:
    assert normalise_title(one) != normalise_title(other)


def test_another_seed_gives_another_order_and_other_splits() -> None:
    assert sample_keys(TITLES[:9], 1) != sample_keys(TITLES[:9], 2)
    assert splits(TITLES, 1, SplitShares()) != splits(TITLES, 2, SplitShares())


def test_keys_and_splits_are_drawn_apart_for_the_same_text() -> None:
    # Else the train rows of a subset would be those far from the held-out ones.
    low = [key < 2**63 for key in sample_keys(TITLES, 3407)]
    train = [split == "train" for split in splits(TITLES, 3407, SplitShares(0.25, 0.25))]
    agree = sum(a == b for a, b in zip(low, train, strict=True))
    assert abs(agree - len(TITLES) / 2) < 4 * (len(TITLES) / 4) ** 0.5


@given(st.lists(st.text(), max_size=5), st.integers(0, 2**63))
def test_a_key_depends_on_the_uid_and_the_seed_alone(uids: list[str], seed: int) -> None:
    keys = sample_keys(uids, seed)
    assert keys == [sample_keys([uid], seed)[0] for uid in uids]
    assert all(0 <= key < 2**64 for key in keys)


@given(st.text())
def test_no_title_normalises_to_nothing_but_the_empty_one(title: str) -> None:
    assert bool(normalise_title(title)) == bool(title)


@given(st.text(st.characters(max_codepoint=127)))
def test_of_ascii_letters_and_digits_alone_stay(title: str) -> None:
    kept = re.sub(r"[\W_]+", "", title.casefold())
    assert normalise_title(title) == (kept or title.casefold())
