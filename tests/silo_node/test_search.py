"""Candidates of both rankings, with both parts of the score right, of what is there now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.errors import Incompatible
from siloquy.sealed import wire as sealed_wire
from siloquy.sealed.handles import handles_of
from siloquy.sealed.scoring import SecretKey, seal_query
from siloquy.sealed.wire import ROW_SCALE
from siloquy.silo_node.ingest import remove
from siloquy.silo_node.reading.document import Document
from siloquy.silo_node.search import Candidate, Searcher, contenders
from siloquy.silo_node.store import Store
from siloquy.types import NodeId, SealedRequest, SearchRequest, SignedMessage, Term
from tests.silo_node.hospital import WordEmbedder, document, fill, open_store, put, unit
from tests.siloquy.federation import ENCODER

WARDS = [
    document("sepsis", "Give antibiotics within the hour."),
    document("stroke", "Image the head within the hour."),
    document("asthma", "Give oxygen and salbutamol."),
    document("burns", "Cool with water for twenty minutes."),
]


@dataclass(frozen=True, slots=True)
class Desk:
    """A searcher and another connection to the store that it searches."""

    searcher: Searcher
    store: Store
    elsewhere: Store


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with (
        closing(open_store(tmp_path / "db")) as here,
        closing(open_store(tmp_path / "db")) as there,
    ):
        fill(there, WARDS)
        yield Desk(Searcher(here, ENCODER.dimension), here, there)


def asks(text: str, terms: Sequence[Term] = (), depth: int = 10, k: int = 10) -> SearchRequest:
    vector = WordEmbedder().encode([text])[0]
    return SearchRequest(vector, tuple(terms), k, "passage", depth, "treatment", "local")


def documents(candidates: list[Candidate]) -> list[str]:
    return [candidate.document for candidate in candidates]


# -- scores ---------------------------------------------------------------------------------------


def test_both_parts_of_every_score_are_right(desk: Desk) -> None:
    terms = (Term("give", 1.5), Term("hour", 0.5))
    found = desk.searcher.search(asks("oxygen for asthma", terms))
    numbers, vectors = desk.store.vectors()
    cosines = dict(zip(numbers.tolist(), vectors @ asks("oxygen for asthma").vector, strict=True))
    words = dict(zip(*(part.tolist() for part in desk.store.lexical(terms)), strict=True))
    assert len(found) == len(WARDS)
    for item in found:
        assert item.dense == pytest.approx(float(cosines[item.number]), abs=1e-6)
        assert item.lexical == pytest.approx(words.get(item.number, 0.0), abs=1e-6)
    assert {item.document for item in found if item.lexical} == {"sepsis", "stroke", "asthma"}


def test_candidates_come_best_cosine_first(desk: Desk) -> None:
    found = desk.searcher.search(asks("Give oxygen and salbutamol."))
    assert found[0].document == "asthma"
    assert found[0].dense == pytest.approx(1.0, abs=1e-5)
    assert [item.dense for item in found] == sorted((i.dense for i in found), reverse=True)


def test_the_depth_counts_for_each_ranking(desk: Desk) -> None:
    found = desk.searcher.search(asks("Give oxygen and salbutamol.", [Term("water", 1.0)], 1))
    assert documents(found) == ["asthma", "burns"]


def test_a_passage_of_both_rankings_is_one_candidate(desk: Desk) -> None:
    found = desk.searcher.search(asks("Give oxygen and salbutamol.", [Term("oxygen", 1.0)], 1))
    assert documents(found) == ["asthma"]


def test_a_word_that_weighs_nothing_still_finds_its_passage(desk: Desk) -> None:
    found = desk.searcher.search(asks("Give oxygen.", [Term("water", 0.0)], 1))
    assert [(item.document, item.lexical) for item in found][1] == ("burns", 0.0)


def test_an_empty_silo_has_no_candidates(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "db")) as store:
        searcher = Searcher(store, ENCODER.dimension)
        assert (len(searcher), searcher.search(asks("anything", [Term("a", 1.0)]))) == (0, [])


def test_a_vector_of_another_length_is_refused(desk: Desk) -> None:
    request = SearchRequest(np.ones(3, np.float32), (), 3, "passage", 9, "treatment", "local")
    with pytest.raises(Incompatible, match="3 dimensions"):
        desk.searcher.search(request)


# -- following the store --------------------------------------------------------------------------


def test_the_first_refresh_takes_everything_in(desk: Desk) -> None:
    assert (len(desk.searcher), desk.searcher.generation, desk.searcher.refresh()) == (4, 1, False)


def add(desk: Desk) -> None:
    fill(desk.elsewhere, [document("fits", "Lay on the side.")])


def replace(desk: Desk) -> None:
    fill(desk.elsewhere, [document("burns", "Lay on the side.")])


def delete(desk: Desk) -> None:
    remove(desk.elsewhere, [WARDS[0].id])


@pytest.mark.parametrize(("change", "left"), [(add, 5), (replace, 4), (delete, 3)])
def test_refresh_sees_what_another_connection_committed(
    desk: Desk, change: Callable[[Desk], None], left: int
) -> None:
    change(desk)
    assert (desk.searcher.refresh(), len(desk.searcher)) == (True, left)
    assert desk.searcher.generation == 2
    found = documents(desk.searcher.search(asks("Lay on the side.")))
    assert sorted(found) == sorted(desk.elsewhere.recipe_hashes())


def test_a_search_refreshes_first(desk: Desk) -> None:
    add(desk)
    assert documents(desk.searcher.search(asks("Lay on the side.")))[0] == "fits"
    delete(desk)
    assert "sepsis" not in documents(desk.searcher.search(asks("Give antibiotics")))


def test_a_commit_that_changes_no_passage_is_no_new_generation(desk: Desk) -> None:
    desk.elsewhere.set_fact("profile version", "7")
    assert (desk.searcher.refresh(), desk.searcher.generation) == (False, 1)


def test_a_searcher_opened_late_knows_what_is_there(desk: Desk, tmp_path: Path) -> None:
    delete(desk)
    with closing(open_store(tmp_path / "db")) as store:
        assert len(Searcher(store, ENCODER.dimension, "hnsw")) == 3


# -- commits between two statements ---------------------------------------------------------------


def just_before(store: Store, statement: str, act: Callable[[], object]) -> None:
    """``act`` once, just before ``store`` next runs a statement that begins so."""
    acted: list[str] = []

    def watch(sql: str) -> None:
        if sql.startswith(statement) and not acted:
            acted.append(sql)
            act()

    store.connection.set_trace_callback(watch)


def passages(elsewhere: Store, *sources: Document) -> Callable[[], object]:
    return lambda: fill(elsewhere, sources)


def test_a_deletion_during_a_search_breaks_no_search(desk: Desk) -> None:
    just_before(desk.store, "SELECT number, vector, document FROM passages", lambda: delete(desk))
    assert desk.searcher.search(asks("Give antibiotics within the hour."))


def test_an_ingest_during_a_refresh_adds_no_passage_twice(desk: Desk) -> None:
    add(desk)
    late = document("late", "Call the registrar.")
    just_before(desk.store, "SELECT number, vector", passages(desk.elsewhere, late))
    desk.searcher.refresh()
    desk.store.connection.set_trace_callback(None)
    desk.searcher.refresh()
    assert len(desk.searcher) == desk.store.counts().passages


# -- collections that answer sealed questions alone -----------------------------------------------

CLOSED = [
    document("talk", "Give oxygen and time to talk.", collection="psychiatry"),
    document("ward", "Give oxygen on the ward.", collection="medicine"),
]


@pytest.fixture
def closed(tmp_path: Path, desk: Desk) -> Iterator[Desk]:
    """The desk with two collections, of which psychiatry is closed."""
    fill(desk.elsewhere, CLOSED)
    with closing(open_store(tmp_path / "db")) as store:
        yield Desk(
            Searcher(store, ENCODER.dimension, closed=("psychiatry",)), store, desk.elsewhere
        )


OXYGEN = "Give oxygen and time to talk."


def test_an_open_question_sees_nothing_of_a_closed_collection(closed: Desk) -> None:
    for request in (
        asks(OXYGEN),
        asks(OXYGEN, [Term("talk", 9.0)]),
        asks("x", [Term("talk", 9.0)]),
    ):
        found = closed.searcher.search(request)
        assert "talk" not in documents(found)
        assert not [item for item in found if item.lexical]
    assert len(closed.searcher) == 5


def test_what_is_closed_takes_no_place_among_the_nearest(closed: Desk) -> None:
    assert documents(closed.searcher.search(asks(OXYGEN, depth=1)))[0] in ("asthma", "ward")


def test_a_document_that_moves_to_a_closed_collection_is_seen_no_more(closed: Desk) -> None:
    fill(closed.elsewhere, [document("ward", CLOSED[1].text, collection="psychiatry")])
    assert "ward" not in documents(closed.searcher.search(asks(CLOSED[1].text)))
    fill(closed.elsewhere, [document("talk", OXYGEN, collection="medicine")])
    assert documents(closed.searcher.search(asks(OXYGEN)))[0] == "talk"


def test_where_all_is_closed_an_open_question_finds_nothing(desk: Desk) -> None:
    searcher = Searcher(desk.store, ENCODER.dimension, closed=("*",))
    assert searcher.search(asks("Give oxygen", [Term("oxygen", 1.0)])) == []


# -- sealed questions -----------------------------------------------------------------------------

KEY = SecretKey()


def sealed_scores(searcher: Searcher, text: str) -> dict[int, float]:
    """Cosine of each passage to ``text``, as the hub and the silo together could tell."""
    query = seal_query(WordEmbedder().encode([text])[0], KEY.public)
    request = SealedRequest(
        SignedMessage(NodeId("hub"), b"", b""),
        query.query,
        ENCODER.dimension,
        query.offset,
        3,
        "treatment",
        "local",
    )
    scores, placed = searcher.score_sealed(request, KEY.public)
    opened = KEY.open_scores(scores.scores).astype(int) - query.offset
    handles = handles_of(scores.handle_key, range(len(opened)))
    offered = placed.offered(handles)
    pairs = zip(handles, (opened / (query.scale * ROW_SCALE)).tolist(), strict=True)
    return {offered[h].number: score for h, score in pairs if offered[h].number}


def test_a_sealed_question_is_scored_against_every_passage(closed: Desk) -> None:
    scores = sealed_scores(closed.searcher, OXYGEN)
    numbers, vectors = closed.store.vectors()
    query = WordEmbedder().encode([OXYGEN])[0]
    expected = dict(zip(numbers.tolist(), (vectors @ query).tolist(), strict=True))
    assert scores == pytest.approx(expected, abs=0.01)
    assert max(scores, key=lambda number: scores[number]) == 5


@pytest.mark.parametrize(("change", "left"), [(add, 5), (replace, 4), (delete, 3)])
def test_sealed_scores_follow_what_another_connection_committed(
    desk: Desk, change: Callable[[Desk], None], left: int
) -> None:
    assert len(sealed_scores(desk.searcher, "Give oxygen")) == 4
    change(desk)
    scores = sealed_scores(desk.searcher, "Lay on the side.")
    assert sorted(scores) == desk.elsewhere.numbers().tolist()
    assert len(scores) == left
    assert (max(scores.values()) > 0.99) == (change is not delete)
    assert desk.searcher.refresh() is False


def test_an_empty_silo_answers_sealed_questions_too(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "db")) as store:
        assert sealed_scores(Searcher(store, ENCODER.dimension), "anything") == {}


def test_a_sealed_query_of_another_length_is_refused(desk: Desk) -> None:
    request = SealedRequest(
        SignedMessage(NodeId("hub"), b"", b""), b"", 8, 0, 3, "treatment", "local"
    )
    with pytest.raises(Incompatible, match="8 dimensions, this silo 384"):
        desk.searcher.score_sealed(request, KEY.public)


def test_a_silo_that_outgrows_sealed_scoring_goes_on_answering_open_questions(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_wire, "MOST_BLOCKS", 1)
    assert len(sealed_scores(desk.searcher, "Give oxygen")) == 4
    put(desk.elsewhere, unit(252))
    add(desk)
    for _ in range(2):
        assert documents(desk.searcher.search(asks("Lay on the side.")))[0] == "fits"
        assert len(desk.searcher) == 257
    with pytest.raises(Incompatible, match="257 passages, sealed scoring takes 256"):
        sealed_scores(desk.searcher, "Lay on the side.")
    delete(desk)
    assert len(sealed_scores(desk.searcher, "Lay on the side.")) == 256


def test_without_a_sealed_question_nothing_is_made_ready(desk: Desk) -> None:
    desk.searcher.make_ready()
    assert desk.searcher._sealed is None


def test_what_the_next_sealed_question_needs_is_made_ready(desk: Desk) -> None:
    sealed_scores(desk.searcher, "Give oxygen")
    desk.searcher.make_ready()
    rows = desk.searcher._sealed
    assert rows is not None
    assert (rows._uses, len(rows._zeros)) == (0, 1)
    assert None not in rows._blocks


# -- what is told of them -------------------------------------------------------------------------

scores = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.4, 0.5, 0.8]), st.sampled_from([0.0, 1.0, 3.0, 7.0])),
    min_size=1,
    max_size=30,
)


def best(merged: NDArray[np.float64], groups: NDArray[np.int64], k: int) -> set[int]:
    """Groups of the k best, each by its best."""
    order = dict.fromkeys(groups[np.argsort(-merged, kind="stable")].tolist())
    return set(list(order)[:k])


@given(scores, st.integers(1, 6), st.integers(1, 8), st.sampled_from([1.0, 1.3, 4.0, 1e9]))
def test_what_is_not_told_would_not_have_won(
    rows: list[tuple[float, float]], k: int, size: int, more: float
) -> None:
    dense, lexical = (np.array(part, dtype=np.float32) for part in zip(*rows, strict=True))
    groups = np.arange(len(rows)) % size
    kept = contenders(dense, lexical, groups, k)
    # Distinct scores: among equals the order of silos decides.
    dense = dense + np.linspace(0, 1e-5, len(dense), dtype=np.float32)
    kept |= contenders(dense, lexical, groups, k)
    overall = max(float(lexical.max()) * more, 1e-9)
    merged = dense + 0.25 * lexical.astype(np.float64) / overall
    assert best(merged, groups, k) == best(merged[kept], groups[kept], k)


def test_the_best_word_score_is_always_told() -> None:
    dense = np.array([0.9, 0.8, 0.7, 0.1], dtype=np.float32)
    lexical = np.array([1.0, 1.0, 1.0, 1.1], dtype=np.float32)
    assert contenders(dense, lexical, np.arange(4), 1).tolist() == [True, False, False, True]


def test_passages_that_cannot_win_are_not_told(desk: Desk) -> None:
    found = desk.searcher.search(asks("Give oxygen and salbutamol.", k=1))
    assert documents(found) == ["asthma"]


def test_a_document_s_many_passages_count_once_where_documents_are_counted() -> None:
    dense = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    same, none = np.array([0, 0, 1]), np.zeros(3, dtype=np.float32)
    assert contenders(dense, none, same, 2).tolist() == [True, True, True]
    assert contenders(dense, none, np.arange(3), 2).tolist() == [True, True, False]
