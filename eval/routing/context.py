"""What a routing run is asked to do, and what its tracks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from siloquy.eval.routing.routers import Trial, atlas_of
from siloquy.eval.routing.rows import Notes
from siloquy.eval.scene import Scene
from siloquy.router.atlas import Atlas
from siloquy.types import Progress


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """One benchmark run.

    corpus    a BEIR folder whose field ``source`` names the silo
    tracks    rows of the table of tracks; without: all
    traffic   a BEIR folder whose questions are asked too, for promises and learning; none of its
              documents
    """

    corpus: Path
    out: Path
    tracks: tuple[str, ...] = ()
    split: str = "test"
    limit: int | None = None
    seeds: int = 3
    seed: int = 0
    traffic: Path | None = None
    cache: Path | None = None


@dataclass(frozen=True, eq=False)
class RoutingContext:
    """A run under way, over a scene that was built.

    rows     what every router said of every question
    normal   figures of each router, once they are there
    """

    config: RoutingConfig
    scene: Scene
    told: Progress
    rows: list[dict[str, Any]] = field(default_factory=list)
    normal: dict[str, dict[str, float]] = field(default_factory=dict)

    @cached_property
    def trials(self) -> Sequence[Trial]:
        """One a seed."""
        return [split(self.scene, self.config.seed + i) for i in range(self.config.seeds)]

    @cached_property
    def plain(self) -> Atlas:
        """All silos' profiles, without noise."""
        return atlas_of(self.scene, inf)

    @cached_property
    def note(self) -> Notes:
        """Keeps the cases of the tracks."""
        return Notes(self.scene.asked.ids)


def split(scene: Scene, seed: int) -> Trial:
    """Half of the corpus' own questions to learn from, half to measure on."""
    order = np.random.default_rng(seed).permutation(scene.judged)
    half = scene.judged // 2
    return Trial(scene, order[:half], order[half:], seed)
