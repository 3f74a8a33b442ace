"""A hub that owns its keys, its database and every byte that passes, against honest nodes.

It reads, asks and plays back. Each attack here and in the files beside this one is refused, the
refusal is named, nothing leaves a silo, and the next honest question works.
"""

from __future__ import annotations

import base64
import logging
import os
from dataclasses import replace

import numpy as np
import pytest

from siloquy.codec import encode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError
from siloquy.trust.identity import Identity
from siloquy.types import (
    Missing,
    NodeId,
    Query,
    Role,
    SearchRequest,
    Term,
)
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import Collect, Gather
from tests.end_to_end.canaries import (
    QUESTION,
    QUESTION_WORDS,
    SECRETS,
    WordEmbedder,
    files_of,
    text_leaks,
    vector_leaks,
)
from tests.end_to_end.malicious_hub import HUB, Honest, sham
from tests.end_to_end.merges import refusal_in
from tests.end_to_end.profiled import described
from tests.end_to_end.town import (
    ANNEX,
    NORTH,
    SILOS,
    SOUTH,
    WARD,
    K,
    Town,
    options,
    stored_vectors,
)

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
    for silo in SILOS:
        await described(town, silo)
    await town.gateway.refresh()
    opened = town.gateway._retriever.profiles.opened.profiles
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
