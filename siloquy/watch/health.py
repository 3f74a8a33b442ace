"""Health and readiness that mean something, and the small loopback server that tells them.

``/healthz``: the event loop turns, the database answers, there is room to write. A node that is
not healthy wants a restart or a person. ``/readyz``: it can do its work now. ``/metrics``: see
``siloquy.watch.metrics``. 503 names what is lacking by codes; no text of questions is near.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siloquy.errors import SettingsError
from siloquy.watch import metric_parts
from siloquy.watch.metric_parts import Registry

HOST = "127.0.0.1"
PROBE_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 5.0
# A release commits some 10 pages of 4 KB to the write-ahead log.
LEAST_FREE_BYTES = 1024 * 1024
_MOST_HEAD_BYTES = 8192
_PRIMARY = 0xFF
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether all is there, and the codes of what is lacking."""

    lacking: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Nothing is lacking."""
        return not self.lacking


@dataclass(frozen=True, slots=True)
class MonitorReply:
    """One reply: ``body`` is JSON or Prometheus text."""

    status: int
    body: bytes
    content_type: str = "application/json"


Probe = Callable[[], bool]


class Watch:
    """What a node tells of itself.

    parts     what readiness needs, by code; read on the event loop, so they must be instant
    probes    what health needs, by code; run in a thread of their own, at most two seconds
    """

    def __init__(
        self,
        registry: Registry,
        parts: Mapping[str, Probe],
        probes: Mapping[str, Probe],
    ) -> None:
        self._registry = registry
        self._parts = parts
        self._probes = probes
        # A thread of its own: the loop's threads may all be searching, which is no illness.
        self._thread = ThreadPoolExecutor(1, "watch")

    def readiness(self) -> Readiness:
        """Whether the node can do its work now."""
        return Readiness(tuple(code for code, holds in self._parts.items() if not holds()))

    async def health(self) -> Readiness:
        """Whether database and disk do what the node needs of them; the loop answers by itself."""
        lacking = [code for code, probe in self._probes.items() if not await self._holds(probe)]
        return Readiness(tuple(lacking))

    async def _holds(self, probe: Probe) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await loop.run_in_executor(self._thread, probe)
        except (TimeoutError, OSError, sqlite3.Error):
            return False

    async def tell(self, path: str) -> MonitorReply | None:
        """The reply to ``GET path``; None where there is nothing."""
        if path == "/healthz":
            health = await self.health()
            return _told(health, {"status": "ok" if health.ready else "failing"})
        if path == "/readyz":
            ready = self.readiness()
            return _told(ready, {"ready": ready.ready})
        if path == "/metrics":
            loop = asyncio.get_running_loop()
            return MonitorReply(200, *await loop.run_in_executor(self._thread, self._metrics))
        return None

    def _metrics(self) -> tuple[bytes, str]:
        return metric_parts.text(self._registry)


def _told(readiness: Readiness, body: Mapping[str, object]) -> MonitorReply:
    if readiness.ready:
        return MonitorReply(200, json.dumps(body).encode())
    return MonitorReply(503, json.dumps({**body, "lacking": readiness.lacking}).encode())


# -- probes ---------------------------------------------------------------------------------------


@contextmanager
def reader(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """A connection of its own to a database that exists: no lock of the node's is waited for."""
    address = f"{path.resolve().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)) as connection:
        yield connection


def readable(path: Path) -> Probe:
    """Whether the database answers a read."""

    def probe() -> bool:
        with reader(path) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return True

    return probe


def writable(path: Path) -> Probe:
    """Whether the database takes a write; one that another connection holds just now does."""

    def probe() -> bool:
        with reader(path, "rw") as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                # The lock alone is given on a read-only disk too.
                connection.execute("PRAGMA user_version = 1")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                return error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
        return True

    return probe


def roomy(folder: Path) -> Probe:
    """Whether the disk has room for a ledger entry and more."""
    return lambda: shutil.disk_usage(folder).free >= LEAST_FREE_BYTES


# -- server ---------------------------------------------------------------------------------------


async def serve(watch: Watch, port: int) -> asyncio.Server:
    """Serve the watch on loopback; SettingsError when the port is taken."""

    async def answer(incoming: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                out.write(_response(await _reply(watch, incoming)))
                await out.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            out.close()

    try:
        return await asyncio.start_server(answer, HOST, port, limit=_MOST_HEAD_BYTES)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {HOST}:{port}: {error.strerror or 'refused'}",
            "choose another monitor.port, or 0 for none",
        ) from None


def heard(port: int, path: str) -> dict[str, Any] | None:
    """What the watch of a node of this machine tells at ``path``; None when nobody answers."""
    try:
        with closing(http.client.HTTPConnection(HOST, port, timeout=PROBE_TIMEOUT_S)) as line:
            line.request("GET", path)
            told = json.loads(line.getresponse().read(_MOST_HEAD_BYTES))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return told if isinstance(told, dict) else None


async def _reply(watch: Watch, incoming: asyncio.StreamReader) -> MonitorReply:
    head = (await incoming.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    request, headers = head[0].split(" "), head[1:]
    if len(request) != 3 or not _is_local(headers):
        return _error(400)
    if request[0] != "GET":
        return _error(405)
    return await watch.tell(request[1]) or _error(404)


def _is_local(headers: Sequence[str]) -> bool:
    """Whether the request is for this machine: a page from elsewhere must not read it."""
    named = [line.partition(":")[2].strip() for line in headers if line.lower().startswith("host:")]
    return len(named) == 1 and _LOCAL.fullmatch(named[0]) is not None


def _error(status: int) -> MonitorReply:
    return MonitorReply(status, json.dumps({"error": _REASONS[status]}).encode())


def _response(told: MonitorReply) -> bytes:
    head = (
        f"HTTP/1.1 {told.status} {_REASONS.get(told.status, 'Service Unavailable')}\r\n"
        f"Content-Type: {told.content_type}\r\nContent-Length: {len(told.body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + told.body
