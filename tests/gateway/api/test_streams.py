"""Streams of events: every reader gets every event once, and nobody waits for a slow one."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import SiloquyError, UsageError
from siloquy.gateway.api import streams
from siloquy.gateway.api.streams import Stream, Streams, Work
from siloquy.web.refusals import NotFound, Overloaded
from tests.gateway.served import until

KEEP_S = 60.0


def nothing() -> None:
    """What is done at the end of a run here."""


def event(n: int) -> bytes:
    return f"event {n}\n".encode()


def numbers(data: bytes) -> list[int]:
    """Numbers of the events in what a reader got."""
    return [int(found) for found in re.findall(rb"event (\d+)", data)]


def writes(n: int) -> Work:
    """A run that writes ``n`` events and ends."""

    async def work(stream: Stream) -> None:
        for at in range(1, n + 1):
            stream.append(event(at))
            await asyncio.sleep(0)

    return work


def waits(ended: asyncio.Event | None = None, began: asyncio.Event | None = None) -> Work:
    """A run that goes on until ``ended``."""

    async def work(stream: Stream) -> None:
        if began is not None:
            began.set()
        await (ended or asyncio.Event()).wait()

    return work


async def read(stream: Stream, after: int = 0) -> bytes:
    """All that a reader gets until the end."""
    return b"".join([piece async for piece in stream.read(after, b"")])


async def ended(stream: Stream) -> Stream:
    await until(lambda: stream.ended)
    return stream


async def test_a_reader_gets_the_first_bytes_at_once_then_every_event_in_order() -> None:
    stream = Streams(KEEP_S, 9).open("anna", writes(5), nothing)
    pieces = [piece async for piece in stream.read(0, b"first")]
    assert pieces[0] == b"first"
    assert numbers(b"".join(pieces)) == [1, 2, 3, 4, 5]


async def test_readers_that_come_late_or_again_get_what_they_missed() -> None:
    stream = await ended(Streams(KEEP_S, 9).open("anna", writes(100), nothing))
    for after in (0, 1, 37, 99, 100):
        assert numbers(await read(stream, after)) == list(range(after + 1, 101))


async def test_many_readers_at_different_places_all_get_the_rest_once() -> None:
    stream = Streams(KEEP_S, 9).open("anna", writes(300), nothing)
    for _ in range(50):
        await asyncio.sleep(0)
    readers = [read(stream, after) for after in range(10)]
    got = await asyncio.gather(*readers)
    assert [numbers(data) for data in got] == [list(range(after + 1, 301)) for after in range(10)]


@given(cuts=st.lists(st.integers(1, 7), max_size=12), n=st.integers(0, 40))
def test_however_often_a_reader_is_cut_off_it_misses_and_repeats_nothing(
    cuts: list[int], n: int
) -> None:
    async def check() -> None:
        stream = Streams(KEEP_S, 9).open("anna", writes(n), nothing)
        got: list[int] = []
        for cut in [*cuts, None]:
            reading = stream.read(len(got), b"")
            async for piece in reading:
                got += numbers(piece)
                if cut is not None and (cut := cut - 1) == 0:
                    break
            await reading.aclose()
        assert got == list(range(1, n + 1))
        stream.drop()

    asyncio.run(check())


async def test_a_reader_that_does_not_drain_keeps_back_nobody() -> None:
    stream = Streams(KEEP_S, 9).open("anna", writes(500), nothing)
    stuck = stream.read(0, b"first")
    assert await anext(stuck) == b"first"
    assert numbers(await read(stream)) == list(range(1, 501))
    assert numbers(b"".join([piece async for piece in stuck])) == list(range(1, 501))


async def test_a_silent_stream_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.01)
    stream = Streams(KEEP_S, 9).open("anna", waits(), nothing)
    reading = stream.read(0, b"")
    assert [await anext(reading) for _ in range(3)][1:] == [b": waiting\n\n"] * 2
    stream.alive = b": working\n\n"
    assert await anext(reading) == b": working\n\n"
    await reading.aclose()
    stream.drop()


# -- how long a stream lives ----------------------------------------------------------------------


async def test_a_stream_is_dropped_and_its_run_cancelled_when_nobody_reads_it() -> None:
    open_streams, done = Streams(0.05, 9), asyncio.Event()
    stream = open_streams.open("anna", waits(), done.set)
    reading = stream.read(0, b"")
    await anext(reading)
    await asyncio.sleep(0.15)
    assert not stream.ended
    await reading.aclose()
    await asyncio.wait_for(done.wait(), 5)
    assert (stream.ended, len(open_streams)) == (True, 0)
    with pytest.raises(NotFound):
        open_streams.find(stream.id, "anna")


async def test_a_reader_that_comes_back_in_time_keeps_the_run_alive() -> None:
    stream = Streams(0.2, 9).open("anna", waits(), nothing)
    for _ in range(4):
        reading = stream.read(0, b"")
        await anext(reading)
        await asyncio.sleep(0.1)
        await reading.aclose()
        await asyncio.sleep(0.05)
    assert not stream.ended
    stream.drop()


async def test_a_stream_that_nobody_ever_reads_is_dropped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "FIRST_READER_S", 0.05)
    open_streams = Streams(0.01, 9)
    stream = open_streams.open("anna", waits(), nothing)
    await until(lambda: stream.ended and not len(open_streams))


async def test_a_stream_that_cannot_be_resumed_ends_with_its_reader() -> None:
    open_streams, done = Streams(KEEP_S, 9), asyncio.Event()
    stream = open_streams.open("anna", waits(), done.set, resumable=False)
    reading = stream.read(0, b"")
    await anext(reading)
    await reading.aclose()
    await asyncio.wait_for(done.wait(), 5)
    assert len(open_streams) == 0


async def test_cancelling_ends_run_and_readers_and_tells_who_cares() -> None:
    began, done = asyncio.Event(), asyncio.Event()
    stream = Streams(KEEP_S, 9).open("anna", waits(began=began), done.set)
    reading = asyncio.create_task(read(stream))
    await began.wait()
    await stream.cancel()
    assert stream.ended
    assert await asyncio.wait_for(reading, 5) == b""
    assert done.is_set()
    await stream.cancel()


async def test_a_run_that_is_cancelled_before_its_first_step_is_done_too() -> None:
    done = asyncio.Event()
    stream = Streams(KEEP_S, 9).open("anna", writes(1), done.set)
    stream.drop()
    await asyncio.wait_for(done.wait(), 5)
    assert await read(stream) == b""


async def test_a_run_that_breaks_ends_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def work(stream: Stream) -> None:
        raise KeyError("what was asked")

    stream = Streams(KEEP_S, 9).open("anna", work, nothing)
    assert await asyncio.wait_for(read(stream), 5) == b""
    assert "KeyError" in caplog.text
    assert "what was asked" not in caplog.text


# -- whose it is, and how much ---------------------------------------------------------------------


async def test_a_stream_is_found_by_its_id_and_its_requester_alone() -> None:
    open_streams = Streams(KEEP_S, 9)
    stream = open_streams.open("anna", writes(1), nothing)
    assert open_streams.find(stream.id, "anna") is stream
    for stream_id, requester in ((stream.id, "berta"), (stream.id[:-1], "anna"), ("", "anna")):
        with pytest.raises(NotFound):
            open_streams.find(stream_id, requester)


async def test_ids_are_long_and_never_the_same() -> None:
    open_streams = Streams(KEEP_S, 1000)
    ids = {open_streams.open("anna", writes(0), nothing).id for _ in range(500)}
    assert len(ids) == 500
    assert min(map(len, ids)) >= 32


@pytest.mark.parametrize("after", [-1, 2, 10**9])
async def test_a_place_that_no_event_had_is_refused(after: int) -> None:
    stream = await ended(Streams(KEEP_S, 9).open("anna", writes(1), nothing))
    stream.check_place(0)
    stream.check_place(1)
    with pytest.raises(UsageError):
        stream.check_place(after)


async def test_a_stream_has_room_for_so_many_events_and_one_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MOST_EVENTS", 3)
    stream = Streams(KEEP_S, 9).open("anna", writes(3), nothing)
    assert numbers(await read(stream)) == [1, 2, 3]
    with pytest.raises(SiloquyError, match="larger than an event stream"):
        stream.append(b"x")
    stream.append(event(4), last=True)
    assert numbers(await read(stream)) == [1, 2, 3, 4]


async def test_a_stream_has_room_for_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_BYTES", 10)
    stream = Streams(KEEP_S, 9).open("anna", waits(), nothing)
    stream.append(b"12345")
    with pytest.raises(SiloquyError):
        stream.append(b"678901")
    stream.drop()


async def test_so_many_streams_may_run_and_ended_ones_make_room() -> None:
    open_streams = Streams(KEEP_S, 3)
    old = await ended(open_streams.open("anna", writes(1), nothing))
    running = [open_streams.open("anna", waits(), nothing) for _ in range(2)]
    running.append(open_streams.open("anna", waits(), nothing))
    with pytest.raises(NotFound):
        open_streams.find(old.id, "anna")
    with pytest.raises(Overloaded):
        open_streams.open("anna", waits(), nothing)
    for stream in running:
        stream.drop()


async def test_an_ended_stream_that_is_read_does_not_make_room() -> None:
    open_streams = Streams(KEEP_S, 1)
    stream = await ended(open_streams.open("anna", writes(2), nothing))
    reading = stream.read(0, b"")
    await anext(reading)
    with pytest.raises(Overloaded):
        open_streams.open("anna", writes(1), nothing)
    assert numbers(b"".join([piece async for piece in reading])) == [1, 2]
    open_streams.open("anna", writes(1), nothing).drop()


async def test_ended_streams_are_kept_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_KEPT_BYTES", 100)
    open_streams = Streams(KEEP_S, 1000)
    for _ in range(50):
        await ended(open_streams.open("anna", writes(3), nothing))
    assert len(open_streams) < 10


async def test_so_many_readers_may_follow_one_stream() -> None:
    stream = Streams(KEEP_S, 9).open("anna", waits(), nothing)
    readings = [stream.read(0, b"") for _ in range(streams.MOST_READERS)]
    for reading in readings:
        await anext(reading)
    with pytest.raises(Overloaded):
        stream.check_place(0)
    await readings[0].aclose()
    stream.check_place(0)
    for reading in readings[1:]:
        await reading.aclose()
    stream.drop()
