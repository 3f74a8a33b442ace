"""The hub: relays sealed questions to silos, merges their candidates, writes tickets.

It is sent no question, vector, passage or readable profile; what it cannot verify it refuses.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from siloquy.aggregator.merge import merge
from siloquy.aggregator.registry import Registry
from siloquy.aggregator.sealing import Best, SealingSessions, merge_sealed
from siloquy.codec import MAX_MESSAGE_BYTES, decode, encode
from siloquy.errors import (
    IntegrityError,
    PolicyDenied,
    SiloquyError,
    StorageFailed,
    Unreachable,
)
from siloquy.settings import HubSettings
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT, TICKET_CONTEXT, Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.types import (
    Handle,
    Hit,
    Member,
    MergeReply,
    Missing,
    NodeId,
    QueryId,
    SearchReply,
    SignedMessage,
    Ticket,
    Winner,
)
from siloquy.watch.metric_parts import OK, timing
from siloquy.watch.metrics import HubMonitor
from siloquy.watch.tracing import span
from siloquy.wire import channel as channels
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import (
    HANDLE_BYTES,
    MOST_HITS,
    TAG_BYTES,
    Collect,
    Enrolment,
    Gather,
    Profiles,
    Verb,
)
from siloquy.wire.channel import CLOSE_TIMEOUT_S, Channel, Handler
from siloquy.wire.envelope import Header

TICKET_LIFETIME_MS = 60_000
ENROLMENT_TIMEOUT_S = 30.0
# A BM25 may be above the ceiling by this share: silos add up in single precision.
CEILING_TOLERANCE = 1e-3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SiloReply:
    """What one silo said, or why nothing usable came."""

    silo: NodeId
    ms: float
    signed: SignedMessage | None = None
    reply: SearchReply | None = None
    missing: Missing | None = None
    reply_bytes: int = 0
    best: Best | None = None


class HubNode:
    """The hub's work, apart from sockets: ``lines`` are the proven channels by node."""

    def __init__(
        self,
        identity: Identity,
        pinned: PinnedRoster,
        registry: Registry,
        clock: Callable[[], int],
        monitor: HubMonitor | None = None,
    ) -> None:
        self.identity = identity
        self.pinned = pinned
        self.registry = registry
        self.lines: dict[NodeId, Channel] = {}
        self.clock = clock
        self.monitor = monitor or HubMonitor()
        self.sessions = SealingSessions(identity, clock)

    def handlers(self, card: Member, *, enrolling: bool) -> Mapping[str, Handler]:
        """What a proven peer may call, by its role."""
        if enrolling:
            return {Verb.ENROL: self._enrol_handler(card)}
        if card.role == "silo":
            return {Verb.PUBLISH: self._publish}
        if card.role == "gateway":
            return {
                Verb.GATHER: self._gather,
                Verb.COLLECT: self._collect,
                Verb.PROFILES: self._profiles,
                Verb.SEALING_KEY: self._sealing_key,
            }
        return {}

    # -- gateways -------------------------------------------------------------------------------

    async def _gather(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        with timing(self.monitor.gathered):
            envelope = decode(Gather, body).envelope
            header = self._check(envelope, peer, "search")
            with span("gather", QueryId(header.id), silos=len(header.recipients)) as note:
                heard = await self._ask_all(header, envelope, 0.9 * timeout_s)
                merged = self._merged(header, heard, len(envelope))
                note.add(winners=len(merged.winners), missing=len(merged.silence))
                return encode(merged)

    async def _collect(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        with timing(self.monitor.collected):
            request = decode(Collect, body)
            header = self._check(request.envelope, peer, "release")
            if header.recipients != (request.silo,):
                raise IntegrityError(
                    "a release request has one recipient, the silo that it goes to"
                )
            with span("collect", QueryId(header.id), request.silo):
                line = self._line(request.silo)
                return await line.call(Verb.RELEASE, request.envelope, 0.9 * timeout_s)

    async def _profiles(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        silos = {card.node for card in self.pinned.current.of_role("silo")}
        readable = [
            envelope
            for silo, envelope in self.registry.profiles().items()
            if silo in silos and peer in envelopes.read_header(envelope).recipients
        ]
        return encode(Profiles(tuple(readable)))

    async def _sealing_key(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return encode(await asyncio.to_thread(self.sessions.key))

    def _check(self, envelope: bytes, peer: NodeId, kind: envelopes.Kind) -> Header:
        received = envelopes.receive(
            envelope, self.pinned.current, role="gateway", kind=kind, now=self.clock()
        )
        if received.sender.node != peer:
            raise PolicyDenied(f"{peer} sent an envelope of {received.sender.node}")
        _check_limits(received.header)
        if kind == "search" and received.header.mode == "sealed":
            self.sessions.check(received.header.key_hash)
        return received.header

    async def _ask_all(self, header: Header, envelope: bytes, timeout_s: float) -> list[SiloReply]:
        asked = (self._ask(silo, header, envelope, timeout_s) for silo in header.recipients)
        return list(await asyncio.gather(*asked))

    async def _ask(
        self, silo: NodeId, header: Header, envelope: bytes, timeout_s: float
    ) -> SiloReply:
        query = QueryId(header.id)
        with span("ask silo", query, silo, request_bytes=len(envelope)) as note:
            heard = await self._hear(silo, header, envelope, timeout_s)
            reason = heard.missing.reason if heard.missing else None
            note.add(reply_bytes=heard.reply_bytes, code=reason or OK)
        self.monitor.heard(silo, reason, heard.ms / 1000)
        return heard

    async def _hear(
        self, silo: NodeId, header: Header, envelope: bytes, timeout_s: float
    ) -> SiloReply:
        start = perf_counter()
        try:
            data = await self._line(silo).call(Verb.SEARCH, envelope, timeout_s)
            ms = 1000 * (perf_counter() - start)
            signed = decode(SignedMessage, data)
            reply = self._read_reply(signed, silo, header)
            best = await self._open_scores(reply, header)
        except Unreachable as error:
            waited = perf_counter() - start
            missing = Missing(silo, error.missing, error.message)
            return SiloReply(silo, 1000 * waited, missing=missing)
        except SiloquyError as error:
            _log.warning("reply refused silo=%s code=%s", silo, error.code)
            missing = Missing(silo, error.missing, error.message)
            return SiloReply(silo, 1000 * (perf_counter() - start), missing=missing)
        return SiloReply(silo, ms, signed=signed, reply=reply, reply_bytes=len(data), best=best)

    async def _open_scores(self, reply: SearchReply, header: Header) -> Best | None:
        """The best rows of a sealed reply; IntegrityError when it is not of the question's mode."""
        if reply.refusal is not None:
            return None
        if (reply.sealed is not None) != (header.mode == "sealed") or (reply.sealed and reply.hits):
            raise IntegrityError(f"the reply does not answer a question in {header.mode} mode")
        if reply.sealed is None:
            return None
        return await self.sessions.best(reply.sealed, header.key_hash, header.k)

    def _line(self, silo: NodeId) -> Channel:
        line = self.lines.get(silo)
        if line is None:
            raise Unreachable(f"{silo} is not connected")
        return line

    def _read_reply(self, signed: SignedMessage, silo: NodeId, header: Header) -> SearchReply:
        body = rosters.open_signed(self.pinned.current, signed, REPLY_CONTEXT, "silo")
        reply = decode(SearchReply, body)
        if signed.signer != silo or reply.silo != silo or reply.query_id != header.id:
            raise IntegrityError(f"the reply is not {silo}'s to this question")
        if len(reply.hits) > MOST_HITS:
            raise IntegrityError(f"{len(reply.hits)} candidates, at most {MOST_HITS}")
        handles = {hit.handle for hit in reply.hits}
        sizes = {(len(hit.handle), len(hit.tag)) for hit in reply.hits}
        if len(handles) != len(reply.hits) or sizes - {(HANDLE_BYTES, TAG_BYTES)}:
            raise IntegrityError("a handle is offered twice, or handles or tags of another size")
        _check_scores(reply.hits, header.lexical_ceiling)
        return reply

    def _merged(self, header: Header, heard: Sequence[SiloReply], size: int) -> MergeReply:
        replies = [item.reply for item in heard if item.reply and not item.reply.refusal]
        quotas = dict(zip(header.recipients, header.quotas, strict=False))
        if header.mode == "sealed":
            best = {item.silo: item.best for item in heard if item.best is not None}
            winners = merge_sealed(best, header.k, quotas)
        else:
            winners = merge(replies, header.k, header.unit, quotas)
        return MergeReply(
            query_id=QueryId(header.id),
            winners=tuple(winners),
            tickets=tuple(self._tickets(header, winners, _by_handle(replies))),
            refusals=tuple(
                item.signed for item in heard if item.signed and item.reply and item.reply.refusal
            ),
            silence=tuple(item.missing for item in heard if item.missing),
            silo_ms={item.silo: round(item.ms, 2) for item in heard},
            traffic={
                "gateway_to_hub": size,
                "hub_to_silos": size * len(heard),
                "silos_to_hub": sum(item.reply_bytes for item in heard),
            },
        )

    def _tickets(
        self, header: Header, winners: Sequence[Winner], offered: Mapping[Handle, Hit]
    ) -> list[SignedMessage]:
        """A ticket for each silo with winners; of a sealed question it tells no score."""
        handles: dict[NodeId, list[Handle]] = {}
        for winner in winners:
            handles.setdefault(winner.silo, []).append(winner.handle)
        expires = self.clock() + TICKET_LIFETIME_MS
        return [
            self.identity.sign(
                TICKET_CONTEXT,
                Ticket(
                    query_id=QueryId(header.id),
                    gateway=header.sender,
                    silo=silo,
                    handles=tuple(group),
                    claims=tuple(offered[handle].dense for handle in group if handle in offered),
                    lexical=tuple(offered[handle].lexical for handle in group if handle in offered),
                    k=header.k,
                    expires=expires,
                ),
            )
            for silo, group in handles.items()
        ]

    # -- notes ----------------------------------------------------------------------------------

    def note_presence(self, node: NodeId, *, connected: bool) -> None:
        """Write down that a line came up or went down; a full disk does not break the line."""
        try:
            self.registry.set_presence(node, connected, self.clock())
        except StorageFailed as error:
            _log.warning("presence not noted node=%s: %s", node, error.message)

    def note_refused(self, what: str, n: int = 1) -> None:
        """Count refusals; a full disk does not break the line."""
        try:
            self.registry.count(what, n)
        except StorageFailed as error:
            _log.warning("%s not counted: %s", what, error.message)

    # -- silos and newcomers --------------------------------------------------------------------

    async def _publish(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        if not body:
            await asyncio.to_thread(self.registry.unpublish, peer)
            return b""
        received = envelopes.receive(
            body, self.pinned.current, role="silo", kind="profile", now=self.clock()
        )
        if received.sender.node != peer:
            raise PolicyDenied(f"{peer} published a profile of {received.sender.node}")
        await asyncio.to_thread(self.registry.publish, peer, body, self.clock())
        return b""

    def _enrol_handler(self, card: Member) -> Handler:
        async def enrol(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
            secret = decode(Enrolment, body).secret
            await asyncio.to_thread(self.registry.enrol, secret, card, self.clock())
            return b""

        return enrol

    async def distribute_roster(self) -> None:
        """Send the current roster to every connected node and hang up on who left it."""
        data = rosters.to_bytes(self.pinned.current)
        lines = list(self.lines.values())
        await asyncio.gather(*(self._hand_roster(line, data) for line in lines))

    async def _hand_roster(self, line: Channel, data: bytes) -> None:
        try:
            self.pinned.current.member(line.peer)
            await line.call(Verb.ROSTER, data, 5.0)
        except PolicyDenied:
            await line.close()
        except SiloquyError as error:
            _log.warning("roster not taken node=%s code=%s", line.peer, error.code)


def _check_limits(header: Header) -> None:
    """IntegrityError when a header's quotas or its ceiling make no sense."""
    quotas = header.quotas
    if quotas and len(quotas) != len(header.recipients):
        raise IntegrityError(f"{len(quotas)} quotas for {len(header.recipients)} recipients")
    if any(not 0 <= quota <= header.k for quota in quotas):
        raise IntegrityError(f"a quota is not within 0 to k = {header.k}")
    if header.lexical_ceiling < 0:
        raise IntegrityError("the ceiling of word scores is below 0")


def _check_scores(hits: Sequence[Hit], ceiling: float) -> None:
    """IntegrityError when a score is none, or no word score of this question; ceiling 0: any."""
    if any(not -1.001 <= hit.dense <= 1.001 or hit.lexical < 0 for hit in hits):
        raise IntegrityError("a candidate's score is out of range")
    most = ceiling * (1 + CEILING_TOLERANCE)
    if ceiling and any(hit.lexical > most for hit in hits):
        raise IntegrityError("a candidate's word score is above what the question allows")


def _by_handle(replies: Sequence[SearchReply]) -> dict[Handle, Hit]:
    return {hit.handle: hit for reply in replies for hit in reply.hits}


async def listen(hub: HubNode, settings: HubSettings, folder: Path) -> Server:
    """Serve the channel's WebSocket (and /healthz) over TLS until the server is closed."""
    certificate = folder / settings.certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, folder / settings.key)
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    certificate_hash = hashlib.sha256(der).digest()

    async def attend(socket: ServerConnection) -> None:
        await _attend(hub, socket, certificate_hash, settings.most_in_flight)

    def health(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(200, "ok\n")
        return None

    return await serve(
        attend,
        settings.listen.host,
        settings.listen.port,
        ssl=context,
        max_size=MAX_MESSAGE_BYTES,
        compression=None,
        process_request=health,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=None,
    )


async def _attend(
    hub: HubNode, socket: ServerConnection, certificate_hash: bytes, most_in_flight: int
) -> None:
    try:
        newcomer = await channels.welcome(
            socket, hub.identity, certificate_hash, hub.pinned.current
        )
    except ConnectionClosed:
        return
    except SiloquyError as error:
        _log.warning("node turned away code=%s: %s", error.code, error.message)
        hub.note_refused("handshakes refused")
        hub.monitor.turned_away(error.code)
        return
    card = newcomer.card
    handlers = hub.handlers(card, enrolling=newcomer.enrolling)
    line = Channel(socket, card.node, handlers, most_in_flight)
    hub.monitor.joined(line, "newcomer" if newcomer.enrolling else card.role)
    try:
        if newcomer.enrolling:
            async with asyncio.timeout(ENROLMENT_TIMEOUT_S):
                await line.run()
        else:
            await _serve_line(hub, line)
    except TimeoutError:
        _log.warning("enrolment took more than %g s node=%s", ENROLMENT_TIMEOUT_S, card.node)
    finally:
        hub.monitor.left(line)
        if line.refused_frames:
            hub.note_refused("frames refused", line.refused_frames)


async def _serve_line(hub: HubNode, line: Channel) -> None:
    node = line.peer
    old = hub.lines.get(node)
    hub.lines[node] = line
    if old is not None:
        # The node has dialled again, so the old line is dead to it: closing it could take long.
        old.drop()
    hub.note_presence(node, connected=True)
    _log.info("joined node=%s", node)
    try:
        await line.run()
    finally:
        if hub.lines.get(node) is line:
            del hub.lines[node]
            hub.note_presence(node, connected=False)
            _log.info("left node=%s", node)
