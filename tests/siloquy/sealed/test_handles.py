"""Handles that a key makes: back to their place with it, and nothing without."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.sealed.handles import HANDLE_BYTES, KEY_BYTES, handles_of, new_key, place_of

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
places = st.integers(0, 2**32 - 1)


@given(keys, st.lists(places, max_size=50))
def test_a_handle_comes_back_to_its_place(key: bytes, wanted: list[int]) -> None:
    handles = handles_of(key, wanted)
    assert [place_of(key, handle) for handle in handles] == wanted
    assert {len(handle) for handle in handles} <= {HANDLE_BYTES}


@given(keys, st.lists(places, unique=True, max_size=50))
def test_no_two_places_share_a_handle(key: bytes, wanted: list[int]) -> None:
    assert len(set(handles_of(key, wanted))) == len(wanted)


@given(keys, keys, places)
def test_a_handle_of_another_key_is_no_place(key: bytes, other: bytes, place: int) -> None:
    (handle,) = handles_of(key, [place])
    assert place_of(other, handle) == (place if key == other else None)


@given(keys, st.binary(max_size=40))
def test_guessed_bytes_are_no_place(key: bytes, guess: bytes) -> None:
    assert place_of(key, guess) is None


@given(keys, places, st.integers(0, 8 * HANDLE_BYTES - 1))
def test_a_handle_with_one_bit_changed_is_no_place(key: bytes, place: int, bit: int) -> None:
    (handle,) = handles_of(key, [place])
    changed = int.from_bytes(handle, "big") ^ 1 << bit
    assert place_of(key, changed.to_bytes(HANDLE_BYTES, "big")) is None


@pytest.mark.parametrize("place", [2**32, 2**64, 2**127])
def test_a_number_beyond_all_places_is_none(place: int) -> None:
    key = new_key()
    assert place_of(key, handles_of(key, [place])[0]) is None


def test_many_handles_of_many_keys_never_meet() -> None:
    keys = [new_key() for _ in range(20)]
    assert {len(key) for key in keys} == {KEY_BYTES}
    made = {handle for key in keys for handle in handles_of(key, range(256))}
    assert len(made) == 20 * 256


def test_ten_thousand_guesses_are_no_place() -> None:
    key = new_key()
    assert {place_of(key, os.urandom(HANDLE_BYTES)) for _ in range(10_000)} == {None}
