"""A federation of six silos with a topic of its own each, small enough for a test."""

from __future__ import annotations

import functools

import numpy as np

from siloquy.eval.scene import Offers, QuestionSet, Scene, SceneSilo
from siloquy.text import topics as topic_lists
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import NodeId, Term, Vector
from tests.silo_node.hospital import WordEmbedder
from tests.siloquy.federation import ENCODER

LEXICON = Lexicon(
    ("fever", "insulin", "sepsis"), {"fever": 0, "insulin": 1, "sepsis": 2}, (9, 8, 7)
)
SILOS, PASSAGES, QUESTIONS = 6, 60, 120


@functools.cache
def topics() -> Topics:
    """The public list, by a test's embedder."""
    return topic_lists.make(WordEmbedder())


def _near(axis: int, n: int, noise: float, generator: np.random.Generator) -> Vector:
    vectors = noise * generator.standard_normal((n, ENCODER.dimension)) / ENCODER.dimension**0.5
    vectors[:, axis] += 1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@functools.cache
def small_scene(questions: int = QUESTIONS) -> Scene:
    """Each silo holds passages near one axis, a fifth near the next; questions near an axis."""
    generator = np.random.default_rng(3)
    sites = tuple(_site(silo, generator) for silo in range(SILOS))
    aimed = generator.integers(0, SILOS, questions)
    vectors = np.concatenate([_near(axis, 1, 0.9, generator) for axis in aimed])
    offers = tuple(_offers(sites, vector) for vector in vectors)
    everyone = np.ones(SILOS, dtype=bool)
    held = [np.bincount(o.silos[o.best(everyone)], minlength=SILOS) for o in offers]
    words = tuple((f"axis{axis}", "fever") for axis in aimed)
    asked = QuestionSet(
        tuple(f"q{i}" for i in range(questions)),
        tuple(" ".join(pair) for pair in words),
        vectors,
        words,
        tuple((Term("fever", 2.0),) for _ in words),
        tuple(frozenset(o.documents[o.best(everyone, 2)].tolist()) for o in offers),
    )
    of = np.repeat(np.arange(SILOS), PASSAGES // 2)
    return Scene(
        ENCODER,
        topics(),
        LEXICON,
        sites,
        asked,
        offers,
        np.stack(held).astype(np.float64),
        of,
        questions,
    )


def _site(silo: int, generator: np.random.Generator) -> SceneSilo:
    near = PASSAGES - PASSAGES // 5
    vectors = np.concatenate(
        [
            _near(silo, near, 0.9, generator),
            _near((silo + 1) % SILOS, PASSAGES - near, 0.9, generator),
        ]
    )
    documents = silo * (PASSAGES // 2) + np.arange(PASSAGES) // 2
    counts = np.array([PASSAGES if silo == 0 else 1, 5, 0], dtype=np.int64)
    return SceneSilo(NodeId(f"silo-{silo}"), vectors, documents, counts, 800.0)


def _offers(sites: tuple[SceneSilo, ...], vector: Vector) -> Offers:
    dense = [(site.vectors @ vector).astype(np.float64) for site in sites]
    return Offers(
        np.repeat(np.arange(len(sites)), [len(part) for part in dense]),
        np.concatenate(dense),
        np.zeros(sum(len(part) for part in dense)),
        np.concatenate([site.documents for site in sites]),
    )
