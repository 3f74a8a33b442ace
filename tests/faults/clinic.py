"""A silo with its gateway and hub in one process; whoever comes next can go on from the folder.

What it is asked, and what leaves it, is written to the folder at once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from siloquy.codec import decode
from siloquy.settings import ProfileSettings, ReleasePolicy
from siloquy.silo_node.store import Store
from siloquy.text.lexicon import Lexicon
from siloquy.trust import identity as identities
from siloquy.trust import ledger
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT, TICKET_CONTEXT
from siloquy.types import (
    NodeId,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SearchReply,
    SearchRequest,
    Term,
    Ticket,
)
from siloquy.wire import envelope as envelopes
from tests.silo_node.hospital import (
    PLAIN,
    Clock,
    Hospital,
    WordEmbedder,
    document,
    open_hospital,
)
from tests.siloquy.federation import Federation, new_federation

NORTH, WARD = NodeId("north"), NodeId("ward")
K = 3
DOCUMENTS = [
    document(f"leaf-{n}.md", f"Give oxygen to ward {n} and write it down.", f"Leaf {n}")
    for n in range(12)
]
POLICY = ReleasePolicy(gateways=(WARD,), passages_per_day=1_000_000)
PEOPLE = ("north", "south", "ward", "hub")


def save_people(folder: Path) -> Federation:
    """A new federation, kept in ``folder``."""
    federation = new_federation()
    for name in PEOPLE:
        identities.save(getattr(federation, name), folder / "people" / name)
    rosters.save(federation.roster, folder / "people" / "roster.json")
    return federation


def load_people(folder: Path) -> Federation:
    """The federation that is kept in ``folder``."""
    north, south, ward, hub = (identities.load(folder / "people" / name) for name in PEOPLE)
    return Federation(north, south, ward, hub, rosters.load(folder / "people" / "roster.json"))


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's envelopes; ``release`` is empty when it did not come to that."""

    search: bytes
    release: bytes


class Clinic:
    """North's silo, opened from ``folder`` as after a restart.

    notes   where what was asked and what left is written, else in ``folder``
    """

    def __init__(
        self, folder: Path, notes: Path | None = None, profile: ProfileSettings = PLAIN
    ) -> None:
        self.folder = notes or folder
        self.federation = load_people(folder)
        self.clock = Clock()
        self.hospital: Hospital = open_hospital(
            folder,
            self.federation.north,
            self.federation.roster,
            DOCUMENTS,
            POLICY,
            self.clock,
            profile,
        )
        self.hospital.store.connection.execute("PRAGMA synchronous = FULL")

    @property
    def store(self) -> Store:
        """The silo's."""
        return self.hospital.store

    async def answer(self, count: int) -> None:
        """Ask ``count`` questions and for what each of them won."""
        for _ in range(count):
            await self.ask()

    async def ask(self) -> ReleaseReply:
        """One question; what leaves the silo is noted when it has left."""
        number = next(n for n in itertools.count() if not self._file(n, "search").exists())
        query_id = QueryId(os.urandom(16))
        envelope = self.question(query_id)
        self._keep(number, "search", envelope)
        signed = await self.hospital.node.search(envelope)
        body = rosters.open_signed(self.federation.roster, signed, REPLY_CONTEXT, "silo")
        reply = decode(SearchReply, body)
        assert reply.refusal is None, reply.refusal
        envelope = self._seal("release", query_id, self._request(reply))
        self._keep(number, "release", envelope)
        data = await self.hospital.node.release(envelope)
        self._keep(number, "left", data)
        return self.opened(data)

    def question(self, query_id: QueryId | None = None) -> bytes:
        """A sealed question."""
        vector = WordEmbedder().encode(["Give oxygen"])[0]
        terms = (Term("oxygen", 2.0),)
        request = SearchRequest(vector, terms, K, "passage", 10, "treatment", "dr 7")
        return self._seal("search", query_id or QueryId(os.urandom(16)), request)

    def profile(self) -> None:
        """Make a profile; its number is noted."""
        lexicon = Lexicon(("oxygen", "ward"), {"oxygen": 0, "ward": 1})
        (self.folder / "profile").write_bytes(self.hospital.node.profile(lexicon))

    def opened(self, data: bytes) -> ReleaseReply:
        """The passages in an envelope that left."""
        roster = self.federation.roster
        received = envelopes.receive(data, roster, role="silo", kind="passages", now=self.clock())
        return envelopes.open_body(received, self.federation.ward, ReleaseReply)

    def asked(self) -> Iterator[Asked]:
        """What was asked of the silo so far."""
        for path in sorted(self.folder.glob("*.search")):
            release = path.with_suffix(".release")
            yield Asked(path.read_bytes(), release.read_bytes() if release.exists() else b"")

    def left(self) -> list[str]:
        """Ids of all passages that have left so far."""
        files = sorted(self.folder.glob("*.left"))
        replies = [self.opened(path.read_bytes()) for path in files]
        return [passage.id for reply in replies for passage in reply.passages]

    def entered(self) -> list[str]:
        """Ids of all passages that the ledger, whose chain holds, says have left."""
        ledger.check(self.store.connection)
        entries = ledger.entries(self.store.connection)
        return [passage for entry in entries for passage in entry.passages]

    def spent(self) -> int:
        """Passages that the budget says have left."""
        (total,) = self.store.connection.execute("SELECT sum(passages) FROM spent").fetchone()
        return int(total or 0)

    def _keep(self, number: int, kind: str, data: bytes) -> None:
        """Whole or not at all: a kill in the middle of the writing is none of what is tested."""
        path = self._file(number, kind)
        unfinished = path.with_suffix(f".{kind}-unfinished")
        unfinished.write_bytes(data)
        unfinished.rename(path)

    def _file(self, number: int, kind: str) -> Path:
        return self.folder / f"{number:04d}.{kind}"

    def _seal(self, kind: envelopes.Kind, query_id: QueryId, value: object) -> bytes:
        return envelopes.seal(
            self.federation.ward,
            [self.federation.north.card],
            kind,
            query_id,
            value,
            roster=self.federation.roster,
            now=self.clock(),
            lifetime_ms=60_000,
            k=K if kind == "search" else 0,
        )

    def _request(self, reply: SearchReply) -> ReleaseRequest:
        hits = reply.hits[:K]
        handles = tuple(hit.handle for hit in hits)
        claims = tuple(hit.dense for hit in hits)
        lexical = tuple(hit.lexical for hit in hits)
        expires = self.clock() + 60_000
        ticket = Ticket(reply.query_id, WARD, NORTH, handles, claims, lexical, K, expires)
        return ReleaseRequest(self.federation.hub.sign(TICKET_CONTEXT, ticket), handles)
