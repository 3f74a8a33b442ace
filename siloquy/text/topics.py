"""A fixed public list of clinical topics: places in the encoder's space that depend on no data.

A silo tells how much of its content lies near each, a gateway how near a question is to each.
Both encode the same list, so nothing but the list's hash need be agreed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.database import reading, transaction
from siloquy.ports import Embedder
from siloquy.types import EncoderSpec, Vector

TOPICS_FILE = "topics.sqlite"
"""In a gateway's folder: the list, encoded."""
LIST = Path(__file__).resolve().parent / "topics.txt"
SCHEMA = "CREATE TABLE IF NOT EXISTS topics (anchors TEXT PRIMARY KEY, vectors BLOB NOT NULL);"
SHARPNESS = 20.0
MOST_OF_ONE = 3
_GRID = 2.0**24
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Topics:
    """Names of the topics, their (topics, d) unit vectors, and the hash of list and encoder."""

    names: tuple[str, ...]
    vectors: Vector
    anchors: str

    def __len__(self) -> int:
        return len(self.names)

    def near(self, vectors: Vector) -> Vector:
        """(n, topics) how much of each vector belongs to each topic: rows of L2 norm 1.

        At most three topics a row; one that is .05 of cosine further off counts 1 / e as much.
        """
        cosines = self.cosines(vectors)
        most = min(MOST_OF_ONE, len(self))
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        kept = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.exp(SHARPNESS * (kept - kept.max(axis=1, keepdims=True)))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        shares = np.zeros(cosines.shape, dtype=np.float32)
        np.put_along_axis(shares, nearest, weights.astype(np.float32), axis=1)
        return shares

    def cosines(self, vectors: Vector) -> NDArray[np.float64]:
        """(n, topics) cosines, each the same to the last bit whichever rows stand beside it.

        Of coordinates in whole steps of 2 ** -24 no sum of products needs more than float64 has, so
        that nothing is rounded. In float32 the last bit of a row hangs on its place in the matrix:
        of two topics equally near, another document could decide.
        """
        return np.asarray(_stepped(vectors) @ _stepped(self.vectors).T)


def _stepped(vectors: Vector) -> NDArray[np.float64]:
    return np.asarray(np.rint(vectors.astype(np.float64) * _GRID) / _GRID)


@cache
def names() -> tuple[str, ...]:
    """The list."""
    return tuple(line for line in LIST.read_text(encoding="utf-8").splitlines() if line.strip())


def anchors(spec: EncoderSpec) -> str:
    """What list and encoder hash to: nodes that agree in it mean the same topics."""
    text = "\n".join((spec.sha256, *names()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make(embedder: Embedder) -> Topics:
    """The list in the space of ``embedder``: 512 short texts to encode."""
    return Topics(names(), embedder.encode(names()), anchors(embedder.spec))


def prepare(connection: sqlite3.Connection, embedder: Embedder) -> Topics:
    """The list's vectors, kept in a database with ``SCHEMA`` so that they are encoded once."""
    kept = read(connection, embedder.spec)
    if kept is not None:
        return kept
    made = make(embedder)
    halves = made.vectors.astype("<f2")
    with transaction(connection):
        row = (made.anchors, halves.tobytes() + _digest(halves.tobytes()))
        connection.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", row)
    return replace(made, vectors=halves.astype(np.float32))


def read(connection: sqlite3.Connection, spec: EncoderSpec) -> Topics | None:
    """The vectors that ``prepare`` kept for this encoder and list; None without whole ones."""
    wanted = anchors(spec)
    with reading(connection):
        row = connection.execute(
            "SELECT vectors FROM topics WHERE anchors = ?", (wanted,)
        ).fetchone()
    if row is None or _digest(row[0][:-_DIGEST_BYTES]) != row[0][-_DIGEST_BYTES:]:
        return None
    flat = np.frombuffer(row[0][:-_DIGEST_BYTES], dtype="<f2").astype(np.float32)
    return Topics(names(), flat.reshape(len(names()), spec.dimension), wanted)


def _digest(vectors: bytes) -> bytes:
    """A flipped bit would go unseen: no vector of a topic looks wrong."""
    return hashlib.sha256(vectors).digest()[:_DIGEST_BYTES]
