"""What a sentence states: drugs, people, sides, routes, directions and denials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.checking.facts import facts, marks, negations
from siloquy.generator.words.stems import content, lower, stem, tokens_of


def values(text: str, axis: str) -> set[str]:
    return {mark.value for mark in marks(text) if mark.axis == axis}


@pytest.mark.parametrize(
    ("text", "drug"),
    [
        ("Give amoxicillin.", "amoxicillin"),
        ("PEMBROLIZUMAB works", "pembrolizumab"),
        ("epinephrine 1 mg", "adrenaline"),
        ("acetaminophen", "paracetamol"),
        ("benzodiazepines", "benzodiazepine"),
        ("sirolimus", "sirolimus"),
        ("co-amoxiclav", "co-amoxiclav"),
        ("ceftriaxone", "ceftriaxone"),
        ("rivaroxaban", "rivaroxaban"),
        ("empagliflozin", "empagliflozin"),
    ],
)
def test_drugs_are_found_by_list_and_by_stem(text: str, drug: str) -> None:
    assert values(text, "drug") == {drug}


@pytest.mark.parametrize("text", ["someone", "the backbone", "a statin", "cholesterol", "orbital"])
def test_words_that_end_like_drugs_are_none(text: str) -> None:
    assert values(text, "drug") == set()


@pytest.mark.parametrize(
    ("text", "axis", "expected"),
    [
        ("the left knee", "side", {"left"}),
        ("bilateral pain", "sides", {"both"}),
        ("the upper arm and the distal radius", "height", {"up"}),
        ("by mouth", "route", {"mouth"}),
        ("intravenously", "route", {"vein"}),
        ("newborns and infants", "age", {"neonate", "infant"}),
        ("older adults", "age", {"older"}),
        ("boys", "age", {"child"}),
        ("boys", "sex", {"male"}),
        ("girls and men", "sex", {"female", "male"}),
        ("pregnant women", "pregnancy", {"pregnant"}),
        ("chronic kidney disease", "organ", {"kidney"}),
        ("before surgery", "order", {"before"}),
        ("hypoglycaemia", "level", {"low"}),
        ("hypothalamus", "level", set()),
        ("not before surgery", "order", set()),
        ("no more than two", "change", set()),
    ],
)
def test_words_with_rivals_are_marked(text: str, axis: str, expected: set[str]) -> None:
    assert values(text, axis) == expected


def denied(text: str) -> list[set[str]]:
    return [set(negation.near) for negation in negations(text, tokens_of(text))]


def test_a_denial_is_about_what_follows_it_in_its_clause() -> None:
    assert denied("Do not delay imaging, give oxygen.") == [{stem("delay"), stem("imaging")}]


def test_a_denial_with_nothing_after_it_is_about_what_stands_before() -> None:
    assert denied("Aspirin is contraindicated.") == [{stem("aspirin")}]


@pytest.mark.parametrize(
    "text",
    [
        "Not only adults.",
        "no more than 4 g",
        "with or without food",
        "No, it is safe.",
        "not later than noon",
        "The nodule grew.",
    ],
)
def test_what_only_looks_like_a_denial_is_none(text: str) -> None:
    assert denied(text) == []


def test_a_point_within_a_number_ends_no_clause() -> None:
    assert stem("daily") in denied("Not above 2.5 mg daily.")[0]


def test_facts_are_equal_when_two_sentences_say_the_same() -> None:
    assert facts("Give 1 g of amoxicillin") == facts("amoxicillin 1000 mg")
    assert facts("Give 1 g of amoxicillin") != facts("Give 2 g of amoxicillin")
    assert facts("the left leg") != facts("the right leg")
    assert facts("Give it") != facts("Do not give it")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("haemorrhages", "hemorrhage"),
        ("renal", "kidney"),
        ("children", "child"),
        ("tumours", "tumor"),
        ("increased", "raised"),
        ("doses", "dose"),
    ],
)
def test_forms_of_a_word_have_one_stem(a: str, b: str) -> None:
    assert stem(a) == stem(b)


def test_stop_words_and_single_letters_say_nothing() -> None:
    assert not content("the")
    assert not content("b")
    assert content("5")
    assert content("dose")


@given(st.text(max_size=120))
def test_any_text_can_be_read_and_offsets_lie_in_it(text: str) -> None:
    found = facts(text)
    places = [(mark.start, mark.end) for mark in found.marks]
    places += [(negation.start, negation.end) for negation in found.negations]
    places += [(token.start, token.end) for token in tokens_of(text)]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert len(lower(text)) == len(text)
