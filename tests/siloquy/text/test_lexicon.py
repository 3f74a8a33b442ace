"""The public vocabulary and counts over it."""

from __future__ import annotations

import contextlib
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import IntegrityError, SettingsError
from siloquy.settings import EncoderSettings
from siloquy.text import lexicon as lexicons
from siloquy.text.embed import model_folder
from siloquy.text.lexicon import Lexicon, codes, load, pack, total, unpack

LEXICON = Lexicon(("ache", "fever", "rash"), {"ache": 0, "fever": 1, "rash": 2})


def model(folder: Path, vocabulary: object) -> Path:
    text = json.dumps({"model": {"vocab": vocabulary}})
    (folder / "tokenizer.json").write_text(text)
    return folder


# -- words ----------------------------------------------------------------------------------------


def test_the_packaged_lexicon_is_of_sorted_plain_lower_case_words() -> None:
    lexicon = load(model_folder(EncoderSettings()))
    assert list(lexicon.words) == sorted(set(lexicon.words))
    assert all(lexicon.words[place] == word for word, place in lexicon.places.items())
    assert all(word.isascii() and word.isalpha() and word.islower() for word in lexicon.words)
    assert {"fever", "insulin", "heart"} <= lexicon.places.keys()


def test_the_packaged_lexicon_has_the_documented_number_of_words() -> None:
    words = len(load(model_folder(EncoderSettings())))
    assert f"{words:,}" in str(lexicons.__doc__)


def test_word_pieces_numbers_and_names_of_one_letter_are_left_out(tmp_path: Path) -> None:
    vocabulary = {
        "[CLS]": 0,
        "##ing": 1,
        "fever": 2,
        "a": 3,
        "2024": 4,
        "rash": 5,
        "é": 6,
        "Ache": 7,
    }
    assert load(model(tmp_path, vocabulary)) == replace(LEXICON, ranks=(7, 2, 5))


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_of_a_marked_vocabulary_only_beginnings_of_words_are_taken(
    tmp_path: Path, mark: str
) -> None:
    pieces = [[f"{mark}fever", -1.0], ["ing", -2.0], [f"{mark}Rash", -3.0], [f"{mark}ache", -4.0]]
    assert load(model(tmp_path, pieces)) == replace(LEXICON, ranks=(3, 0, 2))


def test_a_words_rank_is_its_first_place_in_the_file_whatever_order_that_is_in(
    tmp_path: Path,
) -> None:
    vocabulary = {"rash": 9, "Fever": 8, "fever": 4, "ache": 1}
    assert load(model(tmp_path, vocabulary)).ranks == (0, 1, 3)


def test_common_words_stand_before_rare_ones_in_the_packaged_lexicon() -> None:
    lexicon = load(model_folder(EncoderSettings()))
    ranks = [lexicon.ranks[lexicon.places[word]] for word in ("the", "heart", "insulin")]
    assert ranks == sorted(ranks)
    assert len(set(lexicon.ranks)) == len(lexicon)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        '{"model": {}}',
        "[]",
    ],
)
def test_a_folder_without_a_vocabulary_is_no_encoder(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(SettingsError, match="vocabulary"):
        load(tmp_path)


# -- counts ---------------------------------------------------------------------------------------

counts = st.lists(st.integers(0, 10**9), min_size=3, max_size=3)


@given(counts)
def test_counts_come_back_within_a_sixteenth_of_an_octave(numbers: list[int]) -> None:
    back = unpack(pack(np.array(numbers, dtype=np.int64)), LEXICON)
    assert back.shape == (3,)
    assert np.allclose(np.log2(1 + back), np.log2(1.0 + np.array(numbers)), atol=1 / 16 + 1e-9)


@given(counts)
def test_codes_stand_for_the_counts_that_come_back(numbers: list[int]) -> None:
    packed = pack(np.array(numbers, dtype=np.int64))
    found = codes(packed, LEXICON)
    assert found.dtype == np.uint8
    assert lexicons.counts(found).tolist() == unpack(packed, LEXICON).tolist()


@given(counts)
def test_no_count_stays_none(numbers: list[int]) -> None:
    back = unpack(pack(np.array(numbers, dtype=np.int64)), LEXICON)
    assert [count > 0 for count in back] == [count > 0 for count in numbers]


@given(counts, counts)
def test_larger_counts_never_come_back_smaller(one: list[int], other: list[int]) -> None:
    low, high = np.minimum(one, other), np.maximum(one, other)
    assert (unpack(pack(low), LEXICON) <= unpack(pack(high), LEXICON)).all()


def test_counts_beyond_the_scale_stay_at_its_end() -> None:
    most = np.full(3, 2**62, dtype=np.int64)
    assert unpack(pack(most), LEXICON)[0] == pytest.approx(2 ** (255 / 8) - 1)


def test_totals_are_sums_over_silos() -> None:
    packed = [pack(np.array(row, dtype=np.int64)) for row in ([1, 0, 3], [0, 0, 7], [1, 0, 0])]
    assert total(packed, LEXICON) == pytest.approx([2, 0, 10], rel=0.05)


def test_a_packed_public_vocabulary_is_small() -> None:
    rng = np.random.default_rng(1)
    numbers = (5000 * rng.random(21_760) ** 40).astype(np.int64)
    assert len(pack(numbers)) < 16 * 1024


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [0, 2, 4, 1_000_000])
def test_counts_of_another_lexicon_are_refused(words: int) -> None:
    with pytest.raises(IntegrityError, match="words"):
        unpack(pack(np.zeros(words, dtype=np.int64)), LEXICON)


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(IntegrityError, match="counts 4 words, the lexicon has 3"):
        unpack(bomb, LEXICON)


@given(st.binary(max_size=60))
def test_damaged_counts_raise_nothing_but_integrity_errors(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        assert len(unpack(data, LEXICON)) == 3


@given(st.integers(0, 100))
def test_counts_cut_short_are_refused_or_whole(length: int) -> None:
    numbers = pack(np.array([1, 2, 3], dtype=np.int64))
    with contextlib.suppress(IntegrityError):
        assert unpack(numbers[:length], LEXICON) == pytest.approx([1, 2, 3], rel=0.05)


def test_eight_steps_an_octave() -> None:
    assert lexicons.STEPS_PER_OCTAVE == 8
    assert zlib.decompress(pack(np.array([0, 1, 3, 7], dtype=np.int64))) == bytes([0, 8, 16, 24])
