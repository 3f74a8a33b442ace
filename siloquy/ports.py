"""What one part of the house needs of another, whoever provides it.

What goes between nodes stands in ``siloquy.wire.calls``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from siloquy.types import (
    Draft,
    EncoderSpec,
    MergeReply,
    NodeId,
    Plan,
    Probe,
    Profile,
    RouteRequest,
    SearchFeedback,
    Sentence,
    SignedMessage,
    Source,
    Term,
    Turn,
    Vector,
)


class Embedder(Protocol):
    """Text to unit vectors."""

    @property
    def spec(self) -> EncoderSpec:
        """Which encoder; vectors of different specs cannot be compared."""
        ...

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows, in the order of ``texts``."""
        ...


class TextEncoder(Protocol):
    """An embedder for many callers at once."""

    async def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows, in the order of ``texts``."""
        ...


class Hub(Protocol):
    """The relay, as a gateway reaches it."""

    async def gather(self, envelope: bytes, timeout_s: float) -> MergeReply:
        """Ask the envelope's recipients and merge their candidates."""
        ...

    async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
        """One silo's sealed passages."""
        ...

    async def profiles(self) -> tuple[bytes, ...]:
        """Sealed profiles of all silos that approved this gateway."""
        ...

    async def sealing_key(self, timeout_s: float) -> SignedMessage:
        """The hub's signed SealingKey of this session."""
        ...


class Router(Protocol):
    """Which silos to ask, learned from whom it paid to ask."""

    def follow(self, profiles: Sequence[Profile]) -> None:
        """Plan with these profiles from now on."""
        ...

    def terms(self, words: Sequence[str]) -> tuple[Term, ...]:
        """A question's words without stop words, each weighed alike for all silos."""
        ...

    def plan(self, sought: RouteRequest) -> Plan:
        """The silos that are expected to hold the global top-k, and why."""
        ...

    def barred(self, silos: Sequence[NodeId]) -> dict[NodeId, str]:
        """Those of ``silos`` that are not asked whatever the question, and why."""
        ...

    def quotas(self, plan: Plan, k: int) -> dict[NodeId, int]:
        """How many of ``k`` winners silos may have that may not have all."""
        ...

    def heard(self, heard: SearchFeedback) -> None:
        """Learn what came of a question."""
        ...

    def checked(self, verified: Mapping[NodeId, int], false: Mapping[NodeId, int]) -> None:
        """Learn how many passages' claims fitted, and how many did not, by silo."""
        ...

    def unprobed(self) -> Sequence[Probe]:
        """Questions that new profiles must answer for."""
        ...

    def probed(self, probe: Probe, claims: Sequence[Sequence[float]]) -> None:
        """Learn the claimed cosines of each of a probe's questions, best first."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a language model."""

    role: Literal["system", "user", "assistant"]
    content: str


class LanguageModel(Protocol):
    """A model that continues a conversation."""

    @property
    def name(self) -> str:
        """Name of the model, as receipts state it."""
        ...

    def stream(self, messages: Sequence[Message], most_tokens: int) -> AsyncIterator[str]:
        """Pieces of the reply as they come.

        Unreachable when the model cannot be reached, TimedOut when it is too slow, Busy when it
        sheds load, SettingsError when it refuses the key or does not know the name, Incompatible
        when the prompt is too long for it or it does not speak the protocol. Closing the iterator
        ends the work.
        """
        ...


class Phrasing(Protocol):
    """What a question asks for."""

    async def standalone(self, turns: Sequence[Turn], question: str) -> str:
        """``question`` written so that it can be understood without the ``turns`` before it."""
        ...

    async def parts(self, question: str) -> tuple[str, ...]:
        """The questions that it asks, each standing alone; itself when it asks one thing."""
        ...


class Generator(Protocol):
    """An answer from evidence alone."""

    @property
    def model(self) -> str:
        """Name of the model, as receipts state it."""
        ...

    async def answer(
        self, questions: Sequence[str], sources: Sequence[Source], told: Callable[[Sentence], None]
    ) -> Draft:
        """Checked sentences with citations, or an abstention; ``told`` hears each when it holds.

        questions   what is asked, each part standing alone; a part without an answer is noted
        """
        ...
