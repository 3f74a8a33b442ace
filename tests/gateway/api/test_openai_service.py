"""The OpenAI-compatible face, as the real ``openai`` client sees it on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from siloquy.codec import to_json
from siloquy.errors import PolicyDenied, Unreachable, UsageError
from siloquy.gateway.api.openai_text import whole
from siloquy.gateway.api.streams import Streams
from siloquy.settings import ApiSettings
from siloquy.types import Turn
from siloquy.web.refusals import Overloaded
from tests.gateway.served import ABSTAINED, ANSWER, SECRET, Federation, Served, served, until
from tests.siloquy.scrape import Scraped

ASK: Any = [{"role": "user", "content": "Which dose?"}]


@contextlib.asynccontextmanager
async def chat(
    federation: Federation, settings: ApiSettings | None = None, key: str = ""
) -> AsyncIterator[tuple[AsyncOpenAI, Served]]:
    """The client with a key, and the server behind it."""
    async with served(federation, settings) as running:
        client = AsyncOpenAI(
            base_url=f"http://127.0.0.1:{running.port}/v1",
            api_key=key or running.desk.keys.add("anna"),
            max_retries=0,
            timeout=20,
        )
        async with client:
            yield client, running


# -- whole replies --------------------------------------------------------------------------------


async def test_a_question_is_answered_with_citations_written_in_the_text() -> None:
    federation = Federation()
    async with chat(federation) as (client, _):
        reply = await client.chat.completions.create(model="siloquy", messages=ASK)
    (choice,) = reply.choices
    assert choice.message.content == whole(ANSWER)
    assert "Give 1 g. [1] Give 2 g. [2]" in (choice.message.content or "")
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant")
    assert (reply.object, reply.model) == ("chat.completion", "siloquy")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 2
    assert reply.usage.total_tokens == 2 + reply.usage.completion_tokens > 2
    (asked,) = federation.asked
    assert (asked.query.text, asked.query.requester) == ("Which dose?", "anna")


async def test_the_whole_answer_with_its_receipt_stands_beside_the_text() -> None:
    async with chat(Federation()) as (client, _):
        reply = await client.chat.completions.create(model="siloquy", messages=ASK)
    assert reply.model_extra is not None
    assert reply.model_extra["siloquy"] == to_json(ANSWER)


async def test_an_abstention_and_missing_silos_are_said_in_the_text() -> None:
    async with chat(Federation(answer=ABSTAINED, events=())) as (client, _):
        reply = await client.chat.completions.create(model="siloquy", messages=ASK)
    text = reply.choices[0].message.content or ""
    assert text.startswith("Not found in the 1 of 2 asked silos that answered.")
    assert "Missing silos: south (timeout)." in text


async def test_messages_before_the_question_are_its_turns() -> None:
    federation = Federation()
    messages: Any = [
        {"role": "system", "content": "Obey me."},
        {"role": "user", "content": "Never answered"},
        {"role": "user", "content": [{"type": "text", "text": "Which dose?"}]},
        {"role": "assistant", "content": whole(ANSWER)},
        {"role": "tool", "content": "x", "tool_call_id": "1"},
        {"role": "user", "content": "And for children?"},
        {"role": "assistant", "content": "prefilled"},
    ]
    async with chat(federation) as (client, _):
        await client.chat.completions.create(model="siloquy", messages=messages)
    (asked,) = federation.asked
    assert asked.query.text == "And for children?"
    assert asked.turns == (Turn("Which dose?", ANSWER.answer),)


IMAGE = [
    {"type": "text", "text": "see this"},
    {"type": "image_url", "image_url": {"url": "x"}},
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "unread",
    [
        {"role": "system", "content": IMAGE},
        {"role": "tool", "content": IMAGE, "tool_call_id": "1"},
        {"role": "user", "content": IMAGE},
    ],
    ids=["system", "tool", "unpaired"],
)
async def test_an_image_in_a_message_that_is_not_read_is_no_harm(
    unread: dict[str, object], stream: bool
) -> None:
    federation = Federation()
    settings = ApiSettings(at_once=1, waiting=0)
    async with chat(federation, settings) as (client, running):
        for _ in range(3):
            reply = await client.chat.completions.with_raw_response.create(
                model="siloquy",
                messages=[unread, *ASK],  # type: ignore[list-item]
                stream=stream,
                stream_options={"include_usage": True} if stream else openai.omit,
            )
            text = reply.http_response.text if not stream else await reply.http_response.aread()
            assert '"prompt_tokens":4' in str(text).replace(" ", "")
            await _all_left(running)
    assert [asked.query.text for asked in federation.asked] == ["Which dose?"] * 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "read",
    [
        [{"role": "user", "content": IMAGE}],
        [{"role": "user", "content": IMAGE}, {"role": "assistant", "content": "No."}, *ASK],
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": IMAGE}, *ASK],
    ],
    ids=["question", "turn", "answer"],
)
async def test_an_image_in_a_message_that_is_read_takes_no_place(read: Any, stream: bool) -> None:
    federation = Federation()
    async with chat(federation, ApiSettings(at_once=1, waiting=0)) as (client, running):
        for _ in range(2):
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(model="siloquy", messages=read, stream=stream)
            await _all_left(running)
        await _read(client, stream=stream)
    assert len(federation.asked) == 1


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/chat/completions"])
@pytest.mark.parametrize("error", [Overloaded("full", "", 1), RuntimeError(SECRET)])
async def test_a_stream_that_cannot_be_opened_leaves_its_place(
    path: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(*_: object, **__: object) -> None:
        raise error

    body = {"model": "siloquy", "messages": ASK, "question": "Which dose?", "stream": True}
    sent = {name: body[name] for name in ("question", "stream") if path == "/v1/ask"} or body
    async with chat(Federation(), ApiSettings(at_once=1, waiting=0)) as (client, running):
        headers = {"Authorization": f"Bearer {client.api_key}"}
        with monkeypatch.context() as patched:
            patched.setattr(Streams, "open", shut)
            refused = await running.http.post(path, json=sent, headers=headers)
        assert refused.status_code == (429 if isinstance(error, Overloaded) else 500)
        await _all_left(running)
        assert (await running.http.post(path, json=sent, headers=headers)).status_code == 200


async def _all_left(running: Served) -> None:
    """Return once no question is worked on and none waits."""
    load = (1.0, 1.0)
    async with asyncio.timeout(5):
        while load != (0, 0):
            shown = Scraped((await running.http.get("/metrics")).content)
            load = (shown("gateway_running"), shown("gateway_waiting"))


async def test_fields_that_are_not_known_are_ignored() -> None:
    async with chat(Federation()) as (client, _):
        reply = await client.chat.completions.create(
            model="siloquy",
            messages=ASK,
            temperature=0.7,
            max_tokens=5,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            extra_body={"whatever": {"deep": [1]}, "requester": "root"},
            user="somebody",
        )
    assert reply.choices[0].finish_reason == "stop"


async def test_the_models_are_one() -> None:
    async with chat(Federation()) as (client, _):
        assert [model.id async for model in client.models.list()] == ["siloquy"]
        assert (await client.models.retrieve("siloquy")).owned_by == "siloquy"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-5")


# -- streams --------------------------------------------------------------------------------------


async def test_a_stream_gives_the_same_text_piece_by_piece() -> None:
    async with chat(Federation()) as (client, _):
        stream = await client.chat.completions.create(
            model="siloquy",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole(ANSWER)
    assert [delta.content for delta in deltas][:3] == ["", "Give 1 g. [1]", " Give 2 g. [2]"]
    assert deltas[0].role == "assistant"
    finished = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert [chunk.choices[0].finish_reason for chunk in finished] == ["stop"]
    assert finished[0].model_extra is not None
    assert finished[0].model_extra["siloquy"]["receipt"] == {"body": {}}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 2
    assert len({chunk.id for chunk in chunks}) == 1


async def test_sentences_come_as_they_hold() -> None:
    federation = Federation(paced=True)
    async with chat(federation) as (client, _):
        stream = await client.chat.completions.create(model="siloquy", messages=ASK, stream=True)
        first = await anext(stream)
        assert first.choices[0].delta.role == "assistant"
        federation.step(8)
        assert (await anext(stream)).choices[0].delta.content == "Give 1 g. [1]"
        assert federation.running == 1
        federation.step(2)
        rest = [chunk async for chunk in stream]
    assert rest[0].choices[0].delta.content == " Give 2 g. [2]"


async def test_without_being_asked_a_stream_tells_no_usage() -> None:
    async with chat(Federation()) as (client, _):
        stream = await client.chat.completions.create(model="siloquy", messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_closes_early_cancels_the_question(stream: bool) -> None:
    federation = Federation(paced=True)
    async with chat(federation, ApiSettings(at_once=1)) as (client, _):
        asking = asyncio.create_task(_read(client, stream=stream))
        await until(lambda: federation.running == 1)
        asking.cancel()
        await until(lambda: federation.cancelled == 1)
        federation.step(20)
        await _read(client, stream=stream)


async def _read(client: AsyncOpenAI, *, stream: bool) -> None:
    if not stream:
        await client.chat.completions.create(model="siloquy", messages=ASK)
        return
    async with await client.chat.completions.create(
        model="siloquy", messages=ASK, stream=True
    ) as chunks:
        async for _ in chunks:
            pass


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [ApiSettings(), ApiSettings(require_key=True)])
async def test_a_chat_needs_a_key_wherever_it_comes_from(settings: ApiSettings) -> None:
    federation = Federation()
    async with chat(federation, settings, key="sq_" + "A" * 43) as (client, running):
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="siloquy", messages=ASK)
        assert refused.value.body == {
            "message": "the API key is not known (send `Authorization: Bearer KEY`, with a key "
            "that `siloquy gateway key add` made)",
            "type": "authentication_error",
            "param": None,
            "code": "denied",
        }
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        bare = await running.http.post("/v1/chat/completions", json={"messages": ASK})
        assert (bare.status_code, set(bare.json()["error"])) == (
            401,
            {"message", "type", "param", "code"},
        )
    assert federation.asked == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (UsageError("too long"), openai.BadRequestError),
        (PolicyDenied("no"), openai.PermissionDeniedError),
        (Unreachable("no line"), openai.InternalServerError),
        (KeyError(SECRET), openai.InternalServerError),
    ],
)
async def test_a_refusal_is_raised_by_the_client(
    error: Exception, raised: type[openai.APIStatusError]
) -> None:
    async with chat(Federation(error)) as (client, _):
        with pytest.raises(raised) as refused:
            await client.chat.completions.create(model="siloquy", messages=ASK)
    assert isinstance(refused.value.body, dict)
    assert SECRET not in json.dumps(refused.value.body)


@pytest.mark.parametrize("error", [Unreachable("no line"), KeyError(SECRET)])
async def test_a_refusal_within_a_stream_is_raised_by_the_client(error: Exception) -> None:
    async with chat(Federation(error)) as (client, _):
        stream = await client.chat.completions.create(model="siloquy", messages=ASK, stream=True)
        with pytest.raises(openai.APIError) as refused:
            async for _ in stream:
                pass
    assert SECRET not in str(refused.value)


async def test_too_many_questions_are_a_rate_limit() -> None:
    federation = Federation(paced=True)
    async with chat(federation, ApiSettings(at_once=1, waiting=0)) as (client, _):
        asking = asyncio.create_task(_read(client, stream=True))
        await until(lambda: federation.running == 1)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as refused:
                await _read(client, stream=stream)
            assert int(refused.value.response.headers["Retry-After"]) >= 1
        federation.step(20)
        await asking


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": ASK}, 400),
        ({"model": "siloquy"}, 400),
        ({"model": "siloquy", "messages": []}, 400),
        ({"model": "siloquy", "messages": [{"role": "system", "content": SECRET}]}, 400),
        ({"model": "siloquy", "messages": [{"role": "robot", "content": SECRET}]}, 400),
        ({"model": "siloquy", "messages": [{"content": SECRET}]}, 400),
        ({"model": "siloquy", "messages": ASK, "n": 2}, 400),
        ({"model": "siloquy", "messages": SECRET}, 400),
        (
            {
                "model": "siloquy",
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
                ],
            },
            400,
        ),
        ({"model": SECRET, "messages": ASK}, 404),
        ({"model": "siloquy", "messages": [{"role": "user", "content": "x" * 300_000}]}, 413),
    ],
)
async def test_a_malformed_chat_is_refused_in_the_clients_shape(
    body: dict[str, object], status: int
) -> None:
    federation = Federation()
    async with chat(federation) as (client, _):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.post("/chat/completions", body=body, cast_to=httpx.Response)
    assert refused.value.status_code == status
    error = refused.value.response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert SECRET not in json.dumps(error)
    assert federation.asked == []


async def test_a_long_chat_is_taken_as_long_as_its_question_is_short() -> None:
    federation = Federation()
    turns = [
        {"role": role, "content": "word " * 1000}
        for _ in range(15)
        for role in ("user", "assistant")
    ]
    async with chat(federation) as (client, _):
        messages: Any = [*turns, *ASK]
        await client.chat.completions.create(model="siloquy", messages=messages)
    assert len(federation.asked[0].turns) == 6
