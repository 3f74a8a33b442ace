"""Conversations over HTTP: questions in them, follow-ups, one at a time, each caller's own."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import httpx
import pytest

from siloquy.errors import StorageFailed, Unreachable
from siloquy.settings import ApiSettings
from siloquy.types import Turn
from tests.gateway.served import ANSWER, Federation, client, desktop, parsed, served, until

STREAM = {"Accept": "text/event-stream"}


async def begun(http: httpx.AsyncClient, **body: str) -> str:
    """Id of a new conversation."""
    reply = await http.post("/v1/conversations", json=body)
    assert reply.status_code == 201
    return str(reply.json()["id"])


async def turns(http: httpx.AsyncClient, conversation: str) -> list[dict[str, Any]]:
    reply = await http.get(f"/v1/conversations/{conversation}")
    assert reply.status_code == 200
    return list(reply.json()["turns"])


@pytest.mark.parametrize("headers", [{}, STREAM])
async def test_a_question_in_a_conversation_is_kept_and_the_next_one_follows_it(
    headers: dict[str, str],
) -> None:
    federation = Federation()
    async with client(federation) as http:
        conversation = await begun(http)
        for question in ("Which dose?", "And for children?"):
            body = {"question": question, "conversation": conversation}
            assert (await http.post("/v1/ask", json=body, headers=headers)).status_code == 200
        kept = await turns(http, conversation)
        listed = (await http.get("/v1/conversations")).json()["conversations"]
    assert [asked.turns for asked in federation.asked] == [
        (),
        (Turn("Which dose?", ANSWER.answer),),
    ]
    assert [turn["question"] for turn in kept] == ["Which dose?", "And for children?"]
    assert [turn["state"] for turn in kept] == ["answered", "answered"]
    assert [(item["title"], item["turns"]) for item in listed] == [("Which dose?", 2)]


async def test_the_answer_is_written_down_before_it_is_told() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running:
        conversation = await begun(running.http)
        body = {"question": "Which dose?", "conversation": conversation}
        federation.step(20)
        async with running.http.stream("POST", "/v1/ask", json=body, headers=STREAM) as reply:
            async for text in reply.aiter_text():
                if "event: final" in text:
                    assert (await turns(running.http, conversation))[0]["state"] == "answered"


async def test_two_questions_at_once_in_one_conversation_are_one_too_many() -> None:
    federation = Federation(paced=True)
    async with served(federation) as running:
        conversation = await begun(running.http)
        body = {"question": "Which dose?", "conversation": conversation}
        first = asyncio.create_task(running.http.post("/v1/ask", json=body))
        await until(lambda: federation.running == 1)
        for headers in ({}, STREAM):
            second = await running.http.post("/v1/ask", json=body, headers=headers)
            assert (second.status_code, second.json()["error"]["code"]) == (409, "busy")
        gone = await running.http.delete(f"/v1/conversations/{conversation}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (409, "busy")
        federation.step(20)
        assert (await first).status_code == 200
        # Refusals gave their places back.
        federation.step(20)
        assert (await running.http.post("/v1/ask", json=body)).status_code == 200


async def test_a_question_that_fails_or_is_cancelled_stays_without_an_answer() -> None:
    federation = Federation(Unreachable("no line"), paced=True)
    async with served(federation, ApiSettings(at_once=1)) as running:
        conversation = await begun(running.http)
        body = {"question": "Which dose?", "conversation": conversation}
        asking = asyncio.create_task(running.http.post("/v1/ask", json=body))
        await until(lambda: federation.running == 1)
        asking.cancel()
        await until(lambda: federation.cancelled == 1)
        async with running.http.stream("POST", "/v1/ask", json=body, headers=STREAM) as reply:
            stream = reply.headers["X-Stream-Id"]
            await running.http.delete(f"/v1/ask/{stream}")
        federation.step(20)
        assert (await running.http.post("/v1/ask", json=body)).status_code == 503
        states = [turn["state"] for turn in await turns(running.http, conversation)]
    assert states == ["unanswered"] * 3


async def test_a_conversation_is_renamed_and_deleted() -> None:
    async with client(Federation()) as http:
        conversation = await begun(http, title=" Contrast ")
        path = f"/v1/conversations/{conversation}"
        assert (await http.get(path)).json()["title"] == "Contrast"
        assert (await http.patch(path, json={"title": "Sepsis"})).json()["title"] == "Sepsis"
        for title in ("", " ", "x" * 121, "a\nb", "a\x00b", 7, None):
            assert (await http.patch(path, json={"title": title})).status_code == 400
        assert (await http.delete(path)).status_code == 204
        for reply in (await http.get(path), await http.delete(path)):
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "usage")


async def test_a_conversation_is_its_requesters_alone() -> None:
    with desktop(Federation()) as desk:
        transport = httpx.ASGITransport(desk.app)
        anna, berta = ({"Authorization": f"Bearer {desk.keys.add(name)}"} for name in ("a", "b"))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            made = await http.post("/v1/conversations", json={}, headers=anna)
            conversation = made.json()["id"]
            path = f"/v1/conversations/{conversation}"
            body = {"question": "?", "conversation": conversation}
            for headers in (berta, {}):
                replies = [
                    await http.get(path, headers=headers),
                    await http.patch(path, json={"title": "mine"}, headers=headers),
                    await http.delete(path, headers=headers),
                    await http.post("/v1/ask", json=body, headers=headers),
                ]
                assert [reply.status_code for reply in replies] == [404] * 4
                listed = await http.get("/v1/conversations", headers=headers)
                assert listed.json() == {"conversations": []}
            assert (await http.get(path, headers=anna)).json()["turns"] == []


async def test_refusals_of_a_conversation_keep_no_place() -> None:
    async with client(Federation(), ApiSettings(at_once=1, waiting=0)) as http:
        for _ in range(3):
            body = {"question": "?", "conversation": "nothing"}
            assert (await http.post("/v1/ask", json=body)).status_code == 404
        assert (await http.post("/v1/ask", json={"question": "?"})).status_code == 200


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk is full"), StorageFailed("full")])
async def test_a_disk_that_does_not_take_the_answer_does_not_keep_it_from_the_reader(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with desktop(Federation()) as desk:
        transport = httpx.ASGITransport(desk.app)

        def full(*_: object) -> None:
            raise error

        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            conversation = await begun(http)
            body = {"question": "Which dose?", "conversation": conversation}
            with monkeypatch.context() as patched:
                patched.setattr(desk.conversations, "finish", full)
                reply = await http.post("/v1/ask", json=body, headers=STREAM)
            assert parsed(reply.text)[-1].name == "final"
            assert [turn["state"] for turn in await turns(http, conversation)] == ["unanswered"]
            assert (await http.post("/v1/ask", json=body)).status_code == 200
    assert "not kept in its conversation" in caplog.text


async def test_a_conversation_is_found_taken_away_and_judged_over_http() -> None:
    async with client(Federation()) as http:
        conversation = await begun(http)
        body = {"question": "Which dose?", "conversation": conversation}
        assert (await http.post("/v1/ask", json=body)).status_code == 200
        for sought, count in (("WHICH", 1), ("unheard of", 0)):
            reply = await http.get("/v1/conversations", params={"q": sought})
            assert len(reply.json()["conversations"]) == count
        export = await http.get(f"/v1/conversations/{conversation}/export")
        assert export.headers["content-type"] == "text/markdown; charset=utf-8"
        assert "## Which dose?" in export.text
        place = f"/v1/conversations/{conversation}/turns"
        said = {"correct": True, "harmless": False, "comment": "for adults only"}
        assert (await http.put(f"{place}/1/feedback", json=said)).status_code == 204
        (turn,) = await turns(http, conversation)
        assert {k: v for k, v in turn["feedback"].items() if v is not None} == said
        assert (await http.put(f"{place}/2/feedback", json=said)).status_code == 404
        for wrong in ({"correct": "maybe"}, {"comment": "x" * 2001}, {"score": 5}):
            assert (await http.put(f"{place}/1/feedback", json=wrong)).status_code == 400
