"""Retrieval at the gateway: a question, a part of it or a wider choice of silos, one round each."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time_ns

import numpy as np

from siloquy.errors import (
    TimedOut,
    UsageError,
)
from siloquy.gateway.asking import AskOptions, Listener
from siloquy.gateway.attendance import Attendance
from siloquy.gateway.learning import Learning
from siloquy.gateway.phases import Phases, ReleaseResult, SearchResult
from siloquy.gateway.planning import Planner, Question
from siloquy.gateway.stopwatch import Stopwatch
from siloquy.ports import Router
from siloquy.settings import AskSettings
from siloquy.text.batcher import Batcher
from siloquy.text.words import words
from siloquy.types import (
    Missing,
    NodeId,
    Passage,
    Plan,
    PlanEvent,
    Query,
    Round,
    RoundKind,
    SealedRequest,
    SearchFeedback,
    SearchRequest,
    SignedMessage,
    SiloEvent,
    Term,
    Vector,
)
from siloquy.watch import tracing
from siloquy.watch.metrics import GatewayMonitor
from siloquy.wire.calls import MOST_K, MOST_TERMS, MOST_WORD_CHARACTERS

# Shares of the time that is left: the search leaves time for the release, both for the answer.
SEARCH_SHARE, RELEASE_SHARE = 0.5, 0.8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """What one round looks for.

    k        passages of all silos together
    most     passages that may leave for it: a sealed question takes more than k, see over_fetch
    among    the only silos that may be asked; None for all
    until    end of the round, in the event loop's time
    """

    kind: RoundKind
    query: Query
    k: int
    most: int
    until: float
    among: tuple[NodeId, ...] | None = None


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What came of one round.

    k          passages that were wanted; a sealed question may have released more
    passages   in the hub's order, best first
    """

    round: Round
    k: int
    vector: Vector
    terms: tuple[Term, ...]
    plan: Plan
    passages: tuple[Passage, ...]
    missing: tuple[Missing, ...]
    withheld: dict[str, int]
    heads: tuple[SignedMessage, ...]
    timings_ms: dict[str, float]
    traffic: dict[str, int]


@dataclass(frozen=True, slots=True)
class AuditResult:
    """An audit: who was asked and who was not, and how many of the best each silo held."""

    asked: tuple[NodeId, ...]
    skipped: tuple[NodeId, ...]
    missing: tuple[Missing, ...]
    held: dict[NodeId, int]


class Rounds:
    """Routes, searches and collects for one gateway."""

    def __init__(
        self,
        planner: Planner,
        phases: Phases,
        encoder: Batcher,
        router: Router,
        learning: Learning,
        settings: AskSettings,
        clock: Callable[[], int],
        monitor: GatewayMonitor | None = None,
    ) -> None:
        self._planner = planner
        self._phases = phases
        self._encoder = encoder
        self._router = router
        self._learning = learning
        self._settings = settings
        self._clock = clock
        self._monitor = monitor or GatewayMonitor()
        self.attendance = Attendance()

    async def collect(
        self, wanted: RoundRequest, options: AskOptions, told: Listener
    ) -> RoundResult:
        """Both phases of one round; every asked silo is accounted for."""
        watch, began_ns = Stopwatch(), time_ns()
        vector = await self._embed(wanted)
        watch.lap("embed")
        every = tuple(words(wanted.query.text))
        plan = self._planner.plan(Question(vector, every, wanted.k, wanted.among), options)
        watch.lap("route")
        told(PlanEvent(wanted.kind, wanted.query.text, plan))
        terms = self._terms(every)
        request: SearchRequest | SealedRequest
        if plan.mode == "sealed":
            request = await self._sealed_request(vector, wanted, options)
            watch.lap("seal")
        else:
            request = self._request(vector, terms, wanted, options)
        quotas = self._router.quotas(plan, request.k)
        won = await self._phases.search(request, plan.asked, _left_s(wanted, SEARCH_SHARE), quotas)
        watch.lap("search")
        _tell_heard(won, plan, told)
        if wanted.among is None:
            # Promises are about open questions: a sealed round teaches, but is no audit.
            asked = dataclasses.replace(plan, audit=plan.audit and plan.mode == "open")
            heard = SearchFeedback(
                vector, every, asked, _held(won, plan), won.missing, won.merged.silo_ms
            )
            self._learning.heard(heard)
        out = await self._phases.release(won, _left_s(wanted, RELEASE_SHARE))
        watch.lap("release")
        _tell_released(out, told)
        tracing.routed(won.merged.query_id, began_ns, watch.stages)
        replies = out.replies
        missing, left = (*won.missing, *out.failed), len(out.passages)
        self._monitor.collected(len(plan.asked), missing, left, watch.stages)
        self.attendance.note(plan.asked, missing, self._clock())
        return RoundResult(
            round=Round(
                kind=wanted.kind,
                question=wanted.query.text,
                query_id=won.merged.query_id.hex(),
                asked=plan.asked,
                released={silo: len(reply.passages) for silo, reply in replies.items()},
            ),
            k=wanted.k,
            vector=vector,
            terms=terms,
            plan=plan,
            passages=out.passages,
            missing=missing,
            withheld={silo: reply.withheld for silo, reply in replies.items() if reply.withheld},
            heads=tuple(reply.head for reply in replies.values()),
            timings_ms=watch.stages,
            traffic={**won.merged.traffic, **out.traffic},
        )

    async def audit(self, wanted: RoundRequest) -> AuditResult:
        """Phase 1 at every silo, so that the router learns who holds the best; nothing leaves."""
        vector = await self._embed(wanted)
        every = tuple(words(wanted.query.text))
        plan = self._planner.audit()
        request = self._request(vector, self._terms(every), wanted, AskOptions())
        won = await self._phases.search(request, plan.asked, _left_s(wanted, SEARCH_SHARE))
        self.attendance.note(plan.asked, won.missing, self._clock())
        held = _held(won, plan)
        heard = SearchFeedback(vector, every, plan, held, won.missing, won.merged.silo_ms)
        await self._learning.taught(heard)
        return AuditResult(plan.asked, plan.skipped, won.missing, held)

    async def _embed(self, wanted: RoundRequest) -> Vector:
        try:
            async with asyncio.timeout(_left_s(wanted, SEARCH_SHARE)):
                return np.asarray((await self._encoder.encode([wanted.query.text]))[0])
        except TimeoutError:
            raise TimedOut("the encoder is busy", "ask again in some seconds") from None

    def _terms(self, every: Sequence[str]) -> tuple[Term, ...]:
        short = [
            term for term in self._router.terms(every) if len(term.word) <= MOST_WORD_CHARACTERS
        ]
        return tuple(sorted(short, key=lambda term: -term.weight)[:MOST_TERMS])

    async def _sealed_request(
        self, vector: Vector, wanted: RoundRequest, options: AskOptions
    ) -> SealedRequest:
        if options.unit != "passage":
            raise UsageError(
                "a sealed question is for passages: nobody but the silos knows their documents",
                "leave unit out, or ask in open mode",
            )
        more = math.ceil(self._settings.over_fetch * wanted.k)
        return await self._phases.seal(
            vector,
            min(more, max(wanted.most, wanted.k), MOST_K),
            wanted.query.purpose,
            wanted.query.requester,
            _left_s(wanted, SEARCH_SHARE),
        )

    def _request(
        self, vector: Vector, terms: tuple[Term, ...], wanted: RoundRequest, options: AskOptions
    ) -> SearchRequest:
        return SearchRequest(
            vector=vector,
            terms=terms,
            k=wanted.k,
            unit=options.unit,
            depth=max(self._settings.depth, wanted.k),
            purpose=wanted.query.purpose,
            requester=wanted.query.requester,
        )


def _held(won: SearchResult, plan: Plan) -> dict[NodeId, int]:
    """Winners of each asked silo that took part."""
    gone = {item.silo for item in won.missing}
    counts = dict.fromkeys((silo for silo in plan.asked if silo not in gone), 0)
    for winner in won.merged.winners:
        if winner.silo in counts:
            counts[winner.silo] += 1
    return counts


def _left_s(wanted: RoundRequest, share: float) -> float:
    left = wanted.until - asyncio.get_running_loop().time()
    if left <= 0:
        raise TimedOut("the time for this question is over", "raise ask.deadline_s, or ask again")
    return share * left


def _tell_heard(won: SearchResult, plan: Plan, told: Listener) -> None:
    missing = {item.silo: item for item in won.missing}
    ms = won.merged.silo_ms
    for silo in plan.asked:
        gone = missing.get(silo)
        if gone is not None:
            told(SiloEvent(silo, "missing", ms.get(silo, 0.0), detail=gone.detail or gone.reason))
        else:
            told(SiloEvent(silo, "answered", ms.get(silo, 0.0)))


def _tell_released(out: ReleaseResult, told: Listener) -> None:
    for silo, reply in out.replies.items():
        told(SiloEvent(silo, "released", passages=len(reply.passages)))
    for item in out.failed:
        told(SiloEvent(item.silo, "missing", detail=item.detail or item.reason))
