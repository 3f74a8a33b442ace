"""``siloquy bench sealed``: what scoring encrypted questions costs and keeps, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from siloquy.cli.bench_options import Cache, Split, interval, require
from siloquy.cli.output import Json, err, out, print_json, table
from siloquy.errors import UsageError
from siloquy.sealed import scoring


def sealed(
    to: Annotated[Path, typer.Option("--out", help="A new folder for results, rows and plots.")],
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="A BEIR folder whose field `source` names the silo; without: scoring alone."
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="scoring, embeddings, attacks or federation; repeat for several; without it all."
        ),
    ] = None,
    n: Annotated[str, typer.Option("--n", help="Rows to score.")] = "1000,10000,100000",
    d: Annotated[str, typer.Option("--d", help="Numbers of a row.")] = "384,768",
    silos: Annotated[
        str, typer.Option(help="Silos of the federations, the largest sources first.")
    ] = "1,5,18",
    queries: Annotated[
        int | None, typer.Option(help="Most questions of scoring and of a federation.", min=2)
    ] = None,
    split: Split = "test",
    seed: Annotated[int, typer.Option(help="For vectors, samples and intervals.")] = 0,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Sealed scoring beside FAISS and TenSEAL, on real embeddings and in a running federation."""
    scoring.check()
    require("ir_measures", "matplotlib")
    from siloquy.eval.sealed.context import SealedConfig
    from siloquy.eval.sealed.run import run

    config = SealedConfig(
        to,
        corpus,
        tuple(part or ()),
        numbers("n", n),
        numbers("d", d),
        numbers("silos", silos),
        queries,
        split,
        seed,
        cache,
    )
    with Status("starting", console=err) as status:
        results = run(config, status.update)
    if json:
        print_json(results)
        return
    _show(results, to)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, each once; UsageError for anything else.

    >>> numbers("n", "1000, 10000")
    (1000, 10000)
    """
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        hint = f"whole numbers with commas between them, such as --{option} 1,5"
        raise UsageError(f"--{option} is {text!r}", hint) from None


def _show(results: dict[str, Any], to: Path) -> None:
    if "scoring" in results:
        _show_scoring(results["scoring"])
    if "embeddings" in results:
        found = results["embeddings"]
        out.print(
            f"{results['corpus']}: recall@10 {interval(found['recall@10_whole'])} over "
            f"{found['questions']:,} questions; "
            f"{found['scores_wrong']} of {found['scores_compared']:,} opened scores wrong"
        )
    if "federation" in results:
        _show_federation(results["federation"])
    out.print(f"written to {to}; the tables stand in {to / 'report.md'}")


def _show_scoring(points: list[dict[str, Any]]) -> None:
    shown = table("rows", "d", "FAISS ms", "sealed ms", "dot /", "matmul /", "down MB", "wrong")
    for point in points:
        matmul = point["matmul_over_sealed"]
        shown.add_row(
            f"{point['n']:,}",
            str(point["d"]),
            f"{point['faiss_ms']:.2f}",
            f"{point['silo_ms']:.1f}",
            f"{point['dot_over_sealed']:,.0f}",
            "" if matmul is None else f"{matmul:,.0f}",
            f"{point['down_bytes'] / 1e6:.2f}",
            str(point["scores_wrong"]),
        )
    out.print(shown)
    out.print("sealed ms: at the silo, nothing made ahead; dot /, matmul /: times as long")


def _show_federation(groups: list[dict[str, Any]]) -> None:
    shown = table("silos", "asked", "nDCG@10", "minus open [95 %]", "found ms", "answered ms")
    for group in groups:
        gap = group["ndcg@10_minus_open"]
        answers = group.get("answers")
        shown.add_row(
            str(group["silos"]),
            group["setting"],
            f"{group['ndcg@10']['mean']:.4f}",
            "" if group["setting"] == "open" else _gap(gap),
            f"{group['ms']['total']['p50']:.0f}",
            f"{answers['ms']['total']['p50']:.0f}" if answers else "",
        )
    out.print(shown)
    out.print("found ms, answered ms: medians of retrieval and of whole answers at the gateway")


def _gap(gap: dict[str, float]) -> str:
    return f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
