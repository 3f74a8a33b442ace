"""What stands behind the gateway's API: how a question is put, and who answers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from siloquy.types import Answer, Event, Intent, Mode, Query, Turn, Unit

Told = Callable[[Event], None]


def silent(event: Event) -> None:
    """Nothing: for who wants the answer alone."""


class AskOptions(BaseModel):
    """How one question is asked; what is left out is the gateway's setting."""

    model_config = ConfigDict(extra="forbid")

    route: Literal["auto", "all"] | None = Field(
        default=None, description="auto: the router chooses the silos; all: every silo is asked."
    )
    intent: Intent | None = Field(
        default=None,
        description="precise: the promised share of the best passages; diverse: several "
        "hospitals' view beside it; fast: few silos that answer quickly.",
    )
    k: int | None = Field(
        default=None, ge=1, le=100, description="Passages wanted of all silos together."
    )
    unit: Unit = Field(default="passage", description="What the k best are counted in.")
    mode: Mode | None = Field(
        default=None,
        description="How silos score the question. open: they read it; sealed: they cannot.",
    )
    rescore: bool = Field(
        default=True, description="Whether the gateway scores the passages itself."
    )


class Asking(Protocol):
    """The gateway behind the API."""

    async def ask(
        self,
        query: Query,
        options: AskOptions,
        *,
        turns: Sequence[Turn] = (),
        told: Told = silent,
    ) -> Answer:
        """The whole answer; ``told`` hears in order how it comes about.

        A follow-up is written out with the ``turns`` before it. Cancelling ends the work at hub
        and silos too.
        """
        ...

    async def retrieve(self, query: Query, options: AskOptions) -> object:
        """The evidence alone."""
        ...

    async def audit(self, query: Query) -> object:
        """Where the best passages lie: all silos are asked, the router learns, nothing leaves."""
        ...

    def status(self) -> object:
        """Hub line and silos."""
        ...

    async def federation(self) -> object:
        """Who belongs, and what is known of each."""
        ...

    def roster(self) -> object:
        """Who belongs, as the founders signed it."""
        ...
