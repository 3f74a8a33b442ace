"""How the API says no: HTTP status, headers and body of an error, in the shape its path speaks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from siloquy.errors import Busy, PolicyDenied, SiloquyError, UsageError

STATUS = {
    "usage": 400,
    "denied": 403,
    "budget": 429,
    "busy": 429,
    "incompatible": 409,
    "integrity": 502,
    "unreachable": 503,
    "storage": 503,
    "timeout": 504,
    "settings": 500,
}
# Paths whose callers expect the errors of the OpenAI API.
OPENAI_PATHS = ("/v1/chat/", "/v1/models")
_OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class Overloaded(Busy):
    """Too many questions wait already; ``retry_after_s`` is when it is worth another try."""

    def __init__(self, message: str, hint: str, retry_after_s: int) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class Occupied(Busy):
    """The conversation still waits for its last answer."""


class NotFound(UsageError):
    """There is no such thing, or it is another requester's."""


class Unauthenticated(PolicyDenied):
    """Nobody knows who asks: they have not signed in, or not with the right words."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as HTTP tells it; no header and no text repeats what was sent."""

    status: int
    code: str
    message: str
    hint: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, path: str) -> bytes:
        """JSON in the shape that callers of ``path`` read."""
        return json.dumps(self.plain(path)).encode()

    def plain(self, path: str) -> dict[str, dict[str, str | None]]:
        """The same as plain data."""
        if path.startswith(OPENAI_PATHS):
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
            text = f"{self.message} ({self.hint})" if self.hint else self.message
            told = {"message": text, "type": _OPENAI_TYPES.get(self.status, kind)}
            return {"error": {**told, "param": None, "code": self.code}}
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


def refusal(error: SiloquyError) -> Refusal:
    """What HTTP tells of an error that was raised on purpose."""
    status = STATUS.get(error.code, 500)
    headers = {}
    if isinstance(error, Occupied):
        status = 409
    elif isinstance(error, NotFound):
        status = 404
    elif isinstance(error, Unauthenticated):
        status = 401
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, Busy):
        after_s = error.retry_after_s if isinstance(error, Overloaded) else 1
        headers["Retry-After"] = str(after_s)
    return Refusal(status, error.code, error.message, error.hint, headers)


DEFECT = Refusal(500, "error", "something went wrong in the gateway", "see its log")
SIGNED_OUT = Refusal(401, "denied", "signed out", "sign in and ask again")
CANCELLED = Refusal(409, "error", "the question was cancelled", "ask again")
