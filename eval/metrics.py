"""Retrieval measures by trec_eval itself, with bootstrap intervals over questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.beir import Qrels

Run = Mapping[str, Sequence[str]]
"""Document ids best first, by question."""

MEASURES = ("ndcg@10", "recall@10", "hit@1")
RESAMPLES = 2000
_SCORE_TOP = 1000.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def per_query(qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Each measure of each judged question; a question without a ranking counts 0."""
    import ir_measures
    from ir_measures import R, Success, nDCG

    names = {nDCG @ 10: "ndcg@10", R @ 10: "recall@10", Success @ 1: "hit@1"}
    values = {query: dict.fromkeys(MEASURES, 0.0) for query in qrels}
    scored = {
        query: {document: _SCORE_TOP - rank for rank, document in enumerate(ranking)}
        for query, ranking in run.items()
        if ranking
    }
    for item in ir_measures.iter_calc(list(names), qrels, scored):
        values[item.query_id][names[item.measure]] = item.value
    return values


def estimate(values: Sequence[float], seed: int) -> Estimate:
    """The mean with a percentile bootstrap over questions."""
    data = np.asarray(values, dtype=np.float64)
    means = _resampled(data, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(round(float(data.mean()), 4), round(float(low), 4), round(float(high), 4))


def ratio(pairs: Sequence[tuple[int, int]], seed: int) -> Estimate:
    """Sum of hits over sum of totals, with a percentile bootstrap over questions.

    pairs   hits and total of each question; not all totals are 0
    """
    data = np.asarray(pairs, dtype=np.float64)
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(data), (RESAMPLES, len(data)))
    hits, totals = data[rows].sum(axis=1).T
    shares = hits[totals > 0] / totals[totals > 0]
    low, high = np.quantile(shares, [0.025, 0.975])
    whole = float(data[:, 0].sum() / data[:, 1].sum())
    return Estimate(round(whole, 4), round(float(low), 4), round(float(high), 4))


def _resampled(data: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(data), (RESAMPLES, len(data)))
    return np.asarray(data[rows].mean(axis=1))


def write_run(path: Path, run: Run, tag: str) -> None:
    """A TREC run file; scores fall with the rank."""
    with path.open("w", encoding="utf-8") as file:
        for query, ranking in run.items():
            for rank, document in enumerate(ranking, start=1):
                file.write(f"{query} Q0 {document} {rank} {_SCORE_TOP - rank:g} {tag}\n")


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    p50, p95 = np.quantile(np.asarray(values), [0.5, 0.95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
