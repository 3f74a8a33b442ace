"""Questions that arrive together, worked on as the rows of one batch by one thread.

A row ends on its own: when its answer is whole, when nobody listens any more, or at its time
limit. Who arrives while a batch is worked on waits for the next one.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from siloquy.errors import Busy, SiloquyError, TimedOut, Unreachable
from siloquy.ports import Message

GATHER_S = 0.01
MOST_BATCHES_WAITING = 8
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class ModelRow:
    """One question: the working thread gives pieces, the asking task takes them.

    closed   nobody listens any more; the thread stops working on it
    """

    messages: tuple[Message, ...]
    most_tokens: int
    closed: bool = False
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _given: asyncio.Queue[str | SiloquyError | None] = field(default_factory=asyncio.Queue)

    def give(self, piece: str) -> None:
        """Hand over a piece, from any thread."""
        if piece:
            self._put(piece)

    def end(self, error: SiloquyError | None = None) -> None:
        """Say that nothing more comes, from any thread."""
        self._put(error)

    async def take(self) -> str | None:
        """The next piece, None after the last; the error that ended the row is raised."""
        given = await self._given.get()
        if isinstance(given, SiloquyError):
            raise given
        return given

    def _put(self, item: str | SiloquyError | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._given.put_nowait, item)
        except RuntimeError:  # the loop is closed, and who asked is gone with it
            self.closed = True


Work = Callable[[Sequence[ModelRow]], None]


class Batches:
    """Gives waiting rows to ``work``, at most ``at_once`` together, in a thread.

    ``work`` ends each row that it is given, unless it raises.
    """

    def __init__(self, work: Work, at_once: int, timeout_s: float) -> None:
        self._work = work
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._waiting: list[ModelRow] = []
        self._task: asyncio.Task[None] | None = None

    async def stream(
        self, messages: Sequence[Message], most_tokens: int
    ) -> AsyncGenerator[str, None]:
        """Pieces of a row of its own; Busy when too many wait, TimedOut at the time limit."""
        row = self._enter(ModelRow(tuple(messages), most_tokens))
        loop = asyncio.get_running_loop()
        at = loop.time() + self._timeout_s
        try:
            while True:
                try:
                    async with asyncio.timeout_at(at):
                        piece = await row.take()
                except TimeoutError:
                    raise TimedOut(
                        f"the model was not done in {self._timeout_s:g} s",
                        "raise model.timeout_s, or lower model.most_tokens",
                    ) from None
                if piece is None:
                    return
                yield piece
        finally:
            row.closed = True

    def _enter(self, row: ModelRow) -> ModelRow:
        self._waiting = [other for other in self._waiting if not other.closed]
        if len(self._waiting) >= MOST_BATCHES_WAITING * self._at_once:
            raise Busy(f"{len(self._waiting)} questions wait for the model", "retry later")
        self._waiting.append(row)
        if self._task is None or self._task.done():
            # An empty context: the batch belongs to no one question's trace.
            self._task = asyncio.create_task(self._drain(), context=contextvars.Context())
        return row

    async def _drain(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            batch = self._next()
            try:
                await asyncio.to_thread(self._work, batch)
            except Exception as error:  # noqa: BLE001 - it belongs to who asked
                _fail(batch, error)
            finally:
                for row in batch:
                    row.closed = True

    def _next(self) -> list[ModelRow]:
        """The rows that have waited longest; those that nobody listens to are left out."""
        rows = [row for row in self._waiting if not row.closed]
        self._waiting = rows[self._at_once :]
        return rows[: self._at_once]


def _fail(batch: Sequence[ModelRow], error: Exception) -> None:
    if not isinstance(error, SiloquyError):
        # The type alone: a library's message may quote what it was given.
        _log.error("defect in the language model: %s", type(error).__name__)
        error = Unreachable(f"the model failed ({type(error).__name__})", "see the gateway's log")
    for row in batch:
        row.end(error)
