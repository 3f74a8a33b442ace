"""A BEIR folder: queries and relevance judgements."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from siloquy.errors import SettingsError

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """One judged question; labels in the data set's metadata are never read."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class JudgedQuestions:
    """The questions of a run and what is relevant to them."""

    questions: tuple[EvalQuestion, ...]
    qrels: Qrels


def load(corpus: Path, split: str, limit: int | None, seed: int) -> JudgedQuestions:
    """Questions that have a relevant document in ``qrels/<split>.tsv``, at most ``limit``."""
    qrels = _qrels(corpus / "qrels" / f"{split}.tsv")
    relevant = {query for query, found in qrels.items() if any(s > 0 for s in found.values())}
    questions = [q for q in _questions(corpus / "queries.jsonl") if q.id in relevant]
    if not questions:
        raise SettingsError(f"{corpus} has no question with a relevant document in {split}")
    chosen = _sample(questions, limit, seed)
    return JudgedQuestions(tuple(chosen), {q.id: qrels[q.id] for q in chosen})


def _sample(questions: Sequence[EvalQuestion], limit: int | None, seed: int) -> list[EvalQuestion]:
    if limit is None or limit >= len(questions):
        return list(questions)
    rows = np.random.default_rng(seed).choice(len(questions), limit, replace=False)
    return [questions[i] for i in sorted(rows)]


def _questions(path: Path) -> list[EvalQuestion]:
    with _open(path) as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    return [EvalQuestion(str(record["_id"]), str(record["text"])) for record in records]


def questions(corpus: Path) -> list[EvalQuestion]:
    """Every question of the corpus, judged or not."""
    return _questions(corpus / "queries.jsonl")


def records(corpus: Path) -> Iterator[dict[str, Any]]:
    """Every document of the corpus as it is written."""
    packed = corpus / "corpus.jsonl.gz"
    with (
        gzip.open(packed, "rt", encoding="utf-8")
        if packed.exists()
        else _open(corpus / "corpus.jsonl") as lines
    ):
        yield from (json.loads(line) for line in lines if line.strip())


def _qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    with _open(path) as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            judged = qrels.setdefault(row["query-id"], {})
            judged[row["corpus-id"]] = int(row["score"])
    return qrels


def _open(path: Path) -> TextIO:
    if not path.exists():
        raise SettingsError(f"{path} is missing", "give a folder in BEIR layout")
    return path.open(encoding="utf-8")


def file_hashes(corpus: Path, split: str) -> dict[str, str]:
    """SHA-256 of each file that a run reads."""
    names = ["corpus.jsonl", "corpus.jsonl.gz", "queries.jsonl", f"qrels/{split}.tsv"]
    return {
        name: hashlib.sha256((corpus / name).read_bytes()).hexdigest()
        for name in names
        if (corpus / name).exists()
    }
