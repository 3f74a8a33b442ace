"""Sealed, signed messages that the hub relays and cannot read.

One fresh content key a message encrypts the body (ChaCha20-Poly1305); the key is wrapped for each
recipient with HPKE (X25519, HKDF-SHA256, ChaCha20-Poly1305; RFC 9180); the sender signs header,
wraps and body. The header is in clear because the hub relays by it, and bound into every layer.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, PolicyDenied
from siloquy.trust.identity import Identity, sign, verify
from siloquy.trust.roster import SignedRoster
from siloquy.types import Member, Mode, NodeId, Role, Unit

Kind = Literal["search", "release", "passages", "profile"]
T = TypeVar("T")

VERSION = 1
CLOCK_SKEW_MS = 30_000
# Replays are remembered for as long as an envelope lives.
MOST_LIFETIME_MS: dict[Kind, int] = {
    "search": 15 * 60_000,
    "release": 15 * 60_000,
    "passages": 15 * 60_000,
    "profile": 48 * 3_600_000,
}
_CONTEXT = "envelope"
_BUCKET_BYTES = 512
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
# The content key encrypts one message and is then forgotten, so its nonce may be constant.
_NONCE = bytes(12)
tap: Callable[[Literal["sent", "received"], str, str, bytes, bytes], None] | None = None
"""Told what its ends read of an envelope, while ``siloquy.watch.capture`` is open."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the hub reads of an envelope.

    id             16 bytes; the query's id for search, release and passages
    key_hash       SHA-256 of the hub's SealingKey in sealed mode, else empty
    k, unit        what the question asks for; 0 outside search
    quotas         most winners of each recipient, in their order; empty: k each
    lexical_ceiling   no candidate's BM25 can be above it; 0: none. The hub learns from it about how
                      many rare words the question has: it is coarse, see ``phases``
    roster_head    SHA-256 of the sender's roster, so that a split view is noticed
    created, expires   Unix milliseconds
    """

    version: int
    kind: Kind
    id: bytes
    sender: NodeId
    recipients: tuple[NodeId, ...]
    mode: Mode
    key_hash: bytes
    k: int
    unit: Unit
    roster_version: int
    roster_head: bytes
    created: int
    expires: int
    quotas: tuple[int, ...] = ()
    lexical_ceiling: float = 0.0


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed message; ``wraps`` are the content key for each recipient, in header order."""

    header: bytes
    wraps: tuple[bytes, ...]
    body: bytes
    signature: bytes


def seal(
    sender: Identity,
    recipients: Sequence[Member],
    kind: Kind,
    message_id: bytes,
    value: object,
    *,
    roster: SignedRoster,
    now: int,
    lifetime_ms: int,
    mode: Mode = "open",
    k: int = 0,
    unit: Unit = "passage",
    quotas: Sequence[int] = (),
    lexical_ceiling: float = 0.0,
    key_hash: bytes = b"",
) -> bytes:
    """``value`` for ``recipients`` only, as bytes to relay.

    IntegrityError for a card that ``roster`` does not hold.
    """
    for card in recipients:
        if not roster.holds(card):
            raise IntegrityError(f"the roster holds no such card of {card.node}")
    header = encode(
        Header(
            version=VERSION,
            kind=kind,
            id=message_id,
            sender=sender.node,
            recipients=tuple(card.node for card in recipients),
            mode=mode,
            key_hash=key_hash,
            k=k,
            unit=unit,
            roster_version=roster.roster.version,
            roster_head=roster.head,
            created=now,
            expires=now + lifetime_ms,
            quotas=tuple(quotas),
            lexical_ceiling=lexical_ceiling,
        )
    )
    key, plain = os.urandom(32), encode(value)
    if tap is not None:
        opened = _opened_kind(kind, mode)
        tap("sent", ",".join(card.node for card in recipients), opened, message_id, plain)
    body = ChaCha20Poly1305(key).encrypt(_NONCE, _pad(plain), header)
    wraps = tuple(_wrap(key, card, header) for card in recipients)
    signature = sign(sender.signing, _CONTEXT, _digest(header, wraps, body))
    return encode(Envelope(header, wraps, body, signature))


def _wrap(key: bytes, card: Member, header: bytes) -> bytes:
    try:
        return _SUITE.encrypt(key, _sealing_key(card.sealing_key), info=header)
    except ValueError:
        raise IntegrityError(f"nothing can be sealed to the key of {card.node}") from None


@functools.lru_cache(maxsize=1024)
def _sealing_key(key: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(key)


@dataclass(frozen=True, slots=True)
class ReceivedEnvelope:
    """An envelope whose sender, addressee and freshness were checked; ``body`` is still sealed."""

    header: Header
    sender: Member
    envelope: Envelope


def read_header(data: bytes) -> Header:
    """The header alone, unchecked: enough to relay by."""
    return decode(Header, decode(Envelope, data).header)


def receive(
    data: bytes, roster: SignedRoster, *, role: Role, kind: Kind, now: int
) -> ReceivedEnvelope:
    """Check an envelope from a rostered ``role``.

    PolicyDenied for a sender that the roster does not name; IntegrityError for another kind, a bad
    signature, a stale or future date, a lifetime that is too long, or a roster that differs from
    ours at the same version.
    """
    envelope = decode(Envelope, data)
    header = decode(Header, envelope.header)
    if header.version != VERSION or header.kind != kind:
        raise IntegrityError(
            f"envelope is a {header.kind} of version {header.version}, "
            f"wanted a {kind} of version {VERSION}"
        )
    sender = roster.member(header.sender, role)
    digest = _digest(envelope.header, envelope.wraps, envelope.body)
    verify(sender.signing_key, _CONTEXT, digest, envelope.signature)
    _check_dates(header, now)
    if header.roster_version == roster.roster.version and header.roster_head != roster.head:
        raise IntegrityError(
            f"{header.sender} holds another roster of version {header.roster_version}: a split view"
        )
    return ReceivedEnvelope(header, sender, envelope)


def open_body(received: ReceivedEnvelope, recipient: Identity, kind: type[T]) -> T:
    """The ``kind`` inside; PolicyDenied when it was not sealed for ``recipient``."""
    header, envelope = received.header, received.envelope
    if recipient.node not in header.recipients:
        raise PolicyDenied(f"the envelope is not addressed to {recipient.node}")
    if len(envelope.wraps) != len(header.recipients):
        raise IntegrityError("the envelope has not one key for each recipient")
    wrap = envelope.wraps[header.recipients.index(recipient.node)]
    try:
        key = _SUITE.decrypt(wrap, recipient.sealing, info=envelope.header)
        body = ChaCha20Poly1305(key).decrypt(_NONCE, envelope.body, envelope.header)
    except (InvalidTag, ValueError):
        raise IntegrityError("the envelope does not open") from None
    plain = _unpad(body)
    if tap is not None:
        tap("received", header.sender, _opened_kind(header.kind, header.mode), header.id, plain)
    return decode(kind, plain)


def _opened_kind(kind: Kind, mode: Mode) -> str:
    return kind if mode == "open" else f"{mode} {kind}"


def _check_dates(header: Header, now: int) -> None:
    lifetime, most = header.expires - header.created, MOST_LIFETIME_MS[header.kind]
    if lifetime > most:
        raise IntegrityError(
            f"{header.kind} envelope lives {lifetime / 1000:.0f} s, at most {most / 1000:.0f}"
        )
    if header.created > now + CLOCK_SKEW_MS:
        raise IntegrityError(
            f"envelope is dated {(header.created - now) / 1000:.0f} s ahead",
            "compare the clocks of the nodes",
        )
    if header.expires < now:
        raise IntegrityError(
            f"envelope expired {(now - header.expires) / 1000:.0f} s ago",
            "compare the clocks of the nodes",
        )


def _digest(header: bytes, wraps: tuple[bytes, ...], body: bytes) -> bytes:
    parts = (header, *wraps, body)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _pad(data: bytes) -> bytes:
    """Length-prefixed and filled to a multiple of 512 bytes: sizes say less."""
    framed = len(data).to_bytes(4, "big") + data
    return framed + bytes(-len(framed) % _BUCKET_BYTES)


def _unpad(data: bytes) -> bytes:
    length = int.from_bytes(data[:4], "big")
    if length > len(data) - 4:
        raise IntegrityError("the envelope's padding does not hold")
    return data[4 : 4 + length]
