"""``siloquy bench sealed``: what scoring encrypted questions costs and keeps, part by part."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from siloquy.errors import UsageError
from siloquy.eval import beir
from siloquy.eval.attacks import sealed as sealed_attacks
from siloquy.eval.manifest import manifest
from siloquy.eval.sealed import (
    embeddings as sealed_embeddings,
)
from siloquy.eval.sealed import (
    federation as sealed_federation,
)
from siloquy.eval.sealed import (
    plots as sealed_plots,
)
from siloquy.eval.sealed import (
    report as sealed_report,
)
from siloquy.eval.sealed import (
    scoring as sealed_scoring,
)
from siloquy.eval.sealed import (
    summary as sealed_summary,
)
from siloquy.eval.sealed.federation import Scope
from siloquy.eval.sealed.scoring import ScoringPoint
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.serve import demo
from siloquy.types import Progress

Part = Literal["scoring", "embeddings", "attacks", "federation"]
PARTS: tuple[Part, ...] = ("scoring", "embeddings", "attacks", "federation")
PACKAGES = ("tenseal", "zstandard")
RECALL_QUESTIONS = 100
MOST_ROWS = wire.MOST_BLOCKS * wire.BLOCK_ROWS


@dataclass(frozen=True, slots=True)
class SealedConfig:
    """One benchmark run.

    corpus    a BEIR folder whose field ``source`` names the silo; without: scoring alone
    parts     of those that need a corpus, only with one
    n, d      rows and dimensions; each n is measured with each d
    silos     sizes of the federations that are started, the largest sources first
    queries   most questions of scoring's recall (None: 100) and of a federation (None: all)
    """

    out: Path
    corpus: Path | None = None
    parts: tuple[Part, ...] = PARTS
    n: tuple[int, ...] = (1_000, 10_000, 100_000)
    d: tuple[int, ...] = (384, 768)
    silos: tuple[int, ...] = (1, 5, 18)
    queries: int | None = None
    split: str = "test"
    seed: int = 0
    cache: Path | None = None


def run(config: SealedConfig, told: Progress) -> dict[str, Any]:
    """Measure the parts, write everything to ``config.out``, give back ``results.json``."""
    sealed.check()
    check(config)
    load_before = [round(load, 2) for load in os.getloadavg()]
    config.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"corpus": config.corpus.name if config.corpus else None}
    if "scoring" in config.parts:
        results["scoring"] = _scoring(config, told)
    if config.corpus and "embeddings" in config.parts:
        results["embeddings"] = _embeddings(config, config.corpus, told)
    if config.corpus and "attacks" in config.parts:
        results["attacks"] = _attacks(config, config.corpus, told)
    if config.corpus and "federation" in config.parts:
        results["federation"] = _federation(config, config.corpus, told)
    _write(config, results, load_before)
    return results


def check(config: SealedConfig) -> None:
    """UsageError, with what to do, for what cannot be measured."""
    if config.out.exists() and any(config.out.iterdir()):
        raise UsageError(f"{config.out} is not empty", "name a new folder with --out")
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
        sealed_federation.check(config.corpus, config.silos)


def _scoring(config: SealedConfig, told: Progress) -> list[dict[str, Any]]:
    questions = config.queries or RECALL_QUESTIONS
    points = [ScoringPoint(n, d, questions, config.seed) for n in config.n for d in config.d]
    figures = sealed_scoring.run(points, told)
    _write_rows(config.out / "scoring.jsonl", figures)
    return sealed_summary.scoring(figures, config.seed)


def _embeddings(config: SealedConfig, corpus: Path, told: Progress) -> dict[str, Any]:
    cache = config.cache or demo.cache_file()
    recalled, opened = sealed_embeddings.run(corpus, cache, config.seed, told)
    _write_rows(config.out / "embeddings.jsonl", recalled)
    _write_rows(config.out / "opened.jsonl", opened)
    return sealed_summary.embeddings(recalled, opened, config.seed)


def _attacks(config: SealedConfig, corpus: Path, told: Progress) -> list[dict[str, Any]]:
    cache = config.cache or demo.cache_file()
    shelves = sealed_embeddings.read_shelves(corpus, cache, told)
    told("rebuilding vectors from scores")
    found = sealed_attacks.on_passages(np.concatenate(shelves.vectors), config.seed)
    lines = "".join(json.dumps(row) + "\n" for row in found)
    (config.out / "attacks.jsonl").write_text(lines, encoding="utf-8")
    return found


def _federation(config: SealedConfig, corpus: Path, told: Progress) -> list[dict[str, Any]]:
    scope = Scope(corpus, config.silos, config.split, config.queries, config.seed, config.cache)
    rows = sealed_federation.run(scope, told)
    _write_rows(config.out / "federation.jsonl", rows)
    return sealed_summary.federation(rows, config.seed)


# -- writing --------------------------------------------------------------------------------------


def _write(config: SealedConfig, results: dict[str, Any], load_before: list[float]) -> None:
    settings = {
        key: value.name if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }
    data = beir.file_hashes(config.corpus, config.split) if config.corpus else {}
    written = manifest(settings, data, config.seed, PACKAGES)
    written["load_average_before"] = load_before
    _write_json(config.out / "manifest.json", written)
    _write_json(config.out / "results.json", results)
    plots = sealed_plots.draw(results, config.out)
    (config.out / "report.md").write_text(sealed_report.markdown(results, written, plots))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _write_rows(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
