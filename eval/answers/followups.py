"""Whether a rewritten follow-up finds what its standalone form finds.

The conversations and compound questions are our own (``followups.jsonl`` and
``compound_questions.jsonl`` beside this file). Those on the demo hospitals name their gold
documents; those on public sets name a question of the set, and its judgements are the gold.
Everything is retrieved from one index over each corpus. Reports hold ids and figures, no text.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siloquy.errors import SettingsError
from siloquy.eval import metrics, output
from siloquy.eval.answers.compounds import Compound, compounds
from siloquy.eval.answers.written import HOSPITALS, SPLITS, Index, judged, present, records
from siloquy.eval.beir import Qrels
from siloquy.eval.metrics import Estimate
from siloquy.generator.understanding.phrasing import RulePhrasing
from siloquy.ports import Phrasing
from siloquy.serve import demo
from siloquy.types import Turn

FORMS = ("standalone", "rewritten", "concatenated", "bare")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One conversation and its last question; ``standalone`` is what a person would have typed."""

    id: str
    half: str
    kind: str
    corpus: str
    turns: tuple[Turn, ...]
    follow_up: str
    standalone: str
    gold: dict[str, int]


@dataclass(frozen=True, slots=True)
class FollowUpRow:
    """One follow-up's recall@10 and nDCG@10 by form, and whether it was rewritten."""

    id: str
    half: str
    kind: str
    corpus: str
    recall: dict[str, float]
    ndcg: dict[str, float]
    rewritten: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """Recall@10 over one group, each form with its interval.

    of_standalone   recall of the rewritten over that of the standalone form
    difference      rewritten minus standalone, paired
    switches        complete new questions in the group, and how many of them were rewritten
    """

    group: str
    questions: int
    recall: dict[str, Estimate]
    ndcg: dict[str, Estimate]
    of_standalone: float
    difference: Estimate
    over_concatenated: Estimate
    switches: int
    switches_rewritten: int


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Complete questions of a corpus asked after an unrelated one: how many were changed."""

    corpus: str
    questions: int
    rewritten: int


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run; ``absent`` names the corpora that were not there."""

    rows: tuple[FollowUpRow, ...]
    summary: tuple[Summary, ...]
    compound: tuple[Compound, ...]
    left_alone: tuple[LeftAlone, ...]
    absent: tuple[str, ...]


def run(
    corpora: Path | None,
    out: Path | None,
    seed: int = 0,
    *,
    cache: Path | None = None,
    phrasing: Phrasing | None = None,
) -> Report:
    """Retrieve every form of every follow-up and compound question.

    corpora   folder that holds the public sets as BEIR folders; without it the hospitals alone
    out       folder for ``followups.json`` and ``followups.jsonl``
    """
    cache = cache or demo.cache_file()
    asked = phrasing or RulePhrasing()
    found = {HOSPITALS: demo.HOSPITALS} | present(corpora)
    rows: list[FollowUpRow] = []
    with tempfile.TemporaryDirectory(prefix="siloquy-followups-") as name:
        for corpus, path in found.items():
            rows += _measure(Index(corpus, path, Path(name), cache), asked)
        compound = compounds(found, Path(name), cache, asked, seed)
    left_alone = tuple(_left_alone(corpus, path, asked, seed) for corpus, path in found.items())
    absent = tuple(corpus for corpus in SPLITS if corpus not in found)
    report = Report(tuple(rows), _summaries(rows, seed), compound, left_alone, absent)
    if out is not None:
        _write(report, out)
    return report


# -- what is asked --------------------------------------------------------------------------------


def load(corpus: str, path: Path) -> list[FollowUp]:
    """The written follow-ups over one corpus; a public set gives texts and gold by question id."""
    texts, gold = ({}, {}) if corpus == HOSPITALS else judged(path, SPLITS[corpus])
    written = [record for record in records("followups") if record["corpus"] == corpus]
    return [_follow_up(record, texts, gold) for record in written]


def _follow_up(record: dict[str, Any], texts: dict[str, str], gold: Qrels) -> FollowUp:
    try:
        turns = tuple(
            Turn(
                texts[turn["query"]] if "query" in turn else turn["question"],
                turn.get("answer", ""),
            )
            for turn in record["turns"]
        )
        query = record.get("query", "")
        relevant = gold[query] if query else dict.fromkeys(record["documents"], 1)
        standalone = record.get("standalone") or texts[query]
    except KeyError as error:
        raise SettingsError(f"{record['corpus']} has no question {error}") from None
    return FollowUp(
        record["id"],
        record["half"],
        record["kind"],
        record["corpus"],
        turns,
        record["follow_up"],
        standalone,
        relevant,
    )


async def _forms(asked: Phrasing, item: FollowUp) -> dict[str, str]:
    """Each form's text; earlier turns are understood in the same way, as in a conversation."""
    understood: list[Turn] = []
    for turn in item.turns:
        question = await asked.standalone(tuple(understood), turn.question)
        understood.append(Turn(question, turn.answer))
    return {
        "standalone": item.standalone,
        "rewritten": await asked.standalone(tuple(understood), item.follow_up),
        "concatenated": " ".join([*(turn.question for turn in item.turns), item.follow_up]),
        "bare": item.follow_up,
    }


# -- retrieval ------------------------------------------------------------------------------------


def _measure(index: Index, asked: Phrasing) -> list[FollowUpRow]:
    items = load(index.corpus, index.path)
    forms = {item.id: asyncio.run(_forms(asked, item)) for item in items}
    texts = {f"{key}/{form}": text for key, made in forms.items() for form, text in made.items()}
    rankings = index.retrieve(texts)
    gold = {f"{item.id}/{form}": item.gold for item in items for form in FORMS}
    values = metrics.per_query(gold, rankings)
    return [
        FollowUpRow(
            item.id,
            item.half,
            item.kind,
            item.corpus,
            {form: values[f"{item.id}/{form}"]["recall@10"] for form in FORMS},
            {form: values[f"{item.id}/{form}"]["ndcg@10"] for form in FORMS},
            forms[item.id]["rewritten"] != " ".join(item.follow_up.split()),
        )
        for item in items
    ]


# -- report ---------------------------------------------------------------------------------------


def _left_alone(corpus: str, path: Path, asked: Phrasing, seed: int) -> LeftAlone:
    """Each question of a corpus after another one drawn by chance; both are complete."""
    name = "questions.jsonl" if corpus == HOSPITALS else "queries.jsonl"
    lines = (path / name).read_text(encoding="utf-8").splitlines()
    texts = [" ".join(str(json.loads(line)["text"]).split()) for line in lines]
    before = np.random.default_rng(seed).permutation(len(texts))

    async def changed() -> int:
        pairs = [(Turn(texts[i], ""), text) for i, text in zip(before, texts, strict=True)]
        return sum([await asked.standalone((turn,), text) != text for turn, text in pairs])

    return LeftAlone(corpus, len(texts), asyncio.run(changed()))


def _summaries(rows: Sequence[FollowUpRow], seed: int) -> tuple[Summary, ...]:
    groups = {half: [row for row in rows if row.half == half] for half in ("dev", "test")}
    groups |= {
        f"test {kind}": [r for r in groups["test"] if r.kind == kind] for kind in _kinds(rows)
    }
    groups |= {
        f"test {corpus}": [r for r in groups["test"] if r.corpus == corpus]
        for corpus in dict.fromkeys(row.corpus for row in rows)
    }
    return tuple(_summary(name, group, seed) for name, group in groups.items() if group)


def _kinds(rows: Sequence[FollowUpRow]) -> list[str]:
    return sorted({row.kind for row in rows})


def _summary(name: str, rows: Sequence[FollowUpRow], seed: int) -> Summary:
    recall = {form: [row.recall[form] for row in rows] for form in FORMS}
    against = {
        form: [row.recall["rewritten"] - row.recall[form] for row in rows]
        for form in ("standalone", "concatenated")
    }
    switches = [row for row in rows if row.kind == "switch"]
    reference = sum(recall["standalone"])
    return Summary(
        name,
        len(rows),
        {form: metrics.estimate(values, seed) for form, values in recall.items()},
        {form: metrics.estimate([row.ndcg[form] for row in rows], seed) for form in FORMS},
        round(sum(recall["rewritten"]) / reference, 4) if reference else 1.0,
        metrics.estimate(against["standalone"], seed),
        metrics.estimate(against["concatenated"], seed),
        len(switches),
        sum(row.rewritten for row in switches),
    )


def _write(report: Report, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    whole = asdict(report)
    rows = whole.pop("rows")
    output.write_json(out / "followups.json", whole)
    output.write_rows(out / "followups.jsonl", rows)
