"""The question queue: a question is admitted, written down, asked, and its answer kept."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from siloquy.errors import SiloquyError
from siloquy.gateway.api.admission import Admission, Place
from siloquy.gateway.api.conversations import Conversations, PendingTurn
from siloquy.gateway.api.streams import Streams
from siloquy.gateway.ask import Gateway, Retrieval
from siloquy.gateway.asking import AskOptions, Listener, silent
from siloquy.gateway.rounds import AuditResult
from siloquy.types import Answer, Query, Turn
from siloquy.watch.metric_parts import timing
from siloquy.watch.metrics import GatewayMonitor
from siloquy.web.refusals import Overloaded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One question with all that it is asked with; ``owner`` is whose conversation it is."""

    query: Query
    options: AskOptions
    turns: tuple[Turn, ...] = ()
    conversation: str | None = None
    owner: str = ""


class QueuedQuestion:
    """An admitted question; to be answered once, or left."""

    def __init__(
        self,
        wanted: AskRequest,
        turns: Sequence[Turn],
        begun: PendingTurn | None,
        place: Place,
        queue: QuestionQueue,
    ) -> None:
        self._wanted = wanted
        self._turns = turns
        self._begun = begun
        self._place = place
        self._queue = queue
        self._start = perf_counter()
        self._counted = False

    @property
    def waits(self) -> bool:
        """Whether others are worked on first."""
        return self._place.waits

    async def turn(self) -> None:
        """Return when it is the question's turn."""
        await self._place.turn()

    async def answer(self, told: Listener = silent) -> Answer:
        """The answer, written down in its conversation before anybody is told."""
        await self.turn()
        wanted = self._wanted
        try:
            answer = await self._queue.gateway.ask(
                wanted.query, wanted.options, turns=self._turns, told=told
            )
        except Exception as error:
            self._count(getattr(error, "code", ""))
            raise
        self._count(answer)
        if self._begun is not None:
            await self._queue.conversations.aside(self._queue.keep, self._begun, answer)
        return answer

    def _count(self, end: Answer | str | None) -> None:
        """Tell the monitor once how the question ended: an answer, an error's code, given up."""
        if self._counted:
            return
        self._counted = True
        monitor, seconds = self._queue.monitor, perf_counter() - self._start
        if isinstance(end, Answer):
            monitor.answered(end, seconds)
        elif end is None:
            monitor.asked("cancelled", seconds)
        else:
            monitor.failed(end, seconds)

    def leave(self) -> None:
        """Make room for others; a question without an answer is kept as one."""
        self._count(None)
        self._place.leave()
        if self._begun is not None:
            self._queue.conversations.fail(self._begun)


@dataclass(frozen=True, slots=True)
class QuestionQueue:
    """Where all questions come in, whichever way they were sent."""

    gateway: Gateway
    admission: Admission
    streams: Streams
    conversations: Conversations
    monitor: GatewayMonitor = field(default_factory=GatewayMonitor)

    async def admit(self, wanted: AskRequest) -> QueuedQuestion:
        """The question with a place and, in a conversation, written down; who gets it leaves it.

        Overloaded, Occupied, NotFound or UsageError as ``Admission`` and ``Conversations`` say.
        """
        try:
            place = self.admission.reserve()
        except Overloaded:
            self.monitor.shed()
            raise
        try:
            begun = await self._begin(wanted)
        except BaseException:
            place.leave()
            raise
        turns = wanted.turns if begun is None else begun.before
        return QueuedQuestion(wanted, turns, begun, place, self)

    async def retrieve(self, wanted: AskRequest) -> Retrieval:
        """The evidence alone, in its turn; Overloaded when too many wait."""
        with timing(self.monitor.retrieved):
            place = self.admission.reserve()
            try:
                await place.turn()
                return await self.gateway.retrieve(wanted.query, wanted.options)
            finally:
                place.leave()

    async def audit(self, query: Query) -> AuditResult:
        """An audit in its turn; Overloaded when too many wait."""
        place = self.admission.reserve()
        try:
            await place.turn()
            return await self.gateway.audit(query)
        finally:
            place.leave()

    async def _begin(self, wanted: AskRequest) -> PendingTurn | None:
        if wanted.conversation is None:
            return None
        writing = asyncio.create_task(
            self.conversations.aside(
                self.conversations.begin, wanted.owner, wanted.conversation, wanted.query.text
            )
        )
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            # The thread cannot be cancelled: fail its turn, or the conversation stays busy.
            writing.add_done_callback(self._undo)
            raise

    def _undo(self, writing: asyncio.Task[PendingTurn]) -> None:
        if not writing.cancelled() and not writing.exception():
            self.conversations.fail(writing.result())

    def keep(self, begun: PendingTurn, answer: Answer) -> None:
        """Write an answer down; who asked gets it even when the disk does not take it."""
        try:
            self.conversations.finish(begun, answer)
        except (sqlite3.Error, SiloquyError) as error:
            _log.error("answer not kept in its conversation: %s", type(error).__name__)
