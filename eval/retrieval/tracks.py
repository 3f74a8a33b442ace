"""The one track of ``siloquy bench retrieval``: a federation asked as one central index is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from siloquy.errors import SiloquyError
from siloquy.eval import metrics, output
from siloquy.eval.beir import EvalQuestion, JudgedQuestions
from siloquy.eval.central import CentralRun, run_central
from siloquy.eval.manifest import peak_memory_mb
from siloquy.eval.retrieval import report
from siloquy.eval.retrieval.context import K, RetrievalConfig, RetrievalContext
from siloquy.eval.retrieval.report import FederatedRun, RetrievalRow
from siloquy.eval.track import Track
from siloquy.serve import demo, local
from siloquy.settings import ReleasePolicy
from siloquy.types import Progress

ASK_TIMEOUT_S = 60.0
MOST_FAILURES = 0.02


def federation(context: RetrievalContext) -> dict[str, Any]:
    """Both over the same questions; rows and run files are written."""
    config, judged = context.config, context.judged
    federated = _federated(config, judged, context.told)
    context.told("central index")
    central = _central(config, judged)
    rankings = {item.id: item.ranking for item in federated.asked}
    ours = metrics.per_query(judged.qrels, rankings)
    theirs = metrics.per_query(judged.qrels, central.rankings)
    rows = report.beside(federated, central, ours, theirs)
    output.write_rows(config.out / "per_query.jsonl", rows)
    metrics.write_run(config.out / "federated.trec", rankings, "federated")
    metrics.write_run(config.out / "central.trec", central.rankings, "central")
    return {
        "questions": len(rows),
        "route": config.route,
        "k": K,
        **report.quality(ours, theirs, config.seed),
        **report.costs(federated, central),
    }


def _federated(config: RetrievalConfig, judged: JudgedQuestions, told: Progress) -> FederatedRun:
    policy = ReleasePolicy(passages_per_day=10**9, most_per_question=2 * K, sealed_per_day=10**9)
    start = perf_counter()
    with demo.federation(config.corpus, None, told, cache=config.cache, policy=policy) as running:
        ingest_s = sum(ingested.total_s for ingested in running.reports.values())
        asked = _ask_all(running.layout.gateway_url, judged.questions, config, told)
        memory = {
            str(node): peak_memory_mb(process.pid)
            for node, process in running.processes.running.items()
        }
        told("ingesting again")
        start = perf_counter()
        again = local.ingest_all(
            running.layout, demo.sources(config.corpus), lambda silo, ingested: None
        )
        reingest_s = perf_counter() - start
        changed = sum(one.added + one.replaced for one in again.values())
        if changed:
            raise SiloquyError(f"ingesting again changed {changed} documents")
        return FederatedRun(
            asked,
            {str(silo): ingested for silo, ingested in running.reports.items()},
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


TRACKS: Mapping[str, Track[RetrievalContext]] = {
    "federation": Track("what the federation finds beside one central index", federation),
}
