"""``siloquy bench load``: the running federation under load, beside one central index.

Real processes over the production channel, asked by one more.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from siloquy.eval import beir, output, track
from siloquy.eval.beir import EvalQuestion
from siloquy.eval.load.context import LoadConfig, LoadContext
from siloquy.eval.load.tracks import TRACKS
from siloquy.eval.manifest import manifest
from siloquy.serve import demo
from siloquy.types import Progress


def run(config: LoadConfig, told: Progress) -> dict[str, Any]:
    """Measure the parts, write everything to ``config.out``, give back ``results.json``."""
    config = replace(config, parts=track.chosen(config.parts, TRACKS, "part"))
    output.check_new(config.out)
    questions = _questions(config)
    config.out.mkdir(parents=True, exist_ok=True)
    context = LoadContext(config, questions, told)
    with context.open:
        figures = track.measured(config.parts, TRACKS, context)
    corpus = config.corpus.name if config.corpus else "demo"
    results = {"corpus": corpus, "questions": len(questions), **figures}
    _write(context, results)
    return results


def _questions(config: LoadConfig) -> list[EvalQuestion]:
    if config.corpus is not None:
        return list(beir.load(config.corpus, config.split, None, config.seed).questions)
    lines = (demo.HOSPITALS / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [EvalQuestion(str(record["_id"]), str(record["text"])) for record in records]


def _write(context: LoadContext, results: dict[str, Any]) -> None:
    config = context.config
    data = beir.file_hashes(config.corpus, config.split) if config.corpus else {}
    output.write(config.out, manifest(output.options(config), data, config.seed), results)
    output.write_rows(config.out / "per_query.jsonl", context.measured.rows)
    output.write_rows(config.out / "runs.jsonl", context.measured.runs)
