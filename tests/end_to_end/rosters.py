"""Rosters and cards as a hub would forge them."""

from __future__ import annotations

from dataclasses import replace

from siloquy.codec import encode
from siloquy.trust import identity as identities
from siloquy.trust.roster import SignedRoster
from siloquy.types import Member, NodeId, Role, Roster
from tests.end_to_end.malicious_hub import HUB, sham
from tests.end_to_end.town import Town


def by_the_hub(town: Town, roster: Roster) -> SignedRoster:
    """Signed with all that the hub has: its own key, and the founders' signatures of version 1."""
    hub = town.identities[HUB]
    own = identities.sign(hub.signing, "roster", encode(roster))
    return SignedRoster(roster, {**town.roster.signatures, hub.card.signing_key: own})


def usurped(town: Town, node: NodeId) -> Member:
    """A card in a node's name that holds the hub's keys alone."""
    return sham(node, town.identities[node].card.role, town.identities[HUB]).card


def with_member(town: Town, card: Member) -> Roster:
    """The next version with one member more."""
    current = town.roster
    members = (*current.roster.members, card)
    return replace(current.roster, version=2, members=members, previous=current.head, created=1)


def hub_made(town: Town, name: str, role: Role) -> Roster:
    return with_member(town, sham(name, role, town.identities[HUB]).card)


def two_faced(true: SignedRoster, shown: SignedRoster) -> SignedRoster:
    """A roster that lets in whom ``true`` names and shows newcomers ``shown``."""

    class TwoFaced(SignedRoster):
        __slots__ = ()

        def member(self, node: NodeId, role: Role | None = None) -> Member:
            return true.member(node, role)

    return TwoFaced(shown.roster, shown.signatures)
