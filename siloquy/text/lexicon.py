"""A fixed public vocabulary: how often words occur at a silo can be told without naming any other.

The words are the whole words of the encoder's own vocabulary file (21,719 for MiniLM): the same
for every node of a federation, and no name or number that is not in that public file can be in it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import IntegrityError, SettingsError

Counts = NDArray[np.float64]

STEPS_PER_OCTAVE = 8
_VALUES = np.exp2(np.arange(256) / STEPS_PER_OCTAVE) - 1.0
_MARKS = ("▁", "Ġ")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words in alphabetical order and where each stands.

    ranks   each word's place in the vocabulary file, which lists common words first
    """

    words: tuple[str, ...]
    places: dict[str, int]
    ranks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.words)


def load(model: Path) -> Lexicon:
    """The lexicon of the encoder in folder ``model``."""
    try:
        vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{model} holds no tokenizer.json with a vocabulary") from None
    tokens = vocabulary if isinstance(vocabulary, dict) else [item[0] for item in vocabulary]
    ordered = sorted(tokens, key=vocabulary.__getitem__) if isinstance(vocabulary, dict) else tokens
    marked = any(token.startswith(_MARKS) for token in tokens)
    ranked: dict[str, int] = {}
    for rank, token in enumerate(ordered):
        word = token[1:] if marked else token
        if (not marked or token.startswith(_MARKS)) and _is_word(word):
            ranked.setdefault(word.lower(), rank)
    words = tuple(sorted(ranked))
    places = {word: place for place, word in enumerate(words)}
    return Lexicon(words, places, tuple(ranked[word] for word in words))


def _is_word(token: str) -> bool:
    return len(token) > 1 and token.isascii() and token.isalpha()


def pack(counts: NDArray[np.int64]) -> bytes:
    """Counts on a scale of eight steps an octave (4 % exact), deflated."""
    codes = np.rint(STEPS_PER_OCTAVE * np.log2(1.0 + counts)).clip(0, 255).astype(np.uint8)
    return zlib.compress(codes.tobytes(), 9)


def codes(data: bytes, lexicon: Lexicon) -> NDArray[np.uint8]:
    """(words,) log-scaled counts; IntegrityError when the data does not fit the lexicon."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, len(lexicon) + 1)
    except zlib.error:
        raise IntegrityError("a profile's word frequencies do not inflate") from None
    if len(raw) != len(lexicon):
        raise IntegrityError(f"a profile counts {len(raw)} words, the lexicon has {len(lexicon)}")
    return np.frombuffer(raw, dtype=np.uint8)


def counts(codes: NDArray[np.uint8]) -> Counts:
    """What log-scaled counts stand for."""
    return np.asarray(_VALUES[codes])


def unpack(data: bytes, lexicon: Lexicon) -> Counts:
    """(words,) counts; IntegrityError when the data does not fit the lexicon."""
    return counts(codes(data, lexicon))


def total(packed: Sequence[bytes], lexicon: Lexicon) -> Counts:
    """Counts summed over silos."""
    counts = np.zeros(len(lexicon))
    for data in packed:
        counts += unpack(data, lexicon)
    return counts
