"""Handles of a sealed question's rows: too many to draw and send one each, so a key stands for all.

A handle is the row's place in the silo's reply under one AES-256 block, a pseudorandom permutation:
who has the key, silo and hub, turns a place into its handle and back; to anyone else each is 16
random bytes, and a guessed one is no place but for 1 in 2^96.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from siloquy.types import Handle

KEY_BYTES, HANDLE_BYTES = 32, 16
_PLACE_BYTES = 4


def new_key() -> bytes:
    """A fresh key, one a question."""
    return os.urandom(KEY_BYTES)


def handles_of(key: bytes, places: Iterable[int]) -> list[Handle]:
    """The handle of each place.

    >>> key = bytes(32)
    >>> [place_of(key, handle) for handle in handles_of(key, [0, 7])]
    [0, 7]
    """
    encryptor = _permutation(key).encryptor()
    blocks = (place.to_bytes(HANDLE_BYTES, "big") for place in places)
    return [Handle(encryptor.update(block)) for block in blocks]


def place_of(key: bytes, handle: bytes) -> int | None:
    """The place that ``handle`` stands for; None when it was not made with ``key``."""
    if len(handle) != HANDLE_BYTES:
        return None
    place = int.from_bytes(_permutation(key).decryptor().update(handle), "big")
    return place if place < 1 << (8 * _PLACE_BYTES) else None


def _permutation(key: bytes) -> Cipher[modes.ECB]:
    # One block that holds a number below 2^32: no two are alike, so no mode is needed.
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
