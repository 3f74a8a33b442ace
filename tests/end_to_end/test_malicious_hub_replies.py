"""A hub that alters what passes and replies for silos; at the end, what it may do by design."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, SiloquyError, TimedOut, Unreachable
from siloquy.silo_node.search import Candidate
from siloquy.silo_node.service import SiloNode
from siloquy.types import (
    Handle,
    MergeReply,
    Missing,
    NodeId,
    QueryId,
    SearchReply,
    SearchRequest,
    SignedMessage,
    Ticket,
    Winner,
)
from siloquy.wire import envelope as envelopes
from tests.end_to_end.malicious_hub import Honest
from tests.end_to_end.merges import named, refusal_in, ticket_of, with_ticket, without
from tests.end_to_end.town import (
    NORTH,
    SILOS,
    SOUTH,
    WARD,
    K,
    Town,
)

GUESSED = Handle(bytes(16))


# -- altering what passes -------------------------------------------------------------------------


async def refused(node: SiloNode, method: str, envelope: bytes) -> str:
    """How the silo names its refusal."""
    try:
        signed = await (node.search if method == "search" else node.release)(envelope)
    except SiloquyError as error:
        return error.code
    assert isinstance(signed, SignedMessage), "passages for an altered envelope"
    return refusal_in(encode(signed)).reason


async def test_an_envelope_altered_in_any_byte_is_refused(town: Town) -> None:
    """Every byte in turn of a search and of a release; the untouched original still works."""

    async def spoil(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if silo != NORTH or method not in ("search", "release"):
            return await honest(body)
        node, before = town.sites[NORTH].node, town.sites[NORTH].disclosed()
        for place in range(len(body)):
            altered = body[:place] + bytes([body[place] ^ (1 + place % 255)]) + body[place + 1 :]
            assert await refused(node, method, altered) in ("integrity", "denied", "refused")
        assert town.sites[NORTH].disclosed() == before
        return await honest(body)

    town.hub.carry = spoil
    await town.ask_as_usual()


async def test_altered_passages_are_refused_and_the_silo_named(town: Town) -> None:
    for place in (0, 40, 300, 700, -1):

        async def spoil(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
            reply = bytearray(await honest(body))
            if (silo, method) == (NORTH, "release"):
                reply[place] ^= 1  # noqa: B023
            return bytes(reply)

        town.hub.carry = spoil
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason in ("integrity", "refused")
        assert NORTH not in answer.released
        assert NORTH not in {source.silo for source in answer.sources}
    town.hub.behave()
    await town.ask_as_usual()


# -- replying for a silo --------------------------------------------------------------------------


async def test_a_reply_signed_by_another_silo_is_refused_by_an_honest_hub(town: Town) -> None:
    async def swap(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if (silo, method) == (NORTH, "search"):
            return await town.hub.lines[SOUTH].call(method, body, 2.0)
        if (silo, method) == (SOUTH, "search"):
            raise Unreachable("south is busy for north")
        return await honest(body)

    async with town.nothing_leaves(NORTH, SOUTH):
        town.hub.carry = swap
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "integrity"
        assert named(answer.missing, SOUTH).reason == "unreachable"


async def test_another_silo_s_handles_and_passages_under_a_silo_s_name_are_refused(
    town: Town,
) -> None:
    def south_is_north(merged: MergeReply) -> MergeReply:
        winners = tuple(replace(w, silo=NORTH) for w in merged.winners if w.silo == SOUTH)
        handles = tuple(w.handle for w in winners)
        tickets = with_ticket(NORTH, lambda t: town.hub.ticket(t, handles=handles))(merged)
        return replace(tickets, winners=winners)

    async with town.nothing_leaves(NORTH):
        town.hub.bend = south_is_north
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "integrity"
        assert answer.sources == ()


async def test_passages_sealed_by_another_silo_are_refused(town: Town) -> None:
    of_south: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def swap(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if (silo, method) == (NORTH, "release"):
            return await of_south
        reply = await honest(body)
        if (silo, method) == (SOUTH, "release"):
            of_south.set_result(reply)
        return reply

    async with town.nothing_leaves(NORTH):
        town.hub.carry = swap
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "integrity"
        assert "passages of another silo" in named(answer.missing, NORTH).detail
        assert NORTH not in {source.silo for source in answer.sources}


async def test_passages_made_by_the_hub_are_refused(town: Town) -> None:
    """Sealed to the gateway's true key, but signed by a key that is not the silo's."""
    made_up = Missing(NORTH, "refused")

    async def forge(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if method != "release":
            return await honest(body)
        query_id = envelopes.read_header(body).id
        return town.seal(town.disguised(silo), "passages", query_id, made_up, WARD)

    async with town.nothing_leaves():
        town.hub.carry = forge
        answer = await town.ask()
        assert {item.silo for item in answer.missing} == set(SILOS)
        assert {item.reason for item in answer.missing} == {"integrity"}
        assert {item.detail for item in answer.missing} == {"signature of envelope does not hold"}


async def test_a_refusal_made_up_by_the_hub_is_named_as_such(town: Town) -> None:
    def made_up(merged: MergeReply) -> MergeReply:
        refusal = Missing(NORTH, "refused", "we do not like you")
        reply = SearchReply(merged.query_id, NORTH, (), refusal)
        signed = replace(town.hub.identity.sign("search reply", reply), signer=NORTH)
        return replace(without(merged, NORTH), refusals=(signed,))

    async with town.nothing_leaves(NORTH):
        town.hub.bend = made_up
        answer = await town.ask()
        assert named(answer.missing, NORTH) == Missing(
            NORTH, "integrity", "signature of search reply does not hold"
        )


async def test_a_refusal_of_another_question_is_named_as_such(town: Town) -> None:
    await town.ask_as_usual()
    signed = await town.hub.tell(NORTH, "search", town.hub.kept("search")[-1])

    async with town.nothing_leaves(NORTH):
        town.hub.bend = lambda merged: replace(
            without(merged, NORTH), refusals=(decode(SignedMessage, signed),)
        )
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "integrity"
        assert "another silo or question" in named(answer.missing, NORTH).detail


async def test_winners_of_a_silo_that_was_not_asked_are_refused(town: Town) -> None:
    async with town.nothing_leaves():
        for name in ("annexe", "hub", "ward"):
            stranger = Winner(NodeId(name), GUESSED)
            town.hub.bend = lambda merged: replace(merged, winners=(stranger,))  # noqa: B023
            with pytest.raises(IntegrityError, match="silos that were not asked"):
                await town.ask()


async def test_a_refusal_of_a_silo_that_was_not_asked_is_not_taken_over(town: Town) -> None:
    reply = SearchReply(
        QueryId(bytes(16)), NodeId("ghost"), (), Missing(NodeId("ghost"), "refused")
    )
    made_up = replace(town.hub.identity.sign("search reply", reply), signer=NodeId("ghost"))
    town.hub.bend = lambda merged: replace(merged, refusals=(made_up,) * 5)
    try:
        answer = await town.ask()
    except IntegrityError:
        return
    assert {item.silo for item in answer.missing} <= set(SILOS)


@pytest.mark.parametrize("method", ["gather", "collect", "profiles"])
@pytest.mark.parametrize("reply", [b"", b"\xc1", b"\x80", bytes(range(256)), b"\x93" * 5000])
async def test_garbage_instead_of_a_reply_is_refused(town: Town, method: str, reply: bytes) -> None:
    async def answer_garbage(called: str, honest: bytes) -> bytes:
        return reply if called == method else honest

    town.hub.answer = answer_garbage
    if method == "collect":
        answer = await town.ask()
        assert {item.reason for item in answer.missing} == {"integrity"}
        assert {item.silo for item in answer.missing} == set(SILOS)
    else:
        with pytest.raises(IntegrityError):
            await (town.ask() if method == "gather" else town.gateway.refresh())
    town.hub.behave()
    await town.gateway.refresh()
    await town.ask_as_usual()


# -- what a hub can do, and how it shows ----------------------------------------------------------


async def test_the_hub_can_drop_a_silo_and_the_silo_is_named(town: Town) -> None:
    async def drop(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if silo == NORTH:
            raise Unreachable("north is not connected")
        return await honest(body)

    async with town.nothing_leaves(NORTH):
        town.hub.carry = drop
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "unreachable"
        assert set(answer.released) == set(SILOS) - {NORTH}


async def test_a_silo_that_the_hub_drops_without_a_word_is_named(town: Town) -> None:
    async with town.nothing_leaves(NORTH):
        town.hub.bend = lambda merged: without(merged, NORTH)
        answer = await town.ask()
        assert NORTH not in answer.released
        assert named(answer.missing, NORTH).silo == NORTH


async def test_a_silo_whose_winners_come_without_a_ticket_is_named(town: Town) -> None:
    async with town.nothing_leaves(NORTH):
        town.hub.bend = lambda merged: replace(
            merged, tickets=tuple(t for t in merged.tickets if decode(Ticket, t.body).silo != NORTH)
        )
        answer = await town.ask()
        assert NORTH not in answer.released
        assert named(answer.missing, NORTH).silo == NORTH


async def test_the_hub_can_choose_which_offered_candidates_win_but_not_how_many(
    town: Town,
) -> None:
    """By design: the scores are merged at the hub. At most k leave, each offered by its silo."""

    def favour_north(merged: MergeReply) -> MergeReply:
        handles = town.hub.offered(NORTH, merged.query_id)[-K:]
        ticket = ticket_of(merged, NORTH)
        return replace(
            merged,
            winners=tuple(Winner(NORTH, handle) for handle in handles),
            tickets=(town.hub.ticket(ticket, handles=tuple(handles)),),
        )

    # Silos that have not proven themselves may not win all, which the gateway checks.
    town.hub.bend = favour_north
    with pytest.raises(IntegrityError, match="exceed a silo's quota"):
        await town.ask()
    town.router.checked(dict.fromkeys(SILOS, 50), {})
    answer = await town.ask()
    assert answer.released == {NORTH: K}
    assert {source.silo for source in answer.sources} == {NORTH}


async def test_a_silo_that_is_kept_waiting_is_named_within_the_deadline(town: Town) -> None:
    async def mute(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if silo != NORTH:
            return await honest(body)
        await asyncio.sleep(0.4 * town.ask_settings.deadline_s)
        raise TimedOut("north did not answer")

    async with town.nothing_leaves(NORTH):
        town.hub.carry = mute
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "timeout"
        assert answer.timings_ms["total"] < 1000 * town.ask_settings.deadline_s


async def test_a_hub_that_never_answers_costs_half_the_deadline_and_is_named(town: Town) -> None:
    async def mute(method: str, reply: bytes) -> bytes:
        await asyncio.sleep(60)
        return reply

    async with town.nothing_leaves():
        town.hub.answer = mute
        with pytest.raises(Unreachable, match=r"hub did not answer in 1\.[45]\d* s"):
            await town.ask()


# -- a dishonest silo -----------------------------------------------------------------------------


async def test_a_silo_that_inflates_its_scores_is_flagged(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = town.sites[NORTH].node._searcher
    honest = searcher.search

    def inflated(request: SearchRequest) -> list[Candidate]:
        return [replace(item, dense=0.999) for item in honest(request)]

    monkeypatch.setattr(searcher, "search", inflated)
    answer = await town.ask()
    assert set(answer.flagged) == {NORTH}
    assert answer.missing == ()


async def test_a_silo_that_inflates_its_word_scores_is_refused_by_an_honest_hub(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = town.sites[NORTH].node._searcher
    honest = searcher.search

    def inflated(request: SearchRequest) -> list[Candidate]:
        return [replace(item, lexical=1e4) for item in honest(request)]

    async with town.nothing_leaves(NORTH):
        monkeypatch.setattr(searcher, "search", inflated)
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "integrity"
        assert "word score is above" in named(answer.missing, NORTH).detail
        assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}
        monkeypatch.undo()


async def test_a_silo_that_claims_one_score_to_the_hub_and_another_to_the_gateway_is_named(
    town: Town,
) -> None:
    async def boast(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        signed = await honest(body)
        if (silo, method) != (NORTH, "search"):
            return signed
        reply = decode(SearchReply, decode(SignedMessage, signed).body)
        hits = tuple(replace(hit, dense=0.999) for hit in reply.hits)
        return encode(town.identities[NORTH].sign("search reply", replace(reply, hits=hits)))

    town.hub.carry = boast
    answer = await town.ask()
    assert named(answer.missing, NORTH).reason == "integrity"
    assert NORTH not in answer.released
