"""The router of a gateway: profiles, experience and trust made into plans."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siloquy.router import calibration, choice, fitting, probing, trust
from siloquy.router.atlas import Atlas
from siloquy.router.choice import ChoiceLimits, Target
from siloquy.router.experience import CALIBRATED_FROM, Experience, Lesson, SiloStanding
from siloquy.router.fitting import RouterFit
from siloquy.router.health import Health
from siloquy.router.profile import content_hash
from siloquy.router.progress import REFIT_REST_MS, Progress
from siloquy.router.terms import TermWeights
from siloquy.settings import AskSettings
from siloquy.text import words as text
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import (
    Intent,
    NodeId,
    Plan,
    Probe,
    Profile,
    RouteRequest,
    SearchFeedback,
    Term,
    Vector,
)

# What is learned from: audits first, then the newest others.
MOST_LESSONS, MOST_AUDITS = 1000, 600
DRIFTED = "recent questions broke the promised coverage: all silos are asked until it holds again"
AUDITED = "asked to check the router's promise"
NEVER = "this gateway does not ask it"
STRUCK_OUT = "its claimed scores did not fit its passages; an administrator can clear it"
NEW = "new to the audits that the promised coverage rests on"
NO_PROFILE = "shows this gateway no profile"
NOT_IN_ROSTER = "is not in the roster"
_log = logging.getLogger(__name__)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """All that a plan is made of. Replaced as a whole: no plan mixes old and new.

    hashes     of what each profile of the atlas says
    beliefs    (S,) by what each silo's word was worth
    unproven   (S,) whether neither probes nor passages have shown what it is worth
    """

    atlas: Atlas
    weights: TermWeights
    hashes: tuple[bytes, ...]
    fitted: RouterFit
    standings: Mapping[NodeId, SiloStanding]
    beliefs: Floats
    unproven: NDArray[np.bool_]

    def due(self, row: int) -> bool:
        """Whether the silo in ``row`` must be probed for what its profile says now."""
        profile = self.atlas.profiles[row]
        known = self.standings.get(profile.silo, SiloStanding()).profile
        return bool(profile.counts) and known != self.hashes[row]


_chance = secrets.SystemRandom().random


class LearningRouter:
    """``ports.Router``: safe to plan with while other threads learn, probe and refit."""

    def __init__(
        self,
        topics: Topics,
        lexicon: Lexicon,
        experience: Experience,
        settings: AskSettings,
        clock: Callable[[], int],
        chance: Callable[[], float] = _chance,
    ) -> None:
        self._topics = topics
        self._lexicon = lexicon
        self._experience = experience
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._costs = choice.costs(settings.costs)
        self._lock = threading.RLock()
        self._refitting = threading.Lock()
        self._view = self._viewed((), fitting.unfitted(()))
        self._progress = Progress()
        self._shown: tuple[Profile, ...] = ()
        self._probing: dict[NodeId, tuple[Probe, bytes]] = {}
        self.health = Health(clock)

    # -- planning -------------------------------------------------------------------------------

    def plan(self, sought: RouteRequest) -> Plan:
        """The silos to ask, most expected first, with a reason for each."""
        view = self._view
        limits, resting = self._limits(view, sought)
        allowed = [silo for silo in sought.silos if silo not in limits.barred]
        all_may_be_asked = not limits.most or len(allowed) <= limits.most
        drifted = view.fitted.drifted
        if all_may_be_asked and (drifted or self._chance() < self._settings.audit):
            # What a silo would have won that rests just now is not known.
            return _audit(allowed, limits, sought.intent, drifted=drifted, audit=not resting)
        shares, towards = self._expected(view, sought.vector, sought.words, sought.k)
        target = self._target(view.fitted, sought.intent)
        silos = view.atlas.silos
        about: dict[NodeId, tuple[str, ...]] = {}
        if len(silos):
            ranked = choice.priorities(silos, shares, self._costs)
            rows = np.flatnonzero(ranked >= min(target.threshold, float(ranked.max()))).tolist()
            named = view.atlas.about(rows, towards)
            about = {silos[row]: names for row, names in zip(rows, named, strict=True)}
        return choice.choose(silos, shares, sought.k, sought.intent, target, limits, about)

    def terms(self, words: Sequence[str]) -> tuple[Term, ...]:
        """A question's words without stop words, each weighed alike for all silos."""
        return self._weigh(self._view, words)

    def _weigh(self, view: _View, words: Sequence[str]) -> tuple[Term, ...]:
        return view.weights.weigh(text.terms(" ".join(words)))

    def _expected(
        self, view: _View, vector: Vector, words: Sequence[str], k: int
    ) -> tuple[Floats, Vector]:
        """(S,) shares with what was learned, as far as believed; (topics,) what it is about."""
        atlas = view.atlas
        terms = self._weigh(view, words) if atlas.reads_words else ()
        expected = atlas.expect(vector, terms, k)
        shares, learned = expected.shares, view.fitted.learned
        if learned is not None:
            shares = fitting.corrected(learned, vector, words, shares)
        return trust.believed(shares, view.beliefs, view.unproven), expected.towards

    def quotas(self, plan: Plan, k: int) -> dict[NodeId, int]:
        """How many of ``k`` winners silos may have that may not have all."""
        diverse = plan.intent == "diverse" and len(plan.asked) > 1
        most = max(1, round(choice.DIVERSE_QUOTA * k)) if diverse else k
        return trust.quotas(self._view.standings, plan.asked, k, most)

    def _target(self, fitted: RouterFit, intent: Intent) -> Target:
        settings = self._settings
        coverage = settings.fast_coverage if intent == "fast" else settings.coverage
        found = fitted.thresholds.get(coverage)
        if found is None:
            return Target(choice.usual_threshold(coverage), None)
        return Target(found, coverage)

    def barred(self, silos: Sequence[NodeId]) -> dict[NodeId, str]:
        """Those of ``silos`` that no question is asked of for now, all silos' ones included."""
        now, standings = self._clock(), self._view.standings
        never = set(self._settings.never)
        struck = {s for s, standing in standings.items() if trust.struck_out(standing, now)}
        return {
            silo: NEVER if silo in never else STRUCK_OUT
            for silo in silos
            if silo in never or silo in struck
        }

    def _limits(self, view: _View, sought: RouteRequest) -> tuple[ChoiceLimits, bool]:
        """Whom policy, trust and health leave out and whom they oblige; whether one just rests."""
        roster, known = set(sought.silos), view.atlas.rows
        barred = self.barred(sought.silos)
        obliged: dict[NodeId, str] = {}
        for silo in sought.silos:
            if silo not in known and silo not in barred:
                if self._settings.unprofiled and not self.health.refused(silo):
                    obliged[silo] = f"{NO_PROFILE}, so it is asked"
                else:
                    barred[silo] = NO_PROFILE
        patience = self._settings.patience_ms if sought.intent == "fast" else None
        unfit = self.health.all_unfit(patience)
        resting = {s: why for s, why in unfit.items() if s in roster and s not in barred}
        gone = dict.fromkeys((silo for silo in known if silo not in roster), NOT_IN_ROSTER)
        for silo in view.fitted.new:
            if silo not in barred and silo not in gone and view.beliefs[known[silo]] == 1.0:
                obliged[silo] = NEW
        most, all_barred = self._settings.most_silos, barred | resting | gone
        return ChoiceLimits(most, self._costs, all_barred, obliged), bool(resting)

    # -- learning -------------------------------------------------------------------------------

    def follow(self, profiles: Sequence[Profile]) -> None:
        """Plan with these profiles from now on; refits when they say something new."""
        old = self._view
        if tuple(profiles) == self._shown:
            return
        self._shown = tuple(profiles)
        if tuple(content_hash(profile) for profile in profiles) == old.hashes:
            return
        silos = tuple(profile.silo for profile in profiles)
        drifted = self._experience.marked(CALIBRATED_FROM) > 0
        fresh = self._viewed(profiles, fitting.unfitted(silos, drifted=drifted))
        with self._lock:
            # What was learned is about these silos, if not about all that they hold now.
            kept = self._view.fitted if silos == self._view.atlas.silos else fresh.fitted
            self._view = self._judged(replace(fresh, fitted=kept))
            rested = self._clock() - self._progress.refitted >= REFIT_REST_MS
            self._progress.stale = True
        if kept is fresh.fitted or rested:
            self.refit()

    def _viewed(self, profiles: Sequence[Profile], fitted: RouterFit) -> _View:
        return self._judged(
            _View(
                atlas=Atlas(profiles, self._topics, self._lexicon),
                weights=TermWeights(profiles, self._lexicon),
                hashes=tuple(content_hash(profile) for profile in profiles),
                fitted=fitted,
                standings={},
                beliefs=np.ones(len(profiles)),
                unproven=np.zeros(len(profiles), dtype=bool),
            )
        )

    def _judged(self, view: _View) -> _View:
        """The view with what the silos' words are worth now."""
        view = replace(view, standings=self._experience.standings())
        known = [view.standings.get(silo, SiloStanding()) for silo in view.atlas.silos]
        unproven = [view.due(row) and one.verified < trust.PROVEN for row, one in enumerate(known)]
        return replace(
            view,
            beliefs=np.array([trust.belief(standing) for standing in known], dtype=np.float64),
            unproven=np.array(unproven, dtype=bool),
        )

    def heard(self, heard: SearchFeedback) -> None:
        """Learn where the winners of a question lay; refits now and then."""
        self.health.note(heard.plan.asked, heard.missing, heard.silo_ms)
        held = {silo: heard.winners[silo] for silo in heard.plan.asked if silo in heard.winners}
        # An audit counts only when everybody was heard.
        audit = heard.plan.audit and len(held) == len(heard.plan.asked) and any(held.values())
        lesson = Lesson(heard.vector, heard.words, held, audit, None)
        if audit:
            lesson = replace(lesson, missed=self._missed(lesson))
        self._experience.learn(lesson, self._clock())
        if lesson.missed is not None:
            self._watch()
        with self._lock:
            self._progress.count(audit=audit)
            due = self._progress.due(self._view.fitted.audits, self._clock())
        if due:
            self.refit(wait=False)

    def checked(self, verified: Mapping[NodeId, int], false: Mapping[NodeId, int]) -> None:
        """Believe silos by whether the claims of their released passages fitted."""
        struck = [silo for silo, count in false.items() if count]
        good = {silo: n for silo, n in verified.items() if n and silo not in struck}
        if struck or good:
            self._experience.checked(good, struck, self._clock())
            self._judge()
        for silo in struck:
            _log.warning("claims of a silo do not fit its passages silo=%s", silo)

    def _judge(self) -> None:
        with self._lock:
            before, self._view = self._view, self._judged(self._view)
            # The thresholds were sought with other beliefs.
            self._progress.stale |= not np.array_equal(before.beliefs, self._view.beliefs)

    def refit(self, *, wait: bool = True) -> None:
        """Learn anew from what is remembered; seconds of CPU with many questions.

        wait   for another thread that does so now; False: leave it to the next time
        """
        if not self._refitting.acquire(blocking=wait):
            return
        try:
            self._refit()
        finally:
            self._refitting.release()

    def _refit(self) -> None:
        with self._lock:
            view = self._view
            start = self._experience.marked(CALIBRATED_FROM)
            self._progress.begin(self._clock())
        audits = self._experience.lessons(MOST_AUDITS, audits=True)
        others = self._experience.lessons(MOST_LESSONS - len(audits), audits=False)
        lessons = sorted([*audits, *others], key=lambda lesson: lesson.number)
        fitted = fitting.fit(
            view.atlas,
            lessons,
            lambda words: self._weigh(view, words),
            lambda shares: self._rank(view, shares),
            (self._settings.coverage, self._settings.fast_coverage),
            start,
        )
        with self._lock:
            self._progress.taught = len(lessons)
            if self._experience.marked(CALIBRATED_FROM) != start:
                fitted = fitting.broken(fitted)
            if self._view.atlas.silos == fitted.silos:
                self._view = replace(self._view, fitted=fitted)

    def _rank(self, view: _View, shares: Floats) -> Floats:
        """Learned shares to the priorities that silos are asked by."""
        believed = trust.believed(shares, view.beliefs, view.unproven)
        return choice.priorities(view.atlas.silos, believed, self._costs)

    def _missed(self, lesson: Lesson) -> float | None:
        """What the promise in force would have missed of an audit's winners."""
        view = self._view
        threshold = view.fitted.thresholds.get(self._settings.coverage)
        if threshold is None:
            return None
        silos, k = view.atlas.silos, sum(lesson.held.values())
        shares, _ = self._expected(view, lesson.vector, lesson.words, k)
        held = np.array([[lesson.held.get(silo, np.nan) for silo in silos]]) / k
        ranked = choice.priorities(silos, shares, self._costs)[None]
        priorities = fitting.always_asked(ranked, held)
        for silo in view.fitted.new:
            priorities[0, view.atlas.rows[silo]] = np.inf
        return float(calibration.missed(priorities, np.nan_to_num(held), threshold)[0])

    def _watch(self) -> None:
        """Give the promise up when it is broken: the audits until then are no longer believed."""
        with self._lock:
            start = self._experience.marked(CALIBRATED_FROM)
            audits = self._experience.lessons(MOST_AUDITS, audits=True, after=start)
            since = [item for item in audits if item.missed is not None]
            losses = [float(item.missed or 0.0) for item in since]
            path = calibration.wealth(losses, self._settings.coverage)
            if path.max() < calibration.ALARM:
                return
            last = since[int(np.argmax(path >= calibration.ALARM)) - 1]
            self._experience.mark(CALIBRATED_FROM, last.number)
            self._view = replace(self._view, fitted=fitting.broken(self._view.fitted))
            self._progress.audits = 0
        _log.warning("the promised coverage broke after %d audits", len(losses))

    # -- probing --------------------------------------------------------------------------------

    def unprobed(self) -> list[Probe]:
        """Probes for profiles whose content has not been probed yet."""
        view = self._view
        found: list[Probe] = []
        for row, silo in enumerate(view.atlas.silos):
            if view.due(row):
                found.append(probing.probe(view.atlas, row, self._topics))
                self._probing[silo] = (found[-1], view.hashes[row])
        return found

    def probed(self, probe: Probe, claims: Sequence[Sequence[float]]) -> None:
        """Keep what the probes of a silo came to; without probes it is believed."""
        # Of the profile that they were made for: it may have been replaced meanwhile.
        made, content = self._probing.get(probe.silo, (None, b""))
        if made is not probe:
            return
        result = trust.outcome(claims, probe.expected) if probe.expected else 1.0
        self._experience.probed(probe.silo, content, result)
        self._judge()
        if result < trust.BELIEVED:
            _log.warning("a profile is not backed by its silo silo=%s met=%.2f", probe.silo, result)

    # -- telling --------------------------------------------------------------------------------

    @property
    def silos(self) -> tuple[NodeId, ...]:
        """Silos with a profile, in the order of the atlas."""
        return self._view.atlas.silos

    @property
    def fitted(self) -> RouterFit:
        """What the experience came to."""
        return self._view.fitted

    @property
    def standings(self) -> dict[NodeId, SiloStanding]:
        """What silos' words have been worth."""
        return dict(self._view.standings)

    def pardon(self, silo: NodeId) -> bool:
        """Forget a silo's strikes and probes; whether there was anything to forget."""
        done = self._experience.pardon(silo)
        self._judge()
        return done


def _audit(
    allowed: Sequence[NodeId], limits: ChoiceLimits, intent: Intent, *, drifted: bool, audit: bool
) -> Plan:
    plan = choice.ask_all(allowed, DRIFTED if drifted else AUDITED)
    return replace(
        plan,
        skipped=tuple(limits.barred),
        reasons=plan.reasons | dict(limits.barred),
        intent=intent,
        audit=audit,
        notes=(DRIFTED,) if drifted else (),
    )
