"""``siloquy bench answers``: what answers cite and say against gold, and when they abstain."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from siloquy.eval import beir, output, track
from siloquy.eval.answers import report, withheld
from siloquy.eval.answers.context import AnswersConfig, AnswersContext
from siloquy.eval.answers.tracks import TRACKS
from siloquy.eval.manifest import manifest
from siloquy.types import Progress


def run(config: AnswersConfig, told: Progress) -> dict[str, Any]:
    """Run the tracks, write everything to ``config.out``, give back ``results.json``."""
    track.check(config.tracks, TRACKS)
    output.check_new(config.out)
    with tempfile.TemporaryDirectory(prefix="siloquy-answers-") as name:
        place = Path(name)
        corpus = config.corpus or withheld.write_hospitals(place / "hospitals")
        config.out.mkdir(parents=True, exist_ok=True)
        with (config.out / "per_query.jsonl").open("w", encoding="utf-8") as file:
            context = AnswersContext(config, corpus, place, file, told)
            with context.open:
                found = track.measured(config.tracks, TRACKS, context)
        results = dict(sorted(found.items()))
        _write(context, results)
    return results


def _write(context: AnswersContext, results: dict[str, Any]) -> None:
    config, corpus = context.config, context.corpus
    options = {**asdict(config), "corpus": corpus.name, "out": config.out.name}
    options |= {"cache": bool(config.cache), "sets": bool(config.sets)}
    options["models"] = [{**asdict(m), "key_file": bool(m.key_file)} for m in config.models]
    hashes = beir.file_hashes(corpus, config.split)
    output.write(config.out, manifest(options, hashes, config.seed), results)
    report.draw_curves(context.rows, config.out)
