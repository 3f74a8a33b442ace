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

from siloquy.generator.api.edge import REQUESTER

T = TypeVar("T")
_BEARER = HTTPBearer(
    scheme_name="key",
    description="A key that `siloquy gateway key add` made. Its name is the requester in the "
    "silos' ledgers. Without one, this machine's own page and programs ask as `local`.",
    auto_error=False,
)


async def _caller(
    request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
) -> str:
    """Who asks, as the gate found; the parameter is there for the OpenAPI document."""
    return str(request.scope[REQUESTER])


Caller = Annotated[str, Security(_caller)]


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
    """What ``work`` gives; it is cancelled, and None given, when the caller goes before."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


def nobody() -> Response:
    """A reply that nobody reads."""
    return Response(status_code=400)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
