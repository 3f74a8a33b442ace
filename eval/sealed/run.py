"""``siloquy bench sealed``: what scoring encrypted questions costs and keeps, part by part."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from siloquy.errors import UsageError
from siloquy.eval import beir, output, track
from siloquy.eval.manifest import manifest
from siloquy.eval.sealed import federation, report
from siloquy.eval.sealed.context import SealedConfig, SealedContext
from siloquy.eval.sealed.tracks import TRACKS
from siloquy.sealed import scoring, wire
from siloquy.types import Progress

PACKAGES = ("tenseal", "zstandard")
MOST_ROWS = wire.MOST_BLOCKS * wire.BLOCK_ROWS


def run(config: SealedConfig, told: Progress) -> dict[str, Any]:
    """Measure the parts, write everything to ``config.out``, give back ``results.json``."""
    scoring.check()
    config = replace(config, parts=track.chosen(config.parts, TRACKS, "part"))
    check(config)
    load_before = [round(load, 2) for load in os.getloadavg()]
    config.out.mkdir(parents=True, exist_ok=True)
    corpus = config.corpus
    parts = [name for name in config.parts if corpus or name == "scoring"]
    figures = track.measured(parts, TRACKS, SealedContext(config, told))
    results = {"corpus": corpus.name if corpus else None, **figures}
    _write(config, results, load_before)
    return results


def check(config: SealedConfig) -> None:
    """UsageError, with what to do, for what cannot be measured."""
    output.check_new(config.out)
    limits = (("n", config.n, MOST_ROWS), ("d", config.d, wire.MOST_DIMENSION))
    for name, values, most in limits:
        wrong = [value for value in values if not 1 <= value <= most]
        if wrong or not values:
            given = wrong[0] if wrong else "nothing"
            raise UsageError(
                f"--{name} is {given}, must be 1 to {most:,}", "such as --n 1000,10000"
            )
    if not config.silos or min(config.silos) < 1:
        raise UsageError("--silos must be 1 or more", "such as --silos 1,5")
    if config.corpus is None and "scoring" not in config.parts:
        raise UsageError(f"{config.parts[0]} needs a corpus", "name a BEIR folder with --corpus")
    if config.corpus and "federation" in config.parts:
        federation.check(config.corpus, config.silos)


def _write(config: SealedConfig, results: dict[str, Any], load_before: list[float]) -> None:
    data = beir.file_hashes(config.corpus, config.split) if config.corpus else {}
    written = manifest(output.options(config), data, config.seed, PACKAGES)
    written["load_average_before"] = load_before
    output.write(config.out, written, results)
    report.write(results, written, config.out)
