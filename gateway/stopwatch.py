"""How long each stage of a question took."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter


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
