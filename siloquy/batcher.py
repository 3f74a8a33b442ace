"""Texts of concurrent questions, encoded together: one thread, as few passes as possible."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np

from siloquy.ports import Embedder
from siloquy.types import EncoderSpec, Vector

MOST_TEXTS = 64

_Waiting = tuple[Sequence[str], "asyncio.Future[Vector]"]


class Batcher:
    """An encoder for many callers of one event loop; what waits is taken in one pass."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._waiting: deque[_Waiting] = deque()
        self._work: asyncio.Task[None] | None = None

    @property
    def spec(self) -> EncoderSpec:
        """The inner encoder's."""
        return self._inner.spec

    async def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows, in the order of ``texts``."""
        if not texts:
            return np.zeros((0, self.spec.dimension), dtype=np.float32)
        done: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, done))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        while self._waiting:
            batch = self._take()
            texts = list(itertools.chain.from_iterable(texts for texts, _ in batch))
            try:
                vectors = await asyncio.to_thread(self._inner.encode, texts)
            except Exception as error:  # noqa: BLE001 - it belongs to who asked
                _fail(batch, error)
                continue
            _settle(batch, vectors)

    def _take(self) -> list[_Waiting]:
        """Callers whose texts fit in one pass, at least one; those who gave up are left out."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0][0]) <= MOST_TEXTS):
            texts, done = self._waiting.popleft()
            if not done.done():
                batch.append((texts, done))
                size += len(texts)
        return batch


def _settle(batch: Sequence[_Waiting], vectors: Vector) -> None:
    start = 0
    for texts, done in batch:
        if not done.done():
            done.set_result(vectors[start : start + len(texts)])
        start += len(texts)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)
