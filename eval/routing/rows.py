"""What a routing run writes beside its figures: enough to compute every one of them again.

``per_query.jsonl``   what every router said of every measured question, for ``normal``
``offers.jsonl``      every question's candidates and relevant documents, for recall
``tracks.jsonl``      the other tracks: a line a case, its lists in the order of ``questions``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from siloquy.eval.routing.routers import Trial
from siloquy.eval.scene import Floats, Scene


class RowWriter(Protocol):
    """Takes what one case of a track came to; arrays hold one value or row a question."""

    def __call__(self, track: str, **found: Any) -> None:
        """``questions``: rows of the scene's questions."""
        ...


def unnoted(track: str, **found: Any) -> None:
    """For whoever wants the figures alone."""


class Notes:
    """A ``RowWriter`` that keeps rows, with the questions' ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self.rows: list[dict[str, Any]] = []

    def __call__(self, track: str, **found: Any) -> None:
        """Keep one case."""
        row = {name: _plain(value) for name, value in found.items()}
        row["questions"] = [self._ids[i] for i in row["questions"]]
        self.rows.append({"track": track, **row})


def of_routers(
    trials: Sequence[Trial], scores: Mapping[str, Sequence[Floats]]
) -> list[dict[str, Any]]:
    """What every router said of every question, which silos held the ten best and the relevant."""
    return [
        {
            "router": name,
            "seed": trial.seed,
            "question": trial.scene.asked.ids[row],
            "scores": _plain(values[at]),
            "held": trial.scene.held[row].astype(int).tolist(),
            "relevant": sorted({int(trial.scene.of[d]) for d in trial.scene.asked.relevant[row]}),
        }
        for name, found in scores.items()
        for trial, values in zip(trials, found, strict=True)
        for at, row in enumerate(trial.test)
    ]


def of_offers(scene: Scene) -> Iterator[dict[str, Any]]:
    """What all silos together offer for each question, and the numbers of relevant documents."""
    for name, offer, relevant in zip(
        scene.asked.ids, scene.offers, scene.asked.relevant, strict=True
    ):
        yield {
            "question": name,
            "silos": offer.silos.tolist(),
            "documents": offer.documents.tolist(),
            "dense": _plain(offer.dense),
            "lexical": _plain(offer.lexical),
            "relevant": sorted(relevant),
        }


def _plain(value: Any) -> Any:
    """Arrays as lists, numbers to six digits."""
    if not isinstance(value, np.ndarray):
        return value.item() if isinstance(value, np.generic) else value
    if value.dtype.kind == "b":
        return value.astype(int).tolist()
    if value.dtype.kind != "f":
        return value.tolist()
    rounded = [float(f"{number:.6g}") for number in value.ravel().tolist()]
    return np.reshape(rounded, value.shape).tolist()
