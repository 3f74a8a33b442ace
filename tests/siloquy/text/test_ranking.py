"""The score and BM25: stated once, followed by everybody who ranks."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.aggregator.merge import merge
from siloquy.eval.scene import Offers
from siloquy.eval.shelf import Shelf
from siloquy.gateway.reranking import rerank
from siloquy.silo_node.search import contenders
from siloquy.text import ranking
from siloquy.text.ranking import bm25_of_word, hybrid_scores, indexed, most_bm25, surely_ahead
from siloquy.types import (
    DocumentId,
    DocumentTag,
    Handle,
    Hit,
    NodeId,
    Passage,
    PassageId,
    QueryId,
    SearchReply,
    Term,
)
from tests.product import sources
from tests.silo_node.hospital import WordEmbedder, document, fill, open_store

# -- one formula ----------------------------------------------------------------------------------

# Near the question by its cosine, and by its words: whoever ranks puts one of them first.
DENSE = np.array([0.5, 0.4], dtype=np.float32)
LEXICAL = np.array([0.0, 1.0], dtype=np.float32)


def by_merge(tmp_path: Path) -> int:
    hits = [
        Hit(Handle(bytes([i]) * 16), DocumentTag(bytes(8)), float(DENSE[i]), float(LEXICAL[i]))
        for i in range(2)
    ]
    return merge([SearchReply(QueryId(b""), NodeId("north"), tuple(hits))], 1, "passage")[0].handle[
        0
    ]


def by_rerank(tmp_path: Path) -> int:
    passages = [
        Passage(
            handle=Handle(bytes([i]) * 16),
            silo=NodeId("north"),
            id=PassageId(str(i)),
            document=DocumentId(str(i)),
            title="",
            text=text,
            start=0,
            end=len(text),
            dense=None,
            lexical=None,
        )
        for i, text in enumerate(["bed rest at home", "oxygen at home today"])
    ]
    return rerank(passages, DENSE, [Term("oxygen", 1.0)])[0]


def by_offers(tmp_path: Path) -> int:
    offers = Offers(np.array([0, 0]), DENSE.astype(float), LEXICAL.astype(float), np.arange(2))
    return int(offers.best(np.array([True]), 1)[0])


def by_shelf(tmp_path: Path) -> int:
    """A real store in which one document is the question's nearest and the other holds its word."""
    with closing(open_store(tmp_path / "shelf.sqlite")) as store:
        fill(store, [document("0", "bed rest"), document("1", "oxygen")])
        shelf = object.__new__(Shelf)
        shelf._store = store
        shelf._encoder = WordEmbedder()  # type: ignore[assignment]
        shelf._weights = SimpleNamespace(weigh=lambda terms: [Term("oxygen", 1.0)])  # type: ignore[assignment]
        shelf._numbers, _, documents = store.found(store.numbers())
        question = WordEmbedder().encode(["anything"])[0]
        # Cosines of 0.5 and 0.4 to whatever is asked.
        shelf._vectors = np.outer(DENSE, question).astype(np.float32)
        shelf._documents = np.array(documents)
        return int(shelf.find("anything")[0].document)


RANKERS: list[Callable[[Path], int]] = [by_merge, by_rerank, by_offers, by_shelf]


@pytest.mark.parametrize("first", RANKERS, ids=lambda ranker: ranker.__name__)
def test_whoever_ranks_follows_the_one_score(
    first: Callable[[Path], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "LEXICAL_WEIGHT", 1.0)
    assert first(tmp_path) == 1
    monkeypatch.setattr(ranking, "LEXICAL_WEIGHT", 0.0)
    assert first(tmp_path) == 0
    # Another formula altogether: words alone.
    monkeypatch.setattr(ranking, "hybrid", lambda dense, lexical, best: lexical - dense * 1e-3)
    assert first(tmp_path) == 1


def test_what_a_silo_leaves_out_follows_the_one_score(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.array([0.6, 0.5, 0.1], dtype=np.float32)
    lexical = np.array([0.0, 0.5, 1.0], dtype=np.float32)
    monkeypatch.setattr(ranking, "LEXICAL_WEIGHT", 0.0)
    assert contenders(dense, lexical, np.arange(3), 1).tolist() == [True, False, True]
    monkeypatch.setattr(ranking, "LEXICAL_WEIGHT", 1.0)
    assert contenders(dense, lexical, np.arange(3), 1).tolist() == [True, True, True]


def test_the_weight_of_words_stands_in_one_file() -> None:
    """A second home of the formula would be missed by the next change, and silos drop winners."""
    users = {
        name
        for name, path in sources()
        if re.search(r"LEXICAL_WEIGHT|\* lexical\b", path.read_text(encoding="utf-8"))
    }
    # A forged score is as high as one can be.
    assert users == {"siloquy/text/ranking.py", "eval/attacks/routing.py"}


numbers = st.lists(
    st.tuples(st.floats(-1, 1, width=32), st.floats(0, 1e3, width=32)), min_size=1, max_size=12
)


@given(numbers, st.floats(1.0, 1e6))
def test_who_is_surely_ahead_is_ahead_whatever_others_tell(
    rows: list[tuple[float, float]], more: float
) -> None:
    dense, lexical = (np.array(part, dtype=np.float64) for part in zip(*rows, strict=True))
    scores = ranking.hybrid(dense, lexical, float(lexical.max()) * more)
    behind, ahead = np.nonzero(surely_ahead(dense, lexical))
    assert np.all(scores[ahead] >= scores[behind] - 1e-9)


def test_without_a_matching_word_the_cosine_alone_ranks() -> None:
    none = np.zeros(2)
    assert hybrid_scores(np.array([0.3, 0.2]), none).tolist() == [0.3, 0.2]
    assert hybrid_scores(none[:0], none[:0]).shape == (0,)


# -- BM25 of one word -----------------------------------------------------------------------------


def saturation(count: float, length: int, mean: float) -> float:
    """What BM25 makes of a count, without the weight of its word."""
    return count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))


bodies = st.lists(
    st.lists(st.sampled_from(["dose", "ox", "ward"]), min_size=1, max_size=9),
    min_size=1,
    max_size=8,
)


@given(bodies)
def test_a_words_bm25_is_its_saturation_however_rare_it_is(bodies: list[list[str]]) -> None:
    with closing(indexed(("", " ".join(body)) for body in bodies)) as index:
        rows, values = bm25_of_word(index, "dose", len(bodies))
    mean = sum(map(len, bodies)) / len(bodies)
    counts = {n: body.count("dose") for n, body in enumerate(bodies) if "dose" in body}
    assert rows.tolist() == list(counts)
    expected = [saturation(count, len(bodies[n]), mean) for n, count in counts.items()]
    assert values.tolist() == pytest.approx(expected)
    assert all(value < most_bm25([Term("dose", 1.0)]) for value in values)


def test_a_word_of_the_title_counts_twice() -> None:
    with closing(indexed([("dose", "ox"), ("ox", "dose"), ("ox", "ox")])) as index:
        rows, values = bm25_of_word(index, "dose", 3)
    assert rows.tolist() == [0, 1]
    assert values.tolist() == pytest.approx([saturation(2, 2, 2), saturation(1, 2, 2)])


def test_a_word_that_is_nowhere_has_no_rows() -> None:
    with closing(indexed([("", "dose")])) as index:
        rows, values = bm25_of_word(index, "zebra", 1)
    assert (rows.tolist(), values.tolist()) == ([], [])
    with closing(indexed([])) as index:
        assert [len(part) for part in bm25_of_word(index, "dose", 0)] == [0, 0]


@pytest.mark.parametrize("word", ["AND", "or", "near", "title", "not"])
def test_words_of_the_index_language_are_words(word: str) -> None:
    with closing(indexed([("", f"one {word} two"), ("", "three")])) as index:
        assert bm25_of_word(index, word, 2)[0].tolist() == [0]
