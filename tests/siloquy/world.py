"""A small federation in this process: two silos, the real hub, a gateway."""

from __future__ import annotations

import functools
import math
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from siloquy.aggregator.registry import Registry
from siloquy.aggregator.service import HubNode
from siloquy.gateway.ask import Gateway
from siloquy.gateway.asking import AskOptions
from siloquy.gateway.site import build_retriever
from siloquy.generator.extractive import Extractive
from siloquy.generator.reasoner import Reasoner
from siloquy.generator.understanding.phrasing import RulePhrasing
from siloquy.ports import LanguageModel
from siloquy.router.experience import Experience
from siloquy.router.profile import Versions
from siloquy.router.router import LearningRouter
from siloquy.settings import AskSettings, ProfileSettings, ReleasePolicy
from siloquy.silo_node.profiler import Profiler
from siloquy.silo_node.reading.document import Document
from siloquy.text import topics
from siloquy.text.batcher import Batcher
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.trust import ledger
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import Identity
from siloquy.types import (
    Answer,
    MergeReply,
    NodeId,
    Query,
    SignedMessage,
)
from siloquy.wire.calls import Verb
from siloquy.wire.channel import Channel, Handler
from siloquy.wire.remote import RemoteHub
from tests.silo_node.hospital import (
    POLICY,
    Clock,
    Hospital,
    WordEmbedder,
    document,
    open_hospital,
    pinned,
)
from tests.siloquy.federation import ENCODER, Federation

T = TypeVar("T")

NORTH, SOUTH, WARD, HUB = (NodeId(name) for name in ("north", "south", "ward", "hub"))
LEXICON = Lexicon(("dose", "give"), {"dose": 0, "give": 1})
QUESTION = "Which dose of ceftriaxone is given to adults with bacterial meningitis?"
RULE = "Adults with bacterial meningitis are given a ceftriaxone dose of 2 g."
WARDS = {
    NORTH: [
        document("meningitis.md", RULE, "Meningitis"),
        document("stroke.md", "Image the head of adults with stroke within the hour.", "Stroke"),
        document("asthma.md", "Give oxygen and salbutamol to children.", "Asthma"),
    ],
    SOUTH: [
        document("ears.md", "Children with otitis are given amoxicillin by mouth.", "Ears"),
        document("burns.md", "Cool burns with running water for twenty minutes.", "Burns"),
    ],
}


def wish(**options: Any) -> AskOptions:
    """How a question is asked; what is left out is the gateway's setting."""
    return AskOptions(**options)


ALL = wish(route="all")


def hasty(opened: T) -> T:
    """A book of the hub or gateway that does not wait for the disk."""
    connection: sqlite3.Connection = getattr(opened, "_connection")  # noqa: B009 - any of three
    connection.execute("PRAGMA synchronous = OFF")
    return opened


@dataclass(slots=True)
class Line:
    """What the hub holds of a connected silo: its handlers, without a socket."""

    handlers: Mapping[str, Handler]

    async def call(self, verb: str, body: bytes, timeout_s: float) -> bytes:
        return await self.handlers[verb](HUB, body, timeout_s)


@dataclass(slots=True)
class InProcessHub:
    """The real hub behind ``ports.Hub``; ``cheat`` changes what it says of a question."""

    node: HubNode
    calls: Mapping[str, Handler]
    cheat: Callable[[MergeReply], MergeReply] = lambda merged: merged
    gathered: list[MergeReply] = field(default_factory=list)

    @property
    def remote(self) -> RemoteHub:
        """The hub's verbs without the channel."""
        return RemoteHub(lambda verb, body, timeout_s: self.calls[verb](WARD, body, timeout_s))

    async def gather(self, envelope: bytes, timeout_s: float) -> MergeReply:
        self.gathered.append(await self.remote.gather(envelope, timeout_s))
        return self.cheat(self.gathered[-1])

    async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
        return await self.remote.collect(silo, envelope, timeout_s)

    async def profiles(self) -> tuple[bytes, ...]:
        return await self.remote.profiles()

    async def sealing_key(self, timeout_s: float) -> SignedMessage:
        return await self.remote.sealing_key(timeout_s)


_KEPT: dict[str, Callable[[Path], Any]] = {
    "hub": Registry,
    "profiles": Versions,
    "heads": HeadBook,
    "router": Experience,
}


@functools.cache
def topic_list() -> Topics:
    """The public topics in the space of the word embedder."""
    return topics.make(WordEmbedder())


@functools.cache
def empty_files() -> dict[str, bytes]:
    """The gateway's and hub's databases before anything happened; making them takes longest."""
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in _KEPT.items():
            path = Path(folder) / f"{name}.sqlite"
            kind(path)._connection.close()
            made[path.name] = path.read_bytes()
    return made


class World:
    """Two silos, a hub and a gateway."""

    def __init__(
        self,
        folder: Path,
        federation: Federation,
        wards: Mapping[NodeId, Sequence[Document]] = WARDS,
    ) -> None:
        self.folder = folder
        self.wards = wards
        self.federation = federation
        self.clock = Clock()
        for name, data in empty_files().items():
            (folder / name).write_bytes(data)
        registry = hasty(Registry(folder / "hub.sqlite"))
        node = HubNode(
            federation.hub,
            pinned(federation.roster, folder / "hub.json"),
            registry,
            self.clock,
        )
        self.hub = InProcessHub(node, node.handlers(federation.ward.card, enrolling=False))
        self.hospitals = {
            identity.node: self.open(identity) for identity in (federation.north, federation.south)
        }
        self.gateway = self.new_gateway()

    def open(self, identity: Identity, policy: ReleasePolicy = POLICY) -> Hospital:
        """A silo, connected to the hub; again under another policy."""
        hospital = open_hospital(
            self.folder / identity.node,
            identity,
            self.federation.roster,
            list(self.wards[identity.node]),
            policy,
            self.clock,
        )
        topics.prepare(hospital.store.connection, WordEmbedder())
        settings = ProfileSettings(epsilon=math.inf)
        hospital.node._profiler = Profiler(hospital.store, ENCODER, settings, self.clock)
        self.connect(identity.node, hospital.node.handlers())
        return hospital

    def connect(self, silo: NodeId, handlers: Mapping[str, Handler]) -> None:
        self.hub.node.lines[silo] = cast(Channel, Line(handlers))

    def new_gateway(
        self, model: LanguageModel | None = None, *, fallback: bool = True, **settings: Any
    ) -> Gateway:
        """The gateway ward, just started."""
        encoder = Batcher(WordEmbedder())
        quoting = Extractive(encoder, 0.3)
        ward = pinned(self.federation.roster, self.folder / "ward.json")
        ask = AskSettings(**{"deadline_s": 4.0, **settings})
        retriever = build_retriever(
            self.federation.ward,
            ward,
            self.hub,
            encoder,
            LEXICON,
            self.new_router(ask),
            self.folder,
            ask,
            self.clock,
        )
        hasty(retriever.profiles._versions)
        hasty(retriever.rounds._phases._head_book)
        return Gateway(
            self.federation.ward,
            ward,
            retriever,
            encoder,
            RulePhrasing(),
            Reasoner(model, 300, 0.3, quoting if fallback else None) if model else quoting,
            ask,
            self.clock,
        )

    def new_router(
        self, ask: AskSettings, chance: Callable[[], float] = lambda: 1.0
    ) -> LearningRouter:
        """The router, with what it has learnt before; no audit comes by chance."""
        experience = Experience(self.folder / "router.sqlite")
        return LearningRouter(topic_list(), LEXICON, experience, ask, self.clock, chance)

    async def publish(self, silo: NodeId, profile: bytes = b"") -> None:
        profile = profile or self.hospitals[silo].node.profile(LEXICON)
        card = self.federation.roster.member(silo)
        await self.hub.node.handlers(card, enrolling=False)[Verb.PUBLISH](silo, profile, 1.0)

    async def start(self) -> None:
        for silo in self.hospitals:
            await self.publish(silo)
        await self.gateway.refresh()

    async def ask(self, text: str = QUESTION, options: AskOptions = ALL) -> Answer:
        return await self.gateway.ask(Query(text), options)

    def released(self) -> int:
        """Passages that left the silos, by their ledgers."""
        return sum(
            len(entry.passages)
            for hospital in self.hospitals.values()
            for entry in ledger.entries(hospital.store.connection)
        )
