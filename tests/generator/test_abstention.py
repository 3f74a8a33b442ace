"""Whether evidence is enough: one passage must be near and hold what the question is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.abstention import LEAST_EVIDENCE, answerable, evidence, lacking
from siloquy.generator.words.common_words import COMMON, FAMILIAR
from siloquy.types import DocumentId, NodeId, Source

FLOOR = 0.35
QUESTION = "What is the loading dose of vancomycin in adults?"
ANSWER = "Adults are given a vancomycin loading dose of 25 mg/kg."
OTHER = "Adults are given a gentamicin dose of 5 mg/kg once a day, after the loading phase."


def source(text: str, score: float = 0.7, title: str = "", n: int = 1) -> Source:
    return Source(n, NodeId("north"), DocumentId(f"{n}.md"), title, text, 0, len(text), score)


def test_a_near_passage_that_holds_the_question_s_words_is_enough() -> None:
    assert lacking(QUESTION, [source(ANSWER)], FLOOR) == ""


def test_no_sources_are_not_enough() -> None:
    assert "close enough" in lacking(QUESTION, [], FLOOR)
    assert evidence(QUESTION, []) == 0.0


def test_a_passage_below_the_floor_is_not_enough_whatever_it_holds() -> None:
    assert "close enough" in lacking(QUESTION, [source(ANSWER, FLOOR - 0.01)], FLOOR)


def test_a_near_passage_about_another_drug_is_not_enough() -> None:
    assert "what the question names" in lacking(QUESTION, [source(OTHER, 0.6)], FLOOR)


def test_nearness_and_words_must_come_from_one_passage() -> None:
    near, worded = source(OTHER, 0.8, n=1), source(ANSWER, 0.3, n=2)
    alone = max(evidence(QUESTION, [near]), evidence(QUESTION, [worded]))
    assert evidence(QUESTION, [near, worded]) == alone


def test_a_title_says_what_its_passage_is_about() -> None:
    text = "Adults are given a loading dose of 25 mg/kg."
    titled, bare = source(text, title="Vancomycin"), source(text)
    assert evidence(QUESTION, [titled]) > evidence(QUESTION, [bare]) + 0.3


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    without_drug = evidence(QUESTION, [source(ANSWER.replace("vancomycin", ""))])
    without_dose = evidence(QUESTION, [source(ANSWER.replace("dose", ""))])
    assert without_drug < without_dose


@pytest.mark.parametrize(
    ("asked", "said", "alike"),
    [
        ("inhibitors", "inhibitor", True),
        ("restarted", "restart", True),
        ("hemolacria", "hemolysis", False),
        ("AZD0530", "AZD0531", False),
        ("MEN", "menopause", False),
    ],
)
def test_endings_are_looked_over_and_other_names_are_not(
    asked: str, said: str, alike: bool
) -> None:
    gained = evidence(f"What is {asked}?", [source(said)]) - evidence(
        f"What is {asked}?", [source("nothing")]
    )
    assert (gained > 0) == alike


def test_a_long_letter_needs_less_of_its_words_than_a_short_question() -> None:
    letter = " ".join(f"filler{i}" for i in range(30))
    assert evidence(letter, [source("other")]) > evidence("filler1 filler2", [source("other")])


def test_the_reason_quotes_neither_question_nor_passage() -> None:
    for sources in ([], [source(OTHER, 0.5)]):
        reason = lacking(QUESTION, sources, FLOOR)
        assert reason
        assert not {"vancomycin", "gentamicin"} & set(reason.split())


def test_parts_that_the_sources_do_not_cover_are_named_by_number() -> None:
    sources = [source(ANSWER)]
    asked = answerable([QUESTION, "Which eye drops treat glaucoma?"], sources, FLOOR)
    assert asked.questions == (QUESTION,)
    assert asked.reason == ""
    assert asked.notes[0].startswith("no answer to part 2")


texts = st.text("abc vancomycin dose ?.-5é日", max_size=60)


@given(texts, st.lists(st.tuples(texts, st.floats(-1, 1)), max_size=4))
def test_any_text_gives_a_finite_value_and_more_sources_never_less(
    question: str, passages: list[tuple[str, float]]
) -> None:
    sources = [source(text, score, n=n) for n, (text, score) in enumerate(passages, start=1)]
    values = [evidence(question, sources[:n]) for n in range(1, len(sources) + 1)]
    assert values == sorted(values)
    assert all(-2 < value < 3 for value in values)
    assert bool(lacking(question, sources, -1)) == (evidence(question, sources) < LEAST_EVIDENCE)


def test_word_lists_hold_each_word_once_in_lower_case() -> None:
    assert not COMMON & FAMILIAR
    assert all(word.isalpha() and word.islower() for word in COMMON | FAMILIAR)
