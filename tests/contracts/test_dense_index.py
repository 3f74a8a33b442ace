"""What every dense index keeps to, whatever lies behind it."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.errors import SettingsError
from siloquy.silo_node.index import (
    DEAD_SHARE,
    FLAT_LIMIT,
    DenseIndex,
    FlatIndex,
    GraphIndex,
    Kind,
    make,
)
from siloquy.types import Vector

DIMENSION = 16
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "hnswlib")
GRAPHS: tuple[Kind, ...] = ("hnsw", "hnswlib")


def need(kind: Kind) -> Kind:
    """``kind`` where it can be had; CI has a compiler, so there it has to be."""
    if kind == "hnswlib" and importlib.util.find_spec("hnswlib") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("hnswlib is not installed in CI")
        pytest.skip("hnswlib is not installed: it needs a C++ compiler")
    return kind


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    wanted: Kind = request.param
    return need(wanted)


@pytest.fixture
def index(kind: Kind) -> DenseIndex:
    return make(kind, DIMENSION, 0)


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> GraphIndex:
    made = make(need(request.param), DIMENSION, 0)
    assert isinstance(made, GraphIndex)
    return made


def unit(n: int, seed: int = 1) -> Vector:
    """(n, d) random directions."""
    vectors = np.random.default_rng(seed).standard_normal((n, DIMENSION)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def ids(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def count(n: int, start: int = 1) -> NDArray[np.int64]:
    return np.arange(start, start + n, dtype=np.int64)


def found(index: DenseIndex, query: Vector, n: int) -> list[int]:
    return [int(number) for number in index.search(query, n)[0]]


# -- adding and finding ---------------------------------------------------------------------------


def test_an_empty_index_finds_nothing(index: DenseIndex) -> None:
    numbers, scores = index.search(unit(1)[0], 5)
    assert (len(index), len(numbers), len(scores)) == (0, 0, 0)
    assert [str(part.dtype) for part in (numbers, scores)] == ["int64", "float32"]


def test_every_vector_is_nearest_to_itself(index: DenseIndex) -> None:
    vectors = unit(50)
    index.add(count(50, start=1000), vectors)
    assert len(index) == 50
    assert [found(index, vector, 1) for vector in vectors] == [[1000 + i] for i in range(50)]


def test_scores_are_cosines_best_first(index: DenseIndex) -> None:
    vectors, query = unit(40), unit(1, seed=2)[0]
    index.add(count(40), vectors)
    numbers, scores = index.search(query, 10)
    assert np.allclose(scores, vectors[numbers - 1] @ query, atol=1e-6)
    assert (np.diff(scores) <= 0).all()
    assert [str(part.dtype) for part in (numbers, scores)] == ["int64", "float32"]


def test_no_more_than_n_are_found(index: DenseIndex) -> None:
    index.add(count(40), unit(40))
    assert [len(found(index, unit(1)[0], n)) for n in (0, 1, 7, 40)] == [0, 1, 7, 40]


def test_n_larger_than_the_index_finds_all_once(index: DenseIndex) -> None:
    index.add(count(30), unit(30))
    assert sorted(found(index, unit(1, seed=3)[0], 1000)) == list(range(1, 31))


def test_adding_nothing_changes_nothing(index: DenseIndex) -> None:
    index.add(ids(), unit(0))
    assert len(index) == 0


def test_what_is_added_later_is_found_too(index: DenseIndex) -> None:
    vectors = unit(1500)
    for start in range(0, 1500, 500):
        index.add(count(500, start), vectors[start : start + 500])
    assert [found(index, vectors[i], 1) for i in (0, 700, 1499)] == [[0], [700], [1499]]


def test_rows_need_not_be_contiguous(index: DenseIndex) -> None:
    vectors = np.asfortranarray(unit(10))
    index.add(count(20)[::2], vectors)
    assert found(index, np.ascontiguousarray(vectors[3]), 1) == [7]


def test_recall_at_ten_is_that_of_brute_force(index: DenseIndex) -> None:
    vectors, queries = unit(2000), unit(50, seed=4)
    index.add(count(2000, start=0), vectors)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    recall = np.mean(
        [
            len(set(found(index, query, 10)) & set(best.tolist())) / 10
            for query, best in zip(queries, exact, strict=True)
        ]
    )
    assert recall == 1.0 if isinstance(index, FlatIndex) else recall >= 0.98


def test_passages_that_repeat_each_other_are_no_trouble(index: DenseIndex) -> None:
    index.add(count(300), np.repeat(unit(1), 300, axis=0))
    numbers = found(index, unit(1)[0], 300)
    assert len(set(numbers)) == len(numbers) >= 100


# -- removing -------------------------------------------------------------------------------------


def test_unknown_ids_are_ignored(index: DenseIndex) -> None:
    index.add(count(5), unit(5))
    index.remove(ids(99, 100))
    index.remove(ids())
    assert sorted(found(index, unit(1)[0], 9)) == [1, 2, 3, 4, 5]


def test_removing_from_an_empty_index_does_nothing(index: DenseIndex) -> None:
    index.remove(ids(1))
    assert len(index) == 0


def test_a_removed_id_is_not_found_though_it_was_nearest(index: DenseIndex) -> None:
    vectors = unit(20)
    index.add(count(20), vectors)
    index.remove(ids(3))
    assert (len(index), found(index, vectors[2], 1) != [3]) == (19, True)


def test_deleted_ids_never_come_back(index: DenseIndex) -> None:
    vectors, gone = unit(300), set[int]()
    index.add(count(300), vectors)
    for some in np.split(np.random.default_rng(5).permutation(count(300))[:240], 20):
        index.remove(some)
        gone |= set(some.tolist())
        nearest = [found(index, vectors[i - 1], 30) for i in sorted(gone)[:5]]
        assert not gone & {number for numbers in nearest for number in numbers}
        assert len(index) == 300 - len(gone)


def test_an_index_emptied_can_be_filled_again(index: DenseIndex) -> None:
    vectors = unit(20)
    index.add(count(20), vectors)
    index.remove(count(20))
    assert (len(index), found(index, vectors[0], 5)) == (0, [])
    index.add(count(20), vectors[::-1])
    assert found(index, vectors[0], 1) == [20]


def test_the_survivors_of_a_great_deletion_are_all_found(index: DenseIndex) -> None:
    vectors = unit(400)
    index.add(count(400), vectors)
    index.remove(count(300))
    assert all(found(index, vectors[i - 1], 1) == [i] for i in range(301, 401))


def test_a_graph_is_rebuilt_when_more_than_a_fifth_is_dead(graph: GraphIndex) -> None:
    vectors = unit(100)
    graph.add(count(100), vectors)
    first, most = graph._graph, int(DEAD_SHARE * 100)
    graph.remove(count(most))
    assert (graph._graph is first, len(graph._ids)) == (True, 100)
    graph.remove(ids(100))
    assert (graph._graph is first, len(graph._ids)) == (False, 99 - most)
    assert all(found(graph, vectors[i - 1], 1) == [i] for i in range(most + 1, 100))


operations = st.lists(
    st.tuples(st.booleans(), st.sets(st.integers(0, 39), max_size=25)), max_size=12
)


@pytest.mark.parametrize("name", KINDS)
@given(operations)
def test_any_history_leaves_what_a_dict_would_hold(
    name: Kind, operations: list[tuple[bool, set[int]]]
) -> None:
    index, known, vectors = make(need(name), DIMENSION, 0), dict[int, Vector](), unit(40)
    query = unit(1, seed=6)[0]
    for adding, chosen in operations:
        some = sorted(chosen - known.keys() if adding else chosen)
        if adding:
            index.add(ids(*some), vectors[some])
            known.update((i, vectors[i]) for i in some)
        else:
            index.remove(ids(*some))
            known = {i: vector for i, vector in known.items() if i not in chosen}
        best = sorted(known, key=lambda i: -float(known[i] @ query))
        assert (len(index), found(index, query, 100)) == (len(known), best)


# -- choosing -------------------------------------------------------------------------------------


def test_auto_is_exact_until_the_limit_and_a_graph_above() -> None:
    assert isinstance(make("auto", DIMENSION, FLAT_LIMIT), FlatIndex)
    assert isinstance(make("auto", DIMENSION, FLAT_LIMIT + 1), GraphIndex)


def test_a_kind_asked_for_is_made_whatever_the_size() -> None:
    assert isinstance(make("flat", DIMENSION, FLAT_LIMIT + 1), FlatIndex)
    assert isinstance(make("hnsw", DIMENSION, 0), GraphIndex)


@pytest.mark.skipif(
    importlib.util.find_spec("hnswlib") is not None, reason="hnswlib is installed here"
)
def test_without_hnswlib_the_error_says_what_to_install() -> None:
    with pytest.raises(SettingsError) as refused:
        make("hnswlib", DIMENSION, 0)
    assert "siloquy[hnsw]" in refused.value.hint
