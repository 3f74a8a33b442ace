"""What a load run amounts to, from its rows alone: latencies, rates, CPU and memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from siloquy.eval.load.client import OK, SHED

Row = Mapping[str, Any]
"""One request: part, number of its run and the fields of ``Shot``; rows of the central index and
the encoder have a ``wall_ms`` alone."""
Run = Mapping[str, Any]
"""One volley: part, at_once, began, wall_s, client_cpu_s, cpu_s and rss_mb by node."""

SERVICES = ("hub", "gateway")
LATE_FRAME_MS = 1000 / 30


def report(rows: Sequence[Row], runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that ``results.json`` says about a run, part by part."""
    results: dict[str, Any] = {}
    for n, run in enumerate(runs):
        own = [row for row in rows if row.get("run") == n]
        results.setdefault(run["part"], []).append(volley(own, run))
    for name in ("central", "encoder"):
        times = [row["wall_ms"] for row in rows if row["part"] == name]
        if times:
            results[name] = {"ms": quantiles(times), "questions": len(times)}
    if looked := [row for row in rows if row["part"] == "page"]:
        results["page_ms"] = page(looked)
    if "central" in results and "latency" in results:
        results["beyond_central_ms"] = beyond(rows)
    memory = [run for run in runs if run["part"] == "soak"]
    if len(memory) > 1:
        results["memory_growth"] = growth(memory[0]["rss_mb"], memory[-1]["rss_mb"])
    if "recovery" in results:
        results["recovery_s"] = recovery_s(rows, runs)
    return results


def page(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Quantiles of what was measured in the page; of frames also the share over 1/30 s."""
    times: dict[str, list[float]] = {}
    for row in rows:
        times.setdefault(row["what"], []).append(row["ms"])
    found = {what: quantiles(values) for what, values in times.items()}
    if frames := times.get("frame"):
        late = sum(ms > LATE_FRAME_MS for ms in frames) / len(frames)
        found["frame"]["late_share"] = round(late, 4)
    return found


def volley(rows: Sequence[Row], run: Run) -> dict[str, Any]:
    """One run: how many came back and how, how fast, and what it cost."""
    answered = [row for row in rows if row["status"] == OK and not row["error"]]
    shed = [row for row in rows if row["status"] == SHED]
    found: dict[str, Any] = {
        "at_once": run["at_once"],
        "requests": len(rows),
        "answered": len(answered),
        "shed": len(shed),
        "shed_with_retry_after": sum(row["retry_after"] > 0 for row in shed),
        "failed": _count(row["error"] for row in rows if row["error"] and row["status"] != SHED),
        "missing": _count(reason for row in answered for reason in row["missing"]),
        "per_s": round(len(answered) / run["wall_s"], 1),
        "wall_s": round(run["wall_s"], 2),
        "cpu_ms_a_question": cpu(run, len(answered)),
        "rss_mb": run["rss_mb"],
    }
    if answered:
        found["wall_ms"] = quantiles([row["wall_ms"] for row in answered])
        found["stages_ms"] = stages(row["timings_ms"] for row in answered)
        found["first_ms"] = stages(row["first_ms"] for row in answered)
    return found


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile and the largest."""
    p50, p95, p99 = np.quantile(np.asarray(values, dtype=np.float64), [0.5, 0.95, 0.99])
    found = {"p50": p50, "p95": p95, "p99": p99, "most": max(values)}
    return {name: round(float(value), 2) for name, value in found.items()}


def stages(timings: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Quantiles of each stage, in the order in which stages first appear."""
    by_name: dict[str, list[float]] = {}
    for row in timings:
        for name, value in row.items():
            by_name.setdefault(name, []).append(value)
    return {name: quantiles(values) for name, values in by_name.items()}


def cpu(run: Run, questions: int) -> dict[str, float]:
    """CPU milliseconds a question: gateway, hub, the silos' mean and sum, all nodes, the client.

    On a machine that others use too this is the honest figure: waiting is not in it.
    """
    share = {node: 1000 * s / max(questions, 1) for node, s in run["cpu_s"].items()}
    silos = [ms for node, ms in share.items() if node not in SERVICES]
    found = {name: share.get(name, 0.0) for name in SERVICES}
    found |= {"silo_mean": sum(silos) / max(len(silos), 1), "silos": sum(silos)}
    found |= {"all": sum(share.values()), "client": 1000 * run["client_cpu_s"] / max(questions, 1)}
    return {name: round(value, 2) for name, value in found.items()}


def beyond(rows: Sequence[Row]) -> dict[str, float]:
    """Federated minus central median, and the median of the differences question by question."""
    central = {row["id"]: row["wall_ms"] for row in rows if row["part"] == "central"}
    ours = [row for row in rows if row["part"] == "latency" and row["status"] == OK]
    medians = [np.median([row["wall_ms"] for row in ours]), np.median(list(central.values()))]
    paired = [row["wall_ms"] - central[row["id"]] for row in ours if row["id"] in central]
    return {
        "p50": round(float(medians[0] - medians[1]), 2),
        "paired_p50": round(float(np.median(paired)), 2),
    }


def growth(early: Mapping[str, float], late: Mapping[str, float]) -> dict[str, float]:
    """By node, how much resident memory grew, as a share of what it was."""
    return {node: round(late[node] / mb - 1, 4) for node, mb in early.items() if node in late}


def recovery_s(rows: Sequence[Row], runs: Sequence[Run]) -> float | None:
    """Seconds from the end of the overload to the first answer as quick as before it, or None.

    As quick means within twice the slowest of before.
    """
    before = [row["wall_ms"] for row in rows if row["part"] == "before"]
    overload, after = (
        next(run for run in runs if run["part"] == part) for part in ("overload", "recovery")
    )
    lag = after["began"] - overload["began"] - overload["wall_s"]
    quick = [
        lag + row["at_s"] + row["wall_ms"] / 1000
        for row in rows
        if row["part"] == "recovery" and row["status"] == OK and row["wall_ms"] <= 2 * max(before)
    ]
    return round(min(quick), 2) if quick else None


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
