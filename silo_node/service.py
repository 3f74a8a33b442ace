"""The silo as the hub reaches it: sealed questions in, signed hits and sealed passages out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from siloquy import crash
from siloquy.codec import decode, encode
from siloquy.database import SharedCommits, reading
from siloquy.errors import (
    Incompatible,
    IntegrityError,
    PolicyDenied,
    SiloquyError,
    StorageFailed,
)
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire as sealed_wire
from siloquy.settings import ProfileSettings, ReleasePolicy
from siloquy.silo_node import guards, pause
from siloquy.silo_node.guards import OfferedPassage, OpenQuestion, RowPlaces
from siloquy.silo_node.pause import Pause
from siloquy.silo_node.profiler import LIFETIME_MS, Profiler
from siloquy.silo_node.questions import OpenQuestions
from siloquy.silo_node.release import Door, day_of
from siloquy.silo_node.search import Candidate, Searcher
from siloquy.silo_node.store import Store
from siloquy.text.lexicon import Lexicon
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT, SEALING_CONTEXT, TICKET_CONTEXT, Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.types import (
    DocumentTag,
    Handle,
    Hit,
    Member,
    Missing,
    NodeId,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SealedRequest,
    Sealing,
    SealingKey,
    SearchReply,
    SearchRequest,
    SignedMessage,
    Ticket,
)
from siloquy.watch.metric_parts import timing
from siloquy.watch.metrics import SiloMonitor
from siloquy.watch.tracing import span
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import (
    HANDLE_BYTES,
    MOST_DEPTH,
    MOST_K,
    MOST_TERM_WEIGHT,
    MOST_TERMS,
    QUERY_WORD,
    TAG_BYTES,
    UNIT_TOLERANCE,
    Verb,
)
from siloquy.wire.channel import Handler
from siloquy.wire.envelope import ReceivedEnvelope

QUESTION_LIFETIME_MS = 120_000
FORGET_SEEN_EVERY_MS = 10_000
REPLY_LIFETIME_MS = 60_000

_log = logging.getLogger(__name__)


class SiloNode:
    """One hospital's silo: ``search`` and ``release`` under its policy."""

    def __init__(
        self,
        store: Store,
        searcher: Searcher,
        identity: Identity,
        pinned: PinnedRoster,
        policy: ReleasePolicy,
        clock: Callable[[], int],
        monitor: SiloMonitor | None = None,
        profiler: Profiler | None = None,
    ) -> None:
        self._store = store
        self._searcher = searcher
        self._identity = identity
        self._pinned = pinned
        self._policy = policy
        self._clock = clock
        spec = pinned.current.roster.encoder
        self._profiler = profiler or Profiler(store, spec, ProfileSettings(), clock)
        self.monitor = monitor or SiloMonitor()
        self._door = Door(store, identity, policy, self.monitor)
        self._questions = OpenQuestions()
        self._forget_seen_at = 0
        self._commits = SharedCommits(store.connection, store.lock)
        self._readying: asyncio.Task[None] | None = None

    def handlers(self) -> Mapping[str, Handler]:
        """What the hub may call."""

        async def search(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
            return encode(await self.search(body))

        async def release(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
            return await self.release(body)

        return {Verb.SEARCH: search, Verb.RELEASE: release}

    # -- phase 1 --------------------------------------------------------------------------------

    async def search(self, envelope: bytes) -> SignedMessage:
        """The signed candidates of a sealed question, or the signed refusal."""
        header = envelopes.read_header(envelope)
        query_id, me = QueryId(header.id), self._identity.node
        try:
            with (
                timing(self.monitor.searched),
                span("silo search", query_id, me) as note,
                reading(self._store.connection),
            ):
                reply = await asyncio.to_thread(self._search, envelope)
                note.add(candidates=len(reply.hits))
        except SiloquyError as error:
            _log.info("search refused sender=%r code=%s", header.sender[:63], error.code)
            refusal = Missing(self._identity.node, error.missing, _for_others(error).message)
            reply = SearchReply(query_id, self._identity.node, (), refusal)
        if reply.sealed is not None:
            self._make_ready()
        return self._identity.sign(REPLY_CONTEXT, reply)

    def _make_ready(self) -> None:
        """Prepare for the next sealed question beside the other work, one at a time."""
        if self._readying is None or self._readying.done():
            self._readying = asyncio.create_task(asyncio.to_thread(self._searcher.make_ready))

    def _search(self, envelope: bytes) -> SearchReply:
        """The reply to a question; of one that was paused meanwhile too, nothing is told."""
        self._check_running()
        reply = self._answer_search(envelope)
        self._check_running()
        return reply

    def _check_running(self) -> None:
        # Under the lock: within another thread's snapshot a pause would not be seen yet.
        with self._store.lock:
            guards.check_running(self._store.connection)

    def _answer_search(self, envelope: bytes) -> SearchReply:
        now = self._clock()
        received = self._receive(envelope, "search", now)
        guards.check_gateway(self._policy, received.sender.node)
        if received.header.mode == "sealed":
            return self._search_sealed(received, now)
        if "*" in self._policy.sealed:
            raise PolicyDenied("this silo answers sealed questions alone", "ask with mode sealed")
        self._see_once(received, now)
        query_id, me = QueryId(received.header.id), self._identity.node
        with span("silo open", query_id, me):
            request = envelopes.open_body(received, self._identity, SearchRequest)
        check_request(request, received)
        guards.check_purpose(self._policy, request.purpose)
        guards.check_budget(self._store.connection, self._policy, received.sender.node, day_of(now))
        with span("silo score", query_id, me, terms=len(request.terms), k=request.k):
            candidates = self._searcher.search(request)
        return self._offer(received, request, candidates, now)

    def _search_sealed(self, received: ReceivedEnvelope, now: int) -> SearchReply:
        """Sealed scores of all rows; all that can be checked is, before any row is scored."""
        gateway, day = received.sender.node, day_of(now)
        connection = self._store.connection
        self._see_once(received, now)
        query_id, me = QueryId(received.header.id), self._identity.node
        with span("silo open", query_id, me):
            request = envelopes.open_body(received, self._identity, SealedRequest)
        check_sealed_request(request, received)
        key = self._read_key(request.key, received.header.key_hash, now)
        guards.check_purpose(self._policy, request.purpose)
        guards.check_budget(connection, self._policy, gateway, day)
        with span("silo score", query_id, me, k=request.k):
            scores, placed = self._searcher.score_sealed(request, key.public)
        question = _question(received, request, now, placed)
        self._keep(question, now)
        return SearchReply(question.query_id, self._identity.node, (), sealed=scores)

    def _read_key(self, signed: SignedMessage, key_hash: bytes, now: int) -> SealingKey:
        """The hub's own key, the one that the envelope's header names."""
        body = rosters.open_signed(self._pinned.current, signed, SEALING_CONTEXT, "hub")
        if hashlib.sha256(body).digest() != key_hash:
            raise IntegrityError("the question is sealed under another key than its header names")
        key = decode(SealingKey, body)
        if key.expires < now:
            raise IntegrityError("the question is sealed under a key of an older session")
        return key

    def _receive(self, envelope: bytes, kind: envelopes.Kind, now: int) -> ReceivedEnvelope:
        return envelopes.receive(envelope, self._pinned.current, role="gateway", kind=kind, now=now)

    def _see_once(self, received: ReceivedEnvelope, now: int) -> None:
        """IntegrityError for a question seen before, restarts included.

        A sealed one is counted in the same transaction; BudgetExhausted when it is one too many.
        """
        header, day = received.header, day_of(now)

        def note(connection: sqlite3.Connection) -> tuple[bool, bool]:
            if now >= self._forget_seen_at:
                connection.execute("DELETE FROM seen WHERE expires < ?", (now,))
                self._forget_seen_at = now + FORGET_SEEN_EVERY_MS
            row = (header.id, header.expires)
            done = connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", row)
            fresh, counts = bool(done.rowcount), header.mode == "sealed"
            paid = not (fresh and counts) or guards.count_sealed(
                connection, self._policy, header.sender, day
            )
            crash.point("question-noted")
            return fresh, paid

        fresh, paid = self._commits.run(note)
        crash.point("question-seen")
        if not fresh:
            raise IntegrityError("this question was asked before: a replay")
        if not paid:
            raise guards.no_sealed_left(self._policy, header.sender, day)

    def _offer(
        self,
        received: ReceivedEnvelope,
        request: SearchRequest,
        candidates: list[Candidate],
        now: int,
    ) -> SearchReply:
        size = HANDLE_BYTES + TAG_BYTES
        drawn = os.urandom(size * len(candidates))
        pieces = [drawn[i : i + size] for i in range(0, len(drawn), size)]
        handles = [Handle(piece[:HANDLE_BYTES]) for piece in pieces]
        tags = {
            item.document: DocumentTag(piece[HANDLE_BYTES:])
            for item, piece in zip(candidates, pieces, strict=True)
        }
        offered = {
            handle: OfferedPassage(item.number, item.dense, item.lexical)
            for handle, item in zip(handles, candidates, strict=True)
        }
        question = replace(_question(received, request, now), offered=offered)
        self._keep(question, now)
        hits = tuple(
            Hit(handle, tags[item.document], item.dense, item.lexical)
            for handle, item in zip(handles, candidates, strict=True)
        )
        return SearchReply(question.query_id, self._identity.node, hits)

    def _keep(self, question: OpenQuestion, now: int) -> None:
        with self._store.lock:
            self._questions.forget_expired(now)
            self._questions.keep(question)

    # -- phase 2 --------------------------------------------------------------------------------

    async def release(self, envelope: bytes) -> bytes:
        """The winners' passages, sealed to the gateway that asked."""
        with timing(self.monitor.released):
            return await self._answer_release(envelope)

    async def _answer_release(self, envelope: bytes) -> bytes:
        received = self._receive(envelope, "release", self._clock())
        query_id, me = QueryId(received.header.id), self._identity.node
        try:
            with span("silo release", query_id, me) as note, reading(self._store.connection):
                reply = await asyncio.to_thread(self._release, received)
                note.add(passages=len(reply.passages), withheld=reply.withheld)
        except SiloquyError as error:
            _log.info("release refused sender=%s code=%s", received.sender.node, error.code)
            raise _for_others(error) from None
        return envelopes.seal(
            self._identity,
            [received.sender],
            "passages",
            received.header.id,
            reply,
            roster=self._pinned.current,
            now=self._clock(),
            lifetime_ms=REPLY_LIFETIME_MS,
        )

    def _release(self, received: ReceivedEnvelope) -> ReleaseReply:
        request = envelopes.open_body(received, self._identity, ReleaseRequest)
        ticket = self._read_ticket(request.ticket)
        if ticket.query_id != received.header.id or ticket.silo != self._identity.node:
            raise IntegrityError("the ticket is for another question or silo")
        with self._store.lock:
            # Under the lock: a head dated before an older one would look like a shortened ledger.
            now = self._clock()
            question = self._questions.get(ticket.query_id)
            if question is None:
                raise PolicyDenied("no such open question here", "ask the question again")
            if question.placed is not None:
                question = replace(question, offered=question.placed.offered(ticket.handles))
            reply = self._door.open(question, ticket, received.sender.node, request.handles, now)
            used = question.used | set(request.handles)
            self._questions.keep(replace(question, used=used))
        return reply

    def _read_ticket(self, signed: SignedMessage) -> Ticket:
        body = rosters.open_signed(self._pinned.current, signed, TICKET_CONTEXT, "hub")
        return decode(Ticket, body)

    # -- profile --------------------------------------------------------------------------------

    def profile(self, lexicon: Lexicon) -> bytes:
        """The silo's profile under the next version, sealed for the gateways that it approved.

        Empty when the silo is paused, be it meanwhile, and when the roster names none of them yet.
        """
        readers = self._readers()
        if not readers or self._paused() is not None:
            return b""
        now = self._clock()
        version = self._store.next_number("profile version")
        crash.point("profile-numbered")
        profile = self._profiler.profile(self._identity.node, version, lexicon)
        profile = replace(profile, sealing=sealing_of(self._policy))
        if self._paused() is not None:  # meanwhile: to make a profile takes its time
            return b""
        return envelopes.seal(
            self._identity,
            readers,
            "profile",
            os.urandom(16),
            profile,
            roster=self._pinned.current,
            now=now,
            lifetime_ms=LIFETIME_MS,
        )

    def _readers(self) -> list[Member]:
        gateways = self._pinned.current.of_role("gateway")
        return [card for card in gateways if card.node in self._policy.gateways]

    def _paused(self) -> Pause | None:
        with self._store.lock:
            return pause.current(self._store.connection)

    def content_version(self) -> tuple[int, ...]:
        """Changes when documents, noised content, roster or a pause do: the profile is stale."""
        self._searcher.refresh()
        with self._store.lock:
            pauses = pause.number(self._store.connection)
        roster = self._pinned.current.roster.version
        return self._searcher.generation, self._profiler.made(), roster, pauses


def _for_others(error: SiloquyError) -> SiloquyError:
    """What may leave of an error: the folder that a hint names is for the log, and its owner."""
    if not isinstance(error, StorageFailed):
        return error
    _log.error("%s. %s", error.message, error.hint)
    return StorageFailed(error.message)


def sealing_of(policy: ReleasePolicy) -> Sealing:
    """What a silo of this policy tells gateways of sealed questions."""
    try:
        sealed.check()
    except Incompatible as error:
        _log.log(
            logging.WARNING if policy.sealed else logging.INFO,
            "no sealed questions: %s",
            error.message,
        )
        return "none"
    if "*" in policy.sealed:
        return "all"
    return "some" if policy.sealed else "able"


def _question(
    received: ReceivedEnvelope,
    request: SearchRequest | SealedRequest,
    now: int,
    placed: RowPlaces | None = None,
) -> OpenQuestion:
    return OpenQuestion(
        query_id=QueryId(received.header.id),
        gateway=received.sender.node,
        requester=request.requester,
        purpose=request.purpose,
        k=request.k,
        expires=min(received.header.expires, now + QUESTION_LIFETIME_MS),
        offered={},
        placed=placed,
    )


def check_sealed_request(request: SealedRequest, received: ReceivedEnvelope) -> None:
    """IntegrityError when a sealed question is of another size or k than it says."""
    header = received.header
    if (request.k, "passage") != (header.k, header.unit):
        raise IntegrityError("k or unit inside the envelope differ from its header")
    if not 1 <= request.k <= MOST_K:
        raise Incompatible(f"k must be 1 to {MOST_K}")
    if abs(request.offset) > sealed_wire.MOST_OFFSET:
        raise IntegrityError("the offset of the scores is out of range")
    wanted = sealed_wire.query_bytes(request.dimension)
    if len(request.query) != wanted:
        raise IntegrityError(f"a sealed query of {len(request.query)} bytes, wanted {wanted}")


def check_request(request: SearchRequest, received: ReceivedEnvelope) -> None:
    """IntegrityError when a question's numbers are out of range or differ from its header."""
    header = received.header
    if (request.k, request.unit) != (header.k, header.unit):
        raise IntegrityError("k or unit inside the envelope differ from its header")
    if not 1 <= request.k <= MOST_K or not request.k <= request.depth <= MOST_DEPTH:
        raise Incompatible(f"k must be 1 to {MOST_K} and depth k to {MOST_DEPTH}")
    if len(request.terms) > MOST_TERMS:
        raise Incompatible(f"{len(request.terms)} query terms, at most {MOST_TERMS}")
    if abs(float(np.linalg.norm(request.vector.astype(np.float64))) - 1.0) > UNIT_TOLERANCE:
        raise IntegrityError("the query vector is not of unit length")
    fit = (
        QUERY_WORD.fullmatch(term.word) and 0 <= term.weight <= MOST_TERM_WEIGHT
        for term in request.terms
    )
    if not all(fit):
        raise IntegrityError("a query term is no word, or its weight is out of range")
