"""How a silo's profile is protected, and what of the year's privacy budget is spent, for people."""

from __future__ import annotations

import math
from typing import Any

from siloquy.settings import ProfileSettings
from siloquy.silo_node.privacy import period_of
from siloquy.silo_node.profiler import Profiler


def line(settings: ProfileSettings) -> str:
    """How the profile is protected, in a line."""
    if settings.epsilon == math.inf:
        return "none: the profile is told as it is, without noise"
    return f"epsilon {settings.epsilon:g}, delta {settings.delta:g} for one {settings.unit}"


def told(profiler: Profiler, settings: ProfileSettings, now: int) -> dict[str, Any]:
    """The same with its numbers as plain JSON data; None where there is no limit."""
    return {
        "privacy": line(settings),
        "noised": profiler.noised,
        "epsilon": _finite(settings.epsilon),
        "delta": settings.delta,
        "unit": settings.unit,
        "year": period_of(now),
        "spent": _finite(profiler.spent()),
        "yearly": _finite(settings.yearly),
        "made": profiler.made() or None,
    }


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return round(number, 3) if number < math.inf else None
