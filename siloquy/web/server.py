"""A web server of this process, on a socket that is bound already."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn


def http_server(application: Any) -> uvicorn.Server:
    """A server of an ASGI application on sockets that are bound; it leaves signals alone."""
    import uvicorn

    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server
