"""``siloquy bench routing``: which router asks the fewest silos for the same evidence.

All routers in one run: the same encoder, passages, split and questions. What is kept is the share
of the central ten best that the asked silos hold; recall of relevant documents is beside it.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from siloquy.errors import UsageError
from siloquy.eval import beir, output, track
from siloquy.eval.manifest import manifest
from siloquy.eval.routing import labels, report
from siloquy.eval.routing import rows as routing_rows
from siloquy.eval.routing.context import RoutingConfig, RoutingContext
from siloquy.eval.routing.tracks import TRACKS
from siloquy.eval.scene import Scene, build
from siloquy.serve import demo
from siloquy.types import Progress

LABELS = ("ragroute", "feb4rag")
LABEL_SEEDS = 5


def run(config: RoutingConfig, told: Progress) -> dict[str, Any]:
    """Run the tracks, write manifest, rows and plots to ``config.out``, give back the results."""
    track.check(config.tracks, TRACKS)
    output.check_new(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    cache = config.cache or demo.cache_file()
    with tempfile.TemporaryDirectory(prefix="siloquy-routing-") as folder:
        scene = build(
            config.corpus,
            Path(folder),
            cache,
            told,
            split=config.split,
            limit=config.limit,
            seed=config.seed,
            traffic=config.traffic,
        )
    return measure(config, scene, told)


def measure(config: RoutingConfig, scene: Scene, told: Progress) -> dict[str, Any]:
    """The tracks over a scene that was built."""
    config = replace(config, tracks=track.chosen(config.tracks, TRACKS))
    context = RoutingContext(config, scene, told)
    results = {
        "corpus": config.corpus.name,
        "silos": len(scene.sites),
        "passages": int(scene.sizes.sum()),
        "questions": scene.judged,
        "other_questions": len(scene.asked.ids) - scene.judged,
        **track.measured(config.tracks, TRACKS, context),
    }
    _write(context, results)
    return results


def _write(context: RoutingContext, results: dict[str, Any]) -> None:
    config = context.config
    hashes = beir.file_hashes(config.corpus, config.split)
    if config.traffic:
        more = beir.file_hashes(config.traffic, "test")
        hashes |= {f"traffic/{name}": value for name, value in more.items()}
    output.write(config.out, manifest(output.options(config), hashes, config.seed), results)
    output.write_rows(config.out / "per_query.jsonl", context.rows)
    output.write_rows(config.out / "offers.jsonl", routing_rows.of_offers(context.scene))
    output.write_rows(config.out / "tracks.jsonl", context.note.rows)
    report.plot(results, context.rows, config.out)


# -- labels alone ---------------------------------------------------------------------------------


def run_labels(name: str, data: Path, out: Path, told: Progress) -> dict[str, Any]:
    """A track that needs labels alone; five seeds."""
    output.check_new(out)
    path = (
        data / "mcq" / "mirage_public.jsonl.gz" if name == "ragroute" else data / "feb4rag_routing"
    )
    if not path.exists():
        raise UsageError(f"{path} is missing", "name the folder of public sets with --sets")
    told(f"{name}: all routers, {LABEL_SEEDS} seeds")
    measure_all = labels.run_ragroute if name == "ragroute" else labels.run_feb4rag
    outcome = measure_all(path, range(LABEL_SEEDS))
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "track": name,
        "questions": outcome.questions,
        "sources": list(outcome.sources),
        "rows": [asdict(row) for row in outcome.rows],
        "differences": [asdict(item) for item in outcome.differences],
    }
    output.write_records(out / "per_query.jsonl", outcome.scored)
    hashes = labels.file_hashes(path)
    output.write(out, manifest({"track": name, "seeds": LABEL_SEEDS}, hashes, 0), results)
    return results
