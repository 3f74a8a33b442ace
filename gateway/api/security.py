"""What the OpenAPI document says of who may call: with a key, with a session, or anybody."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from siloquy.gateway.api.permissions import KEYED_PATHS, needed
from siloquy.gateway.sign_in.authenticator import Authenticator


def state_security(service: FastAPI, authenticator: Authenticator, *, require_key: bool) -> None:
    """Let the OpenAPI document say where a key may be left out, and what stands in for it."""
    made = service.openapi

    def stated() -> dict[str, Any]:
        document = made()
        sessions = not authenticator.open_to_all
        if sessions:
            document["components"]["securitySchemes"]["session"] = _session(authenticator)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if "security" in operation and not require_key:
                    operation["security"] = _ways(method, path, sessions=sessions)
        return document

    service.openapi = stated  # type: ignore[method-assign]


def _session(authenticator: Authenticator) -> dict[str, str]:
    return {
        "type": "apiKey",
        "in": "cookie",
        "name": authenticator.session_cookie.name,
        "description": "The session of somebody who signed in on the page. What changes something "
        "also needs the header X-CSRF-Token, with `csrf` of GET /v1/session.",
    }


def _ways(method: str, path: str, *, sessions: bool) -> list[dict[str, list[str]]]:
    """Each of them is enough."""
    ways: list[dict[str, list[str]]] = [{"key": []}]
    if path.startswith(KEYED_PATHS):
        return ways
    if sessions:
        ways.append({"session": []})
    anybody = not sessions or needed(method.upper(), path) == "nothing"
    return [*ways, {}] if anybody else ways
