"""What a chat completion says as it comes: server-sent events or one JSON reply to pieces. Pure.

Tolerant of what servers differ in: keep-alive comments, other fields, chunks without choices,
a missing ``[DONE]``. Strict where a word could be lost: an event that is no JSON ends the reply.
"""

from __future__ import annotations

import json
import re

from siloquy.errors import Busy, Incompatible, SettingsError, SiloquyError, TimedOut, Unreachable

_LINE_END = re.compile(rb"\r\n|\r(?!\Z)|\n")
_THOUGHTS = ("reasoning_content", "reasoning")
# What a server says is never repeated, but for these: it may say what it was sent.
_KNOWN_TYPES = frozenset(
    "api_error context_length_exceeded insufficient_quota invalid_request_error overloaded "
    "overloaded_error rate_limit_error rate_limit_exceeded server_error timeout validation".split()
)
_HINTS = {
    400: "the prompt may be longer than the model's context, or the server needs other options",
    401: "the key in model.key_file is missing, wrong or expired",
    403: "the key in model.key_file may not use this model",
    404: "check model.name and model.url: the base ends before /chat/completions, often in /v1",
    413: "the prompt is longer than the server takes: lower ask.k",
    422: "the prompt may be longer than the model's context, or the server needs other options",
}
_BUSY, _LATE, _SETTINGS = (429, 503, 529), (408, 504), (401, 403, 404, 405)


def refusal(status: int) -> SiloquyError:
    """The error that an HTTP ``status`` other than 200 stands for; 429 and 5xx pass by waiting."""
    message, hint = f"the model's endpoint answered with status {status}", _HINTS.get(status, "")
    if status in _BUSY:
        return Busy(message, "retry later")
    if status in _LATE:
        return TimedOut(message)
    if status in _SETTINGS:
        return SettingsError(message, hint)
    if 300 <= status < 400:
        return SettingsError(
            f"{message}, a redirect, which is not followed", "set model.url to the final address"
        )
    if 400 <= status < 500:
        return Incompatible(message, hint)
    return Unreachable(message, "see the log of the model's server")


def unreadable(what: str) -> Incompatible:
    """The error for a reply that is no chat completion, or too long for one."""
    return Incompatible(
        f"the model's endpoint sent {what}",
        "model.url must be the base of an OpenAI-compatible API",
    )


class ReplyStream:
    """The bytes of one reply to pieces of its text; empty pieces are thoughts.

    media_type   application/json for a server that does not stream; all else is read as events
    most_bytes, most_characters   Incompatible beyond them: the server was asked for less
    """

    def __init__(self, media_type: str, most_bytes: int, most_characters: int) -> None:
        self._events = None if media_type == "application/json" else Events()
        self._lines = Lines()
        self._body = bytearray()
        self._most_bytes = most_bytes
        self._most_characters = most_characters

    @property
    def ended(self) -> bool:
        """Whether the server has said that the reply is whole."""
        return self._events is not None and self._events.ended

    def add(self, data: bytes) -> list[str]:
        """The pieces that ``data`` completes."""
        self._most_bytes -= len(data)
        if self._most_bytes < 0:
            raise unreadable("far more than it was asked for")
        if self._events is None:
            self._body += data
            return []
        return self._read(self._lines.add(data))

    def end(self) -> list[str]:
        """The last pieces; Unreachable when the reply broke off."""
        if self._events is None:
            return self._counted([whole(bytes(self._body))])
        pieces = self._read(self._lines.end())
        if not self.ended:
            raise Unreachable("the reply of the model's endpoint broke off")
        return pieces

    def _read(self, lines: list[bytes]) -> list[str]:
        events = self._events or Events()
        return self._counted([piece for line in lines if (piece := events.read(line)) is not None])

    def _counted(self, pieces: list[str]) -> list[str]:
        self._most_characters -= sum(map(len, pieces))
        if self._most_characters < 0:
            raise unreadable("far more than it was asked for")
        return pieces


class Lines:
    r"""Bytes cut into lines, whole ones only.

    >>> lines = Lines()
    >>> lines.add(b"data: a\r\ndata"), lines.add(b": b\n")
    ([b'data: a'], [b'data: b'])
    """

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        return lines

    def end(self) -> list[bytes]:
        """What stands after the last line end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []


class Events:
    """Lines of server-sent events to pieces of the reply.

    ``ended`` is true once the server has said that the reply is whole.
    """

    def __init__(self) -> None:
        self.ended = False

    def read(self, line: bytes) -> str | None:
        """The piece on ``line``, empty for a thought, None when it holds nothing of the reply."""
        if self.ended or not line.startswith(b"data:"):
            return None
        data = line[len(b"data:") :].strip()
        if data == b"[DONE]":
            self.ended = True
        if not data or self.ended:
            return None
        choice = _choice(_object(data))
        if choice.get("finish_reason") == "error":
            raise _failed({})
        self.ended = bool(choice.get("finish_reason"))
        return _piece(choice.get("delta"))


def whole(body: bytes) -> str:
    """The reply of a server that does not stream."""
    choice = _choice(_object(body))
    message = choice.get("message")
    if not isinstance(message, dict):
        raise unreadable("a reply without a message")
    return _text(message.get("content"))


def _object(data: bytes) -> dict[str, object]:
    """The JSON object in ``data``; the error that it reports is raised."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise unreadable("an event that is no JSON") from None
    if not isinstance(value, dict):
        raise unreadable("an event that is no JSON object")
    error = value if value.get("object") == "error" else value.get("error")
    if error:
        raise _failed(error)
    return value


def _failed(error: object) -> SiloquyError:
    """The error for an error object in place of a reply."""
    detail = error if isinstance(error, dict) else {}
    code, kind = detail.get("code"), detail.get("type")
    if type(code) is int and 400 <= code < 600:
        return refusal(code)
    known = next((word for word in (code, kind) if _is_known(word)), "of no known type")
    if str(known).startswith("rate_limit"):
        return Busy("the model's endpoint is over its rate limit", "retry later")
    return Unreachable(f"the model's endpoint reported an error ({known})")


def _is_known(word: object) -> bool:
    return isinstance(word, str) and word in _KNOWN_TYPES


def _choice(reply: dict[str, object]) -> dict[str, object]:
    """The first choice; empty when there is none, as in a chunk that counts tokens."""
    choices = reply.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("index", 0) == 0:
            return choice
    return {}


def _piece(delta: object) -> str | None:
    if not isinstance(delta, dict):
        return None
    text = _text(delta.get("content"))
    thinks = any(delta.get(key) for key in _THOUGHTS)
    return text if text or thinks else None


def _text(content: object) -> str:
    """``content`` with half characters, which JSON can hold and UTF-8 cannot, made whole."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        return ""
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
