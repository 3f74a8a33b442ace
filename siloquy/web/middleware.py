"""Middleware, which every request passes first: security headers, origin, a body of bounded size.

Plain ASGI: a middleware that wraps replies would stand between a reader and its event stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from siloquy.web.refusals import DEFECT, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Mapping[str, list[str]]
Check = Callable[[Scope, Headers], Refusal | None]

# Every other path is the page's.
API_PATHS = "/v1/"
# They change nothing, so that whoever sends them needs to prove less.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MOST_BODY_BYTES = 64 * 1024
# Chats carry their history, receipts the answer that they are of.
MOST_BYTES = {"/v1/chat/": 256 * 1024, "/v1/receipts/check": 1024 * 1024}
BODY_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 20.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# The page's files carry a hash of themselves in their names; nothing else may be kept by a browser.
PAGE_FILES = "/ui/"
_FOR_EVER = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_RAW_HEADERS, _RAW_FOR_EVER = _raw(HEADERS), _raw(_FOR_EVER)
_OWN_NAMES = {name for name, _ in _RAW_HEADERS}
_log = logging.getLogger(__name__)


class SlowReader(Exception):
    """The reader has taken nothing for too long; it is let go, and may come back."""


class SecurityHeaders:
    """The application with security headers on every reply, and defects that tell nothing."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._not_http(scope, receive, send)
            return
        started = False

        async def patient(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                others = [item for item in message["headers"] if item[0].lower() not in _OWN_NAMES]
                kept = message["status"] == 200 and scope["path"].startswith(PAGE_FILES)
                own = _RAW_FOR_EVER if kept else _RAW_HEADERS
                message = {**message, "headers": [*others, *own]}
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send(message)
            except TimeoutError:
                raise SlowReader from None

        try:
            await self._app(scope, receive, patient)
        except SlowReader:
            _log.info("a reader of %s was too slow", route_of(scope))
        except Exception as error:  # noqa: BLE001 - a defect answers in the same shape
            # The type alone: a library's message may quote what it was given.
            _log.error("defect in %s: %s", route_of(scope), type(error).__name__)
            if not started:
                await refuse(DEFECT, scope, patient)

    async def _not_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the server start and stop the application; refuse WebSockets."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close"})


async def admitted(scope: Scope, receive: Receive, check_caller: Check) -> Receive | Refusal:
    """A ``receive`` with the whole body, or why the request may not go on.

    check_caller   asked after the origin, before anything of the body is read
    """
    headers = headers_of(scope)
    refused = check_origin(scope, headers) or check_caller(scope, headers)
    refused = refused or _check_kind(scope, headers)
    if refused is not None:
        return refused
    got = await _body(scope, headers, receive)
    return got if isinstance(got, Refusal) else _replayed(got, receive)


def route_of(scope: Scope) -> str:
    """Where a request went, for logs: what a caller put into the path is left out."""
    route = scope.get("route")
    return str(getattr(route, "path", "a request"))


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Send a refusal."""
    body = refusal.body(scope["path"])
    own = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    headers = [(name.lower().encode(), value.encode()) for name, value in own.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def headers_of(scope: Scope) -> dict[str, list[str]]:
    """All values of each header, by its name in lower case."""
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


# -- who may ask from a browser -------------------------------------------------------------------


def check_origin(scope: Scope, headers: Mapping[str, list[str]]) -> Refusal | None:
    """A refusal of what another site's page sends.

    Browsers say in Sec-Fetch-Site how page and gateway relate, and no page can write it; it holds
    behind a reverse proxy too, where the origin's name is the proxy's.
    """
    if scope["method"] in SAFE_METHODS:
        return _check_reading(scope, headers)
    if site := headers.get("sec-fetch-site"):
        own = site in (["same-origin"], ["none"])
    else:
        hosts = headers.get("host", [])
        own = all(urlsplit_host(origin) in hosts for origin in headers.get("origin", []))
    return None if own else _not_from_there()


def _check_reading(scope: Scope, headers: Mapping[str, list[str]]) -> Refusal | None:
    """A refusal of a GET by which another site's page could measure what it may not read.

    A person whom a link or the sign-in's provider leads here has the whole page before them.
    """
    site = headers.get("sec-fetch-site", ["none"])
    led = [headers.get(f"sec-fetch-{name}") for name in ("mode", "dest")]
    if site in (["same-origin"], ["none"]) or led == [["navigate"], ["document"]]:
        return None
    return _not_from_there() if scope["path"].startswith(API_PATHS) else None


def _not_from_there() -> Refusal:
    return Refusal(403, "denied", "a page of another site may not ask here", "use the own page")


def urlsplit_host(origin: str) -> str:
    """Host and port of an origin; empty when it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


# -- bodies ---------------------------------------------------------------------------------------


def _check_kind(scope: Scope, headers: Mapping[str, list[str]]) -> Refusal | None:
    """A refusal of a body that is no JSON by its header: forms of other sites can send those."""
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return None
    kinds = headers.get("content-type", [])
    kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
    if kind == "application/json":
        return None
    return Refusal(400, "usage", "the body must be JSON", "send Content-Type: application/json")


async def _body(
    scope: Scope, headers: Mapping[str, list[str]], receive: Receive
) -> bytes | Refusal:
    most = _most_bytes(scope["path"])
    told = headers.get("content-length", ["0"])[0]
    if told.isdecimal() and int(told) > most:
        return _too_large(most)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read(receive, most)
    except TimeoutError:
        message = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
        return Refusal(408, "timeout", message, "send it at once", {"Connection": "close"})


def _most_bytes(path: str) -> int:
    larger = [most for folder, most in MOST_BYTES.items() if path.startswith(folder)]
    return larger[0] if larger else MOST_BODY_BYTES


async def _read(receive: Receive, most: int) -> bytes | Refusal:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Refusal(400, "usage", "the request ended before its body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            return _too_large(most)
    return bytes(body)


def _too_large(most: int) -> Refusal:
    message = f"the body is larger than {most // 1024} KiB"
    return Refusal(413, "usage", message, "shorten the question", {"Connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body as one message, then what the server says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
