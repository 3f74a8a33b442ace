"""``siloquy bench retrieval``: the running federation against one central index, side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from siloquy.errors import SiloquyError, UsageError
from siloquy.eval import beir, metrics
from siloquy.eval.beir import EvalQuestion, JudgedQuestions
from siloquy.eval.central import CentralRun, run_central
from siloquy.eval.manifest import manifest, peak_memory_mb
from siloquy.serve import demo, local
from siloquy.settings import ReleasePolicy
from siloquy.silo_node.ingest import IngestReport
from siloquy.types import Progress

K = 10
ASK_TIMEOUT_S = 60.0
MOST_FAILURES = 0.02


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    """One benchmark run."""

    corpus: Path
    out: Path
    route: Literal["auto", "all"] = "all"
    split: str = "test"
    limit: int | None = None
    seed: int = 0
    cache: Path | None = None
    rescore: bool = False
    mode: Literal["open", "sealed"] = "open"


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


def run(config: RetrievalConfig, told: Progress) -> dict[str, Any]:
    """Run both, write everything to ``config.out``, give back ``results.json``."""
    if config.out.exists() and any(config.out.iterdir()):
        raise UsageError(f"{config.out} is not empty", "name a new folder with --out")
    judged = beir.load(config.corpus, config.split, config.limit, config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    federated = _federated(config, judged, told)
    told("central index")
    central = _central(config, judged)
    return _report(config, judged, federated, central)


def _federated(config: RetrievalConfig, judged: JudgedQuestions, told: Progress) -> FederatedRun:
    policy = ReleasePolicy(passages_per_day=10**9, most_per_question=2 * K, sealed_per_day=10**9)
    start = perf_counter()
    with demo.federation(config.corpus, None, told, cache=config.cache, policy=policy) as running:
        ingest_s = sum(report.total_s for report in running.reports.values())
        asked = _ask_all(running.layout.gateway_url, judged.questions, config, told)
        memory = {
            str(node): peak_memory_mb(process.pid)
            for node, process in running.processes.running.items()
        }
        told("ingesting again")
        start = perf_counter()
        again = local.ingest_all(
            running.layout, demo.sources(config.corpus), lambda silo, report: None
        )
        reingest_s = perf_counter() - start
        changed = sum(report.added + report.replaced for report in again.values())
        if changed:
            raise SiloquyError(f"ingesting again changed {changed} documents")
        return FederatedRun(
            asked,
            {str(silo): report for silo, report in running.reports.items()},
            ingest_s,
            reingest_s,
            running.ready_s,
            memory,
        )


def _ask_all(
    url: str, questions: Sequence[EvalQuestion], config: RetrievalConfig, told: Progress
) -> list[RetrievalRow]:
    results = []
    for i, question in enumerate(questions, start=1):
        results.append(_ask(url, question, config))
        if i % 10 == 0:
            told(f"asked {i} of {len(questions)} questions")
    failed = [item for item in results if item.error]
    if len(failed) > MOST_FAILURES * len(results):
        raise SiloquyError(f"{len(failed)} questions failed, the first with: {failed[0].error}")
    return results


def _ask(url: str, question: EvalQuestion, config: RetrievalConfig) -> RetrievalRow:
    body = {
        "question": question.text,
        "route": config.route,
        "mode": config.mode,
        # Only silos know what is of one document: a sealed question is for passages.
        "unit": "document" if config.mode == "open" else "passage",
        "k": K,
        "rescore": config.rescore,
    }
    start = perf_counter()
    try:
        found = local.post(f"{url}/v1/retrieve", body, ASK_TIMEOUT_S)
    except SiloquyError as error:
        return RetrievalRow(question.id, [], [], [], 0, 0, {}, {}, f"{error.code}: {error.message}")
    wall_ms = round(1000 * (perf_counter() - start), 2)
    released = list(found["released"].values())
    return RetrievalRow(
        id=question.id,
        ranking=list(dict.fromkeys(item["document"] for item in found["passages"])),
        asked=found["plan"]["asked"],
        missing=[item["silo"] for item in found["missing"]],
        released=sum(released),
        most_released_by_one=max(released, default=0),
        timings_ms={**found["timings_ms"], "wall": wall_ms},
        traffic=found["traffic"],
    )


def _central(config: RetrievalConfig, judged: JudgedQuestions) -> CentralRun:
    cache = config.cache or demo.cache_file()
    with tempfile.TemporaryDirectory(prefix="siloquy-central-") as folder:
        return run_central(config.corpus, judged.questions, Path(folder), cache, K)


# -- report ---------------------------------------------------------------------------------------


def _report(
    config: RetrievalConfig, judged: JudgedQuestions, federated: FederatedRun, central: CentralRun
) -> dict[str, Any]:
    ours = metrics.per_query(judged.qrels, {item.id: item.ranking for item in federated.asked})
    theirs = metrics.per_query(judged.qrels, central.rankings)
    rows = [
        {
            **asdict(item),
            "federated": ours[item.id],
            "central": theirs[item.id],
            "central_ranking": central.rankings[item.id],
            "central_ms": round(ms, 3),
        }
        for item, ms in zip(federated.asked, central.search_ms, strict=True)
    ]
    results = {
        "corpus": config.corpus.name,
        "questions": len(rows),
        "route": config.route,
        "k": K,
        **{f"federated_{m}": _estimate(ours, m, config.seed) for m in metrics.MEASURES},
        **{f"central_{m}": _estimate(theirs, m, config.seed) for m in metrics.MEASURES},
        **{f"difference_{m}": _difference(ours, theirs, m, config.seed) for m in metrics.MEASURES},
        **_costs(federated, central),
    }
    _write(config, results, rows)
    metrics.write_run(
        config.out / "federated.trec", {a.id: a.ranking for a in federated.asked}, "federated"
    )
    metrics.write_run(config.out / "central.trec", central.rankings, "central")
    return results


def _estimate(values: dict[str, dict[str, float]], measure: str, seed: int) -> dict[str, float]:
    return asdict(metrics.estimate([row[measure] for row in values.values()], seed))


def _difference(
    ours: dict[str, dict[str, float]],
    theirs: dict[str, dict[str, float]],
    measure: str,
    seed: int,
) -> dict[str, float]:
    """Federated minus central, paired by question."""
    gaps = [ours[query][measure] - theirs[query][measure] for query in ours]
    return asdict(metrics.estimate(gaps, seed))


def _costs(federated: FederatedRun, central: CentralRun) -> dict[str, Any]:
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


_SERVICES = (local.HUB, local.GATEWAY)


def _mean_of(answered: Sequence[RetrievalRow], attribute: str) -> dict[str, float]:
    rows = [getattr(item, attribute) for item in answered]
    return {key: round(float(np.mean([row[key] for row in rows])), 1) for key in rows[0]}


def _write(config: RetrievalConfig, results: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    settings = {
        key: str(value.name) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }
    written = manifest(settings, beir.file_hashes(config.corpus, config.split), config.seed)
    (config.out / "manifest.json").write_text(json.dumps(written, indent=1) + "\n")
    (config.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    with (config.out / "per_query.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
