"""One hospital for a test: documents that are read in a line, an embedder of words, a silo."""

from __future__ import annotations

import functools
import hashlib
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.settings import ProfileSettings, ReleasePolicy
from siloquy.silo_node.chunk import Span
from siloquy.silo_node.ingest import IngestReport, ingest
from siloquy.silo_node.profiler import Profiler
from siloquy.silo_node.reading.document import Document, RejectedInput
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.service import SiloNode
from siloquy.silo_node.store import IndexedDocument, Store
from siloquy.text import topics
from siloquy.text.topics import Topics
from siloquy.text.words import words
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster, SignedRoster
from siloquy.types import DocumentId, EncoderSpec, Vector
from tests.siloquy.federation import ENCODER, NOW

POLICY = ReleasePolicy(gateways=("ward",))
PLAIN = ProfileSettings(epsilon=math.inf)
"""A profile without noise."""
CHUNK_TOKENS = 24


class Clock:
    """Unix milliseconds that move only when told."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class WordEmbedder:
    """The sum of a text's random word vectors, unit length: shared words make texts alike.

    ``calls`` are the texts of each call; with ``fails_at`` the call of that number raises.
    """

    def __init__(self, spec: EncoderSpec = ENCODER, fails_at: int = -1) -> None:
        self.spec = spec
        self.calls: list[list[str]] = []
        self.fails_at = fails_at

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows."""
        if len(self.calls) == self.fails_at:
            raise InterruptedError
        self.calls.append(list(texts))
        rows = [_vector(text, self.spec.dimension) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.spec.dimension)


def _vector(text: str, dimension: int) -> NDArray[np.float64]:
    total = sum((_word(word, dimension) for word in words(text)), start=_word("", dimension) / 10)
    return np.asarray(total / np.linalg.norm(total))


@functools.cache
def _word(word: str, dimension: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return np.asarray(vector / np.linalg.norm(vector))


def tokens(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """One token a word."""
    found = ([match.start() for match in re.finditer(r"\S+", text)] for text in texts)
    return [np.array(starts, dtype=np.int64) for starts in found]


def document(
    name: str,
    text: str,
    title: str = "",
    *,
    consent: bool = True,
    patient: str = "",
    collection: str = "",
) -> Document:
    """A document with the hash of its content."""
    told = {"patient": patient, "collection": collection}
    metadata = {key: value for key, value in told.items() if value}
    content = hashlib.sha256(repr((title, text, metadata, consent)).encode()).hexdigest()
    return Document(DocumentId(name), title, text, metadata, consent, content)


def unit(n: int, seed: int = 0, d: int = ENCODER.dimension, around: int | None = None) -> Vector:
    """(n, d) random directions, near one axis if given."""
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    if around is not None:
        vectors = 0.1 * vectors / np.sqrt(d)
        vectors[:, around] += 1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def put(store: Store, vectors: Vector, text: str = "fever", patient: str = "") -> None:
    """One document a row of ``vectors``."""
    first = store.counts().documents
    found = (
        document(f"{first + i}", text, patient=patient and f"{patient}{i}")
        for i in range(len(vectors))
    )
    store.put(
        [
            IndexedDocument(one, (Span(0, len(text)),), row.reshape(1, -1), "")
            for one, row in zip(found, vectors, strict=True)
        ]
    )


@functools.cache
def public_topics(spec: EncoderSpec = ENCODER) -> Topics:
    """The list in the space of the word embedder."""
    return topics.make(WordEmbedder(spec))


def open_store(path: Path) -> Store:
    """The store at ``path``, made if need be; it does not wait for the disk."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_empty_store())
    store = Store(path)
    store.connection.execute("PRAGMA synchronous = OFF")
    return store


@functools.cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "silo.sqlite"
        Store(path).close()
        return path.read_bytes()


def fill(
    store: Store, inputs: Sequence[Document | RejectedInput], embedder: WordEmbedder | None = None
) -> IngestReport:
    """Ingest with the word embedder."""
    return ingest(store, inputs, embedder or WordEmbedder(), tokens, CHUNK_TOKENS)


@dataclass(frozen=True, slots=True)
class Hospital:
    """A silo and what it is made of."""

    identity: Identity
    store: Store
    node: SiloNode
    clock: Clock


def pinned(roster: SignedRoster, path: Path) -> PinnedRoster:
    """``roster`` as a node in ``path`` pins it."""
    rosters.save(roster, path)
    return PinnedRoster(path)


def open_hospital(
    folder: Path,
    identity: Identity,
    roster: SignedRoster,
    documents: Sequence[Document],
    policy: ReleasePolicy = POLICY,
    clock: Clock | None = None,
    profile: ProfileSettings = PLAIN,
) -> Hospital:
    """A silo in ``folder`` that holds ``documents``; opened again it goes on where it was."""
    store = open_store(folder / "silo.sqlite")
    fill(store, documents)
    if profile.epsilon < math.inf:
        topics.prepare(store.connection, WordEmbedder())
    clock = clock or Clock()
    node = SiloNode(
        store,
        Searcher(store, ENCODER.dimension, closed=policy.sealed),
        identity,
        pinned(roster, folder / "roster.json"),
        policy,
        clock,
        profiler=Profiler(store, ENCODER, profile, clock),
    )
    return Hospital(identity, store, node, clock)
