from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.understanding.mentions import drugs, kind, listed, phrases, specific, topic


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What is the dose of apixaban in adults?", ["the dose", "of apixaban", "in adults"]),
        ("How is a mild foot infection treated?", ["a mild foot infection"]),
        (
            "When can warfarin be restarted after a lead extraction?",
            ["warfarin", "after a lead extraction"],
        ),
        ("Why?", []),
    ],
)
def test_phrases_keep_their_preposition(question: str, found: list[str]) -> None:
    assert [str(phrase) for phrase in phrases(question)] == found


@given(st.text(max_size=120))
def test_phrases_stand_where_they_say(question: str) -> None:
    for phrase in phrases(question):
        assert question[phrase.start : phrase.end] == phrase.text


def test_ordinary_words_name_nothing() -> None:
    assert specific("What is the maximum dose in children, and when should it be given?") == ()
    assert specific("Is amoxicillin used in cystitis?") == ("amoxicillin", "cystitis")


def test_the_topic_is_of_the_wanted_kind_where_there_is_one() -> None:
    question = "How often is thyroid function checked during amiodarone treatment?"
    plain, drug = topic(question), topic(question, "drug")
    assert plain is not None
    assert drug is not None
    assert (plain.entity, [str(p) for p in plain.around]) == (
        "thyroid function",
        ["during amiodarone treatment"],
    )
    assert drug.entity == "amiodarone treatment"
    assert topic("What should I do?") is None


def test_kinds_show_in_the_form_of_a_name() -> None:
    assert [kind(name) for name in ("empagliflozin", "bronchiolitis", "zoo")] == [
        "drug",
        "disease",
        "",
    ]


def test_drugs_are_known_by_name_or_by_the_dose_after_them() -> None:
    answer = "Zebrafixol 20 mg at night, then simvastatin. After 3 days 2 litres of fluid."
    assert drugs(answer) == ("Zebrafixol", "simvastatin")


def test_the_items_of_a_list_come_in_order_without_doses() -> None:
    assert listed("Aprepitant 125 mg, ondansetron and olanzapine.") == (
        "Aprepitant",
        "ondansetron",
        "olanzapine",
    )
    assert listed("Nothing is listed here.") == ()
