"""The caller's end of the line: who it is, whether it still listens, and streams to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import Request, Security
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive, Scope, Send

from siloquy.gateway.api.authentication import CALLER, STILL_IN, StillIn
from siloquy.gateway.sign_in.people import Requester
from siloquy.web.refusals import SIGNED_OUT, Unauthenticated

T = TypeVar("T")
# How often a question that is not streamed looks whether its caller is still signed in.
LOOK_EVERY_S = 10.0
_BEARER = HTTPBearer(
    scheme_name="key",
    description="A key that `siloquy gateway key add` made. Its name is the requester in the "
    "silos' ledgers. It has the roles clinician and evaluator. Without sign-in, this machine's own "
    "page and programs may leave it out and ask as `local`.",
    auto_error=False,
)


Key = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]


async def _visitor(request: Request, key: Key) -> Requester | None:
    """Who asks, as authentication found; the parameter is there for the OpenAPI document."""
    found: Requester | None = request.scope[CALLER]
    return found


async def _caller(request: Request, key: Key) -> Requester:
    """The same where only known callers pass."""
    found: Requester = request.scope[CALLER]
    return found


Caller = Annotated[Requester, Security(_caller)]
Visitor = Annotated[Requester | None, Security(_visitor)]


async def _always() -> bool:
    return True


def still_in(request: Request) -> StillIn:
    """Whether the session that the request came with goes on; a key's caller always stays."""
    found: StillIn = request.scope.get(STILL_IN, _always)
    return found


class EventStream(StreamingResponse):
    """Events as they come; the reading ends at once when the caller has gone."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self._events = events
        # Proxies that hold back small pieces would hold back sentences.
        super().__init__(events, headers={**headers, "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What ``work`` gives; it is cancelled, and None given, when the caller goes before.

    Unauthenticated when the caller's session ends before.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    out = asyncio.create_task(_signed_out(still_in(request)))
    try:
        await asyncio.wait({task, gone, out}, return_when=asyncio.FIRST_COMPLETED)
        if out.done() and not task.done():
            raise Unauthenticated(SIGNED_OUT.message, SIGNED_OUT.hint)
        return task.result() if task.done() else None
    finally:
        for part in (task, gone, out):
            part.cancel()
        await asyncio.gather(task, gone, out, return_exceptions=True)


def nobody() -> Response:
    """A reply that nobody reads."""
    return Response(status_code=400)


async def _signed_out(holds: StillIn) -> None:
    while await holds():  # noqa: ASYNC110 - sessions end in other processes too
        await asyncio.sleep(LOOK_EVERY_S)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
