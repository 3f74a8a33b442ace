"""The questions that we wrote ourselves, and one index over the corpus that each is asked of.

Those on the demo hospitals name their gold documents. Those on public sets name a question of the
set, whose text and judgements are read from it: no data set is copied here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siloquy.eval import beir
from siloquy.eval.beir import EvalQuestion, Qrels
from siloquy.eval.central import run_central
from siloquy.serve import demo

K = 10
HERE = Path(__file__).resolve().parent
HOSPITALS = "hospitals"
SPLITS = {"medquad9": ("train", "test"), "mediqa_sites": ("test",)}


def present(corpora: Path | None) -> dict[str, Path]:
    """The public sets that lie in ``corpora``, by name."""
    if corpora is None:
        return {}
    return {name: corpora / name for name in SPLITS if (corpora / name).is_dir()}


def records(name: str) -> list[dict[str, Any]]:
    """The lines of one of our files."""
    lines = (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def judged(path: Path, splits: Iterable[str]) -> tuple[dict[str, str], Qrels]:
    """Texts and judgements of a public set's questions, by id."""
    texts: dict[str, str] = {}
    gold: Qrels = {}
    for split in splits:
        judged = beir.load(path, split, None, 0)
        texts |= {question.id: question.text for question in judged.questions}
        gold |= judged.qrels
    return texts, gold


@dataclass(frozen=True, slots=True)
class Index:
    """One index over a corpus, made anew for each batch of texts."""

    corpus: str
    path: Path
    folder: Path
    cache: Path

    def retrieve(self, texts: dict[str, str]) -> dict[str, list[str]]:
        """The ten best documents for each text, by its key."""
        place = self.folder / self.corpus
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        questions = [EvalQuestion(key, text) for key, text in texts.items()]
        source = _hospitals(place / "documents") if self.corpus == HOSPITALS else self.path
        return run_central(source, questions, place, self.cache, K).rankings


def _hospitals(place: Path) -> Path:
    """The demo hospitals' folders without the questions about them."""
    for source in demo.sources(None):
        shutil.copytree(source.path, place / source.path.name)
    return place
