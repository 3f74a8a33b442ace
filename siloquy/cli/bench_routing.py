"""``siloquy bench routing``: routers side by side, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from siloquy.cli.bench_options import Cache, Split, require
from siloquy.cli.output import Json, err, out, print_json, table
from siloquy.errors import UsageError


def routing(
    corpus: Annotated[
        str,
        typer.Option(
            help="A BEIR folder whose field `source` names the silo, or ragroute or feb4rag: "
            "public labels without documents."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A new folder for results, rows and plots; without: routing-<corpus> here.",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            help="normal, silos, promises, attacks or cost; may be given several times; without "
            "it all."
        ),
    ] = None,
    split: Split = "test",
    limit: Annotated[int | None, typer.Option(help="Ask a sample of this many.", min=20)] = None,
    seeds: Annotated[int, typer.Option(help="Splits of the questions.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    traffic: Annotated[
        Path | None,
        typer.Option(help="A BEIR folder whose questions are asked too, to calibrate by."),
    ] = None,
    sets: Annotated[
        Path | None,
        typer.Option(
            help="Folder of public sets, for ragroute and feb4rag.", envvar="SILOQUY_DATA"
        ),
    ] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Which router asks the fewest silos for the same evidence, and what forged profiles win."""
    require("matplotlib", "sklearn")
    from siloquy.eval.routing.context import RoutingConfig
    from siloquy.eval.routing.run import LABELS, run, run_labels
    from siloquy.eval.routing.tracks import TRACKS
    from siloquy.eval.track import chosen

    to = to or Path(f"routing-{Path(corpus).name}")
    tracks = chosen(track or (), TRACKS)
    with Status("starting", console=err) as status:
        if corpus in LABELS:
            if sets is None:
                raise UsageError("--sets is missing", "name the folder of public sets")
            results = run_labels(corpus, sets, to, status.update)
        else:
            folder = Path(corpus)
            config = RoutingConfig(folder, to, tracks, split, limit, seeds, seed, traffic, cache)
            results = run(config, status.update)
    if json:
        print_json(results)
    elif corpus in LABELS:
        _show_labels(results, to)
    else:
        _show(results, to)


def _show_labels(results: dict[str, Any], to: Path) -> None:
    names = list(dict.fromkeys(row["measure"] for row in results["rows"]))
    shown = table(f"{results['track']}, {results['questions']} questions", *names)
    for router in dict.fromkeys(row["router"] for row in results["rows"]):
        values = {r["measure"]: r["mean"] for r in results["rows"] if r["router"] == router}
        shown.add_row(router, *(f"{values[n]:.4f}" if n in values else "" for n in names))
    out.print(shown)
    for item in results["differences"]:
        gap = item["estimate"]
        out.print(
            f"{item['measure']}: ours - {item['baseline']} "
            f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
        )
    out.print(f"written to {to}")


_COLUMNS = {
    "silos for 0.95": "silos for .95",
    "silos for 0.98": "for .98",
    "kept at 0.33": "kept by a third",
    "recall at 0.33": "recall by it",
    "ndcg@3": "nDCG@3",
}


def _show(results: dict[str, Any], to: Path) -> None:
    out.print(
        f"{results['corpus']}: {results['questions']} questions, {results['silos']} silos, "
        f"{results['passages']:,} passages"
    )
    if "normal" in results:
        out.print(
            "silos asked, mean, so that .95 and .98 of the ten best are kept; what a third of the "
            "silos keep of them, and of the recall of relevant documents"
        )
        shown = table("router", *_COLUMNS.values(), "ours ahead by")
        for name, figures in results["normal"].items():
            gap = results["differences"].get(name)
            wide = max(gap["high"] - gap["mean"], gap["mean"] - gap["low"]) if gap else 0.0
            told = f"{gap['mean']:+.3f} ±{wide:.3f}" if gap else ""
            shown.add_row(name, *(f"{figures[key]:.3f}" for key in _COLUMNS), told)
        out.print(shown)
        out.print("ours ahead by: what ours without noise keeps by a third more, 95 % interval")
    _show_tracks(results)
    out.print(f"written to {to}")


def _show_tracks(results: dict[str, Any]) -> None:
    if "silos_tracks" in results:
        shown = table("a third of the silos asked", "kept")
        for name, figures in results["silos_tracks"].items():
            shown.add_row(name, f"{figures['kept']:.3f}")
        out.print(shown)
    if results.get("promises"):
        shown = table("promise", "audits", "learned", "kept [95 %]", "silos", "best threshold's")
        for p in results["promises"]:
            kept = f"{p['kept']:.3f} [{p['low']:.3f}, {p['high']:.3f}]"
            learned = "yes" if p["learned"] else "no"
            cells = (str(p["audits"]), learned, kept, f"{p['silos']:.2f}", f"{p['best']:.2f}")
            shown.add_row(f"{p['promise']:.2f}", *cells)
        out.print(shown)
    for item in results.get("drift", ()):
        out.print(
            f"drift, {item['change']}: alarm after {item['delay']} audits (kept "
            f"{item['broken']:.3f} until then), "
            f"false alarms {item['false_alarms']}; afterwards kept {item['kept']:.3f} at "
            f"{item['silos']:.2f} silos, best {item['best']:.2f}"
        )
    if "attacks" in results:
        shown = table("forged profiles", "liars", "proxies", "first", "first three", "kept")
        for row in results["attacks"]:
            parts = (f"{row[name]:.3f}" for name in ("first", "top3", "kept"))
            shown.add_row(row["router"], str(row["liars"]), str(row["proxies"]), *parts)
        out.print(shown)
        won = results["inflated"]["won"]
        out.print(
            f"inflated scores: won {', '.join(map(str, won[:5]))} of 10 in the first questions, "
            f"then {sum(won[5:])}; quota {results['inflated']['quota']}"
        )
    if "milliseconds" in results:
        times = results["milliseconds"]
        out.print(
            f"routing takes {times['these']:.2f} ms of CPU, {times['1,000']:.2f} ms with 1,000 "
            f"silos; a profile has at most {results['profile_bytes']:,} bytes"
        )
    if "bytes" in results:
        sizes = results["bytes"]
        out.print(
            f"{sizes['ours']:,} bytes a question, {sizes['broadcast']:,} to broadcast and fetch "
            f"k passages of every silo ({-100 * sizes['saved']:.0f} %)"
        )
