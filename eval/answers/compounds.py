"""Whether a compound question finds more when it is asked in parts, ten documents in all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siloquy.eval import metrics
from siloquy.eval.answers.written import HOSPITALS, SPLITS, Index, K, judged, records
from siloquy.eval.metrics import Estimate
from siloquy.ports import Phrasing

MOST_JOINED = 50
_ONE = re.compile(r"(?:What|Who|How|Is|Are) [^.!?]{5,80}\?$")


@dataclass(frozen=True, slots=True)
class Compound:
    """Decomposition of one group: gold of each part in the first ten, asked whole and in parts.

    pieces                how many parts the questions have in all
    singles_taken_apart   questions that ask one thing and were taken apart all the same
    """

    group: str
    questions: int
    pieces: int
    whole: Estimate
    decomposed: Estimate
    difference: Estimate
    taken_apart: int
    singles: int
    singles_taken_apart: int


def compounds(
    found: dict[str, Path], folder: Path, cache: Path, asked: Phrasing, seed: int
) -> tuple[Compound, ...]:
    """The written compound questions by half, and two questions of each public set in one."""
    written = records("compound_questions")
    groups = [
        (half, HOSPITALS, [record for record in written if record["half"] == half])
        for half in ("dev", "test")
    ]
    groups += [
        (f"joined {corpus}", corpus, _in_one(path, SPLITS[corpus], seed))
        for corpus, path in found.items()
        if corpus != HOSPITALS
    ]
    return tuple(
        _compound(group, taken, Index(corpus, found[corpus], folder, cache), asked, seed)
        for group, corpus, taken in groups
    )


def _in_one(path: Path, splits: Iterable[str], seed: int) -> list[dict[str, Any]]:
    """Pairs of unlike questions of a public set, joined by "and"; at most fifty."""
    texts, gold = judged(path, splits)
    short = [key for key, text in texts.items() if _ONE.match(text)]
    drawn = np.random.default_rng(seed).permutation(len(short))[: 2 * MOST_JOINED]
    pairs = [(short[i], short[j]) for i, j in zip(drawn[::2], drawn[1::2], strict=False)]
    return [
        {
            "id": f"{a}+{b}",
            "question": f"{texts[a].rstrip(' ?')} and {texts[b][0].lower()}{texts[b][1:]}",
            "parts": [[key for key, value in gold[name].items() if value > 0] for name in (a, b)],
        }
        for a, b in pairs
    ]


def _compound(
    group: str, written: Sequence[dict[str, Any]], index: Index, asked: Phrasing, seed: int
) -> Compound:
    parts = {record["id"]: asyncio.run(asked.parts(record["question"])) for record in written}
    multi = [record for record in written if record["parts"]]
    singles = [record for record in written if not record["parts"]]
    texts = {f"{record['id']}/whole": record["question"] for record in multi}
    texts |= {f"{r['id']}/{i}": text for r in multi for i, text in enumerate(parts[r["id"]])}
    rankings = index.retrieve(texts)
    whole: list[float] = []
    decomposed: list[float] = []
    for record in multi:
        ten = dealt([rankings[f"{record['id']}/{i}"] for i in range(len(parts[record["id"]]))])
        whole += [_share(gold, rankings[f"{record['id']}/whole"]) for gold in record["parts"]]
        decomposed += [_share(gold, ten) for gold in record["parts"]]
    return Compound(
        group,
        len(multi),
        len(whole),
        metrics.estimate(whole, seed),
        metrics.estimate(decomposed, seed),
        metrics.estimate(np.subtract(decomposed, whole).tolist(), seed),
        sum(len(parts[record["id"]]) > 1 for record in multi),
        len(singles),
        sum(len(parts[record["id"]]) > 1 for record in singles),
    )


def dealt(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Ten documents in all, taken in turn from each ranking, none twice."""
    rounds = [document for rank in range(K) for r in rankings for document in r[rank : rank + 1]]
    return list(dict.fromkeys(rounds))[:K]


def _share(gold: Sequence[str], ten: Sequence[str]) -> float:
    return float(np.mean([document in ten for document in gold]))
