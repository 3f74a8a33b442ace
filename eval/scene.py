"""A corpus as a federation in this process, and what every silo would offer to every question.

The silos' own stores, searchers and sketches; no processes, and the hub's merge over arrays, so
that hundreds of choices of silos can be compared on thousands of questions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.eval import beir
from siloquy.ports import Embedder
from siloquy.router.terms import TermWeights
from siloquy.serve.demo import sources
from siloquy.settings import EncoderSettings, IndexSettings, ProfileSettings
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.profiler import LIFETIME_MS, fitting
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.sketch import noised_sketch, sketch
from siloquy.silo_node.store import Store
from siloquy.text import lexicon as lexicons
from siloquy.text import ranking
from siloquy.text import topics as topic_lists
from siloquy.text.embed import embedder, model_folder
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.text.words import clean, terms, words
from siloquy.types import EncoderSpec, NodeId, Profile, Progress, SearchRequest, Term, Vector

K = 10
DEPTH = 50
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SceneSilo:
    """A silo's content: (n, d) vectors, (n,) documents as numbers, (words,) counts."""

    silo: NodeId
    vectors: Vector
    documents: NDArray[np.int64]
    counts: NDArray[np.int64]
    passage_bytes: float


@dataclass(frozen=True, slots=True, eq=False)
class Offers:
    """What all silos together offer for one question: m candidates.

    silos (m,) rows of the silos; dense (m,); lexical (m,); documents (m,) numbers in ``Scene``
    """

    silos: NDArray[np.int64]
    dense: Floats
    lexical: Floats
    documents: NDArray[np.int64]

    def best(self, asked: NDArray[np.bool_], k: int = K) -> NDArray[np.int64]:
        """Rows of the ``k`` best among the ``asked`` silos (S,), as the hub merges them."""
        rows = np.flatnonzero(asked[self.silos])
        return rows[np.argsort(-self.scores(rows), kind="stable")[:k]]

    def best_documents(self, asked: NDArray[np.bool_], k: int = K) -> NDArray[np.int64]:
        """Documents of the ``k`` best, each by its best passage."""
        rows = np.flatnonzero(asked[self.silos])
        order = rows[np.argsort(-self.scores(rows), kind="stable")]
        _, first = np.unique(self.documents[order], return_index=True)
        return np.asarray(self.documents[order][np.sort(first)[:k]])

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        """What the hub's merge ranks these candidates by, were there no others."""
        return ranking.hybrid_scores(self.dense[rows], self.lexical[rows])


@dataclass(frozen=True, slots=True, eq=False)
class QuestionSet:
    """Questions with their vectors (n, d), words and weighed terms, and what is relevant."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Vector
    words: tuple[tuple[str, ...], ...]
    terms: tuple[tuple[Term, ...], ...]
    relevant: tuple[frozenset[int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A federation and the questions put to it.

    held      (n, S) how many of the ten best passages of all silos lie at each
    of        (documents,) row of the silo that holds each document
    judged    how many questions, the first, are the corpus' own; the rest is other traffic
    """

    spec: EncoderSpec
    topics: Topics
    lexicon: Lexicon
    sites: tuple[SceneSilo, ...]
    asked: QuestionSet
    offers: tuple[Offers, ...]
    held: Floats
    of: NDArray[np.int64]
    judged: int

    @property
    def silos(self) -> tuple[NodeId, ...]:
        """Names in the order of rows."""
        return tuple(site.silo for site in self.sites)

    @property
    def sizes(self) -> Floats:
        """(S,) passages."""
        return np.array([len(site.vectors) for site in self.sites], dtype=np.float64)

    @property
    def shares(self) -> Floats:
        """(n, S) ``held`` as shares of what was found."""
        return np.asarray(self.held / np.maximum(self.held.sum(axis=1, keepdims=True), 1))

    def profiles(
        self, epsilon: float, rows: Sequence[NDArray[np.int64]] | None = None
    ) -> list[Profile]:
        """A profile of each silo, as its own settings would make it; noise from the system.

        rows   which passages of each silo it is made of; None for all
        """
        some = rows or [np.arange(len(site.vectors)) for site in self.sites]
        return [
            self._profile(site, part, epsilon) for site, part in zip(self.sites, some, strict=True)
        ]

    def _profile(self, site: SceneSilo, rows: NDArray[np.int64], epsilon: float) -> Profile:
        usual = ProfileSettings()
        vectors, groups, least = site.vectors[rows], site.documents[rows], usual.least_passages
        if epsilon == inf:
            content = sketch(vectors, groups, self.topics, least)
        else:
            content = noised_sketch(
                vectors, groups, self.topics, least, epsilon, usual.delta, os.urandom
            )
        told = content.topics and epsilon == inf
        share = len(rows) / max(len(site.vectors), 1)
        return fitting(
            Profile(
                silo=site.silo,
                version=1,
                created=0,
                expires=LIFETIME_MS,
                encoder=self.spec,
                anchors=self.topics.anchors,
                epsilon=None if epsilon == inf else epsilon,
                delta=0.0 if epsilon == inf else usual.delta,
                unit=usual.unit,
                frequencies=lexicons.pack(np.rint(share * site.counts).astype(np.int64))
                if told
                else b"",
                **{field.name: getattr(content, field.name) for field in fields(content)},
            )
        )


def build(
    corpus: Path,
    folder: Path,
    cache: Path,
    told: Progress,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    traffic: Path | None = None,
) -> Scene:
    """The corpus' silos and its questions, those of ``traffic`` after them."""
    settings = EncoderSettings(cache=str(cache))
    encoder = embedder(settings, folder)
    tokens = load_tokens(model_folder(settings) / "tokenizer.json")
    lexicon = lexicons.load(model_folder(settings))
    sites, stores, numbers = list[SceneSilo](), list[Store](), dict[str, int]()
    for source in sources(corpus):
        told(f"ingesting {source.silo}")
        store = Store(folder / f"{source.silo}.sqlite")
        ingest(store, read(source.path, source.only), encoder, tokens, IndexSettings().chunk_tokens)
        stores.append(store)
        sites.append(_site(source.silo, store, lexicon, numbers))
    counts = np.sum([site.counts for site in sites], axis=0).astype(np.float64)
    total = sum(len(site.vectors) for site in sites)
    weights = TermWeights.counted(counts, total, lexicon)
    told("encoding questions")
    asked, judged = _asked(corpus, split, limit, seed, traffic, encoder, weights, numbers)
    searchers = [Searcher(store, encoder.spec.dimension) for store in stores]
    offers = []
    for i in range(len(asked.ids)):
        if i % 50 == 0:
            told(f"asking all silos: {i} of {len(asked.ids)} questions")
        offers.append(_offers(searchers, asked, i, numbers))
    of = np.zeros(len(numbers), dtype=np.int64)
    for row, site in enumerate(sites):
        of[site.documents] = row
    everyone = np.ones(len(sites), dtype=bool)
    held = np.stack(
        [np.bincount(o.silos[o.best(everyone)], minlength=len(sites)) for o in offers]
    ).astype(np.float64)
    for store in stores:
        store.close()
    topics = topic_lists.make(encoder)
    return Scene(
        encoder.spec, topics, lexicon, tuple(sites), asked, tuple(offers), held, of, judged
    )


def _site(silo: NodeId, store: Store, lexicon: Lexicon, numbers: dict[str, int]) -> SceneSilo:
    """A store's content; documents get the next free ``numbers``."""
    found, vectors, documents = store.found(store.numbers())
    for document in documents:
        numbers.setdefault(_known(document), len(numbers))
    texts = [store.passage(int(number)) for number in found[:200]]
    sizes = [len(item.text.encode()) for item in texts if item is not None]
    return SceneSilo(
        silo,
        vectors,
        np.array([numbers[_known(document)] for document in documents], dtype=np.int64),
        store.frequencies(lexicon),
        float(np.mean(sizes)) if sizes else 0.0,
    )


def _known(document: str) -> str:
    """A document's id as the corpus names it."""
    return document.partition("#")[2] or document


def _asked(
    corpus: Path,
    split: str,
    limit: int | None,
    seed: int,
    traffic: Path | None,
    encoder: Embedder,
    weights: TermWeights,
    numbers: dict[str, int],
) -> tuple[QuestionSet, int]:
    judged = beir.load(corpus, split, limit, seed)
    own = [(question.id, question.text) for question in judged.questions]
    more = beir.questions(traffic) if traffic else []
    every = own + [(f"traffic:{question.id}", question.text) for question in more]
    texts = tuple(" ".join(clean(text).split()) for _, text in every)
    relevant = [
        frozenset(
            numbers[document]
            for document, grade in judged.qrels.get(name, {}).items()
            if grade > 0 and document in numbers
        )
        for name, _ in every
    ]
    vectors = encoder.encode(texts)
    asked = QuestionSet(
        tuple(name for name, _ in every),
        texts,
        vectors,
        tuple(tuple(words(text)) for text in texts),
        tuple(weights.weigh(terms(text)) for text in texts),
        tuple(relevant),
    )
    return asked, len(own)


def _offers(
    searchers: Sequence[Searcher], asked: QuestionSet, i: int, numbers: dict[str, int]
) -> Offers:
    request = SearchRequest(
        vector=asked.vectors[i],
        terms=asked.terms[i],
        k=K,
        # What may win counted in documents holds what may win counted in passages.
        unit="document",
        depth=DEPTH,
        purpose="benchmark",
        requester="benchmark",
    )
    found = [(row, item) for row, s in enumerate(searchers) for item in s.search(request)]
    return Offers(
        np.array([row for row, _ in found], dtype=np.int64),
        np.array([item.dense for _, item in found]),
        np.array([item.lexical for _, item in found]),
        np.array([numbers[_known(item.document)] for _, item in found], dtype=np.int64),
    )
