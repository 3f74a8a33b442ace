"""A reply is cut into the same sentences however it comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.drafting import DraftSentence, Sentences

REPLY = (
    "Give vancomycin 25 mg/kg once [1]. Then give 15 mg/kg every 12 hours.[2][3] In renal "
    "impairment, dose by level [1, 4].\n- The maximum is 2 g per dose [2]\n\n**Wait** an hour."
)
SAID = [
    DraftSentence("Give vancomycin 25 mg/kg once.", (1,)),
    DraftSentence("Then give 15 mg/kg every 12 hours.", (2, 3)),
    DraftSentence("In renal impairment, dose by level.", (1, 4)),
    DraftSentence("The maximum is 2 g per dose", (2,)),
    DraftSentence("Wait an hour.", ()),
]


def cut(pieces: Sequence[str]) -> list[DraftSentence]:
    sentences = Sentences()
    found = [said for piece in pieces for said in sentences.add(piece)]
    return found + sentences.end()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 1000])
def test_pieces_of_any_size_give_the_same_sentences(size: int) -> None:
    assert cut([REPLY[i : i + size] for i in range(0, len(REPLY), size)]) == SAID


def test_a_sentence_is_given_out_before_the_reply_ends() -> None:
    sentences = Sentences()
    assert sentences.add("One is here [1].\nTwo ") == [DraftSentence("One is here.", (1,))]


def test_the_whole_reply_is_kept_as_it_came() -> None:
    sentences = Sentences()
    for piece in (REPLY[:50], REPLY[50:]):
        sentences.add(piece)
    assert sentences.whole == REPLY


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_a_model_thinks_first_is_no_sentence(size: int) -> None:
    reply = "<think>Is it 2 g?\nOr 4 g [1].</think>\nGive 2 g once [1].\n<think>Done. Wait"
    assert cut([reply[i : i + size] for i in range(0, len(reply), size)]) == [
        DraftSentence("Give 2 g once.", (1,))
    ]


def test_marks_alone_are_no_sentence() -> None:
    assert cut(["[1]\n", "***\n", "- \n"]) == []


def test_a_number_cited_twice_counts_once() -> None:
    assert cut(["It is so [2][1][2]."]) == [DraftSentence("It is so.", (2, 1))]


def test_a_reply_without_an_end_is_cut_all_the_same() -> None:
    found = cut(["word " * 20_000])
    assert sum(len(said.text.split()) for said in found) == 20_000


@given(st.lists(st.text(max_size=40), max_size=12))
def test_no_reply_breaks_it_and_no_mark_is_left(pieces: list[str]) -> None:
    for said in cut(pieces):
        assert said.text
        assert all(0 <= n < 1000 for n in said.citations)
