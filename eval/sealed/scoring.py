"""``siloquy bench sealed``, scoring: sealed scores beside FAISS and TenSEAL on the same rows.

Each point, a number of rows and of dimensions, is measured in a process of its own, on one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, sleep

import numpy as np
import psutil
from numpy.typing import NDArray

from siloquy.eval.sealed.tenseal_baselines import CkksSession, PolynomialFiles, most_columns
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.sealed.scoring import SecretKey, Zeros
from siloquy.sealed.wire import BLOCK_ROWS, ROW_SCALE, Levels
from siloquy.silo_node import index as dense_index
from siloquy.silo_node.guards import RowPlaces
from siloquy.silo_node.sealed_index import SealedIndex
from siloquy.types import Progress, SealedScores, Vector

K = 10
REPEATS = 7
DENSE_REPEATS = 30
DOTS, WARM_DOTS = 8, 2
# Rows of a topic have a cosine of about .6 with each other, as passages of one subject do.
TOPICS, SPREAD = 200, 0.8
Scores = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScoringPoint:
    """``n`` rows of ``d`` numbers, and how many questions recall is measured with."""

    n: int
    d: int
    questions: int
    seed: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement; the unit ends the name."""

    n: int
    d: int
    what: str
    value: float
    repeat: int = 0


# Helpers prepare their share of the rows beside this process.
SETTLE_S = 3.0


class Book:
    """The figures of one point, as they were measured."""

    def __init__(self, point: ScoringPoint) -> None:
        self._point = point
        self.figures: list[Figure] = []

    def note(self, what: str, *values: float) -> None:
        """Take in repeats of one measurement."""
        first = sum(figure.what == what for figure in self.figures)
        for repeat, value in enumerate(values, start=first):
            figure = Figure(self._point.n, self._point.d, what, float(f"{value:.7g}"), repeat)
            self.figures.append(figure)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Take in the milliseconds of the block, by the clock and of CPU."""
        start, cpu = perf_counter(), process_time()
        yield
        self.note(f"{what}_cpu_ms", 1000 * (process_time() - cpu))
        self.note(f"{what}_ms", 1000 * (perf_counter() - start))


def run(points: Sequence[ScoringPoint], told: Progress) -> list[Figure]:
    """All figures of all points."""
    figures: list[Figure] = []
    for point in points:
        told(f"scoring {point.n:,} rows of {point.d} numbers")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            figures += pool.submit(measure, point).result()
    return figures


def measure(point: ScoringPoint) -> list[Figure]:
    """The figures of one point, measured in this process."""
    book = Book(point)
    book.note("load_before", os.getloadavg()[0])
    rows, questions = synthetic(point)
    _measure_dense(book, rows, questions)
    # Before all else of SEAL, whose pool would give it memory that is the process' already.
    _measure_index(book, rows, questions)
    levels = wire.rounded(rows, ROW_SCALE)
    _measure_stages(book, levels, questions)
    _measure_files(book, levels)
    _measure_ckks(book, rows, questions[0])
    _measure_rounding(book, rows, levels, questions)
    book.note("load_after", os.getloadavg()[0])
    return book.figures


def synthetic(point: ScoringPoint) -> tuple[Vector, Vector]:
    """(n, d) rows and (questions, d) questions of unit length, each near one of some topics."""
    generator = np.random.default_rng([point.seed, point.n, point.d])
    topics = _unit(generator.standard_normal((TOPICS, point.d), dtype=np.float32))

    def near(count: int) -> Vector:
        noise = _unit(generator.standard_normal((count, point.d), dtype=np.float32))
        return _unit(topics[generator.integers(0, TOPICS, count)] + np.float32(SPREAD) * noise)

    return near(point.n), near(point.questions)


def _unit(vectors: Vector) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# -- baselines ------------------------------------------------------------------------------------


def _measure_dense(book: Book, rows: Vector, questions: Vector) -> None:
    """FAISS Flat, whose index keeps it to one thread."""
    flat = dense_index.make("flat", rows.shape[1], len(rows))
    flat.add(np.arange(len(rows), dtype=np.int64), rows)
    flat.search(questions[0], K)
    for i in range(DENSE_REPEATS):
        with book.timed("faiss"):
            flat.search(questions[i % len(questions)], K)


def _measure_ckks(book: Book, rows: Vector, question: Vector) -> None:
    """TenSEAL on one thread and on all: some ``dot``, and one ``matmul`` as large as may be."""
    expected = rows @ question
    columns = min(most_columns(rows.shape[1]), len(rows))
    for threads, name in ((1, ""), (os.cpu_count() or 1, "_all_cores")):
        session = CkksSession(threads)
        query = session.encrypt(question)
        dots = session.dot(query, rows[: WARM_DOTS + DOTS])
        book.note(f"dot{name}_ms", *dots.ms[WARM_DOTS:])
        book.note(f"dot{name}_error", np.abs(dots.scores - expected[: len(dots.scores)]).max())
        if columns:
            product = session.matmul(query, rows[:columns])
            book.note(f"matmul{name}_ms", *product.ms)
            book.note(f"matmul{name}_error", np.abs(product.scores - expected[:columns]).max())
            book.note("matmul_down_bytes", product.bytes)
    book.note("matmul_rows", columns)
    book.note("ckks_key_bytes", session.key_bytes)
    book.note("ckks_up_bytes", len(query.serialize()))
    book.note("dot_down_bytes", dots.bytes)


# -- sealed ---------------------------------------------------------------------------------------


def _measure_index(book: Book, rows: Vector, questions: Vector) -> None:
    """A silo's own index: memory, repacking, and whole replies as the silo makes them."""
    before = _resident_bytes()
    index = SealedIndex(rows.shape[1])
    index.follow(np.zeros(0, np.int64), np.arange(1, len(rows) + 1), rows)
    index.freshen()
    sleep(SETTLE_S)
    book.note("memory_bytes", _resident_bytes() - before)
    for _ in range(REPEATS):
        with book.timed("repack"):
            index.repack()
        with book.timed("prepare"):
            index.freshen()
    secret = SecretKey()
    levels = wire.rounded(rows, ROW_SCALE)
    for i in range(REPEATS + 1):
        _reply(book, index, levels, secret, questions[i % len(questions)], warm=i == 0)
    index.close()


def _resident_bytes() -> int:
    """Of this process and of those that help it."""
    process = psutil.Process()
    every = (process, *process.children(recursive=True))
    return sum(item.memory_info().rss for item in every)


def _reply(
    book: Book, index: SealedIndex, levels: Levels, secret: SecretKey, question: Vector, warm: bool
) -> None:
    """One question to the index, made ready before it as a silo does; the first makes no zeros."""
    query = sealed.seal_query(question, secret.public)
    index.freshen()
    index.stock()
    with book.timed("first_reply" if warm else "reply"):
        reply, placed = index.score(query.query, query.offset, secret.public)
    found = unmasked(secret, reply, placed, query.offset, len(levels))
    _compare(book, found, integer_scores(levels, wire.rounded(question, query.scale)))


def unmasked(
    secret: SecretKey, reply: SealedScores, placed: RowPlaces, offset: int, n: int
) -> Scores:
    """(n,) scores of a silo's passages 1 to n: what neither hub nor silo could put together."""
    scores = secret.open_scores(reply.scores).astype(np.int64) - offset
    numbers = placed.numbers[placed.order].ravel()
    found = np.zeros(n, dtype=np.int64)
    found[numbers[numbers > 0] - 1] = scores[numbers > 0]
    return found


def _compare(book: Book, found: Scores, expected: Scores) -> None:
    book.note("compared_count", len(expected))
    book.note("wrong_count", int(np.count_nonzero(found != expected)))


def integer_scores(levels: Levels, query: Levels) -> Scores:
    """(n,) exact scores of (n, d) rounded rows with a (d,) rounded query."""
    return np.asarray(levels.astype(np.int64) @ query.astype(np.int64))


def _measure_stages(book: Book, levels: Levels, questions: Vector) -> None:
    """Each stage of a question alone, over as many blocks as the silo has."""
    for _ in range(REPEATS):
        with book.timed("session_key"):
            secret = SecretKey()
    blocks_count = wire.blocks_for(len(levels))
    padded = levels[np.arange(blocks_count * BLOCK_ROWS) % len(levels)]
    blocks = [sealed.prepare(part) for part in padded.reshape(blocks_count, BLOCK_ROWS, -1)]
    zeros = Zeros(secret.public)
    book.note("blocks", blocks_count)
    for i in range(REPEATS):
        question = questions[i % len(questions)]
        with book.timed("encrypt"):
            query = sealed.seal_query(question, secret.public)
        with book.timed("open_query"):
            opened = sealed.open_query(query.query, levels.shape[1])
        with book.timed("zeros"):
            for _ in range(blocks_count):
                zeros.make()
        with book.timed("score_ahead"):
            ahead = sealed.score(opened, blocks, zeros, query.offset)
        with book.timed("score"):
            reply = sealed.score(opened, blocks, zeros, query.offset)
        with book.timed("open_scores"):
            scores = secret.open_scores(reply)
        expected = integer_scores(padded, wire.rounded(question, query.scale))
        for masked in (scores, secret.open_scores(ahead)):
            _compare(book, masked.astype(np.int64) - query.offset, expected)
    book.note("up_bytes", len(query.query))
    book.note("down_bytes", len(reply))


def _measure_files(book: Book, levels: Levels) -> None:
    """One block written to and read from files by SEAL, beside making it again."""
    rows = levels[np.arange(BLOCK_ROWS) % len(levels)]
    with tempfile.TemporaryDirectory(prefix="siloquy-blocks-") as folder:
        files = PolynomialFiles(Path(folder))
        for _ in range(REPEATS):
            with book.timed("block_prepare"):
                block = sealed.prepare(rows)
            with book.timed("block_save"):
                size = files.save(block)
            with book.timed("block_load"):
                files.load([i for i, _ in block])
    book.note("block_file_bytes", size)


# -- rounding -------------------------------------------------------------------------------------


def _measure_rounding(book: Book, rows: Vector, levels: Levels, questions: Vector) -> None:
    """What integers change: no ciphertext is needed for it, since their scores are exact."""
    generator = np.random.default_rng(len(rows))
    whole = levels.astype(np.float32)
    for question in questions:
        scale = int(generator.integers(wire.LEAST_SCALE, wire.MOST_SCALE + 1))
        scores = float_integers(whole, wire.rounded(question, scale))
        cosines = rows @ question
        book.note("error", np.abs(scores / (scale * ROW_SCALE) - cosines).max())
        book.note("recall_at_10", kept(scores, cosines, K))


def float_integers(levels: NDArray[np.float32], query: Levels) -> NDArray[np.float32]:
    """``integer_scores`` by way of floats, exact too: every sum of products is below 2^24."""
    return np.asarray(levels @ query.astype(np.float32))


def kept(scores: NDArray[np.floating], cosines: NDArray[np.floating], k: int) -> float:
    """Share of the ``k`` best by cosine that the ``k`` best by ``scores`` are as good as.

    A row whose cosine equals the k-th best, as copies of a passage have, counts as it.

    >>> kept(np.array([3.0, 2.0, 2.0]), np.array([0.9, 0.5, 0.7]), 2)
    0.5
    """
    k = min(k, len(scores))
    found = np.argsort(-scores, kind="stable")[:k]
    least = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
    return float(np.mean(cosines[found] >= least - 1e-6))
