"""``siloquy bench retrieval``: the running federation against one central index, side by side."""

from __future__ import annotations

from typing import Any

from siloquy.eval import beir, output, track
from siloquy.eval.manifest import manifest
from siloquy.eval.retrieval.context import RetrievalConfig, RetrievalContext
from siloquy.eval.retrieval.tracks import TRACKS
from siloquy.types import Progress


def run(config: RetrievalConfig, told: Progress) -> dict[str, Any]:
    """Run both, write everything to ``config.out``, give back ``results.json``."""
    output.check_new(config.out)
    judged = beir.load(config.corpus, config.split, config.limit, config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    context = RetrievalContext(config, judged, told)
    results = {"corpus": config.corpus.name, **track.measured(TRACKS, TRACKS, context)}
    hashes = beir.file_hashes(config.corpus, config.split)
    output.write(config.out, manifest(output.options(config), hashes, config.seed), results)
    return results
