"""Questions over HTTP: as a whole and as streams, cut off and resumed, cancelled, shed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from siloquy.errors import PolicyDenied, UsageError
from siloquy.gateway.api import streams
from siloquy.settings import ApiSettings
from siloquy.types import Turn
from tests.gateway.served import (
    EVENTS,
    SECRET,
    Federation,
    Served,
    blocks,
    client,
    parsed,
    served,
    until,
)

NAMES = ["plan", "silo", "silo", "silo", "source", "source", "source", "sentence", "sentence"]
STREAM = {"Accept": "text/event-stream"}
ASK = {"question": "Which dose?"}


@contextlib.asynccontextmanager
async def opened(
    running: Served, headers: dict[str, str] = STREAM
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    """A stream that has begun, and its blocks after the first."""
    async with running.http.stream("POST", "/v1/ask", json=ASK, headers=headers) as reply:
        assert reply.status_code == 200
        following = blocks(reply)
        assert await anext(following) == ": siloquy\nretry: 1000\n\n"
        yield reply, following


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "streamed"),
    [
        ({}, {}, False),
        ({"Accept": "*/*"}, {}, False),
        ({"Accept": "application/json, text/event-stream;q=0.5"}, {}, True),
        ({"Accept": "TEXT/event-stream"}, {}, True),
        ({"Accept": "text/event-streams"}, {}, False),
        (STREAM, {"stream": False}, False),
        ({}, {"stream": True}, True),
        (STREAM, {"stream": None}, True),
    ],
)
async def test_a_stream_is_what_header_or_body_ask_for(
    headers: dict[str, str], body: dict[str, object], streamed: bool
) -> None:
    async with client(Federation()) as http:
        reply = await http.post("/v1/ask", json={**ASK, **body}, headers=headers)
    kind = "text/event-stream" if streamed else "application/json"
    assert reply.headers["Content-Type"].split(";")[0] == kind


async def test_a_stream_tells_every_event_in_order_and_the_answer_last() -> None:
    async with client(Federation()) as http:
        reply = await http.post("/v1/ask", json=ASK, headers=STREAM)
        whole = await http.post("/v1/ask", json=ASK)
    events = parsed(reply.text)
    assert [event.name for event in events] == [*NAMES, "final"]
    assert [event.id for event in events] == list(range(1, 11))
    assert events[-1].data == whole.json()
    cited: set[int] = set()
    for event in events:
        cited |= {event.data["n"]} if event.name == "source" else set()
        assert set(event.data["citations"] if event.name == "sentence" else ()) <= cited


async def test_the_first_bytes_come_before_anything_has_happened() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running:
        began = time.monotonic()
        async with opened(running) as (reply, following):
            assert time.monotonic() - began < 1
            assert len(reply.headers["X-Stream-Id"]) >= 32
            assert reply.headers["X-Accel-Buffering"] == "no"
            federation.step()
            assert parsed(await anext(following))[0].name == "plan"
            federation.step(2)
            assert [parsed(await anext(following))[0].id for _ in range(2)] == [2, 3]


async def test_a_stream_that_is_cut_off_goes_on_without_gap_and_without_repeating() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running:
        async with opened(running) as (reply, following):
            federation.step(3)
            got = [parsed(await anext(following))[0] for _ in range(3)]
            stream = reply.headers["X-Stream-Id"]
        federation.step(4)
        await until(lambda: federation.running == 1)
        async with running.http.stream(
            "GET", f"/v1/ask/{stream}", headers={"Last-Event-ID": "3"}
        ) as again:
            following = blocks(again)
            await anext(following)
            got += [parsed(await anext(following))[0] for _ in range(4)]
        federation.step(3)
        rest = await running.http.get(f"/v1/ask/{stream}", params={"after": 7})
        got += parsed(rest.text)
        assert (federation.cancelled, len(federation.asked)) == (0, 1)
    assert [event.id for event in got] == list(range(1, 11))
    assert [event.name for event in got] == [*NAMES, "final"]


async def test_two_readers_of_one_stream_both_get_all() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running, opened(running) as (reply, following):
        stream = reply.headers["X-Stream-Id"]
        other = asyncio.create_task(running.http.get(f"/v1/ask/{stream}"))
        federation.step(20)
        first = [event for block in [b async for b in following] for event in parsed(block)]
        assert parsed((await other).text) == first
        assert first[-1].name == "final"


@pytest.mark.parametrize("place", ["11", "-1", "x", "", "1e3", "9" * 5000, "\uff11"])
async def test_a_place_that_no_event_had_is_refused(place: str) -> None:
    async with client(Federation()) as http:
        reply = await http.post("/v1/ask", json=ASK, headers=STREAM)
        stream = reply.headers["X-Stream-Id"]
        again = await http.get(f"/v1/ask/{stream}", params={"after": place})
        header = {"Last-Event-ID": place.encode()}
        third = await http.get(f"/v1/ask/{stream}", headers=header)  # type: ignore[arg-type]
    assert [reply.status_code for reply in (again, third)] == [400, 400]
    assert again.json()["error"]["code"] == "usage"


async def test_who_has_it_all_is_told_not_to_come_back() -> None:
    async with client(Federation()) as http:
        reply = await http.post("/v1/ask", json=ASK, headers=STREAM)
        path = f"/v1/ask/{reply.headers['X-Stream-Id']}"
        again = await http.get(path, headers={"Last-Event-ID": "10"})
    assert (again.status_code, again.content) == (204, b"")


async def test_what_the_browser_says_of_its_place_goes_before_the_address() -> None:
    async with client(Federation()) as http:
        reply = await http.post("/v1/ask", json=ASK, headers=STREAM)
        path = f"/v1/ask/{reply.headers['X-Stream-Id']}"
        again = await http.get(path, params={"after": 2}, headers={"Last-Event-ID": "9"})
    assert [event.id for event in parsed(again.text)] == [10]


async def test_a_stream_is_its_requesters_alone() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running:
        anna, berta = (
            {"Authorization": f"Bearer {running.desk.keys.add(name)}"} for name in ("anna", "berta")
        )
        async with opened(running, {**STREAM, **anna}) as (reply, _):
            path = f"/v1/ask/{reply.headers['X-Stream-Id']}"
            for headers in (berta, {}):
                assert (await running.http.get(path, headers=headers)).status_code == 404
                assert (await running.http.delete(path, headers=headers)).status_code == 404
            assert federation.cancelled == 0
            assert (await running.http.delete(path, headers=anna)).status_code == 204
        assert (await running.http.get(path, headers=anna)).status_code == 404


async def test_a_refusal_within_a_stream_is_its_last_event() -> None:
    federation = Federation(PolicyDenied("what happened", "what to do"))
    async with client(federation) as http:
        events = parsed((await http.post("/v1/ask", json=ASK, headers=STREAM)).text)
    assert [event.name for event in events] == [*NAMES, "error"]
    error = {"code": "denied", "message": "what happened", "hint": "what to do"}
    assert events[-1].data == {"error": error}


async def test_a_defect_within_a_stream_repeats_nothing() -> None:
    async with client(Federation(KeyError(SECRET))) as http:
        reply = await http.post("/v1/ask", json=ASK, headers=STREAM)
    assert parsed(reply.text)[-1].data["error"]["code"] == "error"
    assert SECRET not in reply.text


async def test_an_answer_too_large_for_a_stream_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MOST_EVENTS", 5)
    async with client(Federation()) as http:
        events = parsed((await http.post("/v1/ask", json=ASK, headers=STREAM)).text)
    assert [event.name for event in events] == [*NAMES[:5], "error"]


# -- cancelling -----------------------------------------------------------------------------------


async def test_cancelling_reaches_the_silos_and_ends_the_stream() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running, opened(running) as (reply, following):
        federation.step()
        await anext(following)
        path = f"/v1/ask/{reply.headers['X-Stream-Id']}"
        assert (await running.http.delete(path)).status_code == 204
        assert (federation.running, federation.cancelled) == (0, 1)
        (last,) = [event for block in [b async for b in following] for event in parsed(block)]
        assert (last.id, last.name) == (2, "error")
        assert last.data["error"]["message"] == "the question was cancelled"
        assert (await running.http.delete(path)).status_code == 404


async def test_cancelling_twice_at_once_is_no_harm() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running, opened(running) as (reply, _):
        path = f"/v1/ask/{reply.headers['X-Stream-Id']}"
        replies = await asyncio.gather(*(running.http.delete(path) for _ in range(5)))
        assert {reply.status_code for reply in replies} <= {204, 404}
        assert 204 in {reply.status_code for reply in replies}
        await until(lambda: federation.running == 0)


async def test_cancelling_a_question_that_waits_lets_it_never_begin() -> None:
    federation = Federation(paced=True)
    async with (
        served(federation, ApiSettings(at_once=1)) as running,
        opened(running) as (first, _),
        opened(running) as (second, following),
    ):
        await running.http.delete(f"/v1/ask/{second.headers['X-Stream-Id']}")
        assert [parsed(block)[0].name async for block in following] == ["error"]
        assert len(federation.asked) == 1
        await running.http.delete(f"/v1/ask/{first.headers['X-Stream-Id']}")
        await until(lambda: federation.running == 0)


async def test_a_stream_that_nobody_reads_any_more_is_cancelled_after_a_while() -> None:
    federation = Federation(paced=True)
    async with served(federation, ApiSettings(keep_s=0.2)) as running:
        async with opened(running):
            await until(lambda: federation.running == 1)
            await asyncio.sleep(0.4)
            assert federation.cancelled == 0
        await until(lambda: federation.cancelled == 1)


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/retrieve"])
async def test_a_caller_that_goes_away_cancels_its_question(path: str) -> None:
    federation = Federation(paced=True)
    async with served(federation, ApiSettings(at_once=1)) as running:
        asking = asyncio.create_task(running.http.post(path, json=ASK))
        await until(lambda: federation.running == 1)
        asking.cancel()
        await until(lambda: federation.cancelled == 1)
        federation.step(20)
        assert (await running.http.post(path, json=ASK)).status_code == 200


async def test_a_caller_that_goes_away_while_it_waits_is_never_asked_for() -> None:
    federation = Federation(paced=True)
    async with served(federation, ApiSettings(at_once=1)) as running:
        first = asyncio.create_task(running.http.post("/v1/ask", json=ASK))
        await until(lambda: federation.running == 1)
        second = asyncio.create_task(running.http.post("/v1/ask", json=ASK))
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.sleep(0.1)
        federation.step(20)
        assert (await first).status_code == 200
        assert len(federation.asked) == 1


# -- overload -------------------------------------------------------------------------------------


async def test_too_many_questions_are_shed_and_told_when_to_come_back() -> None:
    federation = Federation(paced=True)
    settings = ApiSettings(at_once=2, waiting=3)
    async with served(federation, settings) as running:
        kept = [asyncio.create_task(running.http.post("/v1/ask", json=ASK)) for _ in range(5)]
        await until(lambda: federation.running == 2)
        await asyncio.sleep(0.05)
        for path in ("/v1/ask", "/v1/retrieve"):
            shed = await running.http.post(path, json=ASK)
            assert (shed.status_code, shed.json()["error"]["code"]) == (429, "busy")
            assert 1 <= int(shed.headers["Retry-After"]) <= 60
        streamed = await running.http.post("/v1/ask", json=ASK, headers=STREAM)
        assert (streamed.status_code, streamed.json()["error"]["code"]) == (429, "busy")
        federation.step(100)
        assert {reply.status_code for reply in await asyncio.gather(*kept)} == {200}
        assert (federation.most_running, len(federation.asked)) == (2, 5)
        assert (await running.http.post("/v1/ask", json=ASK)).status_code == 200


async def test_ten_times_too_much_is_shed_and_all_is_well_right_after() -> None:
    federation = Federation()
    async with served(federation, ApiSettings(at_once=2, waiting=8)) as running:
        asked = [running.http.post("/v1/ask", json=ASK) for _ in range(100)]
        codes = [reply.status_code for reply in await asyncio.gather(*asked)]
        assert set(codes) <= {200, 429}
        assert codes.count(200) == len(federation.asked) >= 10
        assert federation.most_running <= 2
        assert (await running.http.post("/v1/ask", json=ASK)).status_code == 200


async def test_a_stream_that_waits_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    federation = Federation(paced=True)
    async with (
        served(federation, ApiSettings(at_once=1)) as running,
        opened(running) as (_, first),
        opened(running) as (_, second),
    ):
        assert await anext(second) == ": waiting\n\n"
        assert await anext(first) == ": working\n\n"
        federation.step(10)
        while (block := await anext(second)) == ": waiting\n\n":
            pass
        assert block == ": working\n\n"


async def test_three_hundred_streams_at_once_all_end_well() -> None:
    federation = Federation()
    async with served(federation, ApiSettings(at_once=8, waiting=300)) as running:

        async def follow() -> list[int]:
            reply = await running.http.post("/v1/ask", json=ASK, headers=STREAM)
            assert reply.status_code == 200
            return [event.id for event in parsed(reply.text)]

        got = await asyncio.gather(*(follow() for _ in range(300)))
    assert got == [list(range(1, len(EVENTS) + 2))] * 300
    assert federation.most_running <= 8


# -- questions ------------------------------------------------------------------------------------


async def test_turns_that_the_caller_keeps_reach_the_gateway_the_last_ones_only() -> None:
    federation = Federation()
    turns = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(9)]
    async with client(federation) as http:
        reply = await http.post("/v1/ask", json={**ASK, "turns": turns})
    assert reply.status_code == 200
    (asked,) = federation.asked
    assert asked.turns == tuple(Turn(f"q{n}", f"a{n}") for n in range(3, 9))


@pytest.mark.parametrize(
    "body",
    [
        {"question": "x" * 50_000},
        {"question": "x", "turns": [{"question": "a"}]},
        {"question": "x", "turns": [{"question": "a", "answer": "b", "c": SECRET}]},
        {"question": "x", "turns": [{"question": "a", "answer": "b"}] * 51},
        {"question": "x", "turns": [{"question": "a", "answer": "b"}], "conversation": "c"},
        {"question": "x", "conversation": 7},
        {"question": "x", "stream": "perhaps"},
        {"question": "x", "purpose": "p" * 65},
        {"question": "x", "requester": "root"},
        {"question": "x", SECRET: 1},
    ],
)
async def test_a_malformed_question_is_refused(body: dict[str, object]) -> None:
    federation = Federation()
    async with client(federation) as http:
        reply = await http.post("/v1/ask", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "usage")
    assert federation.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"question": "\\ud800"}',
        b'{"question": "x", "\\ud800": 1}',
        b'{"question": "x", "turns": [{"question": "\\udfff", "answer": ""}]}',
        b'{"question": ' + b"[" * 30_000,
        b'{"question": "x", "k": ' + b"9" * 6000 + b"}",
        b'{"question": "x", "k": 1e999}',
        b'{"question": "x", "k": NaN}',
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
)
async def test_a_hostile_body_is_refused_in_the_usual_shape(body: bytes) -> None:
    federation = Federation()
    async with client(federation) as http:
        headers = {"Content-Type": "application/json"}
        reply = await http.post("/v1/ask", content=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "usage")
    assert (federation.asked, len(reply.text) < 2000) == ([], True)


async def test_what_the_gateway_refuses_to_ask_is_told_before_and_within_a_stream() -> None:
    federation = Federation(UsageError("the question is empty", "write one"), events=())
    async with client(federation) as http:
        whole = await http.post("/v1/ask", json={"question": "\x00"})
        streamed = parsed((await http.post("/v1/ask", json=ASK, headers=STREAM)).text)
    assert (whole.status_code, whole.json()) == (400, streamed[-1].data)
    assert federation.asked[0].query.text == "\x00"
