"""Routes of a question: asked for a whole answer or as a stream, followed again, cancelled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import format_sse_event

from siloquy.codec import to_json
from siloquy.errors import SiloquyError
from siloquy.gateway.api.authentication import StillIn
from siloquy.gateway.api.bodies import (
    AskBody,
    AuditBody,
    RetrieveBody,
    refused,
)
from siloquy.gateway.api.connection import Caller, EventStream, nobody, still_in, while_connected
from siloquy.gateway.api.question_queue import AskRequest, QuestionQueue, QueuedQuestion
from siloquy.gateway.api.streams import Stream
from siloquy.gateway.ask import Retrieval
from siloquy.gateway.rounds import AuditResult
from siloquy.types import Answer, Event, PlanEvent, Sentence, SiloEvent, Source
from siloquy.web.refusals import CANCELLED, DEFECT, SIGNED_OUT, Refusal, refusal

RETRY_MS = 1000
WORKING = b": working\n\n"
NAMES: dict[type, str] = {
    PlanEvent: "plan",
    SiloEvent: "silo",
    Source: "source",
    Sentence: "sentence",
    Answer: "final",
}
_log = logging.getLogger(__name__)
_STREAM = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "Server-sent events, numbered from 1 by `id`; `data` is JSON. `plan`: a "
            "round begins, silos are asked. `silo`: news of one silo. `source`: a passage that may "
            "be cited. `sentence`: one that its sources carry. `final`: the answer as the JSON "
            "reply has it; the last. `error`: a refusal in the usual shape; the last. Lines that "
            "begin with a colon are signs of life.",
        },
        "example": 'event: sentence\ndata: {"text": "Stop metformin 48 hours before contrast.", '
        '"citations": [1], "support": 1.0, "spans": []}\nid: 9\n\n',
    }
}
_STREAM_ID = {
    "X-Stream-Id": {
        "description": "Id of the event stream, to follow or cancel it.",
        "schema": {"type": "string"},
    }
}
_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Answer,
        "content": _STREAM,
        "headers": _STREAM_ID,
        "description": "The answer, or its stream.",
    }
}


def add_routes(service: FastAPI, queue: QuestionQueue) -> None:
    """``/v1/ask``, its streams, ``/v1/retrieve`` and ``/v1/audit``."""

    @service.post(
        "/v1/ask",
        summary="Ask; the answer as a whole or as a stream",
        responses={**_ANSWERED, **refused(404, 409, 502, 503, 504)},
    )
    async def ask(
        body: AskBody,
        request: Request,
        caller: Caller,
        accept: Annotated[str, Header(description="text/event-stream for a stream")] = "",
    ) -> Response:
        wanted = body.wanted(caller)
        streamed = _accepts_events(accept) if body.stream is None else body.stream
        asked = _streamed if streamed else _whole
        return await asked(request, queue, wanted)

    @service.get(
        "/v1/ask/{stream}",
        summary="Follow a stream again, from where it was cut off",
        responses={
            200: {"content": _STREAM, "headers": _STREAM_ID, "description": "The stream."},
            204: {"description": "It has ended and all of it was received."},
            **refused(404),
        },
        response_class=Response,
    )
    async def follow(
        stream: str,
        request: Request,
        caller: Caller,
        after: Annotated[int, Query(ge=0, description="Number of the last event received.")] = 0,
        last_event_id: Annotated[
            int | None, Header(ge=0, description="The same, as browsers send it; goes first.")
        ] = None,
    ) -> Response:
        found = queue.streams.find(stream, caller.owner)
        place = after if last_event_id is None else last_event_id
        if found.ended and place == found.next - 1:
            # 204 keeps a browser from asking for the finished stream again and again.
            return Response(status_code=204)
        return _followed(request, found, place)

    @service.delete(
        "/v1/ask/{stream}",
        summary="Cancel the question of a stream, at the silos too",
        status_code=204,
        responses=refused(404),
    )
    async def cancel(stream: str, caller: Caller) -> Response:
        found = queue.streams.find(stream, caller.owner)
        await found.cancel()
        found.drop()
        return Response(status_code=204)

    @service.post(
        "/v1/retrieve",
        summary="The evidence without an answer",
        responses={200: {"model": Retrieval}, **refused(409, 502, 503, 504)},
    )
    async def retrieve(body: RetrieveBody, request: Request, caller: Caller) -> Response:
        work = queue.retrieve(AskRequest(body.query(caller.name), body.options()))
        found = await while_connected(request, work)
        return JSONResponse(to_json(found)) if found is not None else nobody()

    @service.post(
        "/v1/audit",
        summary="Let the router learn from a question, of which nothing is released",
        responses={200: {"model": AuditResult}, **refused(409, 502, 503, 504)},
    )
    async def audit(body: AuditBody, request: Request, caller: Caller) -> Response:
        found = await while_connected(request, queue.audit(body.query(caller.name)))
        return JSONResponse(to_json(found)) if found is not None else nobody()


def _accepts_events(accept: str) -> bool:
    kinds = [item.partition(";")[0].strip().lower() for item in accept.split(",")]
    return "text/event-stream" in kinds


async def _whole(request: Request, queue: QuestionQueue, wanted: AskRequest) -> Response:
    question = await queue.admit(wanted)
    try:
        answer = await while_connected(request, question.answer())
    finally:
        question.leave()
    return JSONResponse(to_json(answer)) if answer is not None else nobody()


async def _streamed(request: Request, queue: QuestionQueue, wanted: AskRequest) -> Response:
    question = await queue.admit(wanted)
    try:
        stream = queue.streams.open(
            wanted.owner, lambda opened: _write(question, opened), question.leave
        )
    except BaseException:
        question.leave()
        raise
    return _followed(request, stream, 0)


def _followed(request: Request, stream: Stream, after: int) -> Response:
    stream.check_place(after)
    first = format_sse_event(comment="siloquy", retry=RETRY_MS)
    events = _while_in(still_in(request), stream, stream.read(after, first))
    return EventStream(events, {"X-Stream-Id": stream.id})


async def _while_in(
    holds: StillIn, stream: Stream, events: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The events as long as the reader's session goes on; then its question is cancelled.

    Signs of life come every 10 s, so a session that has ended is noticed by then.
    """
    async with aclosing(events):
        async for piece in events:
            if not await holds():
                yield _event(stream, "error", SIGNED_OUT.plain("/v1/ask"))
                await stream.cancel()
                stream.drop()
                return
            yield piece


async def _write(question: QueuedQuestion, stream: Stream) -> None:
    """Ask, and write down as events how the answer comes about."""

    def told(event: Event) -> None:
        # The answer itself is sent below, after it was kept in its conversation.
        if not isinstance(event, Answer):
            stream.append(_event(stream, NAMES[type(event)], to_json(event)))

    try:
        await question.turn()
        stream.alive = WORKING
        answer = await question.answer(told)
        stream.append(_event(stream, NAMES[Answer], to_json(answer)))
    except SiloquyError as error:
        _refuse(stream, refusal(error))
    except asyncio.CancelledError:
        _refuse(stream, CANCELLED)
        raise
    except Exception as error:  # noqa: BLE001 - a defect ends the stream in the same shape
        _log.error("defect in a stream: %s", type(error).__name__)
        _refuse(stream, DEFECT)


def _refuse(stream: Stream, told: Refusal) -> None:
    stream.append(_event(stream, "error", told.plain("/v1/ask")), last=True)


def _event(stream: Stream, name: str, data: object) -> bytes:
    # ASCII: some clients end a line at every character that Unicode calls a line end.
    text = json.dumps(data, separators=(",", ":"))
    return format_sse_event(event=name, data_str=text, id=str(stream.next))
