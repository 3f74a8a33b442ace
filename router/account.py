"""What a gateway's router has learnt, read from its file while it may be running; changes nothing.

What is promised is told as the gateway will calibrate it: the thresholds themselves depend on the
profiles of the day and are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from siloquy.database import named
from siloquy.router import calibration, experience, trust
from siloquy.router.experience import CALIBRATED_FROM, SiloStanding
from siloquy.settings import AskSettings
from siloquy.types import Intent, NodeId
from siloquy.watch.health import reader


@dataclass(frozen=True, slots=True)
class SiloReport:
    """What one silo's word has been worth.

    asked   whether it may be asked: not after two questions with false claims
    wins    how many of the k best it may win
    probe   share of the probes of its newest profile that it met; None before any
    """

    silo: NodeId
    verified: int
    strikes: int
    struck: int | None
    asked: bool
    wins: int
    probe: float | None


@dataclass(frozen=True, slots=True)
class RouterReport:
    """Questions and audits so far, what is promised, and every silo that was heard of.

    audits     those that still count
    needed     how many a promise needs
    broken     whether a promise broke, and the audits since do not carry another yet
    promised   share of the best passages by intent; None for no promise
    """

    questions: int
    audits: int
    needed: int
    broken: bool
    promised: dict[str, float | None]
    silos: tuple[SiloReport, ...]


def read(path: Path, settings: AskSettings, now: int) -> RouterReport:
    """What the file at ``path`` says; StorageFailed when it cannot be read."""
    with named(path), reader(path) as connection:
        standings = experience.standings(connection)
        (questions,) = connection.execute("SELECT count(*) FROM questions").fetchone()
        start = dict(connection.execute("SELECT name, value FROM promises")).get(CALIBRATED_FROM, 0)
        query = "SELECT count(*) FROM questions WHERE audit AND number > ?"
        (audits,) = connection.execute(query, (start,)).fetchone()
    return RouterReport(
        questions=questions,
        audits=audits,
        needed=calibration.LEAST_AUDITS,
        broken=bool(start) and audits < calibration.LEAST_AUDITS,
        promised=_promised(settings, audits),
        silos=_silos(standings, settings.k, now),
    )


def _promised(settings: AskSettings, audits: int) -> dict[str, float | None]:
    wanted: Mapping[Intent, float] = {
        "precise": settings.coverage,
        "diverse": settings.coverage,
        "fast": settings.fast_coverage,
    }
    return {
        intent: share if audits >= least_audits(share) else None for intent, share in wanted.items()
    }


def least_audits(share: float) -> int:
    """How many audits a promise of ``share`` needs at least.

    >>> least_audits(0.95), least_audits(0.999)
    (200, 999)
    """
    return max(calibration.LEAST_AUDITS, math.ceil(1 / (1 - share) - 1e-9) - 1)


def _silos(standings: Mapping[NodeId, SiloStanding], k: int, now: int) -> tuple[SiloReport, ...]:
    return tuple(
        SiloReport(
            silo,
            standing.verified,
            standing.strikes,
            standing.struck or None,
            not trust.struck_out(standing, now),
            trust.quota(standing, k),
            standing.probe,
        )
        for silo, standing in standings.items()
    )
