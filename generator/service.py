"""The gateway's HTTP face: ask, retrieve, and a plain page. Loopback only.

Other people on a site reach it through a reverse proxy that signs them in; until the gateway
has sign-in of its own it refuses to listen elsewhere.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from siloquy.codec import to_json
from siloquy.errors import SettingsError, SiloquyError
from siloquy.types import Answer, Mode, Query, Unit

_log = logging.getLogger(__name__)
UI = Path(__file__).resolve().parent / "ui"
STATUS = {
    "usage": 400,
    "denied": 403,
    "budget": 429,
    "busy": 429,
    "incompatible": 409,
    "integrity": 502,
    "unreachable": 503,
    "timeout": 504,
    "settings": 500,
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Asking(Protocol):
    """The gateway behind the page."""

    async def ask(self, query: Query, options: AskOptions) -> Answer:
        """The whole answer."""
        ...

    async def retrieve(self, query: Query, options: AskOptions) -> object:
        """The evidence alone."""
        ...

    def status(self) -> object:
        """Hub line and silos."""
        ...


class AskOptions(BaseModel):
    """How one question is asked; what is left out is the gateway's setting."""

    model_config = ConfigDict(extra="forbid")

    route: Literal["auto", "all"] | None = None
    k: int | None = Field(default=None, ge=1, le=100)
    unit: Unit = "passage"
    mode: Mode = "open"
    rescore: bool = True


class AskBody(AskOptions):
    """Body of ``POST /v1/ask`` and ``/v1/retrieve``."""

    question: str
    purpose: str = "treatment"

    def query(self) -> Query:
        """The question as the gateway takes it."""
        return Query(text=self.question, purpose=self.purpose)

    def options(self) -> AskOptions:
        """The rest."""
        return AskOptions(**self.model_dump(exclude={"question", "purpose"}))


def check_loopback(host: str) -> None:
    """SettingsError unless ``host`` is this machine alone."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SettingsError(
            f"listen.host is {host!r}; the gateway has no sign-in yet and serves this machine only",
            "listen on 127.0.0.1 and put a reverse proxy with TLS and sign-in in front",
        )


def app(gateway: Asking) -> FastAPI:
    """The HTTP application around ``gateway``."""
    service = FastAPI(title="Siloquy gateway", docs_url=None, redoc_url=None)
    service.add_middleware(
        TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "::1"]
    )

    @service.middleware("http")
    async def secure(request: Request, call_next: Any) -> Response:
        try:
            response: Response = await call_next(request)
        except Exception as error:  # noqa: BLE001 - a defect answers in the same shape
            # The type alone: a library's message may quote what it was given.
            _log.error("defect in %s: %s", request.url.path, type(error).__name__)
            response = _error(500, "error", "something went wrong in the gateway", "see its log")
        response.headers.update(HEADERS)
        return response

    _add_errors(service)
    _add_routes(service, gateway)
    return service


def _add_errors(service: FastAPI) -> None:
    """Every error in one shape, none quoting what it was given."""

    @service.exception_handler(SiloquyError)
    async def refused(request: Request, error: SiloquyError) -> JSONResponse:
        return _error(STATUS.get(error.code, 500), error.code, error.message, error.hint)

    @service.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # Fields and rules only: the value got may be the question.
        told = "; ".join(f"{_field(item['loc'])}: {item['msg']}" for item in error.errors())
        return _error(400, "usage", f"malformed request: {told}", "see docs/operations.md")

    @service.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, "usage", str(error.detail), "")


def _add_routes(service: FastAPI, gateway: Asking) -> None:
    @service.post("/v1/ask")
    async def ask(body: AskBody) -> JSONResponse:
        return JSONResponse(to_json(await gateway.ask(body.query(), body.options())))

    @service.post("/v1/retrieve")
    async def retrieve(body: AskBody) -> JSONResponse:
        return JSONResponse(to_json(await gateway.retrieve(body.query(), body.options())))

    @service.get("/v1/status")
    async def status() -> JSONResponse:
        return JSONResponse(to_json(gateway.status()))

    @service.get("/healthz")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @service.get("/")
    async def page() -> FileResponse:
        return FileResponse(UI / "index.html")

    service.mount("/ui", StaticFiles(directory=UI))


def _field(location: Sequence[object]) -> str:
    return ".".join(str(part) for part in location[1:] if part != "__root__") or "body"


def _error(status: int, code: str, message: str, hint: str) -> JSONResponse:
    return JSONResponse(
        {"error": {"code": code, "message": message, "hint": hint}}, status_code=status
    )
