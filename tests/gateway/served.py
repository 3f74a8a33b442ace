"""A gateway's application around a stand-in for the federation, in process and on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from siloquy.gateway.api import api_keys
from siloquy.gateway.api import conversations as kept
from siloquy.gateway.api.app import app
from siloquy.gateway.ask import Gateway, GatewayStatus, Retrieval
from siloquy.gateway.asking import AskOptions, Listener, silent
from siloquy.gateway.attendance import Absence, SiloAttendance
from siloquy.gateway.membership import (
    FederationView,
    HubView,
    MemberView,
    NodeView,
    ProfileView,
    PromiseView,
    RosterView,
    SiloView,
    TrustView,
)
from siloquy.gateway.rounds import AuditResult
from siloquy.settings import ApiSettings
from siloquy.types import (
    Answer,
    CitedSpan,
    DocumentId,
    EncoderSpec,
    Event,
    Missing,
    NodeId,
    Plan,
    PlanEvent,
    Query,
    Round,
    Sentence,
    SiloEvent,
    Source,
    Turn,
)

SECRET = "metronidazole"
NORTH, SOUTH = NodeId("north"), NodeId("south")
PLAN = Plan("open", (NORTH, SOUTH), (), {"north": "all silos are asked"})
SOURCES = tuple(
    Source(n, NORTH, DocumentId(f"dosing-{n}.txt"), f"Dosing {n}", f"Give {n} g.", 0, 9, 0.8)
    for n in (1, 2, 3)
)
SENTENCES = tuple(Sentence(f"Give {n} g.", (n,), 1.0, (CitedSpan(n, 0, 9),)) for n in (1, 2))
ANSWER = Answer(
    question="Which dose?",
    answer="Give 1 g. [1] Give 2 g. [2]",
    abstained=False,
    sentences=SENTENCES,
    sources=SOURCES,
    plan=PLAN,
    missing=(Missing(SOUTH, "timeout", "it did not answer in 9 s"),),
    withheld={},
    released={"north": 3},
    flagged={},
    rounds=(Round("question", "Which dose?", "0" * 32, (NORTH, SOUTH), {"north": 3}),),
    conflicts=(),
    dropped=0,
    notes=(),
    mode="open",
    model="extractive",
    extractive=True,
    timings_ms={"total": 1.5},
    receipt={"body": {}},
)
ABSTAINED = replace(
    ANSWER,
    answer="Not found in the 1 of 2 asked silos that answered.",
    abstained=True,
    sentences=(),
    sources=(),
)
EVENTS: tuple[Event, ...] = (
    PlanEvent("question", "Which dose?", PLAN),
    SiloEvent(NORTH, "asked"),
    SiloEvent(NORTH, "released", 12.0, 3),
    SiloEvent(SOUTH, "missing", 90.0, 0, "it did not answer in 9 s"),
    *SOURCES,
    *SENTENCES,
)


@dataclass(frozen=True)
class Asked:
    """What the gateway was asked."""

    query: Query
    options: AskOptions
    turns: tuple[Turn, ...] = ()


class Federation(Gateway):
    """Answers the same to everybody, or raises; one event at a time where it is ``paced``."""

    def __init__(
        self,
        error: BaseException | None = None,
        answer: Answer = ANSWER,
        events: Sequence[Event] = EVENTS,
        *,
        paced: bool = False,
    ) -> None:
        self.error = error
        self.answer = answer
        self.events = events
        self.asked: list[Asked] = []
        self.running = self.most_running = self.cancelled = 0
        self._steps = asyncio.Semaphore(0) if paced else None

    def step(self, n: int = 1) -> None:
        """Let ``n`` events happen; the end is one too."""
        assert self._steps is not None
        for _ in range(n):
            self._steps.release()

    async def _stepped(self) -> None:
        if self._steps is not None:
            await self._steps.acquire()

    async def ask(
        self,
        query: Query,
        options: AskOptions,
        *,
        turns: Sequence[Turn] = (),
        told: Listener = silent,
    ) -> Answer:
        self.asked.append(Asked(query, options, tuple(turns)))
        with self._counted():
            for event in self.events:
                await self._stepped()
                told(event)
                await asyncio.sleep(0)
            await self._stepped()
            if self.error:
                raise self.error
            answer = replace(self.answer, question=query.text)
            told(answer)
            return answer

    async def retrieve(self, query: Query, options: AskOptions) -> Retrieval:
        self.asked.append(Asked(query, options))
        with self._counted():
            await self._stepped()
            if self.error:
                raise self.error
            return RETRIEVED

    async def audit(self, query: Query) -> AuditResult:
        self.asked.append(Asked(query, AskOptions()))
        with self._counted():
            await self._stepped()
            if self.error:
                raise self.error
            return AUDITED

    def status(self) -> GatewayStatus:
        return STATUS

    async def federation(self) -> FederationView:
        return FEDERATION

    def roster(self) -> RosterView:
        return ROSTER

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


RETRIEVED = Retrieval((), PLAN, ANSWER.missing, {}, {}, {}, (), {"total": 1.0}, {})
AUDITED = AuditResult((NORTH, SOUTH), (), ANSWER.missing, {NORTH: 10})
SILO_SEEN = SiloView(
    NORTH,
    "Northmoor",
    "AAAA-BBBB",
    ProfileView(3, 1_000, 2_000, 40, 8.0, "able"),
    "",
    TrustView(12, 1, 1_500, asked=True, probe=0.9),
    1,
    SiloAttendance(9, 2, Absence(1_700, "timeout", "it did not answer in 9 s")),
)
FEDERATION = FederationView(
    "vale",
    "AAAA-BBBB",
    1,
    NodeView(NodeId("ward"), "Northmoor"),
    HubView(NodeId("hub"), "Vale", connected=True),
    (
        SILO_SEEN,
        SiloView(SOUTH, "St Brigid", "CCCC", None, "too old", None, None, SiloAttendance()),
    ),
    PromiseView(210, 200, 200, False, 0.95, None, 0.8),
    ("Vale runs the hub and south: sealed mode protects nothing against that organisation",),
)
ROSTER = RosterView(
    "vale",
    "AAAA-BBBB",
    1,
    1_000,
    2,
    ("AAAA", "CCCC"),
    EncoderSpec("all-MiniLM-L6-v2", "53aa" * 16, 384),
    (MemberView(NORTH, "silo", "Northmoor", "AAAA-BBBB"),),
)
STATUS = GatewayStatus(True, True, 1, "AAAA", (NORTH, SOUTH), (NORTH,), (), "extractive")


class Desktop:
    """An application with its files in a folder of its own."""

    def __init__(self, gateway: Any, settings: ApiSettings, folder: Path) -> None:
        ticks = itertools.count(1_000)
        self.gateway = gateway
        self.keys = api_keys.Keys(folder / api_keys.FILE_NAME, lambda: next(ticks))
        self.conversations = kept.Conversations(folder / kept.FILE_NAME, lambda: next(ticks))
        self.app: FastAPI = app(gateway, settings, self.conversations, self.keys)

    def close(self) -> None:
        self.keys.close()
        self.conversations.close()


@contextlib.contextmanager
def desktop(
    gateway: Any, settings: ApiSettings | None = None, folder: Path | None = None
) -> Iterator[Desktop]:
    """An application; its files are gone afterwards unless a ``folder`` is given."""
    with tempfile.TemporaryDirectory() as made:
        desk = Desktop(gateway, settings or ApiSettings(), folder or Path(made))
        try:
            yield desk
        finally:
            desk.close()


@contextlib.asynccontextmanager
async def client(
    gateway: Any,
    settings: ApiSettings | None = None,
    *,
    host: str = "127.0.0.1:8080",
    folder: Path | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process; replies come as a whole."""
    with desktop(gateway, settings, folder) as desk:
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            yield http


@dataclass(frozen=True)
class Served:
    """An application on a real port."""

    desk: Desktop
    http: httpx.AsyncClient
    port: int


@contextlib.asynccontextmanager
async def served(
    gateway: Any, settings: ApiSettings | None = None, folder: Path | None = None
) -> AsyncIterator[Served]:
    """An application on a port of loopback, in this event loop."""
    limits = httpx.Limits(max_connections=None)
    with desktop(gateway, settings, folder) as desk:
        async with listening(desk.app) as port:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as http:
                yield Served(desk, http, port)


@contextlib.asynccontextmanager
async def listening(application: FastAPI, bound: socket.socket | None = None) -> AsyncIterator[int]:
    """The port of loopback where an application is served, in this event loop."""
    with bound or free_socket() as listener:
        config = uvicorn.Config(application, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = server.force_exit = True
            await task


def free_socket() -> socket.socket:
    """A socket that is bound to a free port of loopback."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


# -- reading event streams ------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    id: int
    name: str
    data: Any


def parsed(text: str) -> list[Told]:
    """The events in the text of a stream; comments and retry times are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and line[0] != ":")
        if "data" in fields:
            found.append(Told(int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def blocks(reply: httpx.Response) -> AsyncIterator[str]:
    """The blocks of a stream as they come, comments too."""
    text = ""
    async for piece in reply.aiter_text():
        text += piece
        *whole, text = text.split("\n\n")
        for block in whole:
            yield block + "\n\n"


async def until(holds: Any, timeout_s: float = 5.0) -> None:
    """Return when ``holds()`` does."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.01)
