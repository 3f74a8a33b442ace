from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from siloquy.errors import UsageError
from siloquy.eval.load.client import HttpCall, LoadPlan, Shot, volley
from siloquy.eval.load.context import LoadConfig
from siloquy.eval.load.report import beyond, cpu, growth, quantiles, recovery_s, report, stages
from siloquy.eval.load.run import run

# -- report: pure ---------------------------------------------------------------------------------


def row(part: str, run_number: int, ms: float, **other: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"part": part, "run": run_number, "id": "q1", "at_s": 0.0}
    found |= {"wall_ms": ms, "status": 200, "error": "", "retry_after": 0.0, "missing": []}
    return {**found, "timings_ms": {}, "first_ms": {}, **other}


def volley_of(part: str, **other: Any) -> dict[str, Any]:
    costs: dict[str, Any] = {"cpu_s": {"hub": 0.2, "gateway": 0.4, "north": 0.1, "south": 0.3}}
    costs |= {"rss_mb": {"hub": 50.0, "north": 100.0}, "client_cpu_s": 0.01}
    return {"part": part, "at_once": 2, "began": 100.0, "wall_s": 2.0, **costs, **other}


def test_quantiles_are_of_all_values() -> None:
    assert quantiles([float(n) for n in range(101)]) == {
        "p50": 50.0,
        "p95": 95.0,
        "p99": 99.0,
        "most": 100.0,
    }


def test_a_stage_counts_where_it_was_met() -> None:
    found = stages([{"embed": 1.0, "search": 10.0}, {"embed": 3.0}])
    assert list(found) == ["embed", "search"]
    assert (found["embed"]["p50"], found["search"]["p50"]) == (2.0, 10.0)


def test_cpu_is_told_for_a_question() -> None:
    assert cpu(volley_of("latency"), 10) == {
        "hub": 20.0,
        "gateway": 40.0,
        "silo_mean": 20.0,
        "silos": 40.0,
        "all": 100.0,
        "client": 1.0,
    }


def test_a_volley_counts_every_request_once() -> None:
    rows = [
        row("overload", 0, 10.0, missing=["timeout: late"]),
        row("overload", 0, 1.0, status=429, error="busy", retry_after=3.0),
        row("overload", 0, 1.0, status=429, error="busy"),
        row("overload", 0, 5.0, status=0, error="ConnectionResetError"),
        row("overload", 0, 5.0, status=503, error="unreachable"),
        row("overload", 0, 7.0, error="no final event"),
        row("latency", 1, 99.0),
    ]
    found = report(rows, [volley_of("overload")])["overload"][0]
    assert (found["requests"], found["answered"], found["per_s"]) == (6, 1, 0.5)
    assert (found["shed"], found["shed_with_retry_after"]) == (2, 1)
    assert sum(found["failed"].values()) == 3
    assert found["missing"] == {"timeout: late": 1}
    assert found["wall_ms"]["most"] == 10.0


def test_two_runs_of_one_part_are_told_apart() -> None:
    rows = [row("soak", 0, 1.0), row("soak", 1, 2.0), row("soak", 1, 2.0)]
    later = volley_of("soak", rss_mb={"hub": 51.0, "north": 110.0})
    results = report(rows, [volley_of("soak"), later])
    assert [one["requests"] for one in results["soak"]] == [1, 2]
    assert results["memory_growth"] == {"hub": 0.02, "north": 0.1}


def test_a_volley_without_an_answer_has_no_times() -> None:
    found = report([row("latency", 0, 1.0, status=0, error="x")], [volley_of("latency")])
    assert "wall_ms" not in found["latency"][0]


def test_growth_leaves_out_a_node_that_is_gone() -> None:
    assert growth({"north": 100.0, "south": 100.0}, {"north": 90.0}) == {"north": -0.1}


def test_beyond_the_central_index_is_told_for_medians_and_pairs() -> None:
    times = {"a": (10.0, 2.0), "b": (20.0, 3.0), "c": (50.0, 40.0)}
    ours = [row("latency", 0, ms, id=name) for name, (ms, _) in times.items()]
    theirs = [{"part": "central", "id": n, "wall_ms": ms} for n, (_, ms) in times.items()]
    assert beyond([*ours, *theirs]) == {"p50": 17.0, "paired_p50": 10.0}


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ([(0.0, 900.0, 200), (1.0, 100.0, 200)], 2.1),
        ([(0.0, 100.0, 429), (0.5, 100.0, 200)], 1.6),
        ([(0.0, 900.0, 200)], None),
        ([], None),
    ],
)
def test_recovery_lasts_to_the_first_answer_as_quick_as_before(
    probes: list[tuple[float, float, int]], expected: float | None
) -> None:
    rows = [row("before", 0, 100.0)]
    rows += [row("recovery", 2, ms, at_s=at, status=status) for at, ms, status in probes]
    runs = [volley_of("before"), volley_of("overload"), volley_of("recovery", began=103.0)]
    assert recovery_s(rows, runs) == expected


# -- client ---------------------------------------------------------------------------------------

EVENTS = (
    b"event: plan\ndata: {}\n\n",
    b"event: sentence\ndata: {}\n\neve",
    b"nt: final\ndata: {}\n\n",
)
ANSWER = {"missing": [{"silo": "n", "reason": "timeout", "detail": "late"}], "timings_ms": {"a": 1}}


@asynccontextmanager
async def gateway(reply: bytes, pieces: tuple[bytes, ...] = ()) -> AsyncIterator[int]:
    """A server of one reply to every request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            await reader.readexactly(int(size.split()[1]))
            writer.write(reply)
            for piece in pieces:
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n" if pieces else b"")

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)


def plain(status: str, body: object, *headers: str) -> bytes:
    data = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


async def ask(port: int, plan: LoadPlan, *, stream: bool = False) -> list[Shot]:
    calls = [HttpCall(f"q{n}", "/v1/ask", b"{}", stream) for n in range(3)]
    return (await volley(port, calls, plan)).shots


async def test_calls_are_made_in_order_and_again_from_the_first() -> None:
    async with gateway(plain("200 OK", ANSWER)) as port:
        shots = await ask(port, LoadPlan(1, count=5))
    assert [shot.id for shot in shots] == ["q0", "q1", "q2", "q0", "q1"]
    assert {shot.status for shot in shots} == {200}
    assert (shots[0].missing, shots[0].timings_ms) == (("timeout: late",), {"a": 1})


async def test_a_shed_call_is_told_with_its_wait() -> None:
    body = {"error": {"code": "busy", "message": "", "hint": ""}}
    async with gateway(plain("429 Too Many", body, "Retry-After: 7", "Connection: close")) as port:
        (shot,) = await ask(port, LoadPlan(1, count=1))
    assert (shot.status, shot.error, shot.retry_after) == (429, "busy", 7.0)


async def test_a_stream_is_timed_by_its_events_wherever_it_is_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with gateway(head, EVENTS) as port:
        (shot,) = await ask(port, LoadPlan(1, count=1), stream=True)
    assert list(shot.first_ms) == ["byte", "plan", "sentence", "final"]
    assert (shot.error, sorted(shot.first_ms.values())) == ("", list(shot.first_ms.values()))


async def test_a_stream_without_an_end_is_an_error() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with gateway(head, EVENTS[:1]) as port:
        (shot,) = await ask(port, LoadPlan(1, count=1), stream=True)
    assert shot.error == "no final event"


async def test_a_stream_that_ends_in_an_error_tells_its_code() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused = b'event: error\ndata: {"error": {"code": "timeout", "message": "late"}}\n\n'
    async with gateway(head, (*EVENTS[:1], refused)) as port:
        (shot,) = await ask(port, LoadPlan(1, count=1), stream=True)
    assert shot.error == "timeout"


async def test_a_gateway_that_is_gone_is_an_error_of_each_call() -> None:
    async with gateway(b"") as port:
        pass
    shots = await ask(port, LoadPlan(2, count=4))
    assert [shot.status for shot in shots] == [0] * 4
    assert {shot.error for shot in shots} == {"ConnectionRefusedError"}


async def test_what_is_unanswered_when_the_time_is_over_is_abandoned() -> None:
    async with gateway(b"") as port:
        shots = await ask(port, LoadPlan(3, seconds=0.05, abandon=True))
    assert shots == []


# -- the whole ------------------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(UsageError, match="not empty"):
        run(LoadConfig(tmp_path), lambda text: None)


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_figures_follow_from_the_rows_and_no_text_is_in_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = LoadConfig(out, parts=("latency", "streams"), questions=4, cache=tmp_path / "cache")
    results = run(config, lambda text: None)
    rows, runs = (
        [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        for name in ("per_query", "runs")
    )
    again = json.loads((out / "results.json").read_text())
    assert again == results
    assert {key: again[key] for key in report(rows, runs)} == report(rows, runs)
    assert results["latency"][0]["answered"] == 4
    assert results["streams"][1]["failed"] == {}
    assert "anaphylaxis" not in (out / "per_query.jsonl").read_text()
