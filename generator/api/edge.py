"""What every request passes first: security headers, origin, key, and a body of bounded size.

Plain ASGI: a middleware that wraps replies would stand between a reader and its event stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from siloquy.generator.api.api_keys import Attempts, Keys
from siloquy.generator.api.refusals import DEFECT, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Mapping[str, list[str]]
Check = Callable[[Scope, Headers], Refusal | None]

REQUESTER = "siloquy.requester"
LOCAL = "local"
MOST_BODY_BYTES = 64 * 1024
MOST_CHAT_BYTES = 256 * 1024
BODY_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 20.0
# Open to all who reach the port: they tell nothing of questions, answers and silos.
OPEN_PATHS = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")
OPEN_FOLDER = "/ui/"
# Programs made for the OpenAI API always have a key; pages elsewhere must never pass for one.
KEYED_PATHS = ("/v1/chat/", "/v1/models")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_OWN_NAMES = {name for name, _ in _RAW_HEADERS}
_log = logging.getLogger(__name__)


class SlowReader(Exception):
    """The reader has taken nothing for too long; it is let go, and may come back."""


class Guarded:
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
                message = {**message, "headers": [*others, *_RAW_HEADERS]}
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


class Gate:
    """The application behind its checks; what passes knows who asks, and has all its body."""

    def __init__(self, app: App, keys: Keys, *, require_key: bool) -> None:
        self._app = app
        self._keys = keys
        self._require_key = require_key
        self._attempts = Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        got = await admitted(scope, receive, self._check_key)
        if isinstance(got, Refusal):
            await refuse(got, scope, send)
        else:
            await self._app(scope, got, send)

    def _check_key(self, scope: Scope, headers: Mapping[str, list[str]]) -> Refusal | None:
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        given = headers.get("authorization", [])
        if given:
            scheme, _, key = given[0].partition(" ")
            known = self._keys.requester(key.strip()) if len(given) == 1 else None
            if known is None or scheme.lower() != "bearer":
                return self._wrong()
            scope[REQUESTER] = known
            return None
        if self._require_key or path.startswith(KEYED_PATHS):
            return _unauthorised("an API key is needed", {})
        scope[REQUESTER] = LOCAL
        return None

    def _wrong(self) -> Refusal:
        wait_s = self._attempts.failed()
        if wait_s is None:
            return _unauthorised("the API key is not known", {})
        return Refusal(
            429,
            "busy",
            "too many wrong API keys",
            "use a key that `siloquy gateway key add` made",
            {"Retry-After": str(wait_s)},
        )


def _unauthorised(message: str, headers: dict[str, str]) -> Refusal:
    hint = "send `Authorization: Bearer KEY`, with a key that `siloquy gateway key add` made"
    return Refusal(401, "denied", message, hint, {"WWW-Authenticate": "Bearer", **headers})


async def admitted(scope: Scope, receive: Receive, check_caller: Check) -> Receive | Refusal:
    """A ``receive`` with the whole body, or why the request may not go on.

    check_caller   asked after the origin, before anything of the body is read
    """
    headers = _headers(scope)
    refused = _check_origin(scope, headers) or check_caller(scope, headers)
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


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


# -- who may ask from a browser -------------------------------------------------------------------


def _check_origin(scope: Scope, headers: Mapping[str, list[str]]) -> Refusal | None:
    """A refusal of what another site's page sends.

    Browsers say in Sec-Fetch-Site how page and gateway relate, and no page can write it; it holds
    behind a reverse proxy too, where the origin's name is the proxy's.
    """
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return None
    if site := headers.get("sec-fetch-site"):
        own = site in (["same-origin"], ["none"])
    else:
        hosts = headers.get("host", [])
        own = all(urlsplit_host(origin) in hosts for origin in headers.get("origin", []))
    if own:
        return None
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
    most = MOST_CHAT_BYTES if scope["path"].startswith("/v1/chat/") else MOST_BODY_BYTES
    told = headers.get("content-length", ["0"])[0]
    if told.isdecimal() and int(told) > most:
        return _too_large(most)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read(receive, most)
    except TimeoutError:
        message = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
        return Refusal(408, "timeout", message, "send it at once", {"Connection": "close"})


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
