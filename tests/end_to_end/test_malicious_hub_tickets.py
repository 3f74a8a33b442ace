"""A hub that would have more passages released than win, others than win, or some twice."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError, Unreachable
from siloquy.types import (
    Handle,
    MergeReply,
    Missing,
    NodeId,
    QueryId,
    ReleaseRequest,
    SignedMessage,
    Ticket,
    Winner,
)
from siloquy.wire import envelope as envelopes
from tests.end_to_end.malicious_hub import HUB, Honest, sham
from tests.end_to_end.merges import named, outcome, ticket_of, with_ticket
from tests.end_to_end.town import (
    ANNEX,
    NORTH,
    SILOS,
    SOUTH,
    WARD,
    K,
    Town,
)

GUESSED = Handle(bytes(16))
NO_TICKET = "integrity: the hub sent no ticket that fits its winners"


# -- tickets and handles --------------------------------------------------------------------------


async def test_an_altered_ticket_is_refused(town: Town) -> None:
    def raise_k(ticket: SignedMessage) -> SignedMessage:
        return replace(ticket, body=encode(replace(decode(Ticket, ticket.body), k=100)))

    async with town.nothing_leaves(NORTH):
        town.hub.bend = with_ticket(NORTH, raise_k)
        assert await outcome(town, NORTH) == NO_TICKET


async def test_a_ticket_signed_by_another_key_is_refused(town: Town) -> None:
    stranger = sham("hub-two", "hub", town.identities[HUB])
    async with town.nothing_leaves(NORTH):
        for signer in (stranger, town.identities[SOUTH]):
            town.hub.bend = with_ticket(NORTH, lambda t: town.hub.ticket(t, signer))  # noqa: B023
            assert await outcome(town, NORTH) == NO_TICKET
        for name in (SOUTH, WARD, NodeId("hub-two")):
            town.hub.bend = with_ticket(NORTH, lambda t: replace(t, signer=name))  # noqa: B023
            assert await outcome(town, NORTH) == NO_TICKET
        accomplice = town.identities[SOUTH]
        town.hub.bend = with_ticket(
            NORTH, lambda t: accomplice.sign("ticket", decode(Ticket, t.body))
        )
        assert await outcome(town, NORTH) == NO_TICKET


MISFITS: dict[str, dict[str, Any]] = {
    "question": {"query_id": QueryId(bytes(16))},
    "gateway": {"gateway": ANNEX},
    "silo": {"silo": SOUTH},
    "k": {"k": 100},
    "no handle": {"handles": ()},
    "another handle": {"handles": (GUESSED,)},
    "no similarity": {"claims": ()},
    "no word score": {"lexical": ()},
}
# What only the silo can tell.
TOLD_BY_SILO: dict[str, dict[str, Any]] = {
    "time": {"expires": 1},
    "similarity": {"claims": (0.999, 0.999)},
    "word score": {"lexical": (0.001, 0.001)},
}


@pytest.mark.parametrize("changes", MISFITS.values(), ids=MISFITS)
async def test_a_ticket_for_something_else_is_not_even_used_by_the_gateway(
    town: Town, changes: dict[str, Any]
) -> None:
    """Rightly signed by the hub, but not what the gateway asked for."""
    before = len(town.hub.kept("release"))
    async with town.nothing_leaves(NORTH):
        town.hub.bend = with_ticket(NORTH, lambda ticket: town.hub.ticket(ticket, **changes))
        assert await outcome(town, NORTH) == NO_TICKET
        asked = town.hub.kept("release")[before:]
        assert NORTH not in {envelopes.read_header(data).recipients[0] for data in asked}


@pytest.mark.parametrize("changes", (MISFITS | TOLD_BY_SILO).values(), ids=MISFITS | TOLD_BY_SILO)
async def test_a_ticket_for_something_else_is_refused_by_the_silo(
    town: Town, changes: dict[str, Any]
) -> None:
    """The same inside a gateway's true request, as a careless gateway would send it."""
    async with town.nothing_leaves():
        merged = await asked_without_release(town)
        ticket = ticket_of(merged, NORTH)
        handles = decode(Ticket, ticket.body).handles
        request = ReleaseRequest(town.hub.ticket(ticket, **changes), handles)
        envelope = town.seal(town.identities[WARD], "release", merged.query_id, request, NORTH)
        with pytest.raises((IntegrityError, PolicyDenied), match="ticket"):
            await town.hub.tell(NORTH, "release", envelope)


async def asked_without_release(town: Town) -> MergeReply:
    """A question whose winners are known and whose releases were swallowed."""

    async def swallow(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if method == "release":
            raise Unreachable("swallowed")
        return await honest(body)

    town.hub.carry = swallow
    await town.ask()
    return town.hub.merges[-1]


async def test_a_gateway_s_request_without_the_hub_s_own_signature_is_refused(town: Town) -> None:
    """The gateway is the attacker: it writes itself a ticket, or has a silo write one."""
    async with town.nothing_leaves():
        merged = await asked_without_release(town)
        paper = decode(Ticket, ticket_of(merged, NORTH).body)
        for signer in (WARD, SOUTH):
            signed = town.identities[signer].sign("ticket", paper)
            for ticket in (signed, replace(signed, signer=HUB)):
                request = ReleaseRequest(ticket, paper.handles)
                envelope = town.seal(
                    town.identities[WARD], "release", merged.query_id, request, NORTH
                )
                with pytest.raises((IntegrityError, PolicyDenied), match=r"as hub|of ticket"):
                    await town.hub.tell(NORTH, "release", envelope)


async def test_more_than_k_winners_over_all_silos_are_refused(town: Town) -> None:
    def all_offered(merged: MergeReply) -> MergeReply:
        winners = tuple(
            Winner(silo, handle)
            for silo in SILOS
            for handle in town.hub.offered(silo, merged.query_id)
        )
        assert len(winners) > K
        return replace(merged, winners=winners)

    async with town.nothing_leaves():
        town.hub.bend = all_offered
        with pytest.raises(IntegrityError, match="winners do not fit"):
            await town.ask()


async def test_one_winner_named_twice_is_refused(town: Town) -> None:
    async with town.nothing_leaves():
        town.hub.bend = lambda merged: replace(merged, winners=merged.winners[:1] * 2)
        with pytest.raises(IntegrityError, match="winners do not fit"):
            await town.ask()


async def test_a_guessed_handle_releases_nothing_and_names_the_silo(town: Town) -> None:
    def guess(merged: MergeReply) -> MergeReply:
        winners = tuple(
            replace(w, handle=Handle(os.urandom(16))) if w.silo == NORTH else w
            for w in merged.winners
        )
        guessed = tuple(w.handle for w in winners if w.silo == NORTH)
        merged = replace(merged, winners=winners)
        return with_ticket(NORTH, lambda t: town.hub.ticket(t, handles=guessed))(merged)

    async with town.nothing_leaves(NORTH):
        town.hub.bend = guess
        answer = await town.ask()
        assert named(answer.missing, NORTH) == Missing(
            NORTH, "integrity", "a handle is asked for that was never offered"
        )


async def test_a_ticket_for_all_offered_handles_releases_only_what_the_gateway_signed_for(
    town: Town,
) -> None:
    def generous(ticket: SignedMessage) -> SignedMessage:
        offered = town.hub.offered(NORTH, decode(Ticket, ticket.body).query_id)
        assert len(offered) > 2
        return town.hub.ticket(ticket, handles=tuple(offered))

    entries, _, spent = town.sites[NORTH].disclosed()
    town.hub.bend = with_ticket(NORTH, generous)
    answer = await town.ask()
    assert sum(answer.released.values()) == K
    assert answer.released[NORTH] == 2
    assert town.sites[NORTH].disclosed()[::2] == (entries + 1, spent + 2)
    async with town.nothing_leaves():
        release = town.hub.latest("release", NORTH)
        with pytest.raises(PolicyDenied, match="used before"):
            await town.hub.tell(NORTH, "release", release)


async def test_the_hub_cannot_ask_for_a_release_itself(town: Town) -> None:
    await town.ask_as_usual()
    merged = town.hub.merges[-1]
    ticket = ticket_of(merged, NORTH)
    left = town.hub.offered(NORTH, merged.query_id)[2:4]
    paper = town.hub.ticket(ticket, handles=tuple(left))
    request = ReleaseRequest(paper, tuple(left))
    async with town.nothing_leaves():
        for sender in (town.identities[HUB], town.disguised(WARD)):
            envelope = town.seal(sender, "release", merged.query_id, request, NORTH)
            with pytest.raises(SiloquyError) as refused:
                await town.hub.tell(NORTH, "release", envelope)
            assert refused.value.code in ("denied", "integrity")


async def test_another_gateway_cannot_use_the_ticket_and_handles_of_a_question(town: Town) -> None:
    await town.ask_as_usual()
    merged = town.hub.merges[-1]
    ticket = ticket_of(merged, NORTH)
    left = tuple(town.hub.offered(NORTH, merged.query_id)[2:4])
    async with town.nothing_leaves():
        for gateway in (WARD, ANNEX):
            paper = town.hub.ticket(ticket, handles=left, gateway=gateway)
            request = ReleaseRequest(paper, left)
            envelope = town.seal(town.identities[ANNEX], "release", merged.query_id, request, NORTH)
            with pytest.raises(PolicyDenied, match="another gateway than annex"):
                await town.hub.tell(NORTH, "release", envelope)


async def test_a_second_ticket_for_a_silo_releases_nothing_more(town: Town) -> None:
    entries, _, spent = town.sites[NORTH].disclosed()
    town.hub.bend = lambda merged: replace(merged, tickets=(*merged.tickets, *merged.tickets))
    answer = await town.ask()
    assert answer.released[NORTH] == 2
    assert town.sites[NORTH].disclosed()[::2] == (entries + 1, spent + 2)


async def test_a_release_of_nothing_leaves_no_trace_and_cannot_be_played_back(town: Town) -> None:
    """A ticket for a silo that has no winner must not become a ledger entry again and again."""

    def none_wins(merged: MergeReply) -> MergeReply:
        winners = tuple(w for w in merged.winners if w.silo != NORTH)
        return replace(merged, winners=winners)

    async with town.nothing_leaves(NORTH):
        town.hub.bend = none_wins
        await town.ask()
        for envelope in town.hub.kept("release"):
            if envelopes.read_header(envelope).recipients == (NORTH,):
                with pytest.raises(SiloquyError):
                    await town.hub.tell(NORTH, "release", envelope)
