"""A node's keys: Ed25519 to sign, X25519 to be sealed to. Made on site, never moved."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, SettingsError
from siloquy.types import Member, NodeId, Role, SignedMessage

MOST_NAME_CHARACTERS = 63
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_P = 2**255 - 19
_PROBE = X25519PrivateKey.generate()

# What is signed across folders; the signer and its verifiers must name the same.
REPLY_CONTEXT = "search reply"
TICKET_CONTEXT = "ticket"
SEALING_CONTEXT = "sealing key"


def sign(key: Ed25519PrivateKey, context: str, message: bytes) -> bytes:
    """64-byte Ed25519 signature; ``context`` keeps one kind of message from passing as another."""
    return key.sign(_bound(context, message))


def verify(public_key: bytes, context: str, message: bytes, signature: bytes) -> None:
    """Return when ``signature`` holds, else raise IntegrityError naming the context."""
    try:
        _verifying_key(public_key).verify(signature, _bound(context, message))
    except (InvalidSignature, ValueError):
        raise IntegrityError(f"signature of {context} does not hold") from None


@functools.lru_cache(maxsize=1024)
def _verifying_key(key: bytes) -> Ed25519PublicKey:
    """The key once parsed and found to be of full order; a node sees the same few all day."""
    parsed = Ed25519PublicKey.from_public_bytes(key)
    _check_order(_montgomery(key))
    return parsed


def _montgomery(key: bytes) -> bytes:
    """The X25519 form of an Ed25519 key (RFC 7748, 4.1); ValueError for the neutral point."""
    y = int.from_bytes(key, "little") % 2**255
    return ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(32, "little")


def _check_order(key: bytes) -> None:
    """Return when an exchange with the X25519 ``key`` works; ValueError for one of small order.

    Anyone can sign under a small-order Ed25519 key and read what is sealed to an X25519 one.
    """
    _PROBE.exchange(X25519PublicKey.from_public_bytes(key))


def _bound(context: str, message: bytes) -> bytes:
    return b"siloquy/1/" + context.encode() + b"\0" + message


def fingerprint(public_key: bytes) -> str:
    """What two people compare by telephone: 100 bits of the key's SHA-256 in base32.

    >>> fingerprint(bytes(32))
    'MZUH-VLPY-MK6X-O3EP-YGFY'
    """
    text = base64.b32encode(hashlib.sha256(public_key).digest()).decode()[:20]
    return "-".join(text[i : i + 4] for i in range(0, 20, 4))


def check_name(name: str) -> NodeId:
    """``name`` as a node id; SettingsError unless it is 1 to 63 of a-z 0-9 . _ -."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name[:MOST_NAME_CHARACTERS]!r} is no node name",
            "use 1 to 63 lower-case letters, digits, '.', '_' or '-'",
        )
    return NodeId(name)


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's own secret keys beside its public card."""

    card: Member
    signing: Ed25519PrivateKey
    sealing: X25519PrivateKey

    @property
    def node(self) -> NodeId:
        """The node's name."""
        return self.card.node

    def sign(self, context: str, value: object) -> SignedMessage:
        """``value`` encoded and signed."""
        body = encode(value)
        return SignedMessage(self.node, body, sign(self.signing, context, body))


def create(name: str, role: Role, organisation: str) -> Identity:
    """Fresh keys from the operating system's generator and a self-signed card."""
    signing, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    card = Member(
        node=check_name(name),
        role=role,
        organisation=organisation,
        signing_key=signing.public_key().public_bytes_raw(),
        sealing_key=sealing.public_key().public_bytes_raw(),
    )
    return Identity(replace(card, proof=sign(signing, "card", encode(card))), signing, sealing)


def check_card(card: Member) -> None:
    """Return when the card is signed by its own key and can be sealed to, else IntegrityError."""
    if not _NAME.fullmatch(card.node):
        raise IntegrityError(f"{card.node[:MOST_NAME_CHARACTERS]!r} is no node name")
    verify(card.signing_key, "card", encode(replace(card, proof=b"")), card.proof)
    try:
        _check_order(card.sealing_key)
    except ValueError:
        raise IntegrityError(f"nothing can be sealed to the card of {card.node}") from None


def save(identity: Identity, folder: Path) -> None:
    """Write the secret keys (mode 0600) and the card; an existing identity is never overwritten."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("signing.key", "sealing.key", "card"):
        if (folder / name).exists():
            raise SettingsError(
                f"{folder / name} exists already",
                "an identity is never overwritten; choose another folder",
            )
    _write_secret(folder / "signing.key", _pem(identity.signing))
    _write_secret(folder / "sealing.key", _pem(identity.sealing))
    (folder / "card").write_bytes(encode(identity.card))


def load(folder: Path) -> Identity:
    """The identity in ``folder``.

    SettingsError when there is none or a key file is missing, damaged or readable by others;
    IntegrityError when card and keys do not belong together.
    """
    if not (folder / "card").exists():
        raise SettingsError(
            f"{folder} holds no identity", "make one with `siloquy silo|gateway|hub init`"
        )
    signing = _read_secret(folder / "signing.key")
    sealing = _read_secret(folder / "sealing.key")
    card = decode(Member, (folder / "card").read_bytes())
    if not isinstance(signing, Ed25519PrivateKey) or not isinstance(sealing, X25519PrivateKey):
        raise SettingsError(f"{folder}: the key files are of the wrong kind")
    if signing.public_key().public_bytes_raw() != card.signing_key:
        raise IntegrityError(f"{folder}: card and signing key do not belong together")
    if sealing.public_key().public_bytes_raw() != card.sealing_key:
        raise IntegrityError(f"{folder}: card and sealing key do not belong together")
    check_card(card)
    return Identity(card, signing, sealing)


def _pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_secret(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _read_secret(path: Path) -> object:
    if not path.exists():
        raise SettingsError(f"{path} is missing", "restore the node's folder from its backup")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise SettingsError(f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(
            f"{path} is damaged or encrypted", "restore the plain PEM file from the node's backup"
        ) from None
