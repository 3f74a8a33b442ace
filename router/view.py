"""What one plan is made of: profiles, what was learned, what each silo's word is worth. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siloquy.router import calibration, choice, fitting, trust
from siloquy.router.atlas import Atlas
from siloquy.router.experience import Lesson, SiloStanding
from siloquy.router.fitting import RouterFit
from siloquy.router.profile import content_hash
from siloquy.router.terms import TermWeights
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.text.words import terms
from siloquy.types import NodeId, Profile, Term, Vector

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the router knows at one moment. Replaced as a whole: no plan mixes old and new.

    hashes     of what each profile of the atlas says
    costs      of asking a silo, where it is not 1
    beliefs    (S,) by what each silo's word was worth
    unproven   (S,) whether neither probes nor passages have shown what it is worth
    """

    atlas: Atlas
    weights: TermWeights
    hashes: tuple[bytes, ...]
    costs: Mapping[NodeId, float]
    fitted: RouterFit
    standings: Mapping[NodeId, SiloStanding]
    beliefs: Floats
    unproven: NDArray[np.bool_]

    def due(self, row: int) -> bool:
        """Whether the silo in ``row`` must be probed for what its profile says now."""
        profile = self.atlas.profiles[row]
        known = self.standings.get(profile.silo, SiloStanding()).profile
        return bool(profile.counts) and known != self.hashes[row]

    def weigh(self, words: Sequence[str]) -> tuple[Term, ...]:
        """A question's words without stop words, each weighed alike for all silos."""
        return self.weights.weigh(terms(" ".join(words)))

    def expected(self, vector: Vector, words: Sequence[str], k: int) -> tuple[Floats, Vector]:
        """(S,) shares with what was learned, as far as believed; (topics,) what it is about."""
        asked = self.weigh(words) if self.atlas.reads_words else ()
        expected = self.atlas.expect(vector, asked, k)
        shares, learned = expected.shares, self.fitted.learned
        if learned is not None:
            shares = fitting.corrected(learned, vector, words, shares)
        return trust.believed(shares, self.beliefs, self.unproven), expected.towards

    def priorities(self, shares: Floats) -> Floats:
        """(S,) what silos with these believed shares are asked by."""
        return choice.priorities(self.atlas.silos, shares, self.costs)

    def rank(self, shares: Floats) -> Floats:
        """(S,) learned shares to the priorities that silos are asked by."""
        return self.priorities(trust.believed(shares, self.beliefs, self.unproven))

    def missed(self, lesson: Lesson, coverage: float) -> float | None:
        """What the promise in force would have missed of an audit's winners; None without one."""
        threshold = self.fitted.thresholds.get(coverage)
        if threshold is None:
            return None
        silos, k = self.atlas.silos, sum(lesson.held.values())
        shares, _ = self.expected(lesson.vector, lesson.words, k)
        held = np.array([[lesson.held.get(silo, np.nan) for silo in silos]]) / k
        priorities = fitting.always_asked(self.priorities(shares)[None], held)
        for silo in self.fitted.new:
            priorities[0, self.atlas.rows[silo]] = np.inf
        return float(calibration.missed(priorities, np.nan_to_num(held), threshold)[0])

    def judged(self, standings: Mapping[NodeId, SiloStanding]) -> View:
        """The view with what the silos' words are worth now."""
        view = replace(self, standings=standings)
        known = [standings.get(silo, SiloStanding()) for silo in view.atlas.silos]
        unproven = [view.due(row) and one.verified < trust.PROVEN for row, one in enumerate(known)]
        return replace(
            view,
            beliefs=np.array([trust.belief(standing) for standing in known], dtype=np.float64),
            unproven=np.array(unproven, dtype=bool),
        )


def view_of(
    profiles: Sequence[Profile],
    topics: Topics,
    lexicon: Lexicon,
    costs: Mapping[NodeId, float],
    fitted: RouterFit,
    standings: Mapping[NodeId, SiloStanding],
) -> View:
    """A view of these profiles."""
    made = View(
        atlas=Atlas(profiles, topics, lexicon),
        weights=TermWeights(profiles, lexicon),
        hashes=tuple(content_hash(profile) for profile in profiles),
        costs=costs,
        fitted=fitted,
        standings={},
        beliefs=np.ones(len(profiles)),
        unproven=np.zeros(len(profiles), dtype=bool),
    )
    return made.judged(standings)
