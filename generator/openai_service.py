"""``POST /v1/chat/completions`` and ``GET /v1/models``, as programs made for the OpenAI API expect.

The last user message is the question, pairs of user and assistant messages before it are earlier
turns; system messages are not read, since nothing may change how evidence is weighed. Fields that
are not known are ignored, as they are there.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import format_sse_event
from pydantic import BaseModel, ConfigDict, Field

from siloquy.codec import to_json
from siloquy.errors import SiloquyError, UsageError
from siloquy.generator.asking import AskOptions
from siloquy.generator.bodies import refused
from siloquy.generator.connection import Caller, EventStream, nobody, while_connected
from siloquy.generator.conversations import TURNS_GIVEN
from siloquy.generator.desk import Desk, Question, Wanted
from siloquy.generator.openai_text import Writing, whole, without_closing
from siloquy.generator.refusals import DEFECT, NotFound, Refusal, refusal
from siloquy.generator.streams import Stream
from siloquy.types import Answer, Event, Query, Sentence, Turn

PATH = "/v1/chat/completions"
MODEL = "siloquy"
_DONE = format_sse_event(data_str="[DONE]")
_log = logging.getLogger(__name__)


class Lenient(BaseModel):
    """A body whose unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class Part(Lenient):
    """A piece of a message; only text can be asked."""

    type: str
    text: str = ""


class ChatMessage(Lenient):
    """One message of the chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    def words(self) -> str:
        """Its text; UsageError when it holds something else."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        if others := {part.type for part in self.content} - {"text", "refusal"}:
            raise UsageError(f"a message holds {len(others)} kinds of content", "send text alone")
        return "\n".join(part.text for part in self.content)


class StreamOptions(Lenient):
    """What a stream says at its end."""

    include_usage: bool = False


class ChatBody(Lenient):
    """Body of ``POST /v1/chat/completions``."""

    model: str = Field(examples=[MODEL], max_length=128)
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=1, description="One answer only.")

    def wanted(self, requester: str) -> Wanted:
        """The question with the turns before it."""
        at = max((i for i, item in enumerate(self.messages) if item.role == "user"), default=None)
        if at is None:
            raise UsageError("messages hold none of the user", "the last one is the question")
        query = Query(text=self.messages[at].words(), requester=requester)
        return Wanted(query, AskOptions(), turns_of(self.messages[:at])[-TURNS_GIVEN:])


class Choice(BaseModel):
    """The one answer."""

    index: int
    message: dict[str, str | None]
    finish_reason: str
    logprobs: None = None


class Usage(BaseModel):
    """Words, not tokens: what was asked and what was answered."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A whole reply; ``siloquy`` is the answer as ``POST /v1/ask`` gives it."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    siloquy: Answer


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models: one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class OpenAIError(BaseModel):
    """What happened, as the OpenAI API says it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorReply(BaseModel):
    """Every refusal here."""

    error: OpenAIError


_CARD = ModelCard(id=MODEL, created=0, owned_by=MODEL)
_REFUSED = refused(404, 409, 502, 503, 504, model=OpenAIErrorReply)


def turns_of(messages: Sequence[ChatMessage]) -> tuple[Turn, ...]:
    """Pairs of a user's message and the assistant's right after it, oldest first."""
    said = [item for item in messages if item.role in ("user", "assistant")]
    return tuple(
        Turn(asked.words(), without_closing(answered.words()))
        for asked, answered in itertools.pairwise(said)
        if (asked.role, answered.role) == ("user", "assistant")
    )


def add_routes(service: FastAPI, desk: Desk) -> None:
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
        question = await desk.admit(body.wanted(caller))
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return _streamed(desk, caller, question, Chunks(_prompt(body), usage=usage))
        try:
            answer = await while_connected(request, question.answer())
        finally:
            question.leave()
        return JSONResponse(_completion(answer, _prompt(body))) if answer else nobody()

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
    return sum(len(item.words().split()) for item in body.messages)


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


def _streamed(desk: Desk, caller: str, question: Question, chunks: Chunks) -> Response:
    try:
        stream = desk.streams.open(
            caller,
            lambda opened: _write(question, opened, chunks),
            question.leave,
            resumable=False,
        )
    except SiloquyError:
        question.leave()
        raise
    return EventStream(stream.read(0, chunks.first()), {})


async def _write(question: Question, stream: Stream, chunks: Chunks) -> None:
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
