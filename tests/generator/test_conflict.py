"""Conflicts among sources: shown where they are, silent where statements only look alike."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.checking.conflict import conflicts
from siloquy.types import CitedSpan, Conflict, DocumentId, NodeId, Source

TODAY = date(2026, 1, 1)
RESTART = "When is full-dose apixaban restarted after a procedure with high bleeding risk?"
EARLY = (
    "Valid from: 2025-02-03\n\nAfter a procedure with high bleeding risk, restart apixaban at the "
    "full dose 24 hours after the end of the procedure."
)
LATE = (
    "After a procedure with high bleeding risk, apixaban is restarted at full dose no earlier than "
    "48 to 72 hours after the end of the procedure."
)


def source(n: int, text: str, title: str = "", silo: str = "") -> Source:
    name = silo or f"silo-{n}"
    return Source(n, NodeId(name), DocumentId(f"d{n}"), title, text, 0, len(text), 1.0)


def found(question: str, *texts: str | Source) -> list[Conflict]:
    sources = [
        text if isinstance(text, Source) else source(n, text)
        for n, text in enumerate(texts, start=1)
    ]
    return list(conflicts(question, sources, TODAY))


# -- disagreement ---------------------------------------------------------------------------------


def test_two_hospitals_that_differ_are_shown_side_by_side() -> None:
    (conflict,) = found(RESTART, EARLY, LATE)
    assert conflict.kind == "disagreement"
    assert conflict.detail == "24 hours in [1], 48 to 72 hours in [2]"
    assert conflict.sides == (
        CitedSpan(1, EARLY.index("After"), len(EARLY)),
        CitedSpan(2, 0, len(LATE)),
    )


def test_another_dose_is_told_apart_from_other_disagreements() -> None:
    (conflict,) = found(
        "What is the loading dose of vancomycin?",
        "The loading dose of vancomycin is 25 mg/kg.",
        "Give a vancomycin loading dose of 30 mg/kg.",
    )
    assert (conflict.kind, conflict.detail) == ("dose", "25 mg/kg in [1], 30 mg/kg in [2]")


@pytest.mark.parametrize(
    ("a", "b", "detail"),
    [
        (
            "Aspirin is given in suspected stroke before the scan.",
            "Aspirin is not given in suspected stroke before the scan.",
            "[2] denies what [1] says",
        ),
        (
            "Aspirin is never given in suspected stroke.",
            "Aspirin is given in suspected stroke.",
            "[1] denies what [2] says",
        ),
        (
            "Aspirin is given in stroke before the scan.",
            "Aspirin is given in stroke after the scan.",
            "\u201cbefore\u201d in [1], \u201cafter\u201d in [2]",
        ),
        (
            "Two doses of aspirin are given in stroke.",
            "Three doses of aspirin are given in stroke.",
            "Two in [1], Three in [2]",
        ),
        (
            "In 10 % of patients aspirin fails in stroke.",
            "In 20 % of patients aspirin fails in stroke.",
            "10 % in [1], 20 % in [2]",
        ),
    ],
)
def test_a_denial_an_opposite_and_a_count_are_disagreements(a: str, b: str, detail: str) -> None:
    (conflict,) = found("When is aspirin given in stroke?", a, b)
    assert (conflict.kind, conflict.detail) == ("disagreement", detail)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Give aspirin 1 g daily in stroke.", "Give aspirin 1000 mg daily in stroke."),
        ("Give aspirin 75 mg daily in stroke.", "Give clopidogrel 300 mg daily in stroke."),
        ("Give children aspirin 75 mg in stroke.", "Give adults aspirin 300 mg in stroke."),
        ("Give aspirin 75 mg in mild stroke now.", "Give aspirin 300 mg in severe stroke now."),
        ("Aspirin 75 mg orally after stroke.", "Aspirin 300 mg intravenously after stroke."),
        ("Give aspirin 75 to 300 mg in stroke.", "Give aspirin 75 mg in stroke."),
        ("Stop aspirin 7 days before stroke care.", "Stop aspirin 3 days after stroke care."),
        ("Aspirin in stroke is given for 5 days.", "Aspirin in stroke is given within 3 days."),
        ("Many patients with stroke have no pain.", "Patients with stroke have pain."),
        ("Stroke care without aspirin is good.", "Stroke care with aspirin is good."),
        ("Aspirin is given in stroke.", "Is aspirin not given in stroke?"),
        ("In stroke aspirin is 2 tablets.", "In stroke aspirin is 3 boxes."),
        ("In 2014 aspirin was given in stroke.", "In 2015 aspirin was given in stroke."),
    ],
)
def test_statements_that_only_look_alike_are_none(a: str, b: str) -> None:
    assert found("When is aspirin given in stroke?", a, b) == []


def test_who_a_passage_is_about_may_stand_in_its_title() -> None:
    a = source(1, "Insulin is started at 0.1 units/kg per hour in ketoacidosis.", "In adults")
    b = source(2, "Insulin is started at 0.05 units/kg per hour in ketoacidosis.", "In children")
    assert found("What insulin rate is used in ketoacidosis?", a, b) == []


def test_one_hospital_does_not_disagree_with_itself() -> None:
    assert found(RESTART, source(1, EARLY, silo="a"), source(2, LATE, silo="a")) == []


def test_what_is_not_about_the_question_is_not_compared() -> None:
    assert found("Which eye drops are used in glaucoma?", EARLY, LATE) == []


# -- people ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "text", "detail"),
    [
        (
            "What dose of ibuprofen for a child with fever?",
            "Adults with fever take ibuprofen 400 mg.",
            "the question is about children, [1] about adults",
        ),
        (
            "Ibuprofen dose for fever in a 70-year-old?",
            "Ibuprofen for fever in infants is 5 mg/kg.",
            "the question is about adults, [1] about infants",
        ),
        (
            "Ibuprofen for fever at age 8 months?",
            "Adults take ibuprofen for fever.",
            "the question is about infants, [1] about adults",
        ),
        (
            "What haemoglobin is normal in men?",
            "A normal haemoglobin in women is 120 g/L.",
            "the question is about men, [1] about women",
        ),
    ],
)
def test_a_source_about_other_people_is_shown(question: str, text: str, detail: str) -> None:
    (conflict,) = found(question, text)
    assert (conflict.kind, conflict.detail) == ("population", detail)
    assert conflict.sides == (CitedSpan(1, 0, len(text)),)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What dose of ibuprofen for fever?", "Adults with fever take ibuprofen 400 mg."),
        ("Ibuprofen for a child with fever?", "Ibuprofen is used for fever."),
        ("Ibuprofen for a child with fever?", "Adults take ibuprofen for fever. Children half."),
        ("Ibuprofen for adults and children?", "Adults take ibuprofen."),
        ("Ibuprofen for 5 days in fever?", "Infants with fever take ibuprofen."),
    ],
)
def test_sources_that_may_fit_are_not(question: str, text: str) -> None:
    assert found(question, text) == []


# -- age ------------------------------------------------------------------------------------------

LDL = "What is the LDL target in diabetes?"
OLD = "Valid from: 2014-05-12\nThe LDL target in diabetes is below 1.8 mmol/L."
NEW = "Valid from: 2025-03-10\nThe LDL target in diabetes is below 1.4 mmol/L."


def test_guidance_years_older_than_anothers_is_stale() -> None:
    difference, stale = found(LDL, OLD, NEW)
    assert difference.detail == "1.8 mmol/L in [1], 1.4 mmol/L in [2]"
    assert (stale.kind, stale.detail) == ("stale", "[1] is of 2014-05-12, [2] of 2025-03-10")
    assert stale.sides == (CitedSpan(1, 0, 22), CitedSpan(2, 0, 22))


def test_the_date_of_a_document_counts_for_all_its_passages_and_is_told_once() -> None:
    first = Source(1, NodeId("a"), DocumentId("d"), "", OLD, 0, 9, 1.0)
    second = Source(2, NodeId("a"), DocumentId("d"), "", "LDL in diabetes is measured.", 9, 50, 1.0)
    assert [c.kind for c in found(LDL, second, source(3, NEW))] == []
    told = found(LDL, second, first, source(3, NEW))
    stale = [c for c in told if c.kind == "stale"]
    assert [c.sides[0].n for c in stale] == [2]
    assert stale[0].sides[0] == CitedSpan(2, 0, 28)


@pytest.mark.parametrize(
    "text",
    [
        "LDL in diabetes. Valid until 2024-01-31.",
        "LDL in diabetes. Review date: March 2025.",
        "LDL in diabetes. This guideline has been superseded.",
        "LDL in diabetes. Expires 31/12/2025.",
    ],
)
def test_guidance_past_its_own_validity_is_stale(text: str) -> None:
    (conflict,) = found(LDL, text)
    assert conflict.kind == "stale"
    (side,) = conflict.sides
    assert text[side.start : side.end] in conflict.detail


@pytest.mark.parametrize(
    "text", ["LDL in diabetes. Valid until 2027-01-31.", "LDL in diabetes. Valid until 2025-99-99."]
)
def test_guidance_that_still_holds_is_not(text: str) -> None:
    assert found(LDL, text) == []


def test_a_few_months_do_not_make_guidance_stale() -> None:
    newer = OLD.replace("2014-05-12", "2024-10-10")
    assert [c.kind for c in found(LDL, newer, NEW)] == ["disagreement"]


# -- as a whole -----------------------------------------------------------------------------------


def test_the_gravest_come_first_and_no_more_than_six_are_shown() -> None:
    doses = [f"The LDL dose of aspirin in diabetes is {n} mg." for n in (10, 20, 30, 40)]
    shown = found("What is the LDL dose of aspirin in diabetes?", *doses, OLD, NEW)
    assert [c.kind for c in shown] == ["dose"] * 6


@given(st.text(max_size=40), st.lists(st.text(max_size=80), max_size=4))
def test_any_sources_can_be_compared(question: str, texts: list[str]) -> None:
    for conflict in found(question, *texts):
        assert conflict.detail
        for side in conflict.sides:
            assert 0 <= side.start < side.end <= len(texts[side.n - 1])
