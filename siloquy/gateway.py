"""The question's way, end to end, at the gateway: embed, route, seal, ask, collect, answer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from siloquy import envelope as envelopes
from siloquy import receipt as receipts
from siloquy import roster as rosters
from siloquy.aggregator.evidence import select
from siloquy.codec import decode
from siloquy.errors import (
    Incompatible,
    IntegrityError,
    PolicyDenied,
    SettingsError,
    SiloquyError,
    Unreachable,
    UsageError,
)
from siloquy.generator.service import AskOptions
from siloquy.heads import HeadBook
from siloquy.identity import Identity
from siloquy.lexicon import Lexicon
from siloquy.ports import Embedder, Generator, Hub, Router
from siloquy.roster import Pinned
from siloquy.router.choice import ask_all
from siloquy.router.profile import Opened, Versions, countable, open_all
from siloquy.router.terms import TermWeights
from siloquy.settings import AskSettings
from siloquy.text import clean, terms
from siloquy.types import (
    Answer,
    Handle,
    MergeReply,
    Missing,
    MissingReason,
    NodeId,
    Passage,
    Plan,
    Query,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SearchReply,
    SearchRequest,
    Signed,
    Source,
    Ticket,
    Vector,
)

MOST_QUESTION_CHARACTERS = 4000
MOST_TERMS = 64
MOST_WORD_CHARACTERS = 64
TICKET_CONTEXT = "ticket"
REPLY_CONTEXT = "search reply"
_SPARE_LIFETIME_S = 30
_NAME = re.compile(r"[A-Za-z0-9 ._@-]{1,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of the two phases; ``passages`` are in the hub's order, best first."""

    query_id: QueryId
    vector: Vector
    plan: Plan
    passages: tuple[Passage, ...]
    missing: tuple[Missing, ...]
    released: dict[str, int]
    withheld: dict[str, int]
    heads: tuple[Signed, ...]
    timings_ms: dict[str, float]
    traffic: dict[str, int]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One released passage in merge order, as ``POST /v1/retrieve`` shows it."""

    rank: int
    silo: NodeId
    document: str
    title: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Evidence without an answer."""

    passages: tuple[Ranked, ...]
    plan: Plan
    missing: tuple[Missing, ...]
    released: dict[str, int]
    withheld: dict[str, int]
    flagged: dict[str, str]
    timings_ms: dict[str, float]
    traffic: dict[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """Whether the gateway can ask, and whom."""

    ready: bool
    hub: bool
    roster_version: int
    federation: str
    silos: tuple[NodeId, ...]
    profiled: tuple[NodeId, ...]
    refused_profiles: tuple[Missing, ...]


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds of each stage."""

    stages: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=perf_counter)

    def lap(self, name: str) -> None:
        """End the stage ``name`` and begin the next."""
        now = perf_counter()
        self.stages[name] = round(1000 * (now - self._start), 2)
        self._start = now

    def total(self) -> dict[str, float]:
        """All stages and their sum."""
        return {**self.stages, "total": round(sum(self.stages.values()), 2)}


class Gateway:
    """A clinician's site: the only place where questions and passages are read."""

    def __init__(
        self,
        identity: Identity,
        pinned: Pinned,
        hub: Hub,
        embedder: Embedder,
        lexicon: Lexicon,
        router: Router,
        generator: Generator,
        versions: Versions,
        head_book: HeadBook,
        settings: AskSettings,
        clock: Callable[[], int],
        connected: Callable[[], bool] = lambda: True,
    ) -> None:
        self._identity = identity
        self._pinned = pinned
        self._hub = hub
        self._embedder = embedder
        self._lexicon = lexicon
        self._router = router
        self._generator = generator
        self._versions = versions
        self._head_book = head_book
        self._settings = settings
        self._clock = clock
        self._connected = connected
        self._warm = False
        self._opened = Opened((), ())
        self._weights = TermWeights((), lexicon)

    # -- asking ---------------------------------------------------------------------------------

    async def ask(self, query: Query, options: AskOptions) -> Answer:
        """A cited answer, or an abstention; every chosen silo is accounted for."""
        query = check_query(query)
        collected = await self._collect(query, options)
        watch = Stopwatch()
        sources, flagged = await self._evidence(collected)
        watch.lap("rescore")
        draft = await asyncio.to_thread(self._generator.answer, query.text, sources)
        watch.lap("generate")
        stages = Stopwatch({**collected.timings_ms, **watch.stages})
        text = receipts.written(draft.sentences)
        shown = () if draft.abstained else sources
        answer = text if not draft.abstained else _abstention(draft.reason, collected)
        receipt = receipts.make(
            self._identity,
            self._pinned.current,
            query_id=collected.query_id,
            now=self._clock(),
            question=query.text,
            answer=answer,
            abstained=draft.abstained,
            sources=shown,
            plan=collected.plan,
            missing=collected.missing,
            released=collected.released,
            withheld=collected.withheld,
            flagged=flagged,
            model=self._generator.model,
            heads=collected.heads,
        )
        return Answer(
            answer=answer,
            abstained=draft.abstained,
            sentences=draft.sentences,
            sources=shown,
            plan=collected.plan,
            missing=collected.missing,
            withheld=collected.withheld,
            released=collected.released,
            flagged=flagged,
            mode=collected.plan.mode,
            model=self._generator.model,
            timings_ms=stages.total(),
            receipt=receipt,
        )

    async def retrieve(self, query: Query, options: AskOptions) -> Retrieval:
        """The released passages in merge order, without an answer."""
        collected = await self._collect(check_query(query), options)
        flagged: dict[str, str] = {}
        watch = Stopwatch(dict(collected.timings_ms))
        if options.rescore:
            _, flagged = await self._evidence(collected)
            watch.lap("rescore")
        passages = tuple(
            Ranked(rank, p.silo, p.document, p.title, p.text, p.start, p.end)
            for rank, p in enumerate(collected.passages, start=1)
        )
        return Retrieval(
            passages=passages,
            plan=collected.plan,
            missing=collected.missing,
            released=collected.released,
            withheld=collected.withheld,
            flagged=flagged,
            timings_ms=watch.total(),
            traffic=collected.traffic,
        )

    async def warm(self) -> None:
        """Load the encoder, so that the first question does not wait for it."""
        await asyncio.to_thread(self._embedder.encode, ["warm"])
        self._warm = True

    async def refresh(self) -> None:
        """Open the profiles that the hub holds for this gateway."""
        sealed = await self._hub.profiles()
        opened = await asyncio.to_thread(
            open_all, sealed, self._identity, self._pinned.current, self._versions, self._clock()
        )
        opened = countable(opened, self._lexicon)
        for missing in set(opened.refused) - set(self._opened.refused):
            _log.warning("profile refused silo=%s: %s", missing.silo, missing.detail)
        weights = await asyncio.to_thread(TermWeights, opened.profiles, self._lexicon)
        self._opened, self._weights = opened, weights

    def status(self) -> Status:
        """Whether the gateway can ask, and whom."""
        roster = self._pinned.current
        return Status(
            ready=self._warm and self._connected() and bool(self._opened.profiles),
            hub=self._connected(),
            roster_version=roster.roster.version,
            federation=roster.fingerprint,
            silos=tuple(card.node for card in roster.of_role("silo")),
            profiled=tuple(profile.silo for profile in self._opened.profiles),
            refused_profiles=self._opened.refused,
        )

    # -- the two phases -------------------------------------------------------------------------

    async def _collect(self, query: Query, options: AskOptions) -> Collected:
        watch = Stopwatch()
        if options.mode != "open":
            raise UsageError(
                "sealed mode is not part of this version", "ask with mode open, or leave it out"
            )
        k = options.k or self._settings.k
        vector = (await asyncio.to_thread(self._embedder.encode, [query.text]))[0]
        watch.lap("embed")
        plan = self._plan(vector, k, options)
        watch.lap("route")
        query_id = QueryId(os.urandom(16))
        envelope = self._seal_search(query, vector, k, options, plan, query_id)
        watch.lap("seal")
        merged = await self._hub.gather(envelope, self._settings.deadline_s)
        missing = self._check_merge(merged, query_id, plan, k)
        tickets, cheated = self._check_tickets(merged, k)
        watch.lap("search")
        replies, failed, sizes = await self._release(merged, tickets)
        watch.lap("release")
        found = {p.handle: p for reply in replies.values() for p in reply.passages}
        ranked = [found[w.handle] for w in merged.winners if w.handle in found]
        return Collected(
            query_id=query_id,
            vector=vector,
            plan=plan,
            passages=tuple(ranked),
            missing=(*missing, *cheated, *failed),
            released={silo: len(reply.passages) for silo, reply in replies.items()},
            withheld={silo: reply.withheld for silo, reply in replies.items() if reply.withheld},
            heads=tuple(reply.head for reply in replies.values()),
            timings_ms=watch.stages,
            traffic={**merged.traffic, **sizes},
        )

    def _plan(self, vector: Vector, k: int, options: AskOptions) -> Plan:
        silos = [card.node for card in self._pinned.current.of_role("silo")]
        if not silos:
            raise SettingsError("the roster names no silo", "enrol a silo first")
        if (options.route or self._settings.route) == "all":
            return ask_all(silos)
        plan = self._router.plan(vector, self._opened.profiles, k)
        hidden = [silo for silo in silos if silo not in plan.reasons]
        reasons = dict(plan.reasons)
        reasons |= dict.fromkeys(hidden, "shows this gateway no profile")
        plan = dataclasses.replace(plan, skipped=(*plan.skipped, *hidden), reasons=reasons)
        if not plan.asked:
            raise PolicyDenied(
                "no silo shows this gateway a profile",
                "silos approve gateways in policy.gateways; just started silos need some seconds",
            )
        return plan

    def _seal_search(
        self,
        query: Query,
        vector: Vector,
        k: int,
        options: AskOptions,
        plan: Plan,
        query_id: QueryId,
    ) -> bytes:
        words = [word for word in terms(query.text) if len(word) <= MOST_WORD_CHARACTERS]
        weighed = sorted(self._weights.weigh(words), key=lambda term: -term.weight)
        request = SearchRequest(
            vector=vector,
            terms=tuple(weighed[:MOST_TERMS]),
            k=k,
            unit=options.unit,
            depth=max(self._settings.depth, k),
            purpose=query.purpose,
            requester=query.requester,
        )
        roster = self._pinned.current
        return envelopes.seal(
            self._identity,
            [roster.member(silo, "silo") for silo in plan.asked],
            "search",
            query_id,
            request,
            roster=roster,
            now=self._clock(),
            lifetime_ms=int(1000 * (self._settings.deadline_s + _SPARE_LIFETIME_S)),
            k=k,
            unit=options.unit,
        )

    def _check_merge(
        self, merged: MergeReply, query_id: QueryId, plan: Plan, k: int
    ) -> list[Missing]:
        """Who is missing; IntegrityError when the hub's answer oversteps the question."""
        handles = [winner.handle for winner in merged.winners]
        if merged.query_id != query_id or len(handles) > k or len(set(handles)) != len(handles):
            raise IntegrityError("the hub's winners do not fit the question")
        strangers = {winner.silo for winner in merged.winners} - set(plan.asked)
        if strangers:
            raise IntegrityError("the hub names winners of silos that were not asked")
        silent = [item for item in merged.silence if item.silo in plan.asked]
        refused = [
            self._read_refusal(signed, query_id)
            for signed in merged.refusals
            if signed.signer in plan.asked
        ]
        told: set[str] = {item.silo for item in (*silent, *refused)}
        told |= {winner.silo for winner in merged.winners} | merged.silo_ms.keys()
        dropped = [
            Missing(silo, "unreachable", "the hub says nothing of it")
            for silo in plan.asked
            if silo not in told
        ]
        return [*silent, *refused, *dropped]

    def _check_tickets(
        self, merged: MergeReply, k: int
    ) -> tuple[dict[NodeId, tuple[Signed, Ticket]], list[Missing]]:
        """The ticket of each silo with winners, and silos whose ticket does not hold."""
        good: dict[NodeId, tuple[Signed, Ticket]] = {}
        for signed in merged.tickets:
            ticket = self._read_ticket(signed, merged, k)
            if ticket is not None:
                good[ticket.silo] = signed, ticket
        cheated = [
            Missing(silo, "integrity", "the hub sent no ticket that fits its winners")
            for silo in dict.fromkeys(winner.silo for winner in merged.winners)
            if silo not in good
        ]
        return good, cheated

    def _read_refusal(self, signed: Signed, query_id: QueryId) -> Missing:
        """A silo's own refusal; the hub cannot make one up."""
        try:
            body = rosters.open_signed(self._pinned.current, signed, REPLY_CONTEXT, "silo")
            reply = decode(SearchReply, body)
            if reply.query_id != query_id or reply.silo != signed.signer or not reply.refusal:
                raise IntegrityError("a refusal of another silo or question")
        except SiloquyError as error:
            return Missing(signed.signer, "integrity", error.message)
        return dataclasses.replace(reply.refusal, silo=signed.signer)

    def _read_ticket(self, signed: Signed, merged: MergeReply, k: int) -> Ticket | None:
        """The hub's ticket when it is for this question and covers its silo's winners."""
        try:
            body = rosters.open_signed(self._pinned.current, signed, TICKET_CONTEXT, "hub")
            ticket = decode(Ticket, body)
        except SiloquyError:
            return None
        wanted = _handles(merged, ticket.silo)
        named = (ticket.query_id, ticket.gateway, ticket.k)
        fits = named == (merged.query_id, self._identity.node, k)
        covers = set(wanted) <= set(ticket.handles) and len(ticket.claims) == len(ticket.handles)
        return ticket if fits and wanted and covers else None

    async def _release(
        self, merged: MergeReply, tickets: dict[NodeId, tuple[Signed, Ticket]]
    ) -> tuple[dict[NodeId, ReleaseReply], list[Missing], dict[str, int]]:
        asked = list(tickets.values())
        sizes = {"release_requests": 0, "release_replies": 0}
        results = await asyncio.gather(
            *(self._release_one(signed, ticket, merged, sizes) for signed, ticket in asked),
            return_exceptions=True,
        )
        replies: dict[NodeId, ReleaseReply] = {}
        failed: list[Missing] = []
        for (_, ticket), result in zip(asked, results, strict=True):
            if isinstance(result, ReleaseReply):
                replies[ticket.silo] = result
            elif isinstance(result, SiloquyError):
                failed.append(Missing(ticket.silo, _reason(result), result.message))
            else:
                raise result
        return replies, failed, sizes

    async def _release_one(
        self, signed: Signed, ticket: Ticket, merged: MergeReply, sizes: dict[str, int]
    ) -> ReleaseReply:
        roster, now = self._pinned.current, self._clock()
        wanted = _handles(merged, ticket.silo)
        request = ReleaseRequest(signed, wanted)
        envelope = envelopes.seal(
            self._identity,
            [roster.member(ticket.silo, "silo")],
            "release",
            merged.query_id,
            request,
            roster=roster,
            now=now,
            lifetime_ms=int(1000 * (self._settings.deadline_s + _SPARE_LIFETIME_S)),
        )
        data = await self._hub.collect(ticket.silo, envelope, self._settings.deadline_s)
        sizes["release_requests"] += len(envelope)
        sizes["release_replies"] += len(data)
        received = envelopes.receive(data, roster, role="silo", kind="passages", now=self._clock())
        if received.header.id != merged.query_id:
            raise IntegrityError("passages of another question")
        reply = envelopes.open_body(received, self._identity, ReleaseReply)
        self._check_release(reply, received.sender.node, ticket, wanted)
        return reply

    def _check_release(
        self,
        reply: ReleaseReply,
        sender: NodeId,
        ticket: Ticket,
        wanted: Sequence[bytes],
    ) -> None:
        named = {reply.silo, *(passage.silo for passage in reply.passages)}
        if sender != ticket.silo or named != {ticket.silo} or reply.query_id != ticket.query_id:
            raise IntegrityError("passages of another silo or question")
        handles = [passage.handle for passage in reply.passages]
        if len(set(handles)) != len(handles) or set(handles) - set(wanted):
            raise IntegrityError("passages that were not asked for")
        claims = dict(zip(ticket.handles, ticket.claims, strict=True))
        if any(passage.dense != claims[passage.handle] for passage in reply.passages):
            raise IntegrityError("a passage claims another similarity than it won with")
        self._head_book.accept(self._pinned.current, reply.head, sender)

    # -- evidence -------------------------------------------------------------------------------

    async def _evidence(self, collected: Collected) -> tuple[tuple[Source, ...], dict[str, str]]:
        texts = [f"{p.title}. {p.text}" if p.title else p.text for p in collected.passages]
        vectors = await asyncio.to_thread(self._embedder.encode, texts)
        evidence = select(collected.passages, vectors, collected.vector, len(texts))
        return evidence.sources, evidence.flagged


def _handles(merged: MergeReply, silo: NodeId) -> tuple[Handle, ...]:
    return tuple(winner.handle for winner in merged.winners if winner.silo == silo)


def check_query(query: Query) -> Query:
    """The question cleaned; UsageError when it is empty or too long, or the purpose no word."""
    if not all(_NAME.fullmatch(name) for name in (query.purpose, query.requester)):
        raise UsageError(
            "purpose and requester are 1 to 64 letters, digits, spaces and . _ @ -",
            "silos accept purposes by name, such as treatment",
        )
    text = " ".join(clean(query.text).split())
    if not text:
        raise UsageError("the question is empty", "write a question")
    if len(text) > MOST_QUESTION_CHARACTERS:
        raise UsageError(
            f"the question has {len(text):,} characters, at most {MOST_QUESTION_CHARACTERS:,}",
            "shorten it to what you want to know",
        )
    return dataclasses.replace(query, text=text)


def _abstention(reason: str, collected: Collected) -> str:
    asked = len(collected.plan.asked)
    if len({item.silo for item in collected.missing}) >= asked:
        return "No asked silo took part, so nothing can be said; see why each is missing."
    heard = asked - len({item.silo for item in collected.missing})
    advice = "Rephrase it, or ask all silos." if collected.plan.skipped else "Rephrase it."
    return f"Not found in the {heard} of {asked} asked silos that answered: {reason}. {advice}"


def _reason(error: SiloquyError) -> MissingReason:
    if isinstance(error, Unreachable):
        return "timeout" if "did not answer" in error.message else "unreachable"
    if isinstance(error, IntegrityError):
        return "integrity"
    if isinstance(error, Incompatible):
        return "incompatible"
    return "refused"
