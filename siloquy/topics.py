"""A fixed public list of clinical topics: places in the encoder's space that depend on no data.

A silo tells how much of its content lies near each, a gateway how near a question is to each.
Both encode the same list, so nothing but the list's hash need be agreed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from siloquy.database import reading, transaction
from siloquy.ports import Embedder
from siloquy.types import EncoderSpec, Vector

LIST = Path(__file__).resolve().parent / "topics.txt"
SCHEMA = "CREATE TABLE IF NOT EXISTS topics (anchors TEXT PRIMARY KEY, vectors BLOB NOT NULL);"
SHARPNESS = 20.0
MOST_OF_ONE = 3


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
        cosines = vectors @ self.vectors.T
        most = min(MOST_OF_ONE, len(self))
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        kept = np.take_along_axis(cosines, nearest, axis=1)
        weights = np.exp(SHARPNESS * (kept - kept.max(axis=1, keepdims=True)))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        shares = np.zeros_like(cosines)
        np.put_along_axis(shares, nearest, weights.astype(np.float32), axis=1)
        return shares


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
    with transaction(connection):
        row = (made.anchors, made.vectors.astype("<f2").tobytes())
        connection.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", row)
    return made


def read(connection: sqlite3.Connection, spec: EncoderSpec) -> Topics | None:
    """The vectors that ``prepare`` kept for this encoder and list; None when there are none."""
    wanted = anchors(spec)
    with reading(connection):
        row = connection.execute(
            "SELECT vectors FROM topics WHERE anchors = ?", (wanted,)
        ).fetchone()
    if row is None:
        return None
    flat = np.frombuffer(row[0], dtype="<f2").astype(np.float32)
    return Topics(names(), flat.reshape(len(names()), spec.dimension), wanted)
