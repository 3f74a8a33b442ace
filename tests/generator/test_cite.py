"""Whether a source carries a sentence: quotations do, other numbers and negations never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.cite import support
from siloquy.text import STOP_WORDS

SOURCE = (
    "Adults with meningitis: give ceftriaxone 2 g every 12 hours.\n"
    "Do not delay for imaging. Above 50 kg give 1,000 mg paracetamol, 2.5 ml of the syrup."
)

# -- quotations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    [
        "Do not delay for imaging.",
        "Adults with meningitis: give ceftriaxone 2 g every 12 hours.",
        "Do not\n delay  for imaging.",
        "Adults with meningitis: give ceftriaxone 2 g every 12 hours. Do not delay for imaging.",
        SOURCE,
    ],
)
def test_whole_sentences_are_quotations_however_they_are_spaced(sentence: str) -> None:
    assert support(sentence, SOURCE) == 1.0


pieces = st.sampled_from(
    [
        "Give 5 mg.",
        "Do not give 2.5 mg!",
        "Wait 12 hours.",
        "Avoid it, e.g. in children.",
        "Dose 1,000.",
    ]
)


@given(st.lists(pieces, min_size=1, max_size=6), st.integers(0, 5), st.integers(1, 6))
def test_any_run_of_whole_sentences_is_a_quotation(texts: list[str], first: int, n: int) -> None:
    run = texts[first % len(texts) :][:n]
    assert support(" ".join(run), "\n".join(texts)) == 1.0


@given(st.text(max_size=40), st.text(max_size=40))
def test_support_is_a_share(sentence: str, source: str) -> None:
    assert 0.0 <= support(sentence, source) <= 1.0


# -- other words ----------------------------------------------------------------------------------


def test_support_is_the_share_of_content_words_that_the_source_has() -> None:
    assert support("Give ceftriaxone and vancomycin.", SOURCE) == pytest.approx(2 / 3)
    assert support("The ceftriaxone is given by nurses.", SOURCE) == pytest.approx(1 / 3)


def test_words_of_another_text_have_no_support() -> None:
    assert support("Cool burns under running water.", SOURCE) == 0.0


def test_a_sentence_of_stop_words_has_no_support() -> None:
    assert support("It is what it was.", SOURCE) == 0.0
    assert set("it is what was".split()) <= STOP_WORDS


def test_case_makes_no_difference() -> None:
    assert support("GIVE CEFTRIAXONE", SOURCE) == support("give ceftriaxone", SOURCE) == 1.0


# -- numbers and negations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    [
        "Give ceftriaxone 4 g every 12 hours.",
        "Give ceftriaxone 2 g every 8 hours to adults.",
        "Give 25 ml syrup.",
        "Give 5 ml syrup.",
        "Give 1000 mg paracetamol.",
        "Give 0.2 g ceftriaxone.",
        "Give ceftriaxone 22 g.",
    ],
)
def test_a_number_that_the_source_does_not_hold_takes_all_support(sentence: str) -> None:
    assert support(sentence, SOURCE) == 0.0


@pytest.mark.parametrize("sentence", ["Syrup 2.5 ml.", "Paracetamol 1,000 mg.", "Ceftriaxone 2 g."])
def test_a_number_that_the_source_holds_takes_none(sentence: str) -> None:
    assert support(sentence, SOURCE) == 1.0


@pytest.mark.parametrize(
    "negation",
    "no not never without cannot neither nor none avoid contraindicated".split(),
)
def test_a_negation_that_the_source_does_not_hold_takes_all_support(negation: str) -> None:
    source = "Give ceftriaxone to adults."
    assert support(f"{negation.title()} give ceftriaxone to adults", source) == 0.0
    assert support("Ceftriaxone to adults give", source) == 1.0


def test_a_negation_that_the_source_holds_takes_none() -> None:
    assert support("Imaging: do not delay.", SOURCE) == 1.0


def test_dropping_the_sources_negation_takes_all_support() -> None:
    assert support("Delay for imaging.", SOURCE) == 0.0
    assert support("Give aspirin.", "Never give aspirin.") == 0.0


def test_only_the_sentence_that_is_meant_decides_on_negation() -> None:
    source = "Give ceftriaxone to adults. Do not wait."
    assert support("Ceftriaxone to adults.", source) == 1.0
    assert support("Do not give ceftriaxone to adults.", source) == 0.0


# -- what passes for a quotation ------------------------------------------------------------------


@pytest.mark.parametrize("sentence", ["5 ml of the syrup.", "000 mg paracetamol", "0 kg give"])
def test_a_piece_of_a_number_is_another_number(sentence: str) -> None:
    assert support(sentence, SOURCE) == 0.0


def test_half_a_sentence_without_its_negation_is_no_quotation() -> None:
    assert support("delay for imaging.", SOURCE) == 0.0


def test_an_empty_sentence_has_no_support() -> None:
    assert support("", SOURCE) == support(" \n", SOURCE) == support("a", "") == 0.0


# -- what still passes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    ["Give ceftriaxone 12 g every 2 hours.", "Give ceftriaxone 50 g.", "Give 2 mg paracetamol."],
)
def test_numbers_that_changed_places_take_all_support(sentence: str) -> None:
    assert support(sentence, SOURCE) < 0.6


@pytest.mark.parametrize("sentence", ["Give ceftriaxone 2 mg.", "Give 1,000 g paracetamol syrup."])
def test_another_unit_takes_all_support(sentence: str) -> None:
    assert support(sentence, SOURCE) < 0.6
