"""What a router learns: from profiles, questions, audits, checked passages and probes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from siloquy.router import calibration, choice, fitting, probing, trust
from siloquy.router.experience import CALIBRATED_FROM, Experience, Lesson
from siloquy.router.fitting import RouterFit
from siloquy.router.profile import content_hash
from siloquy.router.progress import REFIT_REST_MS, Progress
from siloquy.router.view import View, view_of
from siloquy.settings import AskSettings
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import NodeId, Probe, Profile, SearchFeedback

# What is learned from: audits first, then the newest others.
MOST_LESSONS, MOST_AUDITS = 1000, 600
_log = logging.getLogger(__name__)


class Learner:
    """Keeps ``view`` up to date; safe to read it while other threads learn, probe and refit."""

    def __init__(
        self,
        topics: Topics,
        lexicon: Lexicon,
        experience: Experience,
        settings: AskSettings,
        clock: Callable[[], int],
    ) -> None:
        self._topics = topics
        self._lexicon = lexicon
        self._experience = experience
        self._settings = settings
        self._clock = clock
        self._costs = choice.costs(settings.costs)
        self._lock = threading.RLock()
        self._refitting = threading.Lock()
        self._progress = Progress()
        self._shown: tuple[Profile, ...] = ()
        self._probing: dict[NodeId, tuple[Probe, bytes]] = {}
        self.view: View = self._viewed((), fitting.unfitted(()))

    def _viewed(self, profiles: Sequence[Profile], fitted: RouterFit) -> View:
        standings = self._experience.standings()
        return view_of(profiles, self._topics, self._lexicon, self._costs, fitted, standings)

    def follow(self, profiles: Sequence[Profile]) -> None:
        """Plan with these profiles from now on; refits when they say something new."""
        old = self.view
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
            kept = self.view.fitted if silos == self.view.atlas.silos else fresh.fitted
            self.view = replace(fresh, fitted=kept).judged(self._experience.standings())
            rested = self._clock() - self._progress.refitted >= REFIT_REST_MS
            self._progress.stale = True
        if kept is fresh.fitted or rested:
            self.refit()

    def heard(self, heard: SearchFeedback) -> None:
        """Learn where the winners of a question lay; refits now and then."""
        held = {silo: heard.winners[silo] for silo in heard.plan.asked if silo in heard.winners}
        # An audit counts only when everybody was heard.
        audit = heard.plan.audit and len(held) == len(heard.plan.asked) and any(held.values())
        lesson = Lesson(heard.vector, heard.words, held, audit, None)
        if audit:
            lesson = replace(lesson, missed=self.view.missed(lesson, self._settings.coverage))
        self._experience.learn(lesson, self._clock())
        if lesson.missed is not None:
            self._watch()
        with self._lock:
            self._progress.count(audit=audit)
            due = self._progress.due(self.view.fitted.audits, self._clock())
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
            before, self.view = self.view, self.view.judged(self._experience.standings())
            # The thresholds were fitted with the old beliefs: refit when it is next due.
            self._progress.stale |= not np.array_equal(before.beliefs, self.view.beliefs)

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
            view = self.view
            start = self._experience.marked(CALIBRATED_FROM)
            self._progress.begin(self._clock())
        audits = self._experience.lessons(MOST_AUDITS, audits=True)
        others = self._experience.lessons(MOST_LESSONS - len(audits), audits=False)
        lessons = sorted([*audits, *others], key=lambda lesson: lesson.number)
        fitted = fitting.fit(
            view.atlas,
            lessons,
            view.weigh,
            view.rank,
            (self._settings.coverage, self._settings.fast_coverage),
            start,
        )
        with self._lock:
            self._progress.taught = len(lessons)
            if self._experience.marked(CALIBRATED_FROM) != start:
                fitted = fitting.broken(fitted)
            if self.view.atlas.silos == fitted.silos:
                self.view = replace(self.view, fitted=fitted)

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
            self.view = replace(self.view, fitted=fitting.broken(self.view.fitted))
            self._progress.audits = 0
        _log.warning("the promised coverage broke after %d audits", len(losses))

    # -- probing --------------------------------------------------------------------------------

    def unprobed(self) -> list[Probe]:
        """Probes for profiles whose content has not been probed yet."""
        view = self.view
        found: list[Probe] = []
        for row, silo in enumerate(view.atlas.silos):
            if view.due(row):
                found.append(probing.probe(view.atlas, row, self._topics))
                self._probing[silo] = (found[-1], view.hashes[row])
        return found

    def probed(self, probe: Probe, claims: Sequence[Sequence[float]]) -> None:
        """Keep what the probes of a silo came to; without probes it is believed."""
        # Answers to probes of an older profile say nothing of the one that replaced it.
        made, content = self._probing.get(probe.silo, (None, b""))
        if made is not probe:
            return
        result = trust.outcome(claims, probe.expected) if probe.expected else 1.0
        self._experience.probed(probe.silo, content, result)
        self._judge()
        if result < trust.BELIEVED:
            _log.warning("a profile is not backed by its silo silo=%s met=%.2f", probe.silo, result)

    def pardon(self, silo: NodeId) -> bool:
        """Forget a silo's strikes and probes; whether there was anything to forget."""
        done = self._experience.pardon(silo)
        self._judge()
        return done
