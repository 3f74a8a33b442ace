"""Alarms on retrieved passages, for a person to read."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import pytest

from siloquy.eval.answers.alarms import alarms
from siloquy.eval.beir import EvalQuestion

DOCUMENTS = [
    ("a", "north", "Vancomycin", "The loading dose of vancomycin is 25 mg/kg by slow infusion."),
    ("b", "south", "Vancomycin", "Give a vancomycin loading dose of 30 mg/kg by slow infusion."),
    ("c", "south", "Burns", "Burns are cooled under running water for 20 minutes at once."),
]


@pytest.mark.slow
def test_what_two_silos_differ_in_is_found_for_the_question_that_retrieves_it(
    tmp_path: Path,
) -> None:
    corpus = tmp_path / "set"
    corpus.mkdir()
    with gzip.open(corpus / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        for name, silo, title, text in DOCUMENTS:
            record = {"_id": name, "title": title, "text": text, "source": silo, "metadata": {}}
            file.write(json.dumps(record) + "\n")
    questions = [
        EvalQuestion("q1", "What is the loading dose of vancomycin?"),
        EvalQuestion("q2", "How are burns cooled?"),
    ]
    cache = tmp_path / "cache.sqlite"
    found = alarms(corpus, questions, tmp_path, cache, date(2026, 1, 1))
    (alarm,) = found.alarms
    assert alarm.question == questions[0].text
    assert alarm.conflict.kind == "dose"
    assert {source.silo for source in alarm.sources} == {"north", "south"}
    assert (found.questions.hits, found.questions.n) == (1, 2)
