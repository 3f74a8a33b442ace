"""``siloquy bench load``: the federation under load, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from siloquy.cli.bench_options import Cache
from siloquy.cli.output import Json, err, out, print_json, table

_SMALL = ("gateway", "hub", "silo_mean", "all", "client")


def load(
    to: Annotated[Path, typer.Option("--out", help="A new folder for results and rows.")],
    corpus: Annotated[
        Path | None,
        typer.Option(help="A BEIR folder whose `source` names the silo; without: the demo's five."),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="latency, throughput, soak, streams, overload or page (a browser); may be given "
            "several times; without it all."
        ),
    ] = None,
    questions: Annotated[int, typer.Option(help="Asked one by one for latency.", min=2)] = 200,
    seconds: Annotated[float, typer.Option(help="Of each step under load.", min=1)] = 10.0,
    soak: Annotated[int, typer.Option(help="Questions in a row.", min=1_001)] = 10_000,
    split: Annotated[str, typer.Option(help="qrels/<split>.tsv that names questions.")] = "test",
    cache: Cache = None,
    json: Json = False,
) -> None:
    """The running federation under load, beside one central index; query vectors from a cache."""
    from siloquy.eval.load.context import LoadConfig
    from siloquy.eval.load.run import run

    parts = tuple(part or ())
    config = LoadConfig(to, corpus, parts, questions, seconds, soak, split, cache=cache)
    with Status("starting", console=err) as status:
        results = run(config, status.update)
    if json:
        print_json(results)
        return
    _show(results, to)


def _show(results: dict[str, Any], to: Path) -> None:
    parts = {name: found for name, found in results.items() if isinstance(found, list)}
    rows = table("part", "at once", "answered", "shed", "failed", "per s", "p50 ms", "p95 ms")
    costs = table("CPU ms a question", "at once", "gateway", "hub", "a silo", "all", "client")
    for part, volleys in parts.items():
        for one in volleys:
            name, at_once = part, str(one["at_once"])
            rows.add_row(name, at_once, *_counts(one), *_quantiles(one.get("wall_ms")))
            costs.add_row(name, at_once, *(str(one["cpu_ms_a_question"][k]) for k in _SMALL))
    out.print(f"{results['corpus']}: {results['questions']} questions")
    out.print(rows)
    for part, volleys in parts.items():
        for one in volleys:
            _show_stages(f"{part}, {one['at_once']} at once", one)
    out.print(costs)
    _show_rest(results)
    out.print(f"written to {to}")


def _counts(one: dict[str, Any]) -> tuple[str, ...]:
    failed = sum(one["failed"].values())
    return str(one["answered"]), str(one["shed"]), str(failed), str(one["per_s"])


def _quantiles(found: dict[str, float] | None) -> tuple[str, str]:
    return (f"{found['p50']:.1f}", f"{found['p95']:.1f}") if found else ("", "")


def _show_stages(title: str, one: dict[str, Any]) -> None:
    stages = {**one.get("stages_ms", {}), **one.get("first_ms", {})}
    if stages:
        told = ", ".join(f"{name} {q['p50']:.1f} / {q['p95']:.1f}" for name, q in stages.items())
        out.print(f"{title}, p50 / p95 ms: {told}")
    for what in ("failed", "missing"):
        for reason, n in one[what].items():
            out.print(f"{title}, {what}: {n} x {reason}")


def _show_rest(results: dict[str, Any]) -> None:
    for name in ("central", "encoder"):
        if name in results:
            found = results[name]["ms"]
            out.print(f"{name} alone: p50 {found['p50']:.1f} ms, p95 {found['p95']:.1f} ms")
    if "beyond_central_ms" in results:
        out.print(f"beyond the central index: p50 {results['beyond_central_ms']['p50']:.1f} ms")
    if "memory_growth" in results:
        grown = max(results["memory_growth"].items(), key=lambda item: item[1])
        out.print(f"memory grew most at {grown[0]}: {100 * grown[1]:.1f} %")
    for what, found in results.get("page_ms", {}).items():
        late = f", over 1/30 s: {100 * found['late_share']:.1f} %" if "late_share" in found else ""
        out.print(f"page, {what}: p50 {found['p50']:.0f} ms, p95 {found['p95']:.0f} ms{late}")
    if "recovery_s" in results:
        out.print(f"recovered {results['recovery_s']} s after the overload")
