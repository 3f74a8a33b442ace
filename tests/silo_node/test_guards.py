"""Each guard alone: what it refuses, what it holds back, what it lets through."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import BudgetExhausted, IntegrityError, PolicyDenied
from siloquy.sealed.handles import handles_of as handles_of_rows
from siloquy.settings import AUDIT_PURPOSE, ReleasePolicy
from siloquy.silo_node import guards, pause
from siloquy.silo_node.guards import (
    Guard,
    GuardReply,
    OfferedPassage,
    OpenQuestion,
    Request,
    RowPlaces,
)
from siloquy.types import DocumentId, Handle, NodeId, Passage, PassageId, QueryId, Ticket
from tests.silo_node.hospital import POLICY, open_store
from tests.siloquy.federation import NOW

NORTH, WARD, STRANGER = NodeId("north"), NodeId("ward"), NodeId("stranger")
QUERY = QueryId(bytes(16))
HANDLES = tuple(Handle(bytes([i]) * 16) for i in range(1, 6))
DAY = "2023-11-14"


def request(
    handles: tuple[Handle, ...] = HANDLES[:2], used: frozenset[Handle] = frozenset(), k: int = 5
) -> Request:
    """A request that every guard lets through."""
    question = OpenQuestion(
        query_id=QUERY,
        gateway=WARD,
        requester="local",
        purpose="treatment",
        k=k,
        expires=NOW + 1000,
        offered={handle: OfferedPassage(i, 0.5, 1.5) for i, handle in enumerate(HANDLES)},
        used=used,
    )
    return Request(question, ticket(HANDLES, k), WARD, handles, NOW, DAY)


def ticket(
    handles: tuple[Handle, ...], k: int = 5, claim: float = 0.5, lexical: float = 1.5
) -> Ticket:
    """The hub's ticket for ``handles`` as they were offered."""
    n = len(handles)
    return Ticket(QUERY, WARD, NORTH, handles, (claim,) * n, (lexical,) * n, k, NOW + 1000)


def passage(handle: Handle) -> Passage:
    name = f"document {handle[0]}"
    return Passage(
        handle, NORTH, PassageId(name), DocumentId(name), "", "text", 0, 4, dense=0.5, lexical=1.5
    )


def let_out(request: Request) -> GuardReply:
    """The door with nothing in front of it."""
    return GuardReply(tuple(map(passage, request.handles)))


def never(request: Request) -> GuardReply:
    raise AssertionError("a refused request reached the passages")


def handles_of(reply: GuardReply) -> tuple[Handle, ...]:
    return tuple(item.handle for item in reply.passages)


# -- running --------------------------------------------------------------------------------------


def test_running_refuses_everything_while_the_silo_is_paused_and_tells_nothing_more(
    tmp_path: Path,
) -> None:
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        guard = guards.running(store.connection)
        assert handles_of(guard(request(), let_out)) == HANDLES[:2]
        pause.begin(store.connection, NOW, "anna", "a secret reason")
        with pytest.raises(PolicyDenied) as refused:
            guard(request(), never)
        assert refused.value.message == "paused by its hospital"
        assert "secret" not in refused.value.hint
        pause.end(store.connection, NOW, "anna")
        assert guard(request(), let_out).passages


# -- identity -------------------------------------------------------------------------------------


def test_identity_lets_an_approved_gateway_have_its_own_question() -> None:
    reply = guards.identity(POLICY)(request(), let_out)
    assert handles_of(reply) == HANDLES[:2]


def test_identity_refuses_a_gateway_that_was_not_approved() -> None:
    with pytest.raises(PolicyDenied, match="stranger is not among the gateways") as refused:
        guards.identity(POLICY)(replace(request(), gateway=STRANGER), never)
    assert "policy.gateways" in refused.value.hint


def test_identity_refuses_another_gateways_question() -> None:
    policy = replace(POLICY, gateways=("ward", "stranger"))
    with pytest.raises(PolicyDenied, match="asked by another gateway than stranger"):
        guards.identity(policy)(replace(request(), gateway=STRANGER), never)


def test_the_default_policy_approves_nobody() -> None:
    with pytest.raises(PolicyDenied):
        guards.identity(ReleasePolicy())(request(), never)


# -- ticket ---------------------------------------------------------------------------------------


def test_a_fitting_ticket_passes() -> None:
    assert handles_of(guards.ticket(request(), let_out)) == HANDLES[:2]


@pytest.mark.parametrize(
    "other",
    [{"query_id": QueryId(bytes(15) + b"1")}, {"gateway": STRANGER}, {"k": 6}],
    ids=["question", "gateway", "k"],
)
def test_a_ticket_for_another_question_gateway_or_k_is_refused(other: dict[str, object]) -> None:
    asked = request()
    wrong = replace(asked.ticket, **other)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="another question, gateway or k"):
        guards.ticket(replace(asked, ticket=wrong), never)


def test_a_ticket_holds_until_its_last_millisecond() -> None:
    asked = request()
    assert guards.ticket(replace(asked, now=NOW + 1000), let_out).passages
    with pytest.raises(PolicyDenied, match="expired"):
        guards.ticket(replace(asked, now=NOW + 1001), never)


def test_a_question_expires_even_if_its_ticket_does_not() -> None:
    asked = request()
    old = replace(asked.question, expires=NOW - 1)
    with pytest.raises(PolicyDenied, match="expired"):
        guards.ticket(replace(asked, question=old), never)


def test_a_handle_that_is_not_on_the_ticket_is_refused() -> None:
    asked = request()
    with pytest.raises(IntegrityError, match="not on the ticket"):
        guards.ticket(replace(asked, ticket=ticket(HANDLES[1:])), never)


def test_a_handle_that_was_never_offered_is_refused() -> None:
    asked, invented = request(), Handle(b"x" * 16)
    wide = ticket((*HANDLES, invented))
    with pytest.raises(IntegrityError, match="never offered"):
        guards.ticket(replace(asked, ticket=wide, handles=(invented,)), never)


@pytest.mark.parametrize(
    "paper",
    [
        ticket(HANDLES, claim=0.9),
        replace(ticket(HANDLES), claims=()),
        replace(ticket(HANDLES), claims=(0.5,) * 6),
        ticket(HANDLES, lexical=1.6),
        replace(ticket(HANDLES), lexical=(1.5, 1.5, 1.5, 1.5, 0.0)),
        replace(ticket(HANDLES), lexical=()),
        replace(ticket(HANDLES), lexical=(1.5,) * 6),
        replace(ticket(HANDLES), claims=(), lexical=()),
        ticket((*HANDLES, Handle(b"x" * 16))),
    ],
    ids=[
        "another claim",
        "no claims",
        "a claim too many",
        "another word score",
        "one other word score, of a handle that is not asked for",
        "no word scores",
        "a word score too many",
        "neither claims nor word scores",
        "a handle that was never offered",
    ],
)
def test_a_ticket_that_claims_what_was_not_offered_is_refused(paper: Ticket) -> None:
    with pytest.raises(IntegrityError, match="another similarity or word score than was offered"):
        guards.ticket(replace(request(), ticket=paper), never)


def test_a_handle_is_good_once() -> None:
    with pytest.raises(PolicyDenied, match="used before"):
        guards.ticket(request(used=frozenset(HANDLES[1:2])), never)


def test_a_handle_may_not_stand_twice_in_a_request() -> None:
    with pytest.raises(PolicyDenied, match="used before"):
        guards.ticket(request((HANDLES[0], HANDLES[0])), never)


def test_a_request_for_no_handle_is_refused() -> None:
    with pytest.raises(PolicyDenied, match="no handle"):
        guards.ticket(request(()), never)


# -- sealed questions -----------------------------------------------------------------------------

KEY = bytes(range(32))
PLACED = RowPlaces(KEY, np.array([[11, 0, 13], [21, 22, 0]]), np.array([1, 0]))
IN_REPLY = (21, 22, 0, 11, 0, 13)
"""Passages in the order of the reply, its blocks turned round."""


def sealed_request(*places: int) -> Request:
    """A request for rows of a sealed question that every guard lets through."""
    handles = tuple(handles_of_rows(KEY, places))
    asked = request(handles)
    question = replace(asked.question, placed=PLACED, offered=PLACED.offered(handles))
    paper = replace(asked.ticket, handles=handles, claims=(), lexical=())
    return replace(asked, question=question, ticket=paper)


def test_each_row_of_a_sealed_reply_is_of_the_passage_that_lay_there() -> None:
    handles = handles_of_rows(KEY, range(6))
    offered = PLACED.offered(handles)
    assert tuple(offered[handle].number for handle in handles) == IN_REPLY
    assert {(item.dense, item.lexical) for item in offered.values()} == {(None, None)}


@pytest.mark.parametrize(
    "handle",
    [
        b"",
        b"x" * 16,
        b"x" * 17,
        *handles_of_rows(KEY, [6, 2**32 - 1, 2**32]),
        *handles_of_rows(bytes(32), [0, 1]),
    ],
    ids=["none", "guessed", "too long", "a row more", "far off", "no row", *["another key's"] * 2],
)
def test_a_handle_that_names_no_row_was_never_offered(handle: bytes) -> None:
    assert PLACED.offered([Handle(handle)]) == {}


@given(st.lists(st.integers(0, 5), unique=True, min_size=1))
def test_a_ticket_without_scores_passes_for_a_sealed_question(places: list[int]) -> None:
    asked = sealed_request(*places)
    assert handles_of(guards.ticket(asked, let_out)) == asked.handles


@pytest.mark.parametrize(
    "told", [{"claims": (0.5, 0.5)}, {"lexical": (1.0, 1.0)}, {"claims": (0.0,)}], ids=str
)
def test_a_ticket_that_tells_a_score_of_a_sealed_question_is_refused(
    told: dict[str, tuple[float, ...]],
) -> None:
    asked = sealed_request(0, 1)
    paper = replace(asked.ticket, **told)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="another similarity or word score"):
        guards.ticket(replace(asked, ticket=paper), never)


def test_a_guessed_handle_on_a_ticket_releases_nothing() -> None:
    asked, guessed = sealed_request(0), Handle(b"x" * 16)
    paper = replace(asked.ticket, handles=(*asked.handles, guessed))
    with pytest.raises(IntegrityError, match="never offered"):
        guards.ticket(replace(asked, ticket=paper, handles=(guessed,)), never)


def test_an_open_question_gets_nothing_of_what_is_closed() -> None:
    reply = guards.sealing(lambda handle: handle == HANDLES[0])(request(), let_out)
    assert (handles_of(reply), reply.withheld) == (HANDLES[1:2], {"sealed": 1})
    assert guards.sealing(lambda handle: False)(request(), let_out) == let_out(request())


def test_a_sealed_question_gets_what_is_closed() -> None:
    asked = sealed_request(0, 1)
    assert guards.sealing(lambda handle: True)(asked, let_out) == let_out(asked)


# -- purpose --------------------------------------------------------------------------------------


def test_an_accepted_purpose_passes() -> None:
    assert guards.purpose(POLICY)(request(), let_out).passages


def test_nothing_is_released_for_an_audit_that_the_policy_accepts() -> None:
    question = replace(request().question, purpose=AUDIT_PURPOSE)
    assert AUDIT_PURPOSE in POLICY.purposes
    guards.check_purpose(POLICY, AUDIT_PURPOSE)
    with pytest.raises(PolicyDenied, match="audit"):
        guards.purpose(POLICY)(replace(request(), question=question), never)


def test_another_purpose_is_refused_without_being_repeated() -> None:
    policy = replace(POLICY, purposes=("audit", "research"))
    with pytest.raises(PolicyDenied) as refused:
        guards.purpose(policy)(request(), never)
    assert "treatment" not in refused.value.message
    assert refused.value.hint == "this silo accepts: audit, research"


# -- cap ------------------------------------------------------------------------------------------


def test_cap_lets_through_what_is_within_k_and_policy() -> None:
    assert handles_of(guards.cap(POLICY)(request(k=2), let_out)) == HANDLES[:2]


def test_cap_refuses_more_than_k_handles() -> None:
    with pytest.raises(PolicyDenied, match="more than k = 1"):
        guards.cap(POLICY)(request(k=1), never)


def test_cap_counts_handles_used_before() -> None:
    asked = request((HANDLES[2],), used=frozenset(HANDLES[:2]), k=2)
    with pytest.raises(PolicyDenied, match="more than k = 2"):
        guards.cap(POLICY)(asked, never)


@given(st.integers(0, 6), st.integers(0, 5), st.integers(0, 5))
def test_cap_releases_no_more_than_the_policy_allows(most: int, used: int, wanted: int) -> None:
    asked = request(HANDLES[used : used + wanted], used=frozenset(HANDLES[:used]))
    reply = guards.cap(replace(POLICY, most_per_question=most))(asked, let_out)
    left = min(len(asked.handles), max(most - used, 0))
    assert handles_of(reply) == asked.handles[:left]
    over = len(asked.handles) - left
    assert reply.withheld == ({"cap": over} if over else {})


def test_cap_keeps_what_others_withheld() -> None:
    def release(request: Request) -> GuardReply:
        return GuardReply((), {"consent": len(request.handles)})

    reply = guards.cap(replace(POLICY, most_per_question=1))(request(HANDLES[:3]), release)
    assert reply.withheld == {"consent": 1, "cap": 2}


# -- budget ---------------------------------------------------------------------------------------


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        yield store.connection


def budget(connection: sqlite3.Connection, a_day: int) -> Guard:
    return guards.budget(connection, replace(POLICY, passages_per_day=a_day))


def test_budget_counts_what_leaves(connection: sqlite3.Connection) -> None:
    for expected in (2, 4):
        assert len(budget(connection, 9)(request(), let_out).passages) == 2
        assert guards.spent(connection, WARD, DAY) == expected


def test_budget_holds_back_what_is_over(connection: sqlite3.Connection) -> None:
    reply = budget(connection, 3)(request(HANDLES), let_out)
    assert (handles_of(reply), reply.withheld) == (HANDLES[:3], {"budget": 2})
    assert guards.spent(connection, WARD, DAY) == 3


def test_a_spent_budget_holds_everything_back(connection: sqlite3.Connection) -> None:
    budget(connection, 9)(request(HANDLES), let_out)
    reply = budget(connection, 4)(request(), let_out)
    assert (reply.passages, reply.withheld) == ((), {"budget": 2})
    assert guards.spent(connection, WARD, DAY) == 5


def test_what_a_later_guard_holds_back_costs_nothing(connection: sqlite3.Connection) -> None:
    reply = budget(connection, 9)(request(), lambda request: GuardReply((), {"consent": 2}))
    assert (reply.withheld, guards.spent(connection, WARD, DAY)) == ({"consent": 2}, 0)


def test_each_gateway_and_day_has_its_own_budget(connection: sqlite3.Connection) -> None:
    budget(connection, 2)(request(), let_out)
    for other in (
        replace(request(), day="2023-11-15"),
        replace(request(), gateway=STRANGER),
    ):
        assert len(budget(connection, 2)(other, let_out).passages) == 2


def test_a_budget_that_is_left_passes_the_check(connection: sqlite3.Connection) -> None:
    policy = replace(POLICY, passages_per_day=3)
    guards.check_budget(connection, policy, WARD, DAY)
    guards.budget(connection, policy)(request(), let_out)
    guards.check_budget(connection, policy, WARD, DAY)


def test_a_spent_budget_is_told_with_its_limit_and_day(connection: sqlite3.Connection) -> None:
    policy = replace(POLICY, passages_per_day=2)
    guards.budget(connection, policy)(request(), let_out)
    with pytest.raises(BudgetExhausted, match=f"ward has had its 2 passages of {DAY}") as refused:
        guards.check_budget(connection, policy, WARD, DAY)
    assert refused.value.hint == "the budget renews at 00:00 UTC"


# -- sealed questions of a day --------------------------------------------------------------------


def test_sealed_questions_are_counted_up_to_the_limit(connection: sqlite3.Connection) -> None:
    policy = replace(POLICY, sealed_per_day=2)
    counted = [guards.count_sealed(connection, policy, WARD, DAY) for _ in range(4)]
    assert counted == [True, True, False, False]
    assert guards.sealed_asked(connection, WARD, DAY) == 2
    assert guards.sealed_asked(connection, STRANGER, DAY) == 0
    error = guards.no_sealed_left(policy, WARD, DAY)
    assert error.message == f"ward has asked its 2 sealed questions of {DAY}"


def test_each_gateway_and_day_has_its_own_sealed_questions(connection: sqlite3.Connection) -> None:
    policy = replace(POLICY, sealed_per_day=1)
    assert guards.count_sealed(connection, policy, WARD, DAY)
    assert guards.count_sealed(connection, policy, STRANGER, DAY)
    assert guards.count_sealed(connection, policy, WARD, "2023-11-15")
    assert guards.spent(connection, WARD, DAY) == 0


def test_a_limit_of_none_lets_no_sealed_question_in(connection: sqlite3.Connection) -> None:
    policy = replace(POLICY, sealed_per_day=0)
    assert not guards.count_sealed(connection, policy, WARD, DAY)


# -- consent and de-identification ----------------------------------------------------------------


def test_consent_holds_back_what_was_withdrawn() -> None:
    reply = guards.consent(lambda handle: handle != HANDLES[0])(request(), let_out)
    assert (handles_of(reply), reply.withheld) == (HANDLES[1:2], {"consent": 1})


def test_with_consent_everything_passes() -> None:
    reply = guards.consent(lambda handle: True)(request(), let_out)
    assert (handles_of(reply), reply.withheld) == (HANDLES[:2], {})


def test_deidentification_changes_nothing_yet() -> None:
    assert guards.deidentify(request(), let_out) == let_out(request())


# -- replies --------------------------------------------------------------------------------------


def test_a_reply_that_keeps_all_withholds_nothing() -> None:
    reply = let_out(request())
    assert reply.without("cap", reply.passages) is reply


def test_what_one_rule_withholds_adds_up() -> None:
    reply = GuardReply(tuple(map(passage, HANDLES[:3])), {"cap": 1})
    less = reply.without("cap", reply.passages[:1])
    assert (less.withheld, reply.withheld) == ({"cap": 3}, {"cap": 1})
