"""The silo's truth: documents, passages, vectors and the lexical index in one SQLite file.

A document, its passages, their vectors and their lexical entries change in one transaction, so a
reader sees all of a change or none of it. Dense indexes are rebuilt from here.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siloquy import crash
from siloquy.database import connect, named, reading, transaction
from siloquy.errors import Incompatible, StorageFailed
from siloquy.silo_node import pause, privacy
from siloquy.silo_node.chunk import Span, passage_id
from siloquy.silo_node.index import Ids
from siloquy.silo_node.reading.document import Document, RejectedInput
from siloquy.silo_node.sections import PassagePlace, standings
from siloquy.silo_node.words import Words
from siloquy.text import topics
from siloquy.text.lexicon import Lexicon
from siloquy.text.ranking import TOKENIZER
from siloquy.trust import ledger
from siloquy.types import DocumentId, EncoderSpec, PassageId, PrivacyUnit, Term, Vector
from siloquy.watch.health import reader

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    consent INTEGER NOT NULL,
    recipe_hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS passages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL REFERENCES documents (id),
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    vector BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS passage_hashes (
    number INTEGER PRIMARY KEY REFERENCES passages (number) ON DELETE CASCADE, hash BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS standings (
    number INTEGER PRIMARY KEY REFERENCES passages (number) ON DELETE CASCADE,
    section TEXT NOT NULL, dated TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS passages_by_document ON passages (document);
CREATE VIEW IF NOT EXISTS passage_words AS
    SELECT number, title, substr(text, start + 1, "end" - start) AS text
    FROM passages JOIN documents ON documents.id = passages.document;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    title, text, content = 'passage_words', content_rowid = 'number', tokenize = '{TOKENIZER}'
);
CREATE VIRTUAL TABLE IF NOT EXISTS word_counts USING fts5vocab ('words', 'row');
CREATE TABLE IF NOT EXISTS quarantine (source TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    gateway TEXT NOT NULL, day TEXT NOT NULL, passages INTEGER NOT NULL, PRIMARY KEY (gateway, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sealed_asked (
    gateway TEXT NOT NULL, day TEXT NOT NULL, questions INTEGER NOT NULL, PRIMARY KEY (gateway, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (query BLOB PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
{ledger.SCHEMA}
{pause.SCHEMA}
{privacy.SCHEMA}
{topics.SCHEMA}
"""  # noqa: S608


_PASSAGE = """
SELECT number, passages.id, document, title, substr(text, start + 1, "end" - start), start, "end",
    section, dated, consent, coalesce(json_extract(metadata, '$.collection'), ''), hash
FROM passages JOIN documents ON documents.id = document LEFT JOIN passage_hashes USING (number)
    LEFT JOIN standings USING (number)
WHERE number = ?
"""


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document with its passages' spans and (n, d) vectors, ready to store."""

    document: Document
    spans: tuple[Span, ...]
    vectors: Vector
    recipe_hash: str


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage as it lies in the silo; it may not leave but through release."""

    number: int
    id: PassageId
    document: DocumentId
    title: str
    text: str
    start: int
    end: int
    section: str
    dated: str
    consent: bool
    collection: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a silo holds."""

    documents: int
    passages: int
    withdrawn: int
    quarantined: int


class Store:
    """One connection to a silo's database; safe to share between threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection | None = None) -> None:
        self.connection = connection or connect(path, SCHEMA)
        self.lock = threading.RLock()
        self._words = Words(self.connection)

    def close(self) -> None:
        """Close the connection, once who holds it is done."""
        with self.lock:
            self.connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state, whatever other processes commit meanwhile."""
        with self.lock, reading(self.connection):
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("COMMIT")

    # -- facts ----------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """A stored fact, such as the encoder."""
        row = self.connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Store a fact."""
        self.connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def bind(self, spec: EncoderSpec) -> None:
        """Fix the encoder on first use; Incompatible when the vectors here are another's."""
        self.check_encoder(spec)
        # A silo must be able to start on a full disk.
        if self.fact("encoder") is None:
            self.set_fact("encoder", spec.sha256)

    def check_encoder(self, spec: EncoderSpec) -> None:
        """Incompatible when the vectors here are another encoder's."""
        known = self.fact("encoder")
        if known not in (None, spec.sha256):
            raise Incompatible(
                f"the store's vectors are of encoder {str(known)[:12]}, this is {spec.sha256[:12]}",
                "ingest into a fresh silo folder with the new encoder",
            )

    def next_number(self, name: str) -> int:
        """1, 2, 3...: a counter that survives restarts."""
        with self.lock, transaction(self.connection):
            number = int(self.fact(name) or 0) + 1
            self.set_fact(name, str(number))
        return number

    # -- writing --------------------------------------------------------------------------------

    def recipe_hashes(self) -> dict[DocumentId, str]:
        """What each document was made from; equal means unchanged."""
        rows = self.connection.execute("SELECT id, recipe_hash FROM documents")
        return {DocumentId(document): recipe_hash for document, recipe_hash in rows}

    def put(self, batch: Sequence[IndexedDocument]) -> None:
        """Add or replace documents, all in one transaction."""
        with self.lock, self._changing():
            for item in batch:
                self._drop(item.document.id)
                self._insert(item)
                crash.point("document-stored")

    def delete(self, document: DocumentId) -> int:
        """Passages that went with ``document``; -1 when it was not here."""
        with self.lock, self._changing():
            gone = self._drop(document)
            crash.point("document-dropped")
            return gone

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction that changes passages."""
        self._words.forget()
        with transaction(self.connection):
            yield

    def quarantine(self, rejected: Iterable[RejectedInput]) -> None:
        """Remember what could not be read, and why."""
        with self.lock, transaction(self.connection):
            self.connection.executemany(
                "INSERT OR REPLACE INTO quarantine VALUES (?, ?)",
                [(item.source, item.reason) for item in rejected],
            )
            crash.point("rejections-noted")

    def settle_quarantine(self, files: frozenset[str], rejected: frozenset[str]) -> None:
        """Forget rejections in ``files``, all read since, but those ``rejected`` again."""
        mended = [
            (item.source,)
            for item in self.quarantined()
            if item.source.partition("#")[0] in files and item.source not in rejected
        ]
        with self.lock, transaction(self.connection):
            self.connection.executemany("DELETE FROM quarantine WHERE source = ?", mended)

    def quarantined(self) -> list[RejectedInput]:
        """What could not be read."""
        rows = self.connection.execute("SELECT source, reason FROM quarantine ORDER BY source")
        return [RejectedInput(*row) for row in rows]

    def _insert(self, item: IndexedDocument) -> None:
        document = item.document
        self.connection.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)",
            (
                document.id,
                document.title,
                document.text,
                json.dumps(document.metadata, sort_keys=True),
                document.consent,
                item.recipe_hash,
            ),
        )
        stand = standings(document.text, document.metadata, item.spans)
        for span, vector, place in zip(item.spans, item.vectors, stand, strict=True):
            number = self.connection.execute(
                'INSERT INTO passages (id, document, start, "end", vector) VALUES (?, ?, ?, ?, ?)',
                (
                    passage_id(document.id, span),
                    document.id,
                    span.start,
                    span.end,
                    vector.astype("<f4").tobytes(),
                ),
            ).lastrowid
            self.connection.execute(
                "INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)",
                (number, document.title, document.text[span.start : span.end]),
            )
            self.connection.execute(
                "INSERT INTO standings VALUES (?, ?, ?)", (number, place.section, place.dated)
            )
            self.connection.execute(
                "INSERT INTO passage_hashes VALUES (?, ?)", (number, self._hash_now(number))
            )

    def _hash_now(self, number: int | None) -> bytes:
        row = self.connection.execute(_PASSAGE, (number,)).fetchone()
        return _hash(row)

    def _drop(self, document: DocumentId) -> int:
        found = self.connection.execute(
            "SELECT 1 FROM documents WHERE id = ?", (document,)
        ).fetchone()
        if found is None:
            return -1
        # FTS5 forgets an external row only when told the words that it was given.
        self.connection.execute(
            "INSERT INTO words (words, rowid, title, text) "
            "SELECT 'delete', number, title, text FROM passage_words WHERE number IN "
            "(SELECT number FROM passages WHERE document = ?)",
            (document,),
        )
        gone = self.connection.execute("DELETE FROM passages WHERE document = ?", (document,))
        self.connection.execute("DELETE FROM documents WHERE id = ?", (document,))
        return gone.rowcount

    # -- reading --------------------------------------------------------------------------------

    def version(self) -> int:
        """Changes whenever another connection commits."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def counts(self) -> Counts:
        """How much the silo holds."""
        row = self.connection.execute(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages), "
            "(SELECT count(*) FROM documents WHERE NOT consent), (SELECT count(*) FROM quarantine)"
        ).fetchone()
        return Counts(*row)

    def numbers(self) -> Ids:
        """Numbers of all passages, ascending."""
        rows = self.connection.execute("SELECT number FROM passages ORDER BY number")
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def numbers_in(self, collections: Sequence[str]) -> Ids:
        """Numbers of the passages in these collections, ascending; "*" stands for all."""
        if not collections or "*" in collections:
            return self.numbers() if collections else np.zeros(0, dtype=np.int64)
        rows = self.connection.execute(
            "SELECT number FROM passages JOIN documents ON documents.id = document WHERE "
            "coalesce(json_extract(metadata, '$.collection'), '') IN "
            "(SELECT value FROM json_each(?)) "
            "ORDER BY number",
            (json.dumps(collections),),
        )
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def vectors(self, after: int = 0) -> tuple[Ids, Vector]:
        """Numbers and (n, d) vectors of all passages numbered above ``after``, ascending."""
        rows = self.connection.execute(
            "SELECT number, vector FROM passages WHERE number > ? ORDER BY number", (after,)
        )
        return _vectors(rows.fetchall())

    def found(self, numbers: Ids) -> tuple[Ids, Vector, list[DocumentId]]:
        """Numbers, ascending, (n, d) vectors and documents of those passages that are here."""
        rows = self.connection.execute(
            "SELECT number, vector, document FROM passages WHERE number IN (SELECT value FROM "
            "json_each(?)) ORDER BY number",
            (json.dumps(numbers.tolist()),),
        ).fetchall()
        return *_vectors(rows), [DocumentId(row[2]) for row in rows]

    def groups(self, unit: PrivacyUnit) -> NDArray[np.int64]:
        """(n,) which document, or patient of the metadata, each passage is of, by number.

        A document that names no patient is a group of its own.
        """
        patient = "coalesce('p' || json_extract(metadata, '$.patient'), 'd' || documents.id)"
        key = patient if unit == "patient" else "documents.id"
        rows = self.connection.execute(
            f"SELECT {key} FROM passages JOIN documents ON documents.id = document "  # noqa: S608
            "ORDER BY number"
        )
        places: dict[str, int] = {}
        found = [places.setdefault(row[0], len(places)) for row in rows]
        return np.array(found, dtype=np.int64)

    def lexical(self, terms: Sequence[Term]) -> tuple[Ids, NDArray[np.float64]]:
        """Numbers of passages with any of the words, and their weighted BM25, by number."""
        return self._words.search(terms)

    def frequencies(self, lexicon: Lexicon) -> NDArray[np.int64]:
        """(words,) in how many passages each word of the lexicon stands, inflected forms alike."""
        stems = _stems(lexicon)
        counts = dict(self.connection.execute("SELECT term, doc FROM word_counts"))
        return np.fromiter((counts.get(stem, 0) for stem in stems), dtype=np.int64)

    def passage(self, number: int) -> StoredPassage | None:
        """One passage with its text; None when it has been deleted.

        StorageFailed when it is not as it was stored.
        """
        row = self.connection.execute(_PASSAGE, (number,)).fetchone()
        if row is None:
            return None
        # Stores from before this check hold no hash.
        if row[-1] is not None and row[-1] != _hash(row):
            raise StorageFailed(
                "a passage is not as it was stored: the disk or its memory is failing",
                "check the disk, then ingest into a fresh folder or restore silo.sqlite",
            )
        number, passage, document, title, text, start, end, *place, consent, collection, _ = row
        stood = self._standing_now(number) if place[0] is None else PassagePlace(*place)
        return StoredPassage(
            number=number,
            id=passage,
            document=document,
            title=title,
            text=text,
            start=start,
            end=end,
            section=stood.section,
            dated=stood.dated,
            consent=bool(consent),
            collection=collection,
        )

    def _standing_now(self, number: int) -> PassagePlace:
        """Where a passage stands that was stored before that was kept."""
        text, metadata, *span = self.connection.execute(
            'SELECT text, metadata, start, "end" FROM passages '
            "JOIN documents ON documents.id = document WHERE number = ?",
            (number,),
        ).fetchone()
        return standings(text, json.loads(metadata), [Span(*span)])[0]

    def verify(self) -> None:
        """StorageFailed or a sqlite3 error when file, lexical index or a passage is damaged."""
        (broken,) = self.connection.execute("PRAGMA integrity_check").fetchone()
        if broken != "ok":
            raise StorageFailed("the file's structure is damaged")
        self.connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
        for number in self.numbers():
            self.passage(int(number))


@contextmanager
def opened_to_read(path: Path) -> Iterator[Store]:
    """The store of a silo that may be serving: as it is now, changing and holding up nothing.

    StorageFailed when it cannot be read.
    """
    with named(path), reader(path) as connection:
        store = Store(path, connection)
        with store.snapshot():
            yield store


def _vectors(rows: Sequence[tuple[Any, ...]]) -> tuple[Ids, Vector]:
    """Numbers and vectors of rows that begin with both."""
    if not rows:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
    flat = np.frombuffer(b"".join([row[1] for row in rows]), dtype="<f4")
    found = np.fromiter([row[0] for row in rows], dtype=np.int64, count=len(rows))
    return found, flat.reshape(len(rows), -1)


def _hash(row: Sequence[object]) -> bytes:
    """16 bytes that tell whether anything that may leave of a row of ``_PASSAGE`` has changed."""
    # Passages from before sections were kept have no section, and their hash is without it.
    leaves = tuple(item for item in row[:9] if item is not None)
    return hashlib.sha256(repr(leaves).encode("utf-8", "surrogatepass")).digest()[:16]


def _stems(lexicon: Lexicon) -> list[str]:
    """Each word as the store's tokenizer indexes it."""
    scratch = sqlite3.connect(":memory:")
    scratch.execute(f"CREATE VIRTUAL TABLE w USING fts5 (word, tokenize = '{TOKENIZER}')")
    scratch.execute("CREATE VIRTUAL TABLE v USING fts5vocab ('w', 'instance')")
    scratch.executemany("INSERT INTO w (rowid, word) VALUES (?, ?)", enumerate(lexicon.words, 1))
    stems = dict(scratch.execute("SELECT doc, term FROM v"))
    scratch.close()
    return [stems.get(place, "") for place in range(1, len(lexicon) + 1)]
