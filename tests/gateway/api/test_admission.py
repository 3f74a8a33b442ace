"""Who is worked on, who waits, who is sent away: first come, first served, no place is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import Busy
from siloquy.gateway.api.admission import MOST_RETRY_AFTER_S, Admission, Place
from siloquy.web.refusals import Overloaded


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_as_many_are_worked_on_as_allowed_and_the_rest_waits_in_order() -> None:
    admission = Admission(2, 3)
    places = [admission.reserve() for _ in range(5)]
    assert [place.waits for place in places] == [False, False, True, True, True]
    places[1].leave()
    assert [place.waits for place in places[2:]] == [False, True, True]
    places[0].leave()
    assert [place.waits for place in places[3:]] == [False, True]
    assert admission.load == (2, 1)


async def test_who_finds_all_places_taken_is_told_when_to_come_back() -> None:
    admission = Admission(1, 1)
    admission.reserve()
    admission.reserve()
    with pytest.raises(Overloaded) as busy:
        admission.reserve()
    assert isinstance(busy.value, Busy)
    assert busy.value.retry_after_s == admission.retry_after_s >= 1


async def test_nobody_may_wait_where_there_are_no_waiting_places() -> None:
    admission = Admission(1, 0)
    admission.reserve()
    with pytest.raises(Overloaded):
        admission.reserve()


async def test_who_gives_up_waiting_leaves_its_place_to_the_next() -> None:
    admission = Admission(1, 2)
    first, second, third = (admission.reserve() for _ in range(3))
    second.leave()
    first.leave()
    assert (second.waits, third.waits) == (True, False)
    third.leave()
    assert admission.load == (0, 0)


async def test_leaving_twice_frees_one_place_only() -> None:
    admission = Admission(1, 1)
    first, second = admission.reserve(), admission.reserve()
    first.leave()
    first.leave()
    assert admission.load == (1, 0)
    second.leave()
    second.leave()
    assert admission.load == (0, 0)


async def test_a_turn_comes_as_soon_as_there_is_room() -> None:
    admission = Admission(1, 1)
    first, second = admission.reserve(), admission.reserve()
    await asyncio.wait_for(first.turn(), 1)
    waiting = asyncio.create_task(second.turn())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.leave()
    await asyncio.wait_for(waiting, 1)


async def test_the_advice_follows_the_measured_time_of_a_question() -> None:
    clock = Clock()
    admission = Admission(2, 100, clock)
    places = [admission.reserve() for _ in range(60)]
    for place in places[:40]:
        clock.now += 1.5
        place.leave()
    # Two at a time, 3 seconds each: one ends every 1.5 seconds. 18 wait, and one more would.
    assert 28 <= admission.retry_after_s <= 30


async def test_the_advice_knows_that_questions_at_once_take_longer_each() -> None:
    clock = Clock()
    admission = Admission(8, 100, clock)
    for _ in range(40):
        place = admission.reserve()
        clock.now += 0.5
        place.leave()
    for _ in range(18):
        admission.reserve()
    # One processor: at once or one after another, a question ends every half second.
    assert 5 <= admission.retry_after_s <= 6


async def test_the_advice_is_at_least_a_second_and_at_most_a_minute() -> None:
    clock = Clock()
    admission = Admission(1, 100, clock)
    for _ in range(60):
        admission.reserve().leave()
    assert admission.retry_after_s == 1
    slow = admission.reserve()
    clock.now += 10_000
    slow.leave()
    assert admission.retry_after_s == MOST_RETRY_AFTER_S


@given(
    at_once=st.integers(1, 4),
    waiting=st.integers(0, 4),
    moves=st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60),
)
def test_whatever_comes_and_goes_no_place_is_lost_or_given_twice(
    at_once: int, waiting: int, moves: list[int | None]
) -> None:
    asyncio.run(_come_and_go(at_once, waiting, moves))


async def _come_and_go(at_once: int, waiting: int, moves: list[int | None]) -> None:
    admission = Admission(at_once, waiting)
    held: list[Place] = []
    for move in moves:
        if move is None:
            try:
                held.append(admission.reserve())
            except Overloaded:
                assert len(held) == at_once + waiting
        elif held:
            held.pop(move % len(held)).leave()
        working = [place for place in held if not place.waits]
        # The oldest are worked on, as many as may be.
        assert working == held[: min(at_once, len(held))]
        assert admission.load == (len(working), len(held) - len(working))
