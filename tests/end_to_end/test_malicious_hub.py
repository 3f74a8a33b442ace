"""A hub that owns its keys, its database and every byte that passes, against honest nodes.

Each attack is refused, the refusal is named, nothing leaves a silo, and the next honest question
works. What a hub may do by design (drop, delay, choose which offered winners win) is at the end.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from siloquy import envelope as envelopes
from siloquy.aggregator.service import Collect, Gather
from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError, Unreachable
from siloquy.identity import Identity
from siloquy.silo_node.search import Candidate
from siloquy.silo_node.service import SiloNode
from siloquy.types import (
    Handle,
    MergeReply,
    Missing,
    NodeId,
    Query,
    QueryId,
    ReleaseRequest,
    Role,
    SearchReply,
    SearchRequest,
    Signed,
    Term,
    Ticket,
    Winner,
)
from tests.end_to_end.malicious_hub import (
    ANNEX,
    HUB,
    NORTH,
    QUESTION,
    QUESTION_WORDS,
    SECRETS,
    SILOS,
    SOUTH,
    WARD,
    Honest,
    K,
    Town,
    WordEmbedder,
    files_of,
    options,
    sham,
    stored_vectors,
    text_leaks,
    vector_leaks,
)

GUESSED = Handle(bytes(16))
NO_TICKET = "integrity: the hub sent no ticket that fits its winners"


def refusal_in(signed: bytes) -> Missing:
    """The refusal that a silo signed."""
    refusal = decode(SearchReply, decode(Signed, signed).body).refusal
    assert refusal is not None
    return refusal


def named(missing: tuple[Missing, ...], silo: NodeId) -> Missing:
    """What is said of ``silo``, once."""
    (item,) = [item for item in missing if item.silo == silo]
    return item


# -- reading what passes --------------------------------------------------------------------------


def test_the_search_through_captures_finds_each_encoding_of_text_and_vectors() -> None:
    vectors = WordEmbedder().encode(["brindlewick", QUESTION])
    raw = vectors[1].astype("<f4").tobytes()
    assert vector_leaks(b"x" + raw[8:25] + b"y", vectors) == ["raw"]
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + raw[4:32])
        assert vector_leaks(b'{"v":"' + text + b'"}', vectors) == ["base64"]
        text = base64.urlsafe_b64encode(bytes(shift) + raw)
        assert vector_leaks(b'{"v":"' + text + b'"}', vectors) == ["base64"]
    assert vector_leaks(repr(vectors[0].tolist()).encode(), vectors) == ["decimal"]
    assert vector_leaks(os.urandom(100_000), vectors) == []
    assert text_leaks(b"the BRINDLEWICK papers", SECRETS) == ["brindlewick"]
    assert text_leaks("brindlewick".encode("utf-16-le"), SECRETS) == ["brindlewick"]
    assert text_leaks(b"nothing", SECRETS) == []


async def test_captures_database_and_logs_hold_no_question_passage_title_id_or_vector(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    await town.ask_as_usual()
    await town.gateway.ask(Query(QUESTION), options(route="auto", unit="document"))
    await town.gateway.retrieve(Query("Who lay in halvergate?"), options(k=2))
    refused = await town.gateway.ask(Query(QUESTION, purpose="halvergate"), options())
    assert {item.reason for item in refused.missing} == {"refused"}

    secrets = (*QUESTION_WORDS, *SECRETS, "milk", "pulse")
    asked = WordEmbedder().encode([QUESTION, "Who lay in halvergate?"])
    vectors = np.concatenate([stored_vectors(town), asked])
    heard, kept = town.tap.everything(), files_of(town.folder / HUB)
    assert heard.count(b"harbour") == 0
    assert heard.count(NORTH.encode()) > 10
    assert NORTH.encode() in kept
    said = "\n".join(record.getMessage() for record in caplog.records).encode()
    assert b"joined" in said or b"refused" in said
    for captured in (heard, kept, said):
        assert text_leaks(captured, secrets) == []
        assert vector_leaks(captured, vectors) == []
    own = files_of(town.folder / NORTH)
    assert set(SECRETS) - {"brindlewick"} <= set(text_leaks(own, secrets))
    assert vector_leaks(own, vectors) == ["raw"]


async def test_profiles_that_pass_hold_no_readable_centroid_or_frequency(town: Town) -> None:
    opened = town.gateway._opened.profiles
    centroids = [profile.centroids for profile in opened if profile.centroids]
    assert centroids
    heard = town.tap.everything() + files_of(town.folder / HUB)
    for profile in opened:
        windows = [profile.frequencies, encode(profile)[:64]]
        windows += [profile.centroids[i : i + 16] for i in range(0, len(profile.centroids), 16)]
        assert [w for w in windows if w and w in heard] == []


async def test_the_hub_s_own_keys_open_no_envelope(town: Town) -> None:
    await town.ask_as_usual()
    kinds: tuple[tuple[envelopes.Kind, Role], ...] = (
        ("search", "gateway"),
        ("release", "gateway"),
        ("passages", "silo"),
        ("profile", "silo"),
    )
    for kind, role in kinds:
        received = envelopes.receive(
            town.hub.kept(kind)[-1], town.roster, role=role, kind=kind, now=town.clock()
        )
        with pytest.raises(PolicyDenied, match="not addressed to hub"):
            envelopes.open_body(received, town.identities[HUB], Missing)
        for recipient in received.header.recipients:
            with pytest.raises(IntegrityError, match="does not open"):
                envelopes.open_body(received, town.disguised(recipient), Missing)


# -- asking a question of its own -----------------------------------------------------------------


def own_question(town: Town, sender: Identity, *recipients: NodeId) -> bytes:
    """A question that the hub would like an answer to, sealed to the silos' true keys."""
    vector = WordEmbedder().encode(["halvergate"])[0]
    wanted = (Term("halvergate", 1.0),)
    request = SearchRequest(vector, wanted, K, "passage", 50, "treatment", "local")
    return town.seal(sender, "search", os.urandom(16), request, *(recipients or SILOS))


async def ask_all_silos(town: Town, envelope: bytes) -> dict[NodeId, Missing]:
    """What each silo's signed refusal says."""
    return {silo: refusal_in(await town.hub.tell(silo, "search", envelope)) for silo in SILOS}


async def test_a_question_signed_by_the_hub_itself_is_refused(town: Town) -> None:
    envelope = own_question(town, town.identities[HUB])
    async with town.nothing_leaves():
        refusals = await ask_all_silos(town, envelope)
    for silo, refusal in refusals.items():
        assert (refusal.silo, refusal.reason) == (silo, "refused")
        assert "hub is not in version 1 of the roster as gateway" in refusal.detail


async def test_a_question_in_a_gateway_s_name_under_the_hub_s_key_is_refused(town: Town) -> None:
    envelope = own_question(town, town.disguised(WARD))
    async with town.nothing_leaves():
        refusals = await ask_all_silos(town, envelope)
    for refusal in refusals.values():
        assert (refusal.reason, refusal.detail) == (
            "integrity",
            "signature of envelope does not hold",
        )


async def test_a_question_of_a_sham_gateway_or_of_a_silo_is_refused(town: Town) -> None:
    made_up = sham("annexe", "gateway", town.identities[HUB])
    async with town.nothing_leaves():
        for sender in (made_up, town.identities[SOUTH]):
            envelope = own_question(town, sender)
            refusals = await ask_all_silos(town, envelope)
            assert {item.reason for item in refusals.values()} == {"refused"}
            details = {item.detail for item in refusals.values()}
            assert details == {f"{sender.node} is not in version 1 of the roster as gateway"}


async def test_silos_and_gateways_take_no_other_call_from_the_hub(town: Town) -> None:
    async with town.nothing_leaves():
        for node in (*SILOS, WARD):
            for method in ("publish", "gather", "collect", "profiles", "enrol", "ingest", ""):
                with pytest.raises(SiloquyError, match="unknown method") as refused:
                    await town.hub.tell(node, method, b"")
                assert refused.value.code == "incompatible"
        with pytest.raises(SiloquyError, match="unknown method"):
            await town.hub.tell(WARD, "search", town.hub.kept("profile")[0])


async def test_an_envelope_of_another_kind_is_refused(town: Town) -> None:
    await town.ask_as_usual()
    search, release = town.hub.kept("search")[-1], town.hub.kept("release")[-1]
    async with town.nothing_leaves():
        for silo in SILOS:
            refusal = refusal_in(await town.hub.tell(silo, "search", release))
            assert refusal.reason == "integrity"
            assert "wanted a search" in refusal.detail
            with pytest.raises(IntegrityError, match="wanted a release"):
                await town.hub.tell(silo, "release", search)


# -- replay ---------------------------------------------------------------------------------------


async def test_a_question_played_back_is_refused_after_a_restart_too(town: Town) -> None:
    await town.ask_as_usual()
    envelope = town.hub.kept("search")[-1]
    async with town.nothing_leaves():
        refusal = refusal_in(await town.hub.tell(NORTH, "search", envelope))
        assert (refusal.reason, refusal.detail) == (
            "integrity",
            "this question was asked before: a replay",
        )
        await town.sites[NORTH].restart()
        refusal = refusal_in(await town.hub.tell(NORTH, "search", envelope))
        assert "a replay" in refusal.detail


async def test_a_question_played_back_late_has_expired(town: Town) -> None:
    await town.ask_as_usual()
    envelope = town.hub.kept("search")[-1]
    town.clock.ahead_ms = 40_000
    async with town.nothing_leaves():
        refusal = refusal_in(await town.hub.tell(NORTH, "search", envelope))
        assert refusal.reason == "integrity"
        assert "expired" in refusal.detail
    async with town.nothing_leaves():  # by now the silos have forgotten that they saw it
        assert "expired" in refusal_in(await town.hub.tell(NORTH, "search", envelope)).detail


async def test_a_question_for_one_silo_is_nothing_to_another(town: Town) -> None:
    envelope = own_question(town, town.identities[WARD], NORTH)
    async with town.nothing_leaves():
        refusal = refusal_in(await town.hub.tell(SOUTH, "search", envelope))
        assert refusal == Missing(SOUTH, "refused", "the envelope is not addressed to south")


async def test_a_release_played_back_is_refused_after_a_restart_too(town: Town) -> None:
    await town.ask_as_usual()
    release = town.hub.kept("release")[-1]
    (silo,) = envelopes.read_header(release).recipients
    async with town.nothing_leaves():
        with pytest.raises(PolicyDenied, match="a handle was used before"):
            await town.hub.tell(silo, "release", release)
        with pytest.raises(PolicyDenied, match="not addressed"):
            await town.hub.tell(next(s for s in SILOS if s != silo), "release", release)
        await town.sites[silo].restart()
        with pytest.raises(PolicyDenied, match="no such open question"):
            await town.hub.tell(silo, "release", release)


async def test_another_gateway_s_envelopes_are_refused_on_its_own_line(town: Town) -> None:
    await town.ask_as_usual()
    gather = encode(Gather(town.hub.latest("search", NORTH)))
    collect = encode(Collect(NORTH, town.hub.latest("release", NORTH)))
    async with town.nothing_leaves(), town.dialled(ANNEX) as line:
        for method, body in (("gather", gather), ("collect", collect)):
            with pytest.raises(PolicyDenied, match="annex sent an envelope of ward"):
                await line.call(method, body, 2.0)


async def test_the_merge_of_another_question_is_refused(town: Town) -> None:
    await town.ask_as_usual()
    old = town.hub.merges[-1]
    async with town.nothing_leaves():
        town.hub.bend = lambda merged: old
        with pytest.raises(IntegrityError, match="do not fit the question"):
            await town.ask()


async def test_old_winners_under_a_new_question_s_name_are_refused(town: Town) -> None:
    await town.ask_as_usual()
    old = town.hub.merges[-1]
    async with town.nothing_leaves():
        town.hub.bend = lambda merged: replace(old, query_id=merged.query_id)
        answer = await town.ask()
        assert answer.abstained
        assert sum(answer.released.values()) == 0
        assert {item.silo for item in answer.missing} == set(SILOS)
        assert {item.reason for item in answer.missing} == {"integrity"}


async def test_passages_of_another_question_are_refused(town: Town) -> None:
    """Winners, tickets and sealed passages of the last question, served for a new one."""
    await town.ask_as_usual()
    old = town.hub.merges[-1]
    passages = {envelopes.read_header(data).sender: data for data in town.hub.kept("passages")[-3:]}
    async with town.nothing_leaves():

        async def carry(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
            return passages[silo] if method == "release" else await honest(body)

        town.hub.carry = carry
        town.hub.bend = lambda merged: replace(old, query_id=merged.query_id)
        answer = await town.ask("What is kept cold and dark?")
        assert answer.sources == ()
        assert {item.reason for item in answer.missing} == {"integrity"}
        assert {item.silo for item in answer.missing} == set(SILOS)


# -- tickets and handles --------------------------------------------------------------------------


def ticket_of(merged: MergeReply, silo: NodeId) -> Signed:
    """The hub's ticket for ``silo``."""
    (ticket,) = [t for t in merged.tickets if decode(Ticket, t.body).silo == silo]
    return ticket


def with_ticket(
    silo: NodeId, change: Callable[[Signed], Signed]
) -> Callable[[MergeReply], MergeReply]:
    """A merge whose ticket for ``silo`` was changed."""

    def bend(merged: MergeReply) -> MergeReply:
        tickets = [
            change(item) if decode(Ticket, item.body).silo == silo else item
            for item in merged.tickets
        ]
        return replace(merged, tickets=tuple(tickets))

    return bend


async def outcome(town: Town, silo: NodeId) -> str:
    """How the gateway names what became of ``silo``, or of the whole question."""
    try:
        answer = await town.ask()
    except SiloquyError as error:
        return f"{error.code}: {error.message}"
    assert silo not in answer.released
    return f"{named(answer.missing, silo).reason}: {named(answer.missing, silo).detail}"


async def test_an_altered_ticket_is_refused(town: Town) -> None:
    def raise_k(ticket: Signed) -> Signed:
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


@pytest.mark.parametrize(
    "changes",
    [
        {"query_id": QueryId(bytes(16))},
        {"gateway": ANNEX},
        {"silo": SOUTH},
        {"k": 100},
        {"expires": 1},
        {"handles": ()},
        {"handles": (GUESSED,)},
        {"claims": ()},
        {"claims": (1.0, 1.0)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_ticket_for_something_else_is_refused_by_the_silo(
    town: Town, changes: dict[str, Any]
) -> None:
    """The hub's own signature on a ticket that does not fit, inside a gateway's true request."""

    async def swallow(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if method == "release":
            raise Unreachable("swallowed")
        return await honest(body)

    async with town.nothing_leaves():
        town.hub.carry = swallow
        await town.ask()
        merged = town.hub.merges[-1]
        ticket = ticket_of(merged, NORTH)
        handles = decode(Ticket, ticket.body).handles
        request = ReleaseRequest(town.hub.ticket(ticket, **changes), handles)
        envelope = town.seal(town.identities[WARD], "release", merged.query_id, request, NORTH)
        with pytest.raises((IntegrityError, PolicyDenied), match="ticket"):
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
    def generous(ticket: Signed) -> Signed:
        offered = town.hub.offered(NORTH, decode(Ticket, ticket.body).query_id)
        assert len(offered) > K
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


# -- altering what passes -------------------------------------------------------------------------


async def refused(node: SiloNode, method: str, envelope: bytes) -> str:
    """How the silo names its refusal."""
    try:
        signed = await (node.search if method == "search" else node.release)(envelope)
    except SiloquyError as error:
        return error.code
    assert isinstance(signed, Signed), "passages for an altered envelope"
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
            without(merged, NORTH), refusals=(decode(Signed, signed),)
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
@pytest.mark.parametrize("reply", [b"", b"\xc1", b"\x80", os.urandom(999), b"\x93" * 5000])
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


def without(merged: MergeReply, silo: NodeId) -> MergeReply:
    """A merge in which ``silo`` does not occur at all."""
    return replace(
        merged,
        winners=tuple(w for w in merged.winners if w.silo != silo),
        tickets=tuple(t for t in merged.tickets if decode(Ticket, t.body).silo != silo),
        silo_ms={name: ms for name, ms in merged.silo_ms.items() if name != silo},
    )


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

    town.hub.bend = favour_north
    answer = await town.ask()
    assert answer.released == {NORTH: K}
    assert {source.silo for source in answer.sources} == {NORTH}


async def test_a_silo_that_is_kept_waiting_is_named_within_the_deadline(town: Town) -> None:
    async def mute(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if silo != NORTH:
            return await honest(body)
        await asyncio.sleep(0.9 * town.ask_settings.deadline_s)
        raise Unreachable("north did not answer")

    async with town.nothing_leaves(NORTH):
        town.hub.carry = mute
        answer = await town.ask()
        assert named(answer.missing, NORTH).reason == "timeout"
        assert answer.timings_ms["total"] < 1000 * town.ask_settings.deadline_s


async def test_a_hub_that_never_answers_costs_one_deadline_and_is_named(town: Town) -> None:
    async def mute(method: str, reply: bytes) -> bytes:
        await asyncio.sleep(60)
        return reply

    async with town.nothing_leaves():
        town.hub.answer = mute
        with pytest.raises(Unreachable, match="hub did not answer in 3 s"):
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


async def test_a_silo_that_claims_one_score_to_the_hub_and_another_to_the_gateway_is_named(
    town: Town,
) -> None:
    async def boast(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        signed = await honest(body)
        if (silo, method) != (NORTH, "search"):
            return signed
        reply = decode(SearchReply, decode(Signed, signed).body)
        hits = tuple(replace(hit, dense=0.999) for hit in reply.hits)
        return encode(town.identities[NORTH].sign("search reply", replace(reply, hits=hits)))

    town.hub.carry = boast
    answer = await town.ask()
    assert named(answer.missing, NORTH).reason == "integrity"
    assert NORTH not in answer.released
