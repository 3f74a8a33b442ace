"""Plots of ``siloquy bench sealed``: scoring beside baselines, and where a question's time goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WAYS = (
    ("dot_ms", "TenSEAL dot, extrapolated", "tab:red"),
    ("matmul_ms", "TenSEAL matmul, extrapolated", "tab:orange"),
    ("silo_ms", "sealed, at the silo", "tab:blue"),
    ("faiss_ms", "FAISS Flat, in clear", "black"),
)
SHOWN_STAGES = ("embed", "route", "seal", "search", "release", "rescore")
DASHES = ("-", "--", ":", "-.")


def draw(results: dict[str, Any], out: Path) -> list[str]:
    """Names of the images written to ``out``."""
    names = []
    if len({point["n"] for point in results.get("scoring", ())}) > 1:
        _scoring(results["scoring"], out / "scoring.png")
        names.append("scoring.png")
    if results.get("federation"):
        _federation(results["federation"], out / "federation.png")
        names.append("federation.png")
    return names


def _scoring(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Milliseconds by rows, one line a way and dimension."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for dash, d in zip(DASHES, sorted({point["d"] for point in points}), strict=False):
        for key, label, colour in WAYS:
            found = sorted((p["n"], p[key]) for p in points if p["d"] == d and p[key])
            rows, ms = [n for n, _ in found], [value for _, value in found]
            axes.plot(rows, ms, dash, marker="o", ms=4, color=colour, label=f"{label}, d = {d}")
    axes.set(xscale="log", yscale="log", xlabel="rows of a silo", ylabel="ms a question, one core")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    figure.savefig(path, dpi=150)


def _federation(groups: Sequence[dict[str, Any]], path: Path) -> None:
    """Median milliseconds of each stage of retrieval, one bar a federation and setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.5 * len(groups) + 1.6), layout="constrained")
    axes = figure.subplots()
    names = [f"{g['silos']} silo{'s' if g['silos'] > 1 else ''}, {g['setting']}" for g in groups]
    left = [0.0] * len(groups)
    for stage in SHOWN_STAGES:
        ms = [g["ms"].get(stage, {"p50": 0.0})["p50"] for g in groups]
        axes.barh(names, ms, left=left, label=stage)
        left = [a + b for a, b in zip(left, ms, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms a question at the gateway, medians of the stages")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, ncols=len(SHOWN_STAGES), loc="outside lower center")
    figure.savefig(path, dpi=150)
