"""Health and readiness over real sockets and databases: 503 says what is lacking, by code."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from siloquy.database import connect, transaction
from siloquy.errors import SettingsError
from siloquy.watch import health
from siloquy.watch.health import LEAST_FREE_BYTES, Probe, Watch, readable, reader, roomy, writable
from siloquy.watch.metrics import SiloMonitor

Reply = tuple[int, dict[str, str], bytes]


def watch(parts: Mapping[str, Probe] = {}, probes: Mapping[str, Probe] = {}) -> Watch:
    return Watch(SiloMonitor("north").registry, parts, probes)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database as a node keeps one, closed."""
    path = tmp_path / "a node?" / "silo #1.sqlite"
    connect(path, "CREATE TABLE IF NOT EXISTS facts (name TEXT)").close()
    return path


async def exchange(port: int, request: bytes) -> Reply:
    """Status, headers and body of what the server says to ``request``."""
    incoming, out = await asyncio.open_connection("127.0.0.1", port)
    out.write(request)
    data = await incoming.read()
    out.close()
    await out.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


async def get(watched: Watch, *requests: bytes) -> list[Reply]:
    """What a server of ``watched`` says to each request."""
    server = await health.serve(watched, 0)
    try:
        port = server.sockets[0].getsockname()[1]
        return [await exchange(port, request) for request in requests]
    finally:
        server.close()
        await server.wait_closed()


def asking(path: str, host: str = "127.0.0.1:9100", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n".encode()


# -- what is told ---------------------------------------------------------------------------------


async def test_a_node_that_lacks_nothing_is_ready_and_well() -> None:
    sound = watch({"hub line": lambda: True}, {"database": lambda: True})
    ready, well = await get(sound, asking("/readyz"), asking("/healthz"))
    assert (ready[0], json.loads(ready[2])) == (200, {"ready": True})
    assert (well[0], json.loads(well[2])) == (200, {"status": "ok"})
    assert ready[1]["cache-control"] == "no-store"


async def test_readiness_names_all_that_is_lacking() -> None:
    parts = {"hub line": lambda: False, "index": lambda: True, "approved gateway": lambda: False}
    ((status, _, body),) = await get(watch(parts), asking("/readyz"))
    told = {"ready": False, "lacking": ["hub line", "approved gateway"]}
    assert (status, json.loads(body)) == (503, told)


def _fails(error: Exception) -> Probe:
    def probe() -> bool:
        raise error

    return probe


@pytest.mark.parametrize(
    "probe",
    [lambda: False, _fails(sqlite3.DatabaseError("a secret")), _fails(OSError("a secret"))],
    ids=["no", "database error", "disk error"],
)
async def test_a_probe_that_fails_is_named_without_its_words(probe: Probe) -> None:
    probes = {"disk space": lambda: True, "database": probe}
    ((status, _, body),) = await get(watch(probes=probes), asking("/healthz"))
    assert (status, json.loads(body)) == (503, {"status": "failing", "lacking": ["database"]})


async def test_a_probe_that_hangs_is_told_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_TIMEOUT_S", 0.05)
    release = threading.Event()
    hung = watch(probes={"database": release.wait})
    try:
        ((status, _, body),) = await get(hung, asking("/healthz"))
    finally:
        release.set()
    assert (status, json.loads(body)["lacking"]) == (503, ["database"])


async def test_metrics_are_prometheus_text() -> None:
    ((status, headers, body),) = await get(watch(), asking("/metrics"))
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"\nsiloquy_silo_info{" in body
    assert int(headers["content-length"]) == len(body)


# -- who is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhostx", ""])
async def test_a_page_of_another_host_is_told_nothing(host: str) -> None:
    ((status, _, body),) = await get(watch(), asking("/metrics", host))
    assert (status, b"siloquy_" in body) == (400, False)


@pytest.mark.parametrize("host", ["localhost", "localhost:9100", "127.0.0.1", "[::1]:9100"])
async def test_this_machine_by_any_of_its_names_is_told(host: str) -> None:
    assert [reply[0] for reply in await get(watch(), asking("/metrics", host))] == [200]


async def test_what_is_no_request_of_a_monitor_is_refused() -> None:
    host = b"Host: localhost\r\n"
    replies = await get(
        watch(),
        asking("/metrics", method="POST"),
        asking("/v1/ask"),
        asking("/metrics/../secret"),
        b"GET\r\n" + host + b"\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + host + host + b"\r\n",
        b"\xff\xfe\x00\r\n\r\n",
    )
    assert [status for status, _, _ in replies] == [405, 404, 404, 400, 400, 400, 400]


async def test_a_flood_of_headers_and_a_silent_caller_do_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "REQUEST_TIMEOUT_S", 0.1)
    server = await health.serve(watch(), 0)
    port = server.sockets[0].getsockname()[1]
    for start in (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, b"", b"GET"):
        incoming, out = await asyncio.open_connection("127.0.0.1", port)
        out.write(start)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(incoming.read(), 5) == b""
        out.close()
    assert (await exchange(port, asking("/readyz")))[0] == 200
    server.close()
    await server.wait_closed()


async def test_a_port_that_is_taken_is_an_error_of_the_settings() -> None:
    server = await health.serve(watch(), 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(SettingsError) as refused:
        await health.serve(watch(), port)
    assert "monitor.port" in refused.value.hint
    assert server.sockets[0].getsockname()[0] == "127.0.0.1"
    server.close()
    await server.wait_closed()


# -- probes ---------------------------------------------------------------------------------------


def test_a_sound_database_is_readable_and_writable(database: Path) -> None:
    assert readable(database)()
    assert writable(database)()


def test_asking_whether_it_is_writable_changes_nothing(database: Path) -> None:
    before = database.read_bytes()
    assert writable(database)()
    with reader(database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    assert database.read_bytes() == before


def test_a_database_that_another_connection_writes_to_is_well(database: Path) -> None:
    with closing(connect(database, "")) as other, transaction(other):
        assert readable(database)()
        assert writable(database)()


def test_a_damaged_or_missing_database_is_not_readable(database: Path, tmp_path: Path) -> None:
    database.write_bytes(b"no database at all, but as long as a page" * 200)
    for path in (database, tmp_path / "missing.sqlite"):
        with pytest.raises(sqlite3.Error):
            readable(path)()
    assert not (tmp_path / "missing.sqlite").exists()


def test_a_reader_cannot_write(database: Path) -> None:
    with reader(database) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("INSERT INTO facts VALUES ('x')")


def test_a_read_only_database_is_not_writable(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write to what is read-only by its mode, so the connection itself is made so.
    monkeypatch.setattr(health, "reader", lambda path, mode="ro": reader(path))
    assert not writable(database)()


def test_a_disk_has_room_until_it_has_less_than_a_release_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert roomy(tmp_path)()
    for free, holds in ((LEAST_FREE_BYTES, True), (LEAST_FREE_BYTES - 1, False)):
        left = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, left=left: left)
        assert roomy(tmp_path)() is holds
