"""What must never reach the hub, and the search for it in what the hub has captured."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.text.lexicon import Lexicon
from siloquy.types import EncoderSpec, Vector

DIMENSION = 48
QUESTION = "Which zanthoxyl dose suits snorrevik fever after trepanning?"

# -- what must stay secret ------------------------------------------------------------------------

QUESTION_WORDS = ("zanthoxyl", "snorrevik", "trepanning")
SECRETS = ("brindlewick", "quillfeather", "HN-4242", "Ottoline Marrowby", "halvergate")
_CLOSING = {
    "north": ("Never with milk, never at night.", "Weigh the child first and write it down."),
    "south": ("Stop it when the pulse falls.", "Halve it for the very old and the very thin."),
    "east": ("A second nurse counts the drops.", "Keep the vial cold, dark and locked away."),
}
_FILLER = "drain bed ward round chart note shift lamp linen meal form phone key door desk"


def write_documents(folder: Path, silo: str, filler: int) -> None:
    """Two documents that answer the question and hold every canary, and ``filler`` dull ones."""
    folder.mkdir()
    for n in (1, 2):
        (folder / f"brindlewick-{silo}-{n}.txt").write_text(
            f"Quillfeather protocol {n} of {silo}\n\n"
            f"In snorrevik fever the zanthoxyl dose after trepanning is {n}0 mg at {silo}. "
            f"Ottoline Marrowby, HN-4242-{n}, lay in halvergate room {n}. {_CLOSING[silo][n - 1]}\n"
        )
    dull = _FILLER.split()
    for n in range(filler):
        words = " ".join(dull[(n * 7 + i * 3) % len(dull)] for i in range(9))
        (folder / f"halvergate-{n}.txt").write_text(
            f"Leaf {n}\n\nThe {words} stays at {silo} {n}.\n"
        )


class WordEmbedder:
    """A text encoder for tests: a text is the sum of its words' fixed random directions."""

    spec = EncoderSpec("word-sum", hashlib.sha256(b"word-sum").hexdigest(), DIMENSION)

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows."""
        rows = [self._row(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, DIMENSION)

    def _row(self, text: str) -> NDArray[np.float64]:
        total = sum(map(_direction, ["", *re.findall(r"\w+", text.lower())]), np.zeros(DIMENSION))
        return np.asarray(total / np.linalg.norm(total))


@functools.cache
def _direction(word: str) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=DIMENSION)


def tokens(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Where words start, as a tokenizer would say."""
    return [np.array([m.start() for m in re.finditer(r"\S+", text)]) for text in texts]


def lexicon() -> Lexicon:
    """A public vocabulary that holds no canary."""
    words = tuple(sorted({*_FILLER.split(), "dose", "fever", "protocol", "room"}))
    return Lexicon(words, {word: place for place, word in enumerate(words)})


# -- searching what was captured ------------------------------------------------------------------

WINDOW = 16


def text_leaks(captured: bytes, secrets: Iterable[str]) -> list[str]:
    """Those of ``secrets`` that stand in ``captured``, in any case, UTF-8 or UTF-16."""
    low = captured.lower()
    return [
        secret
        for secret in secrets
        if secret.lower().encode() in low or secret.lower().encode("utf-16-le") in low
    ]


def vector_leaks(captured: bytes, vectors: Vector) -> list[str]:
    """Encodings in which any part of any of the vectors stands in ``captured``.

    raw       16 bytes of little-endian float32 at any offset
    base64    of any 12 bytes, at each of the three alignments
    decimal   any component to four digits
    """
    raw = [row.astype("<f4").tobytes() for row in vectors]
    found = []
    if _windows(captured, WINDOW) & {w for row in raw for w in _windows(row, WINDOW)}:
        found.append("raw")
    if _windows(captured, WINDOW) & {w for row in raw for w in _base64_windows(row)}:
        found.append("base64")
    printed = {match[:7] for match in re.findall(rb"0\.\d{5,}", captured)}
    if printed & {f"{abs(value):.12f}"[:7].encode() for value in vectors.ravel()}:
        found.append("decimal")
    return found


def _windows(data: bytes, size: int) -> set[bytes]:
    return {data[i : i + size] for i in range(len(data) - size + 1)}


def _base64_windows(row: bytes) -> set[bytes]:
    # 12 bytes are 16 characters: whole groups of three, whatever stands before the vector.
    return {base64.b64encode(row[start : start + 12]) for start in range(len(row) - 11)}


def files_of(folder: Path) -> bytes:
    """All bytes of all files below ``folder``."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
