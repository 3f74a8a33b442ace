"""Words, terms, clean text and sentence spans."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.text.words import STOP_WORDS, clean, sentence_spans, terms, words

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
