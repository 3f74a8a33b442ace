"""Every error of an application in one shape, none quoting what the caller sent."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from siloquy.errors import SiloquyError
from siloquy.web.refusals import Refusal, refusal


def add_errors(service: FastAPI) -> None:
    """Reply to errors with ``{"error": {"code", "message", "hint"}}``."""

    @service.exception_handler(SiloquyError)
    async def refused(request: Request, error: SiloquyError) -> JSONResponse:
        return _reply(request, refusal(error))

    @service.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # Fields and rules only: the value got may be the question.
        told = "; ".join(f"{_field(item['loc'])}: {item['msg']}" for item in error.errors())
        message = f"malformed request: {told[:1000]}"
        return _reply(request, Refusal(400, "usage", message, "see docs/operations.md"))

    @service.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return _reply(request, Refusal(error.status_code, "usage", str(error.detail)))


def _reply(request: Request, told: Refusal) -> JSONResponse:
    body = told.plain(request.url.path)
    return JSONResponse(body, status_code=told.status, headers=told.headers)


def _field(location: Sequence[object]) -> str:
    """A field's path; a name that the caller made up is cut and kept to ASCII."""
    parts = [str(part)[:64].encode("ascii", "replace").decode() for part in location[1:]]
    return ".".join(parts) or "body"
