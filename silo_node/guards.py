"""What stands between a request and a document, in one list, in order.

A guard may refuse (raise), hold passages back, or change what leaves; ``release.Door`` hangs them
in front of the only function that makes a Passage. What they read of the hospital's policy is
``ReleasePolicy`` in ``siloquy/settings.py``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import BudgetExhausted, IntegrityError, PolicyDenied
from siloquy.sealed import handles as handles_of_rows
from siloquy.settings import AUDIT_PURPOSE, ReleasePolicy
from siloquy.silo_node import pause
from siloquy.types import Handle, NodeId, Passage, QueryId, Rule, Ticket


@dataclass(frozen=True, slots=True)
class OfferedPassage:
    """A candidate that was offered in phase 1 under its handle.

    number           of the passage; 0 for a row of padding, which is none
    dense, lexical   None for a sealed question: the silo knows neither
    """

    number: int
    dense: float | None = None
    lexical: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RowPlaces:
    """Which passage each row of a sealed reply is of.

    numbers   (blocks, rows) passages by place in the silo's packing, 0 for padding
    order     (blocks,) the packing's blocks in the order of the reply
    """

    handle_key: bytes
    numbers: NDArray[np.int64]
    order: NDArray[np.int64]

    def offered(self, handles: Sequence[Handle]) -> dict[Handle, OfferedPassage]:
        """Those of ``handles`` that name a row."""
        places = ((handle, handles_of_rows.place_of(self.handle_key, handle)) for handle in handles)
        rows = self.numbers.shape[1]
        return {
            handle: OfferedPassage(int(self.numbers[self.order[place // rows], place % rows]))
            for handle, place in places
            if place is not None and place < self.numbers.size
        }


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """An open question at a silo: who asked, what was offered, what has gone out already.

    placed   where a sealed question's rows lay in the reply; ``offered`` is then read from it
    """

    query_id: QueryId
    gateway: NodeId
    requester: str
    purpose: str
    k: int
    expires: int
    offered: dict[Handle, OfferedPassage]
    used: frozenset[Handle] = frozenset()
    placed: RowPlaces | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A release request whose signatures hold, beside the question that it belongs to."""

    question: OpenQuestion
    ticket: Ticket
    gateway: NodeId
    handles: tuple[Handle, ...]
    now: int
    day: str


@dataclass(frozen=True, slots=True)
class GuardReply:
    """What leaves and what is held back, by the rule that holds it."""

    passages: tuple[Passage, ...] = ()
    withheld: dict[Rule, int] = field(default_factory=dict)

    def without(self, rule: Rule, kept: tuple[Passage, ...]) -> GuardReply:
        """The reply with only ``kept``, the rest counted under ``rule``."""
        held = len(self.passages) - len(kept)
        if not held:
            return self
        counted = self.withheld.get(rule, 0) + held
        return GuardReply(kept, {**self.withheld, rule: counted})


Release = Callable[[Request], GuardReply]
Guard = Callable[[Request, Release], GuardReply]
Holds = Callable[[Handle], bool]
"""Whether something holds of the passage that was asked for under a handle."""


def running(connection: sqlite3.Connection) -> Guard:
    """Nothing while the hospital has paused its silo; read in the caller's transaction."""

    def guard(request: Request, release: Release) -> GuardReply:
        check_running(connection)
        return release(request)

    return guard


def identity(policy: ReleasePolicy) -> Guard:
    """Only a gateway that this silo approved, and only for its own question."""

    def guard(request: Request, release: Release) -> GuardReply:
        check_gateway(policy, request.gateway)
        if request.gateway != request.question.gateway:
            raise PolicyDenied(f"the question was asked by another gateway than {request.gateway}")
        return release(request)

    return guard


def ticket(request: Request, release: Release) -> GuardReply:
    """Only handles on a fresh ticket for this very question, gateway and count, each once."""
    question, paper = request.question, request.ticket
    same = (paper.query_id, paper.gateway, paper.k) == (
        question.query_id,
        question.gateway,
        question.k,
    )
    if not same:
        raise IntegrityError("the ticket is for another question, gateway or k")
    if min(paper.expires, question.expires) < request.now:
        raise PolicyDenied("the ticket has expired", "ask the question again")
    if not request.handles:
        raise PolicyDenied("no handle is asked for")
    if set(request.handles) - set(paper.handles):
        raise IntegrityError("a handle is asked for that is not on the ticket")
    if set(request.handles) - question.offered.keys():
        raise IntegrityError("a handle is asked for that was never offered")
    if not _claims_hold(paper, question):
        raise IntegrityError("the ticket names another similarity or word score than was offered")
    if len(set(request.handles)) != len(request.handles) or question.used & set(request.handles):
        raise PolicyDenied("a handle was used before; each is good for one release")
    return release(request)


def _claims_hold(paper: Ticket, question: OpenQuestion) -> bool:
    """Whether the hub repeats what this silo offered, so that it cannot be made a liar.

    Of a sealed question it must tell no score: a silo that learnt them could read the question.
    """
    if question.placed is not None:
        return not paper.claims and not paper.lexical
    if not len(paper.handles) == len(paper.claims) == len(paper.lexical):
        return False
    claims = zip(paper.claims, paper.lexical, strict=True)
    return all(
        (offered := question.offered.get(handle)) is not None
        and (offered.dense, offered.lexical) == claim
        for handle, claim in zip(paper.handles, claims, strict=True)
    )


def purpose(policy: ReleasePolicy) -> Guard:
    """Only for a purpose of use that this silo accepts."""

    def guard(request: Request, release: Release) -> GuardReply:
        check_purpose(policy, request.question.purpose)
        if request.question.purpose == AUDIT_PURPOSE:
            raise PolicyDenied("nothing is released for an audit")
        return release(request)

    return guard


def cap(policy: ReleasePolicy) -> Guard:
    """At most k passages a question, and never more than the policy's own limit."""

    def guard(request: Request, release: Release) -> GuardReply:
        question = request.question
        if len(question.used) + len(request.handles) > question.k:
            raise PolicyDenied(f"more than k = {question.k} handles are asked for")
        most = max(policy.most_per_question - len(question.used), 0)
        return release(request) if most >= len(request.handles) else _first(request, release, most)

    return guard


def _first(request: Request, release: Release, most: int) -> GuardReply:
    reply = release(replace(request, handles=request.handles[:most]))
    over = len(request.handles) - most
    return replace(reply, withheld={**reply.withheld, "cap": over})


def budget(connection: sqlite3.Connection, policy: ReleasePolicy) -> Guard:
    """What is left of the gateway's passages for today; counted in the caller's transaction."""

    def guard(request: Request, release: Release) -> GuardReply:
        left = policy.passages_per_day - spent(connection, request.gateway, request.day)
        reply = release(request)
        reply = reply.without("budget", reply.passages[: max(left, 0)])
        connection.execute(
            "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (gateway, day) "
            "DO UPDATE SET passages = passages + excluded.passages",
            (request.gateway, request.day, len(reply.passages)),
        )
        return reply

    return guard


def deidentify(request: Request, release: Release) -> GuardReply:
    """The slot for de-identification of title, section and text; today it changes nothing."""
    return release(request)


def sealing(closed: Holds) -> Guard:
    """No passage of a collection that answers sealed questions alone, for an open question."""

    def guard(request: Request, release: Release) -> GuardReply:
        reply = release(request)
        if request.question.placed is not None:
            return reply
        return reply.without("sealed", tuple(p for p in reply.passages if not closed(p.handle)))

    return guard


def consent(consents: Holds) -> Guard:
    """No passage of a document whose consent has been withdrawn since it was offered."""

    def guard(request: Request, release: Release) -> GuardReply:
        reply = release(request)
        return reply.without("consent", tuple(p for p in reply.passages if consents(p.handle)))

    return guard


def check_running(connection: sqlite3.Connection) -> None:
    """PolicyDenied while the silo is paused; why it is stays here."""
    if pause.current(connection) is not None:
        raise PolicyDenied("paused by its hospital", "its hospital resumes it; ask again later")


def check_gateway(policy: ReleasePolicy, gateway: NodeId) -> None:
    """PolicyDenied unless the silo's policy names ``gateway``."""
    if gateway not in policy.gateways:
        raise PolicyDenied(
            f"{gateway} is not among the gateways that this silo approved",
            "the silo's administrator approves it in policy.gateways",
        )


def check_purpose(policy: ReleasePolicy, purpose: str) -> None:
    """PolicyDenied unless the silo accepts ``purpose``."""
    if purpose not in policy.purposes:
        raise PolicyDenied(
            "the purpose of use is not accepted here",
            f"this silo accepts: {', '.join(policy.purposes)}",
        )


def check_budget(
    connection: sqlite3.Connection, policy: ReleasePolicy, gateway: NodeId, day: str
) -> None:
    """BudgetExhausted when the gateway has had all its passages of ``day``."""
    if spent(connection, gateway, day) >= policy.passages_per_day:
        raise BudgetExhausted(
            f"{gateway} has had its {policy.passages_per_day} passages of {day}",
            "the budget renews at 00:00 UTC",
        )


def count_sealed(
    connection: sqlite3.Connection, policy: ReleasePolicy, gateway: NodeId, day: str
) -> bool:
    """Count a sealed question, whatever it is worth: nobody here can tell sense from nonsense.

    False when the gateway has had all of ``day``; then nothing is counted.
    """
    done = connection.execute(
        "INSERT INTO sealed_asked SELECT ?1, ?2, 1 WHERE ?3 > 0 ON CONFLICT (gateway, day) "
        "DO UPDATE SET questions = questions + 1 WHERE questions < ?3",
        (gateway, day, policy.sealed_per_day),
    )
    return done.rowcount > 0


def no_sealed_left(policy: ReleasePolicy, gateway: NodeId, day: str) -> BudgetExhausted:
    """What a gateway is told that has asked all its sealed questions of ``day``."""
    return BudgetExhausted(
        f"{gateway} has asked its {policy.sealed_per_day} sealed questions of {day}",
        "the budget renews at 00:00 UTC",
    )


def spent(connection: sqlite3.Connection, gateway: NodeId, day: str) -> int:
    """Passages that ``gateway`` has had on ``day`` (UTC, ISO date)."""
    row = connection.execute(
        "SELECT passages FROM spent WHERE gateway = ? AND day = ?", (gateway, day)
    ).fetchone()
    return int(row[0]) if row else 0


def sealed_asked(connection: sqlite3.Connection, gateway: NodeId, day: str) -> int:
    """Sealed questions that ``gateway`` has asked on ``day`` (UTC, ISO date)."""
    row = connection.execute(
        "SELECT questions FROM sealed_asked WHERE gateway = ? AND day = ?", (gateway, day)
    ).fetchone()
    return int(row[0]) if row else 0
