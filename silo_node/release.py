"""The one door: nothing but this file makes a Passage, and every one is in the ledger first.

The guards hang in front of it in this order, outermost first:

    running -> identity -> ticket -> purpose -> cap -> budget -> consent -> sealing -> deidentify
    -> the passages

Budget, ledger entry and the mark of used handles are one transaction; the reply leaves after its
commit. A crash in between has charged for passages that did not leave, never the reverse.
"""

from __future__ import annotations

import functools
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from siloquy import crash
from siloquy.database import transaction
from siloquy.errors import IntegrityError
from siloquy.settings import ReleasePolicy
from siloquy.silo_node import guards
from siloquy.silo_node.guards import Guard, GuardReply, OpenQuestion, Release, Request
from siloquy.silo_node.store import Store, StoredPassage
from siloquy.trust import ledger
from siloquy.trust.identity import Identity
from siloquy.trust.ledger import LedgerEntry
from siloquy.types import Handle, NodeId, Passage, ReleaseReply, Rule, Ticket
from siloquy.watch.metrics import SiloMonitor

PADDING: Rule = "padding"
"""Rows that won a place in a sealed merge and are no passages."""


class Door:
    """Releases winners of one silo's questions under its policy."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        policy: ReleasePolicy,
        monitor: SiloMonitor | None = None,
    ) -> None:
        self._store = store
        self._identity = identity
        self._policy = policy
        self._monitor = monitor or SiloMonitor()

    def open(
        self,
        question: OpenQuestion,
        ticket: Ticket,
        gateway: NodeId,
        handles: tuple[Handle, ...],
        now: int,
    ) -> ReleaseReply:
        """The passages that may leave, recorded; PolicyDenied or IntegrityError else."""
        request = Request(question, ticket, gateway, handles, now, day_of(now))
        crash.point("release-begun")
        with self._store.lock, transaction(self._store.connection) as connection:
            reply = self._guarded()(request)
            spent = guards.spent(connection, gateway, request.day)
            ledger.append(connection, _entry(request, reply, spent))
            head = ledger.signed_head(connection, self._identity, now)
            crash.point("release-charged")
        crash.point("release-committed")
        self._monitor.let_out(len(reply.passages), reply.withheld)
        withheld = sum(n for rule, n in reply.withheld.items() if rule != PADDING)
        return ReleaseReply(question.query_id, self._identity.node, reply.passages, withheld, head)

    def _guarded(self) -> Release:
        policy, found = self._policy, dict[Handle, StoredPassage]()
        chain: Sequence[Guard] = (
            guards.running(self._store.connection),
            guards.identity(policy),
            guards.ticket,
            guards.purpose(policy),
            guards.cap(policy),
            guards.budget(self._store.connection, policy),
            guards.consent(lambda handle: found[handle].consent),
            guards.sealing(lambda handle: demands(policy, found[handle].collection)),
            guards.deidentify,
        )
        return hang(chain, functools.partial(self._fetch, found))

    def _fetch(self, found: dict[Handle, StoredPassage], request: Request) -> GuardReply:
        """The passages themselves; what is padding, or deleted since it was offered, is no more."""
        numbers = {handle: request.question.offered[handle].number for handle in request.handles}
        for handle, number in numbers.items():
            stored = self._store.passage(number) if number else None
            if stored is not None:
                found[handle] = stored
        passages = tuple(
            self._passage(request.question, handle, found[handle])
            for handle in request.handles
            if handle in found
        )
        padding = sum(not number for number in numbers.values())
        deleted = len(request.handles) - len(passages) - padding
        withheld: dict[Rule, int] = {"deleted": deleted, PADDING: padding}
        return GuardReply(passages, {rule: count for rule, count in withheld.items() if count})

    def _passage(self, question: OpenQuestion, handle: Handle, stored: StoredPassage) -> Passage:
        offered = question.offered[handle]
        return Passage(
            handle=handle,
            silo=self._identity.node,
            id=stored.id,
            document=stored.document,
            title=stored.title,
            text=stored.text,
            start=stored.start,
            end=stored.end,
            dense=offered.dense,
            lexical=offered.lexical,
            section=stored.section,
            dated=stored.dated,
        )


def check_books(connection: sqlite3.Connection) -> None:
    """IntegrityError when the budget's count of a day is not what the ledger says of it."""
    entered = Counter[tuple[str, str]]()
    for entry in ledger.entries(connection):
        entered[entry.gateway, day_of(entry.created)] += len(entry.passages)
    counted = connection.execute("SELECT gateway, day, passages FROM spent WHERE passages > 0")
    spent = Counter({(gateway, day): passages for gateway, day, passages in counted})
    for gateway, day in sorted((entered - spent) + (spent - entered)):
        raise IntegrityError(
            f"{spent[gateway, day]} passages are counted for {gateway} on {day}, "
            f"the ledger says {entered[gateway, day]}"
        )


def demands(policy: ReleasePolicy, collection: str) -> bool:
    """Whether the policy lets ``collection`` answer sealed questions alone."""
    return "*" in policy.sealed or collection in policy.sealed


def hang(chain: Sequence[Guard], release: Release) -> Release:
    """``release`` behind all guards, the first outermost."""
    for guard in reversed(chain):
        release = _behind(guard, release)
    return release


def _behind(guard: Guard, release: Release) -> Release:
    return lambda request: guard(request, release)


def day_of(now: int) -> str:
    """The UTC date of a Unix time in milliseconds, ISO."""
    return datetime.fromtimestamp(now / 1000, UTC).date().isoformat()


def _entry(request: Request, reply: GuardReply, spent: int) -> LedgerEntry:
    question = request.question
    return LedgerEntry(
        kind="release",
        created=request.now,
        query=question.query_id,
        gateway=question.gateway,
        requester=question.requester,
        purpose=question.purpose,
        passages=tuple(passage.id for passage in reply.passages),
        withheld={str(rule): n for rule, n in reply.withheld.items()},
        spent=spent,
    )
