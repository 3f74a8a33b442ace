"""A benchmark as a table of tracks, each of which measures one thing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from siloquy.errors import UsageError

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Track(Generic[C]):
    """One row of a benchmark's table.

    measures   what it measures, in one line
    run        what it adds to ``results.json``; ``C`` is the benchmark's context: its options, and
               what its tracks share
    """

    measures: str
    run: Callable[[C], dict[str, Any]]


def check(names: Collection[str], tracks: Mapping[str, object], word: str = "track") -> None:
    """UsageError when one of ``names`` is none of the tracks, which the user calls ``word``."""
    unknown = sorted(set(names) - set(tracks))
    if unknown:
        raise UsageError(f"there is no {word} {unknown[0]!r}", f"one of {', '.join(tracks)}")


def chosen(
    names: Collection[str], tracks: Mapping[str, object], word: str = "track"
) -> tuple[str, ...]:
    """Those of the tracks that are named, in the table's order; all where none is.

    >>> chosen(["cost", "gold"], {"gold": 1, "sweep": 2, "cost": 3})
    ('gold', 'cost')
    """
    check(names, tracks, word)
    return tuple(name for name in tracks if not names or name in names)


def measured(names: Collection[str], tracks: Mapping[str, Track[C]], context: C) -> dict[str, Any]:
    """Run the named tracks in the table's order; what they add up to.

    Where a track says again what an earlier one said, the later counts and takes the later place.
    """
    results: dict[str, Any] = {}
    for name, track in tracks.items():
        if name in names:
            added = track.run(context)
            results = {key: results[key] for key in results if key not in added} | added
    return results
