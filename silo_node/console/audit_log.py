"""The audit log: the disclosure ledger page by page, newest first; what left, to whom, and why."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from siloquy.codec import decode
from siloquy.errors import IntegrityError
from siloquy.silo_node.release import check_books, day_of
from siloquy.trust import ledger
from siloquy.trust.ledger import LedgerEntry

# A page that is filtered looks through so many entries, then says where to go on.
MOST_LOOKED_THROUGH = 20_000


@dataclass(frozen=True, slots=True)
class AuditLogFilter:
    """Which entries: of one gateway, of one document, of one UTC day (ISO); empty for any."""

    gateway: str = ""
    document: str = ""
    day: str = ""

    def holds(self, entry: LedgerEntry) -> bool:
        """Whether ``entry`` is one of them."""
        return (
            self.gateway in ("", entry.gateway)
            and self.day in ("", day_of(entry.created))
            and (not self.document or self.document in map(document_of, entry.passages))
        )


@dataclass(frozen=True, slots=True)
class Left:
    """A passage that left, by where it stands; ``title`` is empty once its document is deleted."""

    document: str
    title: str
    start: int
    end: int
    characters: int


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One entry of the ledger.

    n             its number, from 1
    at            Unix milliseconds
    query_id      hex, as receipts name it
    withheld      winners that were held back, by the rule that held them
    spent_today   passages of the gateway's budget used up by then on its day
    hash          hex, of the chain up to here
    """

    n: int
    at: int
    kind: str
    gateway: str
    requester: str
    purpose: str
    query_id: str
    passages: tuple[Left, ...]
    withheld: dict[str, int]
    spent_today: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditLogPage:
    """Entries, how many the whole ledger has, and before which number to go on; None: no more."""

    entries: tuple[Disclosure, ...]
    total: int
    next: int | None


@dataclass(frozen=True, slots=True)
class LedgerVerdict:
    """Whether chain and budget hold; ``detail`` says what does not, ``head`` is hex."""

    holds: bool
    entries: int
    head: str
    checked_at: int
    detail: str


def page(
    connection: sqlite3.Connection, wanted: AuditLogFilter, before: int | None, limit: int
) -> AuditLogPage:
    """At most ``limit`` entries that are ``wanted``, numbered below ``before``."""
    total, _ = ledger.head(connection)
    last = total + 1 if before is None else min(before, total + 1)
    found: list[Disclosure] = []
    number = last
    for number, entry, digest in _backwards(connection, last):
        if wanted.holds(entry):
            found.append(_disclosure(connection, number, entry, digest))
        if len(found) == limit:
            break
    return AuditLogPage(tuple(found), total, number if number > 1 else None)


def _backwards(
    connection: sqlite3.Connection, before: int
) -> Iterator[tuple[int, LedgerEntry, bytes]]:
    rows = connection.execute(
        "SELECT number, CAST(body AS BLOB), hash FROM ledger WHERE number < ? "
        "ORDER BY number DESC LIMIT ?",
        (before, MOST_LOOKED_THROUGH),
    )
    for number, body, digest in rows:
        yield number, decode(LedgerEntry, body), digest


def _disclosure(
    connection: sqlite3.Connection, number: int, entry: LedgerEntry, digest: bytes
) -> Disclosure:
    return Disclosure(
        n=number,
        at=entry.created,
        kind=entry.kind,
        gateway=entry.gateway,
        requester=entry.requester,
        purpose=entry.purpose,
        query_id=entry.query.hex(),
        passages=tuple(_left(connection, entry.passages)),
        withheld=entry.withheld,
        spent_today=entry.spent,
        hash=digest.hex(),
    )


def _left(connection: sqlite3.Connection, passages: Iterable[str]) -> Iterator[Left]:
    for name in passages:
        document = document_of(name)
        start, _, end = name[len(document) + 1 :].partition("-")
        row = connection.execute("SELECT title FROM documents WHERE id = ?", (document,)).fetchone()
        yield Left(document, row[0] if row else "", int(start), int(end), int(end) - int(start))


def document_of(passage: str) -> str:
    """The document in a passage's name.

    >>> document_of("notes.jsonl#a:b:0-12")
    'notes.jsonl#a:b'
    """
    return passage.rpartition(":")[0]


def verified(connection: sqlite3.Connection, now: int) -> LedgerVerdict:
    """Whether the chain holds from its first entry on, and the budget counts what it says."""
    entries, digest = ledger.head(connection)
    try:
        ledger.check(connection)
        check_books(connection)
    except IntegrityError as error:
        return LedgerVerdict(False, entries, digest.hex(), now, error.message)
    return LedgerVerdict(True, entries, digest.hex(), now, "")
