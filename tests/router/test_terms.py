"""What a match of a word is worth: inverse document frequency over the federation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import IntegrityError
from siloquy.router.terms import RARE_SHARE, TermWeights
from siloquy.text import lexicon as lexicons
from siloquy.text.lexicon import Lexicon
from siloquy.types import Profile, Term
from tests.router import profiles

WORDS = ("ache", "fever", "rash")
LEXICON = Lexicon(WORDS, {word: n for n, word in enumerate(WORDS)}, (1500, 20000, 3000))


def profile(size: int, counts: list[int], described: bool = True, noised: bool = False) -> Profile:
    """A silo that holds ``size`` passages, ``counts`` of them with each word."""
    made = profiles.profile(size=size) if described else profiles.tiny("north", size)
    packed = lexicons.pack(np.array(counts, dtype=np.int64))
    told = described and not noised
    return replace(made, epsilon=8.0 if noised else None, frequencies=packed if told else b"")


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
    for silos in ([], [profile(7, [0, 0, 0], described=False)]):
        weights = TermWeights(silos, LEXICON)
        assert weights.weigh(["ache", "xylene"]) == (Term("ache", 1.0), Term("xylene", 1.0))


def test_silos_that_tell_their_size_alone_do_not_count() -> None:
    silos = [profile(1000, [7, 0, 0]), profile(15, [0, 0, 0], described=False)]
    assert weight(silos, "ache") == pytest.approx(idf(1000, 7))


# -- where profiles count no words ----------------------------------------------------------------


def test_where_most_silos_are_noised_a_word_weighs_by_its_place_in_the_public_vocabulary() -> None:
    silos = [profile(1000, [500, 1, 1]), profile(1001, [0, 0, 0], noised=True)]
    weights = [weight(silos, word) for word in (*WORDS, "xylene")]
    assert weights == [weight(silos[1:], word) for word in (*WORDS, "xylene")]
    assert 2.0 < weights[0] < weights[2] < weights[1] < weights[3] == 8.0


def test_where_half_of_the_federation_counts_words_their_counts_are_taken() -> None:
    silos = [profile(1000, [7, 0, 0]), profile(1000, [0, 0, 0], noised=True)]
    assert weight(silos, "ache") == pytest.approx(idf(1000, 7))


def test_without_ranks_every_public_weight_is_that_of_a_rare_word() -> None:
    bare = replace(LEXICON, ranks=())
    (term,) = TermWeights([profile(100, [0, 0, 0], noised=True)], bare).weigh(["ache"])
    assert term.weight == 8.0


def test_very_common_words_weigh_least_but_something() -> None:
    common = Lexicon(("the",), {"the": 0}, (996,))
    (term,) = TermWeights([profile(100, [0, 0, 0], noised=True)], common).weigh(["the"])
    assert term.weight == 2.0


def test_counts_of_one_index_weigh_as_those_of_a_silo_that_tells_them() -> None:
    counted = TermWeights.counted(np.array([7.0, 0.0, 99.0]), 1000, LEXICON)
    silo = [profile(1000, [7, 0, 99])]
    for term in counted.weigh([*WORDS, "xylene"]):
        assert term.weight == pytest.approx(weight(silo, term.word), rel=0.02)


# -- the rest -------------------------------------------------------------------------------------


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
