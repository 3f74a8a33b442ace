"""What the OpenAI-compatible API takes and gives: unknown fields are ignored, as they are there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from siloquy.errors import UsageError
from siloquy.gateway.api.conversations import TURNS_GIVEN
from siloquy.gateway.api.openai_text import without_closing
from siloquy.gateway.api.question_queue import AskRequest
from siloquy.gateway.asking import AskOptions
from siloquy.gateway.sign_in.people import Requester
from siloquy.types import Answer, Query, Turn

MODEL = "siloquy"
_READ = frozenset({"text", "refusal"})


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
        parts = self.content if isinstance(self.content, list) else []
        if others := {part.type for part in parts} - _READ:
            raise UsageError(f"a message holds {len(others)} kinds of content", "send text alone")
        return self.text()

    def text(self) -> str:
        """Its text without whatever else it holds."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "\n".join(part.text for part in self.content if part.type in _READ)


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

    def wanted(self, caller: Requester) -> AskRequest:
        """The question with the turns before it."""
        at = max((i for i, item in enumerate(self.messages) if item.role == "user"), default=None)
        if at is None:
            raise UsageError("messages hold none of the user", "the last one is the question")
        query = Query(text=self.messages[at].words(), requester=caller.name)
        turns = turns_of(self.messages[:at])[-TURNS_GIVEN:]
        return AskRequest(query, AskOptions(), turns, owner=caller.owner)


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


def turns_of(messages: Sequence[ChatMessage]) -> tuple[Turn, ...]:
    """Pairs of a user's message and the assistant's right after it, oldest first."""
    said = [item for item in messages if item.role in ("user", "assistant")]
    return tuple(
        Turn(asked.words(), without_closing(answered.words()))
        for asked, answered in itertools.pairwise(said)
        if (asked.role, answered.role) == ("user", "assistant")
    )
