"""How a question is put to the gateway, and who listens while it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from siloquy.types import Event, Intent, Mode, Unit

Listener = Callable[[Event], None]
"""Hears in order how an answer comes about."""
Route = Literal["auto", "all"]


def silent(event: Event) -> None:
    """Nothing: for who wants the answer alone."""


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How one question is asked; None is the gateway's setting.

    route     auto: the router chooses the silos; all: every silo is asked
    k         passages wanted of all silos together, 1 to ``wire.calls.MOST_K``
    unit      what the k best are counted in
    rescore   whether the gateway scores the passages itself
    """

    route: Route | None = None
    intent: Intent | None = None
    k: int | None = None
    unit: Unit = "passage"
    mode: Mode | None = None
    rescore: bool = True
