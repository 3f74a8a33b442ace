"""Routers on two public sets of labels, without any corpus: which sources to send a question to.

``run_ragroute``: RAGRoute's labels of MIRAGE questions, by corpus that holds a top-32 passage;
40 % of each set for training, a tenth of it for validation; measures over all pairs of the rest.
``run_feb4rag``: grades of FeB4RAG's 13 engines that RAGRoute uses; 30 % training, 10 % validation.
Routers read a question's text and nothing else; ours has no profiles here. What needs no
validation part learns from it too; RAGRoute's MLP picks its checkpoint there, as in its code.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siloquy.eval.metrics import Estimate
from siloquy.router.learning import Lessons, learn
from siloquy.serve.demo import cache_file
from siloquy.settings import EncoderSettings
from siloquy.text.embed import embedder
from siloquy.text.words import clean, words
from siloquy.types import Vector

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Encode = Callable[[Sequence[str]], Vector]
Measure = Callable[[Floats, Floats, Floats], float]
BySeed = Mapping[int, Floats]

CORPORA = ("pubmed", "statpearls", "textbooks", "wikipedia")
ENGINES = tuple(
    "arguana climate-fever dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq scidocs scifact "
    "trec-covid webis-touche2020".split()
)
FEB4RAG_FILES = ("requests.jsonl", "BEIR-QRELS-RS.txt")
OURS = "ours"
NOT_BASELINES = (OURS, "oracle", "all")
RESAMPLES = 1000
_EPOCHS, _CYCLIC_EPOCHS, _BATCH = 150, 115, 128


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """n questions and what each of S sources is worth to them.

    vectors  (n, d)  unit length
    targets  (n, S)  in [0, 1]; above 0: relevant
    strata   (n,)    the split is made within each; no router reads it
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Vector
    targets: Floats
    strata: NDArray[np.str_]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a data set; no row stands twice."""

    train: Rows
    validation: Rows
    test: Rows

    @property
    def known(self) -> Rows:
        """Training and validation rows."""
        return np.concatenate([self.train, self.validation])


@dataclass(frozen=True, slots=True)
class RouterScores:
    """What one router said of one question: enough to recompute every figure."""

    seed: int
    question: str
    router: str
    scores: tuple[float, ...]
    targets: tuple[float, ...]
    relevant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A measure of a router: the mean over seeds, and the value at each."""

    router: str
    measure: str
    mean: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Ours minus the best baseline, resampling questions, in all seeds alike."""

    measure: str
    baseline: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Outcome:
    """A track's figures; ``sources`` is the order of scores and targets in ``scored``."""

    sources: tuple[str, ...]
    questions: int
    rows: tuple[MeasureRow, ...]
    differences: tuple[PairedDifference, ...]
    scored: tuple[RouterScores, ...]


Router = Callable[[LabelledSet, Split, int], Floats]


def run_ragroute(path: Path, seeds: Sequence[int], encode: Encode | None = None) -> Outcome:
    """RAGRoute's labels; ``path`` is ``mirage_public.jsonl.gz``. *all* asks all four."""
    data = ragroute(path, encode or _encoder())
    splits = {seed: split(data.strata, (0.36, 0.04), seed) for seed in seeds}
    routers = COMMON | {"tf-idf logistic": tfidf, "ragroute mlp": mlp, "all": everywhere}
    return compare(data, splits, scored(data, splits, routers), PAIR_MEASURES)


def run_feb4rag(folder: Path, seeds: Sequence[int], encode: Encode | None = None) -> Outcome:
    """FeB4RAG's engines; nDCG with gain 2^(grade / 100) - 1, under which the prior gives .74/.82.

    A question without a graded engine counts 0. Asking all ranks nothing, so it has no row. Ours
    and *vector ridge* learn from grades, the classifiers from grade > 0; these stand alone and
    times the mean grade.
    """
    data = feb4rag(folder, encode or _encoder())
    splits = {seed: split(data.strata, (0.3, 0.1), seed) for seed in seeds}
    learners = {"tf-idf logistic": tfidf, "ragroute mlp": mlp, "vector logistic": by_vector}
    scores = scored(data, splits, COMMON | learners | {"vector ridge": ridge})
    grades = scores["prior"]
    for name in learners:
        by_seed = scores[name]
        scores[f"{name} x grade"] = {seed: by_seed[seed] * grades[seed] for seed in splits}
    return compare(data, splits, scores, RANK_MEASURES)


# -- data -----------------------------------------------------------------------------------------


def ragroute(path: Path, encode: Encode) -> LabelledSet:
    """Questions without their options: what RAGRoute retrieves with."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    texts = tuple(_plain(record["question"]) for record in records)
    held = [[corpus in r["medrag_relevant_corpora"] for corpus in CORPORA] for r in records]
    strata = np.array([record["set"] for record in records])
    ids = tuple(record["_id"] for record in records)
    return LabelledSet(ids, texts, encode(texts), np.array(held, np.float64), strata, CORPORA)


def feb4rag(folder: Path, encode: Encode) -> LabelledSet:
    """Requests and the grade / 100 of each engine; 0 where there is none."""
    requests, qrels = FEB4RAG_FILES
    with (folder / requests).open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    texts = tuple(_plain(record["text"]) for record in records)
    ids = tuple(record["_id"] for record in records)
    judged = (folder / qrels).read_text(encoding="utf-8").split()
    grades = {(judged[i], judged[i + 2]): float(judged[i + 3]) for i in range(0, len(judged), 4)}
    targets = np.array([[grades.get((q, e), 0.0) / 100 for e in ENGINES] for q in ids])
    return LabelledSet(ids, texts, encode(texts), targets, np.full(len(ids), ""), ENGINES)


def file_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of the file, or of those in the folder, that a track reads."""
    files = [path] if path.is_file() else [path / name for name in FEB4RAG_FILES]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def split(strata: NDArray[np.str_], shares: tuple[float, float], seed: int) -> Split:
    """Rows of each stratum at random: shares for training and validation, the rest for the test."""
    generator = np.random.default_rng(seed)
    parts: list[list[Rows]] = []
    for stratum in np.unique(strata):
        rows = generator.permutation(np.flatnonzero(strata == stratum))
        ends = np.cumsum([round(share * len(rows)) for share in shares])
        parts.append(np.split(rows, ends))
    train, validation, test = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Split(train, validation, test)


def _plain(text: str) -> str:
    return " ".join(clean(text).split())


def _encoder() -> Encode:
    return embedder(EncoderSettings(cache=str(cache_file())), Path()).encode


# -- routers: (n test questions, S) scores each, comparable over pairs -----------------------------


def everywhere(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """The same score for every pair."""
    return np.zeros((len(parts.test), len(data.sources)))


def at_random(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """Uniform scores."""
    return np.random.default_rng(seed).random((len(parts.test), len(data.sources)))


def prior(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """The mean target of each source, whatever the question."""
    return np.tile(data.targets[parts.known].mean(axis=0), (len(parts.test), 1))


def oracle(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """The targets themselves."""
    return data.targets[parts.test]


def ours(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """``router/learning.py`` as in production, with no profiles to start from."""
    asked = [tuple(words(text)) for text in data.texts]
    known = tuple(asked[row] for row in parts.known)
    learned = learn(Lessons(data.vectors[parts.known], known, data.targets[parts.known]))
    return np.stack([learned.adjust(data.vectors[row], asked[row]) for row in parts.test])


def tfidf(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """Logistic regression a source on TF-IDF of words, their pairs and pieces of 3 to 5 letters."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    whole = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2)
    known, test = ([data.texts[row] for row in rows] for rows in (parts.known, parts.test))
    features = hstack([whole.fit_transform(known), pieces.fit_transform(known)]).tocsr()
    asked = hstack([whole.transform(test), pieces.transform(test)]).tocsr()
    return _logistic(features, data.targets[parts.known] > 0, asked, 1.0)


def by_vector(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """Logistic regression a source on the question's vector: what the encoder alone is worth."""
    held = data.targets[parts.known] > 0
    return _logistic(data.vectors[parts.known], held, data.vectors[parts.test], 3.0)


def ridge(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """Ridge regression of the targets on the question's vector, penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV  # type: ignore[import-untyped]

    model = RidgeCV(alphas=np.logspace(-2, 2, 9)).fit(
        data.vectors[parts.known], data.targets[parts.known]
    )
    return np.asarray(model.predict(data.vectors[parts.test]), dtype=np.float64)


def _logistic(
    features: Floats | Vector, held: NDArray[np.bool_], asked: Floats | Vector, c: float
) -> Floats:
    """(n, S) probabilities; the rate where training knows one answer only."""
    from sklearn.linear_model import LogisticRegression

    scores = np.tile(held.mean(axis=0), (asked.shape[0], 1))
    for source in np.flatnonzero(held.any(axis=0) & ~held.all(axis=0)):
        model = LogisticRegression(C=c, max_iter=500).fit(features, held[:, source])
        scores[:, source] = model.predict_proba(asked)[:, 1]
    return scores


# -- RAGRoute's router, from a description of its code ---------------------------------------------


def mlp(data: LabelledSet, parts: Split, seed: int) -> Floats:
    """RAGRoute's shared classifier on [question's vector, source's number]; probabilities.

    384+S-256-128-1, LayerNorm, ReLU, dropout .4; Adam 1e-3, decay 1e-5, batches of 128, 150 epochs,
    learning rate 1e-3..5e-3 in triangles until epoch 115, gradient norm at most 1, features to unit
    variance, positives weighted neg / pos where targets are grades, best validation F1 (grades) or
    accuracy kept. A source's centroid is constant, so its number says the same.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(seed)
        pairs = {name: _pairs(data, rows) for name, rows in _named(parts).items()}
        x, _ = pairs["train"]
        mean, spread = x.mean(dim=0), x.std(dim=0, correction=0).clamp_min(1e-6)
        scaled = {name: ((x - mean) / spread, y) for name, (x, y) in pairs.items()}
        graded = bool(((data.targets > 0) & (data.targets < 1)).any())
        model = _train(scaled["train"], scaled["validation"], graded, seed)
        with torch.no_grad():
            scores = torch.sigmoid(model(scaled["test"][0])).numpy().astype(np.float64)
    finally:
        torch.set_num_threads(threads)
    return np.asarray(scores.reshape(len(parts.test), -1))


def _named(parts: Split) -> dict[str, Rows]:
    return {"train": parts.train, "validation": parts.validation, "test": parts.test}


def _pairs(data: LabelledSet, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    silos = len(data.sources)
    numbers = np.tile(np.eye(silos), (len(rows), 1))
    features = np.hstack([np.repeat(data.vectors[rows], silos, axis=0), numbers])
    held = (data.targets[rows] > 0).ravel()
    return torch.tensor(features, dtype=torch.float32), torch.tensor(held, dtype=torch.float32)


def _network(width: int) -> torch.nn.Sequential:
    from torch import nn

    layers: list[nn.Module] = []
    for inside, outside in ((width, 256), (256, 128)):
        layers += [nn.Linear(inside, outside), nn.LayerNorm(outside), nn.ReLU(), nn.Dropout(0.4)]
    return nn.Sequential(*layers, nn.Linear(128, 1), nn.Flatten(0))


def _train(
    train: tuple[torch.Tensor, torch.Tensor],
    validation: tuple[torch.Tensor, torch.Tensor],
    graded: bool,
    seed: int,
) -> torch.nn.Sequential:
    """The network at its best epoch on the validation pairs."""
    import torch

    x, y = train
    model, order = _network(x.shape[1]), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    rates = torch.optim.lr_scheduler.CyclicLR(
        optimiser, 1e-3, 5e-3, step_size_up=10, mode="triangular2", cycle_momentum=False
    )
    weight = (len(y) - y.sum()) / y.sum().clamp_min(1) if graded else None
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=weight)
    best, kept = -1.0, deepcopy(model.state_dict())
    for epoch in range(_EPOCHS):
        model.train()
        for rows in torch.split(torch.randperm(len(x), generator=order), _BATCH):
            optimiser.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            if epoch < _CYCLIC_EPOCHS:
                rates.step()
        reached = _quality(model, validation, graded)
        if reached > best:
            best, kept = reached, deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model.eval()


def _quality(
    model: torch.nn.Sequential, pairs: tuple[torch.Tensor, torch.Tensor], graded: bool
) -> float:
    """F1 of yes and no where targets are grades, accuracy elsewhere."""
    import torch

    with torch.no_grad():
        said, held = model.eval()(pairs[0]) > 0, pairs[1] > 0
    if not graded:
        return float((said == held).float().mean())
    return float(2 * (said & held).sum() / (said.sum() + held.sum()).clamp_min(1))


COMMON: dict[str, Router] = {
    "random": at_random,
    "prior": prior,
    "vector logistic": by_vector,
    OURS: ours,
    "oracle": oracle,
}


# -- measures: of (n, S) scores and targets, with (n,) weights of the questions --------------------


def auc(scores: Floats, targets: Floats, weights: Floats) -> float:
    """Share of (relevant, not relevant) pairs of pairs in the right order; a tie counts half."""
    _, place = np.unique(scores, return_inverse=True)
    weight, held = np.repeat(weights, scores.shape[1]), (targets > 0).ravel()
    place = place.ravel()
    yes = np.bincount(place, weight * held)
    no = np.bincount(place, weight * ~held)
    below = np.cumsum(no) - no / 2
    return float((yes * below).sum() / (yes.sum() * no.sum()))


def asked(scores: Floats, weights: Floats, mean: float) -> NDArray[np.bool_]:
    """(n, S) the pairs of highest score, ``mean`` sources a question over all questions."""
    order = np.argsort(-scores, axis=None, kind="stable")
    total = np.cumsum(np.repeat(weights, scores.shape[1])[order])
    chosen = np.zeros(scores.size, dtype=np.bool_)
    chosen[order] = total <= mean * weights.sum() + 1e-9
    return chosen.reshape(scores.shape)


def recall(mean: float) -> Measure:
    """Share of relevant pairs that are asked at ``mean`` sources a question."""

    def measure(scores: Floats, targets: Floats, weights: Floats) -> float:
        relevant = weights[:, None] * (targets > 0)
        return float((relevant * asked(scores, weights, mean)).sum() / relevant.sum())

    return measure


def all_hit(mean: float) -> Measure:
    """Share of questions whose relevant sources are all asked at ``mean`` sources a question."""

    def measure(scores: Floats, targets: Floats, weights: Floats) -> float:
        whole = ((targets <= 0) | asked(scores, weights, mean)).all(axis=1)
        return float((weights * whole).sum() / weights.sum())

    return measure


def ndcg(k: int) -> Measure:
    """nDCG@k of the sources' order with gain 2^target - 1; 0 for a question without a target."""

    def measure(scores: Floats, targets: Floats, weights: Floats) -> float:
        got, best = _gained(scores, targets, k), _gained(targets, targets, k)
        values = np.divide(got, best, out=np.zeros_like(got), where=best > 0)
        return float((weights * values).sum() / weights.sum())

    return measure


def _gained(scores: Floats, targets: Floats, k: int) -> Floats:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    gains = np.exp2(np.take_along_axis(targets, order, axis=1)) - 1
    return np.asarray(gains @ (1 / np.log2(np.arange(2, 2 + order.shape[1]))))


PAIR_MEASURES: dict[str, Measure] = {
    "auc": auc,
    "recall@2.0": recall(2.0),
    "all-hit@3.0": all_hit(3.0),
}
RANK_MEASURES: dict[str, Measure] = {"ndcg@3": ndcg(3), "ndcg@10": ndcg(10)}
EVERYWHERE: dict[str, Measure] = {
    "auc": auc,
    "recall@4.0": recall(float(len(CORPORA))),
    "all-hit@4.0": all_hit(float(len(CORPORA))),
}


# -- figures --------------------------------------------------------------------------------------


def scored(
    data: LabelledSet, splits: Mapping[int, Split], routers: Mapping[str, Router]
) -> dict[str, BySeed]:
    """Each router's scores of the test questions, by seed."""
    return {
        name: {seed: router(data, parts, seed) for seed, parts in splits.items()}
        for name, router in routers.items()
    }


def compare(
    data: LabelledSet,
    splits: Mapping[int, Split],
    scores: Mapping[str, BySeed],
    measures: Mapping[str, Measure],
) -> Outcome:
    """Figures of each router, and ours against the best of the others."""
    rows = tuple(
        row
        for name, by_seed in scores.items()
        for row in _rows(name, by_seed, data, splits, EVERYWHERE if name == "all" else measures)
    )
    differences = tuple(
        _difference(scores, data, splits, measure, measures[measure], best_baseline(rows, measure))
        for measure in measures
    )
    kept = tuple(
        row
        for name, by_seed in scores.items()
        for seed, values in by_seed.items()
        for row in _kept(name, seed, values, data, splits[seed])
    )
    return Outcome(data.sources, len(data.ids), rows, differences, kept)


def _rows(
    router: str,
    scores: BySeed,
    data: LabelledSet,
    splits: Mapping[int, Split],
    measures: Mapping[str, Measure],
) -> list[MeasureRow]:
    rows = []
    for name, measure in measures.items():
        values = tuple(
            measure(scores[seed], data.targets[parts.test], np.ones(len(parts.test)))
            for seed, parts in splits.items()
        )
        rows.append(MeasureRow(router, name, float(np.mean(values)), values))
    return rows


def best_baseline(rows: Sequence[MeasureRow], measure: str) -> str:
    """The router of highest mean that is neither ours nor the oracle."""
    rivals = [row for row in rows if row.measure == measure and row.router not in NOT_BASELINES]
    return max(rivals, key=lambda row: row.mean).router


def _difference(
    scores: Mapping[str, BySeed],
    data: LabelledSet,
    splits: Mapping[int, Split],
    name: str,
    measure: Measure,
    baseline: str,
) -> PairedDifference:
    def ahead(weights: Floats) -> float:
        """Ours minus the baseline, mean over the seeds, with (n,) weights of all questions."""
        values = [
            measure(scores[OURS][seed], data.targets[parts.test], weights[parts.test])
            - measure(scores[baseline][seed], data.targets[parts.test], weights[parts.test])
            for seed, parts in splits.items()
        ]
        return float(np.mean(values))

    n, generator = len(data.ids), np.random.default_rng(0)
    draws = (np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(RESAMPLES))
    resampled = [ahead(draw.astype(np.float64)) for draw in draws]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return PairedDifference(name, baseline, Estimate(ahead(np.ones(n)), float(low), float(high)))


def _kept(
    router: str, seed: int, scores: Floats, data: LabelledSet, parts: Split
) -> list[RouterScores]:
    rows = []
    for row, values in zip(parts.test, scores, strict=True):
        targets = data.targets[row]
        relevant = tuple(np.array(data.sources)[targets > 0].tolist())
        said, meant = tuple(values.tolist()), tuple(targets.tolist())
        rows.append(RouterScores(seed, data.ids[row], router, said, meant, relevant))
    return rows
