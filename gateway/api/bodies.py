"""What the API takes and gives, as its OpenAPI document states it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from siloquy.gateway.api.conversations import (
    MOST_TITLE_CHARACTERS,
    TURNS_GIVEN,
    Conversation,
    KeptTurn,
)
from siloquy.gateway.api.feedback import MOST_COMMENT_CHARACTERS, Judgement
from siloquy.gateway.api.question_queue import AskRequest
from siloquy.gateway.asking import AskOptions, Route
from siloquy.gateway.sign_in.people import Requester
from siloquy.types import Intent, Mode, Query, Turn, Unit
from siloquy.web.bodies import Strict
from siloquy.wire.calls import MOST_K

MOST_QUESTION_CHARACTERS = 16_000
EXAMPLE = "When is metformin stopped before contrast?"

Title = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, max_length=MOST_TITLE_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]


class RetrieveBody(Strict):
    """Body of ``POST /v1/retrieve``; what is left out is the gateway's setting."""

    route: Route | None = Field(
        default=None, description="auto: the router chooses the silos; all: every silo is asked."
    )
    intent: Intent | None = Field(
        default=None,
        description="precise: the promised share of the best passages; diverse: several "
        "hospitals' view beside it; fast: few silos that answer quickly.",
    )
    k: int | None = Field(
        default=None, ge=1, le=MOST_K, description="Passages wanted of all silos together."
    )
    unit: Unit = Field(default="passage", description="What the k best are counted in.")
    mode: Mode | None = Field(
        default=None,
        description="How silos score the question. open: they read it; sealed: they cannot.",
    )
    rescore: bool = Field(
        default=True, description="Whether the gateway scores the passages itself."
    )
    question: str = Field(
        max_length=MOST_QUESTION_CHARACTERS,
        description="The question; at most 4,000 characters after spaces are folded.",
        examples=[EXAMPLE],
    )
    purpose: str = Field(
        default="treatment", max_length=64, description="Purpose of use, as silos accept it."
    )

    def query(self, requester: str) -> Query:
        """The question as the gateway takes it."""
        return Query(text=self.question, purpose=self.purpose, requester=requester)

    def options(self) -> AskOptions:
        """How it is asked."""
        return AskOptions(self.route, self.intent, self.k, self.unit, self.mode, self.rescore)


class AuditBody(Strict):
    """Body of ``POST /v1/audit``."""

    question: str = Field(
        max_length=MOST_QUESTION_CHARACTERS,
        description="A question as they are asked here; it reaches every silo, under the purpose "
        "audit.",
        examples=[EXAMPLE],
    )

    def query(self, requester: str) -> Query:
        """The question as the gateway takes it."""
        return Query(text=self.question, requester=requester)


class TurnBody(Strict):
    """One earlier question with its answer, kept by the caller."""

    question: str = Field(max_length=MOST_QUESTION_CHARACTERS)
    answer: str = Field(max_length=32_000)


class AskBody(RetrieveBody):
    """Body of ``POST /v1/ask``."""

    stream: bool | None = Field(
        default=None,
        description="Whether to reply with server-sent events; null: as the Accept header says.",
    )
    conversation: str | None = Field(
        default=None,
        max_length=64,
        description="Id of a conversation: the question may refer to its turns, and is kept in it.",
    )
    turns: list[TurnBody] = Field(
        default=[],
        max_length=50,
        description=f"Earlier turns that the caller keeps, oldest first; the last {TURNS_GIVEN} "
        "are read.",
    )

    @model_validator(mode="after")
    def _one_memory(self) -> AskBody:
        if self.conversation is not None and self.turns:
            raise ValueError("give a conversation or turns, not both")
        return self

    def wanted(self, caller: Requester) -> AskRequest:
        """The question with all that it is asked with."""
        turns = tuple(Turn(turn.question, turn.answer) for turn in self.turns[-TURNS_GIVEN:])
        query = self.query(caller.name)
        return AskRequest(query, self.options(), turns, self.conversation, caller.owner)


class TitleBody(Strict):
    """Body of ``POST /v1/conversations``: its title, which may wait for the first question."""

    title: Title = Field(default="", examples=["Contrast and metformin"])


class RenameBody(Strict):
    """Body of ``PATCH /v1/conversations/{id}``."""

    title: Annotated[Title, Field(min_length=1)] = Field(examples=["Contrast and metformin"])


class FeedbackBody(Strict):
    """Body of ``PUT /v1/conversations/{id}/turns/{n}/feedback``: what is left out is not said."""

    correct: bool | None = Field(default=None, description="Is it right?")
    supported: bool | None = Field(default=None, description="Do the sources say so?")
    complete: bool | None = Field(default=None, description="Is nothing of weight left out?")
    harmless: bool | None = Field(
        default=None, description="False when following it could do harm."
    )
    helpful: bool | None = Field(default=None, description="Did it help?")
    comment: str = Field(default="", max_length=MOST_COMMENT_CHARACTERS)

    def judgement(self) -> Judgement:
        """What is kept."""
        return Judgement(**self.model_dump())


# -- replies --------------------------------------------------------------------------------------


class ErrorDetail(Strict):
    """What happened, and what to do."""

    code: str = Field(examples=["busy"])
    message: str = Field(examples=["8 questions are worked on and 256 wait"])
    hint: str = Field(examples=["try again after the seconds in Retry-After"])


class ErrorReply(Strict):
    """Every refusal."""

    error: ErrorDetail


class HealthReply(Strict):
    """Whether the process does its work; ``lacking`` are codes of what does not."""

    status: Literal["ok", "failing"]
    lacking: list[str] = Field(default=[])


class ReadyReply(Strict):
    """Whether a question can be asked now; ``lacking`` are codes of what is not there yet."""

    ready: bool
    lacking: list[str] = Field(default=[])


class ConversationList(Strict):
    """The caller's conversations, the newest first."""

    conversations: list[Conversation]


class WholeConversation(Strict):
    """A conversation with its turns in order."""

    id: str
    title: str
    created: int
    updated: int
    turns: list[KeptTurn]


_REFUSED = {
    400: "The request is malformed; the message names the field.",
    401: "The API key is missing or not known, or nobody is signed in.",
    403: "The caller's role, a silo's policy, or the page of another site.",
    404: "There is no such stream, conversation or account, or it is another caller's.",
    408: "The body did not come in time.",
    409: "The conversation is still being answered (busy), or versions differ (incompatible).",
    413: "The body is too large.",
    429: "Too much at once (busy, come back after Retry-After), or a budget is spent (budget).",
    500: "A setting is wrong, or a defect.",
    502: "A signature, hash, ticket or chain does not hold.",
    503: "The hub or the model cannot be reached, or the disk takes nothing.",
    504: "It did not reply in time.",
}
Responses = dict[int | str, dict[str, Any]]


def refused(*statuses: int, model: type[BaseModel] = ErrorReply) -> Responses:
    """The OpenAPI entries of refusals with these statuses, and of the edge's on every path."""
    listed = sorted({400, 401, 403, 408, 413, 429, 500, *statuses})
    told: Responses = {
        status: {"model": model, "description": _REFUSED[status]} for status in listed
    }
    return {**told, "4XX": {"model": model, "description": "Any other refusal."}}
