"""``POST /v1/chat/completions`` and ``GET /v1/models``, as programs made for the OpenAI API expect.

The last user message is the question, pairs of user and assistant messages before it are earlier
turns; system messages are not read, since nothing may change how evidence is weighed. Fields that
are not known are ignored, as they are there.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import format_sse_event

from siloquy.codec import to_json
from siloquy.errors import SiloquyError
from siloquy.gateway.api.bodies import refused
from siloquy.gateway.api.connection import Caller, EventStream, nobody, while_connected
from siloquy.gateway.api.openai_bodies import (
    MODEL,
    ChatBody,
    Completion,
    ModelCard,
    ModelList,
    OpenAIErrorReply,
    Usage,
)
from siloquy.gateway.api.openai_text import Writing, whole
from siloquy.gateway.api.question_queue import QuestionQueue, QueuedQuestion
from siloquy.gateway.api.streams import Stream
from siloquy.types import Answer, Event, Sentence
from siloquy.web.refusals import DEFECT, NotFound, Refusal, refusal

PATH = "/v1/chat/completions"
_DONE = format_sse_event(data_str="[DONE]")
_log = logging.getLogger(__name__)


_CARD = ModelCard(id=MODEL, created=0, owned_by=MODEL)
_REFUSED = refused(404, 409, 502, 503, 504, model=OpenAIErrorReply)


def add_routes(service: FastAPI, queue: QuestionQueue) -> None:
    """``/v1/chat/completions`` and ``/v1/models``."""

    @service.post(
        PATH,
        summary="Ask as a chat; needs a key",
        responses={
            200: {"model": Completion, "content": _CHUNKS, "description": "The answer."},
            **_REFUSED,
        },
    )
    async def complete(body: ChatBody, request: Request, caller: Caller) -> Response:
        _check_model(body.model)
        wanted, prompt = body.wanted(caller), _prompt(body)
        # The question has a place in the queue from here on: leave it whatever happens.
        question = await queue.admit(wanted)
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return _streamed(queue, caller.owner, question, Chunks(prompt, usage=usage))
        try:
            answer = await while_connected(request, question.answer())
        finally:
            question.leave()
        return JSONResponse(_completion(answer, prompt)) if answer else nobody()

    @service.get(
        "/v1/models",
        summary="The models: one; needs a key",
        responses={200: {"model": ModelList}, **_REFUSED},
    )
    async def models(caller: Caller) -> JSONResponse:
        return JSONResponse(ModelList(data=[_CARD]).model_dump())

    @service.get(
        "/v1/models/{model}",
        summary="The model; needs a key",
        responses={200: {"model": ModelCard}, **_REFUSED},
    )
    async def model_card(model: str, caller: Caller) -> JSONResponse:
        _check_model(model)
        return JSONResponse(_CARD.model_dump())


def _check_model(name: str) -> None:
    if name != MODEL:
        raise NotFound("there is no model of that name", f"ask {MODEL}")


def _prompt(body: ChatBody) -> int:
    return sum(len(item.text().split()) for item in body.messages)


def _usage(prompt: int, text: str) -> dict[str, int]:
    completed = len(text.split())
    return Usage(
        prompt_tokens=prompt, completion_tokens=completed, total_tokens=prompt + completed
    ).model_dump()


def _completion(answer: Answer, prompt: int) -> dict[str, Any]:
    text = whole(answer)
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": _usage(prompt, text),
        "siloquy": to_json(answer),
    }


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


# -- streaming ------------------------------------------------------------------------------------

_CHUNKS = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "Chunks of the OpenAI API as `data` lines, the last one `[DONE]`. The "
            "chunk with the finish reason holds `siloquy`, the answer as `POST /v1/ask` gives it.",
        }
    }
}


class Chunks:
    """One reply's chunks as they go over the wire."""

    def __init__(self, prompt: int, *, usage: bool) -> None:
        self._prompt = prompt
        self._usage = usage
        self._id = _new_id()
        self._created = int(time.time())
        self._said = ""

    def first(self) -> bytes:
        """The chunk that begins the reply."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """A chunk with a piece of the text."""
        self._said += piece
        return self._chunk({"content": piece})

    def last(self, answer: Answer) -> bytes:
        """The chunks that end the reply."""
        end = self._chunk({}, "stop", siloquy=to_json(answer))
        usage = self._chunk(None, usage=_usage(self._prompt, self._said)) if self._usage else b""
        return end + usage + _DONE

    def _chunk(
        self, delta: dict[str, str] | None, finish: str | None = None, **more: object
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        data = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": MODEL,
            "choices": [] if delta is None else [choice],
            **more,
        }
        return format_sse_event(data_str=json.dumps(data))


def _streamed(
    queue: QuestionQueue, owner: str, question: QueuedQuestion, chunks: Chunks
) -> Response:
    try:
        stream = queue.streams.open(
            owner,
            lambda opened: _write(question, opened, chunks),
            question.leave,
            resumable=False,
        )
    except BaseException:
        question.leave()
        raise
    return EventStream(stream.read(0, chunks.first()), {})


async def _write(question: QueuedQuestion, stream: Stream, chunks: Chunks) -> None:
    """Ask, and write the answer down piece by piece."""
    writing = Writing()

    def told(event: Event) -> None:
        if isinstance(event, Sentence):
            stream.append(chunks.text(writing.sentence(event)))

    try:
        answer = await question.answer(told)
        stream.append(chunks.text(writing.end(answer)))
        stream.append(chunks.last(answer))
    except SiloquyError as error:
        _refuse(stream, refusal(error))
    except Exception as error:  # noqa: BLE001 - a defect ends the stream in the same shape
        _log.error("defect in a chat: %s", type(error).__name__)
        _refuse(stream, DEFECT)


def _refuse(stream: Stream, told: Refusal) -> None:
    stream.append(format_sse_event(data_str=json.dumps(told.plain(PATH))), last=True)
