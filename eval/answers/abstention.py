"""How well a threshold on the evidence tells questions with their answer from those without."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.generator.abstention import LEAST_EVIDENCE

MOST_FALSE = 0.1


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """What a threshold does: who gets no answer, among the withheld and among the kept."""

    threshold: float
    withheld: float
    kept: float


@dataclass(frozen=True, slots=True)
class Curve:
    """All thresholds, lowest first.

    area     probability that a kept question has more evidence than a withheld one
    at_most  the point that abstains most with false abstentions of at most a tenth
    at_use   the point at the threshold in use
    """

    points: tuple[ThresholdPoint, ...]
    area: float
    at_most: ThresholdPoint
    at_use: ThresholdPoint


def curve(kept: Sequence[float], withheld: Sequence[float]) -> Curve:
    """The curve of two groups of evidence, neither empty.

    >>> found = curve([0.8, 0.9], [0.1, 0.8])
    >>> found.area, found.at_most
    (0.875, ThresholdPoint(threshold=0.8, withheld=0.5, kept=0.0))
    """
    there, gone = np.sort(kept), np.sort(withheld)
    steps = np.unique(np.concatenate([there, gone, [max(there[-1], gone[-1]) + 0.01]]))
    points = tuple(_point(float(step), there, gone) for step in steps)
    wins = np.searchsorted(gone, there, "left") + np.searchsorted(gone, there, "right")
    return Curve(
        points,
        round(float(wins.mean()) / (2 * len(gone)), 4),
        max((p for p in points if p.kept <= MOST_FALSE), key=lambda p: (p.withheld, -p.kept)),
        _point(LEAST_EVIDENCE, there, gone),
    )


def _point(step: float, there: NDArray[np.float64], gone: NDArray[np.float64]) -> ThresholdPoint:
    """Shares strictly below the threshold, as ``lacking`` compares."""
    below = [np.searchsorted(values, step, "left") / len(values) for values in (gone, there)]
    return ThresholdPoint(round(step, 4), round(float(below[0]), 4), round(float(below[1]), 4))


def write_csv(curves: Mapping[str, Curve], path: Path) -> None:
    """One row a threshold and curve."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("curve", "threshold", "withheld_abstained", "kept_abstained"))
        for name, item in curves.items():
            writer.writerows((name, p.threshold, p.withheld, p.kept) for p in item.points)


def draw(curves: Mapping[str, Curve], path: Path) -> None:
    """The curves as an image of the path's kind, the thresholds in use as dots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, item in curves.items():
        (line,) = axes.step(
            [p.kept for p in item.points],
            [p.withheld for p in item.points],
            where="post",
            label=f"{name} ({item.area:.2f})",
        )
        axes.plot(item.at_use.kept, item.at_use.withheld, "o", color=line.get_color())
    axes.axvline(MOST_FALSE, color="grey", linestyle=":")
    axes.axhline(1 - MOST_FALSE, color="grey", linestyle=":")
    axes.set(
        xlabel="false abstentions: gold documents are there",
        ylabel="abstentions: gold documents are withheld",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(title="questions (area); dot: threshold in use", loc="lower right", fontsize=8)
    figure.savefig(path, dpi=150)
