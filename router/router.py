"""The router of a gateway: profiles, experience and trust made into plans."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import norm

from siloquy import text
from siloquy.errors import SettingsError
from siloquy.lexicon import Lexicon
from siloquy.router import calibration, choice, trust
from siloquy.router.atlas import Atlas
from siloquy.router.choice import Limits, Target
from siloquy.router.experience import Experience, Lesson, Standing
from siloquy.router.health import Health
from siloquy.router.learning import Learned, Lessons, learn
from siloquy.router.profile import content_hash
from siloquy.router.terms import TermWeights
from siloquy.settings import AskSettings
from siloquy.topics import Topics
from siloquy.types import (
    Heard,
    Intent,
    NodeId,
    Plan,
    Probe,
    Profile,
    Sought,
    Term,
    Vector,
)

MOST_LESSONS = 1000
REFIT_EVERY = 25
FOLDS = 5
# Log odds of shares nearer to 0 or 1 than this say nothing more.
_LEAST_SHARE = 1e-4
DRIFTED = "recent questions broke the promised coverage: all silos are asked until it holds again"
AUDITED = "asked to check the router's promise"
_FROM = "calibrated from"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What the experience came to, for the silos of an atlas.

    thresholds   by promised coverage; None where the audits do not carry it
    audits       how many there are
    drifted      whether the promise broke and has not been calibrated again
    """

    silos: tuple[NodeId, ...]
    learned: Learned | None
    thresholds: Mapping[float, float | None]
    audits: int
    drifted: bool


_chance = secrets.SystemRandom().random
_NOTHING = Fitted((), None, {}, 0, False)


class LearningRouter:
    """``ports.Router``: safe to plan with while another thread refits."""

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
        self._costs = _costs(settings.costs)
        self._atlas = Atlas((), topics, lexicon)
        self._weights = TermWeights((), lexicon)
        self._fitted = _NOTHING
        self._standings: dict[NodeId, Standing] = experience.standings()
        self._heard = 0
        self._refitting = threading.Lock()
        self.health = Health(clock)

    # -- planning -------------------------------------------------------------------------------

    def plan(self, sought: Sought) -> Plan:
        """The silos to ask, most expected first, with a reason for each."""
        atlas, fitted = self._atlas, self._fitted
        limits = self._limits(atlas, sought)
        allowed = [silo for silo in sought.silos if silo not in limits.barred]
        if fitted.drifted or self._chance() < self._settings.audit:
            return _audit(allowed, limits, sought, drifted=fitted.drifted)
        expected = atlas.expect(sought.vector, self.terms(sought.words), sought.k)
        shares = self._believed(atlas, fitted, sought, expected.shares)
        target = self._target(fitted, sought.intent)
        about = {
            silo: atlas.about(expected.near[row])
            for row, silo in enumerate(atlas.silos)
            if shares[row] >= target.threshold and len(expected.near)
        }
        return choice.choose(atlas.silos, shares, sought.k, sought.intent, target, limits, about)

    def terms(self, words: Sequence[str]) -> tuple[Term, ...]:
        """A question's words without stop words, each weighed alike for all silos."""
        return self._weights.weigh(text.terms(" ".join(words)))

    def _believed(
        self, atlas: Atlas, fitted: Fitted, sought: Sought, shares: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Expected shares with what was learned, each as far as its silo is believed."""
        if fitted.learned is not None and fitted.silos == atlas.silos:
            shares = corrected(fitted.learned, sought.vector, sought.words, shares)
        known = self._standings
        shares = shares * [trust.belief(known.get(silo, Standing())) for silo in atlas.silos]
        return np.asarray(shares / max(float(shares.sum()), 1e-12))

    def quotas(self, plan: Plan, k: int) -> dict[NodeId, int]:
        """How many of ``k`` winners silos may have that may not have all."""
        found = trust.quotas(self._standings, plan.asked, k)
        if plan.intent == "diverse" and len(plan.asked) > 1:
            most = max(1, round(choice.DIVERSE_QUOTA * k))
            found = {silo: min(most, found.get(silo, k)) for silo in plan.asked}
        # Where nobody may win more, a quota would only leave places empty.
        return found if sum(found.get(silo, k) for silo in plan.asked) >= k else {}

    def _target(self, fitted: Fitted, intent: Intent) -> Target:
        settings = self._settings
        coverage = settings.fast_coverage if intent == "fast" else settings.coverage
        found = fitted.thresholds.get(coverage)
        if found is None:
            return Target(choice.usual_threshold(coverage), None)
        return Target(found, coverage)

    def _limits(self, atlas: Atlas, sought: Sought) -> Limits:
        """Whom policy, trust and health leave out, and who is asked without a profile."""
        barred = dict.fromkeys(map(NodeId, self._settings.never), "this gateway does not ask it")
        patience = self._settings.patience_ms if sought.intent == "fast" else None
        unprofiled = [silo for silo in sought.silos if silo not in atlas.silos]
        for silo in sought.silos:
            standing = self._standings.get(silo, Standing())
            why = self.health.unfit(silo, patience)
            if trust.struck_out(standing, self._clock()):
                why = "its claimed scores did not fit its passages; an administrator can clear it"
            asks = self._settings.unprofiled and not self.health.refused(silo)
            if silo in unprofiled and not asks:
                why = "shows this gateway no profile"
            if why:
                barred.setdefault(silo, why)
        barred |= {silo: "is not in the roster" for silo in atlas.silos if silo not in sought.silos}
        obliged = dict.fromkeys(unprofiled, "shows this gateway no profile, so it is asked")
        return Limits(self._settings.most_silos, self._costs, barred, obliged)

    # -- learning -------------------------------------------------------------------------------

    def follow(self, profiles: Sequence[Profile]) -> None:
        """Plan with these profiles from now on."""
        if tuple(profiles) == self._atlas.profiles:
            return
        self._weights = TermWeights(profiles, self._lexicon)
        self._atlas = Atlas(profiles, self._topics, self._lexicon)
        self.refit()

    def heard(self, heard: Heard) -> None:
        """Learn where the winners of a question lay; refits every 25 questions."""
        self.health.note(heard.plan.asked, heard.missing, heard.silo_ms)
        held = {silo: heard.winners[silo] for silo in heard.plan.asked if silo in heard.winners}
        # An audit counts only when everybody was heard.
        audit = heard.plan.audit and len(held) == len(heard.plan.asked) and any(held.values())
        lesson = Lesson(heard.vector, heard.words, held, audit, None)
        if audit:
            lesson = replace(lesson, missed=self._missed(lesson))
        self._experience.learn(lesson, self._clock())
        self._heard += 1
        if self._heard % REFIT_EVERY == 0 or self._broken(lesson):
            self.refit()

    def checked(self, verified: Mapping[NodeId, int], false: Mapping[NodeId, int]) -> None:
        """Believe silos by whether the claims of their released passages fitted."""
        struck = [silo for silo, count in false.items() if count]
        good = {silo: count for silo, count in verified.items() if silo not in struck}
        if struck or any(good.values()):
            self._experience.checked(good, struck, self._clock())
            self._standings = self._experience.standings()
        for silo in struck:
            _log.warning("claims of a silo do not fit its passages silo=%s", silo)

    def refit(self) -> None:
        """Learn anew from what is remembered; seconds of CPU with many questions."""
        with self._refitting:
            atlas = self._atlas
            lessons = self._experience.lessons(MOST_LESSONS)
            if not lessons or not len(atlas):
                self._fitted = replace(_NOTHING, silos=atlas.silos)
                return
            drifted = self._watch(lessons)
            records = self._records(atlas, lessons)
            usable = _usable(lessons, self._experience.marked(_FROM))
            thresholds = self._thresholds(records, usable)
            still = drifted and int(usable.sum()) < calibration.LEAST_AUDITS
            self._fitted = Fitted(atlas.silos, learn(records), thresholds, int(usable.sum()), still)

    def _records(self, atlas: Atlas, lessons: Sequence[Lesson]) -> Lessons:
        """What lessons say of the atlas' silos: shares of the winners, NaN where not asked."""
        targets = np.full((len(lessons), len(atlas)), np.nan)
        offsets = np.zeros((len(lessons), len(atlas)))
        for row, lesson in enumerate(lessons):
            found = max(sum(lesson.held.values()), 1)
            held = [lesson.held.get(silo, np.nan) for silo in atlas.silos]
            targets[row] = np.array(held) / found
            shares = atlas.expect(lesson.vector, self.terms(lesson.words), found).shares
            offsets[row] = _odds(shares)
        vectors = np.stack([lesson.vector for lesson in lessons])
        return Lessons(vectors, tuple(lesson.words for lesson in lessons), targets, offsets)

    def _thresholds(self, records: Lessons, usable: NDArray[np.bool_]) -> dict[float, float | None]:
        """Calibrated thresholds from audits, each seen by what the other folds taught."""
        wanted = (self._settings.coverage, self._settings.fast_coverage)
        if usable.sum() < calibration.LEAST_AUDITS:
            return dict.fromkeys(wanted, None)
        priorities = held_out(records, usable)
        held = np.nan_to_num(records.targets[usable])
        return {share: calibration.threshold(priorities, held, share) for share in wanted}

    def _missed(self, lesson: Lesson) -> float | None:
        """What the promise in force would have missed of an audit's winners."""
        atlas, fitted = self._atlas, self._fitted
        threshold = fitted.thresholds.get(self._settings.coverage)
        if threshold is None or fitted.silos != atlas.silos:
            return None
        k = sum(lesson.held.values())
        shares = atlas.expect(lesson.vector, self.terms(lesson.words), k).shares
        if fitted.learned is not None:
            shares = corrected(fitted.learned, lesson.vector, lesson.words, shares)
        held = np.array([lesson.held.get(silo, 0) for silo in atlas.silos], dtype=np.float64)
        found = held.sum()
        low = (shares < threshold) & (np.arange(len(shares)) != int(shares.argmax()))
        return float(held[low].sum() / found) if found else None

    def _broken(self, lesson: Lesson) -> bool:
        return lesson.missed is not None and lesson.missed > 0.5

    def _watch(self, lessons: Sequence[Lesson]) -> bool:
        """Whether the promise is broken; the audits before it broke are no longer believed."""
        start = self._experience.marked(_FROM)
        since = [item for item in lessons if item.number > start and item.missed is not None]
        losses = [float(item.missed or 0.0) for item in since]
        path = calibration.wealth(losses, self._settings.coverage)
        if path.max() < calibration.ALARM:
            return start > 0
        last = since[int(np.argmax(path >= calibration.ALARM)) - 1]
        self._experience.mark(_FROM, last.number)
        _log.warning("the promised coverage broke after %d audits", len(losses))
        return True

    # -- probing --------------------------------------------------------------------------------

    def unprobed(self) -> list[Probe]:
        """Probes for profiles whose content has not been probed yet."""
        atlas = self._atlas
        found = []
        for row, profile in enumerate(atlas.profiles):
            standing = self._standings.get(profile.silo, Standing())
            if profile.counts and standing.profile != content_hash(profile):
                found.append(self._probe(atlas, row))
        return found

    def _probe(self, atlas: Atlas, row: int) -> Probe:
        profile = atlas.profiles[row]
        if profile.epsilon is not None:
            near = atlas.near(row)
            rows = trust.topic_probes(near, profile.topic_noise, trust.PROBES)
            expected = (trust.NEAR_TOPIC,) * len(rows)
            return Probe(profile.silo, self._topics.vectors[rows], expected)
        means, counts = atlas.cells(row)
        vectors = trust.cell_probes(means, counts, _normal(trust.PROBES, means.shape[1]))
        expected = tuple(
            atlas.reach(row, vector, trust.PROBE_K) - trust.SPARE for vector in vectors
        )
        return Probe(profile.silo, vectors, expected)

    def probed(self, probe: Probe, claims: Sequence[Sequence[float]]) -> None:
        """Keep what the probes of a silo came to; without probes it is believed."""
        profile = next((p for p in self._atlas.profiles if p.silo == probe.silo), None)
        if profile is None:
            return
        result = trust.outcome(claims, probe.expected) if probe.expected else 1.0
        self._experience.probed(probe.silo, content_hash(profile), result)
        self._standings = self._experience.standings()
        if result < trust.BELIEVED:
            _log.warning("a profile is not backed by its silo silo=%s met=%.2f", probe.silo, result)

    # -- telling --------------------------------------------------------------------------------

    @property
    def fitted(self) -> Fitted:
        """What the experience came to."""
        return self._fitted

    @property
    def standings(self) -> dict[NodeId, Standing]:
        """What silos' words have been worth."""
        return dict(self._standings)

    def pardon(self, silo: NodeId) -> bool:
        """Forget a silo's strikes and probes; whether there was anything to forget."""
        done = self._experience.pardon(silo)
        self._standings = self._experience.standings()
        return done


def corrected(
    learned: Learned, vector: Vector, words: Sequence[str], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected shares with what past questions say, as log odds; they sum to 1."""
    odds = _odds(shares)
    changed = 1 / (1 + np.exp(-(odds + learned.adjust(vector, words, odds))))
    changed = changed * (shares > 0)
    return np.asarray(changed / max(float(changed.sum()), 1e-12))


def held_out(records: Lessons, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, S) shares of the ``wanted`` records, each from what the other folds taught.

    The likeliest silo of each counts as infinite: it is always asked.
    """
    rows = np.flatnonzero(wanted)
    result = np.zeros((len(rows), records.targets.shape[1]))
    for fold in range(FOLDS):
        inside = rows[fold::FOLDS]
        outside = np.setdiff1d(np.arange(len(records.vectors)), inside)
        learned = learn(_some(records, outside))
        for at, row in zip(range(fold, len(rows), FOLDS), inside, strict=True):
            assert records.offsets is not None  # noqa: S101 - _records gives them
            shares = 1 / (1 + np.exp(-records.offsets[row]))
            result[at] = corrected(learned, records.vectors[row], records.words[row], shares)
    result[np.arange(len(rows)), result.argmax(axis=1)] = np.inf
    return result


def _some(records: Lessons, rows: NDArray[np.int64]) -> Lessons:
    offsets = None if records.offsets is None else records.offsets[rows]
    words = tuple(records.words[row] for row in rows)
    return Lessons(records.vectors[rows], words, records.targets[rows], offsets)


def _usable(lessons: Sequence[Lesson], start: int) -> NDArray[np.bool_]:
    """Which lessons are audits of the present."""
    return np.array([item.audit and item.number > start for item in lessons], dtype=bool)


def _odds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)))


def _audit(allowed: Sequence[NodeId], limits: Limits, sought: Sought, *, drifted: bool) -> Plan:
    why = DRIFTED if drifted else AUDITED
    plan = choice.ask_all(allowed, why)
    barred = {silo: why for silo, why in limits.barred.items() if silo in sought.silos}
    return replace(
        plan,
        skipped=tuple(barred),
        reasons=plan.reasons | barred,
        intent=sought.intent,
        audit=True,
        notes=(DRIFTED,) if drifted else (),
    )


def _normal(n: int, d: int) -> Vector:
    """(n, d) standard normal numbers of the operating system's generator."""
    uniform = np.frombuffer(os.urandom(8 * n * d), dtype="<u8").reshape(n, d) / 2.0**64
    return np.asarray(norm.ppf(uniform.clip(1e-12, 1 - 1e-12)), dtype=np.float32)


def _costs(entries: Sequence[str]) -> dict[NodeId, float]:
    """``["st-anna=2.5"]`` as numbers; SettingsError for another form."""
    found: dict[NodeId, float] = {}
    for entry in entries:
        name, _, cost = entry.partition("=")
        try:
            found[NodeId(name)] = float(cost)
        except ValueError:
            raise SettingsError(f"ask.costs has {entry!r}", 'write ["st-anna=2.5"]') from None
        if not found[NodeId(name)] > 0:
            raise SettingsError(f"ask.costs of {name} is {cost}", "a cost is above 0")
    return found
