"""``siloquy bench answers``: answers against gold, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from siloquy.cli.bench_options import Cache, Sample, Split, interval, require
from siloquy.cli.output import Json, err, out, print_json, table
from siloquy.settings import ModelSettings


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
    split: Split = "test",
    limit: Sample = None,
    seed: Annotated[int, typer.Option(help="For samples and intervals.")] = 0,
    cache: Cache = None,
    sets: Annotated[
        Path | None, typer.Option(help="Folder of public sets; without: where --corpus lies.")
    ] = None,
    json: Json = False,
) -> None:
    """Answers against gold: citations, facts, abstention with and without the gold documents."""
    require("matplotlib")
    from siloquy.eval.answers.context import AnswersConfig
    from siloquy.eval.answers.run import run

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
        return interval(value)
    if "at_threshold_in_use" in value:
        used, best = value["at_threshold_in_use"], value["at_a_tenth_false"]
        return (
            f"area {value['area']:.3f}; in use {used['withheld']:.3f} at {used['kept']:.3f}; "
            f"{best['withheld']:.3f} at {best['kept']:.3f}"
        )
    return ", ".join(f"{key} {item}" for key, item in value.items() if not isinstance(item, dict))
