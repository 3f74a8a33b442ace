"""Applications on a port of loopback, in a thread of their own, for tests that drive a browser."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
# Of one connection alone, not of what is told over it.
OF_A_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


@dataclass(frozen=True, slots=True)
class Served:
    """Where it listens, and the loop that it runs in."""

    url: str
    loop: asyncio.AbstractEventLoop


@contextlib.contextmanager
def in_thread(app: Any, port: int = 0) -> Iterator[Served]:
    """``app`` on a port; it ends with the block."""
    loop = asyncio.new_event_loop()
    with contextlib.closing(socket.socket()) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))

        def serve() -> None:
            # Its end cancels what still runs, and closes the loop.
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(server.serve([bound]))

        thread = threading.Thread(target=serve)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield Served(f"http://127.0.0.1:{bound.getsockname()[1]}/", loop)
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def under(path: str, gateway_url: str) -> Starlette:
    """A reverse proxy as a hospital has one: the gateway under ``path``, streams passed on."""

    async def passed(request: Request) -> StreamingResponse:
        headers = {k: v for k, v in request.headers.items() if k not in OF_A_HOP}
        body = await request.body()
        inner = "/" + request.path_params["rest"]
        http = httpx.AsyncClient(base_url=gateway_url, trust_env=False, timeout=60)
        asked = http.build_request(
            request.method, inner, params=request.query_params, headers=headers, content=body
        )
        reply = await http.send(asked, stream=True)

        async def told() -> AsyncIterator[bytes]:
            try:
                async for piece in reply.aiter_raw():
                    yield piece
            finally:
                await http.aclose()

        kept = [(k, v) for k, v in reply.headers.multi_items() if k not in OF_A_HOP]
        response = StreamingResponse(told(), reply.status_code)
        response.raw_headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in kept]
        return response

    return Starlette(routes=[Route(path + "/{rest:path}", passed, methods=METHODS)])
