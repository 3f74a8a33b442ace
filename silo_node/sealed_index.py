"""A silo's rows as sealed questions are scored against them: rounded, packed, padded, repacked.

The hub opens the scores of every row without knowing whose they are. Were rows to keep their
places, its table of questions by rows would factor into all vectors up to one linear map. So blocks
are replied in fresh order for each question, and rows get fresh places every few questions.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from siloquy import handles, sealed
from siloquy import sealed_wire as wire
from siloquy.sealed import Block, Zeros
from siloquy.sealed_wire import BLOCK_ROWS, ROW_SCALE, Levels
from siloquy.silo_node.guards import Placed
from siloquy.silo_node.index import Ids
from siloquy.types import SealedScores, Vector

# Questions of one packing: each block is prepared anew for the next (5 ms), so large silos repack
# more rarely. 16 score vectors say little of 384 numbers a row; docs/sealed.md has the attack.
SMALL_ROWS, SMALL_USES, LARGE_USES = 5_000, 1, 16
# Padding is a copy of a row in noise of its own, so shrunken that it wins places from rows alone
# that have nothing to do with the question: the best row's copy scores a quarter of it.
LEAST_SHRUNKEN, MOST_SHRUNKEN, PADDING_NOISE = 0.05, 0.25, 0.3
MOST_KEYS = 2


class SealedIndex:
    """Rows of one silo, ready to be scored; safe to share between threads."""

    def __init__(self, dimension: int) -> None:
        sealed.check()
        wire.chunks(dimension)
        self._dimension = dimension
        self._lock = threading.RLock()
        self._zeros: OrderedDict[bytes, Zeros] = OrderedDict()
        self._numbers: Ids = np.zeros(0, dtype=np.int64)
        self._levels: Levels = np.zeros((0, dimension), dtype=np.int16)
        self._blocks: list[Block | None] = []
        self._uses = 0
        self.repack()

    def __len__(self) -> int:
        return int(np.count_nonzero(self._numbers))

    @property
    def blocks(self) -> int:
        """Blocks of a reply: the silo's size class."""
        return len(self._blocks)

    def follow(self, gone: Ids, numbers: Ids, vectors: Vector) -> None:
        """Take rows out and add others, (n,) passages with (n, d) vectors.

        Only the blocks that change are prepared anew, unless the silo outgrows its size class.
        """
        with self._lock:
            out = np.flatnonzero(np.isin(self._numbers, gone) & (self._numbers > 0))
            # Copied, since open questions still read the packing that they were answered from.
            self._numbers = self._numbers.copy()
            self._numbers[out] = 0
            self._pad(out)
            free = np.flatnonzero(self._numbers == 0)
            levels = wire.rounded(vectors, ROW_SCALE).reshape(len(numbers), self._dimension)
            if len(numbers) <= len(free):
                places = free[_permutation(len(free))[: len(numbers)]]
                self._numbers[places], self._levels[places] = numbers, levels
                self._spoil(places)
                self._spoil(out)
            else:
                self._numbers = np.concatenate([self._numbers, numbers])
                self._levels = np.concatenate([self._levels, levels])
                self.repack()

    def repack(self) -> None:
        """Give every row a fresh place among fresh padding."""
        with self._lock:
            real = np.flatnonzero(self._numbers)
            numbers, levels = self._numbers[real], self._levels[real]
            blocks = wire.blocks_for(len(real))
            places = _permutation(blocks * BLOCK_ROWS)
            kept = places[: len(real)]
            self._numbers = np.zeros(blocks * BLOCK_ROWS, dtype=np.int64)
            self._levels = np.zeros((blocks * BLOCK_ROWS, self._dimension), dtype=np.int16)
            self._numbers[kept], self._levels[kept] = numbers, levels
            self._pad(places[len(real) :])
            self._blocks = [None] * blocks
            self._uses = 0

    def score(self, query: bytes, offset: int, public: bytes) -> tuple[SealedScores, Placed]:
        """The sealed scores of all rows, and which row lies where in them.

        IntegrityError for a query that is malformed, before any row is scored.
        """
        with self._lock:
            opened = sealed.open_query(query, self._dimension)
            zeros = self._zeros_under(public)
            self.freshen()
            order = _permutation(len(self._blocks))
            blocks = [block for i in order if (block := self._blocks[i]) is not None]
            scores = sealed.score(opened, blocks, zeros, offset)
            self._uses += 1
            key = handles.new_key()
            placed = Placed(key, self._numbers.reshape(-1, BLOCK_ROWS), order)
            return SealedScores(scores, key), placed

    def freshen(self) -> None:
        """Repack when this packing has served its questions, and prepare what is not ready."""
        with self._lock:
            most = SMALL_USES if len(self) <= SMALL_ROWS else LARGE_USES
            if self._uses >= most:
                self.repack()
            rows = self._levels.reshape(-1, BLOCK_ROWS, self._dimension)
            for i, block in enumerate(self._blocks):
                if block is None:
                    self._blocks[i] = sealed.prepare(rows[i])

    def stock(self) -> None:
        """Make the next reply's zeros under the newest key ahead: a fifth of the work."""
        with self._lock:
            newest = next(reversed(self._zeros.values()), None)
        while newest is not None and len(newest) < len(self._blocks):
            newest.make()

    def _zeros_under(self, public: bytes) -> Zeros:
        zeros = self._zeros.get(public)
        if zeros is None:
            zeros = self._zeros[public] = Zeros(public)
            if len(self._zeros) > MOST_KEYS:
                self._zeros.popitem(last=False)
        return zeros

    def _spoil(self, places: NDArray[np.int64]) -> None:
        for block in np.unique(places // BLOCK_ROWS).tolist():
            self._blocks[block] = None

    def _pad(self, places: NDArray[np.int64]) -> None:
        """Put padding there: shrunken, noised copies of rows, or noise where there are none."""
        real = np.flatnonzero(self._numbers)
        n = len(places)
        noise = _gaussian(n, self._dimension) * (PADDING_NOISE / np.sqrt(self._dimension))
        if len(real):
            models = self._levels[real[_below(len(real), n)]] / ROW_SCALE
            shrunken = LEAST_SHRUNKEN + (MOST_SHRUNKEN - LEAST_SHRUNKEN) * _uniform(n, 1)
            noise += models * shrunken
        self._levels[places] = wire.rounded(noise, ROW_SCALE)


# -- randomness of the operating system -----------------------------------------------------------


def _permutation(n: int) -> NDArray[np.int64]:
    """A uniform order of ``n``: ties of 64 random bits do not happen."""
    return np.argsort(np.frombuffer(os.urandom(8 * n), np.uint64), kind="stable")


def _below(most: int, n: int) -> NDArray[np.int64]:
    """(n,) numbers below ``most``."""
    drawn = np.frombuffer(os.urandom(8 * n), np.uint64)
    return (drawn % np.uint64(most)).astype(np.int64)


def _uniform(*shape: int) -> NDArray[np.float64]:
    """Uniform in (0, 1)."""
    drawn = np.frombuffer(os.urandom(4 * int(np.prod(shape))), np.uint32)
    return np.asarray((drawn.reshape(shape) + 0.5) / 2.0**32)


def _gaussian(n: int, d: int) -> NDArray[np.float64]:
    """(n, d) standard normal (Box and Muller 1958)."""
    half = -(-d // 2)
    size, angle = np.sqrt(-2 * np.log(_uniform(n, half))), 2 * np.pi * _uniform(n, half)
    return np.concatenate([size * np.cos(angle), size * np.sin(angle)], axis=1)[:, :d]
