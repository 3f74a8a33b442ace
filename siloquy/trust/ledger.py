"""The disclosure ledger, a hospital's audit log: every release, hash-chained, its head signed.

An entry's hash covers the one before, so no entry can be changed, dropped or reordered without
changing every later head. Heads travel with releases and gateways keep them: a rewritten ledger
shows. Entries are written in the caller's transaction, before the passages leave.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError
from siloquy.types import LedgerHead, NodeId, SignedMessage

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    hash BLOB NOT NULL
);
"""
HEAD_CONTEXT = "ledger head"
GENESIS = bytes(32)


class Signer(Protocol):
    """What signs a head: an identity."""

    @property
    def node(self) -> NodeId:
        """Whose ledger it is."""
        ...

    def sign(self, context: str, value: object) -> SignedMessage:
        """``value`` encoded and signed."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One release: who got which passages for what purpose, under which rules; never any text.

    kind        "release" or "refusal"
    passages    ids of what left
    withheld    winners held back, by the rule that held them
    spent       passages of the gateway's budget used up today, this entry included
    created     Unix milliseconds
    """

    kind: str
    created: int
    query: bytes
    gateway: NodeId
    requester: str
    purpose: str
    passages: tuple[str, ...]
    withheld: dict[str, int]
    spent: int


def append(connection: sqlite3.Connection, entry: LedgerEntry) -> tuple[int, bytes]:
    """Write ``entry`` inside the caller's transaction; its number and hash."""
    number, previous = head(connection)
    body = encode(entry)
    digest = link(previous, number + 1, body)
    connection.execute("INSERT INTO ledger VALUES (?, ?, ?)", (number + 1, body, digest))
    return number + 1, digest


def head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Number and hash of the last entry; (0, zeros) when there is none."""
    row = connection.execute(
        "SELECT number, hash FROM ledger ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return (row[0], row[1]) if row else (0, GENESIS)


def signed_head(connection: sqlite3.Connection, signer: Signer, now: int) -> SignedMessage:
    """The current head, signed."""
    number, digest = head(connection)
    return signer.sign(HEAD_CONTEXT, LedgerHead(signer.node, number, digest, now))


def link(previous: bytes, number: int, body: bytes) -> bytes:
    """Hash of entry ``number`` that follows the entry hashed ``previous``."""
    return hashlib.sha256(previous + number.to_bytes(8, "big") + body).digest()


def entries(connection: sqlite3.Connection) -> Iterator[LedgerEntry]:
    """All entries, oldest first."""
    for (body,) in connection.execute("SELECT CAST(body AS BLOB) FROM ledger ORDER BY number"):
        yield decode(LedgerEntry, body)


def check(connection: sqlite3.Connection, heads: tuple[LedgerHead, ...] = ()) -> int:
    """Number of entries when the chain holds and contains every one of ``heads``.

    IntegrityError names the first entry that was changed, dropped or reordered.
    """
    previous, count = GENESIS, 0
    wanted: dict[int, set[bytes]] = {}
    for item in heads:
        wanted.setdefault(item.entries, set()).add(item.hash)
    if wanted.pop(0, {GENESIS}) != {GENESIS}:
        raise IntegrityError("a signed head of no entries does not say so")
    for number, body, digest in connection.execute(
        "SELECT number, CAST(body AS BLOB), hash FROM ledger ORDER BY number"
    ):
        count += 1
        if number != count or digest != link(previous, number, body):
            raise IntegrityError(f"ledger entry {count} was changed, dropped or reordered")
        if wanted.pop(number, {digest}) != {digest}:
            raise IntegrityError(f"ledger entry {count} is not what its signed head says")
        previous = digest
    if wanted:
        raise IntegrityError(f"ledger ends at entry {count}, a signed head says {max(wanted)}")
    return count
