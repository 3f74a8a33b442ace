"""Streams of numbered events: one run writes, any number of readers follow, each at its own pace.

A stream outlives its readers for a while, so that one that was cut off can go on where it was. A
reader only looks at what is written: a slow one keeps back neither the run nor other readers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine

from siloquy.errors import SiloquyError, UsageError
from siloquy.web.refusals import NotFound, Overloaded

KEEP_ALIVE_S = 10.0
FIRST_READER_S = 10.0
MOST_EVENTS = 10_000
MOST_BYTES = 8 * 1024 * 1024
MOST_KEPT_BYTES = 64 * 1024 * 1024
MOST_READERS = 16
_AT_ONCE = 64
_log = logging.getLogger(__name__)

Work = Callable[["Stream"], Coroutine[object, object, None]]


class Stream:
    """One run's events as they go over the wire, event n at place n - 1."""

    def __init__(self, requester: str, keep_s: float, dropped: Callable[[Stream], None]) -> None:
        self.id = secrets.token_urlsafe(24)
        self.requester = requester
        self.size_bytes = 0
        self.alive = b": waiting\n\n"
        self._events: list[bytes] = []
        self._keep_s = keep_s
        self._dropped = dropped
        self._readers = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._drop_after(max(keep_s, FIRST_READER_S))

    # -- writing ----------------------------------------------------------------------------------

    @property
    def next(self) -> int:
        """Number of the next event."""
        return len(self._events) + 1

    def append(self, event: bytes, *, last: bool = False) -> None:
        """Write an event; SiloquyError when there is no room for more than the ``last``."""
        full = len(self._events) >= MOST_EVENTS or self.size_bytes + len(event) > MOST_BYTES
        if full and not last:
            raise SiloquyError("the answer is larger than an event stream may be", "ask for less")
        self._events.append(event)
        self.size_bytes += len(event)
        self._tell()

    def run(self, work: Work, done: Callable[[], None]) -> None:
        """Begin the work that writes the events; its end is the stream's.

        ``done`` is called then, also when the work was cancelled before its first step.
        """
        self._task = asyncio.create_task(work(self))
        self._task.add_done_callback(lambda task: self._ended(task, done))

    @property
    def ended(self) -> bool:
        """Whether no event will come any more."""
        return self._task is not None and self._task.done()

    def _ended(self, task: asyncio.Task[None], done: Callable[[], None]) -> None:
        done()
        if not task.cancelled() and (error := task.exception()):
            _log.error("defect in a stream: %s", type(error).__name__)
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def cancel(self) -> None:
        """End the work, if it still goes on, and wait a moment until it has."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, after: int, first: bytes) -> AsyncGenerator[bytes, None]:
        """``first``, then every event beyond number ``after`` until the end, and signs of life."""
        self._join()
        try:
            yield first
            while True:
                # Cleared before the look: an event that is written after it sets it again.
                news = self._news
                if events := self._events[after : after + _AT_ONCE]:
                    after += len(events)
                    yield b"".join(events)
                elif self.ended:
                    return
                elif not await _set_within(news, KEEP_ALIVE_S):
                    yield self.alive
        finally:
            self._leave()

    def check_place(self, after: int) -> None:
        """UsageError unless ``after`` is the number of an event that was sent, or 0."""
        if not 0 <= after <= len(self._events):
            raise UsageError(
                f"the stream has {len(self._events)} events so far; none has the number given",
                "give the id of the last event that was received",
            )
        if self._readers >= MOST_READERS:
            raise Overloaded(f"the stream has {self._readers} readers", "close one of them", 1)

    @property
    def read_by(self) -> int:
        """How many read it now."""
        return self._readers

    def _join(self) -> None:
        self._readers += 1
        self._timer.cancel()

    def _leave(self) -> None:
        self._readers -= 1
        if not self._readers:
            self._timer = self._drop_after(self._keep_s)

    def _drop_after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.drop)

    def drop(self) -> None:
        """End the work and forget the stream."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._dropped(self)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Streams:
    """The open streams of a gateway, at most ``most``, each known by its id to its requester."""

    def __init__(self, keep_s: float, most: int) -> None:
        self._keep_s = keep_s
        self._most = most
        self._open: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self, requester: str, work: Work, done: Callable[[], None], *, resumable: bool = True
    ) -> Stream:
        """A stream whose events ``work`` writes, ``done`` at its end; Overloaded when too many.

        One that is not ``resumable`` ends with its last reader.
        """
        self._make_room()
        keep_s = self._keep_s if resumable else 0.0
        stream = Stream(requester, keep_s, lambda gone: self._forget(gone.id))
        self._open[stream.id] = stream
        stream.run(work, done)
        return stream

    def find(self, stream_id: str, requester: str) -> Stream:
        """The stream that ``requester`` opened under this id; NotFound for all others."""
        stream = self._open.get(stream_id)
        if stream is None or stream.requester != requester:
            raise NotFound(
                "there is no such event stream",
                "it was cancelled, or has ended and was not read for a while; ask again",
            )
        return stream

    def _make_room(self) -> None:
        """Drop ended streams without a reader, oldest first, until another one fits."""
        idle = [item for item in self._open.values() if item.ended and not item.read_by]
        kept_bytes = sum(item.size_bytes for item in idle)
        for stream in idle:
            if len(self._open) < self._most and kept_bytes <= MOST_KEPT_BYTES:
                break
            kept_bytes -= stream.size_bytes
            stream.drop()
        if len(self._open) >= self._most:
            raise Overloaded(
                f"{len(self._open)} event streams are open", "close those that are not read", 1
            )

    def _forget(self, stream_id: str) -> None:
        self._open.pop(stream_id, None)
