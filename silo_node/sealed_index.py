"""A silo's rows as sealed questions are scored against them: rounded, packed, padded, repacked.

The hub opens the scores of every row without knowing whose they are. Were rows to keep their
places, its table of questions by rows would factor into all vectors up to one linear map. So blocks
are replied in fresh order for each question, and rows get fresh places every few questions.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import SiloquyError
from siloquy.sealed import handles, wire
from siloquy.sealed import scoring as sealed
from siloquy.sealed.scoring import Block
from siloquy.sealed.wire import BLOCK_ROWS, ROW_SCALE, Levels
from siloquy.silo_node.guards import RowPlaces
from siloquy.silo_node.index import Ids
from siloquy.silo_node.sealed_helper import Helper, ZerosByKey, count
from siloquy.types import SealedScores, Vector

# Questions of one packing: each block is prepared anew for the next (5 ms), so large silos repack
# more rarely. 16 score vectors say little of 384 numbers a row; docs/sealed.md has the attack.
SMALL_ROWS, SMALL_USES, LARGE_USES = 5_000, 1, 16
# Padding is a copy of a row in noise of its own, so shrunken that it wins places from rows alone
# that have nothing to do with the question: the best row's copy scores a quarter of it.
LEAST_SHRUNKEN, MOST_SHRUNKEN, PADDING_NOISE = 0.05, 0.25, 0.3
# With at least so many blocks (8,192 rows), other cores score their share of them.
SHARED_BLOCKS = 32
# Stands where a block lies in a helper's memory instead of here.
_ELSEWHERE: Block = ()


class SealedIndex:
    """Rows of one silo, ready to be scored; safe to share between threads.

    Of a large silo's blocks each helper keeps every so manieth, the rest are kept here.
    """

    def __init__(self, dimension: int) -> None:
        sealed.check()
        wire.chunks(dimension)
        self._dimension = dimension
        self._lock = threading.RLock()
        self._zeros = ZerosByKey()
        self._helpers: list[Helper] = []
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

    def score(self, query: bytes, offset: int, public: bytes) -> tuple[SealedScores, RowPlaces]:
        """The sealed scores of all rows, and which row lies where in them.

        IntegrityError for a query that is malformed, before any row is scored.
        """
        with self._lock:
            opened = sealed.open_query(query, self._dimension)
            zeros = self._zeros.under(public)
            self.freshen()
            order = _permutation(len(self._blocks))
            shares = [np.flatnonzero(self._keeper(order) == n) for n in range(self._keepers)]
            with self._helped():
                for helper, share in zip(self._helpers, shares[1:], strict=True):
                    helper.ask(query, self._dimension, public, offset, order[share].tolist())
                own = [block for i in order[shares[0]] if (block := self._blocks[i]) is not None]
                packed = [sealed.score(opened, own, zeros, offset)]
                packed += [helper.fetch() for helper in self._helpers]
            scores = wire.joined(list(zip(shares, packed, strict=True)))
            self._uses += 1
            key = handles.new_key()
            placed = RowPlaces(key, self._numbers.reshape(-1, BLOCK_ROWS), order)
            return SealedScores(scores, key), placed

    def freshen(self) -> None:
        """Repack when this packing has served its questions, and prepare what is not ready."""
        with self._lock:
            most = SMALL_USES if len(self) <= SMALL_ROWS else LARGE_USES
            if self._uses >= most:
                self.repack()
            wanted = count() if len(self._blocks) >= SHARED_BLOCKS else 0
            if wanted and not self._helpers:
                self._helpers = [Helper() for _ in range(wanted)]
                self._blocks = [None] * len(self._blocks)
            rows = self._levels.reshape(-1, BLOCK_ROWS, self._dimension)
            due = np.array([i for i, block in enumerate(self._blocks) if block is None], dtype=int)
            keepers = self._keeper(due)
            with self._helped():
                # The helpers' blocks first: they work while this process prepares its own.
                for i in due[np.argsort(keepers == 0, kind="stable")].tolist():
                    self._blocks[i] = self._prepared(i, rows[i])

    def _prepared(self, place: int, rows: Levels) -> Block:
        keeper = place % self._keepers
        if not keeper:
            return sealed.prepare(rows)
        self._helpers[keeper - 1].prepare(place, rows)
        return _ELSEWHERE

    def stock(self) -> None:
        """Make the next reply's zeros under the newest key ahead: a fifth of the work."""
        with self._lock:
            share = -(-len(self._blocks) // self._keepers)
            with self._helped():
                for helper in self._helpers:
                    helper.stock(share)
        self._zeros.stock(share)

    @property
    def _keepers(self) -> int:
        return 1 + len(self._helpers)

    def _keeper(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Who keeps the block at each place: 0 is this process."""
        return places % self._keepers

    @contextlib.contextmanager
    def _helped(self) -> Iterator[None]:
        """SiloquyError when a helper has ended; the next question starts others.

        They end with whatever goes wrong: one that was asked and not heard would answer the next
        question with the scores of this one.
        """
        try:
            yield
        except (EOFError, OSError):
            self.close()
            raise SiloquyError(
                "a process that scores sealed questions has ended", "ask the question again"
            ) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the helpers; what they kept is prepared anew when it is needed."""
        with self._lock:
            for helper in self._helpers:
                helper.close()
            self._helpers = []
            self._blocks = [None] * len(self._blocks)

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
