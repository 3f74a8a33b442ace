"""The hub's registry: invitations, enrolments that wait for the founders, sealed profiles.

Nothing here can be read by the hub but names, public keys and sizes; nothing here is trusted by
any node, which all follow the signed roster.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from siloquy import crash
from siloquy.codec import decode, encode
from siloquy.database import connect, transaction
from siloquy.errors import IntegrityError, PolicyDenied
from siloquy.types import Member, NodeId, Role

SCHEMA = """
CREATE TABLE IF NOT EXISTS invitations (
    secret_hash BLOB PRIMARY KEY, node TEXT NOT NULL, role TEXT NOT NULL,
    expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS pending (
    node TEXT PRIMARY KEY, card BLOB NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS profiles (
    silo TEXT PRIMARY KEY, envelope BLOB NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS presence (
    node TEXT PRIMARY KEY, connected INTEGER NOT NULL, since INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
INVITATION_LIFETIME_MS = 72 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an administrator sends to a new node, out of band; good once.

    hub_key       the hub's Ed25519 key
    certificate   SHA-256 of the hub's TLS certificate
    """

    url: str
    node: NodeId
    role: Role
    secret: bytes
    hub_key: bytes
    certificate: bytes
    federation: str

    def token(self) -> str:
        """One line of text."""
        return "siloquy1." + base64.urlsafe_b64encode(encode(self)).decode().rstrip("=")

    @staticmethod
    def parse(token: str) -> Invitation:
        """The invitation in a token; IntegrityError when it is none."""
        head, _, body = token.strip().partition(".")
        if head != "siloquy1":
            raise IntegrityError("this is no invitation", "paste the whole line from `hub invite`")
        try:
            data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        except ValueError:
            raise IntegrityError("the invitation is damaged", "paste the whole line") from None
        return decode(Invitation, data)


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a node's line stands, since when (Unix milliseconds)."""

    node: NodeId
    connected: bool
    since: int


class Registry:
    """One connection to the hub's database; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, SCHEMA)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def invite(self, node: NodeId, role: Role, now: int) -> bytes:
        """The secret of a new one-time invitation; only its hash is kept."""
        secret = os.urandom(32)
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "INSERT INTO invitations VALUES (?, ?, ?, ?, 0)",
                (_hash(secret), node, role, now + INVITATION_LIFETIME_MS),
            )
        return secret

    def enrol(self, secret: bytes, card: Member, now: int) -> None:
        """Use an invitation up and let ``card`` wait for the founders; PolicyDenied else.

        The same card may come with it again while it waits: its node may have died before it heard.
        """
        with self._lock, transaction(self._connection):
            used = self._connection.execute(
                "UPDATE invitations SET used = 1 WHERE secret_hash = ? AND node = ? AND role = ? "
                "AND expires >= ? AND NOT used",
                (_hash(secret), card.node, card.role, now),
            ).rowcount
            if not used and self._waits(secret, card, now):
                return
            if not used:
                self.count("enrolments refused")
            else:
                self._connection.execute(
                    "INSERT OR REPLACE INTO pending VALUES (?, ?, ?)",
                    (card.node, encode(card), now),
                )
            crash.point("invitation-used")
        crash.point("enrolled")
        if not used:
            raise PolicyDenied(
                f"no open invitation for {card.node} as {card.role} with this secret",
                "an invitation is for one name and role, once, within 72 hours; ask for another",
            )

    def _waits(self, secret: bytes, card: Member, now: int) -> bool:
        row = self._connection.execute(
            "SELECT card FROM pending JOIN invitations USING (node) "
            "WHERE secret_hash = ? AND node = ? AND role = ? AND expires >= ? AND used",
            (_hash(secret), card.node, card.role, now),
        ).fetchone()
        return row is not None and decode(Member, row[0]) == card

    def pending(self, rostered: Collection[Member] = ()) -> list[Member]:
        """Cards that wait for the founders, new keys of a rostered name among them."""
        rows = self._connection.execute("SELECT card FROM pending ORDER BY node")
        cards = [decode(Member, card) for (card,) in rows]
        return [card for card in cards if card not in rostered]

    def publish(self, silo: NodeId, envelope: bytes, now: int) -> None:
        """Keep a silo's newest sealed profile."""
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO profiles VALUES (?, ?, ?)", (silo, envelope, now)
            )
            crash.point("profile-noted")

    def unpublish(self, silo: NodeId) -> None:
        """Forget a silo's profile."""
        with self._lock, transaction(self._connection):
            self._connection.execute("DELETE FROM profiles WHERE silo = ?", (silo,))

    def forget(self, nodes: Collection[NodeId]) -> None:
        """Let these nodes wait no longer: they are signed in, or left out."""
        with self._lock, transaction(self._connection):
            self._connection.executemany(
                "DELETE FROM pending WHERE node = ?", [(node,) for node in nodes]
            )

    def profiles(self) -> dict[NodeId, bytes]:
        """Sealed profiles by silo."""
        rows = self._connection.execute("SELECT silo, envelope FROM profiles ORDER BY silo")
        return {NodeId(silo): envelope for silo, envelope in rows}

    def set_presence(self, node: NodeId, connected: bool, now: int) -> None:
        """Note that a line came up or went down."""
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO presence VALUES (?, ?, ?)", (node, connected, now)
            )

    def all_absent(self, now: int) -> None:
        """At start no line stands yet."""
        with self._lock, transaction(self._connection):
            self._connection.execute("UPDATE presence SET connected = 0, since = ?", (now,))

    def presence(self) -> list[Presence]:
        """Every node seen."""
        rows = self._connection.execute("SELECT * FROM presence ORDER BY node")
        return [Presence(NodeId(node), bool(up), since) for node, up, since in rows]

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter of refusals."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) "
                "DO UPDATE SET value = value + excluded.value",
                (name, n),
            )

    def counters(self) -> dict[str, int]:
        """Refusals by kind."""
        return dict(self._connection.execute("SELECT name, value FROM counters ORDER BY name"))


def _hash(secret: bytes) -> bytes:
    return hashlib.sha256(b"invitation" + secret).digest()
