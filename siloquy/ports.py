"""The seams of the house: one verb each, the same in process and over the channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from siloquy.types import (
    Draft,
    EncoderSpec,
    MergeReply,
    Plan,
    Profile,
    Signed,
    Source,
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


class Silo(Protocol):
    """A hospital's node, as the hub reaches it: envelopes in, signed or sealed replies out."""

    async def search(self, envelope: bytes) -> Signed:
        """Phase 1: the signed SearchReply, or the signed Refusal, to a sealed SearchRequest."""
        ...

    async def release(self, envelope: bytes) -> bytes:
        """Phase 2: an envelope with a ReleaseReply that only the asking gateway opens."""
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


class Router(Protocol):
    """Which silos to ask."""

    def plan(self, query: Vector, profiles: Sequence[Profile], k: int) -> Plan:
        """The silos that are expected to hold the global top-k."""
        ...


class Generator(Protocol):
    """An answer from evidence alone."""

    @property
    def model(self) -> str:
        """Name of the model, as receipts state it."""
        ...

    def answer(self, question: str, sources: Sequence[Source]) -> Draft:
        """Checked sentences with citations, or an abstention."""
        ...
