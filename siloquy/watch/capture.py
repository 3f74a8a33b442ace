"""The capture port: what a process receives and sends, as records that an attacker may study.

For evaluation on one machine alone: the records hold questions, passages and vectors, so ``serve``
refuses the port unless all traffic stays on loopback. Three layers are kept:

    frame    every message of the channel as it stands inside TLS, handshake included
    opened   what an envelope holds, at who sealed it (sent) and who opened it (received)
    http     bodies at the gateway's edge: questions in, answers out; no header, so no key, and
             nothing of sign-in
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import astuple, dataclass
from pathlib import Path
from time import time_ns
from typing import Any, BinaryIO, Literal

import msgpack

from siloquy.codec import decode
from siloquy.errors import IntegrityError, SettingsError, from_code
from siloquy.trust import roster as rosters
from siloquy.trust.roster import SignedRoster
from siloquy.types import (
    NodeId,
    Profile,
    ReleaseReply,
    ReleaseRequest,
    Role,
    SealedRequest,
    SearchRequest,
    SignedMessage,
)
from siloquy.watch.tracing import is_loopback
from siloquy.wire import channel as channels
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import CALLS, Verb
from siloquy.wire.channel import Direction, Step

ENVIRONMENT = "SILOQUY_CAPTURE"
FOLDER = "capture"
# Passwords and one-time links go in there.
SECRET_PATHS = ("/v1/session", "/v1/accounts")
_log = logging.getLogger(__name__)
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One message at one process.

    at_ns    Unix time
    peer     the other end, as far as it is known; empty during a handshake, an address for http
    kind     frame: "request gather", "reply gather", "error gather", "cancel gather", "step";
             opened: the envelope's kind, "sealed search" in sealed mode; http: method and path
    number   of the frame, or of the HTTP request; 0 for opened
    query    16 bytes of the question, where an opened envelope names it
    body     frame: the whole frame; opened: the value in msgpack; http: the bytes
    """

    node: NodeId
    role: Role
    at_ns: int
    direction: Direction
    peer: str
    layer: Literal["frame", "opened", "http"]
    kind: str
    number: int
    query: bytes
    body: bytes


# -- writing --------------------------------------------------------------------------------------


class Recorder:
    """Appends what it is told to the node's file; safe to share between threads."""

    def __init__(self, node: NodeId, role: Role, folder: Path) -> None:
        self._node = node
        self._role = role
        self._methods: dict[tuple[str, bool, int], str] = {}
        self._lock = threading.Lock()
        self._file = _open_private(folder / FOLDER / f"{node}.msgpack")

    def frame(self, direction: Direction, peer: str, data: bytes) -> None:
        """A frame or a step of the handshake, as it goes over the wire."""
        kind, number = self._name(direction, peer, data)
        self._write(direction, peer, "frame", kind, number, b"", data)

    def opened(self, direction: Direction, peer: str, kind: str, query: bytes, data: bytes) -> None:
        """What an envelope holds, at one of its ends."""
        self._write(direction, peer, "opened", kind, 0, query, data)

    def http(self, direction: Direction, peer: str, kind: str, number: int, data: bytes) -> None:
        """A body, or a part of one, at the gateway's edge."""
        self._write(direction, peer, "http", kind, number, b"", data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _name(self, direction: Direction, peer: str, data: bytes) -> tuple[str, int]:
        """The frame's kind with its method, which a reply does not repeat, and its number."""
        try:
            kind, number, method, _, _ = channels.read_frame(data)
        except IntegrityError:
            return ("malformed" if peer else "step"), 0
        word = channels.KINDS[kind]
        own = (direction == "sent") == (word in ("request", "cancel"))
        if word == "request":
            self._methods[peer, own, number] = method
        else:
            method = self._methods.get((peer, own, number), "")
        return f"{word} {method}".strip(), number

    def _write(
        self,
        direction: Direction,
        peer: str,
        layer: Literal["frame", "opened", "http"],
        kind: str,
        number: int,
        query: bytes,
        body: bytes,
    ) -> None:
        head = (self._node, self._role, time_ns(), direction, peer, layer, kind, number)
        record = Record(*head, query, body)
        packed = msgpack.packb(astuple(record), use_bin_type=True)
        with self._lock:
            self._file.write(len(packed).to_bytes(_LENGTH_BYTES, "big") + packed)
            self._file.flush()


def _open_private(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    except OSError as error:
        raise SettingsError(
            f"{ENVIRONMENT}: {path} cannot be written: {error.strerror}", "name another folder"
        ) from None


def start(
    node: NodeId, role: Role, host: str, environment: Mapping[str, str] = os.environ
) -> Recorder | None:
    """The recorder of this process when the environment asks for one, already connected.

    host   where this node's traffic goes: SettingsError unless it is this machine
    """
    folder = environment.get(ENVIRONMENT)
    if not folder:
        return None
    if not is_loopback(host):
        raise SettingsError(
            f"{ENVIRONMENT} is set, but {node} talks to {host!r}",
            "the capture port writes private data down and is for one machine; unset it",
        )
    recorder = Recorder(node, role, Path(folder))
    channels.tap, envelopes.tap = recorder.frame, recorder.opened
    _log.warning("CAPTURE IS ON: questions, passages and vectors are written to %s", folder)
    return recorder


def stop(recorder: Recorder | None) -> None:
    """Disconnect and close it."""
    channels.tap = envelopes.tap = None
    if recorder is not None:
        recorder.close()


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def edge(app: App, recorder: Recorder | None) -> App:
    """``app``, an ASGI application, with its bodies recorded; itself without a recorder."""
    if recorder is None:
        return app
    numbers = itertools.count(1)

    async def recorded(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(SECRET_PATHS):
            return await app(scope, receive, send)
        kind, number = f"{scope['method']} {scope['path']}", next(numbers)
        peer = (scope.get("client") or ("",))[0]

        async def heard() -> Message:
            message = await receive()
            if body := message.get("body"):
                recorder.http("received", peer, kind, number, body)
            return message

        async def told(message: Message) -> None:
            if body := message.get("body"):
                recorder.http("sent", peer, kind, number, body)
            await send(message)

        return await app(scope, heard, told)

    return recorded


# -- reading --------------------------------------------------------------------------------------


def read(path: Path) -> Iterator[Record]:
    """The records of one process, in order; one cut short when the process was killed is left."""
    with path.open("rb") as file:
        while len(prefix := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
            size = int.from_bytes(prefix, "big")
            packed = file.read(size)
            if len(packed) < size:
                return
            yield Record(*msgpack.unpackb(packed))


def read_all(folder: Path) -> Iterator[Record]:
    """The records of all processes that wrote below ``folder``, in order of time."""
    paths = sorted((folder / FOLDER).glob("*.msgpack"))
    return heapq.merge(*(read(path) for path in paths), key=lambda record: record.at_ns)


_OPENED: dict[str, type[Any]] = {
    "search": SearchRequest,
    "sealed search": SealedRequest,
    "release": ReleaseRequest,
    "passages": ReleaseReply,
    "profile": Profile,
}


def decode_frame(record: Record) -> object:
    """The message as its party can read it; None for a frame that carries none.

    frame    a value of the wire; an Envelope stays sealed, a SiloquyError is what was reported
    opened   what the envelope holds
    http     JSON data, or the text of a piece of an event stream
    """
    if record.layer == "opened":
        return decode(_OPENED[record.kind], record.body)
    if record.layer == "http":
        return _http(record.body)
    if record.kind == "step":
        return decode(Step, record.body)
    return _frame(record)


def _frame(record: Record) -> object:
    _, _, name, _, body = channels.read_frame(record.body)
    if record.kind.startswith("error"):
        message, _, hint = body.decode("utf-8", "replace").rpartition("\n")
        return from_code(name, message, hint)
    if not body:
        return None
    word, _, method = record.kind.partition(" ")
    call = CALLS.get(Verb(method)) if method in set(Verb) else None
    if call is None:
        return None
    if word == "request":
        return _message(call.request, body)
    return _message(call.reply, decode(SignedMessage, body).body if call.signed else body)


def _message(wanted: type[Any] | None, body: bytes) -> object:
    if wanted is SignedRoster:
        return rosters.from_bytes(body)
    return None if wanted is None else decode(wanted, body)


def _http(body: bytes) -> object:
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
