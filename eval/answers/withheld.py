"""A corpus without the documents that answer some of its questions; the hospitals as a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from siloquy.eval import beir
from siloquy.eval.answers.gold import GOLD, GoldCase
from siloquy.serve import demo
from siloquy.silo_node.reading.document import Document
from siloquy.silo_node.reading.walk import read

Condition = Literal["kept", "withheld", "partly"]


@dataclass(frozen=True, slots=True)
class Deal:
    """Which documents are taken out, and what that does to each question.

    conditions   by question: all relevant documents are there, none is, or some are gone because
                 another question's had to go
    """

    documents: frozenset[str]
    conditions: dict[str, Condition]


def deal(cases: Sequence[GoldCase], seed: int) -> Deal:
    """Withhold the relevant documents of a random half of the questions."""
    order = np.random.default_rng(seed).permutation(len(cases))
    chosen = {cases[i].id for i in order[: len(cases) // 2]}
    gone = frozenset().union(*(case.relevant for case in cases if case.id in chosen))
    return Deal(gone, {case.id: _condition(case, case.id in chosen, gone) for case in cases})


def _condition(case: GoldCase, chosen: bool, gone: frozenset[str]) -> Condition:
    if chosen:
        return "withheld"
    return "partly" if case.relevant & gone else "kept"


def write_without(corpus: Path, gone: frozenset[str], folder: Path) -> Path:
    """``folder`` with the corpus but for the documents that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    records = (record for record in beir.records(corpus) if str(record["_id"]) not in gone)
    _write(folder / "corpus.jsonl", records)
    return folder


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def write_hospitals(folder: Path) -> Path:
    """``folder`` with the demo hospitals and their questions in BEIR layout, gold answers beside.

    A document's id is ``hospital/name``; questions that no document answers are left out.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write(folder / "corpus.jsonl", _hospital_records())
    lines = (demo.HOSPITALS / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [record for record in map(json.loads, lines) if record["documents"]]
    _write(folder / "queries.jsonl", ({"_id": q["_id"], "text": q["text"]} for q in asked))
    _write(folder / GOLD, ({**_gold(q), "_id": q["_id"]} for q in asked))
    rows = [f"{q['_id']}\t{document}\t1" for q in asked for document in q["documents"]]
    qrels = "\n".join(["query-id\tcorpus-id\tscore", *rows])
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    return folder


def _gold(question: dict[str, Any]) -> dict[str, Any]:
    return {"type": "hospitals", "exact_answer": None, "ideal_answer": question["answer"]}


def _hospital_records() -> Iterator[dict[str, Any]]:
    for source in demo.sources(None):
        for item in read(source.path):
            if isinstance(item, Document):
                yield {
                    "_id": f"{source.silo}/{item.id}",
                    "title": item.title,
                    "text": item.text,
                    "source": str(source.silo),
                }
