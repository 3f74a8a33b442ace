"""How questions end is counted once each, whichever way they came in, and shown without a word."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from siloquy.errors import Unreachable
from siloquy.gateway.api.app import app
from siloquy.settings import ApiSettings
from siloquy.watch.health import Watch
from siloquy.watch.metrics import GatewayMonitor
from tests.gateway.served import ABSTAINED, SECRET, Federation, client, desktop, served, until
from tests.siloquy.scrape import Scraped

QUESTION = {"question": f"What about {SECRET}?"}
OUTCOMES = ("answered", "abstained", "failed", "shed", "cancelled")


async def counted(http: httpx.AsyncClient) -> dict[str, float]:
    """How many questions came to each end; those of none are left out."""
    reply = await http.get("/metrics")
    assert SECRET not in reply.text
    shown = Scraped(reply.content)
    found = {end: shown("gateway_questions_total", outcome=end) for end in OUTCOMES}
    return {end: n for end, n in found.items() if n}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("gateway", "end"),
    [
        (Federation(), "answered"),
        (Federation(answer=ABSTAINED), "abstained"),
        (Federation(Unreachable(SECRET)), "failed"),
        (Federation(RuntimeError(SECRET)), "failed"),
    ],
    ids=["answered", "abstained", "unreachable", "defect"],
)
async def test_a_question_is_counted_by_its_end(
    gateway: Federation, end: str, stream: bool
) -> None:
    async with client(gateway) as http:
        await http.post("/v1/ask", json={**QUESTION, "stream": stream})
        assert await counted(http) == {end: 1}


async def test_an_error_is_counted_by_its_code() -> None:
    async with client(Federation(Unreachable(SECRET))) as http:
        await http.post("/v1/ask", json=QUESTION)
        shown = Scraped((await http.get("/metrics")).content)
    assert shown("gateway_errors_total", code="unreachable") == 1


async def test_a_question_that_is_turned_away_is_shed_and_no_other_is() -> None:
    gateway = Federation(paced=True)
    async with served(gateway, ApiSettings(at_once=1, waiting=0)) as made:
        first = asyncio.create_task(made.http.post("/v1/ask", json=QUESTION))
        await until(lambda: gateway.running == 1)
        assert (await made.http.post("/v1/ask", json=QUESTION)).status_code == 429
        shown = Scraped((await made.http.get("/metrics")).content)
        assert (shown("gateway_running"), shown("gateway_waiting")) == (1, 0)
        gateway.step(20)
        assert (await first).status_code == 200
        assert await counted(made.http) == {"answered": 1, "shed": 1}


@pytest.mark.parametrize("waits", [False, True])
async def test_a_question_whose_caller_goes_is_cancelled(waits: bool) -> None:
    gateway = Federation(paced=True)
    async with served(gateway, ApiSettings(at_once=1)) as made:
        asked = [asyncio.create_task(made.http.post("/v1/ask", json=QUESTION))]
        await until(lambda: gateway.running == 1)
        if waits:
            asked.append(asyncio.create_task(made.http.post("/v1/ask", json=QUESTION)))
            await until(lambda: len(asked) == 2)
            await asyncio.sleep(0.05)
        asked[-1].cancel()
        ends: dict[str, float] = {}

        async def ended() -> None:
            while not ends:
                ends.update(await counted(made.http))
                await asyncio.sleep(0.01)

        await asyncio.wait_for(ended(), 5)
        assert ends == {"cancelled": 1}
        gateway.step(20)
        await asyncio.gather(*asked, return_exceptions=True)


async def test_a_retrieval_is_no_question() -> None:
    async with client(Federation()) as http:
        await http.post("/v1/retrieve", json=QUESTION)
        assert await counted(http) == {}
        shown = Scraped((await http.get("/metrics")).content)
    assert shown("gateway_retrievals_total", code="ok") == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_a_monitor_needs_no_key(path: str) -> None:
    async with client(Federation(), ApiSettings(require_key=True)) as http:
        reply = await http.get(path)
        assert reply.status_code == 200
        refused: Any = await http.get("/v1/status")
        assert refused.status_code == 401


async def test_a_gateway_that_is_not_ready_says_why() -> None:
    monitor = GatewayMonitor("ward")
    watch = Watch(monitor.registry, {"hub line": lambda: False}, {"database": lambda: False})
    with desktop(Federation()) as desk:
        made = app(desk.gateway, ApiSettings(), desk.conversations, desk.keys, monitor, watch)
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            ready, well = await http.get("/readyz"), await http.get("/healthz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "lacking": ["hub line"]})
    assert (well.status_code, well.json()) == (503, {"status": "failing", "lacking": ["database"]})
