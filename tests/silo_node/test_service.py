"""A silo in process: what it answers to an approved gateway, and what it refuses anybody."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError
from siloquy.sealed import scoring as sealed
from siloquy.sealed.handles import KEY_BYTES, handles_of
from siloquy.sealed.scoring import SecretKey, seal_query
from siloquy.sealed.wire import (
    BLOCK_BYTES,
    CIPHERTEXT_BYTES,
    MOST_OFFSET,
    pack,
    query_bytes,
    unpack,
)
from siloquy.settings import AUDIT_PURPOSE, ProfileSettings, ReleasePolicy
from siloquy.silo_node import pause
from siloquy.silo_node.guards import RowPlaces
from siloquy.silo_node.ingest import remove
from siloquy.silo_node.release import day_of
from siloquy.silo_node.service import QUESTION_LIFETIME_MS, sealing_of
from siloquy.silo_node.store import Store
from siloquy.text.lexicon import Lexicon
from siloquy.trust import ledger
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT, SEALING_CONTEXT, TICKET_CONTEXT, Identity
from siloquy.types import (
    Handle,
    Member,
    Mode,
    NodeId,
    Profile,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SealedRequest,
    Sealing,
    SealingKey,
    SearchReply,
    SearchRequest,
    SignedMessage,
    Term,
    Ticket,
)
from siloquy.watch import metric_parts
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import MOST_DEPTH, MOST_K, MOST_TERMS
from siloquy.wire.envelope import Kind
from tests.silo_node.hospital import (
    PLAIN,
    POLICY,
    Clock,
    Hospital,
    WordEmbedder,
    document,
    fill,
    open_hospital,
    open_store,
)
from tests.siloquy.federation import ENCODER, NOW, Federation, signed
from tests.siloquy.scrape import Scraped

WARD, NORTH = NodeId("ward"), NodeId("north")
DOCUMENTS = [
    document("sepsis.md", "Give antibiotics within the hour.", "Sepsis"),
    document("stroke.md", "Image the head within the hour.", "Stroke"),
    document("asthma.md", "Give oxygen and salbutamol.", "Asthma"),
]
SECRET = "metronidazole"


@dataclass(slots=True)
class Ask:
    """A question of ward to north; a test changes one thing of it."""

    text: str = "Give oxygen"
    terms: Sequence[Term] = (Term("oxygen", 2.0),)
    k: int = 3
    depth: int = 10
    purpose: str = "treatment"
    header: dict[str, Any] = field(default_factory=dict)

    def request(self) -> SearchRequest:
        vector = WordEmbedder().encode([self.text])[0]
        return SearchRequest(
            vector, tuple(self.terms), self.k, "passage", self.depth, self.purpose, "dr 7"
        )


class Desk:
    """North's silo with a gateway and a hub that talk to it."""

    def __init__(self, folder: Path, federation: Federation) -> None:
        self.folder = folder
        self.federation = federation
        self.clock = Clock()
        self.hospital = self.start()

    def start(self, policy: ReleasePolicy = POLICY, profile: ProfileSettings = PLAIN) -> Hospital:
        """North again, as after a restart."""
        self.hospital = open_hospital(
            self.folder,
            self.federation.north,
            self.federation.roster,
            DOCUMENTS,
            policy,
            self.clock,
            profile,
        )
        return self.hospital

    def seal(
        self,
        value: object,
        kind: Kind = "search",
        query_id: bytes | None = None,
        sender: Identity | None = None,
        recipients: Sequence[Member] | None = None,
        **header: Any,
    ) -> bytes:
        return envelopes.seal(
            sender or self.federation.ward,
            recipients or [self.federation.north.card],
            kind,
            query_id or os.urandom(16),
            value,
            roster=self.federation.roster,
            now=header.pop("now", self.clock()),
            lifetime_ms=header.pop("lifetime_ms", 60_000),
            **header,
        )

    def envelope(self, ask: Ask) -> bytes:
        header: dict[str, Any] = {"k": ask.k, "unit": "passage"} | ask.header
        return self.seal(ask.request(), **header)

    async def search(self, envelope: bytes) -> SearchReply:
        """The reply, its signature checked."""
        answer = await self.hospital.node.search(envelope)
        body = rosters.open_signed(self.federation.roster, answer, REPLY_CONTEXT, "silo")
        assert answer.signer == NORTH
        return decode(SearchReply, body)

    async def refusal(self, ask: Ask | bytes) -> tuple[str, str]:
        """Why the silo did not answer."""
        reply = await self.search(self.envelope(ask) if isinstance(ask, Ask) else ask)
        assert reply.refusal is not None
        assert (reply.hits, reply.silo, reply.refusal.silo) == ((), NORTH, NORTH)
        return reply.refusal.reason, reply.refusal.detail

    def ticket(
        self, reply: SearchReply, signer: Identity | None = None, **other: Any
    ) -> SignedMessage:
        paper = Ticket(
            reply.query_id,
            WARD,
            NORTH,
            tuple(hit.handle for hit in reply.hits),
            tuple(hit.dense for hit in reply.hits),
            tuple(hit.lexical for hit in reply.hits),
            3,
            self.clock() + 60_000,
        )
        return (signer or self.federation.hub).sign(TICKET_CONTEXT, replace(paper, **other))

    async def release(
        self, reply: SearchReply, handles: Sequence[Handle], ticket: SignedMessage, **header: Any
    ) -> ReleaseReply:
        request = ReleaseRequest(ticket, tuple(handles))
        header = {"query_id": reply.query_id} | header
        sealed = await self.hospital.node.release(self.seal(request, "release", **header))
        received = envelopes.receive(
            sealed, self.federation.roster, role="silo", kind="passages", now=self.clock()
        )
        assert received.header.id == reply.query_id
        return envelopes.open_body(received, self.federation.ward, ReleaseReply)

    def spent(self) -> int:
        (row,) = self.hospital.store.connection.execute("SELECT sum(passages) FROM spent")
        return int(row[0] or 0)


@pytest.fixture
def desk(tmp_path: Path, federation: Federation) -> Iterator[Desk]:
    made = Desk(tmp_path, federation)
    with closing(made.hospital.store):
        yield made


def handles(reply: SearchReply) -> list[Handle]:
    return [hit.handle for hit in reply.hits]


# -- phase 1 --------------------------------------------------------------------------------------


async def test_a_question_gets_signed_hits_without_text(desk: Desk) -> None:
    reply = await desk.search(desk.envelope(Ask()))
    assert (reply.silo, reply.refusal, len(reply.hits)) == (NORTH, None, 3)
    assert reply.hits[0].dense == max(hit.dense for hit in reply.hits)
    assert [hit.lexical > 0 for hit in reply.hits] == [True, False, False]
    assert b"salbutamol" not in encode(reply)
    assert b"asthma.md" not in encode(reply)


async def test_handles_and_tags_mean_nothing_outside_the_question(desk: Desk) -> None:
    first, second = [await desk.search(desk.envelope(Ask())) for _ in range(2)]
    seen = [hit.handle for reply in (first, second) for hit in reply.hits]
    tags = [hit.tag for reply in (first, second) for hit in reply.hits]
    assert (len(set(seen)), len(set(tags))) == (6, 6)
    assert {len(handle) for handle in seen} == {16}


async def test_passages_of_one_document_share_their_tag(desk: Desk) -> None:
    with closing(desk.start().store) as store:
        fill(store, [document("long.md", "Give oxygen by mask. " * 12)])
    desk.start()
    reply = await desk.search(desk.envelope(Ask(k=10)))
    tags = [hit.tag for hit in reply.hits]
    assert len(set(tags)) == 4 < len(tags)


async def test_a_question_is_answered_once_even_after_a_restart(desk: Desk) -> None:
    envelope = desk.envelope(Ask())
    assert (await desk.search(envelope)).hits
    replay = ("integrity", "this question was asked before: a replay")
    assert await desk.refusal(envelope) == replay
    desk.hospital.store.close()
    desk.start()
    assert await desk.refusal(envelope) == replay


async def test_what_was_seen_is_forgotten_once_it_could_not_be_replayed(desk: Desk) -> None:
    envelope = desk.envelope(Ask())
    await desk.search(envelope)
    desk.clock.now += 60_001
    assert (await desk.refusal(envelope))[0] == "integrity"
    await desk.search(desk.envelope(Ask()))
    rows = desk.hospital.store.connection.execute("SELECT count(*) FROM seen").fetchone()
    assert rows == (1,)


async def test_a_question_for_another_silo_is_refused(desk: Desk) -> None:
    ask = Ask(header={"recipients": [desk.federation.south.card]})
    reason, detail = await desk.refusal(ask)
    assert (reason, "not addressed to north" in detail) == ("refused", True)


@pytest.mark.parametrize(
    ("k", "depth"),
    [(0, 10), (-1, 10), (MOST_K + 1, MOST_DEPTH), (3, 2), (3, MOST_DEPTH + 1)],
)
async def test_k_and_depth_out_of_range_are_refused(desk: Desk, k: int, depth: int) -> None:
    assert await desk.refusal(Ask(k=k, depth=depth)) == (
        "incompatible",
        "k must be 1 to 100 and depth k to 200",
    )


@pytest.mark.parametrize(("k", "depth"), [(1, 1), (MOST_K, MOST_K), (MOST_K, MOST_DEPTH)])
async def test_k_and_depth_at_their_limits_are_answered(desk: Desk, k: int, depth: int) -> None:
    assert (await desk.search(desk.envelope(Ask(k=k, depth=depth)))).refusal is None


@pytest.mark.parametrize("header", [{"k": 4}, {"unit": "document"}])
async def test_a_header_that_says_other_than_the_letter_is_refused(
    desk: Desk, header: dict[str, Any]
) -> None:
    reason, detail = await desk.refusal(Ask(header=header))
    assert (reason, "differ from its header" in detail) == ("integrity", True)


@pytest.mark.parametrize(
    "word",
    [
        "",
        'oxy"gen',
        "oxygen OR give",
        "title:oxygen",
        "oxy*",
        "^oxygen",
        "a-b",
        "a'b",
        "x" * 65,
        " ",
        "\n",
        "é́",
    ],
    ids=ascii,
)
async def test_a_term_that_is_no_word_is_refused(desk: Desk, word: str) -> None:
    reason, detail = await desk.refusal(Ask(terms=[Term(word, 1.0)]))
    assert (reason, detail) == (
        "integrity",
        "a query term is no word, or its weight is out of range",
    )


@pytest.mark.parametrize("word", ["AND", "OR", "NOT", "NEAR", "_", "title", "x" * 64, "ärzte", "5"])
async def test_words_of_the_index_language_are_words(desk: Desk, word: str) -> None:
    assert (await desk.search(desk.envelope(Ask(terms=[Term(word, 1.0)])))).refusal is None


async def test_a_negative_weight_is_refused(desk: Desk) -> None:
    assert (await desk.refusal(Ask(terms=[Term("oxygen", -0.1)])))[0] == "integrity"


async def test_too_many_terms_are_refused(desk: Desk) -> None:
    terms = [Term(f"word{i}", 1.0) for i in range(MOST_TERMS + 1)]
    assert await desk.refusal(Ask(terms=terms)) == ("incompatible", "65 query terms, at most 64")
    assert (await desk.search(desk.envelope(Ask(terms=terms[1:])))).refusal is None


async def test_a_vector_of_another_encoder_is_refused(desk: Desk) -> None:
    request = replace(Ask().request(), vector=np.eye(5, dtype=np.float32)[0])
    assert (await desk.refusal(desk.seal(request, k=3)))[0] == "incompatible"


@pytest.mark.parametrize(
    "length",
    [
        0.0,
        0.9,
        5.0,
        1e38,
    ],
)
async def test_a_vector_that_is_not_of_unit_length_is_refused(desk: Desk, length: float) -> None:
    request = Ask().request()
    wild = replace(request, vector=np.float32(length) * request.vector)
    assert await desk.refusal(desk.seal(wild, k=3)) == (
        "integrity",
        "the query vector is not of unit length",
    )


async def test_an_expired_question_is_refused(desk: Desk) -> None:
    envelope = desk.envelope(Ask())
    desk.clock.now += 60_001
    reason, detail = await desk.refusal(envelope)
    assert (reason, "expired" in detail) == ("integrity", True)


async def test_a_question_from_the_future_is_refused(desk: Desk) -> None:
    reason, detail = await desk.refusal(Ask(header={"now": NOW + 31_000}))
    assert (reason, "ahead" in detail) == ("integrity", True)


async def test_a_release_envelope_is_no_question(desk: Desk) -> None:
    assert (await desk.refusal(desk.seal(Ask().request(), "release", k=3)))[0] == "integrity"


async def test_a_letter_that_holds_something_else_is_refused(desk: Desk) -> None:
    assert (await desk.refusal(desk.seal(Term("oxygen", 1.0), k=3)))[0] == "integrity"


async def test_a_silo_may_not_ask(desk: Desk) -> None:
    reason, detail = await desk.refusal(desk.seal(Ask().request(), sender=desk.federation.south))
    assert (reason, "as gateway" in detail) == ("refused", True)


async def test_a_gateway_that_is_not_approved_is_refused(desk: Desk) -> None:
    desk.start(ReleasePolicy())
    reason, detail = await desk.refusal(Ask())
    assert (reason, "not among the gateways" in detail) == ("refused", True)


async def test_a_purpose_that_is_not_accepted_is_refused(desk: Desk) -> None:
    reason, detail = await desk.refusal(Ask(purpose="marketing"))
    assert (reason, detail) == ("refused", "the purpose of use is not accepted here")


async def test_a_spent_budget_is_refused_before_anything_is_searched(desk: Desk) -> None:
    desk.start(replace(POLICY, passages_per_day=0))
    reason, detail = await desk.refusal(Ask())
    assert (reason, "0 passages" in detail) == ("refused", True)


async def test_an_unreadable_envelope_is_an_error(desk: Desk) -> None:
    with pytest.raises(IntegrityError):
        await desk.hospital.node.search(b"no envelope")


async def test_nothing_of_the_question_is_said_or_logged(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    asks = [
        Ask(SECRET, terms=[Term(f'{SECRET}"', 1.0)]),
        Ask(SECRET, purpose=SECRET),
        Ask(SECRET, k=0),
    ]
    details = [(await desk.refusal(ask))[1] for ask in asks]
    assert "search refused" in caplog.text
    assert SECRET not in caplog.text + " ".join(details)


# -- phase 2 --------------------------------------------------------------------------------------


async def test_winners_are_released_to_the_gateway_that_asked(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    reply = await desk.release(found, handles(found)[:2], desk.ticket(found))
    assert [passage.handle for passage in reply.passages] == handles(found)[:2]
    assert reply.passages[0].text == "Give oxygen and salbutamol."
    assert (reply.passages[0].dense, reply.passages[0].lexical) == (
        found.hits[0].dense,
        found.hits[0].lexical,
    )
    assert (reply.withheld, desk.spent()) == (0, 2)


async def test_nobody_else_opens_the_passages(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    request = ReleaseRequest(desk.ticket(found), tuple(handles(found)))
    sealed = await desk.hospital.node.release(
        desk.seal(request, "release", query_id=found.query_id)
    )
    received = envelopes.receive(
        sealed, desk.federation.roster, role="silo", kind="passages", now=NOW
    )
    assert received.header.recipients == (WARD,)
    assert b"salbutamol" not in sealed
    with pytest.raises(PolicyDenied):
        envelopes.open_body(received, desk.federation.hub, ReleaseReply)


async def test_a_handle_is_good_once(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    first, second, _ = handles(found)
    await desk.release(found, [first], desk.ticket(found))
    with pytest.raises(PolicyDenied, match="used before"):
        await desk.release(found, [second, first], desk.ticket(found))
    reply = await desk.release(found, [second], desk.ticket(found))
    assert (len(reply.passages), desk.spent()) == (1, 2)


async def test_of_two_releases_at_once_only_one_gets_the_passage(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    results = await asyncio.gather(
        *(desk.release(found, handles(found)[:1], desk.ticket(found)) for _ in range(4)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == [
        *["PolicyDenied"] * 3,
        "ReleaseReply",
    ]
    assert desk.spent() == 1


async def test_a_refused_release_uses_no_handle_up(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    with pytest.raises(PolicyDenied):
        await desk.release(found, handles(found)[:1], desk.ticket(found, expires=NOW - 1))
    assert await desk.release(found, handles(found)[:1], desk.ticket(found))


Spoil = Callable[[Desk, SearchReply], SignedMessage]
TICKETS: list[tuple[Spoil, type[SiloquyError], str]] = [
    (
        lambda desk, found: desk.ticket(found, silo=NodeId("south")),
        IntegrityError,
        "another question or silo",
    ),
    (
        lambda desk, found: desk.ticket(found, query_id=QueryId(bytes(16))),
        IntegrityError,
        "another question or silo",
    ),
    (lambda desk, found: desk.ticket(found, gateway=NORTH), IntegrityError, "another question"),
    (lambda desk, found: desk.ticket(found, k=100), IntegrityError, "another question"),
    (
        lambda desk, found: desk.ticket(found, handles=(), claims=(), lexical=()),
        IntegrityError,
        "not on the ticket",
    ),
    (
        lambda desk, found: desk.ticket(found, claims=(1.0,) * 3),
        IntegrityError,
        "another similarity",
    ),
    (
        lambda desk, found: desk.ticket(found, lexical=(9.0,) * 3),
        IntegrityError,
        "another similarity or word score",
    ),
    (lambda desk, found: desk.ticket(found, expires=NOW - 1), PolicyDenied, "expired"),
    (lambda desk, found: desk.ticket(found, desk.federation.ward), PolicyDenied, "as hub"),
    (
        lambda desk, found: replace(desk.ticket(found), body=desk.ticket(found, k=9).body),
        IntegrityError,
        "signature of ticket",
    ),
    (
        lambda desk, found: desk.federation.hub.sign(
            "other", decode(Ticket, desk.ticket(found).body)
        ),
        IntegrityError,
        "signature of ticket",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    TICKETS,
    ids=[
        "another silo's",
        "another question's",
        "another gateway's",
        "another k",
        "other handles",
        "other claims",
        "other word scores",
        "expired",
        "not the hub's",
        "changed",
        "signed as something else",
    ],
)
async def test_a_ticket_that_does_not_fit_releases_nothing(
    desk: Desk, spoil: Spoil, error: type[SiloquyError], words: str
) -> None:
    found = await desk.search(desk.envelope(Ask()))
    with pytest.raises(error, match=words):
        await desk.release(found, handles(found)[:1], spoil(desk, found))
    assert (desk.spent(), ledger.check(desk.hospital.store.connection)) == (0, 0)


async def test_a_ticket_in_an_envelope_of_another_question_is_refused(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    with pytest.raises(IntegrityError, match="another question or silo"):
        await desk.release(found, handles(found), desk.ticket(found), query_id=os.urandom(16))


async def test_more_handles_than_k_are_refused(desk: Desk) -> None:
    # The nearest and the one with the word: either may be the best of all silos.
    found = await desk.search(desk.envelope(Ask("asthma", (Term("hour", 9.0),), k=1)))
    assert len(found.hits) > 1
    with pytest.raises(PolicyDenied, match="more than k = 1"):
        await desk.release(found, handles(found), desk.ticket(found, k=1))


@pytest.mark.parametrize(
    ("lifetime_ms", "open_ms"), [(60_000, 60_000), (900_000, QUESTION_LIFETIME_MS)]
)
async def test_a_question_is_open_while_its_envelope_lives_for_two_minutes_at_most(
    desk: Desk, lifetime_ms: int, open_ms: int
) -> None:
    found = await desk.search(desk.envelope(Ask(header={"lifetime_ms": lifetime_ms})))
    desk.clock.now += open_ms
    await desk.release(found, handles(found)[:1], desk.ticket(found))
    desk.clock.now += 1
    with pytest.raises(PolicyDenied, match="expired"):
        await desk.release(found, handles(found)[1:], desk.ticket(found))
    await desk.search(desk.envelope(Ask()))
    with pytest.raises(PolicyDenied, match="no such open question"):
        await desk.release(found, handles(found)[1:], desk.ticket(found))


async def test_no_question_stays_open_over_a_restart(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    desk.hospital.store.close()
    desk.start()
    with pytest.raises(PolicyDenied, match="no such open question"):
        await desk.release(found, handles(found), desk.ticket(found))


async def test_a_policy_that_changed_since_the_question_counts(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    questions = desk.hospital.node._questions
    desk.hospital.store.close()
    desk.start(ReleasePolicy()).node._questions = questions
    with pytest.raises(PolicyDenied, match="not among the gateways"):
        await desk.release(found, handles(found), desk.ticket(found))


async def test_a_refused_release_is_logged_without_text(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    found = await desk.search(desk.envelope(Ask(SECRET)))
    with pytest.raises(PolicyDenied):
        await desk.release(found, handles(found), desk.ticket(found, expires=NOW - 1))
    assert "release refused sender=ward code=denied" in caplog.text
    assert "salbutamol" not in caplog.text


# -- audits ---------------------------------------------------------------------------------------


async def test_a_search_to_check_the_profile_is_answered_and_nothing_is_released_for_it(
    desk: Desk,
) -> None:
    reply = await desk.search(desk.envelope(Ask(purpose=AUDIT_PURPOSE)))
    assert len(reply.hits) == 3
    with pytest.raises(PolicyDenied, match="audit"):
        await desk.release(reply, handles(reply), desk.ticket(reply))
    assert list(ledger.entries(desk.hospital.store.connection)) == []


async def test_a_silo_that_does_not_accept_audits_refuses_them(desk: Desk) -> None:
    desk.hospital.store.close()
    desk.start(replace(POLICY, purposes=("treatment",)))
    reason, _ = await desk.refusal(Ask(purpose=AUDIT_PURPOSE))
    assert reason == "refused"


# -- paused ---------------------------------------------------------------------------------------

PAUSED = ("refused", "paused by its hospital")


@contextmanager
def paused(desk: Desk) -> Iterator[None]:
    """Paused inside, by another process."""
    with closing(Store(desk.folder / "silo.sqlite")) as other:
        pause.begin(other.connection, desk.clock(), "anna", SECRET)
        yield
        pause.end(other.connection, desk.clock(), "anna")


async def test_a_paused_silo_refuses_every_question_until_it_is_resumed(desk: Desk) -> None:
    with paused(desk):
        assert await desk.refusal(Ask()) == PAUSED
        assert await desk.refusal(Ask(purpose=AUDIT_PURPOSE)) == PAUSED
    assert (await desk.search(desk.envelope(Ask()))).hits


async def test_a_pause_survives_a_restart(desk: Desk) -> None:
    with paused(desk):
        desk.hospital.store.close()
        desk.start()
        assert await desk.refusal(Ask()) == PAUSED


async def test_what_was_asked_before_a_pause_is_not_released_in_it(desk: Desk) -> None:
    found = await desk.search(desk.envelope(Ask()))
    with paused(desk):
        with pytest.raises(PolicyDenied, match="paused by its hospital"):
            await desk.release(found, handles(found), desk.ticket(found))
        assert (desk.spent(), ledger.check(desk.hospital.store.connection)) == (0, 0)
    assert len((await desk.release(found, handles(found), desk.ticket(found))).passages) == 3


async def test_a_question_that_a_pause_overtakes_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = desk.hospital.node._searcher
    search = searcher.search
    with paused(desk), closing(Store(desk.folder / "silo.sqlite")) as other:
        pause.end(other.connection, NOW, "anna")

        def overtaken(request: SearchRequest) -> Any:
            pause.begin(other.connection, NOW, "anna", "")
            return search(request)

        monkeypatch.setattr(searcher, "search", overtaken)
        assert await desk.refusal(Ask()) == PAUSED


async def test_a_pause_is_seen_within_another_thread_s_snapshot(desk: Desk) -> None:
    store, inside, leave = desk.hospital.store, threading.Event(), threading.Event()

    def hold() -> None:
        with store.snapshot():
            store.counts()
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(5)
    with paused(desk):
        asked = asyncio.create_task(desk.refusal(Ask()))
        await asyncio.sleep(0.05)
        leave.set()
        assert await asked == PAUSED
        thread.join()


async def test_why_a_silo_is_paused_is_neither_told_nor_logged(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with paused(desk):
        assert SECRET not in repr(await desk.search(desk.envelope(Ask())))
    assert "search refused sender='ward' code=denied" in caplog.text
    assert SECRET not in caplog.text


# -- profile and roster ---------------------------------------------------------------------------

LEXICON = Lexicon(("give", "oxygen"), {"give": 0, "oxygen": 1})


def opened(desk: Desk, sealed: bytes) -> Profile:
    received = envelopes.receive(
        sealed, desk.federation.roster, role="silo", kind="profile", now=NOW
    )
    return envelopes.open_body(received, desk.federation.ward, Profile)


def test_the_profile_is_sealed_to_the_gateways_that_were_approved(desk: Desk) -> None:
    sealed = desk.hospital.node.profile(LEXICON)
    assert envelopes.read_header(sealed).recipients == (WARD,)
    assert (opened(desk, sealed).silo, opened(desk, sealed).size) == (NORTH, 3)


def test_every_profile_has_a_higher_version_restarts_included(desk: Desk) -> None:
    versions = [opened(desk, desk.hospital.node.profile(LEXICON)).version for _ in range(2)]
    desk.hospital.store.close()
    versions.append(opened(desk, desk.start().node.profile(LEXICON)).version)
    assert versions == [1, 2, 3]


def test_without_approved_gateways_there_is_no_profile(desk: Desk) -> None:
    assert desk.start(replace(POLICY, gateways=("elsewhere",))).node.profile(LEXICON) == b""


def test_the_content_version_changes_with_the_documents_and_the_roster(desk: Desk) -> None:
    node = desk.hospital.node
    first = node.content_version()
    assert node.content_version() == first
    with closing(open_store(desk.folder / "silo.sqlite")) as store:
        fill(store, [document("new.md", "Call for help.")])
    second = node.content_version()
    assert second != first
    node._pinned.follow(rosters.to_bytes(next_roster(desk.federation)))
    assert node.content_version() != second


def test_the_content_version_changes_with_a_noised_profile_that_was_made(desk: Desk) -> None:
    desk.hospital.store.close()
    node = desk.start(profile=ProfileSettings()).node
    first = node.content_version()
    sealed = node.profile(LEXICON)
    assert opened(desk, sealed).epsilon == ProfileSettings().epsilon
    assert node.content_version() != first
    assert node.content_version() == node.content_version()


def test_a_paused_silo_has_no_profile_and_another_content_version(desk: Desk) -> None:
    node = desk.hospital.node
    versions = [node.content_version()]
    with paused(desk):
        assert node.profile(LEXICON) == b""
        versions.append(node.content_version())
    versions.append(node.content_version())
    assert len(set(versions)) == 3
    assert opened(desk, node.profile(LEXICON)).size == 3


def test_a_profile_that_a_pause_overtakes_does_not_leave(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = desk.hospital.node
    make = node._profiler.profile
    with closing(Store(desk.folder / "silo.sqlite")) as other:

        def overtaken(*arguments: Any) -> Any:
            pause.begin(other.connection, NOW, "anna", "")
            return make(*arguments)

        monkeypatch.setattr(node._profiler, "profile", overtaken)
        assert node.profile(LEXICON) == b""


def next_roster(federation: Federation) -> rosters.SignedRoster:
    following = rosters.succeed(federation.roster, federation.members, NOW + 1)
    return signed(following, (federation.north, federation.ward))


# -- what the hub may call ------------------------------------------------------------------------


async def test_the_hub_can_search_and_release_and_nothing_else(desk: Desk) -> None:
    calls = desk.hospital.node.handlers()
    assert set(calls) == {"search", "release"}
    reply = decode(SignedMessage, await calls["search"](NodeId("hub"), desk.envelope(Ask()), 1.0))
    found = decode(SearchReply, reply.body)
    request = ReleaseRequest(desk.ticket(found), tuple(handles(found)))
    sealed = await calls["release"](
        NodeId("hub"), desk.seal(request, "release", query_id=found.query_id), 1.0
    )
    assert envelopes.read_header(sealed).kind == "passages"


# -- what the monitor counts ----------------------------------------------------------------------


def shown(desk: Desk) -> Scraped:
    return Scraped(metric_parts.text(desk.hospital.node.monitor.registry)[0])


async def test_searches_and_releases_are_counted_and_refusals_by_code(desk: Desk) -> None:
    reply = await desk.search(desk.envelope(Ask()))
    await desk.refusal(Ask(purpose="marketing"))
    await desk.release(reply, handles(reply), desk.ticket(reply))
    with pytest.raises(PolicyDenied):
        await desk.release(reply, handles(reply), desk.ticket(reply))
    stranger = desk.seal(ReleaseRequest(desk.ticket(reply), ()), "release", lifetime_ms=10**9)
    with pytest.raises(IntegrityError):
        await desk.hospital.node.release(stranger)
    counts = shown(desk)
    assert counts("silo_searches_total", code="ok") == 1
    assert counts("silo_searches_total", code="denied") == 1
    assert counts("silo_releases_total", code="ok") == 1
    assert counts("silo_releases_total", code="denied") == 1
    assert counts("silo_releases_total", code="integrity") == 1
    assert counts("silo_passages_released_total") == 3


async def test_what_the_budget_holds_back_is_counted_under_its_rule(desk: Desk) -> None:
    desk.hospital.store.close()
    desk.start(replace(POLICY, passages_per_day=2))
    reply = await desk.search(desk.envelope(Ask()))
    await desk.release(reply, handles(reply), desk.ticket(reply))
    counts = shown(desk)
    assert counts("silo_passages_released_total") == 2
    assert counts("silo_passages_withheld_total", rule="budget") == 1


# -- sealed questions -----------------------------------------------------------------------------

MODE: Mode = "sealed"
SESSION_MS = 720_000


@dataclass(slots=True)
class SealedAsk:
    """A sealed question of ward to north; a test changes one thing of it.

    key     what else stands in the hub's key
    inner   what else stands in the request, and ``header`` in the envelope's header
    """

    text: str = "Give oxygen"
    k: int = 3
    key: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)


class SealedDesk:
    """The desk with the hub's half of sealed questions: its secret key."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.secret = SecretKey()

    def key(
        self, signer: Identity | None = None, context: str = SEALING_CONTEXT, **other: Any
    ) -> SignedMessage:
        now = self.desk.clock()
        key = replace(SealingKey(self.secret.public, now, now + SESSION_MS), **other)
        return (signer or self.desk.federation.hub).sign(context, key)

    def request(self, ask: SealedAsk) -> SealedRequest:
        query = seal_query(WordEmbedder().encode([ask.text])[0], self.secret.public)
        key, d = self.key(**ask.key), ENCODER.dimension
        plain = SealedRequest(key, query.query, d, query.offset, ask.k, "treatment", "dr 7")
        return replace(plain, **ask.inner)

    def envelope(self, ask: SealedAsk) -> bytes:
        request = self.request(ask)
        key_hash = hashlib.sha256(request.key.body).digest()
        header = {"mode": MODE, "k": request.k, "key_hash": key_hash} | ask.header
        return self.desk.seal(request, **header)

    async def search(self, ask: SealedAsk | None = None) -> SearchReply:
        return await self.desk.search(self.envelope(ask or SealedAsk()))

    async def refusal(self, ask: SealedAsk) -> tuple[str, str]:
        return await self.desk.refusal(self.envelope(ask))

    def ranked(self, reply: SearchReply) -> list[Handle]:
        """Handles of all rows, the best first, as the hub finds them."""
        assert reply.sealed is not None
        opened = self.secret.open_scores(reply.sealed.scores)
        return handles_of(reply.sealed.handle_key, np.argsort(-opened, kind="stable").tolist())

    def placed(self, reply: SearchReply) -> RowPlaces:
        question = self.desk.hospital.node._questions.get(reply.query_id)
        assert question is not None
        assert question.placed is not None
        return question.placed

    async def release(self, reply: SearchReply, *handles: Handle, **ticket: Any) -> ReleaseReply:
        paper = {"handles": handles, "claims": (), "lexical": ()} | ticket
        return await self.desk.release(reply, handles, self.desk.ticket(reply, **paper))

    def asked(self) -> int:
        (row,) = self.desk.hospital.store.connection.execute(
            "SELECT sum(questions) FROM sealed_asked"
        )
        return int(row[0] or 0)


@pytest.fixture
def closed(desk: Desk) -> SealedDesk:
    return SealedDesk(desk)


@pytest.fixture
def scorings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every time that rows are scored sealed."""
    calls: list[object] = []
    honest = sealed.score

    def score(*given: Any) -> bytes:
        calls.append(given)
        return honest(*given)

    monkeypatch.setattr(sealed, "score", score)
    return calls


async def test_a_sealed_question_gets_sealed_scores_and_no_hits(closed: SealedDesk) -> None:
    reply = await closed.search()
    assert (reply.silo, reply.hits, reply.refusal) == (NORTH, (), None)
    assert reply.sealed is not None
    assert (len(reply.sealed.scores), len(reply.sealed.handle_key)) == (BLOCK_BYTES, KEY_BYTES)
    assert b"salbutamol" not in encode(reply)


async def test_winners_of_a_sealed_question_are_released_without_a_score(
    closed: SealedDesk,
) -> None:
    found = await closed.search()
    best, *_ = closed.ranked(found)
    (passage,) = (await closed.release(found, best)).passages
    assert (passage.handle, passage.text) == (best, "Give oxygen and salbutamol.")
    assert (passage.dense, passage.lexical) == (None, None)
    (entry,) = ledger.entries(closed.desk.hospital.store.connection)
    assert (entry.query, entry.requester, entry.purpose) == (found.query_id, "dr 7", "treatment")


async def test_a_paused_silo_refuses_sealed_questions_and_their_release(
    closed: SealedDesk, scorings: list[object]
) -> None:
    found = await closed.search()
    scorings.clear()
    with paused(closed.desk):
        assert await closed.refusal(SealedAsk()) == PAUSED
        assert scorings == []
        with pytest.raises(PolicyDenied, match="paused by its hospital"):
            await closed.release(found, *closed.ranked(found)[:1])
    assert (await closed.release(found, *closed.ranked(found)[:1])).passages


async def test_an_open_and_a_sealed_question_rank_passages_alike(closed: SealedDesk) -> None:
    open_reply = await closed.desk.search(closed.desk.envelope(Ask(terms=())))
    question = closed.desk.hospital.node._questions.get(open_reply.query_id)
    assert question is not None
    found = await closed.search()
    rows = closed.placed(found).offered(closed.ranked(found)).values()
    assert [row.number for row in rows if row.number] == [
        question.offered[handle].number for handle in handles(open_reply)
    ]


async def test_two_replies_to_one_vector_share_no_scores_and_no_handles(closed: SealedDesk) -> None:
    first, second = await closed.search(), await closed.search()
    assert first.sealed is not None
    assert second.sealed is not None
    assert first.sealed.handle_key != second.sealed.handle_key
    pairs = zip(first.sealed.scores, second.sealed.scores, strict=True)
    assert sum(a == b for a, b in pairs) < 0.02 * BLOCK_BYTES


def in_clear(query: bytes) -> bytes:
    """``query`` with c1 left out: what it says then stands in c0 for all to read."""
    pairs = unpack(query, 96).reshape(48, 2, -1).copy()
    pairs[:, 1] = 0
    return pack(pairs.reshape(96, -1))


QUERY_BYTES = query_bytes(ENCODER.dimension)
ZERO_KEY = {"public": bytes(CIPHERTEXT_BYTES)}
REFUSED: dict[str, tuple[SealedAsk, str, str]] = {
    "a query a byte short": (
        SealedAsk(inner={"query": bytes(QUERY_BYTES - 1)}),
        "integrity",
        f"a sealed query of {QUERY_BYTES - 1} bytes, wanted {QUERY_BYTES}",
    ),
    "a query of one ciphertext more": (
        SealedAsk(inner={"query": bytes(QUERY_BYTES + CIPHERTEXT_BYTES)}),
        "integrity",
        "a sealed query of",
    ),
    "no query": (SealedAsk(inner={"query": b""}), "integrity", "a sealed query of 0 bytes"),
    "a query out of range": (
        SealedAsk(inner={"query": b"\xff" * QUERY_BYTES}),
        "integrity",
        "a sealed number is out of range",
    ),
    "a query of zeros": (
        SealedAsk(inner={"query": bytes(QUERY_BYTES)}),
        "integrity",
        "a sealed query is not encrypted",
    ),
    "vectors of another encoder": (
        SealedAsk(inner={"dimension": 8, "query": b"\x01" * query_bytes(8)}),
        "incompatible",
        "the query has 8 dimensions, this silo 384",
    ),
    "vectors of no number": (
        SealedAsk(inner={"dimension": 0, "query": b""}),
        "incompatible",
        "vectors of 0 numbers",
    ),
    "vectors of too many numbers": (
        SealedAsk(inner={"dimension": 2**40}),
        "incompatible",
        "sealed scoring takes 1 to 2,048",
    ),
    "an offset too large": (
        SealedAsk(inner={"offset": MOST_OFFSET + 1}),
        "integrity",
        "the offset of the scores is out of range",
    ),
    "an offset too small": (
        SealedAsk(inner={"offset": -(2**62)}),
        "integrity",
        "the offset of the scores is out of range",
    ),
    "another k in the header": (
        SealedAsk(header={"k": 4}),
        "integrity",
        "k or unit inside the envelope differ",
    ),
    "documents": (
        SealedAsk(header={"unit": "document"}),
        "integrity",
        "k or unit inside the envelope differ",
    ),
    "no k": (SealedAsk(k=0), "incompatible", "k must be 1 to 100"),
    "too large a k": (SealedAsk(k=101), "incompatible", "k must be 1 to 100"),
    "another key's hash": (
        SealedAsk(header={"key_hash": bytes(32)}),
        "integrity",
        "under another key than its header names",
    ),
    "no key's hash": (
        SealedAsk(header={"key_hash": b""}),
        "integrity",
        "under another key than its header names",
    ),
    "a key signed as something else": (
        SealedAsk(key={"context": "ticket"}),
        "integrity",
        "signature of sealing key",
    ),
    "a key of an older session": (
        SealedAsk(key={"expires": NOW - 1}),
        "integrity",
        "under a key of an older session",
    ),
    "a key of zeros": (SealedAsk(key=ZERO_KEY), "integrity", "it would hide nothing"),
    "a key of another size": (
        SealedAsk(key={"public": b"short"}),
        "integrity",
        "5 bytes of sealed numbers",
    ),
    "a purpose that is not accepted": (
        SealedAsk(inner={"purpose": "marketing"}),
        "refused",
        "the purpose of use is not accepted here",
    ),
    "an expired envelope": (SealedAsk(header={"now": NOW - 61_000}), "integrity", "expired"),
    "open mode in the header": (SealedAsk(header={"mode": "open"}), "integrity", "SearchRequest"),
}


@pytest.mark.parametrize(("ask", "reason", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_sealed_question_that_does_not_hold_is_refused_before_a_row_is_scored(
    closed: SealedDesk, scorings: list[object], ask: SealedAsk, reason: str, words: str
) -> None:
    told = await closed.refusal(ask)
    assert told[0] == reason
    assert words in told[1]
    assert scorings == []


async def test_a_query_in_clear_is_refused(closed: SealedDesk, scorings: list[object]) -> None:
    query = in_clear(closed.request(SealedAsk()).query)
    told = await closed.refusal(SealedAsk(inner={"query": query}))
    assert (told, scorings) == (("integrity", "a sealed query is not encrypted"), [])


@pytest.mark.parametrize("signer", ["north", "south", "ward"])
async def test_a_key_of_anybody_but_the_hub_is_refused(
    closed: SealedDesk, scorings: list[object], signer: str
) -> None:
    identity: Identity = getattr(closed.desk.federation, signer)
    reason, detail = await closed.refusal(SealedAsk(key={"signer": identity}))
    assert (reason, "as hub" in detail, scorings) == ("refused", True, [])


async def test_a_key_holds_until_its_last_millisecond(closed: SealedDesk) -> None:
    assert (await closed.search(SealedAsk(key={"expires": NOW}))).sealed is not None


async def test_an_open_request_in_a_sealed_envelope_is_refused(
    closed: SealedDesk, scorings: list[object]
) -> None:
    reason, _ = await closed.desk.refusal(Ask(header={"mode": MODE}))
    assert (reason, scorings) == ("integrity", [])


async def test_a_sealed_question_is_answered_once_even_after_a_restart(
    closed: SealedDesk, scorings: list[object]
) -> None:
    envelope = closed.envelope(SealedAsk())
    assert (await closed.desk.search(envelope)).sealed is not None
    replay = ("integrity", "this question was asked before: a replay")
    assert await closed.desk.refusal(envelope) == replay
    closed.desk.hospital.store.close()
    closed.desk.start()
    assert await closed.desk.refusal(envelope) == replay
    assert (len(scorings), closed.asked()) == (1, 1)


async def test_sealed_questions_count_whatever_they_are_worth(
    closed: SealedDesk, scorings: list[object]
) -> None:
    closed.desk.start(replace(POLICY, sealed_per_day=3))
    await closed.search()
    await closed.refusal(SealedAsk(inner={"query": b"nonsense"}))
    await closed.desk.refusal(Ask(header={"mode": MODE}))
    assert closed.asked() == 3
    spent = ("refused", f"ward has asked its 3 sealed questions of {day_of(NOW)}")
    assert await closed.refusal(SealedAsk()) == spent
    assert (len(scorings), closed.asked()) == (1, 3)
    assert (await closed.desk.search(closed.desk.envelope(Ask()))).hits
    closed.desk.clock.now += 86_400_000
    assert (await closed.search()).sealed is not None


async def test_the_count_of_sealed_questions_survives_a_restart(closed: SealedDesk) -> None:
    await closed.search()
    closed.desk.hospital.store.close()
    closed.desk.start(replace(POLICY, sealed_per_day=1))
    assert (await closed.refusal(SealedAsk()))[0] == "refused"


async def test_spent_passages_end_sealed_questions_too(
    closed: SealedDesk, scorings: list[object]
) -> None:
    closed.desk.start(replace(POLICY, passages_per_day=0))
    reason, detail = await closed.refusal(SealedAsk())
    assert (reason, "0 passages" in detail, scorings) == ("refused", True, [])


async def test_a_gateway_that_is_not_approved_costs_no_sealed_question(closed: SealedDesk) -> None:
    closed.desk.start(ReleasePolicy())
    assert (await closed.refusal(SealedAsk()))[0] == "refused"
    assert closed.asked() == 0


async def test_an_open_question_costs_no_sealed_one(closed: SealedDesk) -> None:
    await closed.desk.search(closed.desk.envelope(Ask()))
    assert closed.asked() == 0


async def test_without_the_library_a_sealed_question_is_incompatible(
    closed: SealedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = closed.envelope(SealedAsk())
    without_library(monkeypatch)
    reason, detail = await closed.desk.refusal(envelope)
    assert (reason, "no sealed scoring here" in detail) == ("incompatible", True)
    assert (await closed.desk.search(closed.desk.envelope(Ask()))).hits


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    monkeypatch.setattr(sealed, "_seal", sealed._seal.__wrapped__)


async def test_after_a_sealed_question_the_next_is_made_ready(closed: SealedDesk) -> None:
    await closed.search()
    node = closed.desk.hospital.node
    assert node._readying is not None
    await node._readying
    rows = node._searcher._sealed
    assert rows is not None
    assert len(rows._zeros) == rows.blocks
    await closed.desk.search(closed.desk.envelope(Ask()))
    assert node._readying.done()


# -- handles of sealed questions ------------------------------------------------------------------


async def test_a_guessed_handle_releases_nothing(closed: SealedDesk) -> None:
    found = await closed.search()
    for guess in (os.urandom(16), bytes(16), b"", b"x" * 17):
        with pytest.raises(IntegrityError, match="never offered"):
            await closed.release(found, Handle(guess))
    assert closed.desk.spent() == 0


async def test_a_handle_of_another_question_releases_nothing(closed: SealedDesk) -> None:
    first, second = await closed.search(), await closed.search()
    with pytest.raises(IntegrityError, match="never offered"):
        await closed.release(second, closed.ranked(first)[0])
    assert (await closed.release(first, closed.ranked(first)[0])).passages


async def test_a_handle_beyond_the_rows_of_the_reply_releases_nothing(closed: SealedDesk) -> None:
    found = await closed.search()
    (beyond,) = handles_of(closed.placed(found).handle_key, [256])
    with pytest.raises(IntegrityError, match="never offered"):
        await closed.release(found, beyond)


async def test_padding_that_wins_is_no_passage(closed: SealedDesk) -> None:
    found = await closed.search()
    offered = closed.placed(found).offered(closed.ranked(found))
    padding = [handle for handle, item in offered.items() if not item.number]
    reply = await closed.release(found, *padding[:3])
    assert (reply.passages, reply.withheld, closed.desk.spent()) == ((), 0, 0)
    (entry,) = ledger.entries(closed.desk.hospital.store.connection)
    assert entry.withheld == {"padding": 3}


async def test_a_handle_of_a_sealed_question_is_good_once(closed: SealedDesk) -> None:
    found = await closed.search()
    best, second, *_ = closed.ranked(found)
    await closed.release(found, best)
    with pytest.raises(PolicyDenied, match="used before"):
        await closed.release(found, second, best)
    assert (await closed.release(found, second)).passages


@pytest.mark.parametrize("told", [{"claims": (0.9,)}, {"lexical": (1.0,)}], ids=str)
async def test_a_ticket_that_tells_the_silo_a_score_releases_nothing(
    closed: SealedDesk, told: dict[str, tuple[float, ...]]
) -> None:
    found = await closed.search()
    with pytest.raises(IntegrityError, match="another similarity or word score"):
        await closed.release(found, closed.ranked(found)[0], **told)


async def test_more_handles_than_k_of_a_sealed_question_are_refused(closed: SealedDesk) -> None:
    found = await closed.search()
    with pytest.raises(PolicyDenied, match="more than k = 3"):
        await closed.release(found, *closed.ranked(found)[:4])


async def test_a_row_that_moved_since_is_released_as_it_was_offered(closed: SealedDesk) -> None:
    found = await closed.search()
    best = closed.ranked(found)[0]
    for _ in range(3):
        await closed.search()
    (passage,) = (await closed.release(found, best)).passages
    assert passage.document == "asthma.md"


async def test_a_document_that_went_since_a_sealed_question_is_withheld(closed: SealedDesk) -> None:
    found = await closed.search()
    best = closed.ranked(found)[0]
    with closing(open_store(closed.desk.folder / "silo.sqlite")) as store:
        remove(store, [DOCUMENTS[2].id])
    await closed.search()
    reply = await closed.release(found, best)
    assert (reply.passages, reply.withheld) == ((), 1)


# -- collections that answer sealed questions alone -----------------------------------------------

TALK = document("talk.md", "Give oxygen and time to talk.", "Talk", collection="psychiatry")
PSYCHIATRY = replace(POLICY, sealed=("psychiatry",))


@pytest.fixture
def psychiatry(closed: SealedDesk) -> SealedDesk:
    fill(closed.desk.hospital.store, [TALK])
    closed.desk.start(PSYCHIATRY)
    return closed


async def test_a_closed_collection_is_found_by_sealed_questions_alone(
    psychiatry: SealedDesk,
) -> None:
    ask = Ask("talk", (Term("talk", 9.0),), k=10)
    opened = await psychiatry.desk.search(psychiatry.desk.envelope(ask))
    ticket = psychiatry.desk.ticket(opened, k=10)
    reply = await psychiatry.desk.release(opened, handles(opened), ticket)
    assert sorted(p.document for p in reply.passages) == sorted(d.id for d in DOCUMENTS)
    found = await psychiatry.search(SealedAsk("talk"))
    (passage,) = (await psychiatry.release(found, psychiatry.ranked(found)[0])).passages
    assert passage.document == "talk.md"


async def test_a_collection_that_was_closed_since_the_question_is_held_back(
    closed: SealedDesk,
) -> None:
    fill(closed.desk.hospital.store, [TALK])
    ask = Ask("talk", (Term("talk", 9.0),))
    opened = await closed.desk.search(closed.desk.envelope(ask))
    questions = closed.desk.hospital.node._questions
    closed.desk.start(PSYCHIATRY).node._questions = questions
    best = handles(opened)[0]
    reply = await closed.desk.release(opened, [best], closed.desk.ticket(opened))
    assert (reply.passages, reply.withheld, closed.desk.spent()) == ((), 1, 0)
    (entry,) = ledger.entries(closed.desk.hospital.store.connection)
    assert entry.withheld == {"sealed": 1}


async def test_a_silo_that_is_closed_altogether_refuses_open_questions(closed: SealedDesk) -> None:
    closed.desk.start(replace(POLICY, sealed=("*",)))
    told = await closed.desk.refusal(Ask())
    assert told == ("refused", "this silo answers sealed questions alone")
    assert (await closed.search()).sealed is not None


@pytest.mark.parametrize(
    ("collections", "told"),
    [((), "able"), (("psychiatry",), "some"), (("*",), "all"), (("psychiatry", "*"), "all")],
    ids=str,
)
def test_the_profile_tells_what_sealed_questions_are_wanted_for(
    closed: SealedDesk, collections: tuple[str, ...], told: Sealing
) -> None:
    policy = replace(POLICY, sealed=collections)
    assert sealing_of(policy) == told
    node = closed.desk.start(policy).node
    assert opened(closed.desk, node.profile(LEXICON)).sealing == told


def test_without_the_library_the_profile_says_so(
    closed: SealedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_library(monkeypatch)
    assert sealing_of(PSYCHIATRY) == "none"
    assert opened(closed.desk, closed.desk.hospital.node.profile(LEXICON)).sealing == "none"
