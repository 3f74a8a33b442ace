"""BM25 behind a cache: as current as the store, and never above what a question allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node.store import Store
from siloquy.silo_node.words import Words
from siloquy.text.ranking import TITLE_WEIGHT, most_bm25
from siloquy.types import Term
from tests.silo_node.hospital import document, fill, open_store

WARDS = [
    document("asthma", "Give oxygen and salbutamol. Give more oxygen."),
    document("sepsis", "Give antibiotics within the hour."),
    document("burns", "Cool with running water."),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "db")) as opened:
        fill(opened, WARDS)
        yield opened


def found(words: Words, *terms: Term) -> dict[int, float]:
    numbers, scores = words.search(terms)
    return dict(zip(numbers.tolist(), scores.tolist(), strict=True))


def statements(store: Store) -> list[str]:
    """Every search of FTS5 from now on."""
    seen: list[str] = []
    store.connection.set_trace_callback(lambda sql: seen.append(sql) if "MATCH" in sql else None)
    return seen


def test_a_word_is_looked_up_once(store: Store) -> None:
    words, seen = Words(store.connection), statements(store)
    first = found(words, Term("give", 2.0), Term("oxygen", 1.0))
    again = found(words, Term("oxygen", 1.0), Term("give", 2.0))
    assert first == pytest.approx(again)
    assert len(seen) == 2
    assert list(first) == [1, 2]


def test_a_kept_word_counts_with_the_weight_of_each_question(store: Store) -> None:
    words = Words(store.connection)
    once = found(words, Term("give", 1.0))
    assert found(words, Term("give", 3.0)) == pytest.approx({n: 3 * s for n, s in once.items()})


def test_what_is_kept_gives_the_same_as_a_fresh_search(store: Store) -> None:
    words = Words(store.connection)
    terms = [Term("give", 1.5), Term("oxygen", 2.0), Term("water", 0.5)]
    for term in terms:
        found(words, term)
    assert found(words, *terms) == found(Words(store.connection), *terms)


def test_no_more_is_kept_than_allowed(store: Store) -> None:
    words, seen = Words(store.connection, most_bytes=250), statements(store)
    for word in ("give", "oxygen", "give"):
        found(words, Term(word, 1.0))
    assert len(seen) == 3


def test_the_word_used_last_stays_longest(store: Store) -> None:
    words, seen = Words(store.connection, most_bytes=450), statements(store)
    for word in ("give", "oxygen", "give", "water", "give", "oxygen"):
        found(words, Term(word, 1.0))
    assert [sql.count("oxygen") for sql in seen] == [0, 1, 0, 1]


def test_another_connections_commit_is_seen(store: Store, tmp_path: Path) -> None:
    words = Words(store.connection)
    assert list(found(words, Term("oxygen", 1.0))) == [1]
    with closing(open_store(tmp_path / "db")) as elsewhere:
        fill(elsewhere, [document("stroke", "Measure oxygen.")])
        elsewhere.delete(WARDS[0].id)
    assert list(found(words, Term("oxygen", 1.0))) == [4]


def test_the_stores_own_changes_are_seen(store: Store) -> None:
    assert store.lexical([Term("oxygen", 1.0)])[0].tolist() == [1]
    fill(store, [document("stroke", "Measure oxygen.")])
    assert store.lexical([Term("oxygen", 1.0)])[0].tolist() == [1, 4]
    store.delete(WARDS[0].id)
    assert store.lexical([Term("oxygen", 1.0)])[0].tolist() == [4]


def test_scores_are_of_the_passage_they_stand_at_when_numbers_have_gaps(store: Store) -> None:
    store.delete(WARDS[1].id)
    fill(store, [document("late", "Running water for burns.")])
    numbers, scores = store.lexical([Term("burns", 1.0), Term("water", 1.0)])
    assert numbers.tolist() == [3, 4]
    assert np.all(scores > 0)


# -- the most that a score can be -----------------------------------------------------------------

words_of_a_text = st.lists(
    st.tuples(
        st.sampled_from("dose doses used using café naïve 2 x_y".split()), st.integers(1, 60)
    ),
    min_size=1,
    max_size=6,
).map(lambda runs: " ".join(f"{word} " * times for word, times in runs))
asked = st.lists(
    st.builds(
        Term,
        st.sampled_from("dose dosing use café cafe naïve 2 x_y absent".split()),
        st.floats(0, 1e6, width=32),
    ),
    max_size=5,
    unique_by=lambda term: term.word,
)


@given(st.lists(st.tuples(words_of_a_text, words_of_a_text), min_size=1, max_size=6), asked)
def test_no_text_scores_more_than_its_question_allows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]], terms: list[Term]
) -> None:
    """Title weight, repetition, lengths and common words: none of them lifts the bound."""
    path = tmp_path_factory.mktemp("store") / "db"
    with closing(open_store(path)) as store:
        fill(store, [document(str(n), text, title) for n, (title, text) in enumerate(texts)])
        for some in ([term] for term in terms):
            _, scores = store.lexical(some)
            assert np.all(scores <= most_bm25(some) * (1 + 1e-6))
        _, scores = store.lexical(terms)
        assert np.all(scores <= most_bm25(terms) * (1 + 1e-6))
        assert np.all(scores >= 0)


def test_a_text_of_one_word_comes_near_the_bound(tmp_path: Path) -> None:
    assert TITLE_WEIGHT == 2.0
    with closing(open_store(tmp_path / "db")) as store:
        fill(store, [*WARDS, document("dose", "dose " * 20, "dose " * 20)])
        best = store.lexical([Term("dose", 3.0)])[1].max()
        assert 0.9 * most_bm25([Term("dose", 3.0)]) < best < most_bm25([Term("dose", 3.0)])
