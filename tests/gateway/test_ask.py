"""A question's whole way through a federation in this process, and a hub that cheats on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siloquy.aggregator.registry import Registry
from siloquy.codec import decode, encode, to_json
from siloquy.errors import (
    Busy,
    Incompatible,
    IntegrityError,
    PolicyDenied,
    SettingsError,
    SiloquyError,
    TimedOut,
    Unreachable,
    UsageError,
)
from siloquy.gateway.ask import MOST_QUESTION_CHARACTERS, check_query
from siloquy.router.trust import REST_MS
from siloquy.sealed.scoring import SecretKey
from siloquy.sealed.wire import MOST_OFFSET
from siloquy.settings import ReleasePolicy
from siloquy.trust import ledger, receipt
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT, SEALING_CONTEXT, TICKET_CONTEXT, Identity
from siloquy.types import (
    DocumentId,
    DocumentTag,
    Handle,
    Hit,
    LedgerHead,
    MergeReply,
    Missing,
    NodeId,
    Profile,
    Query,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SealedRequest,
    SealingKey,
    SearchReply,
    SignedMessage,
    Ticket,
    Winner,
)
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import Collect
from tests.silo_node.hospital import (
    POLICY,
    WordEmbedder,
    document,
    fill,
    open_store,
)
from tests.siloquy.federation import ENCODER, Federation, signed
from tests.siloquy.world import ALL, HUB, LEXICON, NORTH, QUESTION, RULE, SOUTH, WARD, World, wish


@pytest.fixture
async def world(tmp_path: Path, federation: Federation) -> AsyncIterator[World]:
    made = World(tmp_path, federation)
    await made.start()
    yield made
    for hospital in made.hospitals.values():
        hospital.store.close()


# -- asking ---------------------------------------------------------------------------------------


async def test_a_question_gets_a_cited_answer(world: World) -> None:
    answer = await world.ask()
    assert not answer.abstained
    assert answer.sentences[0].text == RULE
    (cited,) = [s for s in answer.sources if s.n == answer.sentences[0].citations[0]]
    assert (cited.silo, cited.document, cited.text) == (NORTH, "meningitis.md", RULE)
    assert answer.answer.startswith(f"{RULE} [{cited.n}]")
    assert (answer.mode, answer.missing, answer.flagged) == ("open", (), {})
    assert (answer.plan.asked, answer.plan.skipped) == ((NORTH, SOUTH), ())


async def test_every_stage_is_timed(world: World) -> None:
    timings = (await world.ask()).timings_ms
    *stages, total = timings
    assert {"embed", "route", "search", "release", "rescore", "generate"} <= set(stages)
    assert (stages[0], stages[-1], total) == ("understand", "generate", "total")
    assert timings["total"] == pytest.approx(sum(timings[stage] for stage in stages))


async def test_the_receipt_of_an_answer_holds(world: World) -> None:
    answer = json.loads(json.dumps(to_json(await world.ask())))
    checks = receipt.check(answer, world.federation.roster.fingerprint, QUESTION)
    assert {check.name: check.holds for check in checks} == dict.fromkeys(
        [
            "roster",
            "federation",
            "gateway's signature",
            "ledger heads",
            "plan and counts",
            "question",
            "question in the file",
            "conflicts",
            "answer",
            "sources",
        ],
        True,
    )


@pytest.mark.parametrize("k", [1, 2, 4])
async def test_no_more_than_k_passages_leave_all_silos_together(world: World, k: int) -> None:
    answer = await world.ask(options=wish(route="all", k=k))
    assert world.released() == sum(answer.released.values()) == k
    assert len(answer.sources) == k


async def test_what_left_is_told_by_silo_and_stands_in_their_ledgers(world: World) -> None:
    answer = await world.ask()
    assert answer.released == {NORTH: 3, SOUTH: 2}
    for silo, hospital in world.hospitals.items():
        (entry,) = ledger.entries(hospital.store.connection)
        assert (entry.gateway, entry.purpose) == (WARD, "treatment")
        assert len(entry.passages) == answer.released[silo]


async def test_what_a_silo_holds_back_is_told(world: World) -> None:
    world.open(world.federation.north, replace(POLICY, most_per_question=1))
    answer = await world.ask()
    assert (answer.released, answer.withheld) == ({NORTH: 1, SOUTH: 2}, {NORTH: 2})


async def test_where_nothing_answers_the_gateway_abstains_and_shows_no_source(world: World) -> None:
    answer = await world.ask("Quarterly zebra budgets?")
    assert (answer.abstained, answer.sentences, answer.sources) == (True, (), ())
    assert answer.answer.startswith("Not found in the 2 of 2 asked silos that answered")
    checks = receipt.check(json.loads(json.dumps(to_json(answer))))
    assert not [check for check in checks if check.holds is False]


async def test_retrieval_gives_the_passages_in_merge_order(world: World) -> None:
    found = await world.gateway.retrieve(Query(QUESTION), ALL)
    assert [passage.rank for passage in found.passages] == [1, 2, 3, 4, 5]
    assert (found.passages[0].silo, found.passages[0].text) == (NORTH, RULE)
    (merged,) = world.hub.gathered
    assert [passage.silo for passage in found.passages] == [w.silo for w in merged.winners]
    assert (found.missing, found.flagged) == ((), {})
    assert set(found.traffic) >= {"gateway_to_hub", "silos_to_hub", "release_replies"}
    assert all(size > 0 for size in found.traffic.values())


async def test_without_rescoring_no_claim_is_checked(world: World) -> None:
    options = wish(route="all", rescore=False)
    found = await world.gateway.retrieve(Query(QUESTION), options)
    assert "rescore" not in found.timings_ms
    assert len(found.passages) == 5


async def test_of_each_document_one_passage_is_released_if_documents_are_wanted(
    world: World,
) -> None:
    with_long = document("long.md", f"{RULE} " * 8, "Meningitis again")
    store = open_store(world.folder / "north" / "silo.sqlite")
    fill(store, [with_long])
    store.close()
    passages = await world.gateway.retrieve(Query(QUESTION), wish(route="all", k=9))
    documents = await world.gateway.retrieve(
        Query(QUESTION), wish(route="all", k=9, unit="document")
    )
    names = [passage.document for passage in documents.passages]
    assert len(names) == len(set(names)) == 6
    assert len({passage.document for passage in passages.passages}) < len(passages.passages)


async def test_nothing_of_question_or_passages_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "siloquy")
    world.open(world.federation.south, ReleasePolicy())
    await world.ask()
    assert "search refused" in caplog.text
    assert "ceftriaxone" not in caplog.text
    assert "salbutamol" not in caplog.text


# -- questions ------------------------------------------------------------------------------------


def test_a_question_is_cleaned_before_it_is_asked() -> None:
    assert check_query(Query(" Which\r\n\tdose\x00? ")).text == "Which dose ?"
    assert check_query(Query("x", "audit", "dr-7")) == Query("x", "audit", "dr-7")


@pytest.mark.parametrize("word", ["", "x" * 65, "a/b", "ä", "\ud83e", "a\n", "<b>"])
def test_purpose_and_requester_are_plain_words(word: str) -> None:
    for query in (Query("x", purpose=word), Query("x", requester=word)):
        with pytest.raises(UsageError, match="purpose and requester are"):
            check_query(query)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00"])
def test_an_empty_question_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        check_query(Query(text))


def test_a_question_has_a_greatest_length() -> None:
    assert check_query(Query("x" * MOST_QUESTION_CHARACTERS))
    with pytest.raises(UsageError, match="4,001 characters, at most 4,000") as refused:
        check_query(Query("x" * (MOST_QUESTION_CHARACTERS + 1)))
    assert "xx" not in refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        f"{QUESTION} {'acgt' * 30}",
        " ".join(f"word{i}" for i in range(200)),
        f'{QUESTION} "AND" OR (NOT title:x) * ^ NEAR',
        f"{QUESTION} _ __ 🩺 ²",
        "is it?",
        "🩺",
    ],
    ids=["a long word", "many words", "operators", "odd words", "stop words", "no word"],
)
async def test_any_question_is_answered_by_every_silo(world: World, text: str) -> None:
    assert (await world.ask(text)).missing == ()


async def test_half_a_surrogate_pair_in_a_question_is_no_trouble(world: World) -> None:
    answer = await world.ask(f"{QUESTION} \ud83e")
    assert answer.sentences[0].text == RULE


async def test_half_a_surrogate_pair_in_a_purpose_is_refused(world: World) -> None:
    with pytest.raises(SiloquyError):
        await world.gateway.ask(Query(QUESTION, "\ud83e"), ALL)


# -- routing --------------------------------------------------------------------------------------


async def test_the_router_asks_the_silo_that_holds_the_topic(world: World) -> None:
    for silo, words in ((NORTH, "ceftriaxone meningitis"), (SOUTH, "otitis amoxicillin")):
        store = open_store(world.folder / silo / "silo.sqlite")
        fill(store, [document(f"{i}.md", f"{words} {i}") for i in range(30)])
        store.close()
    # Of two silos the router never expects so little of one as 95 % ask for.
    world.gateway = world.new_gateway(coverage=0.8)
    await world.start()
    answer = await world.ask("ceftriaxone meningitis", wish(route="auto", k=2))
    assert (answer.plan.asked, answer.plan.skipped) == ((NORTH,), (SOUTH,))
    assert set(answer.plan.reasons) == {NORTH, SOUTH}


async def test_a_silo_without_a_profile_is_asked_and_it_is_told(world: World) -> None:
    await without_profile(world, SOUTH)
    answer = await world.ask(options=wish())
    assert (answer.plan.asked, answer.plan.skipped) == ((NORTH, SOUTH), ())
    assert answer.plan.reasons[SOUTH] == "shows this gateway no profile, so it is asked"


async def without_profile(world: World, silo: NodeId, **settings: Any) -> None:
    """A gateway just started, to which ``silo`` shows no profile."""
    world.hub.node.registry = Registry(world.folder / "fresh.sqlite")
    for other in {NORTH, SOUTH} - {silo}:
        await world.publish(other)
    world.gateway = world.new_gateway(**settings)
    await world.gateway.refresh()


async def test_a_silo_without_a_profile_is_skipped_where_the_settings_say_so(world: World) -> None:
    await without_profile(world, SOUTH, unprofiled=False, most_rounds=1)
    answer = await world.ask(options=wish())
    assert (answer.plan.asked, answer.plan.skipped) == ((NORTH,), (SOUTH,))
    assert answer.plan.reasons[SOUTH] == "shows this gateway no profile"


async def test_a_silo_without_a_profile_that_refuses_is_let_alone_for_an_hour(world: World) -> None:
    await without_profile(world, SOUTH, most_rounds=1)
    world.open(world.federation.south, ReleasePolicy())
    first = await world.ask(options=wish())
    assert [(item.silo, item.reason) for item in first.missing] == [(SOUTH, "refused")]
    await world.gateway.learnt()
    assert (await world.ask(options=wish())).plan.skipped == (SOUTH,)
    world.clock.now += 3600 * 1000
    assert (await world.ask(options=wish())).plan.asked == (NORTH, SOUTH)


async def test_without_any_profile_all_silos_are_asked_unless_the_settings_say_no(
    world: World,
) -> None:
    world.gateway = world.new_gateway()
    assert (await world.ask(options=wish())).plan.asked == (NORTH, SOUTH)
    world.gateway = world.new_gateway(unprofiled=False)
    with pytest.raises(PolicyDenied, match="no silo may be asked"):
        await world.ask(options=wish())
    assert (await world.ask()).plan.asked == (NORTH, SOUTH)


async def test_the_settings_route_counts_unless_the_question_says_otherwise(world: World) -> None:
    world.gateway = world.new_gateway(route="all", k=1, unprofiled=False)
    assert sum((await world.ask(options=wish())).released.values()) == 1
    with pytest.raises(PolicyDenied):
        await world.ask(options=wish(route="auto"))


async def test_status_tells_whom_the_gateway_can_ask(world: World) -> None:
    before = world.gateway.status()
    await world.gateway.warm()
    status = world.gateway.status()
    assert (before.ready, status.ready, status.hub) == (False, True, True)
    assert (status.silos, status.profiled) == ((NORTH, SOUTH), (NORTH, SOUTH))
    assert (status.roster_version, status.federation) == (1, world.federation.roster.fingerprint)


def south_profile(world: World, **other: Any) -> bytes:
    """South's next profile with something else in it, sealed by south."""
    federation = world.federation
    sealed = world.hospitals[SOUTH].node.profile(LEXICON)
    received = envelopes.receive(
        sealed, federation.roster, role="silo", kind="profile", now=world.clock()
    )
    profile = envelopes.open_body(received, federation.ward, Profile)
    return envelopes.seal(
        federation.south,
        [federation.ward.card],
        "profile",
        received.header.id,
        replace(profile, **other),
        roster=federation.roster,
        now=world.clock(),
        lifetime_ms=3_600_000,
    )


async def test_a_profile_that_does_not_hold_is_told_and_hides_no_other(world: World) -> None:
    await world.publish(SOUTH, south_profile(world, size=-1))
    await world.gateway.refresh()
    status = world.gateway.status()
    assert status.profiled == (NORTH, SOUTH)  # the one before serves on until it expires
    assert [(item.silo, item.reason) for item in status.refused_profiles] == [(SOUTH, "integrity")]
    world.gateway = world.new_gateway()
    await world.gateway.refresh()
    assert world.gateway.status().profiled == (NORTH,)


async def test_word_counts_that_do_not_inflate_hide_no_other_profile(world: World) -> None:
    described = {
        "frequencies": b"broken",
        "topics": bytes(1024),
        "counts": (2.0,),
        "noises": (0.0,),
    }
    described |= {"centroids": bytes(384), "spreads": (0.1,)}
    await world.publish(SOUTH, south_profile(world, **described))
    await world.gateway.refresh()
    status = world.gateway.status()
    assert status.profiled == (NORTH, SOUTH)  # the good one of before
    (refused,) = status.refused_profiles
    assert (refused.silo, refused.reason) == (SOUTH, "integrity")
    assert "frequencies" in refused.detail or "word" in refused.detail


# -- silos that do not take part ------------------------------------------------------------------


async def test_a_silo_that_is_not_connected_is_missing(world: World) -> None:
    del world.hub.node.lines[SOUTH]
    answer = await world.ask()
    assert answer.sentences[0].text == RULE
    assert answer.missing == (Missing(SOUTH, "unreachable", "south is not connected"),)
    assert answer.plan.asked == (NORTH, SOUTH)


async def test_a_silo_that_is_silent_is_missing_in_time(world: World) -> None:
    async def wait(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        await asyncio.sleep(timeout_s)
        raise TimedOut(f"south did not answer within {timeout_s:.1f} s")

    world.gateway = world.new_gateway(deadline_s=0.2)
    world.connect(SOUTH, {"search": wait})
    (missing,) = (await world.ask()).missing
    assert (missing.silo, missing.reason) == (SOUTH, "timeout")


async def test_a_silo_that_refuses_is_missing_by_its_own_word(world: World) -> None:
    world.open(world.federation.south, ReleasePolicy())
    (missing,) = (await world.ask()).missing
    assert (missing.silo, missing.reason) == (SOUTH, "refused")
    assert "not among the gateways" in missing.detail


async def test_a_purpose_that_nobody_accepts_is_refused_by_all(world: World) -> None:
    answer = await world.gateway.ask(Query(QUESTION, "marketing"), ALL)
    assert answer.abstained
    assert [item.reason for item in answer.missing] == ["refused", "refused"]
    assert answer.answer.startswith("No asked silo took part")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimedOut("north did not answer within 2 s"), "timeout"),
        (Unreachable("north is not connected"), "unreachable"),
        (Incompatible("another version"), "incompatible"),
        (IntegrityError("no"), "integrity"),
        (PolicyDenied("no"), "refused"),
        (Busy("too many"), "failed"),
    ],
    ids=lambda item: str(item),
)
async def test_why_a_silo_released_nothing_is_told(
    world: World, error: SiloquyError, reason: str
) -> None:
    async def refuse(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        raise error

    world.connect(NORTH, {**world.hospitals[NORTH].node.handlers(), "release": refuse})
    assert (await world.ask()).missing == (Missing(NORTH, reason, error.message),)  # type: ignore[arg-type]


async def test_a_defect_in_the_release_is_no_missing_silo(world: World) -> None:
    async def fail(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        raise ZeroDivisionError

    world.connect(NORTH, {**world.hospitals[NORTH].node.handlers(), "release": fail})
    with pytest.raises(ZeroDivisionError):
        await world.ask()


async def test_a_roster_without_silos_is_a_settings_error(world: World) -> None:
    federation = world.federation
    cards = [federation.ward.card, federation.hub.card]
    roster = rosters.found("bare", cards[:1], 1, ENCODER, cards, world.clock())
    bare = replace(federation, roster=signed(roster, (federation.ward,)))
    world.federation = bare
    with pytest.raises(SettingsError, match="names no silo"):
        await world.new_gateway().ask(Query(QUESTION), ALL)


async def test_a_silo_that_goes_between_the_phases_is_missing(world: World) -> None:
    hospital = world.hospitals[NORTH].node.handlers()

    async def gone(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        raise Unreachable("north is not connected")

    world.connect(NORTH, {**hospital, "release": gone})
    answer = await world.ask()
    assert answer.missing == (Missing(NORTH, "unreachable", "north is not connected"),)
    assert answer.released == {SOUTH: 2}


# -- silos that cheat -----------------------------------------------------------------------------


def search_of(world: World, silo: NodeId, change: Callable[[SearchReply], SearchReply]) -> None:
    """Let ``silo`` answer questions with something else, properly signed."""
    hospital = world.hospitals[silo]
    honest = hospital.node.handlers()

    async def search(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        signed = decode(SignedMessage, await honest["search"](peer, body, timeout_s))
        reply = change(decode(SearchReply, signed.body))
        return encode(hospital.identity.sign(REPLY_CONTEXT, reply))

    world.connect(silo, {**honest, "search": search})


CHEATING_HITS: dict[str, Callable[[SearchReply], SearchReply]] = {
    "a score too good": lambda r: replace(r, hits=(replace(r.hits[0], dense=2.0),)),
    "a word score below none": lambda r: replace(r, hits=(replace(r.hits[0], lexical=-1.0),)),
    "a word score above what the question allows": lambda r: replace(
        r, hits=(replace(r.hits[0], lexical=1e6),)
    ),
    "too many hits": lambda r: replace(r, hits=r.hits[:1] * 401),
    "another silo's name": lambda r: replace(r, silo=NORTH),
    "another question": lambda r: replace(r, query_id=QueryId(bytes(16))),
    "a handle of another size": lambda r: replace(
        r, hits=(replace(r.hits[0], handle=Handle(b"short")),)
    ),
    "a tag of another size": lambda r: replace(
        r, hits=(replace(r.hits[0], tag=DocumentTag(b"a longer one")),)
    ),
    "one handle twice": lambda r: replace(r, hits=(*r.hits, r.hits[0])),
}


@pytest.mark.parametrize("change", CHEATING_HITS.values(), ids=CHEATING_HITS)
async def test_a_silo_whose_candidates_do_not_hold_is_missing_alone(
    world: World, change: Callable[[SearchReply], SearchReply]
) -> None:
    search_of(world, SOUTH, change)
    answer = await world.ask()
    assert answer.sentences[0].text == RULE
    assert [(item.silo, item.reason) for item in answer.missing] == [(SOUTH, "integrity")]


async def test_a_silo_that_claims_too_much_to_win_is_flagged(world: World) -> None:
    node = world.hospitals[SOUTH].node

    def boast(reply: SearchReply) -> SearchReply:
        question = node._questions.get(reply.query_id)
        assert question is not None
        offered = {h: replace(item, dense=0.99) for h, item in question.offered.items()}
        node._questions.keep(replace(question, offered=offered))
        return replace(reply, hits=tuple(replace(hit, dense=0.99) for hit in reply.hits))

    search_of(world, SOUTH, boast)
    answer = await world.ask()
    assert world.hub.gathered[0].winners[0].silo == SOUTH
    assert (list(answer.flagged), answer.missing) == ([SOUTH], ())
    assert await world.gateway.learnt(5.0)
    found = await world.gateway.retrieve(Query(QUESTION), ALL)
    assert "did not fit" in found.plan.reasons[SOUTH]
    world.clock.now += REST_MS
    found = await world.gateway.retrieve(Query(QUESTION), ALL)
    assert list(found.flagged) == [SOUTH]


async def test_a_silo_that_says_one_thing_to_win_and_another_after_is_missing(world: World) -> None:
    search_of(
        world,
        SOUTH,
        lambda r: replace(r, hits=tuple(replace(hit, dense=0.99) for hit in r.hits)),
    )
    (missing,) = (await world.ask()).missing
    assert (missing.silo, missing.reason) == (SOUTH, "integrity")


def release_of(world: World, change: Callable[[ReleaseReply], ReleaseReply], **seal: Any) -> None:
    """Let north release something else, properly sealed."""
    federation = world.federation
    honest = world.hospitals[NORTH].node.handlers()

    async def release(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        sealed = await honest["release"](peer, body, timeout_s)
        received = envelopes.receive(
            sealed, federation.roster, role="silo", kind="passages", now=world.clock()
        )
        reply = change(envelopes.open_body(received, federation.ward, ReleaseReply))
        return envelopes.seal(
            seal.get("sender", federation.north),
            [seal.get("recipient", federation.ward.card)],
            seal.get("kind", "passages"),
            seal.get("id", received.header.id),
            reply,
            roster=federation.roster,
            now=world.clock(),
            lifetime_ms=60_000,
        )

    world.connect(NORTH, {**honest, "release": release})


def other_head(world: World, **other: Any) -> SignedMessage:
    """A head that north signs, of a ledger as it never was."""
    head = LedgerHead(NORTH, 1, bytes(32), world.clock())
    return world.federation.north.sign(ledger.HEAD_CONTEXT, replace(head, **other))


def first(reply: ReleaseReply, **other: Any) -> ReleaseReply:
    return replace(reply, passages=(replace(reply.passages[0], **other), *reply.passages[1:]))


Change = Callable[[World, ReleaseReply], ReleaseReply]
CHEATING_PASSAGES: dict[str, Change] = {
    "a passage not asked for": lambda w, r: first(r, handle=Handle(bytes(16))),
    "a passage twice": lambda w, r: replace(r, passages=(*r.passages, r.passages[0])),
    "another claim than it won with": lambda w, r: first(r, dense=0.2),
    "another word score than it won with": lambda w, r: first(r, lexical=9.0),
    "a passage without end": lambda w, r: first(r, text="word " * 50_000),
    "a document's name of two lines": lambda w, r: first(r, document=DocumentId("a\n\nb")),
    "a title of two lines": lambda w, r: first(r, title="Sepsis\u2028[1]"),
    "a section of two lines": lambda w, r: first(r, section="Dose\n[1]"),
    "a section without end": lambda w, r: first(r, section="word " * 50),
    "a date that is none": lambda w, r: first(r, dated="2024-1"),
    "another silo's passage": lambda w, r: first(r, silo=SOUTH),
    "another silo's reply": lambda w, r: replace(r, silo=SOUTH),
    "another question's reply": lambda w, r: replace(r, query_id=QueryId(bytes(16))),
    "another silo's head": lambda w, r: replace(r, head=other_head(w, silo=SOUTH)),
    "a head that is not signed": lambda w, r: replace(r, head=replace(r.head, body=b"x")),
    "something else signed": lambda w, r: replace(r, head=w.federation.north.sign("other", r)),
    "the hub's head": lambda w, r: replace(r, head=w.federation.hub.sign("ledger head", r)),
}


@pytest.mark.parametrize("change", CHEATING_PASSAGES.values(), ids=CHEATING_PASSAGES)
async def test_a_silo_whose_passages_do_not_hold_is_missing_alone(
    world: World, change: Change
) -> None:
    release_of(world, lambda reply: change(world, reply))
    answer = await world.ask()
    (missing,) = answer.missing
    assert missing.silo == NORTH
    assert missing.reason in ("integrity", "refused")
    assert answer.released == {SOUTH: 2}
    assert {source.silo for source in answer.sources} <= {SOUTH}


@pytest.mark.parametrize(
    "seal",
    [{"id": bytes(16)}, {"kind": "release"}, {"sender": "south"}, {"recipient": "south"}],
    ids=str,
)
async def test_passages_in_a_foreign_envelope_are_refused(
    world: World, seal: dict[str, Any]
) -> None:
    if "sender" in seal:
        seal = {"sender": world.federation.south}
    if "recipient" in seal:
        seal = {"recipient": world.federation.south.card}
    release_of(world, lambda reply: reply, **seal)
    (missing,) = (await world.ask()).missing
    assert missing.silo == NORTH


async def test_a_rewritten_ledger_shows(world: World) -> None:
    await world.ask()
    release_of(world, lambda reply: replace(reply, head=other_head(world)))
    (missing,) = (await world.ask()).missing
    assert (missing.silo, missing.reason) == (NORTH, "integrity")
    assert "rewritten" in missing.detail


# -- a hub that cheats ----------------------------------------------------------------------------


def winners(merged: MergeReply, *more: Winner) -> MergeReply:
    return replace(merged, winners=(*merged.winners, *more))


CHEATING_MERGES: dict[str, Callable[[MergeReply], MergeReply]] = {
    "another question": lambda m: replace(m, query_id=QueryId(bytes(16))),
    "a winner twice": lambda m: winners(m, m.winners[0]),
    "one winner beyond k": lambda m: winners(
        m, *(Winner(NORTH, Handle(bytes([i]) * 16)) for i in range(11 - len(m.winners)))
    ),
    "a silo that nobody knows": lambda m: winners(m, Winner(NodeId("east"), Handle(b"x" * 16))),
    "the gateway as a silo": lambda m: winners(m, Winner(WARD, Handle(b"x" * 16))),
}


@pytest.mark.parametrize("cheat", CHEATING_MERGES.values(), ids=CHEATING_MERGES)
async def test_a_merge_that_oversteps_the_question_is_refused(
    world: World, cheat: Callable[[MergeReply], MergeReply]
) -> None:
    world.hub.cheat = cheat
    with pytest.raises(IntegrityError, match="the hub"):
        await world.ask()
    assert world.released() == 0


async def test_winners_of_a_silo_that_was_not_asked_are_refused(world: World) -> None:
    await without_profile(world, SOUTH, unprofiled=False)
    world.hub.cheat = lambda m: winners(m, Winner(SOUTH, Handle(b"x" * 16)))
    with pytest.raises(IntegrityError, match="not asked"):
        await world.ask(options=wish())


def tickets(world: World, signer: Identity | None = None, **other: Any) -> None:
    """Let the hub hand out other tickets for its winners."""

    def cheat(merged: MergeReply) -> MergeReply:
        papers = [decode(Ticket, signed.body) for signed in merged.tickets]
        signed = [
            (signer or world.federation.hub).sign(TICKET_CONTEXT, replace(paper, **other))
            for paper in papers
        ]
        return replace(merged, tickets=tuple(signed))

    world.hub.cheat = cheat


@pytest.mark.parametrize(
    "other",
    [
        {"query_id": QueryId(bytes(16))},
        {"gateway": SOUTH},
        {"k": 9},
        {"handles": (), "claims": (), "lexical": ()},
        {"claims": ()},
        {"lexical": ()},
        {"claims": (), "lexical": ()},
        {"silo": NodeId("east")},
    ],
    ids=str,
)
async def test_a_ticket_that_does_not_fit_leaves_its_silo_missing(
    world: World, other: dict[str, Any]
) -> None:
    tickets(world, **other)
    answer = await world.ask()
    assert [(item.silo, item.reason) for item in answer.missing] == [
        (NORTH, "integrity"),
        (SOUTH, "integrity"),
    ]
    assert (answer.abstained, world.released()) == (True, 0)


async def test_a_ticket_that_expired_is_refused_by_the_silo(world: World) -> None:
    tickets(world, expires=world.clock() - 1)
    answer = await world.ask()
    assert [item.reason for item in answer.missing] == ["refused", "refused"]
    assert world.released() == 0


@pytest.mark.parametrize("signer", ["north", "ward"])
async def test_a_ticket_of_anybody_but_the_hub_is_none(world: World, signer: str) -> None:
    tickets(world, getattr(world.federation, signer))
    answer = await world.ask()
    assert [(item.silo, item.reason) for item in answer.missing] == [
        (NORTH, "integrity"),
        (SOUTH, "integrity"),
    ]
    assert world.released() == 0


@pytest.mark.parametrize("field", ["claims", "lexical"])
async def test_a_hub_cannot_make_a_silo_look_like_a_liar(world: World, field: str) -> None:
    def slander(merged: MergeReply) -> MergeReply:
        papers = [decode(Ticket, signed.body) for signed in merged.tickets]
        lies = [(0.99,) * len(paper.claims) for paper in papers]
        forged = [
            replace(paper, claims=lie) if field == "claims" else replace(paper, lexical=lie)
            for paper, lie in zip(papers, lies, strict=True)
        ]
        sign = world.federation.hub.sign
        return replace(merged, tickets=tuple(sign(TICKET_CONTEXT, paper) for paper in forged))

    world.hub.cheat = slander
    answer = await world.ask()
    assert (answer.flagged, world.released()) == ({}, 0)
    assert {item.reason for item in answer.missing} == {"integrity"}


async def test_no_tickets_at_all_leave_the_winners_silos_missing(world: World) -> None:
    world.hub.cheat = lambda merged: replace(merged, tickets=())
    answer = await world.ask()
    assert [item.silo for item in answer.missing] == [NORTH, SOUTH]


async def test_a_silo_that_the_hub_drops_is_missing(world: World) -> None:
    def without_south(merged: MergeReply) -> MergeReply:
        return replace(
            merged,
            winners=tuple(w for w in merged.winners if w.silo != SOUTH),
            tickets=tuple(t for t in merged.tickets if decode(Ticket, t.body).silo != SOUTH),
            silo_ms={NORTH: 1.0},
        )

    world.hub.cheat = without_south
    (missing,) = (await world.ask()).missing
    assert (missing.silo, missing.reason) == (SOUTH, "unreachable")


async def test_a_refusal_that_the_hub_made_up_is_no_refusal(world: World) -> None:
    refusal = Missing(SOUTH, "refused", "we are closed")
    signers = (world.federation.hub, world.federation.north)

    def made_up(merged: MergeReply) -> MergeReply:
        reply = SearchReply(merged.query_id, SOUTH, (), refusal)
        forged = [replace(signer.sign(REPLY_CONTEXT, reply), signer=SOUTH) for signer in signers]
        return replace(merged, refusals=tuple(forged))

    world.hub.cheat = made_up
    missing = (await world.ask()).missing
    assert {(item.silo, item.reason) for item in missing} == {(SOUTH, "integrity")}
    assert "closed" not in str(missing)


async def test_an_old_refusal_is_no_refusal_of_this_question(world: World) -> None:
    old = world.federation.south.sign(
        REPLY_CONTEXT,
        SearchReply(QueryId(bytes(16)), SOUTH, (), Missing(SOUTH, "refused", "closed")),
    )
    world.hub.cheat = lambda merged: replace(merged, refusals=(old,))
    (missing,) = (await world.ask()).missing
    assert (missing.silo, missing.reason) == (SOUTH, "integrity")


async def test_silence_and_refusals_of_silos_that_were_not_asked_are_ignored(world: World) -> None:
    stranger = world.federation.ward.sign(
        REPLY_CONTEXT, SearchReply(QueryId(bytes(16)), WARD, (), Missing(WARD, "refused"))
    )
    world.hub.cheat = lambda merged: replace(
        merged, refusals=(stranger,), silence=(Missing(NodeId("east"), "timeout"),)
    )
    assert (await world.ask()).missing == ()


async def test_the_hub_relays_no_envelope_of_another_sender(world: World) -> None:
    federation = world.federation
    envelope = envelopes.seal(
        federation.ward,
        [federation.north.card],
        "release",
        bytes(16),
        ReleaseRequest(SignedMessage(HUB, b"", b""), ()),
        roster=federation.roster,
        now=world.clock(),
        lifetime_ms=60_000,
    )
    with pytest.raises(PolicyDenied, match="south sent an envelope of ward"):
        await world.hub.calls["collect"](SOUTH, encode(Collect(NORTH, envelope)), 1.0)
    with pytest.raises(IntegrityError, match="one recipient"):
        await world.hub.collect(SOUTH, envelope, 1.0)


# -- sealed questions -----------------------------------------------------------------------------

SEALED = wish(route="all", mode="sealed")


async def test_a_sealed_question_gets_the_answer_of_an_open_one(world: World) -> None:
    sealed, opened = await world.ask(options=SEALED), await world.ask()
    assert (sealed.mode, sealed.missing, sealed.flagged, sealed.withheld) == ("sealed", (), {}, {})
    assert sealed.sentences == opened.sentences
    assert sealed.answer == opened.answer
    assert sealed.sources[0] == opened.sources[0]
    assert sealed.plan.asked == opened.plan.asked
    assert {"embed", "route", "seal", "search", "release"} <= set(sealed.timings_ms)


async def test_the_receipt_of_a_sealed_answer_holds(world: World) -> None:
    answer = json.loads(json.dumps(to_json(await world.ask(options=SEALED))))
    checks = receipt.check(answer, world.federation.roster.fingerprint, QUESTION)
    assert not [check for check in checks if check.holds is False]


async def test_what_a_sealed_question_released_stands_in_the_ledgers(world: World) -> None:
    answer = await world.ask(options=SEALED)
    for silo, hospital in world.hospitals.items():
        entries = list(ledger.entries(hospital.store.connection))
        released = sum(len(entry.passages) for entry in entries)
        assert released == answer.released.get(silo, 0)
        assert {entry.gateway for entry in entries} <= {WARD}
        assert {rule for entry in entries for rule in entry.withheld} <= {"padding"}


async def test_a_sealed_question_that_nothing_answers_abstains(world: World) -> None:
    answer = await world.ask("Quarterly zebra budgets?", SEALED)
    assert (answer.abstained, answer.sources, answer.mode) == (True, (), "sealed")


async def test_no_score_of_a_sealed_question_leaves_the_hub(world: World) -> None:
    await world.ask(options=SEALED)
    (merged,) = world.hub.gathered
    papers = [decode(Ticket, signed.body) for signed in merged.tickets]
    assert {(paper.claims, paper.lexical) for paper in papers} == {((), ())}
    assert {len(winner.handle) for winner in merged.winners} == {16}
    assert len(merged.winners) == 15


async def test_the_hub_is_sent_neither_vector_nor_words_nor_mask(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, bytes]] = []
    monkeypatch.setattr(
        envelopes, "tap", lambda way, peer, kind, _, plain: told.append((f"{way} {kind}", plain))
    )
    await world.ask(options=SEALED)
    (sent,) = [plain for what, plain in told if what == "sent sealed search"]
    request = decode(SealedRequest, sent)
    vector = WordEmbedder().encode([QUESTION])[0]
    assert b"ceftriaxone" not in sent
    assert vector[:4].tobytes() not in sent
    assert abs(request.offset) <= MOST_OFFSET


async def test_a_silo_that_is_not_connected_is_missing_from_a_sealed_question(
    world: World,
) -> None:
    del world.hub.node.lines[SOUTH]
    answer = await world.ask(options=SEALED)
    assert answer.sentences[0].text == RULE
    assert answer.missing == (Missing(SOUTH, "unreachable", "south is not connected"),)


async def test_a_silo_that_answers_a_sealed_question_openly_is_missing(world: World) -> None:
    hit = Hit(Handle(bytes(16)), DocumentTag(bytes(8)), 1.0, 0.0)
    search_of(world, SOUTH, lambda reply: replace(reply, hits=(hit,), sealed=None))
    answer = await world.ask(options=SEALED)
    assert [(item.silo, item.reason) for item in answer.missing] == [(SOUTH, "integrity")]
    assert answer.sentences[0].text == RULE


async def test_a_day_s_sealed_questions_are_told_when_they_are_spent(world: World) -> None:
    world.open(world.federation.south, replace(POLICY, sealed_per_day=1))
    assert (await world.ask(options=SEALED)).missing == ()
    (missing,) = (await world.ask(options=SEALED)).missing
    assert (missing.silo, missing.reason) == (SOUTH, "refused")
    assert "has asked its 1 sealed questions" in missing.detail
    assert (await world.ask()).missing == ()


async def test_nothing_of_a_sealed_question_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "siloquy")
    world.open(world.federation.south, replace(POLICY, sealed_per_day=0))
    await world.ask(options=SEALED)
    assert "search refused" in caplog.text
    assert "ceftriaxone" not in caplog.text


async def other_key(world: World, signer: Identity, **other: Any) -> None:
    """Let the hub hand out another key than its own."""
    calls = dict(world.hub.calls)
    now = world.clock()
    key = SealingKey(SecretKey().public, now, now + 600_000)
    signed = signer.sign(SEALING_CONTEXT, replace(key, **other))

    async def hand_out(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return encode(signed)

    world.hub.calls = {**calls, "sealing_key": hand_out}


async def test_a_key_that_somebody_else_signed_is_refused(world: World) -> None:
    await other_key(world, world.federation.north)
    with pytest.raises(PolicyDenied, match="as hub"):
        await world.ask(options=SEALED)
    assert (world.hub.gathered, world.released()) == ([], 0)


async def test_a_key_that_expired_is_refused(world: World) -> None:
    await other_key(world, world.federation.hub, expires=world.clock() - 1)
    with pytest.raises(IntegrityError, match="the hub's key is of another time"):
        await world.ask(options=SEALED)
    assert world.hub.gathered == []


async def test_a_hub_that_lost_its_sessions_asks_for_the_question_again(world: World) -> None:
    await other_key(world, world.federation.hub)
    with pytest.raises(IntegrityError, match="another session") as refused:
        await world.ask(options=SEALED)
    assert refused.value.hint == "ask it again"


async def test_a_hub_without_the_library_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        raise Incompatible("no sealed scoring here: ImportError", "pip install siloquy[he]")

    monkeypatch.setattr(world.hub, "calls", {**world.hub.calls, "sealing_key": refuse})
    with pytest.raises(Incompatible, match="no sealed scoring here"):
        await world.ask(options=SEALED)
