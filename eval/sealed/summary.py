"""What the rows of ``siloquy bench sealed`` come to: all figures of its report follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from siloquy.eval import metrics
from siloquy.eval.sealed.embeddings import OpenedScores, RecallRow
from siloquy.eval.sealed.federation import OPEN, FederationRow, by_setting
from siloquy.eval.sealed.scoring import Figure
from siloquy.eval.sealed.tenseal_baselines import most_columns

STAGES = (
    "session_key",
    "encrypt",
    "open_query",
    "repack",
    "prepare",
    "zeros",
    "score_ahead",
    "score",
    "reply",
    "open_scores",
)
BLOCK_STAGES = ("block_prepare", "block_save", "block_load")
Summary = dict[str, Any]


# -- scoring --------------------------------------------------------------------------------------


def scoring(figures: Sequence[Figure], seed: int) -> list[Summary]:
    """One summary a point, in the order in which they were measured."""
    points = dict.fromkeys((figure.n, figure.d) for figure in figures)
    return [_point(n, d, _values(figures, n, d), seed) for n, d in points]


def _values(figures: Sequence[Figure], n: int, d: int) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for figure in figures:
        if (figure.n, figure.d) == (n, d):
            values.setdefault(figure.what, []).append(figure.value)
    return values


def _point(n: int, d: int, values: Mapping[str, Sequence[float]], seed: int) -> Summary:
    ms = {stage: round(_median(values[f"{stage}_ms"]), 3) for stage in STAGES}
    cpu = {stage: round(_median(values[f"{stage}_cpu_ms"]), 3) for stage in STAGES}
    baselines = _baselines(n, d, values)
    silo_ms = ms["open_query"] + ms["score"]
    return {
        "n": n,
        "d": d,
        "ms": ms,
        "cpu_ms": cpu,
        "silo_ms": round(silo_ms, 3),
        "silo_ahead_ms": round(ms["open_query"] + ms["score_ahead"], 3),
        "silo_cpu_ms": round(cpu["open_query"] + cpu["score"], 3),
        "all_ms": round(ms["encrypt"] + silo_ms + ms["open_scores"], 3),
        "blocks": int(values["blocks"][0]),
        "up_bytes": int(values["up_bytes"][0]),
        "down_bytes": int(values["down_bytes"][0]),
        "memory_bytes": int(values["memory_bytes"][0]),
        "memory_bytes_a_row": round(values["memory_bytes"][0] / n, 1),
        "error_most": max(values["error"]),
        "scores_compared": int(sum(values["compared_count"])),
        "scores_wrong": int(sum(values["wrong_count"])),
        "recall@10": asdict(metrics.estimate(values["recall_at_10"], seed)),
        "block": _block(values),
        "load_average": [values["load_before"][0], values["load_after"][0]],
        **baselines,
        "times_faiss": round(silo_ms / baselines["faiss_ms"], 1),
        **_over("dot", baselines["dot_ms"], silo_ms, ms["reply"]),
        **_over("matmul", baselines["matmul_ms"], silo_ms, ms["reply"]),
    }


def _over(what: str, ms: float | None, silo_ms: float, served_ms: float) -> Summary:
    """How many times as long ``what`` takes: on one core, and as a silo serves."""
    return {
        f"{what}_over_sealed": round(ms / silo_ms, 1) if ms else None,
        f"{what}_over_served": round(ms / served_ms, 1) if ms else None,
    }


def _baselines(n: int, d: int, values: Mapping[str, Sequence[float]]) -> Summary:
    """FAISS as measured; TenSEAL's two ways, the quicker number of threads, for all n rows."""
    one_dot = _quicker(values, "dot")
    columns = most_columns(d)
    calls = -(-n // columns) if columns else 0
    found: Summary = {
        "faiss_ms": round(_median(values["faiss_ms"]), 4),
        "dot_ms_a_row": round(one_dot, 3),
        "dot_ms": round(one_dot * n, 1),
        "dot_down_bytes": int(values["dot_down_bytes"][0]) * n,
        "dot_error": max(values["dot_error"]),
        "ckks_up_bytes": int(values["ckks_up_bytes"][0]),
        "ckks_key_bytes": int(values["ckks_key_bytes"][0]),
        "matmul_ms": None,
    }
    if columns:
        one_call = _quicker(values, "matmul")
        found |= {
            "matmul_calls": calls,
            "matmul_ms_a_call": round(one_call, 1),
            "matmul_ms": round(one_call * calls, 1),
            "matmul_down_bytes": int(values["matmul_down_bytes"][0]) * calls,
            "matmul_error": max(values["matmul_error"]),
        }
    return found


def _quicker(values: Mapping[str, Sequence[float]], call: str) -> float:
    return min(_median(values[f"{call}_ms"]), _median(values[f"{call}_all_cores_ms"]))


def _block(values: Mapping[str, Sequence[float]]) -> Summary:
    """Milliseconds of a block's 256 rows: made, written to files, read from them."""
    found: Summary = {
        f"{name}_ms": round(_median(values[f"{name}_ms"]), 3) for name in BLOCK_STAGES
    }
    return {**found, "file_bytes": int(values["block_file_bytes"][0])}


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


# -- embeddings -----------------------------------------------------------------------------------


def embeddings(recalled: Sequence[RecallRow], opened: Sequence[OpenedScores], seed: int) -> Summary:
    """Recall with intervals over questions, and how many scores were opened and wrong."""
    sizes = {item.silo: item.compared for item in opened}
    return {
        "questions": len(recalled),
        "silos": len(sizes),
        "passages": sum(sizes.values()),
        **{
            f"recall@10_{name}": asdict(
                metrics.estimate([getattr(item, name) for item in recalled], seed)
            )
            for name in ("whole", "coarsest", "federation")
        },
        "questions_with_all_ten": sum(item.whole == 1 for item in recalled),
        "error_most": max(item.error for item in recalled),
        "encrypted_questions": len({item.id for item in opened}),
        "scores_compared": sum(item.compared for item in opened),
        "scores_wrong": sum(item.wrong for item in opened),
    }


# -- federation -----------------------------------------------------------------------------------


def federation(rows: Sequence[FederationRow], seed: int) -> list[Summary]:
    """One summary for each number of silos and setting of retrieval; answers beside it."""
    answers = by_setting(rows, "ask")
    retrieved = by_setting(rows, "retrieve")
    failed = [row for row in rows if row.error]
    return [
        {
            "silos": silos,
            "setting": setting,
            "questions": len(group),
            "failed": sum((row.silos, row.setting) == (silos, setting) for row in failed),
            **_costs(group),
            **_quality(group, retrieved[silos, OPEN.name], seed),
            **({"answers": _times(answers[silos, setting])} if (silos, setting) in answers else {}),
        }
        for (silos, setting), group in retrieved.items()
    ]


def _costs(group: Sequence[FederationRow]) -> Summary:
    links = dict.fromkeys(link for row in group for link in row.traffic)
    return {
        **_times(group),
        "without_rescoring_ms": metrics.quantiles(
            [row.timings_ms["total"] - row.timings_ms.get("rescore", 0.0) for row in group]
        ),
        "bytes_by_link": {
            link: round(float(np.mean([row.traffic.get(link, 0) for row in group])), 1)
            for link in links
        },
        "released_mean": round(float(np.mean([row.released for row in group])), 3),
        "missing": sum(len(row.missing) for row in group),
        "withheld": sum(row.withheld for row in group),
    }


def _times(group: Sequence[FederationRow]) -> Summary:
    stages = dict.fromkeys(stage for row in group for stage in row.timings_ms)
    return {
        "ms": {
            stage: metrics.quantiles([row.timings_ms.get(stage, 0.0) for row in group])
            for stage in stages
        },
        "wall_ms": metrics.quantiles([row.wall_ms for row in group]),
        "load_average": round(float(np.median([row.load for row in group])), 2),
        "asked": len(group),
        "abstained": sum(row.abstained for row in group),
    }


def _quality(group: Sequence[FederationRow], plain: Sequence[FederationRow], seed: int) -> Summary:
    """nDCG@10, and by how much it is above open mode's on the same questions."""
    other = {row.id: row.ndcg or 0.0 for row in plain}
    values = [row.ndcg or 0.0 for row in group]
    gaps = [(row.ndcg or 0.0) - other[row.id] for row in group if row.id in other]
    return {
        "ndcg@10": asdict(metrics.estimate(values, seed)),
        "ndcg@10_minus_open": asdict(metrics.estimate(gaps, seed)),
    }
