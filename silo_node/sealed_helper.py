"""Other processes that score a large silo's blocks: SEAL holds Python's lock while it works.

Each keeps the prepared blocks that it was given and scores them for every question. It ends with
the process that started it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from siloquy.errors import SiloquyError
from siloquy.sealed import scoring as sealed
from siloquy.sealed.scoring import Block, Zeros
from siloquy.sealed.wire import Levels

MOST_KEYS = 2
# A helper notices the end of its line after the block that it works on, a few milliseconds.
END_TIMEOUT_S = 2.0
MOST_HELPERS = 3


def count() -> int:
    """Helpers that this machine has cores for."""
    return min((os.cpu_count() or 1) - 1, MOST_HELPERS)


class ZerosByKey:
    """Encryptions of zero made ahead, of the newest session keys."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Zeros] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    @property
    def keys(self) -> list[bytes]:
        """Of which keys there are any, the newest last."""
        return list(self._kept)

    def under(self, public: bytes) -> Zeros:
        """Those of a key; IntegrityError for a key that hides nothing."""
        zeros = self._kept.get(public)
        if zeros is None:
            zeros = self._kept[public] = Zeros(public)
            if len(self._kept) > MOST_KEYS:
                self._kept.popitem(last=False)
        return zeros

    def stock(self, count: int) -> None:
        """Make as many of the newest key ahead as a reply takes."""
        newest = next(reversed(self._kept.values()), None)
        while newest is not None and len(newest) < count:
            newest.make()


class Helper:
    """One process and the line to it. Its work is asked for and, where it gives any, fetched."""

    def __init__(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._line, theirs = spawning.Pipe()
        self._process = spawning.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        # Closed here: the helper sees the line end when this process goes.
        theirs.close()

    def prepare(self, place: int, rows: Levels) -> None:
        """Keep the block at ``place``, prepared."""
        self._line.send(("prepare", place, rows))

    def ask(
        self, query: bytes, dimension: int, public: bytes, offset: int, places: Sequence[int]
    ) -> None:
        """Score the blocks at ``places``, in this order; ``fetch`` gives the packed scores."""
        self._line.send(("score", query, dimension, public, offset, places))

    def fetch(self) -> bytes:
        """What was asked for; SiloquyError when it failed, EOFError when the process has ended."""
        scores, error = self._line.recv()
        if error:
            raise SiloquyError(error)
        return bytes(scores)

    def stock(self, count: int) -> None:
        """Make zeros ahead for so many blocks."""
        self._line.send(("stock", count))

    def close(self) -> None:
        """End the process, and see it gone."""
        with contextlib.suppress(OSError):
            self._line.close()
        self._process.join(END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(END_TIMEOUT_S)


def serve(line: Connection) -> None:
    """Do what comes over ``line`` until it ends."""
    with contextlib.suppress(ValueError):  # only a main thread may say what signals do
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocks: dict[int, Block] = {}
    zeros = ZerosByKey()
    while True:
        try:
            kind, *what = line.recv()
        except (EOFError, OSError):
            return
        if kind == "prepare":
            place, rows = what
            blocks[place] = sealed.prepare(rows)
        elif kind == "stock":
            zeros.stock(*what)
        else:
            with contextlib.suppress(OSError):
                line.send(_score(blocks, zeros, *what))


def _score(
    blocks: dict[int, Block], zeros: ZerosByKey, query: bytes, dimension: int, *rest: Any
) -> tuple[bytes, str]:
    """Packed scores, or what went wrong."""
    public, offset, places = rest
    try:
        opened = sealed.open_query(query, dimension)
        chosen = [blocks[place] for place in places]
        return sealed.score(opened, chosen, zeros.under(public), offset), ""
    except (SiloquyError, KeyError) as error:
        return b"", f"a scoring process failed: {type(error).__name__}"
