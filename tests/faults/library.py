"""A hospital's documents in two editions, and what a store of either must hold."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siloquy.silo_node.search import Searcher
from siloquy.silo_node.store import Store
from siloquy.types import SearchRequest, Term
from tests.silo_node.hospital import WordEmbedder
from tests.siloquy.federation import ENCODER

LEAVES, RECORDS, BAD = 200, 12, 6
QUESTIONS = ("fever oxygen", "salt after the fall", "dose of nightshade", "who writes it down")
_WORDS = """fever oxygen salt fall dose nightshade write ward give stop after before hour night
heart lung child adult vial drop count weigh pulse warm cold dark lamp door sleep wake""".split()


def write(folder: Path, edition: int) -> Path:
    """Documents: half of the leaves are the same in both editions, a bad file is mended in 2."""
    folder.mkdir()
    for n in range(LEAVES):
        (folder / f"leaf-{n:03d}.md").write_text(_leaf(n, edition if n % 2 else 1))
    records = [
        {"_id": f"r{n}", "text": _leaf(1000 + n, edition), "consent": n % 3 > 0}
        for n in range(RECORDS)
    ]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    for n in range(BAD):
        good = edition == 2 and n % 2 == 0
        (folder / f"scan-{n}.txt").write_bytes(_leaf(2000 + n, 2).encode() if good else b"\xff\xfe")
    return folder


def _leaf(n: int, edition: int) -> str:
    rng = random.Random(f"{n}/{edition}")  # noqa: S311 - repeatable
    sentences = [" ".join(rng.choices(_WORDS, k=9)).capitalize() + "." for _ in range(12)]
    return f"Leaf {n} of edition {edition}\n\n" + " ".join(sentences) + "\n"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one state of a store is known by.

    documents   hash by id: the document, its passages in order, their texts and vectors
    rankings    by question what a search finds
    """

    documents: dict[str, str]
    rankings: dict[str, list[tuple[str, float, float]]]
    quarantined: tuple[tuple[str, str], ...]


def opened(folder: Path) -> Store:
    """The store in a folder."""
    return Store(folder / "silo.sqlite")


def shelf(folder: Path) -> Shelf:
    """The state of the store in ``folder``, whose index must agree with its documents."""
    with closing(opened(folder)) as store:
        assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
        searcher = Searcher(store, ENCODER.dimension)
        return Shelf(
            dict(documents(store.connection)),
            {question: ranking(store, searcher, question) for question in QUESTIONS},
            tuple((item.source, item.reason) for item in store.quarantined()),
        )


def documents(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Each document's id and the hash of all that hangs on it, as one reader sees it now."""
    rows = connection.execute(
        "SELECT documents.id, title, documents.text, consent, recipe_hash, passages.id, "
        'substr(documents.text, start + 1, "end" - start), vector FROM documents '
        "LEFT JOIN passages ON documents.id = document ORDER BY documents.id, start"
    ).fetchall()
    for name in dict.fromkeys(row[0] for row in rows):
        own = repr([row for row in rows if row[0] == name]).encode()
        yield name, hashlib.sha256(own).hexdigest()


def ranking(store: Store, searcher: Searcher, question: str) -> list[tuple[str, float, float]]:
    """Passage ids with both scores, best first; passages that go meanwhile are left out."""
    vector = WordEmbedder().encode([question])[0]
    terms = tuple(Term(word, 1.0) for word in dict.fromkeys(question.split()))
    request = SearchRequest(vector, terms, 10, "passage", 10, "treatment", "dr 7")
    found = []
    for item in searcher.search(request):
        passage = store.passage(item.number)
        if passage is not None:
            own = WordEmbedder().encode([f"{passage.title}. {passage.text}"])[0]
            assert np.isclose(float(own @ vector), item.dense, atol=1e-4), passage.id
            found.append((str(passage.id), round(item.dense, 5), round(item.lexical, 5)))
    return sorted(found, key=lambda row: (-row[1], row[0]))
