"""``siloquy bench retrieval``: federated beside central, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.status import Status

from siloquy.cli.bench_options import Sample, Split, interval, require
from siloquy.cli.output import Json, err, out, print_json, table


def retrieval(
    corpus: Annotated[
        Path, typer.Option(help="A BEIR folder whose field `source` names the silo.")
    ],
    to: Annotated[Path, typer.Option("--out", help="A new folder for results and rows.")],
    route: Annotated[
        Literal["auto", "all"], typer.Option(help="Let the router choose, or ask all silos.")
    ] = "all",
    mode: Annotated[
        Literal["open", "sealed"], typer.Option(help="How silos score the question.")
    ] = "open",
    split: Split = "test",
    limit: Sample = None,
    seed: Annotated[int, typer.Option(help="For the sample and the intervals.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Embedding cache; a new file measures the encoder.")
    ] = None,
    rescore: Annotated[
        bool, typer.Option(help="Also re-embed the winners, as asking does.")
    ] = False,
    json: Json = False,
) -> None:
    """The running federation against one central index: same encoder, passages and scoring."""
    require("ir-measures")
    from siloquy.eval.retrieval.context import RetrievalConfig
    from siloquy.eval.retrieval.run import run

    config = RetrievalConfig(corpus, to, route, split, limit, seed, cache, rescore, mode)
    with Status("starting", console=err) as status:
        results = run(config, status.update)
    if json:
        print_json(results)
        return
    _show(results, to)


def _show(results: dict[str, Any], to: Path) -> None:
    rows = table("measure", "federated", "central", "difference [95 %]")
    for measure in ("ndcg@10", "recall@10", "hit@1"):
        gap = results[f"difference_{measure}"]
        rows.add_row(
            measure,
            interval(results[f"federated_{measure}"]),
            interval(results[f"central_{measure}"]),
            f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]",
        )
    out.print(f"{results['corpus']}: {results['questions']} questions, {results['silos']} silos")
    out.print(rows)
    stages = results["ms_by_stage"]
    out.print(
        f"silos asked {results['silos_asked_mean']:.2f} of {results['silos']}, passages released "
        f"{results['passages_released_mean']:.2f} a question, at most "
        f"{results['passages_released_most']}"
    )
    out.print(
        f"retrieval p50 {stages['total']['p50']:.0f} ms, p95 {stages['total']['p95']:.0f} ms; "
        f"largest silo process {results['silo_memory_mb_most']:.0f} MB"
    )
    ratio = results["ingest_over_encoder"]
    out.print(
        f"{results['passages']:,} passages ingested in {results['ingest_s']:.1f} s"
        + (f", {ratio:.2f} times the encoder alone" if ratio else " from the cache")
        + f"; again in {results['reingest_s']:.1f} s"
    )
    out.print(f"written to {to}")
