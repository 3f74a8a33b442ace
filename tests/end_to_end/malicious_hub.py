"""The attacker's hub: it holds the hub's keys and database, hears every byte, and may do anything.

It is the real hub over the real TLS WebSocket, listened in on after TLS was taken off, and can be
told to change, drop or forge whatever it relays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from websockets.asyncio.server import ServerConnection

from siloquy.aggregator.service import HubNode, SiloReply
from siloquy.codec import decode, encode
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import SignedRoster
from siloquy.types import Handle, MergeReply, NodeId, QueryId, Role, SignedMessage, Ticket
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import Collect, Gather, Profiles
from siloquy.wire.channel import Channel
from siloquy.wire.envelope import Header, Kind

HUB = NodeId("hub")
WAIT_S = 8.0

Honest = Callable[[bytes], Awaitable[bytes]]
Carry = Callable[[NodeId, str, bytes, Honest], Awaitable[bytes]]
Bend = Callable[[MergeReply], MergeReply]
Answering = Callable[[str, bytes], Awaitable[bytes]]


# -- the attacker's ear ---------------------------------------------------------------------------


@dataclass(slots=True)
class Tap:
    """Every message that the hub was sent or sent, after TLS was taken off."""

    messages: list[bytes] = field(default_factory=list)

    def note(self, data: object) -> None:
        """Keep one message."""
        self.messages.append(data.encode() if isinstance(data, str) else bytes(cast(bytes, data)))

    def everything(self) -> bytes:
        """All of it."""
        return b"\n".join(self.messages)


class Tapped(ServerConnection):
    """The hub's end of a WebSocket, listened in on."""

    tap: Tap

    async def recv(self, *args: Any, **kwargs: Any) -> Any:
        data = await super().recv(*args, **kwargs)
        self.tap.note(data)
        return data

    async def send(self, message: Any, *args: Any, **kwargs: Any) -> None:
        self.tap.note(message)
        await super().send(message, *args, **kwargs)


# -- the attacker's hub ---------------------------------------------------------------------------


async def _relay(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
    return await honest(body)


async def _reply(method: str, reply: bytes) -> bytes:
    return reply


class BentLine:
    """A silo's line as the malicious hub uses it: ``carry`` decides what really passes."""

    def __init__(self, line: Channel, silo: NodeId, carry: Carry) -> None:
        self._line, self._silo, self._carry = line, silo, carry

    async def call(self, method: str, body: bytes, timeout_s: float) -> bytes:
        async def honest(body: bytes) -> bytes:
            return await self._line.call(method, body, timeout_s)

        return await self._carry(self._silo, method, body, honest)


class MaliciousHub(HubNode):
    """The real hub, which keeps all it hears and can be told how to misbehave.

    carry     what happens to a call to a silo; given the honest way
    bend      what the gateway gets instead of the merge
    answer    what a gateway gets instead of a reply, by method
    """

    carry: Carry
    bend: Bend
    answer: Answering

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.envelopes: dict[Kind, list[bytes]] = {}
        self.heard: dict[QueryId, Sequence[SiloReply]] = {}
        self.merges: list[MergeReply] = []
        self.behave()

    def behave(self) -> None:
        """Be honest again."""
        self.carry = _relay
        self.bend = lambda merged: merged
        self.answer = _reply

    def _line(self, silo: NodeId) -> Channel:
        return cast(Channel, BentLine(super()._line(silo), silo, self.carry))

    async def _gather(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        self._keep("search", decode(Gather, body).envelope)
        return await self.answer("gather", await super()._gather(peer, body, timeout_s))

    async def _collect(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        self._keep("release", decode(Collect, body).envelope)
        reply = await super()._collect(peer, body, timeout_s)
        self._keep("passages", reply)
        return await self.answer("collect", reply)

    async def _profiles(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return await self.answer("profiles", await super()._profiles(peer, body, timeout_s))

    async def _publish(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        if body:
            self._keep("profile", body)
        return await super()._publish(peer, body, timeout_s)

    def _merged(self, header: Header, heard: Sequence[SiloReply], size: int) -> MergeReply:
        self.heard[QueryId(header.id)] = heard
        merged = self.bend(super()._merged(header, heard, size))
        self.merges.append(merged)
        return merged

    def _keep(self, kind: Kind, envelope: bytes) -> None:
        self.envelopes.setdefault(kind, []).append(envelope)

    def kept(self, kind: Kind) -> list[bytes]:
        """Envelopes of one kind in the order in which they passed."""
        return self.envelopes.get(kind, [])

    def latest(self, kind: Kind, node: NodeId) -> bytes:
        """The last envelope of one kind that ``node`` sent or was sent."""
        for envelope in reversed(self.kept(kind)):
            header = envelopes.read_header(envelope)
            if node in (header.sender, *header.recipients):
                return envelope
        raise AssertionError(f"no {kind} of {node} passed")

    def offered(self, silo: NodeId, query_id: QueryId) -> list[Handle]:
        """Every handle that ``silo`` offered for a question."""
        replies = [item.reply for item in self.heard[query_id] if item.reply]
        return [hit.handle for reply in replies if reply.silo == silo for hit in reply.hits]

    def ticket(
        self, like: SignedMessage, signer: Identity | None = None, **changes: Any
    ) -> SignedMessage:
        """``like`` with changes, signed by the hub or by another key under the hub's name."""
        if "handles" in changes:
            dense, lexical = self._claims()
            handles = changes["handles"]
            changes.setdefault("claims", tuple(dense.get(handle, 0.0) for handle in handles))
            changes.setdefault("lexical", tuple(lexical.get(handle, 0.0) for handle in handles))
        paper = replace(decode(Ticket, like.body), **changes)
        return replace((signer or self.identity).sign("ticket", paper), signer=HUB)

    def _claims(self) -> tuple[dict[Handle, float], dict[Handle, float]]:
        replies = [item.reply for heard in self.heard.values() for item in heard if item.reply]
        hits = [hit for reply in replies for hit in reply.hits]
        return {hit.handle: hit.dense for hit in hits}, {hit.handle: hit.lexical for hit in hits}

    def profiles_as(self, change: Callable[[bytes], bytes]) -> None:
        """Hand gateways every profile changed."""

        async def answer(method: str, reply: bytes) -> bytes:
            if method != "profiles":
                return reply
            return encode(Profiles(tuple(map(change, decode(Profiles, reply).envelopes))))

        self.answer = answer

    async def tell(self, node: NodeId, method: str, body: bytes) -> bytes:
        """Call a node of its own accord."""
        return await self.lines[node].call(method, body, WAIT_S)

    async def push(self, node: NodeId, roster: SignedRoster) -> None:
        """Push a roster on a node."""
        await self.tell(node, "roster", rosters.to_bytes(roster))


# -- identities that it makes up ------------------------------------------------------------------


def sham(name: str, role: Role, hub: Identity) -> Identity:
    """An identity that the hub made up, sealed to the hub's own key."""
    made = identities.create(name, role, "sham")
    card = replace(made.card, sealing_key=hub.card.sealing_key, proof=b"")
    proof = identities.sign(made.signing, "card", encode(card))
    return Identity(replace(card, proof=proof), made.signing, hub.sealing)
