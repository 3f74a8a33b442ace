from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node.guards import OfferedPassage, OpenQuestion, RowPlaces
from siloquy.silo_node.questions import OpenQuestions
from siloquy.types import Handle, NodeId, QueryId

QUERY = QueryId(b"q" * 16)
OFFERED = st.builds(
    OfferedPassage,
    number=st.integers(1, 2**32 - 1),
    dense=st.floats(-1, 1),
    lexical=st.floats(0, 1e6),
)
OFFERS = st.dictionaries(st.binary(min_size=16, max_size=16).map(Handle), OFFERED, max_size=5)


def question(
    offered: dict[Handle, OfferedPassage] | None = None, expires: int = 10
) -> OpenQuestion:
    return OpenQuestion(QUERY, NodeId("ward"), "dr 7", "treatment", 5, expires, offered or {})


def test_an_unknown_question_is_none() -> None:
    assert OpenQuestions().get(QUERY) is None


@given(OFFERS)
def test_a_question_comes_back_as_it_was_kept(offered: dict[Handle, OfferedPassage]) -> None:
    questions = OpenQuestions()
    questions.keep(question(offered))
    assert questions.get(QUERY) == question(offered)


def test_handles_that_end_in_zeros_stay_whole() -> None:
    handle = Handle(b"h" + bytes(15))
    questions = OpenQuestions()
    questions.keep(question({handle: OfferedPassage(1, 0.5, 0.25)}))
    kept = questions.get(QUERY)
    assert kept is not None
    assert list(kept.offered) == [handle]


def test_of_a_sealed_question_the_places_are_kept_and_no_offers() -> None:
    placed = RowPlaces(bytes(32), np.array([[7, 0]]), np.array([0]))
    sealed = replace(question({Handle(b"h" * 16): OfferedPassage(7)}), placed=placed)
    questions = OpenQuestions()
    questions.keep(sealed)
    kept = questions.get(QUERY)
    assert kept == replace(sealed, offered={})
    assert kept.placed is placed


def test_a_question_kept_again_takes_the_place_of_its_older_self() -> None:
    questions = OpenQuestions()
    questions.keep(question())
    questions.keep(replace(question(), used=frozenset([Handle(b"u" * 16)])))
    kept = questions.get(QUERY)
    assert kept is not None
    assert (kept.used, len(questions)) == (frozenset([Handle(b"u" * 16)]), 1)


def test_a_question_is_forgotten_once_it_has_expired() -> None:
    questions = OpenQuestions()
    for n, expires in enumerate([10, 20, 30]):
        questions.keep(replace(question(expires=expires), query_id=QueryId(bytes([n]))))
    questions.forget_expired(20)
    assert (len(questions), questions.get(QueryId(b"\0"))) == (2, None)
    questions.forget_expired(31)
    assert len(questions) == 0


def test_a_thousand_open_questions_of_ninety_offers_take_under_four_megabytes() -> None:
    numbers = np.random.default_rng(0).random(90).astype(np.float32).tolist()
    tracemalloc.start()
    try:
        questions = OpenQuestions()
        for n in range(1000):
            offered = {
                Handle(os.urandom(16)): OfferedPassage(i, x, x) for i, x in enumerate(numbers)
            }
            questions.keep(replace(question(offered), query_id=QueryId(n.to_bytes(16, "big"))))
        assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()
