"""The roster: who belongs to the federation, signed by its founders and pinned by every node.

The hub distributes it and cannot change it. A node follows a newer version only when at least
``threshold`` founders of the version that it pinned signed it, and never goes back.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from siloquy import crash
from siloquy.codec import decode, encode, from_json, to_json
from siloquy.database import file_failed
from siloquy.errors import IntegrityError, PolicyDenied, SettingsError
from siloquy.trust.identity import (
    MOST_NAME_CHARACTERS,
    Identity,
    check_card,
    fingerprint,
    sign,
    verify,
)
from siloquy.types import EncoderSpec, Member, NodeId, Role, Roster, SignedMessage

CONTEXT = "roster"


ROSTER_FILE = "roster.json"
"""In each node's folder: the roster that it has pinned."""


@dataclass(frozen=True)  # without slots: what every message asks for is worked out once
class SignedRoster:
    """A roster and the founders' signatures over it, by public key."""

    roster: Roster
    signatures: dict[bytes, bytes]

    @cached_property
    def head(self) -> bytes:
        """SHA-256 of the roster, 32 bytes."""
        return hashlib.sha256(encode(self.roster)).digest()

    @cached_property
    def _cards(self) -> dict[NodeId, list[Member]]:
        found: dict[NodeId, list[Member]] = {}
        for card in self.roster.members:
            found.setdefault(card.node, []).append(card)
        return found

    def holds(self, card: Member) -> bool:
        """Whether this very card, keys and all, is in the roster."""
        return card in self._cards.get(card.node, ())

    def member(self, node: NodeId, role: Role | None = None) -> Member:
        """The card of ``node``; PolicyDenied when it is not in the roster or not a ``role``."""
        for card in self._cards.get(node, ()):
            if role in (None, card.role):
                return card
        name = node[:MOST_NAME_CHARACTERS]
        raise PolicyDenied(
            f"{name} is not in version {self.roster.version} of the roster as {role or 'a node'}",
            "its enrolment needs the founders' signatures",
        )

    def of_role(self, role: Role) -> tuple[Member, ...]:
        """All cards of one role, in roster order."""
        return tuple(card for card in self.roster.members if card.role == role)

    @property
    def hub(self) -> Member:
        """The hub's card."""
        hubs = self.of_role("hub")
        if len(hubs) != 1:
            raise IntegrityError(f"the roster names {len(hubs)} hubs, wanted 1")
        return hubs[0]

    @property
    def fingerprint(self) -> str:
        """The federation's fingerprint: its name, founders and threshold; never changes."""
        return federation_fingerprint(self.roster)


def federation_fingerprint(roster: Roster) -> str:
    """What a new member compares out of band before pinning."""
    founding = [roster.federation.encode(), str(roster.threshold).encode(), *roster.founders]
    return fingerprint(b"".join(hashlib.sha256(part).digest() for part in founding))


def found(
    federation: str,
    founders: Sequence[Member],
    threshold: int,
    encoder: EncoderSpec,
    members: Sequence[Member],
    created: int,
) -> Roster:
    """Version 1, still to be signed by ``threshold`` of the founders."""
    keys = {card.signing_key for card in founders}
    if not 1 <= threshold <= len(keys):
        raise SettingsError(f"threshold {threshold} of {len(keys)} founders cannot be met")
    if any(card.role == "hub" for card in founders):
        raise SettingsError("a hub cannot be a founder", "found with silos and gateways")
    roster = Roster(
        federation=federation,
        version=1,
        created=created,
        threshold=threshold,
        founders=tuple(sorted(keys)),
        encoder=encoder,
        members=tuple(members),
    )
    check_members(roster)
    return roster


def succeed(pinned: SignedRoster, members: Sequence[Member], created: int) -> Roster:
    """The next version with ``members``, still to be signed."""
    roster = replace(
        pinned.roster,
        version=pinned.roster.version + 1,
        created=created,
        members=tuple(members),
        previous=pinned.head,
    )
    check_members(roster)
    return roster


def check_members(roster: Roster) -> None:
    """IntegrityError when a name or key stands twice, a card is bad or a founder is the hub."""
    for attribute in ("node", "signing_key", "sealing_key"):
        values = [getattr(card, attribute) for card in roster.members]
        if len(set(values)) != len(values):
            raise IntegrityError(f"the roster holds one {attribute} twice")
    for card in roster.members:
        check_card(card)
        if card.role == "hub" and card.signing_key in roster.founders:
            raise IntegrityError("the hub's key is a founder's: it could sign its own rosters")


def add_signature(signed: SignedRoster, founder: Identity) -> SignedRoster:
    """``signed`` with one founder's signature more; PolicyDenied when it is no founder."""
    key = founder.card.signing_key
    if key not in signed.roster.founders:
        raise PolicyDenied(
            f"{founder.node} is not a founder of {signed.roster.federation}",
            "only the founders named in version 1 sign rosters",
        )
    signature = sign(founder.signing, CONTEXT, encode(signed.roster))
    return replace(signed, signatures={**signed.signatures, key: signature})


def check_signatures(signed: SignedRoster, founders: Sequence[bytes], threshold: int) -> None:
    """Return when ``threshold`` of ``founders`` signed, else raise IntegrityError."""
    if not 1 <= threshold <= len(set(founders)):
        raise IntegrityError(f"threshold {threshold} of {len(set(founders))} founders")
    body = encode(signed.roster)
    valid = 0
    for key, signature in signed.signatures.items():
        if key in founders:
            verify(key, CONTEXT, body, signature)
            valid += 1
    if valid < threshold:
        raise IntegrityError(
            f"roster version {signed.roster.version} has {valid} founders' signatures, "
            f"needs {threshold}"
        )
    check_members(signed.roster)


def check_genesis(signed: SignedRoster, federation: str | None = None) -> None:
    """Return when the roster is signed by its own founders and, if given, has that fingerprint."""
    check_signatures(signed, signed.roster.founders, signed.roster.threshold)
    if federation is not None and signed.fingerprint != federation:
        raise IntegrityError(
            f"federation fingerprint is {signed.fingerprint}, expected {federation}",
            "do not enrol; ask a founder for the right fingerprint",
        )


def advance(pinned: SignedRoster, offered: SignedRoster) -> SignedRoster:
    """The roster to hold after ``offered`` came in.

    IntegrityError for a roll-back, a split view (same version, other content), other founders or
    too few signatures.
    """
    if offered.roster.version == pinned.roster.version and offered.head == pinned.head:
        return pinned
    check_follows(pinned, offered)
    check_signatures(offered, pinned.roster.founders, pinned.roster.threshold)
    return offered


def check_follows(pinned: SignedRoster, offered: SignedRoster) -> None:
    """IntegrityError for a roll-back, a split view, or other founders; signatures aside."""
    old, new = pinned.roster, offered.roster
    if new.version < old.version:
        raise IntegrityError(f"roster rolled back from version {old.version} to {new.version}")
    if new.version == old.version:
        raise IntegrityError(f"two different rosters of version {old.version}: a split view")
    if (new.federation, new.founders, new.threshold) != (
        old.federation,
        old.founders,
        old.threshold,
    ):
        raise IntegrityError("the offered roster names another federation or other founders")
    if new.version == old.version + 1 and new.previous != pinned.head:
        raise IntegrityError("the offered roster does not follow the pinned one")


def open_signed(roster: SignedRoster, signed: SignedMessage, context: str, role: Role) -> bytes:
    """The body of ``signed`` when a rostered ``role`` signed it, else an error."""
    verify(roster.member(signed.signer, role).signing_key, context, signed.body, signed.signature)
    return signed.body


def to_bytes(signed: SignedRoster) -> bytes:
    """The roster for the wire."""
    return encode(_Wire(encode(signed.roster), _pairs(signed)))


def from_bytes(data: bytes) -> SignedRoster:
    """The roster that ``to_bytes`` wrote."""
    outer = decode(_Wire, data)
    return SignedRoster(
        decode(Roster, outer.roster), {pair.key: pair.signature for pair in outer.signatures}
    )


def save(signed: SignedRoster, path: Path) -> None:
    """Write a roster file that people can read: the old one or the new one, whatever happens."""
    data = _File(signed.roster, _pairs(signed), signed.fingerprint)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w") as file:
            file.write(json.dumps(to_json(data), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        crash.point("roster-written")
        temporary.replace(path)
    except OSError as error:
        raise file_failed(path, error) from None


def load(path: Path) -> SignedRoster:
    """The roster in a file; SettingsError when it is missing, IntegrityError when it is none."""
    try:
        data = from_json(_File, json.loads(path.read_text()))
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is missing",
            "a silo or gateway gets it by `enroll`; a hub by `roster found`, `sign`, `hub adopt`",
        ) from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path} is not a roster file") from None
    return SignedRoster(data.roster, {pair.key: pair.signature for pair in data.signatures})


class PinnedRoster:
    """The roster that a node follows, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.current = load(path)
        check_genesis(self.current)

    def follow(self, data: bytes) -> bool:
        """Whether ``data`` is a newer roster, now pinned; IntegrityError if it does not follow."""
        advanced = advance(self.current, from_bytes(data))
        if advanced is self.current:
            return False
        save(advanced, self._path)
        self.current = advanced
        return True


@dataclass(frozen=True, slots=True)
class FounderSignature:
    """One founder's signature."""

    key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Wire:
    """The roster's bytes as they were signed."""

    roster: bytes
    signatures: tuple[FounderSignature, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """The roster as people read it."""

    roster: Roster
    signatures: tuple[FounderSignature, ...]
    federation_fingerprint: str


def _pairs(signed: SignedRoster) -> tuple[FounderSignature, ...]:
    return tuple(
        FounderSignature(key, signature) for key, signature in sorted(signed.signatures.items())
    )


def membership(folder: Path, card: Member) -> str:
    """Whether the node in ``folder`` belongs to a federation, in words."""
    try:
        roster = load(folder / ROSTER_FILE)
    except SettingsError:
        return "not enrolled"
    return f"version {roster.roster.version}" if roster.holds(card) else "waiting for the founders"


def shared_organisation(
    roster: SignedRoster, gateway: Member, silos: Sequence[NodeId]
) -> tuple[str, ...]:
    """What the reader must know where the hub would have to collude with itself alone."""
    organisation = roster.hub.organisation
    same = [silo for silo in silos if roster.member(silo).organisation == organisation]
    if gateway.organisation == organisation:
        same.insert(0, gateway.node)
    if not same:
        return ()
    return (
        f"{organisation} runs the hub and {', '.join(same)}: sealed mode protects nothing "
        "against that organisation",
    )
