"""The silo console: a page on this machine that shows a hospital its silo, and can pause it.

A process of its own on 127.0.0.1: the serving silo opens no port. Everything but the page needs a
session, which a one-time link from the console's terminal opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from siloquy import os_user
from siloquy.codec import to_json
from siloquy.os_user import OsUser
from siloquy.process import bound, now_ms, until_stopped
from siloquy.settings import Listen
from siloquy.silo_node.console.audit_log import AuditLogFilter
from siloquy.silo_node.console.folder import SiloFolder
from siloquy.silo_node.console.sessions import IDLE_S, ConsoleSession, ConsoleSessions
from siloquy.silo_node.pause import MOST_REASON_CHARACTERS
from siloquy.web.bodies import Strict
from siloquy.web.cookies import Cookie
from siloquy.web.csrf import is_of_the_page, proves_its_page
from siloquy.web.failures import add_errors
from siloquy.web.middleware import (
    App,
    Headers,
    Receive,
    Scope,
    SecurityHeaders,
    Send,
    admitted,
    refuse,
)
from siloquy.web.pages import HOSTS, add_page
from siloquy.web.refusals import Refusal, Unauthenticated
from siloquy.web.server import http_server

SESSION = "siloquy.session"
SESSION_PATHS = ("/v1/session", "/v1/session/open")
MOST_ROWS = 200
MOST_FILTER_CHARACTERS = 1000
ROLE = "silo_admin"
_LINK = "press Enter in the console's terminal and open the link that it prints"
_log = logging.getLogger(__name__)


class OpenBody(Strict):
    """Body of ``POST /v1/session/open``."""

    token: str = Field(max_length=100)


class PauseBody(Strict):
    """Body of ``POST /v1/silo/pause``."""

    reason: str = Field(default="", max_length=MOST_REASON_CHARACTERS)


class VerifyBody(Strict):
    """Body of ``POST /v1/silo/ledger/verify``: nothing."""


# -- who may come in ------------------------------------------------------------------------------


class ConsoleAuthentication:
    """The application behind its session: under /v1 all but signing in needs one.

    What changes something also needs the session's CSRF token, and comes from the own page.
    """

    def __init__(self, app: App, sessions: ConsoleSessions, cookie: Cookie) -> None:
        self._app = app
        self._sessions = sessions
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        got = await admitted(scope, receive, self._check)
        if isinstance(got, Refusal):
            await refuse(got, scope, send)
        else:
            await self._app(scope, got, send)

    def _check(self, scope: Scope, headers: Headers) -> Refusal | None:
        session = scope[SESSION] = self._session(scope, headers)
        path = scope["path"]
        if is_of_the_page(scope) or path == "/v1/session/open":
            return None
        if session is None:
            return None if path in SESSION_PATHS else _signed_out()
        if proves_its_page(scope, headers, session.csrf):
            return None
        return Refusal(403, "denied", "X-CSRF-Token is missing or not this session's", "reload")

    def _session(self, scope: Scope, headers: Headers) -> ConsoleSession | None:
        secret = self._cookie.read(headers.get("cookie", []))
        quiet = parse_qs(scope["query_string"].decode("latin-1")).get("quiet") == ["1"]
        return self._sessions.find(secret, quiet=quiet) if secret else None


def _signed_out() -> Refusal:
    return Refusal(401, "denied", "nobody is signed in here", _LINK)


# -- the application ------------------------------------------------------------------------------


def application(silo: SiloFolder, sessions: ConsoleSessions, who: OsUser, port: int) -> FastAPI:
    """The console of ``silo`` for ``who``, served on ``port`` of this machine."""
    # Cookies do not know ports: consoles of several silos must not sign each other out.
    cookie = Cookie(f"siloquy_silo_{port}", "/", secure=False, strict=True)
    service = FastAPI(title="Siloquy silo console", openapi_url=None, docs_url=None, redoc_url=None)
    # The last one added is passed first.
    service.add_middleware(ConsoleAuthentication, sessions=sessions, cookie=cookie)
    service.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    service.add_middleware(SecurityHeaders)
    add_errors(service)
    _add_session(service, silo, sessions, who, cookie)
    _add_silo(service, silo)
    _add_ledger(service, silo)
    _add_pause(service, silo, who)
    add_page(service)
    return service


def _add_session(
    service: FastAPI, silo: SiloFolder, sessions: ConsoleSessions, who: OsUser, cookie: Cookie
) -> None:
    def told(session: ConsoleSession | None) -> dict[str, Any]:
        shown = {"name": who.name, "shown": who.shown, "roles": [ROLE]}
        return {
            "site": "silo",
            "node": silo.card.node,
            "organisation": silo.card.organisation,
            "sign_in": "link",
            "provider": "",
            "person": shown if session else None,
            "csrf": session.csrf if session else "",
            "idle_s": int(IDLE_S),
        }

    @service.get("/v1/session")
    async def show(request: Request) -> JSONResponse:
        return JSONResponse(told(request.scope[SESSION]))

    @service.post("/v1/session/open")
    async def enter(body: OpenBody) -> JSONResponse:
        secret = sessions.enter(body.token)
        if secret is None:
            raise Unauthenticated("the link was used, replaced or is over ten minutes old", _LINK)
        reply = JSONResponse(told(sessions.find(secret)))
        reply.headers.append("Set-Cookie", cookie.given(secret, None))
        return reply

    @service.delete("/v1/session")
    async def leave(request: Request) -> Response:
        sessions.leave(cookie.read(request.headers.getlist("cookie")))
        reply = Response(status_code=204)
        reply.headers.append("Set-Cookie", cookie.given("", 0))
        return reply


def _add_silo(service: FastAPI, silo: SiloFolder) -> None:
    @service.get("/v1/silo")
    async def state() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(silo.state))

    @service.get("/v1/silo/documents")
    async def documents(
        q: Annotated[str, Query(max_length=MOST_FILTER_CHARACTERS)] = "",
        after: Annotated[str, Query(max_length=MOST_FILTER_CHARACTERS)] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    ) -> JSONResponse:
        return JSONResponse(to_json(await asyncio.to_thread(silo.documents, q, after, limit)))


def _add_ledger(service: FastAPI, silo: SiloFolder) -> None:
    one_at_a_time = asyncio.Lock()

    @service.get("/v1/silo/ledger")
    async def ledger(
        before: Annotated[int | None, Query(ge=1)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
        gateway: Annotated[str, Query(max_length=MOST_FILTER_CHARACTERS)] = "",
        document: Annotated[str, Query(max_length=MOST_FILTER_CHARACTERS)] = "",
        day: Annotated[str, Query(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = "",
    ) -> JSONResponse:
        wanted = AuditLogFilter(gateway, document, day)
        return JSONResponse(to_json(await asyncio.to_thread(silo.ledger, wanted, before, limit)))

    @service.post("/v1/silo/ledger/verify")
    async def verify(body: VerifyBody) -> JSONResponse:
        async with one_at_a_time:
            return JSONResponse(to_json(await asyncio.to_thread(silo.verify)))


def _add_pause(service: FastAPI, silo: SiloFolder, who: OsUser) -> None:
    @service.post("/v1/silo/pause")
    async def pause(body: PauseBody) -> JSONResponse:
        begun = await asyncio.to_thread(silo.pause, who.name, body.reason)
        _log.warning("paused silo=%s", silo.card.node)
        return JSONResponse({"paused": to_json(begun)})

    @service.delete("/v1/silo/pause")
    async def resume() -> JSONResponse:
        await asyncio.to_thread(silo.resume, who.name)
        _log.warning("resumed silo=%s", silo.card.node)
        return JSONResponse({"paused": None})


# -- serving --------------------------------------------------------------------------------------


async def serve_console(folder: Path, port: int, show: Callable[[str], None]) -> None:
    """Serve the console of the silo in ``folder`` until it is told to stop.

    port   of 127.0.0.1; 0 for a free one
    show   gets each one-time link: at the start, and whenever a line is typed
    """
    silo = SiloFolder(folder, now_ms)
    taken = bound(Listen("127.0.0.1", port))
    port, sessions = taken.getsockname()[1], ConsoleSessions()
    server = http_server(application(silo, sessions, os_user.at_this_machine(), port))

    def invite() -> None:
        show(f"http://127.0.0.1:{port}/#/open/{sessions.invite()}")

    await until_stopped(server.serve([taken]), _invite(server, invite))


async def _invite(server: uvicorn.Server, invite: Callable[[], None]) -> None:
    """Invite once the server listens, then at every line that is typed; never returns."""
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    invite()
    with _lines_typed(invite):
        await asyncio.Event().wait()


@contextlib.contextmanager
def _lines_typed(typed: Callable[[], None]) -> Iterator[None]:
    """Inside, ``typed`` is called for what is typed, where there is somebody to type."""
    loop = asyncio.get_running_loop()

    def read(source: int) -> None:
        if os.read(source, 4096):
            typed()
        else:
            loop.remove_reader(source)

    try:
        source = sys.stdin.fileno()
        loop.add_reader(source, read, source)
    except (OSError, ValueError, AttributeError):
        # No terminal and no pipe: for another link the console is run again.
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(source)
