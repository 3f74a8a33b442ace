"""Plots of a routing run: what is kept against silos asked, and forged profiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siloquy.eval.routing import measures
from siloquy.eval.scene import Floats

# Drawn beside all of ours; the table holds the rest.
SHOWN = (
    "prior only",
    "size",
    "one centroid",
    "16 centroids",
    "64 centroids",
    "CORI",
    "logistic regression",
    "RAGRoute's MLP",
    "oracle",
)


def plot(results: dict[str, Any], rows: Sequence[dict[str, Any]], out: Path) -> None:
    """``kept.png`` and ``kept.svg`` in ``out``."""
    if not rows:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.4), constrained_layout=True)
    curves = _curves(rows)
    shades = dict(zip(SHOWN, (f"C{i}" for i in range(len(SHOWN))), strict=True))
    for name, (silos, kept) in curves.items():
        if name.startswith("ours"):
            style = "--" if "questions" in name else "-"
            colour = (
                "tab:blue" if "no noise" in name else "tab:green" if " 8" in name else "tab:red"
            )
            axes.plot(silos, kept, style, color=colour, lw=2.2, label=name)
        elif name in SHOWN:
            colour = "black" if name == "oracle" else shades[name]
            axes.plot(silos, kept, ":", color=colour, lw=1.5, alpha=0.8, label=name)
    axes.set_xlabel(f"silos asked, mean over questions (of {results['silos']})")
    axes.set_ylabel("share of the central ten best kept")
    axes.set_ylim(0.5, 1.005)
    axes.set_xlim(1, results["silos"])
    axes.grid(alpha=0.3)
    title = f"{results['corpus']}: {results['questions']} questions, half of them measured"
    axes.set_title(title, loc="left")
    axes.legend(fontsize=8, ncols=2, loc="lower right")
    for ending in ("png", "svg"):
        figure.savefig(out / f"kept.{ending}", dpi=150)
    pyplot.close(figure)


def _curves(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[Floats, Floats]]:
    """Mean silos asked and share kept of each router, by every threshold over its pairs."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["router"], []).append(row)
    curves = {}
    for name, group in grouped.items():
        if name in ("all", "random"):
            continue
        scores = np.array([row["scores"] for row in group], dtype=np.float64)
        held = np.array([row["held"] for row in group], dtype=np.float64)
        shares = held / np.maximum(held.sum(axis=1, keepdims=True), 1)
        order = np.argsort(-measures.with_first(scores), axis=None, kind="stable")
        kept = np.cumsum(shares.ravel()[order]) / len(scores)
        asked = np.arange(1, scores.size + 1) / len(scores)
        some = np.unique(np.linspace(len(scores) - 1, scores.size - 1, 300).astype(int))
        curves[name] = (asked[some], kept[some])
    return curves
