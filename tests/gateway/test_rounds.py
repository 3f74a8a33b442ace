"""A question in rounds: its parts at once, other silos when little was found, all accounted for."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from siloquy.codec import decode, to_json
from siloquy.errors import (
    Incompatible,
    PolicyDenied,
    SiloquyError,
    StorageFailed,
    TimedOut,
    Unreachable,
    UsageError,
)
from siloquy.gateway.planning import merge_plans
from siloquy.gateway.stopwatch import Stopwatch
from siloquy.router.modes import CLOSED, CUT, DECOY, UNABLE, WANTED
from siloquy.router.router import LearningRouter
from siloquy.router.trust import PROBES
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.text.batcher import Batcher
from siloquy.trust import identity as identities
from siloquy.trust import ledger, receipt
from siloquy.trust import roster as rosters
from siloquy.types import (
    Answer,
    Event,
    Mode,
    NodeId,
    Plan,
    PlanEvent,
    Probe,
    Query,
    SearchFeedback,
    Sentence,
    SignedMessage,
    SiloEvent,
    Source,
    Ticket,
    Turn,
    Vector,
)
from tests.silo_node.hospital import POLICY, WordEmbedder, document, fill, open_store
from tests.siloquy.federation import ENCODER, NOW, Federation, signed
from tests.siloquy.world import ALL, NORTH, QUESTION, RULE, SOUTH, WARDS, World, wish

BOTH = f"{QUESTION} How is amoxicillin given to children with otitis?"
EARS = "Children with otitis are given amoxicillin by mouth."


@pytest.fixture
async def world(tmp_path: Path, federation: Federation) -> AsyncIterator[World]:
    made = World(tmp_path, federation)
    await made.start()
    yield made
    for hospital in made.hospitals.values():
        hospital.store.close()


def only_asks(world: World, silo: NodeId) -> None:
    """A router that chooses ``silo`` alone."""
    rest = tuple({NORTH, SOUTH} - {silo})
    plan = Plan("open", (silo,), rest, {silo: "likely", rest[0]: "unlikely"})
    world.gateway._rounds._router.plan = lambda sought: plan  # type: ignore[method-assign]


async def watched(world: World, text: str, **options: object) -> tuple[Answer, list[Event]]:
    events: list[Event] = []
    answer = await world.gateway.ask(Query(text), wish(**options), told=events.append)
    return answer, events


# -- parts ----------------------------------------------------------------------------------------


async def test_a_question_that_asks_two_things_is_asked_in_two_rounds(world: World) -> None:
    answer, _ = await watched(world, BOTH, route="all", k=6)
    assert [item.kind for item in answer.rounds] == ["part", "part"]
    assert [item.question for item in answer.rounds] == BOTH.replace("? ", "?\n").splitlines()
    assert len({item.query_id for item in answer.rounds}) == 2
    assert {sentence.text for sentence in answer.sentences} >= {RULE, EARS}


async def test_the_parts_share_the_passages_of_one_question(world: World) -> None:
    answer, _ = await watched(world, BOTH, route="all", k=6)
    assert [sum(item.released.values()) for item in answer.rounds] == [3, 3]
    assert sum(answer.released.values()) == world.released() == 6


async def test_uneven_shares_add_up_to_what_was_asked_for(world: World) -> None:
    answer, _ = await watched(world, BOTH, route="all", k=7)
    assert [sum(item.released.values()) for item in answer.rounds] == [4, 3]


async def test_no_question_asks_for_more_than_the_setting_and_it_is_told(world: World) -> None:
    world.gateway = world.new_gateway(k=2, most_released=3)
    await world.gateway.refresh()
    answer, _ = await watched(world, QUESTION, route="all", k=100)
    assert (sum(answer.released.values()), world.released()) == (3, 3)
    assert "3 passages were asked for" in answer.notes[0]


async def test_with_few_passages_or_one_round_it_is_asked_as_one(world: World) -> None:
    answer, _ = await watched(world, BOTH, route="all", k=4)
    assert [item.kind for item in answer.rounds] == ["question"]
    world.gateway = world.new_gateway(most_rounds=1)
    await world.gateway.refresh()
    answer, _ = await watched(world, BOTH, route="all", k=6)
    assert [item.kind for item in answer.rounds] == ["question"]


async def test_a_part_that_fails_is_told_and_the_rest_is_answered(world: World) -> None:
    gather, calls = world.hub.gather, iter((0, 1))

    async def once(envelope: bytes, timeout_s: float) -> object:
        if next(calls):
            raise Unreachable("the hub went away")
        return await gather(envelope, timeout_s)

    half = type("Half", (), {"gather": staticmethod(once), "collect": world.hub.collect})()
    world.gateway._rounds._phases._hub = half
    answer, _ = await watched(world, BOTH, route="all", k=6)
    assert len(answer.rounds) == 1
    assert answer.notes == ("a part of the question could not be asked: the hub went away",)


# -- wider ----------------------------------------------------------------------------------------


async def test_silos_left_out_are_asked_when_the_first_round_found_too_little(
    world: World,
) -> None:
    only_asks(world, SOUTH)
    answer, events = await watched(world, QUESTION)
    assert [item.kind for item in answer.rounds] == ["question", "wider"]
    assert [item.asked for item in answer.rounds] == [(SOUTH,), (NORTH,)]
    assert answer.sentences[0].text == RULE
    assert (answer.plan.asked, answer.plan.skipped) == ((SOUTH, NORTH), ())
    assert "second round" in answer.plan.reasons[NORTH]
    assert [event.kind for event in events if isinstance(event, PlanEvent)] == ["question", "wider"]


async def test_enough_evidence_needs_no_second_round(world: World) -> None:
    only_asks(world, NORTH)
    answer, _ = await watched(world, QUESTION)
    assert [item.kind for item in answer.rounds] == ["question"]
    assert answer.plan.skipped == (SOUTH,)


@pytest.mark.parametrize("settings", [{"most_rounds": 1}, {"most_released": 2}])
async def test_a_wider_round_must_be_affordable(world: World, settings: dict[str, int]) -> None:
    world.gateway = world.new_gateway(None, fallback=True, **settings)
    await world.gateway.refresh()
    only_asks(world, SOUTH)
    answer, _ = await watched(world, QUESTION)
    assert [item.kind for item in answer.rounds] == ["question"]
    assert answer.abstained


async def test_passages_of_all_rounds_stay_within_the_setting(world: World) -> None:
    world.gateway = world.new_gateway(most_released=3)
    await world.gateway.refresh()
    only_asks(world, SOUTH)
    answer, _ = await watched(world, QUESTION)
    assert [sum(item.released.values()) for item in answer.rounds] == [2, 1]
    assert world.released() == 3


async def test_a_wider_round_that_fails_leaves_the_first_and_is_told(world: World) -> None:
    only_asks(world, SOUTH)
    del world.hub.node.lines[NORTH]
    answer, _ = await watched(world, QUESTION)
    assert answer.abstained
    assert [(item.silo, item.reason) for item in answer.missing] == [(NORTH, "unreachable")]
    assert "1 of 2 asked silos" in answer.answer


async def test_the_receipt_names_every_round(world: World) -> None:
    only_asks(world, SOUTH)
    answer, _ = await watched(world, QUESTION)
    plain = json.loads(json.dumps(to_json(answer)))
    assert not [item for item in receipt.check(plain) if item.holds is False]
    assert plain["receipt"]["body"]["query_ids"] == [item.query_id for item in answer.rounds]


# -- learning -------------------------------------------------------------------------------------


def router_of(world: World) -> LearningRouter:
    router = world.gateway._rounds._router
    assert isinstance(router, LearningRouter)
    return router


async def test_a_question_teaches_the_router_where_its_best_passages_lay(world: World) -> None:
    await world.ask()
    assert await world.gateway.learnt(5.0)
    (lesson,) = router_of(world).learner._experience.lessons(9)
    assert lesson.held == {NORTH: 3, SOUTH: 2}
    assert lesson.words[:3] == ("which", "dose", "of")
    assert {silo: one.verified for silo, one in router_of(world).standings.items()} == {
        NORTH: 3,
        SOUTH: 2,
    }


@pytest.mark.parametrize("verb", ["heard", "checked"])
@pytest.mark.parametrize("error", [StorageFailed("the disk is full"), ValueError("ceftriaxone")])
async def test_a_router_that_cannot_learn_fails_no_question_and_logs_no_word(
    world: World,
    verb: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(router_of(world), verb, fail)
    assert (await world.ask()).sentences[0].text == RULE
    assert await world.gateway.learnt(5.0)
    assert f"failed: {type(error).__name__}" in caplog.text
    assert "ceftriaxone" not in caplog.text


async def test_a_question_waits_for_no_learning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    monkeypatch.setattr(router_of(world), "heard", lambda heard: held.wait(20.0))
    for _ in range(12):  # more than the event loop has threads
        assert (await world.ask()).sentences
    assert not await world.gateway.learnt(0.01)
    held.set()
    assert await world.gateway.learnt(5.0)


async def test_a_router_that_takes_no_profiles_leaves_the_gateway_serving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageFailed("the disk is full")

    world.gateway = world.new_gateway()
    monkeypatch.setattr(router_of(world), "follow", fail)
    await world.gateway.refresh()
    assert world.gateway.status().profiled == (NORTH, SOUTH)
    assert (await world.ask()).sentences[0].text == RULE


# -- who may not be asked -------------------------------------------------------------------------


async def test_a_silo_that_is_never_asked_is_left_out_by_all_silos_and_second_rounds(
    world: World,
) -> None:
    world.gateway = world.new_gateway(never=(NORTH,))
    await world.gateway.refresh()
    for route in ("all", "auto"):
        answer, _ = await watched(world, QUESTION, route=route)
        assert [item.asked for item in answer.rounds] == [(SOUTH,)]
        assert answer.plan.skipped == (NORTH,)
        assert answer.plan.reasons[NORTH] == "this gateway does not ask it"
    assert not list(ledger.entries(world.hospitals[NORTH].store.connection))


async def test_the_intent_of_a_question_stands_in_its_plan(world: World) -> None:
    answer, _ = await watched(world, QUESTION, route="all", intent="diverse", k=4)
    assert answer.plan.intent == "diverse"
    assert answer.released == {NORTH: 2, SOUTH: 2}
    answer, _ = await watched(world, QUESTION, intent="fast")
    assert answer.plan.intent == "fast"


# -- probes and audits ----------------------------------------------------------------------------


async def test_new_profiles_that_describe_content_are_probed_once(world: World) -> None:
    store = open_store(world.folder / NORTH / "silo.sqlite")
    fill(store, [document(f"{i}.md", f"ceftriaxone meningitis {i}") for i in range(30)])
    store.close()
    await world.start()
    assert router_of(world).standings[NORTH].probe == 1.0
    assert SOUTH not in router_of(world).standings  # too small to describe itself
    probes = len(world.hub.gathered)
    assert 0 < probes <= PROBES
    await world.gateway.refresh()
    assert len(world.hub.gathered) == probes
    assert world.released() == 0


async def test_a_silo_that_answers_no_probe_is_let_alone_for_a_while(world: World) -> None:
    store = open_store(world.folder / NORTH / "silo.sqlite")
    fill(store, [document(f"{i}.md", f"ceftriaxone meningitis {i}") for i in range(30)])
    store.close()
    world.open(world.federation.north, replace(POLICY, purposes=("treatment",)))
    await world.start()
    (asked,) = world.hub.gathered
    assert asked.refusals
    await world.gateway.refresh()
    assert len(world.hub.gathered) == 1
    assert NORTH not in router_of(world).standings


async def test_probes_that_break_fail_no_refresh(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[Probe]:
        raise ValueError

    monkeypatch.setattr(router_of(world), "unprobed", fail)
    await world.gateway.refresh()
    probe = Probe(NORTH, WordEmbedder().encode(["dose"]), (0.3,))
    monkeypatch.setattr(router_of(world), "unprobed", lambda: [probe])
    monkeypatch.setattr(router_of(world), "probed", lambda *_: fail())
    await world.gateway.refresh()
    assert (await world.ask()).sentences[0].text == RULE


async def test_an_audit_asks_every_silo_teaches_and_releases_nothing(world: World) -> None:
    found = await world.gateway.audit(Query(QUESTION))
    assert (found.asked, found.skipped, found.missing) == ((NORTH, SOUTH), (), ())
    assert found.held == {NORTH: 3, SOUTH: 2}
    assert world.released() == 0
    (lesson,) = router_of(world).learner._experience.lessons(9, audits=True)
    assert lesson.held == found.held


async def test_an_audit_that_cannot_be_learnt_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(router_of(world), "heard", fail)
    with pytest.raises(StorageFailed):
        await world.gateway.audit(Query(QUESTION))


# -- events ---------------------------------------------------------------------------------------


async def test_what_happens_is_told_in_order_and_the_answer_last(world: World) -> None:
    answer, events = await watched(world, QUESTION, route="all")
    assert isinstance(events[0], PlanEvent)
    assert events[-1] == answer
    news = [(event.silo, event.state) for event in events if isinstance(event, SiloEvent)]
    assert news[:2] == [(NORTH, "answered"), (SOUTH, "answered")]
    assert sorted(news[2:]) == [(NORTH, "released"), (SOUTH, "released")]


async def test_every_source_is_told_once_and_before_the_sentence_that_cites_it(
    world: World,
) -> None:
    _, events = await watched(world, BOTH, route="all", k=6)
    known: list[int] = []
    for event in events:
        if isinstance(event, Source):
            known.append(event.n)
        if isinstance(event, Sentence):
            assert set(event.citations) <= set(known)
    assert len(known) == len(set(known)) > 1


async def test_an_abstention_tells_no_source(world: World) -> None:
    answer, events = await watched(world, "Quarterly zebra budgets?", route="all")
    assert answer.abstained
    assert not [event for event in events if isinstance(event, Source | Sentence)]


async def test_a_missing_silo_is_told_with_its_reason(world: World) -> None:
    del world.hub.node.lines[SOUTH]
    _, events = await watched(world, QUESTION, route="all")
    (gone,) = [e for e in events if isinstance(e, SiloEvent) and e.state == "missing"]
    assert (gone.silo, "not connected" in gone.detail) == (SOUTH, True)


# -- follow-ups -----------------------------------------------------------------------------------


async def test_a_follow_up_is_asked_and_shown_written_out(world: World) -> None:
    turns = [Turn(QUESTION, RULE)]
    answer = await world.gateway.ask(Query("And in children?"), ALL, turns=turns)
    assert "meningitis" in answer.question
    assert answer.rounds[0].question == answer.question


# -- deadlines and cancelling ---------------------------------------------------------------------


async def test_both_phases_fit_in_the_deadline(world: World) -> None:
    asked: list[float] = []
    gather, collect = world.hub.gather, world.hub.collect

    class Slow:
        async def gather(self, envelope: bytes, timeout_s: float) -> object:
            asked.append(timeout_s)
            return await gather(envelope, timeout_s)

        async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
            asked.append(timeout_s)
            return await collect(silo, envelope, timeout_s)

    world.gateway._rounds._phases._hub = Slow()  # type: ignore[assignment]
    await world.ask()
    first, *rest = asked
    assert first <= 2.0
    assert max(rest) <= 3.2


async def test_a_question_whose_time_is_over_asks_nobody(world: World) -> None:
    world.gateway = world.new_gateway(deadline_s=1e-6)
    await world.gateway.refresh()
    with pytest.raises(TimedOut, match="time for this question"):
        await world.ask()
    assert world.released() == 0


async def test_giving_up_cancels_what_waits_at_the_hub(world: World) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    class Stuck:
        async def gather(self, envelope: bytes, timeout_s: float) -> object:
            entered.set()
            try:
                return await asyncio.Event().wait()
            finally:
                left.set()

    world.gateway._rounds._phases._hub = Stuck()  # type: ignore[assignment]
    task = asyncio.create_task(world.ask())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left.is_set()


class Slow:
    """An encoder that takes questions at once and never finishes passages."""

    def __init__(self, inner: Batcher) -> None:
        self.inner = inner

    async def encode(self, texts: Sequence[str]) -> Vector:
        if len(texts) > 1:
            await asyncio.Event().wait()
        return await self.inner.encode(texts)


async def test_without_time_to_score_the_silos_own_word_counts_and_it_is_said(
    world: World,
) -> None:
    world.gateway = world.new_gateway(deadline_s=1.0)
    await world.gateway.refresh()
    world.gateway._encoder = Slow(world.gateway._encoder)  # type: ignore[assignment]
    answer = await world.ask()
    assert answer.sentences[0].text == RULE
    assert "silos' own word" in answer.notes[0]
    found = await world.gateway.retrieve(Query(QUESTION), ALL)
    assert found.notes == answer.notes


async def test_an_encoder_too_busy_for_the_question_is_told(world: World) -> None:
    class Stuck:
        async def encode(self, texts: Sequence[str]) -> Vector:
            await asyncio.Event().wait()
            raise AssertionError

    world.gateway = world.new_gateway(deadline_s=0.2)
    await world.gateway.refresh()
    world.gateway._rounds._encoder = Stuck()  # type: ignore[assignment]
    with pytest.raises(TimedOut, match="encoder is busy"):
        await world.ask()


async def test_a_first_round_that_fails_is_the_questions_failure(world: World) -> None:
    class Gone:
        async def gather(self, envelope: bytes, timeout_s: float) -> object:
            raise Unreachable("no hub")

    world.gateway._rounds._phases._hub = Gone()  # type: ignore[assignment]
    with pytest.raises(SiloquyError, match="no hub"):
        await world.ask()


# -- sealed questions -----------------------------------------------------------------------------

MANY = {
    silo: [*documents, *(document(f"{i}.md", f"{words} {i}.") for i in range(256 - len(documents)))]
    for (silo, documents), words in zip(
        WARDS.items(), ("ceftriaxone dose given", "adults with meningitis"), strict=True
    )
}
"""Wards that fill their blocks: no padding wins a place."""


@pytest.fixture
async def full(tmp_path: Path, federation: Federation) -> AsyncIterator[World]:
    made = World(tmp_path, federation, MANY)
    yield made
    for hospital in made.hospitals.values():
        hospital.store.close()


async def sealed_gateway(world: World, **settings: object) -> None:
    world.gateway = world.new_gateway(None, fallback=True, **{"mode": "sealed", **settings})
    await world.gateway.refresh()


@pytest.mark.parametrize(
    ("settings", "k", "released", "sources"),
    [
        ({}, 4, 8, 4),
        ({"over_fetch": 1.0}, 4, 4, 4),
        ({"over_fetch": 1.5}, 3, 5, 3),
        ({"most_released": 6}, 4, 6, 4),
        ({"most_released": 3, "k": 3}, 3, 3, 3),
        ({"most_released": 2, "k": 4}, 4, 4, 4),
    ],
    ids=str,
)
async def test_a_sealed_question_takes_more_within_what_may_leave(
    full: World, settings: dict[str, object], k: int, released: int, sources: int
) -> None:
    await sealed_gateway(full, most_rounds=1, **settings)
    answer, _ = await watched(full, QUESTION, route="all", k=k)
    assert answer.mode == "sealed"
    assert sum(answer.released.values()) == full.released() == released
    assert len(answer.sources) <= sources
    assert RULE in {source.text for source in answer.sources}
    assert (answer.missing, answer.flagged) == ((), {})


async def test_of_what_a_sealed_question_took_the_best_by_vector_and_words_are_shown(
    full: World,
) -> None:
    await sealed_gateway(full, most_rounds=1)
    found = await full.gateway.retrieve(Query(QUESTION), wish(route="all", k=3))
    assert (len(found.passages), sum(found.released.values())) == (3, 6)
    assert found.passages[0].text == RULE
    bare = await full.gateway.retrieve(Query(QUESTION), wish(route="all", k=3, rescore=False))
    assert [passage.rank for passage in bare.passages] == [1, 2, 3]


async def test_parts_of_a_sealed_question_share_what_may_leave_and_no_silo_is_flagged(
    full: World,
) -> None:
    await sealed_gateway(full)
    answer, _ = await watched(full, BOTH, route="all", k=6)
    assert [sum(item.released.values()) for item in answer.rounds] == [6, 6]
    assert {sentence.text for sentence in answer.sentences} >= {RULE, EARS}
    assert (answer.mode, answer.flagged, len(answer.sources) <= 6) == ("sealed", {}, True)


async def test_a_silo_that_inflates_some_rows_is_flagged_alone(full: World) -> None:
    await sealed_gateway(full, most_rounds=1)
    rows = full.hospitals[SOUTH].node._searcher._sealed_index()
    for number, times in ((1, 4), (2, 20)):  # true cosines of .23 and .05
        rows._levels[rows._numbers == number] *= times
    answer, _ = await watched(full, QUESTION, route="all", k=4)
    assert [winner.silo for winner in full.hub.gathered[0].winners][:3] == [SOUTH, SOUTH, NORTH]
    assert list(answer.flagged) == [SOUTH]
    assert "claimed a similarity" in answer.flagged[SOUTH]
    assert answer.sentences[0].text == RULE
    assert await full.gateway.learnt(5.0)
    assert "did not fit" in (await full.ask()).plan.reasons[SOUTH]


@pytest.mark.parametrize("craft", ["four times as long", "out of range", "zero"])
async def test_a_crafted_query_takes_no_more_than_any_other_and_is_counted(
    full: World, monkeypatch: pytest.MonkeyPatch, craft: str
) -> None:
    def crafted(levels: NDArray[np.int16]) -> NDArray[np.uint64]:
        if craft == "four times as long":
            return honest(4 * levels)
        drawn = np.random.default_rng(0).integers(0, wire.PLAIN, (len(levels) // 8, 8))
        return (drawn * (craft == "out of range")).astype(np.uint64)

    honest = wire.query_polynomials
    await sealed_gateway(full, most_rounds=1)
    monkeypatch.setattr(wire, "query_polynomials", crafted)
    answer, _ = await watched(full, QUESTION, route="all", k=4)
    (merged,) = full.hub.gathered
    assert len(merged.winners) == 8
    assert all(ticket.claims == () for ticket in map(ticket_of, merged.tickets))
    assert full.released() <= 8
    for hospital in full.hospitals.values():
        counted = hospital.store.connection.execute("SELECT questions FROM sealed_asked")
        assert counted.fetchall() == [(1,)]
    assert answer.missing == ()


def ticket_of(signed: SignedMessage) -> Ticket:
    return decode(Ticket, signed.body)


async def test_a_wider_round_of_a_sealed_question_is_sealed_and_affordable(world: World) -> None:
    await sealed_gateway(world)
    only_asks(world, SOUTH)
    answer, _ = await watched(world, QUESTION)
    assert [item.kind for item in answer.rounds] == ["question", "wider"]
    assert (answer.mode, answer.sentences[0].text) == ("sealed", RULE)
    assert sum(answer.released.values()) <= 15


async def test_a_sealed_question_teaches_the_router_where_its_best_passages_lay(
    world: World,
) -> None:
    answer = await world.ask(options=wish(route="all", mode="sealed"))
    assert await world.gateway.learnt(5.0)
    (lesson,) = router_of(world).learner._experience.lessons(9)
    assert set(lesson.held) == {NORTH, SOUTH}
    verified = {silo: one.verified for silo, one in router_of(world).standings.items()}
    assert verified == {silo: n for silo, n in answer.released.items() if n}


async def test_an_audit_in_the_mode_of_the_plan_is_none_for_a_sealed_question(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[SearchFeedback] = []
    monkeypatch.setattr(router_of(world), "heard", heard.append)
    plan = Plan("open", (NORTH, SOUTH), (), {}, audit=True)
    monkeypatch.setattr(router_of(world), "plan", lambda sought: plan)
    for mode in ("open", "sealed"):
        await watched(world, QUESTION, mode=mode)
    assert await world.gateway.learnt(5.0)
    assert [item.plan.audit for item in heard] == [True, False]


async def test_an_audit_asks_openly_and_leaves_out_who_answers_sealed_questions_alone(
    world: World,
) -> None:
    await closed_south(world)
    found = await world.gateway.audit(Query(QUESTION))
    assert (found.asked, found.skipped) == ((NORTH,), (SOUTH,))
    assert world.hub.node.sessions._sessions == {}


# -- the mode of a question -----------------------------------------------------------------------


async def closed_south(world: World, *collections: str) -> None:
    """South answers sealed questions alone, and says so."""
    world.hospitals[SOUTH] = world.open(
        world.federation.south, replace(POLICY, sealed=collections or ("*",))
    )
    await world.publish(SOUTH)
    await world.gateway.refresh()


async def unable_south(world: World) -> None:
    """South's profile says that it cannot score sealed questions."""
    opened = world.gateway._retriever.profiles.opened
    profiles = tuple(
        replace(profile, sealing="none") if profile.silo == SOUTH else profile
        for profile in opened.profiles
    )
    world.gateway._retriever.profiles.opened = replace(opened, profiles=profiles)


async def test_what_a_question_wishes_counts_more_than_the_setting(world: World) -> None:
    assert (await world.ask()).mode == "open"
    await sealed_gateway(world)
    assert (await world.ask()).mode == "sealed"
    assert (await world.ask(options=wish(route="all", mode="open"))).mode == "open"


@pytest.mark.parametrize("collections", [("*",), ("psychiatry",)])
async def test_a_question_is_sealed_by_itself_when_a_silo_wants_it(
    world: World, collections: tuple[str, ...]
) -> None:
    await closed_south(world, *collections)
    answer = await world.ask()
    assert (answer.mode, answer.missing, answer.plan.asked) == ("sealed", (), (NORTH, SOUTH))
    assert WANTED in answer.notes
    assert answer.sentences[0].text == RULE


async def test_the_parts_of_a_question_are_asked_in_one_mode(world: World) -> None:
    await closed_south(world)
    answer, _ = await watched(world, BOTH, route="all", k=6)
    assert (answer.mode, [item.kind for item in answer.rounds]) == ("sealed", ["part", "part"])


async def test_a_wider_round_asks_who_is_closed_sealed_and_the_answer_is_not_called_so(
    world: World,
) -> None:
    await closed_south(world)
    only_asks(world, NORTH)
    answer, _ = await watched(world, "How is amoxicillin given to children with otitis?")
    assert [item.kind for item in answer.rounds] == ["question", "wider"]
    assert (answer.mode, answer.missing) == ("open", ())
    assert WANTED in answer.notes
    assert answer.sentences[0].text == EARS


async def test_an_open_question_leaves_out_who_answers_sealed_questions_alone(
    world: World,
) -> None:
    await closed_south(world)
    answer = await world.ask(options=wish(route="all", mode="open"))
    assert (answer.mode, answer.plan.asked, answer.plan.skipped) == ("open", (NORTH,), (SOUTH,))
    assert answer.plan.reasons[SOUTH] == CLOSED


async def test_a_silo_that_cannot_score_sealed_questions_is_skipped_with_its_reason(
    world: World,
) -> None:
    await unable_south(world)
    answer = await world.ask(options=wish(route="all", mode="sealed"))
    assert (answer.mode, answer.plan.asked, answer.plan.skipped) == ("sealed", (NORTH,), (SOUTH,))
    assert answer.plan.reasons[SOUTH] == UNABLE


async def test_where_nobody_can_score_sealed_questions_it_is_told(world: World) -> None:
    await unable_south(world)
    only_asks(world, SOUTH)
    with pytest.raises(PolicyDenied, match="no silo may be asked in sealed mode"):
        await world.ask(options=wish(mode="sealed"))
    assert world.hub.gathered == []


async def test_documents_cannot_be_counted_in_a_sealed_question(world: World) -> None:
    with pytest.raises(UsageError, match="a sealed question is for passages") as refused:
        await world.ask(options=wish(route="all", mode="sealed", unit="document"))
    assert "ask in open mode" in refused.value.hint
    assert (world.hub.gathered, world.released()) == ([], 0)


async def test_without_the_library_a_sealed_question_is_told_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    monkeypatch.setattr(sealed, "_seal", sealed._seal.__wrapped__)
    with pytest.raises(Incompatible, match="no sealed scoring here"):
        await world.ask(options=wish(route="all", mode="sealed"))
    assert (await world.ask()).sentences[0].text == RULE


# -- how many are asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(("fan_out", "asked"), [(0, 1), (1, 1), (2, 2), (9, 2)])
async def test_exactly_the_fixed_number_of_silos_is_asked(
    world: World, fan_out: int, asked: int
) -> None:
    await sealed_gateway(world, fan_out=fan_out)
    only_asks(world, NORTH)
    answer, _ = await watched(world, QUESTION)
    assert len(answer.plan.asked) == len(world.hub.gathered[0].silo_ms) == asked
    assert (answer.plan.reasons[SOUTH] == DECOY) == (asked == 2)


async def test_more_than_the_fixed_number_are_cut_and_it_is_told(world: World) -> None:
    await sealed_gateway(world, fan_out=1, most_rounds=1)
    answer, _ = await watched(world, QUESTION, route="all")
    assert (len(answer.plan.asked), CUT in answer.notes) == (1, True)


async def test_an_open_question_has_no_decoys(world: World) -> None:
    await sealed_gateway(world, fan_out=2, mode="open")
    only_asks(world, NORTH)
    answer, _ = await watched(world, QUESTION)
    assert answer.plan.asked == (NORTH,)


@pytest.mark.parametrize("why", ["never", "unable"])
async def test_who_may_not_or_cannot_be_asked_is_no_decoy(world: World, why: str) -> None:
    await sealed_gateway(world, fan_out=2, never=(SOUTH,) if why == "never" else ())
    if why == "unable":
        await unable_south(world)
    only_asks(world, NORTH)
    answer, _ = await watched(world, QUESTION)
    assert (answer.plan.asked, answer.plan.skipped) == ((NORTH,), (SOUTH,))


# -- whose interest it would be -------------------------------------------------------------------


def run_by(organisation: str) -> Federation:
    """A federation whose hub is run by ``organisation``; north and ward are Northmoor's."""
    north = identities.create("north", "silo", "Northmoor")
    south = identities.create("south", "silo", "St Brigid")
    ward = identities.create("ward", "gateway", "Northmoor")
    hub = identities.create("hub", "hub", organisation)
    cards = [node.card for node in (north, south, ward, hub)]
    roster = rosters.found("vale", cards[:3], 2, ENCODER, cards, NOW)
    return Federation(north, south, ward, hub, signed(roster, (north, ward)))


@pytest.mark.parametrize(
    ("organisation", "who"),
    [("Northmoor", "ward, north"), ("St Brigid", "south"), ("Vale", "")],
)
async def test_a_hub_of_an_asked_organisation_is_told(
    tmp_path: Path, organisation: str, who: str
) -> None:
    world = World(tmp_path, run_by(organisation))
    answer = await world.ask(options=wish(route="all", mode="sealed"))
    told = [note for note in answer.notes if "protects nothing" in note]
    expected = (
        f"{organisation} runs the hub and {who}: sealed mode protects nothing against that "
        "organisation"
    )
    assert told == ([expected] if who else [])
    assert not [n for n in (await world.ask()).notes if "protects nothing" in n]
    for hospital in world.hospitals.values():
        hospital.store.close()


# -- values ---------------------------------------------------------------------------------------


def test_a_stage_met_twice_adds_up() -> None:
    watch = Stopwatch({"search": 5.0})
    watch.lap("search")
    assert watch.stages["search"] >= 5.0
    assert watch.total()["total"] == watch.stages["search"]


def test_who_is_asked_in_any_round_is_not_skipped() -> None:
    one = Plan("open", (NORTH,), (SOUTH,), {NORTH: "likely", SOUTH: "unlikely"}, 0.9)
    two = Plan("open", (SOUTH,), (NORTH,), {NORTH: "left", SOUTH: "second"})
    merged = merge_plans([one, two])
    assert (merged.asked, merged.skipped) == ((NORTH, SOUTH), ())
    assert merged.reasons == {NORTH: "likely", SOUTH: "second"}
    assert merged.coverage is None
    assert merge_plans([one]) == one


MODES: tuple[Mode, Mode] = ("sealed", "open")


def test_rounds_are_sealed_together_only_when_each_was() -> None:
    sealed, opened = (Plan(mode, (NORTH,), (SOUTH,), {}) for mode in MODES)
    assert merge_plans([sealed, sealed]).mode == "sealed"
    assert merge_plans([sealed, opened]).mode == merge_plans([opened, sealed]).mode == "open"
