"""A whole federation in one process whose hub belongs to the attacker.

Nodes are the real ones over the real TLS WebSocket on loopback; only the text encoder is a small
deterministic one. The hub's keys, database and every byte that passes are the attacker's, and
``MaliciousHub`` may change, drop or forge whatever it relays.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import Server, ServerConnection, serve

from siloquy import compose, ledger, local
from siloquy import envelope as envelopes
from siloquy import identity as identities
from siloquy import roster as rosters
from siloquy.aggregator.service import Collect, Gather, Heard, HubNode, Profiles, listen
from siloquy.channel import Channel, Uplink, dial
from siloquy.codec import decode, encode
from siloquy.compose import RemoteHub
from siloquy.envelope import Header, Kind
from siloquy.gateway import Gateway
from siloquy.generator.service import AskOptions
from siloquy.heads import HeadBook
from siloquy.identity import Identity
from siloquy.lexicon import Lexicon
from siloquy.roster import Pinned, SignedRoster
from siloquy.router.choice import BaselineRouter
from siloquy.router.profile import Versions
from siloquy.router.registry import Registry
from siloquy.settings import AskSettings, HubLink, HubSettings, Listen, ReleasePolicy
from siloquy.silo_node.documents import read
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.service import SiloNode
from siloquy.silo_node.store import Store
from siloquy.types import (
    Answer,
    Draft,
    EncoderSpec,
    Handle,
    Member,
    MergeReply,
    NodeId,
    Query,
    QueryId,
    Role,
    Roster,
    Sentence,
    Signed,
    Source,
    Ticket,
    Vector,
)

DIMENSION = 48
K = 6
HUB, WARD, ANNEX = NodeId("hub"), NodeId("ward"), NodeId("annex")
NORTH, SOUTH, EAST = NodeId("north"), NodeId("south"), NodeId("east")
SILOS = (NORTH, SOUTH, EAST)
QUESTION = "Which zanthoxyl dose suits snorrevik fever after trepanning?"
WAIT_S = 8.0

Honest = Callable[[bytes], Awaitable[bytes]]
Carry = Callable[[NodeId, str, bytes, Honest], Awaitable[bytes]]
Bend = Callable[[MergeReply], MergeReply]
Answering = Callable[[str, bytes], Awaitable[bytes]]


# -- what must stay secret ------------------------------------------------------------------------

QUESTION_WORDS = ("zanthoxyl", "snorrevik", "trepanning")
SECRETS = ("brindlewick", "quillfeather", "HN-4242", "Ottoline Marrowby", "halvergate")
_CLOSING = {
    NORTH: ("Never with milk, never at night.", "Weigh the child first and write it down."),
    SOUTH: ("Stop it when the pulse falls.", "Halve it for the very old and the very thin."),
    EAST: ("A second nurse counts the drops.", "Keep the vial cold, dark and locked away."),
}
_FILLER = "drain bed ward round chart note shift lamp linen meal form phone key door desk"


def write_documents(folder: Path, silo: NodeId, filler: int) -> None:
    """Two documents that answer the question and hold every canary, and ``filler`` dull ones."""
    folder.mkdir()
    for n in (1, 2):
        (folder / f"brindlewick-{silo}-{n}.txt").write_text(
            f"Quillfeather protocol {n} of {silo}\n\n"
            f"In snorrevik fever the zanthoxyl dose after trepanning is {n}0 mg at {silo}. "
            f"Ottoline Marrowby, HN-4242-{n}, lay in halvergate room {n}. {_CLOSING[silo][n - 1]}\n"
        )
    dull = _FILLER.split()
    for n in range(filler):
        words = " ".join(dull[(n * 7 + i * 3) % len(dull)] for i in range(9))
        (folder / f"halvergate-{n}.txt").write_text(
            f"Leaf {n}\n\nThe {words} stays at {silo} {n}.\n"
        )


class WordEmbedder:
    """A text encoder for tests: a text is the sum of its words' fixed random directions."""

    spec = EncoderSpec("word-sum", hashlib.sha256(b"word-sum").hexdigest(), DIMENSION)

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows."""
        rows = [self._row(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, DIMENSION)

    def _row(self, text: str) -> NDArray[np.float64]:
        total = sum(map(_direction, ["", *re.findall(r"\w+", text.lower())]), np.zeros(DIMENSION))
        return np.asarray(total / np.linalg.norm(total))


@functools.cache
def _direction(word: str) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=DIMENSION)


def tokens(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Where words start, as a tokenizer would say."""
    return [np.array([m.start() for m in re.finditer(r"\S+", text)]) for text in texts]


def lexicon() -> Lexicon:
    """A public vocabulary that holds no canary."""
    words = tuple(sorted({*_FILLER.split(), "dose", "fever", "protocol", "room"}))
    return Lexicon(words, {word: place for place, word in enumerate(words)})


class Quoter:
    """A generator that quotes the first sentence of every source and never abstains."""

    model = "quoter"

    def answer(self, question: str, sources: Sequence[Source]) -> Draft:
        """One sentence a source."""
        quotes = [(source.text.split(". ")[0] + ".", source.n) for source in sources]
        return Draft(tuple(Sentence(text, (n,), 1.0) for text, n in quotes), not quotes)


# -- the attacker's ear ---------------------------------------------------------------------------


@dataclass(slots=True)
class Tap:
    """Every message that the hub was sent or sent, after TLS was taken off."""

    messages: list[bytes] = field(default_factory=list)

    def note(self, data: object) -> None:
        """Keep one message."""
        self.messages.append(data.encode() if isinstance(data, str) else bytes(cast(bytes, data)))

    def everything(self) -> bytes:
        """All of it."""
        return b"\n".join(self.messages)


class Tapped(ServerConnection):
    """The hub's end of a WebSocket, listened in on."""

    tap: Tap

    async def recv(self, *args: Any, **kwargs: Any) -> Any:
        data = await super().recv(*args, **kwargs)
        self.tap.note(data)
        return data

    async def send(self, message: Any, *args: Any, **kwargs: Any) -> None:
        self.tap.note(message)
        await super().send(message, *args, **kwargs)


# -- the attacker's hub ---------------------------------------------------------------------------


async def _relay(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
    return await honest(body)


async def _reply(method: str, reply: bytes) -> bytes:
    return reply


class BentLine:
    """A silo's line as the malicious hub uses it: ``carry`` decides what really passes."""

    def __init__(self, line: Channel, silo: NodeId, carry: Carry) -> None:
        self._line, self._silo, self._carry = line, silo, carry

    async def call(self, method: str, body: bytes, timeout_s: float) -> bytes:
        async def honest(body: bytes) -> bytes:
            return await self._line.call(method, body, timeout_s)

        return await self._carry(self._silo, method, body, honest)


class MaliciousHub(HubNode):
    """The real hub, which keeps all it hears and can be told how to misbehave.

    carry     what happens to a call to a silo; given the honest way
    bend      what the gateway gets instead of the merge
    answer    what a gateway gets instead of a reply, by method
    """

    carry: Carry
    bend: Bend
    answer: Answering

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.envelopes: dict[Kind, list[bytes]] = {}
        self.heard: dict[QueryId, Sequence[Heard]] = {}
        self.merges: list[MergeReply] = []
        self.behave()

    def behave(self) -> None:
        """Be honest again."""
        self.carry = _relay
        self.bend = lambda merged: merged
        self.answer = _reply

    def _line(self, silo: NodeId) -> Channel:
        return cast(Channel, BentLine(super()._line(silo), silo, self.carry))

    async def _gather(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        self._keep("search", decode(Gather, body).envelope)
        return await self.answer("gather", await super()._gather(peer, body, timeout_s))

    async def _collect(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        self._keep("release", decode(Collect, body).envelope)
        reply = await super()._collect(peer, body, timeout_s)
        self._keep("passages", reply)
        return await self.answer("collect", reply)

    async def _profiles(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return await self.answer("profiles", await super()._profiles(peer, body, timeout_s))

    async def _publish(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        if body:
            self._keep("profile", body)
        return await super()._publish(peer, body, timeout_s)

    def _merged(self, header: Header, heard: Sequence[Heard], size: int) -> MergeReply:
        self.heard[QueryId(header.id)] = heard
        merged = self.bend(super()._merged(header, heard, size))
        self.merges.append(merged)
        return merged

    def _keep(self, kind: Kind, envelope: bytes) -> None:
        self.envelopes.setdefault(kind, []).append(envelope)

    def kept(self, kind: Kind) -> list[bytes]:
        """Envelopes of one kind in the order in which they passed."""
        return self.envelopes.get(kind, [])

    def latest(self, kind: Kind, node: NodeId) -> bytes:
        """The last envelope of one kind that ``node`` sent or was sent."""
        for envelope in reversed(self.kept(kind)):
            header = envelopes.read_header(envelope)
            if node in (header.sender, *header.recipients):
                return envelope
        raise AssertionError(f"no {kind} of {node} passed")

    def offered(self, silo: NodeId, query_id: QueryId) -> list[Handle]:
        """Every handle that ``silo`` offered for a question."""
        replies = [item.reply for item in self.heard[query_id] if item.reply]
        return [hit.handle for reply in replies if reply.silo == silo for hit in reply.hits]

    def ticket(self, like: Signed, signer: Identity | None = None, **changes: Any) -> Signed:
        """``like`` with changes, signed by the hub or by another key under the hub's name."""
        if "handles" in changes and "claims" not in changes:
            claims = self._claims()
            changes["claims"] = tuple(claims.get(handle, 0.0) for handle in changes["handles"])
        paper = replace(decode(Ticket, like.body), **changes)
        return replace((signer or self.identity).sign("ticket", paper), signer=HUB)

    def _claims(self) -> dict[Handle, float]:
        replies = [item.reply for heard in self.heard.values() for item in heard if item.reply]
        return {hit.handle: hit.dense for reply in replies for hit in reply.hits}

    def profiles_as(self, change: Callable[[bytes], bytes]) -> None:
        """Hand gateways every profile changed."""

        async def answer(method: str, reply: bytes) -> bytes:
            if method != "profiles":
                return reply
            return encode(Profiles(tuple(map(change, decode(Profiles, reply).envelopes))))

        self.answer = answer

    async def tell(self, node: NodeId, method: str, body: bytes) -> bytes:
        """Call a node of its own accord."""
        return await self.lines[node].call(method, body, WAIT_S)

    async def push(self, node: NodeId, roster: SignedRoster) -> None:
        """Push a roster on a node."""
        await self.tell(node, "roster", rosters.to_bytes(roster))


# -- honest nodes ---------------------------------------------------------------------------------


class Clock:
    """The time of all nodes, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        """Unix time in milliseconds."""
        return compose.now_ms() + self.ahead_ms


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
        return rosters.load(self.folder / compose.ROSTER_FILE)

    async def start(self) -> None:
        """Everything from disk, as after a restart."""
        self.store = Store(self.folder / "silo.sqlite")
        pinned = Pinned(self.folder / compose.ROSTER_FILE)
        searcher = Searcher(self.store, DIMENSION)
        self.node = SiloNode(
            self.store, searcher, self.identity, pinned, self._policy, self._town.clock
        )
        link, spec = self._town.link, WordEmbedder.spec
        handlers = dict(self.node.handlers())
        self.line = compose.uplink(link, self.identity, spec, pinned, handlers, self._publish)
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
            rosters.save(self.roster, folder / node / compose.ROSTER_FILE)
        self.pinned = Pinned(folder / WARD / compose.ROSTER_FILE)
        hub_pinned = Pinned(folder / HUB / compose.ROSTER_FILE)
        self.registry = Registry(folder / HUB / "hub.sqlite")
        self.hub = MaliciousHub(self.identities[HUB], hub_pinned, self.registry, self.clock)

    def _people(self) -> dict[NodeId, Identity]:
        hub = compose.init_hub(self.folder / HUB, HUB, "operator", self.settings)
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
        self.line = compose.uplink(self.link, identity, embedder.spec, self.pinned, {}, _no_news)
        self._running = asyncio.create_task(self.line.run())
        self.gateway = Gateway(
            identity,
            self.pinned,
            RemoteHub(self.line),
            embedder,
            lexicon(),
            BaselineRouter(0.95),
            Quoter(),
            Versions(folder / "profiles.sqlite"),
            HeadBook(folder / "heads.sqlite"),
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


def sham(name: str, role: Role, hub: Identity) -> Identity:
    """An identity that the hub made up, sealed to the hub's own key."""
    made = identities.create(name, role, "sham")
    card = replace(made.card, sealing_key=hub.card.sealing_key, proof=b"")
    proof = identities.sign(made.signing, "card", encode(card))
    return Identity(replace(card, proof=proof), made.signing, hub.sealing)


# -- searching what was captured ------------------------------------------------------------------

WINDOW = 16


def text_leaks(captured: bytes, secrets: Iterable[str]) -> list[str]:
    """Those of ``secrets`` that stand in ``captured``, in any case, UTF-8 or UTF-16."""
    low = captured.lower()
    return [
        secret
        for secret in secrets
        if secret.lower().encode() in low or secret.lower().encode("utf-16-le") in low
    ]


def vector_leaks(captured: bytes, vectors: Vector) -> list[str]:
    """Encodings in which any part of any of the vectors stands in ``captured``.

    raw       16 bytes of little-endian float32 at any offset
    base64    of any 12 bytes, at each of the three alignments
    decimal   any component to four digits
    """
    raw = [row.astype("<f4").tobytes() for row in vectors]
    found = []
    if _windows(captured, WINDOW) & {w for row in raw for w in _windows(row, WINDOW)}:
        found.append("raw")
    if _windows(captured, WINDOW) & {w for row in raw for w in _base64_windows(row)}:
        found.append("base64")
    printed = {match[:7] for match in re.findall(rb"0\.\d{5,}", captured)}
    if printed & {f"{abs(value):.12f}"[:7].encode() for value in vectors.ravel()}:
        found.append("decimal")
    return found


def _windows(data: bytes, size: int) -> set[bytes]:
    return {data[i : i + size] for i in range(len(data) - size + 1)}


def _base64_windows(row: bytes) -> set[bytes]:
    # 12 bytes are 16 characters: whole groups of three, whatever stands before the vector.
    return {base64.b64encode(row[start : start + 12]) for start in range(len(row) - 11)}


def stored_vectors(town: Town) -> Vector:
    """Every passage vector of every silo."""
    return np.concatenate([site.store.vectors()[1] for site in town.sites.values()])


def files_of(folder: Path) -> bytes:
    """All bytes of all files below ``folder``."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
