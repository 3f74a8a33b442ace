"""The question's way, end to end, at the gateway: understand, retrieve, weigh, answer, sign."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from time import time_ns

from siloquy import crash
from siloquy.errors import SiloquyError, UsageError
from siloquy.gateway.asking import AskOptions, Listener, silent
from siloquy.gateway.learning import Learning
from siloquy.gateway.membership import FederationView, RosterView, federation_view, roster_view
from siloquy.gateway.planning import Planner, merge_plans
from siloquy.gateway.profiles import ProfileBook
from siloquy.gateway.rounds import AuditResult, RoundRequest, RoundResult, Rounds
from siloquy.gateway.stopwatch import Stopwatch
from siloquy.gateway.weighing import WeighedEvidence, weigh
from siloquy.generator.abstention import lacking
from siloquy.generator.checking.conflict import conflicts
from siloquy.generator.understanding.suggestions import suggestions
from siloquy.ports import Generator, Phrasing
from siloquy.router.account import RouterReport
from siloquy.settings import AUDIT_PURPOSE, AskSettings
from siloquy.text.batcher import Batcher
from siloquy.text.words import clean
from siloquy.trust import receipt as receipts
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.types import (
    Answer,
    Draft,
    Missing,
    NodeId,
    Plan,
    Query,
    Sentence,
    SignedMessage,
    Source,
    Turn,
)
from siloquy.watch import tracing

MOST_QUESTION_CHARACTERS = 4000
LEAST_PART_K = 3
# A wider round is begun only with this share of the deadline left: its silos need time to answer.
LEAST_LEFT = 0.4
_NAME = re.compile(r"[A-Za-z0-9 ._@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Retriever:
    """What retrieves for a gateway; made by ``gateway.site.build_retriever``."""

    rounds: Rounds
    planner: Planner
    profiles: ProfileBook
    learning: Learning


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """One released passage in merge order, as ``POST /v1/retrieve`` shows it."""

    rank: int
    silo: NodeId
    document: str
    title: str
    text: str
    start: int
    end: int
    section: str
    dated: str


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Evidence without an answer."""

    passages: tuple[RankedPassage, ...]
    plan: Plan
    missing: tuple[Missing, ...]
    released: dict[str, int]
    withheld: dict[str, int]
    flagged: dict[str, str]
    notes: tuple[str, ...]
    timings_ms: dict[str, float]
    traffic: dict[str, int]


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """Whether the gateway can ask, and whom."""

    ready: bool
    hub: bool
    roster_version: int
    federation: str
    silos: tuple[NodeId, ...]
    profiled: tuple[NodeId, ...]
    refused_profiles: tuple[Missing, ...]
    model: str


@dataclass(frozen=True, slots=True)
class GatheredEvidence:
    """All rounds of one question, the evidence in them, and what the reader must know of them."""

    rounds: tuple[RoundResult, ...]
    evidence: WeighedEvidence
    notes: tuple[str, ...]

    @property
    def questions(self) -> tuple[str, ...]:
        """What is asked: the question, or its parts."""
        return tuple(item.round.question for item in self.rounds if item.round.kind != "wider")

    @property
    def plan(self) -> Plan:
        """Who was asked in any round."""
        return merge_plans([item.plan for item in self.rounds])

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Asked silos that did not take part in a round, each reason once."""
        return tuple(dict.fromkeys(gone for item in self.rounds for gone in item.missing))

    @property
    def released(self) -> dict[str, int]:
        """Passages that each silo released in all rounds."""
        return _summed([item.round.released for item in self.rounds])

    @property
    def withheld(self) -> dict[str, int]:
        """Winners that each silo held back in all rounds."""
        return _summed([item.withheld for item in self.rounds])

    @property
    def heads(self) -> tuple[SignedMessage, ...]:
        """The silos' signed ledger heads."""
        return tuple(head for item in self.rounds for head in item.heads)


class Gateway:
    """A clinician's site: the only place where questions and passages are read."""

    def __init__(
        self,
        identity: Identity,
        pinned: PinnedRoster,
        retriever: Retriever,
        encoder: Batcher,
        phrasing: Phrasing,
        generator: Generator,
        settings: AskSettings,
        clock: Callable[[], int],
        connected: Callable[[], bool] = lambda: True,
        load: Callable[[], object] = lambda: None,
        account: Callable[[], RouterReport | None] = lambda: None,
    ) -> None:
        self._identity = identity
        self._pinned = pinned
        self._retriever = retriever
        self._rounds = retriever.rounds
        self._encoder = encoder
        self._phrasing = phrasing
        self._generator = generator
        self._settings = settings
        self._clock = clock
        self._connected = connected
        self._load = load
        self._account = account
        self._warm = False

    # -- asking ---------------------------------------------------------------------------------

    async def ask(
        self,
        query: Query,
        options: AskOptions,
        *,
        turns: Sequence[Turn] = (),
        told: Listener = silent,
    ) -> Answer:
        """A cited answer, or an abstention; every chosen silo is accounted for.

        turns   what was asked and answered before, oldest first: a follow-up is written out
        told    hears what happens while it happens; cancelling the call cancels work at the silos
        """
        watch, began_ns = Stopwatch(), time_ns()
        query = check_query(query)
        query = dataclasses.replace(query, text=await self._standalone(turns, query.text))
        parts = await self._phrasing.parts(query.text)
        watch.lap("understand")
        gathered = await self._gather(query, parts, options, told)
        self._check(gathered.evidence)
        watch = Stopwatch(watch.stages | _slowest(gathered.rounds))
        sources = gathered.evidence.sources
        teller = _SentenceTeller(sources, told)
        draft = await self._generator.answer(gathered.questions, sources, teller.sentence)
        watch.lap("generate")
        answer = self._signed(query, gathered, draft, watch)
        tracing.answered(answer, began_ns)
        told(answer)
        return answer

    async def retrieve(self, query: Query, options: AskOptions) -> Retrieval:
        """The released passages in merge order, without an answer."""
        query = check_query(query)
        until = asyncio.get_running_loop().time() + self._settings.deadline_s
        k, told_k = self._k(options)
        wanted = RoundRequest("question", query, k, self._settings.most_released, until)
        collected = await self._rounds.collect(wanted, options, silent)
        weighed = WeighedEvidence((), {}, ())
        watch = Stopwatch(dict(collected.timings_ms))
        best: Sequence[int] = range(min(k, len(collected.passages)))
        if options.rescore:
            weighed = await weigh([collected], self._encoder, until)
            best = weighed.best or best
            self._check(weighed)
            watch.lap("rescore")
        ranked = [collected.passages[i] for i in best]
        passages = tuple(
            RankedPassage(
                rank, p.silo, p.document, p.title, p.text, p.start, p.end, p.section, p.dated
            )
            for rank, p in enumerate(ranked, start=1)
        )
        return Retrieval(
            passages=passages,
            plan=collected.plan,
            missing=collected.missing,
            released=collected.round.released,
            withheld=collected.withheld,
            flagged=weighed.flagged,
            notes=(*collected.plan.notes, *told_k, *weighed.notes),
            timings_ms=watch.total(),
            traffic=collected.traffic,
        )

    async def audit(self, query: Query) -> AuditResult:
        """Where the best passages lie, by all silos' word: the router learns, nothing leaves."""
        query = dataclasses.replace(check_query(query), purpose=AUDIT_PURPOSE)
        until = asyncio.get_running_loop().time() + self._settings.deadline_s
        k = self._settings.k
        return await self._rounds.audit(RoundRequest("question", query, k, k, until))

    async def warm(self) -> None:
        """Load encoder and language model, so that the first question does not wait for them."""
        await self._encoder.encode(["warm"])
        await asyncio.to_thread(self._load)
        self._warm = True

    async def refresh(self) -> None:
        """Open the profiles that the hub holds for this gateway; new ones are put to the test."""
        await self._retriever.profiles.refresh()

    async def learnt(self, timeout_s: float | None = None) -> bool:
        """Wait until the router has learnt of all questions so far; False: it takes longer."""
        return await self._retriever.learning.done(timeout_s)

    def status(self) -> GatewayStatus:
        """Whether the gateway can ask, and whom."""
        roster, opened = self._pinned.current, self._retriever.profiles.opened
        return GatewayStatus(
            ready=self._warm and self._connected() and bool(opened.profiles),
            hub=self._connected(),
            roster_version=roster.roster.version,
            federation=roster.fingerprint,
            silos=tuple(card.node for card in roster.of_role("silo")),
            profiled=tuple(profile.silo for profile in opened.profiles),
            refused_profiles=opened.refused,
            model=self._generator.model,
        )

    async def federation(self) -> FederationView:
        """The federation as this gateway knows it."""
        # In a thread: it reads the router's file.
        account = await asyncio.to_thread(self._account)
        return federation_view(
            self._pinned.current,
            self._identity.card,
            self._retriever.profiles.opened,
            account,
            self._rounds.attendance.of,
            connected=self._connected(),
        )

    def roster(self) -> RosterView:
        """Who belongs, as the founders signed it."""
        return roster_view(self._pinned.current)

    async def _standalone(self, turns: Sequence[Turn], question: str) -> str:
        return await self._phrasing.standalone(turns, question) if turns else question

    # -- retrieving -----------------------------------------------------------------------------

    async def _gather(
        self, query: Query, parts: Sequence[str], options: AskOptions, told: Listener
    ) -> GatheredEvidence:
        """The question's parts at once; then, when they found too little, the silos left out."""
        start = asyncio.get_running_loop().time()
        until = start + self._settings.deadline_s
        k, told_k = self._k(options)
        wanted = self._wanted(query, parts, k, until)
        if len(wanted) > 1:
            options = self._retriever.planner.settled(options)
        results = await asyncio.gather(
            *(self._rounds.collect(item, options, told) for item in wanted),
            return_exceptions=True,
        )
        rounds, notes = _survivors(results)
        notes = (*told_k, *notes)
        evidence = await self._weigh(rounds, until)
        wider = self._wider(query, rounds, evidence, until)
        if wider is None:
            return GatheredEvidence(tuple(rounds), evidence, notes)
        try:
            # What was asked sealed is never asked openly afterwards.
            if rounds[0].plan.mode == "sealed":
                options = dataclasses.replace(options, mode="sealed")
            rounds = [*rounds, await self._rounds.collect(wider, options, told)]
            evidence = await self._weigh(rounds, until)
        except SiloquyError as error:
            notes = (*notes, f"asking the other silos failed: {error.message}")
        return GatheredEvidence(tuple(rounds), evidence, notes)

    def _wanted(
        self, query: Query, parts: Sequence[str], k: int, until: float
    ) -> list[RoundRequest]:
        """One round for the question, or one for each part; their k add up to ``k``."""
        parts = parts[: self._settings.most_rounds]
        most = self._settings.most_released
        if len(parts) < 2 or k < LEAST_PART_K * len(parts):
            return [RoundRequest("question", query, k, most, until)]
        each, more = divmod(k, len(parts))
        share = most // len(parts)
        return [
            RoundRequest(
                "part", dataclasses.replace(query, text=part), each + (i < more), share, until
            )
            for i, part in enumerate(parts)
        ]

    def _k(self, options: AskOptions) -> tuple[int, tuple[str, ...]]:
        """Passages to ask for, and a note when they are fewer than was wished."""
        wished = options.k or self._settings.k
        most = max(self._settings.most_released, self._settings.k)
        if wished <= most:
            return wished, ()
        return most, (f"{most} passages were asked for, the most for one question here",)

    def _wider(
        self, query: Query, rounds: Sequence[RoundResult], evidence: WeighedEvidence, until: float
    ) -> RoundRequest | None:
        """A round among the silos that were skipped, when it is needed and can be afforded."""
        left_s = until - asyncio.get_running_loop().time()
        k = min(
            max(item.k for item in rounds),
            self._settings.most_released - sum(len(item.passages) for item in rounds),
        )
        skipped = self._retriever.planner.askable(
            merge_plans([item.plan for item in rounds]).skipped
        )
        affordable = (
            k > 0
            and len(rounds) < self._settings.most_rounds
            and left_s >= LEAST_LEFT * self._settings.deadline_s
        )
        if not skipped or not affordable:
            return None
        floor = self._settings.answer_floor
        asked = [item.round.question for item in rounds]
        lacks = [text for text in asked if lacking(text, evidence.sources, floor)]
        if not lacks:
            return None
        wider = dataclasses.replace(query, text=" ".join(lacks))
        return RoundRequest("wider", wider, k, k, until, among=skipped)

    async def _weigh(self, rounds: Sequence[RoundResult], until: float) -> WeighedEvidence:
        """The evidence of all rounds; how long it took is added to the last one's stages."""
        watch = Stopwatch(rounds[-1].timings_ms)
        weighed = await weigh(rounds, self._encoder, until)
        watch.lap("rescore")
        return weighed

    def _check(self, weighed: WeighedEvidence) -> None:
        """Let the router learn whose claimed scores fitted the passages."""
        self._retriever.learning.checked(weighed.verified, weighed.false)

    # -- answering ------------------------------------------------------------------------------

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock() / 1000, UTC).date()

    def _signed(
        self, query: Query, gathered: GatheredEvidence, draft: Draft, watch: Stopwatch
    ) -> Answer:
        sources = () if draft.abstained else gathered.evidence.sources
        answer = Answer(
            question=query.text,
            answer=_abstention(draft.reason, gathered)
            if draft.abstained
            else receipts.written(draft.sentences),
            abstained=draft.abstained,
            sentences=draft.sentences,
            sources=sources,
            plan=gathered.plan,
            missing=gathered.missing,
            withheld=gathered.withheld,
            released=gathered.released,
            flagged=gathered.evidence.flagged,
            rounds=tuple(item.round for item in gathered.rounds),
            conflicts=conflicts(query.text, sources, self._today()) if sources else (),
            dropped=draft.dropped,
            notes=(*gathered.plan.notes, *gathered.notes, *gathered.evidence.notes, *draft.notes),
            mode=gathered.plan.mode,
            model=draft.model or self._generator.model,
            extractive=draft.extractive,
            timings_ms=watch.total(),
            receipt={},
            suggestions=suggestions(query.text, draft.sentences, gathered.evidence.sources),
        )
        receipt = receipts.make(
            self._identity, self._pinned.current, answer, gathered.heads, self._clock()
        )
        crash.point("receipt-signed")
        return dataclasses.replace(answer, receipt=receipt)


class _SentenceTeller:
    """Tells each sentence after the sources that it cites, each source once."""

    def __init__(self, sources: Sequence[Source], told: Listener) -> None:
        self._left = {source.n: source for source in sources}
        self._told = told

    def sentence(self, sentence: Sentence) -> None:
        """Tell ``sentence``."""
        for n in sentence.citations:
            source = self._left.pop(n, None)
            if source is not None:
                self._told(source)
        self._told(sentence)


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


def _survivors(
    results: Sequence[RoundResult | BaseException],
) -> tuple[list[RoundResult], tuple[str, ...]]:
    """Rounds that came back, and a note of each that did not; the error when none did."""
    errors = [item for item in results if isinstance(item, BaseException)]
    rounds = [item for item in results if isinstance(item, RoundResult)]
    for error in errors:
        if not rounds or not isinstance(error, SiloquyError):
            raise error
    notes = [
        f"a part of the question could not be asked: {error.message}"
        for error in errors
        if isinstance(error, SiloquyError)
    ]
    return rounds, tuple(dict.fromkeys(notes))


def _summed(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for item in counts for name in item)
    return {name: sum(item.get(name, 0) for item in counts) for name in names}


def _slowest(rounds: Sequence[RoundResult]) -> dict[str, float]:
    """Milliseconds by stage: rounds of parts run at once, a wider one after them."""
    stages: dict[str, float] = {}
    first = [item for item in rounds if item.round.kind != "wider"]
    for name in dict.fromkeys(name for item in first for name in item.timings_ms):
        stages[name] = max(item.timings_ms.get(name, 0.0) for item in first)
    for item in rounds[len(first) :]:
        for name, ms in item.timings_ms.items():
            stages[name] = round(stages.get(name, 0.0) + ms, 2)
    return stages


def _abstention(reason: str, gathered: GatheredEvidence) -> str:
    plan = gathered.plan
    silent_ones = {item.silo for item in gathered.missing}
    asked = len(plan.asked)
    if len(silent_ones) >= asked:
        return "No asked silo took part, so nothing can be said; see why each is missing."
    advice = "Rephrase it, or ask all silos." if plan.skipped else "Rephrase it."
    heard = asked - len(silent_ones)
    return f"Not found in the {heard} of {asked} asked silos that answered: {reason}. {advice}"
