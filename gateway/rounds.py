"""Retrieval at the gateway: a question, a part of it or a wider choice of silos, one round each."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, time_ns

import numpy as np

from siloquy.errors import (
    PolicyDenied,
    SettingsError,
    SiloquyError,
    TimedOut,
    Unreachable,
    UsageError,
)
from siloquy.gateway.asking import AskOptions, Listener
from siloquy.gateway.attendance import Attendance
from siloquy.gateway.background import Background
from siloquy.gateway.phases import Phases, ReleaseResult, SearchResult
from siloquy.ports import Hub, Router
from siloquy.router.choice import ask_all
from siloquy.router.modes import in_mode, of_fixed_number
from siloquy.router.profile import OpenedProfiles, Versions, countable, open_all
from siloquy.router.trust import PROBE_K
from siloquy.settings import AUDIT_PURPOSE, AskSettings
from siloquy.text.batcher import Batcher
from siloquy.text.lexicon import Lexicon
from siloquy.text.words import words
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster, SignedRoster
from siloquy.types import (
    Intent,
    Member,
    Missing,
    NodeId,
    Passage,
    Plan,
    PlanEvent,
    Probe,
    Query,
    Round,
    RoundKind,
    RouteRequest,
    SealedRequest,
    Sealing,
    SearchFeedback,
    SearchRequest,
    SignedMessage,
    SiloEvent,
    Term,
    Vector,
)
from siloquy.watch import tracing
from siloquy.watch.monitor import GatewayMonitor
from siloquy.wire.calls import MOST_K, MOST_TERMS, MOST_WORD_CHARACTERS

PROBE_TIMEOUT_S = 5.0
PROBES_AT_ONCE = 4
# A silo is given so long before its next probes: what changes all the time is not asked all the
# time, and one that does not answer is let alone for longer.
PROBE_PAUSE_S, UNANSWERED_PAUSE_S = 30.0, 300.0
# Questions of which the learning may lag behind; those beyond teach nothing.
MOST_UNLEARNT = 256
AUDITED = "asked to check the router's promise; nothing leaves"
# Of what is left of the deadline: the search must leave time for the release, both for the answer.
SEARCH_SHARE, RELEASE_SHARE = 0.5, 0.8
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds of each stage."""

    stages: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=perf_counter)

    def lap(self, name: str) -> None:
        """End the stage ``name`` and begin the next; a stage met again adds up."""
        now = perf_counter()
        self.stages[name] = round(self.stages.get(name, 0.0) + 1000 * (now - self._start), 2)
        self._start = now

    def total(self) -> dict[str, float]:
        """All stages and their sum."""
        return {**self.stages, "total": round(sum(self.stages.values()), 2)}


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
    """Routes, searches and collects for one gateway, with the profiles that it has opened."""

    def __init__(
        self,
        identity: Identity,
        pinned: PinnedRoster,
        hub: Hub,
        encoder: Batcher,
        lexicon: Lexicon,
        router: Router,
        versions: Versions,
        head_book: HeadBook,
        settings: AskSettings,
        clock: Callable[[], int],
        monitor: GatewayMonitor | None = None,
    ) -> None:
        self._identity = identity
        self._pinned = pinned
        self._hub = hub
        self._encoder = encoder
        self._lexicon = lexicon
        self._router = router
        self._versions = versions
        self._settings = settings
        self._clock = clock
        self._phases = Phases(identity, pinned, hub, head_book, clock)
        self.opened = OpenedProfiles((), ())
        self.attendance = Attendance()
        # Two, so that a silo is held to its word at once and not after seconds of learning.
        self._learning = Background("learning", MOST_UNLEARNT)
        self._checking = Background("checking", MOST_UNLEARNT)
        self._probe_after: dict[NodeId, float] = {}
        self._monitor = monitor or GatewayMonitor()

    async def refresh(self) -> None:
        """Open the profiles that the hub holds for this gateway."""
        sealed = await self._hub.profiles()
        opened = await asyncio.to_thread(
            open_all,
            sealed,
            self._identity,
            self._pinned.current,
            self._versions,
            self._clock(),
            self.opened.profiles,
        )
        opened = countable(opened, self._lexicon, self._clock(), self.opened.profiles)
        for missing in set(opened.refused) - set(self.opened.refused):
            _log.warning("profile refused silo=%s: %s", missing.silo, missing.detail)
        self.opened = opened
        try:
            await asyncio.to_thread(self._router.follow, opened.profiles)
            probes = await asyncio.to_thread(self._router.unprobed)
        except Exception as error:  # noqa: BLE001 - a router that cannot learn still chooses
            _log.warning("nothing learnt of the profiles: %s", type(error).__name__)
            return
        await self._probe(probes)

    async def _probe(self, probes: Sequence[Probe]) -> None:
        """Hold new profiles to their word; phase 1 alone, so that no passage leaves."""
        now, sealing = asyncio.get_running_loop().time(), self._sealing()
        due = [
            probe
            for probe in probes
            # A probe compares claimed scores, of which a sealed question shows none.
            if now >= self._probe_after.get(probe.silo, 0.0) and sealing.get(probe.silo) != "all"
        ]
        turns = asyncio.Semaphore(PROBES_AT_ONCE)
        await asyncio.gather(*(self._probe_one(probe, turns) for probe in due))

    async def _probe_one(self, probe: Probe, turns: asyncio.Semaphore) -> None:
        pause_s = UNANSWERED_PAUSE_S
        try:
            async with turns:
                claims = [await self._claims(probe, vector) for vector in probe.vectors]
            await asyncio.to_thread(self._router.probed, probe, claims)
            pause_s = PROBE_PAUSE_S
        except SiloquyError as error:
            _log.info("not probed silo=%s code=%s", probe.silo, error.code)
        except Exception as error:  # noqa: BLE001 - a silo that cannot be judged is asked as before
            _log.warning("not probed silo=%s: %s", probe.silo, type(error).__name__)
        self._probe_after[probe.silo] = asyncio.get_running_loop().time() + pause_s

    async def _claims(self, probe: Probe, vector: Vector) -> tuple[float, ...]:
        """The cosines that a silo claims for its nearest passages; raises when it says nothing."""
        request = SearchRequest(
            vector=vector,
            terms=(),
            k=PROBE_K,
            unit="passage",
            depth=PROBE_K,
            purpose=AUDIT_PURPOSE,
            requester="router",
        )
        won = await self._phases.search(request, [probe.silo], PROBE_TIMEOUT_S)
        if won.missing:
            raise Unreachable(f"{probe.silo} did not answer a probe: {won.missing[0].reason}")
        held = won.tickets.get(probe.silo)
        return held[1].claims if held else ()

    async def collect(
        self, wanted: RoundRequest, options: AskOptions, told: Listener
    ) -> RoundResult:
        """Both phases of one round; every asked silo is accounted for."""
        watch, began_ns = Stopwatch(), time_ns()
        vector = await self._embed(wanted)
        watch.lap("embed")
        every = tuple(words(wanted.query.text))
        plan = self._plan(vector, every, wanted, options)
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
            # A promise is about open questions: a sealed audit teaches who holds what, no more.
            asked = dataclasses.replace(plan, audit=plan.audit and plan.mode == "open")
            heard = SearchFeedback(
                vector, every, asked, _held(won, plan), won.missing, won.merged.silo_ms
            )
            self._learning.soon(lambda: self._router.heard(heard))
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
        silos = self._silos()
        barred = self._router.barred(silos)
        plan = dataclasses.replace(_all(silos, barred, self._settings.intent, AUDITED), audit=True)
        plan = in_mode(plan, "open", self._sealing())
        if not plan.asked:
            raise _nobody(plan)
        request = self._request(vector, self._terms(every), wanted, AskOptions())
        won = await self._phases.search(request, plan.asked, _left_s(wanted, SEARCH_SHARE))
        self.attendance.note(plan.asked, won.missing, self._clock())
        held = _held(won, plan)
        heard = SearchFeedback(vector, every, plan, held, won.missing, won.merged.silo_ms)
        # Whoever asks for audits can wait for what they teach.
        await self._learning.run(lambda: self._router.heard(heard))
        return AuditResult(plan.asked, plan.skipped, won.missing, held)

    async def _embed(self, wanted: RoundRequest) -> Vector:
        try:
            async with asyncio.timeout(_left_s(wanted, SEARCH_SHARE)):
                return np.asarray((await self._encoder.encode([wanted.query.text]))[0])
        except TimeoutError:
            raise TimedOut("the encoder is busy", "ask again in some seconds") from None

    async def learnt(self, timeout_s: float | None = None) -> bool:
        """Wait until what was heard and checked so far has been learnt; False: it takes longer."""
        waiting = (self._checking, self._learning)
        done = (asyncio.to_thread(work.done, timeout_s) for work in waiting)
        return all(await asyncio.gather(*done))

    def checked(self, verified: Mapping[NodeId, int], false: Mapping[NodeId, int]) -> None:
        """Let the router learn whose claims fitted, beside the question's way."""
        if verified or false:
            self._checking.soon(lambda: self._router.checked(verified, false))

    def askable(self, silos: Sequence[NodeId]) -> tuple[NodeId, ...]:
        """Those of ``silos`` that neither the settings nor what they have claimed rules out."""
        barred = self._router.barred(silos)
        return tuple(silo for silo in silos if silo not in barred)

    def _plan(
        self, vector: Vector, every: tuple[str, ...], wanted: RoundRequest, options: AskOptions
    ) -> Plan:
        silos = self._silos()
        intent = options.intent or self._settings.intent
        if wanted.among is not None:
            plan = _wider(silos, self.askable(wanted.among), intent)
        elif (options.route or self._settings.route) == "all":
            plan = _all(silos, self._router.barred(silos), intent)
        else:
            plan = self._router.plan(RouteRequest(vector, every, wanted.k, intent, tuple(silos)))
        return self._in_mode(plan, options)

    def _in_mode(self, plan: Plan, options: AskOptions) -> Plan:
        """``plan`` in the mode that is wished for or wanted, without who does not take part."""
        sealing = self._sealing()
        plan = in_mode(plan, options.mode or self._settings.mode, sealing)
        if plan.mode == "sealed":
            barred = self._router.barred(plan.skipped)
            decoys = [s for s in plan.skipped if s not in barred and sealing.get(s) != "none"]
            random.SystemRandom().shuffle(decoys)
            plan = of_fixed_number(plan, self._settings.fan_out, decoys)
            shared = shared_organisation(self._pinned.current, self._identity.card, plan.asked)
            plan = dataclasses.replace(plan, notes=(*plan.notes, *shared))
        if not plan.asked:
            raise _nobody(plan)
        return plan

    def settled(self, options: AskOptions) -> AskOptions:
        """``options`` in one mode for several rounds: sealed when any silo wants it."""
        if (options.mode or self._settings.mode) != "auto":
            return options
        wanted = any(told in ("some", "all") for told in self._sealing().values())
        return dataclasses.replace(options, mode="sealed" if wanted else "open")

    def _sealing(self) -> dict[NodeId, Sealing]:
        """What silos tell of sealed questions."""
        return {profile.silo: profile.sealing for profile in self.opened.profiles}

    def _silos(self) -> list[NodeId]:
        silos = [card.node for card in self._pinned.current.of_role("silo")]
        if not silos:
            raise SettingsError("the roster names no silo", "enrol a silo first")
        return silos

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


def shared_organisation(
    roster: SignedRoster, gateway: Member, silos: Sequence[NodeId]
) -> tuple[str, ...]:
    """What the reader must know where the hub would have to collude with itself alone."""
    organisation = roster.hub.organisation
    same = [silo for silo in silos if roster.member(silo).organisation == organisation]
    if gateway.organisation == organisation:
        same.insert(0, gateway.node)
    if not same:
        return ()
    return (
        f"{organisation} runs the hub and {', '.join(same)}: sealed mode protects nothing "
        "against that organisation",
    )


def merge_plans(plans: Sequence[Plan]) -> Plan:
    """One plan of all rounds: asked is who was asked in any, skipped who was in none.

    It is sealed when every round was: a silo that was asked openly has read the question.
    """
    first = plans[0]
    asked = tuple(dict.fromkeys(silo for plan in plans for silo in plan.asked))
    seen = dict.fromkeys(silo for plan in plans for silo in plan.skipped)
    reasons = {silo: why for plan in reversed(plans) for silo, why in plan.reasons.items()}
    for plan in reversed(plans):
        reasons |= {silo: plan.reasons[silo] for silo in plan.asked if silo in plan.reasons}
    return dataclasses.replace(
        first,
        mode="sealed" if all(plan.mode == "sealed" for plan in plans) else "open",
        asked=asked,
        skipped=tuple(silo for silo in seen if silo not in asked),
        reasons=reasons,
        coverage=first.coverage if len(plans) == 1 else None,
        audit=any(plan.audit for plan in plans),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
    )


def _wider(silos: Sequence[NodeId], among: Sequence[NodeId], intent: Intent) -> Plan:
    asked = tuple(silo for silo in silos if silo in among)
    why = "asked in a second round: the first found too little"
    left = tuple(silo for silo in silos if silo not in among)
    return Plan("open", asked, left, dict.fromkeys(asked, why), intent=intent)


def _all(
    silos: Sequence[NodeId],
    barred: Mapping[NodeId, str],
    intent: Intent,
    why: str = "all silos are asked",
) -> Plan:
    """Every silo but those that are ruled out whatever the question."""
    plan = ask_all([silo for silo in silos if silo not in barred], why)
    reasons = plan.reasons | {str(silo): told for silo, told in barred.items()}
    return dataclasses.replace(plan, skipped=tuple(barred), reasons=reasons, intent=intent)


def _nobody(plan: Plan) -> PolicyDenied:
    whom = "" if plan.mode == "open" else " in sealed mode"
    return PolicyDenied(
        f"no silo may be asked{whom}",
        "silos approve gateways in policy.gateways; `siloquy gateway router` tells why",
    )


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
