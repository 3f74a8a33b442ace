"""The heads of silos' ledgers that a gateway has been given: a shortened or rewritten one shows.

It shows until the ledger has outgrown the newest head kept here; receipts keep heads for longer.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from siloquy import crash
from siloquy.codec import decode, encode
from siloquy.database import SharedCommits, connect
from siloquy.errors import IntegrityError
from siloquy.trust import roster as rosters
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.trust.roster import SignedRoster
from siloquy.types import LedgerHead, NodeId, SignedMessage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS heads (
    silo TEXT, entries INTEGER, created INTEGER NOT NULL, hash BLOB NOT NULL, signed BLOB NOT NULL,
    PRIMARY KEY (silo, entries)
);
"""


class HeadBook:
    """Signed heads by silo; survives restarts."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, _SCHEMA)
        self._commits = SharedCommits(self._connection, threading.Lock())

    def accept(self, roster: SignedRoster, signed: SignedMessage, silo: NodeId) -> None:
        """Keep a head; IntegrityError when it is not ``silo``'s or contradicts a kept one."""
        head = decode(LedgerHead, rosters.open_signed(roster, signed, HEAD_CONTEXT, "silo"))
        if signed.signer != silo or head.silo != silo:
            raise IntegrityError(f"a ledger head that is not {silo}'s")
        self._commits.run(lambda connection: _keep(connection, signed, head))
        crash.point("head-kept")


def _keep(connection: sqlite3.Connection, signed: SignedMessage, head: LedgerHead) -> None:
    """Write ``head`` inside the caller's transaction; IntegrityError when a kept one differs."""
    silo, place = head.silo, (head.silo, head.entries)
    kept = connection.execute(
        "SELECT hash FROM heads WHERE silo = ? AND entries = ?", place
    ).fetchone()
    if kept and kept[0] != head.hash:
        raise IntegrityError(f"the ledger of {silo} was rewritten: two heads of one length")
    # Heads of parallel questions may arrive out of order; their dates then agree. Those kept agree
    # among themselves, so the next shorter and the next longer tell for all.
    if connection.execute(
        "SELECT 1 FROM (SELECT created FROM heads WHERE silo = ?1 AND entries > ?2 "
        "ORDER BY entries LIMIT 1) WHERE created < ?3 UNION ALL "
        "SELECT 1 FROM (SELECT created FROM heads WHERE silo = ?1 AND entries < ?2 "
        "ORDER BY entries DESC LIMIT 1) WHERE created > ?3",
        (*place, head.created),
    ).fetchone():
        raise IntegrityError(f"the ledger of {silo} was shortened")
    connection.execute(
        "INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?)",
        (*place, head.created, head.hash, encode(signed)),
    )
    crash.point("head-noted")
