"""What a retrieval run amounts to: quality side by side, traffic, time and memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from siloquy.eval import metrics
from siloquy.eval.central import CentralRun
from siloquy.serve import local
from siloquy.silo_node.ingest import IngestReport

_SERVICES = (local.HUB, local.GATEWAY)


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """One question's federated outcome; no text of it is kept."""

    id: str
    ranking: list[str]
    asked: list[str]
    missing: list[str]
    released: int
    most_released_by_one: int
    timings_ms: dict[str, float]
    traffic: dict[str, int]
    error: str = ""


@dataclass(frozen=True, slots=True)
class FederatedRun:
    """All questions, and what ingest and the processes took."""

    asked: list[RetrievalRow]
    ingest: dict[str, IngestReport]
    ingest_s: float
    reingest_s: float
    ready_s: float
    peak_memory_mb: dict[str, float]


Values = dict[str, dict[str, float]]
"""Measures by question."""


def beside(
    federated: FederatedRun, central: CentralRun, ours: Values, theirs: Values
) -> list[dict[str, Any]]:
    """Rows of ``per_query.jsonl``: each question's two rankings and what they are worth."""
    return [
        {
            **asdict(item),
            "federated": ours[item.id],
            "central": theirs[item.id],
            "central_ranking": central.rankings[item.id],
            "central_ms": round(ms, 3),
        }
        for item, ms in zip(federated.asked, central.search_ms, strict=True)
    ]


def quality(ours: Values, theirs: Values, seed: int) -> dict[str, Any]:
    """Estimates of every measure: federated, central, and the difference by question."""
    gaps = {
        query: {m: ours[query][m] - theirs[query][m] for m in metrics.MEASURES} for query in ours
    }
    return {
        f"{name}_{measure}": asdict(metrics.estimate([v[measure] for v in found.values()], seed))
        for name, found in (("federated", ours), ("central", theirs), ("difference", gaps))
        for measure in metrics.MEASURES
    }


def costs(federated: FederatedRun, central: CentralRun) -> dict[str, Any]:
    """What both took, and what the silos sent and released."""
    answered = [item for item in federated.asked if not item.error]
    silos = {node: mb for node, mb in federated.peak_memory_mb.items() if node not in _SERVICES}
    reports = federated.ingest.values()
    encoder_s = sum(report.encoder_s for report in reports)
    return {
        "failed_questions": {a.id: a.error for a in federated.asked if a.error},
        "silos": len(federated.ingest),
        "silos_asked_mean": round(float(np.mean([len(a.asked) for a in answered])), 3),
        "silos_missing": sum(len(a.missing) for a in answered),
        "passages_released_mean": round(float(np.mean([a.released for a in answered])), 3),
        "passages_released_most": max(a.released for a in answered),
        "bytes_per_question_by_link": _mean_of(answered, "traffic"),
        "ms_by_stage": {
            stage: metrics.quantiles([a.timings_ms[stage] for a in answered])
            for stage in answered[0].timings_ms
        },
        "central_search_ms": metrics.quantiles(central.search_ms),
        "peak_memory_mb": federated.peak_memory_mb,
        "silo_memory_mb_most": max(silos.values()),
        "ready_s": round(federated.ready_s, 1),
        "passages": sum(report.passages for report in reports),
        "central_passages": central.passages,
        "ingest_s": round(federated.ingest_s, 2),
        "ingest_embedded": sum(report.embedded for report in reports),
        "ingest_encoder_s": round(encoder_s, 2),
        "ingest_over_encoder": round(federated.ingest_s / encoder_s, 3) if encoder_s else None,
        "reingest_s": round(federated.reingest_s, 2),
        "reingest_speedup": round(federated.ingest_s / federated.reingest_s, 1),
    }


def _mean_of(answered: Sequence[RetrievalRow], attribute: str) -> dict[str, float]:
    rows = [getattr(item, attribute) for item in answered]
    return {key: round(float(np.mean([row[key] for row in rows])), 1) for key in rows[0]}
