"""Asks a gateway many questions at once, from a process of its own, and times what comes back.

Plain HTTP/1.1 over kept connections, so that little of the machine that is measured goes into the
measuring; what it takes itself is told too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from siloquy.errors import SiloquyError

OK, SHED = 200, 429


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request: ``id`` of its question and the JSON body."""

    id: str
    path: str
    body: bytes
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Shot:
    """One request's outcome, without any text.

    at_s         seconds from the start of the run to when it was sent
    wall_ms      until the whole reply was read
    status       HTTP status; 0 when the connection failed
    retry_after  seconds of the Retry-After header, 0 without
    first_ms     by event of a stream: until the first of its kind; ``byte`` for the first of all
    """

    id: str
    at_s: float
    wall_ms: float
    status: int
    error: str = ""
    retry_after: float = 0.0
    missing: tuple[str, ...] = ()
    abstained: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    first_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How the calls are made: over ``at_once`` connections, to a count or for some seconds.

    pause_s   rest of a connection whose call was shed
    abandon   hang up on what is unanswered when the seconds are over
    """

    at_once: int
    count: int | None = None
    seconds: float | None = None
    pause_s: float = 0.0
    abandon: bool = False


@dataclass(frozen=True, slots=True)
class Volley:
    """All outcomes of one run, and what CPU the client itself used.

    began   Unix seconds
    """

    shots: list[Shot]
    began: float
    wall_s: float
    client_cpu_s: float


def fire(port: int, calls: Sequence[HttpCall], plan: LoadPlan) -> Volley:
    """Make the calls, again from the first when they run out, in a child process."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(port, tuple(calls), plan, far), daemon=True)
    child.start()
    far.close()
    try:
        result = near.recv()
    except EOFError:
        raise SiloquyError("the load client failed; its error stands above") from None
    finally:
        child.join()
    if not isinstance(result, Volley):
        raise SiloquyError("the load client gave no result")
    return result


def _child(port: int, calls: Sequence[HttpCall], plan: LoadPlan, pipe: Any) -> None:
    pipe.send(asyncio.run(volley(port, calls, plan)))


async def volley(port: int, calls: Sequence[HttpCall], plan: LoadPlan) -> Volley:
    """The same in this process."""
    began, start, cpu = time.time(), perf_counter(), time.process_time()
    numbers = itertools.count()
    shots: list[Shot] = []

    def take() -> HttpCall | None:
        n = next(numbers)
        over = plan.seconds is not None and perf_counter() - start >= plan.seconds
        if over or (plan.count is not None and n >= plan.count):
            return None
        return calls[n % len(calls)]

    async def work() -> None:
        async with _Line(port) as line:
            while call := take():
                sent = perf_counter()
                shot = await line.ask(call)
                shots.append(replace(shot, at_s=round(sent - start, 3)))
                if shot.status == SHED:
                    await asyncio.sleep(plan.pause_s)

    workers = [asyncio.create_task(work()) for _ in range(plan.at_once)]
    done, left = await asyncio.wait(workers, timeout=plan.seconds if plan.abandon else None)
    for worker in left:
        worker.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for worker in done:
        worker.result()
    return Volley(shots, began, perf_counter() - start, time.process_time() - cpu)


class _Line:
    """One kept connection, opened again when the gateway has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> _Line:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def ask(self, call: HttpCall) -> Shot:
        """Send one request and read its reply."""
        start = perf_counter()
        try:
            reader, writer = await self._open()
            writer.write(self._request(call))
            status, headers = await _head(reader)
            if call.stream and status == OK:
                return await self._watch(call, reader, headers, start)
            body = b"".join([piece async for piece in _body(reader, headers)])
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self._drop()
            return Shot(call.id, 0.0, _ms(start), 0, type(error).__name__)
        if headers.get("connection") == "close":
            self._drop()
        return _shot(call, status, headers, body, _ms(start))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        return self._streams

    def _request(self, call: HttpCall) -> bytes:
        accept = "text/event-stream" if call.stream else "application/json"
        head = (
            f"POST {call.path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: {accept}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(call.body)}\r\n\r\n"
        )
        return head.encode() + call.body

    async def _watch(
        self, call: HttpCall, reader: asyncio.StreamReader, headers: dict[str, str], start: float
    ) -> Shot:
        """The first moment of each kind of event, to the end of the stream."""
        first: dict[str, float] = {}
        left, name, error = b"", "", ""
        async for piece in _body(reader, headers):
            now = _ms(start)
            first.setdefault("byte", now)
            *lines, left = (left + piece).split(b"\n")
            for line in lines:
                what, _, value = line.partition(b":")
                if what == b"event":
                    name = value.strip().decode()
                    first.setdefault(name, now)
                elif what == b"data" and name == "error":
                    error = _code(json.loads(value))
        self._drop()
        ended = error or ("" if "final" in first else "no final event")
        return Shot(call.id, 0.0, _ms(start), OK, ended, first_ms=first)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    pairs = (line.partition(":") for line in lines[1:] if line)
    return status, {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """Pieces of a reply's body as they come."""
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers.get("content-length", "0")))
        return
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()


def _code(refused: dict[str, Any]) -> str:
    """The error's code alone: its message could quote."""
    return str(refused.get("error", refused).get("code", "")) or "refused"


def _shot(
    call: HttpCall, status: int, headers: dict[str, str], body: bytes, wall_ms: float
) -> Shot:
    retry_after = 0.0
    with contextlib.suppress(ValueError):
        retry_after = float(headers.get("retry-after", "0"))
    reply = json.loads(body)
    if status != OK:
        return Shot(call.id, 0.0, wall_ms, status, _code(reply), retry_after)
    return Shot(
        call.id,
        0.0,
        wall_ms,
        status,
        missing=tuple(f"{item['reason']}: {item['detail']}" for item in reply["missing"]),
        abstained=bool(reply.get("abstained")),
        timings_ms=reply["timings_ms"],
    )


def _ms(start: float) -> float:
    return round(1000 * (perf_counter() - start), 2)
