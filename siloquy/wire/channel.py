"""The channel: one outbound WebSocket over TLS from a node to its hub, many requests at once.

Both ends may call. Frames are msgpack, size-limited; a request carries its deadline, a caller that
gives up cancels the work at the other end, and an end with too much to do answers ``busy``. Before
the first frame each end proves its rostered identity, bound to the TLS certificate in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from siloquy.codec import MAX_MESSAGE_BYTES, decode, encode, unpack
from siloquy.errors import (
    Busy,
    Incompatible,
    IntegrityError,
    PolicyDenied,
    SettingsError,
    SiloquyError,
    TimedOut,
    Unreachable,
    from_code,
)
from siloquy.settings import HubLink
from siloquy.trust import roster as rosters
from siloquy.trust.identity import MOST_NAME_CHARACTERS, Identity, check_card, sign, verify
from siloquy.trust.roster import SignedRoster
from siloquy.types import EncoderSpec, Member, NodeId

T = TypeVar("T")
Handler = Callable[[NodeId, bytes, float], Awaitable[bytes]]
"""Peer, body, seconds left -> reply; a SiloquyError goes back to the caller as itself."""

PROTOCOL_VERSION = 1
HANDSHAKE_TIMEOUT_S = 10.0
MOST_IN_FLIGHT = 64
BACKOFF_S = (0.2, 1.5)
# A line on which nothing at all came for so many ticks of its own clock is dead. Ticks, not time: a
# process that was stopped itself has not listened meanwhile.
TICK_S = 0.9
MOST_SILENT_TICKS = 4
# How long a closing line waits for its peer to hang up too.
CLOSE_TIMEOUT_S = 1.0
# How long a try to dial may take, once one has been seen to take a quarter of it or less.
LEAST_PATIENCE_S, MOST_PATIENCE_S = 3.0, 20.0
# Bytes that may wait to be sent; with more, the line is too slow and calls fail at once.
MOST_UNSENT_BYTES = 1024 * 1024
# The longest message of a peer that has not proven who it is; a proven hub's may be longer.
MOST_STEP_BYTES = 64 * 1024
MOST_DEADLINE_S = 3600.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_REQUEST, _REPLY, _ERROR, _CANCEL = range(4)
KINDS = ("request", "reply", "error", "cancel")
Direction = Literal["sent", "received"]
tap: Callable[[Direction, str, bytes], None] | None = None
"""Told of every message with its peer, while ``siloquy.watch.capture`` is open."""
_log = logging.getLogger(__name__)


class Pulse:
    """Whether anything came over a line lately: both ends say something every second."""

    def __init__(self, socket: Connection) -> None:
        self._heard = False
        received = socket.data_received

        def hear(data: bytes) -> None:
            self._heard = True
            received(data)

        # The library tells of whole messages alone, and one may take its time on a slow line.
        socket.data_received = hear  # type: ignore[method-assign]

    def beats(self) -> bool:
        """Whether there was a sign of life since the last call."""
        alive, self._heard = self._heard, False
        return alive


class Channel:
    """A proven connection to ``peer``: ``call`` it, and answer its calls while ``run`` runs."""

    def __init__(
        self,
        socket: Connection,
        peer: NodeId,
        handlers: Mapping[str, Handler],
        most_in_flight: int = MOST_IN_FLIGHT,
    ) -> None:
        self.peer = peer
        self.refused_frames = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._socket = socket
        self._handlers = handlers
        self._most_in_flight = most_in_flight
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._working: dict[int, asyncio.Task[None]] = {}
        self._pulse = Pulse(socket)

    async def call(self, method: str, body: bytes, timeout_s: float) -> bytes:
        """The peer's reply; Unreachable when none comes in ``timeout_s`` or the line breaks."""
        if self._socket.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            raise Unreachable(f"the line to {self.peer} is too slow: too much waits in it")
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        answered = False
        amount = int(min(timeout_s, MOST_DEADLINE_S) * 1000)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(_REQUEST, number, method, amount, body)
                result = await reply
                answered = True
                return result
        except TimeoutError:
            raise TimedOut(f"{self.peer} did not answer in {timeout_s:g} s") from None
        except ConnectionClosed:
            raise Unreachable(f"the line to {self.peer} broke") from None
        except SiloquyError:
            answered = True
            raise
        finally:
            self._waiting.pop(number, None)
            if not answered:
                self._cancel_remote(number)

    async def run(self) -> None:
        """Read frames until the line closes or falls silent; then fail what waits, stop what works.

        Any byte counts as a sign of life, so that a slow line is not taken for a dead one.
        """
        watch = asyncio.create_task(self._watch())
        try:
            async for data in self._socket:
                self.bytes_in += len(data)
                if tap is not None:
                    tap("received", self.peer, data if isinstance(data, bytes) else data.encode())
                await self._receive(data)
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self.refused_frames += 1
                _log.warning("oversized frame refused peer=%s", self.peer)
        finally:
            watch.cancel()
            self._hang_up()

    async def close(self) -> None:
        """Close the line."""
        await self._socket.close()

    def drop(self) -> None:
        """Break the line off at once, without a word to a peer that may not be there any more."""
        self._socket.transport.abort()

    async def _watch(self) -> None:
        silent = 0
        while silent < MOST_SILENT_TICKS:
            await asyncio.gather(self._ping(), asyncio.sleep(TICK_S))
            silent = 0 if self._pulse.beats() else silent + 1
        _log.warning("line given up peer=%s: nothing came for %.1f s", self.peer, silent * TICK_S)
        self.drop()

    async def _ping(self) -> None:
        # A line that takes nothing any more must not hold up the count of its silence.
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._socket.ping()

    async def _receive(self, data: str | bytes) -> None:
        try:
            kind, number, name, amount, body = read_frame(data)
        except IntegrityError:
            self.refused_frames += 1
            _log.warning("malformed frame refused peer=%s bytes=%d", self.peer, len(data))
            return
        if kind == _REQUEST:
            self._accept(number, name, amount / 1000, body)
        elif kind == _CANCEL:
            task = self._working.get(number)
            if task is not None:
                task.cancel()
        else:
            self._settle(kind, number, name, body)

    def _settle(self, kind: int, number: int, name: str, body: bytes) -> None:
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if kind == _REPLY:
            waiting.set_result(body)
            return
        # The last line is the hint: a message may have several.
        message, _, hint = body.decode("utf-8", "replace").rpartition("\n")
        waiting.set_exception(from_code(name, message, hint))

    def _accept(self, number: int, method: str, timeout_s: float, body: bytes) -> None:
        # Telling ``busy`` is work too: a peer that floods and never reads is told no more.
        if number in self._working or len(self._working) >= 2 * self._most_in_flight:
            self.refused_frames += 1
            return
        if len(self._working) >= self._most_in_flight:
            busy = Busy(f"more than {self._most_in_flight} requests at once")
            task = asyncio.create_task(self._fail(number, busy))
        else:
            task = asyncio.create_task(self._work(number, method, timeout_s, body))
        self._working[number] = task
        task.add_done_callback(lambda _: self._working.pop(number, None))

    async def _work(self, number: int, method: str, timeout_s: float, body: bytes) -> None:
        try:
            handler = self._handlers.get(method)
            if handler is None:
                raise Incompatible(f"unknown method {method[:40]!r}")
            async with asyncio.timeout(timeout_s):
                reply = await handler(self.peer, body, timeout_s)
            await self._send(_REPLY, number, "", 0, reply)
        except SiloquyError as error:
            await self._fail(number, error)
        except TimeoutError:
            await self._fail(number, TimedOut(f"{method} ran past its deadline"))
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - one bad request must not end the line
            # The type alone: a message of another library could quote what it was given.
            _log.error("%s failed peer=%s error=%s", method, self.peer, type(error).__name__)
            await self._fail(number, SiloquyError(f"{method} failed at the other end"))

    async def _fail(self, number: int, error: SiloquyError) -> None:
        text = f"{error.message}\n{error.hint}".encode("utf-8", "replace")
        with contextlib.suppress(ConnectionClosed):
            await self._send(_ERROR, number, error.code, 0, text)

    def _cancel_remote(self, number: int) -> None:
        async def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                await self._send(_CANCEL, number, "", 0, b"")

        task = asyncio.ensure_future(send())
        _background.add(task)
        task.add_done_callback(_background.discard)

    async def _send(self, kind: int, number: int, name: str, amount: int, body: bytes) -> None:
        data = msgpack.packb((kind, number, name, amount, body), use_bin_type=True)
        if len(data) > MAX_MESSAGE_BYTES:
            raise Incompatible(f"message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")
        self.bytes_out += len(data)
        if tap is not None:
            tap("sent", self.peer, data)
        await self._socket.send(data)

    def _hang_up(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unreachable(f"the line to {self.peer} broke"))
        for task in list(self._working.values()):
            task.cancel()


_background: set[asyncio.Task[None]] = set()


def read_frame(data: str | bytes) -> tuple[int, int, str, int, bytes]:
    """Kind, number, method or error code, deadline in ms and body; IntegrityError for others."""
    if isinstance(data, str):
        raise IntegrityError("a text frame")
    frame = unpack(data, "frame")
    if not isinstance(frame, list) or [type(part) for part in frame] != [int, int, str, int, bytes]:
        raise IntegrityError("a frame of other types")
    kind, number, name, amount, body = frame
    if kind not in (_REQUEST, _REPLY, _ERROR, _CANCEL) or not 0 <= amount <= 1000 * MOST_DEADLINE_S:
        raise IntegrityError("a frame out of range")
    return kind, number, name, amount, body


# -- handshake ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """A node's first word; ``card`` names it, ``enrolling`` says that it is not rostered yet."""

    protocol: int
    card: Member
    nonce: bytes
    enrolling: bool


@dataclass(frozen=True, slots=True)
class Challenge:
    """The hub's answer: its card, a nonce and its signature over both nonces and the TLS end."""

    card: Member
    nonce: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The node's signature over the same, its encoder and the roster that it holds."""

    signature: bytes
    encoder: EncoderSpec
    roster_version: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The hub accepts; ``roster`` is its current one, ``now`` its clock in Unix milliseconds."""

    roster: bytes
    now: int


@dataclass(frozen=True, slots=True)
class Step:
    """One handshake message; ``error`` is a code when the hub refuses."""

    error: str
    message: str
    hint: str
    body: bytes


@dataclass(frozen=True, slots=True)
class HubConnection:
    """A finished handshake at the node's end."""

    socket: ClientConnection
    hub: Member
    welcome: Welcome
    certificate: bytes


async def dial(
    link: HubLink,
    identity: Identity,
    encoder: EncoderSpec,
    roster: SignedRoster | None,
    *,
    hub_key: bytes | None = None,
    certificate_hash: bytes | None = None,
) -> HubConnection:
    """Connect to the hub and prove both identities.

    roster             the pinned one; None while enrolling, then ``hub_key`` must be given
    certificate_hash   SHA-256 that the hub's TLS certificate must have, where no file pins it
    """
    socket = await _open(link, certificate_hash)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await _introduce(socket, identity, encoder, roster, hub_key)
    except TimeoutError:
        await socket.close()
        raise Unreachable("the hub did not finish the handshake") from None
    except ConnectionClosed:
        raise Unreachable("the hub closed the line during the handshake") from None
    except BaseException:
        await socket.close()
        raise


async def _open(link: HubLink, certificate_hash: bytes | None) -> ClientConnection:
    host = _host(link.url)
    try:
        socket = await connect(
            link.url,
            ssl=_client_tls(link, pinned=certificate_hash is not None),
            proxy=True if link.proxy and host not in LOOPBACK else None,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
            open_timeout=HANDSHAKE_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
        )
    except ssl.SSLCertVerificationError as error:
        raise IntegrityError(
            f"the hub's TLS certificate is not the expected one: {error.verify_message}",
            "if the hub has a new certificate, enrol again with a fresh invitation",
        ) from None
    except (OSError, WebSocketException, TimeoutError, UnicodeError) as error:
        raise Unreachable(
            f"no hub at {link.url}: {type(error).__name__}",
            "is `siloquy hub serve` running, and does a proxy or firewall let port out?",
        ) from None
    if certificate_hash is not None and _peer_certificate_hash(socket) != certificate_hash:
        await socket.close()
        raise IntegrityError("the hub's TLS certificate is not the invitation's")
    return socket


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme == "wss" and parts.hostname and parts.port != 0:
            return parts.hostname
    except ValueError:
        pass
    raise SettingsError(f"hub.url is {url!r}", "use wss://HOST:PORT; plaintext is refused")


def _client_tls(link: HubLink, *, pinned: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=link.certificate or None)
    except OSError as error:
        raise SettingsError(
            f"hub.certificate {link.certificate!r} cannot be read: {type(error).__name__}",
            "name the PEM file of the hub's TLS certificate",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A node may pin the hub's own certificate, whoever issued it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def peer_certificate(socket: ClientConnection) -> bytes:
    """The hub's TLS certificate, DER."""
    tls = socket.transport.get_extra_info("ssl_object")
    certificate: bytes = tls.getpeercert(binary_form=True)
    return certificate


def _peer_certificate_hash(socket: ClientConnection) -> bytes:
    return hashlib.sha256(peer_certificate(socket)).digest()


async def _introduce(
    socket: ClientConnection,
    identity: Identity,
    encoder: EncoderSpec,
    roster: SignedRoster | None,
    hub_key: bytes | None,
) -> HubConnection:
    hello = encode(Hello(PROTOCOL_VERSION, identity.card, os.urandom(32), roster is None))
    await _say(socket, hello)
    answer = await _hear(socket)
    challenge = decode(Challenge, answer)
    _check_hub(challenge.card, roster, hub_key)
    transcript = _transcript(hello, challenge, _peer_certificate_hash(socket))
    verify(challenge.card.signing_key, "hub handshake", transcript, challenge.signature)
    signature = sign(identity.signing, "node handshake", transcript)
    version = roster.roster.version if roster is not None else 0
    await _say(socket, encode(Proof(signature, encoder, version)))
    welcome = decode(Welcome, await _hear(socket, MAX_MESSAGE_BYTES))
    return HubConnection(socket, challenge.card, welcome, peer_certificate(socket))


def _check_hub(card: Member, roster: SignedRoster | None, hub_key: bytes | None) -> None:
    known = card == roster.hub if roster is not None else card.signing_key == hub_key
    if not known:
        raise IntegrityError(
            "this hub is not the federation's",
            "its card is another one: do not connect, ask a founder",
        )


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A proven node at the hub's end of a handshake."""

    card: Member
    encoder: EncoderSpec
    enrolling: bool


async def welcome(
    socket: ServerConnection,
    identity: Identity,
    certificate_hash: bytes,
    roster: SignedRoster,
) -> Newcomer:
    """The node at the other end, proven; raises and tells it why when it may not join."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            newcomer = await _prove(socket, identity, certificate_hash, roster)
            reply = Welcome(rosters.to_bytes(roster), int(time.time() * 1000))
            await _say(socket, encode(reply))
            return newcomer
    except SiloquyError as error:
        await _tell(socket, Step(error.code, error.message, error.hint, b""))
        raise
    except TimeoutError:
        raise Unreachable("a node did not finish the handshake") from None


async def _prove(
    socket: ServerConnection, identity: Identity, certificate_hash: bytes, roster: SignedRoster
) -> Newcomer:
    data = await _hear(socket)
    hello = decode(Hello, data)
    if hello.protocol != PROTOCOL_VERSION:
        raise Incompatible(f"protocol {hello.protocol}, this hub speaks {PROTOCOL_VERSION}")
    check_card(hello.card)
    if not hello.enrolling and roster.member(hello.card.node) != hello.card:
        raise PolicyDenied(
            f"{hello.card.node} is rostered with other keys", "this node's keys are not its own"
        )
    challenge = Challenge(identity.card, os.urandom(32), b"")
    transcript = _transcript(data, challenge, certificate_hash)
    signature = sign(identity.signing, "hub handshake", transcript)
    await _say(socket, encode(Challenge(challenge.card, challenge.nonce, signature)))
    proof = decode(Proof, await _hear(socket))
    verify(hello.card.signing_key, "node handshake", transcript, proof.signature)
    check_encoder(proof.encoder, roster.roster.encoder)
    return Newcomer(hello.card, proof.encoder, hello.enrolling)


def check_encoder(own: EncoderSpec, federation: EncoderSpec) -> None:
    """Incompatible when vectors of ``own`` cannot be compared with the federation's."""
    if (own.sha256, own.dimension) != (federation.sha256, federation.dimension):
        name = own.name[:MOST_NAME_CHARACTERS]
        raise Incompatible(
            f"encoder {name} ({own.dimension} dimensions, {own.sha256[:12]}) differs from the "
            f"federation's {federation.name} ({federation.dimension}, {federation.sha256[:12]})",
            "set encoder.model to the federation's encoder and ingest again",
        )


def _transcript(hello: bytes, challenge: Challenge, certificate_hash: bytes) -> bytes:
    unsigned = encode(Challenge(challenge.card, challenge.nonce, b""))
    return b"".join(hashlib.sha256(part).digest() for part in (hello, unsigned, certificate_hash))


async def _say(socket: Connection, body: bytes) -> None:
    await _tell(socket, Step("", "", "", body))


async def _tell(socket: Connection, step: Step) -> None:
    data = encode(step)
    if tap is not None:
        tap("sent", "", data)
    await socket.send(data)


async def _hear(socket: Connection, most_bytes: int = MOST_STEP_BYTES) -> bytes:
    data = await socket.recv(decode=False)
    if tap is not None:
        tap("received", "", data)
    if len(data) > most_bytes:
        raise IntegrityError(f"handshake step of {len(data)} bytes, at most {most_bytes}")
    step = decode(Step, data)
    if step.error:
        raise from_code(step.error, step.message, step.hint)
    return step.body


# -- staying connected ----------------------------------------------------------------------------


class Uplink:
    """A node's line to its hub: dials, joins, serves, and dials again when it breaks.

    ``on_join`` is told the hub's current roster each time; what it raises closes the line.
    """

    def __init__(
        self,
        connect_once: Callable[[], Awaitable[HubConnection]],
        handlers: Mapping[str, Handler],
        on_join: Callable[[Channel, Welcome], Awaitable[None]],
    ) -> None:
        self._connect_once = connect_once
        self._handlers = handlers
        self._on_join = on_join
        self._channel: Channel | None = None
        self._up = asyncio.Event()
        self._patience_s = MOST_PATIENCE_S
        self.last_error: SiloquyError | None = None

    @property
    def connected(self) -> bool:
        """Whether the line stands and the hub was told who we are."""
        return self._up.is_set()

    async def wait(self, timeout_s: float) -> None:
        """Return once connected; the last error, or Unreachable, after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            raise self.last_error or Unreachable("the hub does not answer") from None

    async def call(self, method: str, body: bytes, timeout_s: float) -> bytes:
        """Call the hub; Unreachable while the line is down."""
        channel = self._channel
        if channel is None:
            raise Unreachable("the hub is not connected", "the node keeps trying to reconnect")
        return await channel.call(method, body, timeout_s)

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        delay = BACKOFF_S[0]
        while True:
            start = time.monotonic()
            try:
                await self._once()
                # A line that breaks as soon as it stands, such as to a twin's, is no success.
                if time.monotonic() - start > BACKOFF_S[1]:
                    delay = BACKOFF_S[0]
            except SiloquyError as error:
                self._note(error)
            except Exception as error:  # noqa: BLE001 - a full disk must not end the line for good
                # The type alone: a message of another library could quote what it was given.
                self._note(SiloquyError(f"it failed with {type(error).__name__}"))
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter only
            delay = min(delay * 2, BACKOFF_S[1])

    async def _dial(self) -> HubConnection:
        """Joined; a mute hub is given up sooner where joining was quick before.

        Without it a node hangs in a try made while the network was away, after it has come back.
        """
        start = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                joined = await self._connect_once()
        except TimeoutError:
            # Measured anew: the line may have become slower for good.
            self._patience_s = min(self._patience_s + 0.25, MOST_PATIENCE_S)
            raise Unreachable("the hub did not finish the handshake") from None
        wanted = 4 * (time.monotonic() - start)
        self._patience_s = min(max(wanted, LEAST_PATIENCE_S), MOST_PATIENCE_S)
        return joined

    def _note(self, error: SiloquyError) -> None:
        if self.last_error is None or self.last_error.message != error.message:
            _log.warning("hub line: %s. %s", error.message, error.hint)
        self.last_error = error

    async def _once(self) -> None:
        joined = await self._dial()
        channel = Channel(joined.socket, joined.hub.node, self._handlers)
        reader = asyncio.create_task(channel.run())
        try:
            self._channel = channel
            await self._on_join(channel, joined.welcome)
            self._up.set()
            self.last_error = None
            _log.info("joined hub=%s", joined.hub.node)
            await reader
        finally:
            self._up.clear()
            self._channel = None
            reader.cancel()
            await joined.socket.close()
