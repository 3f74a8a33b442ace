"""What a match of a word is worth: inverse document frequency over the federation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy import lexicon as lexicons
from siloquy.errors import IntegrityError
from siloquy.lexicon import Lexicon
from siloquy.router.terms import RARE_SHARE, TermWeights
from siloquy.types import EncoderSpec, NodeId, Profile, Term

LEXICON = Lexicon(("ache", "fever", "rash"), {"ache": 0, "fever": 1, "rash": 2})
ENCODER = EncoderSpec("tiny", "00" * 32, 4)


def profile(size: int, counts: list[int], described: bool = True) -> Profile:
    """A silo that holds ``size`` passages, ``counts`` of them with each word."""
    return Profile(
        silo=NodeId("north"),
        version=1,
        created=0,
        expires=1,
        encoder=ENCODER,
        size=size,
        centroids=bytes(4) if described else b"",
        counts=(size,) if described else (),
        radii=(0.1,) if described else (),
        frequencies=lexicons.pack(np.array(counts, dtype=np.int64)),
    )


def weight(profiles: list[Profile], word: str) -> float:
    (term,) = TermWeights(profiles, LEXICON).weigh([word])
    assert term.word == word
    return term.weight


def idf(total: int, count: float) -> float:
    return max(math.log((total - count + 0.5) / (count + 0.5)), 0.0)


def test_a_weight_is_the_inverse_document_frequency_over_all_silos() -> None:
    silos = [profile(1000, [0, 7, 0]), profile(3000, [0, 0, 15])]
    assert weight(silos, "fever") == pytest.approx(idf(4000, 7))
    assert weight(silos, "rash") == pytest.approx(idf(4000, 15))
    assert weight(silos, "ache") == pytest.approx(idf(4000, 0))


def test_counts_of_silos_add_up() -> None:
    assert weight([profile(100, [3, 0, 0])] * 2, "ache") == pytest.approx(idf(200, 6))


def test_a_word_outside_the_vocabulary_counts_as_rare() -> None:
    assert weight([profile(5000, [0, 0, 0])], "xylene") == pytest.approx(
        idf(5000, RARE_SHARE * 5000)
    )


def test_a_word_of_most_passages_is_worth_nothing() -> None:
    assert weight([profile(100, [100, 63, 0])], "ache") == 0.0
    assert weight([profile(100, [100, 63, 0])], "fever") == 0.0


def test_counts_above_the_size_are_no_trouble() -> None:
    assert weight([profile(10, [10**6, 0, 0])], "ache") == 0.0


def test_without_profiles_every_word_is_worth_the_same() -> None:
    for profiles in ([], [profile(7, [0, 0, 0], described=False)]):
        weights = TermWeights(profiles, LEXICON)
        assert weights.weigh(["ache", "xylene"]) == (Term("ache", 1.0), Term("xylene", 1.0))


def test_silos_that_tell_their_size_alone_do_not_count() -> None:
    silos = [profile(1000, [7, 0, 0]), profile(15, [0, 0, 0], described=False)]
    assert weight(silos, "ache") == pytest.approx(idf(1000, 7))


def test_no_words_have_no_weights() -> None:
    assert TermWeights([profile(100, [1, 2, 3])], LEXICON).weigh([]) == ()


@given(st.integers(20, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_rarer_word_is_never_worth_less(size: int, one: int, other: int) -> None:
    rare, common = sorted((one % (size + 1), other % (size + 1)))
    silo = [profile(size, [rare, common, 0])]
    assert weight(silo, "ache") >= weight(silo, "fever") >= 0


def test_frequencies_of_another_lexicon_are_refused() -> None:
    with pytest.raises(IntegrityError):
        TermWeights([profile(100, [1, 2])], LEXICON)
