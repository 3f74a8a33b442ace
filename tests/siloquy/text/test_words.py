"""Words, terms, clean text and sentence spans."""

from __future__ import annotations

import itertools
import sqlite3
import unicodedata
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.text.words import (
    STOP_WORDS,
    TOKENIZER,
    bm25_of_word,
    clean,
    most_bm25,
    sentence_spans,
    terms,
    words,
)
from siloquy.types import Term

CLINICAL = st.lists(
    st.sampled_from(
        ["Fièvre", "à 39 °C", "2.5 mg b.d.", "Dr.", "🩸", "e.g.", "?", ".", "!", "\n", "\n\n", " "]
    ),
    max_size=12,
).map(" ".join)


def test_words_are_lower_case_and_keep_their_order() -> None:
    assert words("Give Apixaban, then apixaban again") == [
        "give",
        "apixaban",
        "then",
        "apixaban",
        "again",
    ]


def test_words_of_other_scripts_are_words() -> None:
    assert words("Größe 5 мг, ΔG") == ["größe", "5", "мг", "δg"]


def test_the_same_word_is_the_same_however_its_accent_is_encoded() -> None:
    assert words(unicodedata.normalize("NFD", "café")) == words("café")


@given(st.text())
def test_terms_stand_once_each(text: str) -> None:
    assert len(set(terms(text))) == len(terms(text))


@given(st.text())
def test_terms_are_words_of_the_text(text: str) -> None:
    assert set(terms(text)) <= set(words(text))


@given(st.text())
def test_a_text_with_words_has_terms(text: str) -> None:
    assert bool(terms(text)) == bool(words(text))


def test_stop_words_are_no_terms() -> None:
    assert terms("What is the dose of apixaban?") == ("dose", "apixaban")


def test_stop_words_are_kept_when_there_is_nothing_else() -> None:
    assert terms("What is it?") == ("what", "is", "it")


def test_every_stop_word_is_a_word() -> None:
    assert all(words(word) == [word] for word in STOP_WORDS)


def test_line_ends_become_one_kind() -> None:
    assert clean("a\r\nb\rc\nd") == "a\nb\nc\nd"


def test_control_characters_become_spaces() -> None:
    assert clean("a\x00b\x1bc\x7fd") == "a b c d"


def test_tabs_stay() -> None:
    assert clean("dose\t5 mg") == "dose\t5 mg"


def test_accents_are_composed() -> None:
    assert clean("cafe\u0301") == "café"


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(alphabet=st.characters(categories=["Cc", "Lu"])))
def test_no_control_character_is_left(text: str) -> None:
    left = {char for char in clean(text) if unicodedata.category(char) == "Cc"}
    assert left <= {"\n", "\t"}


def test_clean_text_can_be_encoded() -> None:
    assert clean("a\ud800b").encode()


@given(CLINICAL)
def test_sentences_neither_overlap_nor_run_past_the_text(text: str) -> None:
    edges = list(itertools.chain.from_iterable(sentence_spans(text)))
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(text) for edge in edges)


@given(CLINICAL)
def test_sentences_have_no_space_around_them(text: str) -> None:
    pieces = [text[start:end] for start, end in sentence_spans(text)]
    assert all(piece and piece == piece.strip() for piece in pieces)


@given(CLINICAL)
def test_only_space_lies_between_sentences(text: str) -> None:
    rest = list(text)
    for start, end in sentence_spans(text):
        rest[start:end] = [" "] * (end - start)
    assert not "".join(rest).strip()


def test_offsets_count_characters_not_bytes() -> None:
    text = "Blut 🩸 gut. Fièvre à 39 °C. Warten."
    assert [text[start:end] for start, end in sentence_spans(text)] == [
        "Blut 🩸 gut.",
        "Fièvre à 39 °C.",
        "Warten.",
    ]


def test_a_decimal_point_ends_no_sentence() -> None:
    assert len(sentence_spans("Give 2.5 mg now. Then wait.")) == 2


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_blank_text_has_no_sentences(text: str) -> None:
    assert sentence_spans(text) == []


# -- BM25 of one word -----------------------------------------------------------------------------


def indexed(*passages: tuple[str, str]) -> sqlite3.Connection:
    """A word index of these titles and texts, numbered from 0."""
    made = sqlite3.connect(":memory:")
    made.execute(f"CREATE VIRTUAL TABLE words USING fts5 (title, text, tokenize = '{TOKENIZER}')")
    made.executemany(
        "INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)",
        [(n, *passage) for n, passage in enumerate(passages)],
    )
    return made


def saturation(count: float, length: int, mean: float) -> float:
    """What BM25 makes of a count, without the weight of its word."""
    return count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))


bodies = st.lists(
    st.lists(st.sampled_from(["dose", "ox", "ward"]), min_size=1, max_size=9),
    min_size=1,
    max_size=8,
)


@given(bodies)
def test_a_words_bm25_is_its_saturation_however_rare_it_is(bodies: list[list[str]]) -> None:
    with closing(indexed(*(("", " ".join(body)) for body in bodies))) as index:
        rows, values = bm25_of_word(index, "dose", len(bodies))
    mean = sum(map(len, bodies)) / len(bodies)
    counts = {n: body.count("dose") for n, body in enumerate(bodies) if "dose" in body}
    assert rows.tolist() == list(counts)
    expected = [saturation(count, len(bodies[n]), mean) for n, count in counts.items()]
    assert values.tolist() == pytest.approx(expected)
    assert all(value < most_bm25([Term("dose", 1.0)]) for value in values)


def test_a_word_of_the_title_counts_twice() -> None:
    with closing(indexed(("dose", "ox"), ("ox", "dose"), ("ox", "ox"))) as index:
        rows, values = bm25_of_word(index, "dose", 3)
    assert rows.tolist() == [0, 1]
    assert values.tolist() == pytest.approx([saturation(2, 2, 2), saturation(1, 2, 2)])


def test_a_word_that_is_nowhere_has_no_rows() -> None:
    with closing(indexed(("", "dose"))) as index:
        rows, values = bm25_of_word(index, "zebra", 1)
    assert (rows.tolist(), values.tolist()) == ([], [])
    with closing(indexed()) as index:
        assert [len(part) for part in bm25_of_word(index, "dose", 0)] == [0, 0]


@pytest.mark.parametrize("word", ["AND", "or", "near", "title", "not"])
def test_words_of_the_index_language_are_words(word: str) -> None:
    with closing(indexed(("", f"one {word} two"), ("", "three"))) as index:
        assert bm25_of_word(index, word, 2)[0].tolist() == [0]
