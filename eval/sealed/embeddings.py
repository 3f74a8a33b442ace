"""``siloquy bench sealed``, embeddings: integer scores of a real corpus, and that they are exact.

Rows are the passages as the corpus' silos make them, each silo with an index of its own.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siloquy.eval import beir
from siloquy.eval.beir import EvalQuestion
from siloquy.eval.sealed.scoring import K, float_integers, integer_scores, kept, unmasked
from siloquy.ports import Embedder
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.sealed.scoring import SecretKey
from siloquy.sealed.wire import ROW_SCALE, Levels
from siloquy.serve.demo import sources
from siloquy.settings import EncoderSettings, IndexSettings
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.index import Ids
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.sealed_index import SealedIndex
from siloquy.silo_node.store import Store
from siloquy.text.embed import embedder, model_folder
from siloquy.text.words import clean
from siloquy.types import NodeId, Progress, Vector

OPENED_QUESTIONS = 20


@dataclass(frozen=True, slots=True)
class RecallRow:
    """One question's integer scores beside its cosines.

    scale        what the query was multiplied with
    error        largest difference of a score from its cosine
    whole        share kept of the ten best of all passages
    coarsest     the same at the smallest scale that a query may get
    federation   the same where each silo orders its own and the best of all are merged
    """

    id: str
    scale: int
    error: float
    whole: float
    coarsest: float
    federation: float


@dataclass(frozen=True, slots=True)
class OpenedScores:
    """One question encrypted, scored at one silo and opened: scores ``compared``, and ``wrong``."""

    id: str
    silo: NodeId
    compared: int
    wrong: int


@dataclass(frozen=True, slots=True, eq=False)
class Shelves:
    """All silos' passages: (n_i, d) vectors of each, and the questions' (q, d)."""

    silos: tuple[NodeId, ...]
    vectors: tuple[Vector, ...]
    questions: tuple[EvalQuestion, ...]
    asked: Vector


def run(
    corpus: Path, cache: Path, seed: int, told: Progress
) -> tuple[list[RecallRow], list[OpenedScores]]:
    """All questions of the corpus by their integers, a sample of them encrypted."""
    shelves = read_shelves(corpus, cache, told)
    told("integer scores of all questions")
    generator = np.random.default_rng(seed)
    recalled = recall(shelves, generator)
    count = min(OPENED_QUESTIONS, len(shelves.questions))
    chosen = np.sort(generator.choice(len(shelves.questions), count, replace=False))
    return recalled, open_all(shelves, chosen, told)


def read_shelves(corpus: Path, cache: Path, told: Progress) -> Shelves:
    """Every silo's passages, ingested as silos do, and every question."""
    settings = EncoderSettings(cache=str(cache))
    with tempfile.TemporaryDirectory(prefix="siloquy-sealed-") as name:
        folder = Path(name)
        encoder = embedder(settings, folder)
        tokens = load_tokens(model_folder(settings) / "tokenizer.json")
        silos, vectors = [], []
        for source in sources(corpus):
            told(f"ingesting {source.silo}")
            store = Store(folder / f"{source.silo}.sqlite")
            chunk_tokens = IndexSettings().chunk_tokens
            ingest(store, read(source.path, source.only), encoder, tokens, chunk_tokens)
            silos.append(source.silo)
            vectors.append(store.vectors()[1])
            store.close()
        questions = tuple(beir.questions(corpus))
        return Shelves(tuple(silos), tuple(vectors), questions, _encode(encoder, questions))


def _encode(encoder: Embedder, questions: Sequence[EvalQuestion]) -> Vector:
    return encoder.encode([" ".join(clean(question.text).split()) for question in questions])


# -- recall ---------------------------------------------------------------------------------------


def recall(shelves: Shelves, generator: np.random.Generator) -> list[RecallRow]:
    """What integers keep of the ten best by cosine; they are exact, so nothing need be sealed."""
    rows = np.concatenate(shelves.vectors)
    # Silos give their rows random places, so ties are broken at random within a silo.
    starts = np.cumsum([0, *map(len, shelves.vectors)])
    places = np.concatenate(
        [
            start + generator.permutation(len(v))
            for start, v in zip(starts, shelves.vectors, strict=False)
        ]
    )
    rows = rows[places]
    levels = wire.rounded(rows, ROW_SCALE).astype(np.float32)
    found = []
    for question, vector in zip(shelves.questions, shelves.asked, strict=True):
        scale = int(generator.integers(wire.LEAST_SCALE, wire.MOST_SCALE + 1))
        scores = float_integers(levels, wire.rounded(vector, scale))
        coarse = float_integers(levels, wire.rounded(vector, wire.LEAST_SCALE))
        cosines = rows @ vector
        offered = _offered(scores, starts)
        merged = np.full_like(scores, -np.inf)
        merged[offered] = scores[offered]
        found.append(
            RecallRow(
                question.id,
                scale,
                float(np.abs(scores / (scale * ROW_SCALE) - cosines).max()),
                kept(scores, cosines, K),
                kept(coarse, cosines, K),
                kept(merged, cosines, K),
            )
        )
    return found


def _offered(scores: Vector, starts: Ids) -> Ids:
    """The rows that are among the ten best of their own silo."""
    parts = itertools.pairwise(starts.tolist())
    best = [a + np.argsort(-scores[a:b], kind="stable")[:K] for a, b in parts]
    return np.concatenate(best)


# -- encrypted ------------------------------------------------------------------------------------


def open_all(shelves: Shelves, chosen: Ids, told: Progress) -> list[OpenedScores]:
    """The ``chosen`` questions encrypted, scored by every silo's own index, opened and compared."""
    secret = SecretKey()
    opened = []
    for silo, vectors in zip(shelves.silos, shelves.vectors, strict=True):
        told(f"encrypted questions to {silo}")
        index = SealedIndex(vectors.shape[1])
        index.follow(np.zeros(0, np.int64), np.arange(1, len(vectors) + 1), vectors)
        levels = wire.rounded(vectors, ROW_SCALE)
        for i in chosen.tolist():
            wrong = wrong_scores(index, levels, secret, shelves.asked[i])
            opened.append(OpenedScores(shelves.questions[i].id, silo, len(levels), wrong))
    return opened


def wrong_scores(index: SealedIndex, levels: Levels, secret: SecretKey, question: Vector) -> int:
    """How many of a silo's scores of an encrypted question are not what integers give.

    index   holds the rows of ``levels`` (n, d) as passages 1 to n
    """
    query = sealed.seal_query(question, secret.public)
    reply, placed = index.score(query.query, query.offset, secret.public)
    found = unmasked(secret, reply, placed, query.offset, len(levels))
    expected = integer_scores(levels, wire.rounded(question, query.scale))
    return int(np.count_nonzero(found != expected))
