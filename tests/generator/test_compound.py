from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.understanding.compound import split


def test_clauses_and_statements_come_apart_in_order() -> None:
    question = "He takes lithium. What is the target, and how often is the level checked?"
    assert split(question, 4) == (
        "He takes lithium.",
        "What is the target?",
        "How often is the level checked?",
    )


def test_a_setting_before_the_question_goes_with_every_part() -> None:
    question = "In a patient with sepsis, which antibiotic is used and how long is it given?"
    assert split(question, 4) == (
        "In a patient with sepsis, which antibiotic is used?",
        "In a patient with sepsis, how long is it given?",
    )


def test_numbers_mark_parts_only_when_they_count_up() -> None:
    assert split("1. What is gout? 2. What is pseudogout?", 4) == (
        "What is gout?",
        "What is pseudogout?",
    )
    question = "The risk ratio was equal to 1. What does this mean?"
    assert split(question, 4) == (question,)


def test_what_is_beyond_the_most_stays_together() -> None:
    question = "What is gout? What is croup? What is sepsis?"
    assert split(question, 2) == ("What is gout?", "What is croup? What is sepsis?")


def test_a_letter_is_not_taken_apart() -> None:
    question = "What is gout? " + "I have had it for years and it hurts. " * 20 + "What helps?"
    assert split(question, 4) == (question,)


@given(st.text(max_size=300), st.integers(1, 5))
def test_there_are_never_more_questions_than_allowed(question: str, most: int) -> None:
    pieces = split(question, most)
    assert len(pieces) == 1 or sum("?" in piece for piece in pieces) <= most
