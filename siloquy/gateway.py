"""The question's way, end to end, at the gateway: embed, route, seal, ask, collect, answer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from siloquy import receipt as receipts
from siloquy.aggregator.evidence import select
from siloquy.errors import (
    PolicyDenied,
    SettingsError,
    UsageError,
)
from siloquy.generator.service import AskOptions
from siloquy.heads import HeadBook
from siloquy.identity import Identity
from siloquy.lexicon import Lexicon
from siloquy.phases import Phases
from siloquy.ports import Embedder, Generator, Hub, Router
from siloquy.roster import Pinned
from siloquy.router.choice import ask_all
from siloquy.router.profile import Opened, Versions, countable, open_all
from siloquy.router.terms import TermWeights
from siloquy.settings import AskSettings
from siloquy.text import clean, embedded_text, terms
from siloquy.types import (
    Answer,
    Missing,
    NodeId,
    Passage,
    Plan,
    Query,
    QueryId,
    SearchRequest,
    Signed,
    Source,
    Vector,
)

MOST_QUESTION_CHARACTERS = 4000
MOST_TERMS = 64
MOST_WORD_CHARACTERS = 64
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
        self._settings = settings
        self._phases = Phases(identity, pinned, hub, head_book, settings.deadline_s, clock)
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

    # -- the way of one question ------------------------------------------------------------------

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
        won = await self._phases.search(self._request(query, vector, k, options), plan.asked)
        watch.lap("search")
        out = await self._phases.release(won)
        watch.lap("release")
        replies = out.replies
        return Collected(
            query_id=won.merged.query_id,
            vector=vector,
            plan=plan,
            passages=out.passages,
            missing=(*won.missing, *out.failed),
            released={silo: len(reply.passages) for silo, reply in replies.items()},
            withheld={silo: reply.withheld for silo, reply in replies.items() if reply.withheld},
            heads=tuple(reply.head for reply in replies.values()),
            timings_ms=watch.stages,
            traffic={**won.merged.traffic, **out.traffic},
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

    def _request(self, query: Query, vector: Vector, k: int, options: AskOptions) -> SearchRequest:
        words = [word for word in terms(query.text) if len(word) <= MOST_WORD_CHARACTERS]
        weighed = sorted(self._weights.weigh(words), key=lambda term: -term.weight)
        return SearchRequest(
            vector=vector,
            terms=tuple(weighed[:MOST_TERMS]),
            k=k,
            unit=options.unit,
            depth=max(self._settings.depth, k),
            purpose=query.purpose,
            requester=query.requester,
        )

    # -- evidence -------------------------------------------------------------------------------

    async def _evidence(self, collected: Collected) -> tuple[tuple[Source, ...], dict[str, str]]:
        texts = [embedded_text(p.title, p.text) for p in collected.passages]
        vectors = await asyncio.to_thread(self._embedder.encode, texts)
        evidence = select(collected.passages, vectors, collected.vector, len(texts))
        return evidence.sources, evidence.flagged


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
