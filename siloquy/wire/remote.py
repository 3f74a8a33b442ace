"""The hub as other parties reach it: its verbs as methods, over whatever carries a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from siloquy.codec import decode, encode
from siloquy.types import MergeReply, NodeId, SignedMessage
from siloquy.wire.calls import Collect, Gather, Profiles, Verb

Carrier = Callable[[str, bytes, float], Awaitable[bytes]]
"""Takes a verb, a message and seconds to wait; gives the reply, as ``Uplink.call`` does."""

PROFILES_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class RemoteHub:
    """The hub as a gateway calls it: ``ports.Hub``."""

    call: Carrier

    async def gather(self, envelope: bytes, timeout_s: float) -> MergeReply:
        """Phase 1."""
        return decode(MergeReply, await self.call(Verb.GATHER, encode(Gather(envelope)), timeout_s))

    async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
        """Phase 2 of one silo."""
        return await self.call(Verb.COLLECT, encode(Collect(NodeId(silo), envelope)), timeout_s)

    async def profiles(self) -> tuple[bytes, ...]:
        """Sealed profiles that this gateway may open."""
        reply = await self.call(Verb.PROFILES, b"", PROFILES_TIMEOUT_S)
        return decode(Profiles, reply).envelopes

    async def sealing_key(self, timeout_s: float) -> SignedMessage:
        """The hub's key of this session."""
        return decode(SignedMessage, await self.call(Verb.SEALING_KEY, b"", timeout_s))
