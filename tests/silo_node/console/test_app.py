"""The silo console: who gets in, what they see, and the switch; the silo's own process aside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from siloquy import settings as settings_files
from siloquy.database import transaction
from siloquy.errors import SettingsError
from siloquy.os_user import OsUser
from siloquy.process import alone
from siloquy.serve import nodes
from siloquy.serve.local import free_port
from siloquy.settings import ReleasePolicy, SiloSettings
from siloquy.silo_node import pause
from siloquy.silo_node.console.app import application
from siloquy.silo_node.console.folder import SiloFolder, condition
from siloquy.silo_node.console.sessions import IDLE_S, ConsoleSessions
from siloquy.silo_node.reading.document import RejectedInput
from siloquy.trust import roster as rosters
from siloquy.trust.identity import fingerprint, load, save
from siloquy.trust.ledger import LedgerEntry, append
from siloquy.trust.roster import ROSTER_FILE
from siloquy.types import NodeId
from siloquy.watch import health
from siloquy.watch.health import Watch
from siloquy.watch.metrics import SiloMonitor
from tests.silo_node.console.test_sessions import Clock as Seconds
from tests.silo_node.hospital import Clock, document, fill, open_store
from tests.siloquy.federation import NOW, Federation

PORT = 8901
COOKIE = f"siloquy_silo_{PORT}"
ANNA = OsUser("anna", "Anna Berg")
SECRET = "metronidazole"
POLICY = ReleasePolicy(gateways=("ward",), passages_per_day=10)
TODAY = "2023-11-14"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A silo with two documents of which one passage has left."""
    made = tmp_path / "north"
    nodes.init_silo(made, "north", "Northmoor", SiloSettings(policy=POLICY))
    with closing(open_store(made / "silo.sqlite")) as store:
        inputs = [document("a.md", f"Give {SECRET}.", "Dosing"), document("b.md", "Call.")]
        fill(store, [*inputs, RejectedInput("c.pdf", "no text")])
        entry = LedgerEntry(
            "release", NOW, bytes(16), NodeId("ward"), "dr 7", "treatment", ("a.md:0-9",), {}, 1
        )
        with transaction(store.connection) as connection:
            append(connection, entry)
            connection.execute("INSERT INTO spent VALUES ('ward', ?, 1)", (TODAY,))
    return made


class Console:
    """A console of the silo in ``folder``, and a browser at it."""

    def __init__(self, folder: Path) -> None:
        self.seconds = Seconds()
        self.sessions = ConsoleSessions(self.seconds)
        self.silo = SiloFolder(folder, Clock(NOW))
        app = application(self.silo, self.sessions, ANNA, PORT)
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}")

    async def enter(self) -> dict[str, Any]:
        """Open a link; what the page is told."""
        reply = await self.http.post("/v1/session/open", json={"token": self.sessions.invite()})
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        self.http.headers["X-CSRF-Token"] = told["csrf"]
        return told

    async def get(self, path: str) -> Any:
        """A reply that must be 200."""
        reply = await self.http.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def send(self, method: str, path: str, **given: Any) -> tuple[int, Any]:
        """Status and JSON of a request."""
        reply = await self.http.request(method, path, **given)
        return reply.status_code, reply.json() if reply.content else None


@pytest.fixture
async def console(folder: Path) -> AsyncIterator[Console]:
    made = Console(folder)
    async with made.http:
        yield made


# -- signing in -----------------------------------------------------------------------------------


async def test_without_a_session_a_page_learns_only_where_it_is(console: Console) -> None:
    assert await console.get("/v1/session") == {
        "site": "silo",
        "node": "north",
        "organisation": "Northmoor",
        "sign_in": "link",
        "provider": "",
        "person": None,
        "csrf": "",
        "idle_s": 900,
    }


ROUTES = [
    ("GET", "/v1/silo"),
    ("GET", "/v1/silo/documents"),
    ("GET", "/v1/silo/ledger"),
    ("POST", "/v1/silo/ledger/verify"),
    ("POST", "/v1/silo/pause"),
    ("DELETE", "/v1/silo/pause"),
    ("GET", "/v1/nothing"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_everything_else_needs_a_session(console: Console, method: str, path: str) -> None:
    body: dict[str, Any] = {"json": {}} if method == "POST" else {}
    status, told = await console.send(method, path, **body)
    assert (status, told["error"]["code"]) == (401, "denied")
    console.http.cookies.set(COOKIE, "invented")
    assert (await console.send(method, path, **body))[0] == 401


def test_every_route_is_tried_without_a_session(console: Console) -> None:
    app = application(console.silo, console.sessions, ANNA, PORT)
    found = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/v1/silo")
        for method in route.methods or ()
    }
    assert found == set(ROUTES) - {("GET", "/v1/nothing")}


async def test_a_link_lets_one_browser_in(console: Console) -> None:
    token = console.sessions.invite()
    reply = await console.http.post("/v1/session/open", json={"token": token})
    assert reply.json()["person"] == {
        "name": "anna",
        "shown": "Anna Berg",
        "roles": ["silo_admin"],
    }
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert (await console.get("/v1/session"))["csrf"] == reply.json()["csrf"]
    assert (await console.send("POST", "/v1/session/open", json={"token": token}))[0] == 401


async def test_a_request_with_two_cookies_of_the_name_has_no_session(console: Console) -> None:
    await console.enter()
    own = f"{COOKIE}={console.http.cookies[COOKIE]}"
    for doubled in (f"{own}; {COOKIE}=planted", f"{COOKIE}=planted; {own}", f"{own}; {own}"):
        console.http.cookies.clear()
        reply = await console.http.get("/v1/silo", headers={"Cookie": doubled})
        assert reply.status_code == 401
        # Who is not told apart signs nobody out.
        await console.http.delete("/v1/session", headers={"Cookie": doubled})
    reply = await console.http.get("/v1/silo", headers={"Cookie": own})
    assert reply.status_code == 200


async def test_a_session_ends_when_it_is_idle_and_quiet_looks_do_not_keep_it(
    console: Console,
) -> None:
    await console.enter()
    console.seconds.now += IDLE_S - 1
    assert (await console.get("/v1/session?quiet=1"))["person"]
    console.seconds.now += 1
    assert (await console.get("/v1/session"))["person"] is None
    assert (await console.send("GET", "/v1/silo"))[0] == 401


async def test_who_signs_out_is_out(console: Console) -> None:
    await console.enter()
    stolen = console.http.cookies[COOKIE]
    assert await console.send("DELETE", "/v1/session") == (204, None)
    assert COOKIE not in console.http.cookies
    console.http.cookies.set(COOKIE, stolen)
    assert (await console.send("GET", "/v1/silo"))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "\xff"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
async def test_another_page_changes_nothing_with_the_browser_s_cookie(
    console: Console, headers: dict[str, str]
) -> None:
    await console.enter()
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, path in (("POST", "/v1/silo/pause"), ("DELETE", "/v1/session")):
        body: dict[str, Any] = {"json": {}} if method == "POST" else {}
        status, told = await console.send(method, path, headers=raw, **body)
        assert (status, told["error"]["code"]) == (403, "denied")
    assert (await console.get("/v1/silo"))["paused"] is None


async def test_another_host_name_is_refused(console: Console) -> None:
    reply = await console.http.get("/v1/session", headers={"Host": "silo.example.org"})
    assert reply.status_code == 400


async def test_replies_carry_the_security_headers(console: Console) -> None:
    for path in ("/v1/session", "/v1/silo"):
        headers = (await console.http.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert (headers["cache-control"], headers["x-content-type-options"]) == (
            "no-store",
            "nosniff",
        )


# -- what is shown --------------------------------------------------------------------------------


async def test_the_silo_is_shown_as_it_stands(console: Console, folder: Path) -> None:
    await console.enter()
    shown = await console.get("/v1/silo")
    assert (shown["node"], shown["organisation"]) == ("north", "Northmoor")
    assert shown["fingerprint"] == fingerprint(load(folder).card.signing_key)
    assert shown["rostered"] == "not enrolled"
    assert (shown["serving"], shown["line"], shown["paused"]) == (False, False, None)
    assert shown["health"] == {"status": "ok", "lacking": []}
    assert (shown["documents"], shown["passages"], shown["withdrawn"]) == (2, 2, 0)
    assert shown["quarantined"] == [{"source": "c.pdf", "reason": "no text"}]
    assert shown["budget"] == [{"gateway": "ward", "spent_today": 1, "limit": 10}]
    assert shown["sealed_budget"] == [{"gateway": "ward", "spent_today": 0, "limit": 500}]
    assert shown["policy"][0] == {
        "key": "gateways",
        "value": ["ward"],
        "words": "Only the gateway ward may ask.",
        "code": "gateways.one",
        "values": ["ward"],
    }
    assert {item["key"] for item in shown["policy"]} > {"gateways", "sealed", "epsilon", "yearly"}
    assert (shown["privacy"]["epsilon"], shown["privacy"]["spent"]) == (8.0, 0.0)
    assert SECRET not in str(shown)


async def test_a_member_is_shown_as_one(tmp_path: Path, federation: Federation) -> None:
    folder = tmp_path / "north"
    save(federation.north, folder)
    settings_files.write(SiloSettings(), folder)
    rosters.save(federation.roster, folder / ROSTER_FILE)
    console = Console(folder)
    await console.enter()
    assert (await console.get("/v1/silo"))["rostered"] == "version 1"
    await console.http.aclose()


async def test_settings_that_the_serving_silo_has_not_read_are_told(
    console: Console, folder: Path
) -> None:
    await console.enter()
    with alone(folder):
        shown = await console.get("/v1/silo")
        assert (shown["serving"], shown["line"], shown["restart_needed"]) == (True, None, False)
        settings_files.write(SiloSettings(), folder)
        shown = await console.get("/v1/silo")
        assert (shown["restart_needed"], shown["policy"][0]["code"]) == (True, "gateways.none")


async def test_malformed_settings_are_told_in_words(console: Console, folder: Path) -> None:
    await console.enter()
    (folder / settings_files.FILE_NAME).write_text("[policy]\ngateway = 1\n")
    status, told = await console.send("GET", "/v1/silo")
    assert (status, told["error"]["code"]) == (500, "settings")
    assert "unknown key policy.gateway" in told["error"]["message"]


async def test_documents_are_listed_without_text(console: Console) -> None:
    await console.enter()
    shown = await console.get("/v1/silo/documents?q=dos")
    assert shown == {
        "documents": [
            {"id": "a.md", "title": "Dosing", "passages": 1, "collection": "", "consent": True}
        ],
        "total": 1,
        "next": None,
    }
    assert (await console.get("/v1/silo/documents?limit=1"))["next"] == "a.md"


async def test_the_ledger_is_shown_without_text(console: Console) -> None:
    await console.enter()
    shown = await console.get("/v1/silo/ledger")
    (entry,) = shown["entries"]
    assert len(entry.pop("hash")) == 64
    left = {"document": "a.md", "title": "Dosing", "start": 0, "end": 9, "characters": 9}
    assert entry == {
        "n": 1,
        "at": NOW,
        "kind": "release",
        "gateway": "ward",
        "requester": "dr 7",
        "purpose": "treatment",
        "query_id": "0" * 32,
        "passages": [left],
        "withheld": {},
        "spent_today": 1,
    }
    assert (shown["total"], shown["next"]) == (1, None)
    for none in ("gateway=x", "document=b.md", "day=2023-11-15", "before=1"):
        assert (await console.get(f"/v1/silo/ledger?{none}"))["entries"] == []
    for some in ("gateway=ward", "document=a.md", f"day={TODAY}", "before=2"):
        assert len((await console.get(f"/v1/silo/ledger?{some}"))["entries"]) == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "before=0", "before=x", "day=today"])
async def test_a_malformed_query_is_refused_and_not_repeated(console: Console, query: str) -> None:
    await console.enter()
    status, told = await console.send("GET", f"/v1/silo/ledger?{query}&gateway={SECRET}")
    assert (status, told["error"]["code"]) == (400, "usage")
    assert SECRET not in str(told)


async def test_the_ledger_is_checked(console: Console, folder: Path) -> None:
    await console.enter()
    status, told = await console.send("POST", "/v1/silo/ledger/verify", json={})
    assert status == 200
    assert len(told.pop("head")) == 64
    assert told == {"holds": True, "entries": 1, "checked_at": NOW, "detail": ""}
    with closing(open_store(folder / "silo.sqlite")) as store:
        store.connection.execute("UPDATE spent SET passages = 7")
    _, told = await console.send("POST", "/v1/silo/ledger/verify", json={})
    assert (told["holds"], "7 passages are counted" in told["detail"]) == (False, True)


async def test_a_silo_that_is_writing_is_shown_at_once(console: Console, folder: Path) -> None:
    await console.enter()
    path = folder / "silo.sqlite"
    with closing(open_store(path)) as store, transaction(store.connection) as connection:
        connection.execute("DELETE FROM quarantine")
        assert (await console.get("/v1/silo"))["quarantined"]
        assert (await console.get("/v1/silo/ledger"))["total"] == 1


# -- the switch -----------------------------------------------------------------------------------


async def test_the_silo_is_paused_and_resumed(
    console: Console, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await console.enter()
    begun = {"since": NOW, "by": "anna", "reason": SECRET}
    assert await console.send("POST", "/v1/silo/pause", json={"reason": SECRET}) == (
        200,
        {"paused": begun},
    )
    assert (await console.get("/v1/silo"))["paused"] == begun
    with closing(open_store(folder / "silo.sqlite")) as store:
        assert pause.current(store.connection) is not None
        assert await console.send("DELETE", "/v1/silo/pause") == (200, {"paused": None})
        assert pause.current(store.connection) is None
    assert "paused silo=north" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("body", [{"reason": "x" * 501}, {"why": SECRET}, {"reason": 7}])
async def test_a_malformed_pause_pauses_nothing(console: Console, body: dict[str, Any]) -> None:
    await console.enter()
    status, told = await console.send("POST", "/v1/silo/pause", json=body)
    assert (status, told["error"]["code"]) == (400, "usage")
    assert SECRET not in str(told)
    assert (await console.get("/v1/silo"))["paused"] is None


# -- how it does ----------------------------------------------------------------------------------


def test_a_folder_without_a_silo_has_no_console(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        SiloFolder(tmp_path, Clock(NOW))
    assert list(tmp_path.iterdir()) == []


def test_without_a_monitor_health_is_what_can_be_seen_from_outside() -> None:
    def broken() -> bool:
        raise OSError

    found = condition(True, 0, {"database": broken, "disk space": lambda: True})
    assert (found.line, found.status, found.lacking) == (None, "failing", ("database",))
    found = condition(True, free_port(), {"database": lambda: True})
    assert (found.line, found.status, found.lacking) == (None, "ok", ())


@pytest.mark.parametrize(("hub_line", "disk"), [(True, True), (False, True), (True, False)])
async def test_with_a_monitor_a_serving_silo_says_itself_how_it_does(
    hub_line: bool, disk: bool
) -> None:
    watch = Watch(
        SiloMonitor("north").registry, {"hub line": lambda: hub_line}, {"disk space": lambda: disk}
    )
    port = free_port()
    async with await health.serve(watch, port):
        found = await asyncio.to_thread(condition, True, port, {})
    assert (found.line, found.status) == (hub_line, "ok" if disk else "failing")
    lacks = [] if disk else ["disk space"]
    assert list(found.lacking) == lacks + ([] if hub_line else ["hub line"])


def test_a_silo_that_is_not_served_has_no_line_whatever_answers_at_its_port() -> None:
    assert condition(False, free_port(), {}).line is False
