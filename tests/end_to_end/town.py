"""A whole federation in one process: real nodes on loopback, and a hub that is the attacker's.

Only the text encoder is a small deterministic one, and the generator quotes whatever it is given.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from websockets.asyncio.server import Server, serve

from siloquy.aggregator.registry import Registry
from siloquy.aggregator.service import listen
from siloquy.gateway.ask import Gateway
from siloquy.gateway.asking import AskOptions
from siloquy.gateway.site import build_retriever
from siloquy.generator.understanding.phrasing import RulePhrasing
from siloquy.process import now_ms
from siloquy.router.experience import ROUTER_FILE, Experience
from siloquy.router.router import LearningRouter
from siloquy.serve import local, nodes
from siloquy.serve.uplink import uplink
from siloquy.settings import AskSettings, HubLink, HubSettings, Listen, ReleasePolicy
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.service import SiloNode
from siloquy.silo_node.store import Store
from siloquy.text import topics
from siloquy.text.batcher import Batcher
from siloquy.text.topics import Topics
from siloquy.trust import identity as identities
from siloquy.trust import ledger
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import ROSTER_FILE, PinnedRoster, SignedRoster
from siloquy.types import (
    Answer,
    CitedSpan,
    Draft,
    Member,
    NodeId,
    Query,
    Role,
    Roster,
    Sentence,
    Source,
    Vector,
)
from siloquy.wire import envelope as envelopes
from siloquy.wire.channel import Channel, Uplink, dial
from siloquy.wire.envelope import Kind
from siloquy.wire.remote import RemoteHub
from tests.end_to_end.canaries import (
    DIMENSION,
    QUESTION,
    WordEmbedder,
    lexicon,
    tokens,
    write_documents,
)
from tests.end_to_end.malicious_hub import HUB, WAIT_S, MaliciousHub, Tap, Tapped

K = 6
WARD, ANNEX = NodeId("ward"), NodeId("annex")
NORTH, SOUTH, EAST = NodeId("north"), NodeId("south"), NodeId("east")
SILOS = (NORTH, SOUTH, EAST)


class Quoter:
    """A generator that quotes the first sentence of every source and never abstains."""

    model = "quoter"

    async def answer(
        self, questions: Sequence[str], sources: Sequence[Source], told: Callable[[Sentence], None]
    ) -> Draft:
        """One sentence a source."""
        quotes = [(source.text.split(". ")[0] + ".", source.n) for source in sources]
        sentences = tuple(
            Sentence(text, (n,), 1.0, (CitedSpan(n, 0, len(text)),)) for text, n in quotes
        )
        return Draft(sentences, not quotes, extractive=True)


# -- honest nodes ---------------------------------------------------------------------------------


class Clock:
    """The time of all nodes, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        """Unix time in milliseconds."""
        return now_ms() + self.ahead_ms


@functools.cache
def topic_list() -> Topics:
    """The public topics in the space of the word embedder."""
    return topics.make(WordEmbedder())


class Site:
    """A silo with its folder; it can be stopped and started again."""

    def __init__(self, town: Town, folder: Path, identity: Identity, policy: ReleasePolicy) -> None:
        self.folder = folder
        self.identity = identity
        self._town = town
        self._policy = policy
        self.store: Store
        self.node: SiloNode
        self.line: Uplink
        self._running: asyncio.Task[None] | None = None

    @property
    def pinned(self) -> SignedRoster:
        """The roster on its disk."""
        return rosters.load(self.folder / ROSTER_FILE)

    async def start(self) -> None:
        """Everything from disk, as after a restart."""
        self.store = Store(self.folder / "silo.sqlite")
        pinned = PinnedRoster(self.folder / ROSTER_FILE)
        searcher = Searcher(self.store, DIMENSION)
        self.node = SiloNode(
            self.store, searcher, self.identity, pinned, self._policy, self._town.clock
        )
        link, spec = self._town.link, WordEmbedder.spec
        handlers = dict(self.node.handlers())
        self.line = uplink(link, self.identity, spec, pinned, handlers, self._publish)
        self._running = asyncio.create_task(self.line.run())

    async def stop(self) -> None:
        """Off the net, database closed."""
        if self._running is not None:
            await _ended(self._running)
            self.store.close()
        self._running = None

    async def restart(self) -> None:
        """Memory gone, disk kept."""
        await self.stop()
        await self.start()
        await self.line.wait(WAIT_S)

    async def _publish(self, channel: Channel) -> None:
        profile = await asyncio.to_thread(self.node.profile, lexicon())
        await channel.call("publish", profile, WAIT_S)

    def disclosed(self) -> tuple[int, bytes, int]:
        """What the silo's books say has left: ledger entries, their hash, budget spent."""
        with self.store.lock:
            entries, digest = ledger.head(self.store.connection)
            query = "SELECT coalesce(sum(passages), 0) FROM spent"
            (spent,) = self.store.connection.execute(query).fetchone()
        return entries, digest, int(spent)


class Town:
    """Three silos, two gateways and the attacker's hub."""

    def __init__(self, folder: Path, ask: AskSettings) -> None:
        self.folder = folder
        self.clock = Clock()
        self.tap = Tap()
        self.port = local.free_port()
        self.settings = HubSettings(
            Listen(port=self.port), f"wss://127.0.0.1:{self.port}", most_in_flight=256
        )
        self.link = HubLink(self.settings.url, str(folder / HUB / "tls.pem"), proxy=False)
        self.ask_settings = ask
        self.identities = self._people()
        self.roster = self.signed(self._founding())
        self.sites = {silo: self._site(silo) for silo in SILOS}
        self.server: Server
        self.line: Uplink
        self._running: asyncio.Task[None]
        for node in (HUB, WARD, ANNEX, *SILOS):
            rosters.save(self.roster, folder / node / ROSTER_FILE)
        self.pinned = PinnedRoster(folder / WARD / ROSTER_FILE)
        hub_pinned = PinnedRoster(folder / HUB / ROSTER_FILE)
        self.registry = Registry(folder / HUB / "hub.sqlite")
        self.hub = MaliciousHub(self.identities[HUB], hub_pinned, self.registry, self.clock)

    def _people(self) -> dict[NodeId, Identity]:
        hub = nodes.init_hub(self.folder / HUB, HUB, "operator", self.settings)
        made = {HUB: hub}
        for node in (*SILOS, WARD, ANNEX):
            role: Role = "silo" if node in SILOS else "gateway"
            made[node] = identities.create(node, role, f"org {node}")
            identities.save(made[node], self.folder / node)
        return made

    def _founding(self) -> Roster:
        founders = [self.identities[node].card for node in (NORTH, SOUTH, WARD)]
        cards = [identity.card for identity in self.identities.values()]
        return rosters.found("town", founders, 2, WordEmbedder.spec, cards, self.clock())

    def signed(self, roster: Roster, *founders: NodeId) -> SignedRoster:
        """``roster`` with founders' signatures; by default with enough of them."""
        signed = SignedRoster(roster, {})
        for founder in founders or (NORTH, WARD):
            signed = rosters.add_signature(signed, self.identities[founder])
        return signed

    def next_roster(self, *members: Member) -> SignedRoster:
        """A rightly signed next version, with ``members`` added."""
        current = self.roster
        roster = rosters.succeed(current, [*current.roster.members, *members], self.clock())
        return self.signed(roster)

    def _site(self, silo: NodeId) -> Site:
        folder = self.folder / silo
        write_documents(folder / "documents", silo, 0 if silo == EAST else 20)
        store = Store(folder / "silo.sqlite")
        ingest(store, read(folder / "documents"), WordEmbedder(), tokens, 100)
        store.close()
        return Site(self, folder, self.identities[silo], ReleasePolicy(gateways=(WARD, ANNEX)))

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everybody up, connected and known to the gateway."""
        await self.open_hub()
        for site in self.sites.values():
            await site.start()
        folder, identity = self.folder / WARD, self.identities[WARD]
        embedder = WordEmbedder()
        self.line = uplink(self.link, identity, embedder.spec, self.pinned, {}, _no_news)
        self._running = asyncio.create_task(self.line.run())
        encoder = Batcher(embedder)
        experience = Experience(folder / ROUTER_FILE)
        self.router = LearningRouter(
            topic_list(), lexicon(), experience, self.ask_settings, self.clock, lambda: 1.0
        )
        retriever = build_retriever(
            identity,
            self.pinned,
            RemoteHub(self.line.call),
            encoder,
            lexicon(),
            self.router,
            folder,
            self.ask_settings,
            self.clock,
        )
        self.gateway = Gateway(
            identity,
            self.pinned,
            retriever,
            encoder,
            RulePhrasing(),
            Quoter(),
            self.ask_settings,
            self.clock,
            lambda: self.line.connected,
        )
        await self.connected()
        await self.gateway.refresh()

    async def open_hub(self, folder: Path | None = None) -> None:
        """Listen, with the TLS certificate in ``folder`` if not the hub's own."""
        tapped = type("TappedHere", (Tapped,), {"tap": self.tap})
        listening = functools.partial(serve, create_connection=tapped)
        with mock.patch("siloquy.aggregator.service.serve", listening):
            self.server = await listen(self.hub, self.settings, folder or self.folder / HUB)

    async def close_hub(self) -> None:
        """Hang up on everybody and stop listening."""
        self.server.close()
        await self.server.wait_closed()

    async def connected(self) -> None:
        """All lines stand."""
        await self.line.wait(WAIT_S)
        for site in self.sites.values():
            await site.line.wait(WAIT_S)

    async def reconnect(self, *nodes: NodeId) -> None:
        """Break nodes' lines, so that they dial and shake hands again."""
        for node in nodes:
            await self.hub.lines[node].close()
        await eventually(lambda: not any(self.uplink(node).connected for node in nodes))

    def uplink(self, node: NodeId) -> Uplink:
        """A node's line."""
        return self.line if node == WARD else self.sites[node].line

    async def stop(self) -> None:
        """Everybody down."""
        await _ended(self._running)
        for site in self.sites.values():
            await site.stop()
        await self.close_hub()
        self.registry.close()

    # -- honest use -----------------------------------------------------------------------------

    async def ask(self, question: str = QUESTION, k: int = K) -> Answer:
        """A clinician's question to all silos."""
        return await self.gateway.ask(Query(question), options(k=k))

    async def ask_as_usual(self) -> None:
        """An honest question gets its passages from every silo."""
        await self.connected()
        answer = await self.ask()
        assert answer.missing == ()
        assert {source.silo for source in answer.sources} == set(SILOS)
        assert sum(answer.released.values()) == K

    def disclosed(self, *silos: NodeId) -> dict[NodeId, tuple[int, bytes, int]]:
        """The books of some silos, by default of all."""
        return {silo: self.sites[silo].disclosed() for silo in silos or SILOS}

    @asynccontextmanager
    async def nothing_leaves(self, *silos: NodeId) -> AsyncIterator[None]:
        """Inside, no silo's books change; right after, an honest question works."""
        before = self.disclosed(*silos)
        yield
        assert self.disclosed(*silos) == before
        self.hub.behave()
        await self.ask_as_usual()

    @asynccontextmanager
    async def dialled(self, node: NodeId) -> AsyncIterator[Channel]:
        """A node's channel to the hub without the rest of the node."""
        spec = WordEmbedder.spec
        joined = await dial(self.link, self.identities[node], spec, self.roster)
        line = Channel(joined.socket, joined.hub.node, {})
        reader = asyncio.create_task(line.run())
        try:
            yield line
        finally:
            await line.close()
            await reader

    def seal(
        self, sender: Identity, kind: Kind, query_id: bytes, value: object, *recipients: NodeId
    ) -> bytes:
        """An envelope from whoever ``sender`` says it is, to the true keys of ``recipients``."""
        return envelopes.seal(
            sender,
            [self.identities[node].card for node in recipients],
            kind,
            query_id,
            value,
            roster=self.roster,
            now=self.clock(),
            lifetime_ms=30_000,
            k=K if kind == "search" else 0,
        )

    def disguised(self, node: NodeId) -> Identity:
        """The hub's keys under another node's card."""
        hub = self.identities[HUB]
        return Identity(self.identities[node].card, hub.signing, hub.sealing)


def options(**given: Any) -> AskOptions:
    """How to ask; all silos unless told otherwise."""
    return AskOptions(**{"route": "all", **given})


async def _no_news(channel: Channel) -> None:
    return None


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def eventually(
    holds: Callable[[], bool], what: str = "it never came about", timeout_s: float = WAIT_S
) -> None:
    """Return once ``holds``."""
    for _ in range(int(timeout_s / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def stored_vectors(town: Town) -> Vector:
    """Every passage vector of every silo."""
    return np.concatenate([site.store.vectors()[1] for site in town.sites.values()])
