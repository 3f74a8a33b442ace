"""``siloquy bench``: measured claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.status import Status

from siloquy.cli.bench_load import load
from siloquy.cli.bench_routing import routing
from siloquy.cli.bench_sealed import sealed
from siloquy.cli.output import Json, command, err, out, print_json, table
from siloquy.errors import UsageError
from siloquy.settings import ModelSettings

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

        from siloquy.eval.retrieval.run import RetrievalConfig, run
    except ImportError:
        raise UsageError("ir-measures is not installed", "pip install siloquy[eval]") from None
    config = RetrievalConfig(corpus, to, route, split, limit, seed, cache, rescore, mode)
    with Status("starting", console=err) as status:
        results = run(config, status.update)
    if json:
        print_json(results)
        return
    _show(results, to)


command(app, "load")(load)
command(app, "routing")(routing)
command(app, "sealed")(sealed)


@command(app, "answers")
def answers(
    to: Annotated[Path, typer.Option("--out", help="A new folder for results, rows and curves.")],
    corpus: Annotated[
        Path | None,
        typer.Option(help="A BEIR folder, gold_answers.jsonl in it; without: the demo hospitals."),
    ] = None,
    tracks: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            help="gold, withheld, sweep, citations, conflicts or followups; may be given several "
            "times; without it gold and withheld.",
        ),
    ] = None,
    model_url: Annotated[
        str, typer.Option(help="Ask an OpenAI-compatible endpoint too, such as http://HOST/v1.")
    ] = "",
    model_name: Annotated[
        str, typer.Option(help="The endpoint's model, or without a URL a transformers folder.")
    ] = "",
    key_file: Annotated[str, typer.Option(help="File with the endpoint's key.")] = "",
    adapter: Annotated[str, typer.Option(help="LoRA folder of the transformers model.")] = "",
    split: Annotated[str, typer.Option(help="qrels/<split>.tsv to judge by.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Ask a sample of this many.", min=2)] = None,
    seed: Annotated[int, typer.Option(help="For samples and intervals.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Embedding cache.")] = None,
    sets: Annotated[
        Path | None, typer.Option(help="Folder of public sets; without: where --corpus lies.")
    ] = None,
    json: Json = False,
) -> None:
    """Answers against gold: citations, facts, abstention with and without the gold documents."""
    try:
        import matplotlib  # noqa: F401 - named here so that its absence is told before an hour

        from siloquy.eval.answers.run import TRACKS, AnswersConfig, run
    except ImportError:
        raise UsageError("matplotlib is not installed", "pip install siloquy[eval]") from None
    unknown = sorted(set(tracks or ()) - set(TRACKS))
    if unknown:
        raise UsageError(f"there is no track {unknown[0]!r}", f"one of {', '.join(TRACKS)}")
    config = AnswersConfig(
        corpus,
        to,
        tuple(tracks or ("gold", "withheld")),
        models(model_url, model_name, key_file, adapter),
        split,
        limit,
        seed,
        cache,
        sets or (corpus.resolve().parent if corpus else None),
    )
    with Status("starting", console=err) as status:
        results = run(config, status.update)
    if json:
        print_json(results)
        return
    _show_answers(results, to)


def models(url: str, name: str, key_file: str, adapter: str) -> tuple[ModelSettings, ...]:
    """Quoting, and the model that the options name."""
    key = str(Path(key_file).resolve()) if key_file else ""
    if url:
        return (
            ModelSettings(),
            ModelSettings("endpoint", name=name, url=url, key_file=key, fallback="none"),
        )
    if name:
        local = ModelSettings("transformers", name=name, adapter=adapter, fallback="none")
        return (ModelSettings(), local)
    return (ModelSettings(),)


BY_GROUP = {
    "gold": ("answered", "citation_accuracy", "support_precision_gold_says_it", "exact_hit"),
    "withheld": ("decided_on_withheld", "false_abstentions", "curve_held_out"),
    "sweep": ("decided_on_withheld", "false_abstentions", "curve_held_out"),
}


def _show_answers(results: dict[str, Any], to: Path) -> None:
    """Every figure of each back end; then the main ones by group of questions."""
    for track, found in results.items():
        if track not in BY_GROUP:
            _show_figures(track, {"figure": found})
            continue
        _show_figures(track, {backend: groups["all"] for backend, groups in found.items()})
        for backend, groups in found.items():
            if len(groups) > 1:
                rows = table(f"{track}, {backend}", *BY_GROUP[track])
                for group, figures in groups.items():
                    rows.add_row(group, *(_figure(figures.get(name)) for name in BY_GROUP[track]))
                out.print(rows)
    out.print(f"written to {to}")


def _show_figures(track: str, columns: dict[str, dict[str, Any]]) -> None:
    rows = table(track, *columns)
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        rows.add_row(name, *(_figure(figures.get(name)) for figures in columns.values()))
    out.print(rows)


def _figure(value: Any) -> str:
    """A share, an estimate or a count in a few characters."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    if {"hits", "n"} <= value.keys():
        n = value["n"]
        share = f"{value['hits'] / n:.3f}" if n else "-"
        return f"{share} [{value['low']:.3f}, {value['high']:.3f}] of {n}"
    if "mean" in value:
        return _interval(value)
    if "at_threshold_in_use" in value:
        used, best = value["at_threshold_in_use"], value["at_a_tenth_false"]
        return (
            f"area {value['area']:.3f}; in use {used['withheld']:.3f} at {used['kept']:.3f}; "
            f"{best['withheld']:.3f} at {best['kept']:.3f}"
        )
    return ", ".join(f"{key} {item}" for key, item in value.items() if not isinstance(item, dict))


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
