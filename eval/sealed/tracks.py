"""The parts of ``siloquy bench sealed``; all but scoring need a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from siloquy.eval import output
from siloquy.eval.attacks import sealed as attack
from siloquy.eval.sealed import embeddings as real
from siloquy.eval.sealed import federation as running
from siloquy.eval.sealed import scoring as synthetic
from siloquy.eval.sealed import summary
from siloquy.eval.sealed.context import SealedContext
from siloquy.eval.sealed.federation import Scope
from siloquy.eval.sealed.scoring import ScoringPoint
from siloquy.eval.track import Track

RECALL_QUESTIONS = 100


def scoring(context: SealedContext) -> dict[str, Any]:
    """Each number of rows with each dimension."""
    config = context.config
    questions = config.queries or RECALL_QUESTIONS
    points = [ScoringPoint(n, d, questions, config.seed) for n in config.n for d in config.d]
    figures = synthetic.run(points, context.told)
    output.write_records(config.out / "scoring.jsonl", figures)
    return {"scoring": summary.scoring(figures, config.seed)}


def embeddings(context: SealedContext) -> dict[str, Any]:
    """All questions by their integers, a sample of them encrypted."""
    config = context.config
    recalled, opened = real.run(context.corpus, context.cache, config.seed, context.told)
    output.write_records(config.out / "embeddings.jsonl", recalled)
    output.write_records(config.out / "opened.jsonl", opened)
    return {"embeddings": summary.embeddings(recalled, opened, config.seed)}


def attacks(context: SealedContext) -> dict[str, Any]:
    """On the passages of all silos together."""
    shelves = real.read_shelves(context.corpus, context.cache, context.told)
    context.told("rebuilding vectors from scores")
    found = attack.on_passages(np.concatenate(shelves.vectors), context.config.seed)
    output.write_rows(context.config.out / "attacks.jsonl", found)
    return {"attacks": found}


def federation(context: SealedContext) -> dict[str, Any]:
    """Each size of federation, sealed and open."""
    config = context.config
    scope = Scope(
        context.corpus, config.silos, config.split, config.queries, config.seed, config.cache
    )
    rows = running.run(scope, context.told)
    output.write_records(config.out / "federation.jsonl", rows)
    return {"federation": summary.federation(rows, config.seed)}


TRACKS: Mapping[str, Track[SealedContext]] = {
    "scoring": Track("time, memory and bytes of one score, beside FAISS and TenSEAL", scoring),
    "embeddings": Track("what integers keep of the ten best of a real corpus", embeddings),
    "attacks": Track("how well vectors are rebuilt from the scores that parties see", attacks),
    "federation": Track("quality and time of sealed questions to running silos", federation),
}
