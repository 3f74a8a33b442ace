"""Swaps change what they are named after, and nothing else; paraphrases change no fact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.eval.answers.edits import SWAPS, SwapKind, paraphrase

PASSAGE = "Give amoxicillin 500 mg. Give 250 mg for 5 days. Azithromycin is second. Wait 7 days."


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("dose", "Give 500 mg.", {"Give 250 mg."}),
        ("number", "Wait 5 days.", {"Wait 7 days."}),
        ("number", "Give two doses.", {"Give four doses."}),
        ("unit", "Give 5 mg.", {"Give 5 g."}),
        ("negation", "Do not wait.", {"Wait."}),
        ("negation", "It should help.", {"It should not help."}),
        ("negation", "It is unsafe.", {"It is safe.", "It is not unsafe."}),
        ("laterality", "Left knee.", {"Right knee."}),
        ("drug", "Amoxicillin helps.", {"Azithromycin helps."}),
        ("population", "The elderly cough.", {"The young cough."}),
    ],
)
def test_a_swap_changes_one_fact(kind: SwapKind, text: str, expected: set[str]) -> None:
    assert SWAPS[kind](text, PASSAGE, rng()) in expected


def test_a_number_that_the_passage_has_no_other_of_is_doubled_halved_or_tenfold() -> None:
    assert SWAPS["dose"]("Give 30 mL.", "", rng()) in {"Give 60 mL.", "Give 300 mL.", "Give 15 mL."}


def test_a_drug_named_beside_the_first_is_not_taken_for_it() -> None:
    passage = "Amoxicillin and azithromycin help."
    assert "zithromycin" not in str(SWAPS["drug"]("Amoxicillin helps.", passage, rng()))


@pytest.mark.parametrize("kind", SWAPS)
def test_a_sentence_without_such_a_fact_is_left_alone(kind: SwapKind) -> None:
    assert SWAPS[kind]("Hills.", PASSAGE, rng()) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Give aspirin for pain.", "Aspirin should be given for pain."),
        ("Do not give aspirin.", "Aspirin should not be given."),
        ("In severe pain, call the ward.", "Call the ward in severe pain."),
        ("It usually heals.", "It heals."),
        ("Take it twice daily.", "Take it every 12 hours."),
    ],
)
def test_a_paraphrase_says_the_same(text: str, expected: str) -> None:
    assert paraphrase(text, rng()) == expected


def test_where_no_rule_applies_there_is_no_paraphrase() -> None:
    assert paraphrase("Hills.", rng()) is None


@given(st.text(max_size=80), st.text(max_size=80), st.integers(0, 9))
def test_any_text_can_be_edited(text: str, passage: str, seed: int) -> None:
    for edit in SWAPS.values():
        edit(text, passage, np.random.default_rng(seed))
    paraphrase(text, np.random.default_rng(seed))
