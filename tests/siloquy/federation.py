"""A federation small enough to read: who is in it, and its signed roster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from siloquy.codec import encode
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import SignedRoster
from siloquy.types import EncoderSpec, Member, Roster

NOW = 1_700_000_000_000
ENCODER = EncoderSpec("all-MiniLM-L6-v2", "53aa" * 16, 384)


@dataclass(frozen=True, slots=True)
class Federation:
    """``north``, ``south`` and ``ward`` are the founders, two of them suffice."""

    north: Identity
    south: Identity
    ward: Identity
    hub: Identity
    roster: SignedRoster

    @property
    def members(self) -> tuple[Member, ...]:
        """All cards, in roster order."""
        return self.roster.roster.members


def new_federation() -> Federation:
    """Fresh identities and version 1 of their roster, signed by two founders."""
    north = identities.create("north", "silo", "Northmoor")
    south = identities.create("south", "silo", "St Brigid")
    ward = identities.create("ward", "gateway", "Northmoor")
    hub = identities.create("hub", "hub", "Vale")
    cards = [node.card for node in (north, south, ward, hub)]
    roster = rosters.found("vale", cards[:3], 2, ENCODER, cards, NOW)
    return Federation(north, south, ward, hub, signed(roster, (north, ward)))


def signed(roster: Roster, founders: Sequence[Identity]) -> SignedRoster:
    """``roster`` with the signatures of ``founders``, checked by nobody."""
    result = SignedRoster(roster, {})
    for founder in founders:
        result = rosters.add_signature(result, founder)
    return result


def self_signed(owner: Identity, card: Member) -> Member:
    """``card`` with a proof made by the owner's key, whatever else stands in it."""
    bare = replace(card, proof=b"")
    return replace(bare, proof=identities.sign(owner.signing, "card", encode(bare)))
