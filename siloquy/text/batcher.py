"""Texts of concurrent questions, encoded together: one thread, as few passes as possible.

The vectors of the last texts are kept in memory: another round or a follow-up meets the same
passages again, and encoding is what a question's time goes into.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import OrderedDict, deque
from collections.abc import Sequence

import numpy as np

from siloquy.ports import Embedder
from siloquy.types import EncoderSpec, Vector

# A pass of 24 passages takes about a second on two cores; longer ones would keep questions waiting.
MOST_TEXTS = 24
MOST_SHORT = 2
MOST_RECENT = 4096

_Waiting = tuple[Sequence[str], "asyncio.Future[Vector]"]


class Batcher:
    """An encoder for many callers of one event loop; what waits is taken in one pass.

    Callers with one or two texts go first: those are questions, and everything waits for them.
    """

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._short: deque[_Waiting] = deque()
        self._long: deque[_Waiting] = deque()
        self._work: asyncio.Task[None] | None = None
        self._recent: OrderedDict[bytes, Vector] = OrderedDict()

    @property
    def spec(self) -> EncoderSpec:
        """The inner encoder's."""
        return self._inner.spec

    async def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows, in the order of ``texts``."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        rows = {key: self._recent[key] for key in keys if key in self._recent}
        missing = {k: text for k, text in zip(keys, texts, strict=True) if k not in rows}
        if missing:
            wanted = list(missing.values())
            parts = [wanted[i : i + MOST_TEXTS] for i in range(0, len(wanted), MOST_TEXTS)]
            found = np.concatenate([await self._encode(part) for part in parts])
            rows.update(zip(missing, found, strict=True))
        self._keep(rows)
        ordered = [rows[key] for key in keys]
        return np.array(ordered, dtype=np.float32).reshape(len(ordered), self.spec.dimension)

    def _keep(self, rows: dict[bytes, Vector]) -> None:
        for key, row in rows.items():
            self._recent[key] = row
            self._recent.move_to_end(key)
        while len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)

    async def _encode(self, texts: Sequence[str]) -> Vector:
        done: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        (self._short if len(texts) <= MOST_SHORT else self._long).append((texts, done))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        while self._short or self._long:
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
        for queue in (self._short, self._long):
            while queue and (not batch or size + len(queue[0][0]) <= MOST_TEXTS):
                texts, done = queue.popleft()
                if not done.done():
                    batch.append((texts, done))
                    size += len(texts)
        return batch


def _settle(batch: Sequence[_Waiting], vectors: Vector) -> None:
    start = 0
    for texts, done in batch:
        if not done.done():
            done.set_result(vectors[start : start + len(texts)].copy())
        start += len(texts)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)
