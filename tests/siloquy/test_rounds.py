"""A question in rounds: its parts at once, other silos when little was found, all accounted for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from siloquy import receipt
from siloquy.batcher import Batcher
from siloquy.codec import to_json
from siloquy.errors import SiloquyError, TimedOut, Unreachable
from siloquy.rounds import Stopwatch, merge_plans
from siloquy.types import (
    Answer,
    Event,
    NodeId,
    Plan,
    Planned,
    Query,
    Sentence,
    SiloNews,
    Source,
    Turn,
    Vector,
)
from tests.siloquy.federation import Federation
from tests.siloquy.world import ALL, NORTH, QUESTION, RULE, SOUTH, World, wish

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
    world.gateway._rounds._router = type("Fixed", (), {"plan": lambda *_: plan})()


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
    assert [event.kind for event in events if isinstance(event, Planned)] == ["question", "wider"]


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


# -- events ---------------------------------------------------------------------------------------


async def test_what_happens_is_told_in_order_and_the_answer_last(world: World) -> None:
    answer, events = await watched(world, QUESTION, route="all")
    assert isinstance(events[0], Planned)
    assert events[-1] == answer
    news = [(event.silo, event.state) for event in events if isinstance(event, SiloNews)]
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
    (gone,) = [e for e in events if isinstance(e, SiloNews) and e.state == "missing"]
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
