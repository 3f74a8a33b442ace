"""``siloquy bench``: measured claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.status import Status

from siloquy.cli.output import Json, command, err, out, print_json, table
from siloquy.errors import UsageError

app = typer.Typer(help="Benchmarks: each writes its manifest and per-query rows.")


@app.callback()
def group() -> None:
    """Benchmarks: each writes its manifest and per-query rows."""


@command(app, "retrieval")
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
    split: Annotated[str, typer.Option(help="qrels/<split>.tsv to judge by.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Ask a sample of this many.", min=2)] = None,
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
    try:
        import ir_measures  # noqa: F401 - named here so that its absence is told before an hour

        from siloquy.eval.retrieval import Config, run
    except ImportError:
        raise UsageError("ir-measures is not installed", "pip install siloquy[eval]") from None
    if mode != "open":
        raise UsageError("sealed mode is not part of this version", "leave --mode out")
    config = Config(corpus, to, route, split, limit, seed, cache, rescore)
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
            _interval(results[f"federated_{measure}"]),
            _interval(results[f"central_{measure}"]),
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


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
