"""How well the citation check tells changed sentences from faithful ones, class by class."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np

from siloquy.eval import first_check
from siloquy.eval.edits import SWAPS, SwapKind, paraphrase
from siloquy.generator.cite import Fault, check_all
from siloquy.silo_node.documents import Document, read
from siloquy.text import sentence_spans, words
from siloquy.types import DocumentId, NodeId, Source

Writing = Literal["verbatim", "rule", "human"]
Split = Literal["train", "test"]
Change = SwapKind | Literal["", "words", "added"]

MOST_PER_CLASS = 80
MOST_UNTOUCHED = 400
MOST_SOURCES = 10
LEAST_HUMAN_WORDS = 0.6
"""A human sentence is taken as carried only if its sources hold this share of its words."""
_PASSAGE = 1200
_SHORTEST, _LONGEST = 40, 350
_CORPORA = ("mediqa_sites", "medquad9", "evidence_mix")


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence, the sources that it cites, and what was changed in it.

    swapped   the class of the change, 'words' for a sentence of another document, 'added' for
              one with a part of another's at its end, or empty
    """

    id: str
    corpus: str
    writing: Writing
    swapped: Change
    sentence: str
    sources: tuple[Source, ...]

    @property
    def split(self) -> Split:
        """By document, so that no passage stands on both sides."""
        return "test" if zlib.crc32(self.id.encode()) % 2 else "train"


@dataclass(frozen=True, slots=True)
class Row:
    """What the check, and the one that it replaces, said of a case; no text is kept."""

    id: str
    corpus: str
    writing: Writing
    swapped: Change
    split: Split
    fault: Fault
    support: float
    flagged: bool
    baseline: bool


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``n`` with the 95 % Wilson interval; 0 to 1 where n is 0."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; not a number where n is 0."""
        return self.hits / self.n if self.n else float("nan")


@dataclass(frozen=True, slots=True)
class Rate:
    """Flagged sentences of a class: detections, or false flags of the 'untouched'.

    swapped   a class of change, 'swapped' for those of a patient's safety together, 'untouched'
    """

    check: Literal["check", "baseline"]
    writing: Writing | Literal["all"]
    swapped: str
    flagged: Share


@dataclass(frozen=True, slots=True)
class Result:
    """Every case and the rates of the test split."""

    rows: tuple[Row, ...]
    summary: tuple[Rate, ...]


def run(hospitals: Path, data: Path | None, seed: int = 0) -> Result:
    """Check all cases; ``data`` is the folder of the data sets, None for the hospitals alone."""
    cases = build(hospitals, data, seed)
    rows = tuple(_row(case) for case in cases)
    return Result(rows, tuple(rates([row for row in rows if row.split == "test"])))


def _row(case: Case) -> Row:
    found = check_all(case.sentence, case.sources, [source.n for source in case.sources])
    return Row(
        case.id,
        case.corpus,
        case.writing,
        case.swapped,
        case.split,
        found.fault,
        found.support,
        not found.cited,
        first_check.flags(case.sentence, case.sources),
    )


# -- rates ----------------------------------------------------------------------------------------


def rates(rows: Sequence[Row]) -> Iterator[Rate]:
    """Detection by class and false flags, of all cases and by how they are written."""
    for writing in _WRITINGS:
        some = [row for row in rows if writing in ("all", row.writing)]
        for kind in ("untouched", "swapped", *SWAPS, "words", "added"):
            chosen = [row for row in some if _is(row, kind)]
            if chosen:
                yield Rate("check", writing, kind, share([row.flagged for row in chosen]))
                yield Rate("baseline", writing, kind, share([row.baseline for row in chosen]))


_WRITINGS: tuple[Writing | Literal["all"], ...] = ("all", "verbatim", "rule", "human")


def _is(row: Row, kind: str) -> bool:
    if kind == "untouched":
        return not row.swapped
    return row.swapped in SWAPS if kind == "swapped" else row.swapped == kind


def share(flags: Sequence[bool]) -> Share:
    """How many are true, with the interval of Wilson (1927).

    >>> found = share([True] * 9 + [False])
    >>> round(found.low, 3), round(found.high, 3)
    (0.596, 0.982)
    """
    hits, n = sum(flags), len(flags)
    if not n:
        return Share(0, 0, 0.0, 1.0)
    z, p = 1.96, hits / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Share(hits, n, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))


# -- cases ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stated:
    """A sentence that its sources carry."""

    id: str
    corpus: str
    writing: Writing
    sentence: str
    sources: tuple[Source, ...]


def build(hospitals: Path, data: Path | None, seed: int) -> list[Case]:
    """All cases: the same for the same seed and files."""
    rng = np.random.default_rng(seed)
    verbatim = list(_stated(_documents(hospitals, data, rng)))
    human = list(_human(data / "evidence_mix", rng)) if data else []
    return [*_of_writing(verbatim, rng), *_of_writing(human, rng)]


def _of_writing(stated: Sequence[_Stated], rng: np.random.Generator) -> Iterator[Case]:
    untouched = _spread(stated, rng, MOST_UNTOUCHED)
    yield from (_case(item, item.sentence, "") for item in untouched)
    if stated and stated[0].writing == "verbatim":
        yield from _reworded([_case(item, item.sentence, "") for item in _spread(stated, rng, 1200)], rng, 300)
    for kind in SWAPS:
        swapped = list(_swapped(stated, kind, rng))
        yield from swapped
        if stated and stated[0].writing == "verbatim":
            yield from _reworded(swapped, rng, MOST_PER_CLASS)
    yield from _foreign(untouched, rng)


def _spread(stated: Sequence[_Stated], rng: np.random.Generator, most: int) -> list[_Stated]:
    """At most ``most``, the demo's and each corpus' share alike."""
    corpora = sorted({item.corpus for item in stated})
    chosen: list[_Stated] = []
    for corpus in corpora:
        some = [item for item in stated if item.corpus == corpus]
        chosen += [some[int(i)] for i in rng.permutation(len(some))[: most // len(corpora)]]
    return chosen


def _case(item: _Stated, sentence: str, swapped: Change) -> Case:
    return Case(item.id, item.corpus, item.writing, swapped, sentence, item.sources)


def _swapped(
    stated: Sequence[_Stated], kind: SwapKind, rng: np.random.Generator
) -> Iterator[Case]:
    made = 0
    for i in rng.permutation(len(stated)):
        item = stated[int(i)]
        new = SWAPS[kind](item.sentence, " ".join(s.text for s in item.sources), rng)
        if new is not None and " ".join(new.split()) != item.sentence:
            yield _case(item, new, kind)
            made += 1
        if made == MOST_PER_CLASS:
            return


def _reworded(cases: Sequence[Case], rng: np.random.Generator, most: int) -> Iterator[Case]:
    made = 0
    for case in cases:
        new = paraphrase(case.sentence, rng)
        if new is not None and made < most:
            yield replace(case, sentence=new, writing="rule")
            made += 1


def _foreign(stated: Sequence[_Stated], rng: np.random.Generator) -> Iterator[Case]:
    """Sentences of another document, of fifty the one that shares most words; and its last part."""
    for item in stated[:MOST_PER_CLASS]:
        others = [stated[int(i)] for i in rng.integers(len(stated), size=50)]
        others = [other for other in others if other.id != item.id]
        said = frozenset(words(" ".join(source.text for source in item.sources)))
        near = max(others, key=lambda other: len(said & set(words(other.sentence))), default=None)
        if near is not None:
            yield _case(item, near.sentence, "words")
            yield _case(item, f"{item.sentence.rstrip('. ')}, and {_last_part(others)}.", "added")


def _last_part(others: Sequence[_Stated]) -> str:
    parts = re.split(r"[,;:()]|\band\b", others[0].sentence.rstrip(". "))
    return next((p.strip() for p in parts[::-1] if len(p.split()) >= 6), others[0].sentence)


# -- texts ----------------------------------------------------------------------------------------


def _documents(
    hospitals: Path, data: Path | None, rng: np.random.Generator
) -> Iterator[tuple[str, str, str, str]]:
    """Corpus, id, title and text of the demo's documents and of a sample of each data set's."""
    for folder in sorted(path for path in hospitals.iterdir() if path.is_dir()):
        for document in read(folder):
            if isinstance(document, Document):
                name = f"{folder.name}/{document.id}"
                yield "hospitals", name, document.title, document.text
    for corpus in _CORPORA if data else ():
        path = (data or hospitals) / corpus / "corpus.jsonl.gz"
        records = [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]
        for i in rng.permutation(len(records))[:2500]:
            record = records[int(i)]
            yield corpus, record["_id"], record["title"], record["text"][:6000]


def _stated(documents: Iterator[tuple[str, str, str, str]]) -> Iterator[_Stated]:
    for corpus, name, title, text in documents:
        spans = [(s, e) for s, e in sentence_spans(text) if _SHORTEST <= e - s <= _LONGEST]
        for start, end in spans[:: max(1, len(spans) // 8)]:
            passage = _passage(text, start, end)
            source = Source(1, NodeId(corpus), DocumentId(name), title, passage, 0, 0, 1.0)
            yield _Stated(f"{corpus}/{name}", corpus, "verbatim", text[start:end], (source,))


def _passage(text: str, start: int, end: int) -> str:
    """The sentences around a stretch, about as long as a passage that a silo releases."""
    room = (_PASSAGE - (end - start)) // 2
    near = [(s, e) for s, e in sentence_spans(text) if s >= start - room and e <= end + room]
    return text[min(s for s, _ in near) : max(e for _, e in near)]


def _human(corpus: Path, rng: np.random.Generator) -> Iterator[_Stated]:
    """Sentences of written answers under the documents that their authors answered from."""
    with gzip.open(corpus / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = {record["_id"]: record for record in map(json.loads, lines)}
    answers = (corpus / "gold_answers.jsonl").read_text(encoding="utf-8").split("\n")
    for record in map(json.loads, filter(None, answers)):
        if record["_id"].startswith("bioasq"):
            gold = [texts[name] for name in record["gold_docs"] if name in texts]
            yield from _answered(record, gold)


def _answered(record: dict[str, Any], gold: Sequence[dict[str, Any]]) -> Iterator[_Stated]:
    answer = str(record["ideal_answer"])
    for start, end in sentence_spans(answer):
        sentence = answer[start:end]
        said = frozenset(words(sentence))
        near = sorted(gold, key=lambda item: -len(said & set(words(item["text"]))))[:MOST_SOURCES]
        joined = " ".join(" ".join(item["text"].split()) for item in near)
        quoted = " ".join(sentence.split()) in joined
        held = len(said & set(words(joined))) / max(1, len(said))
        if quoted or held < LEAST_HUMAN_WORDS or not _SHORTEST <= len(sentence) <= _LONGEST:
            continue
        sources = tuple(
            Source(n, NodeId("pubmed"), DocumentId(i["_id"]), i["title"], i["text"], 0, 0, 1.0)
            for n, i in enumerate(near, start=1)
        )
        yield _Stated(f"bioasq/{record['_id']}", "bioasq", "human", sentence, sources)
