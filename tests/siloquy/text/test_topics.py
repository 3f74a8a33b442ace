"""The public list of topics: the same for all nodes, and a vector's share of each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy import database
from siloquy.text import topics
from siloquy.text.topics import (
    MOST_OF_ONE,
    SCHEMA,
    SHARPNESS,
    Topics,
    anchors,
    names,
    prepare,
    read,
)
from tests.silo_node.hospital import WordEmbedder, public_topics, unit
from tests.siloquy.federation import ENCODER

# -- the list -------------------------------------------------------------------------------------


def test_the_list_has_the_documented_number_of_topics_each_once() -> None:
    assert f"{len(names())} short texts" in str(topics.make.__doc__)
    assert len({name.casefold() for name in names()}) == len(names()) == 512


def test_topics_are_short_and_name_no_one() -> None:
    assert [name for name in names() if not 3 <= len(name) <= 60 or name != name.strip()] == []
    assert [name for name in names() if re.search(r"\d{3}|[@:;]", name)] == []


def test_the_list_is_in_alphabetical_order_so_that_a_change_is_seen() -> None:
    folded = [name.casefold() for name in names()]
    assert folded == sorted(folded)


def test_nodes_agree_in_list_and_encoder_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    here = anchors(ENCODER)
    assert here == anchors(replace(ENCODER, name="another name"))
    assert here != anchors(replace(ENCODER, sha256="00" * 32))
    monkeypatch.setattr(topics, "names", lambda: (*names(), "one more"))
    assert anchors(ENCODER) != here


# -- what lies near -------------------------------------------------------------------------------

vectors = st.integers(0, 10**6).map(lambda seed: unit(40, seed))


@given(vectors)
def test_a_vector_is_near_three_topics_and_its_shares_have_length_one(rows: np.ndarray) -> None:
    near = public_topics().near(rows)
    assert near.dtype == np.float32
    assert np.linalg.norm(near, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert ((near > 0).sum(axis=1) == MOST_OF_ONE).all()


@given(vectors)
def test_the_nearest_topic_has_the_largest_share(rows: np.ndarray) -> None:
    own = public_topics()
    assert np.array_equal(own.near(rows).argmax(axis=1), own.cosines(rows).argmax(axis=1))


def test_a_topic_that_is_a_twentieth_further_off_counts_a_third_as_much() -> None:
    three = Topics(("a", "b", "c"), np.eye(3, dtype=np.float32), "three")
    vector = np.array([[0.8, 0.8 - 1 / SHARPNESS, 0.0]], dtype=np.float32)
    (near,) = three.near(vector)
    assert near[1] / near[0] == pytest.approx(np.exp(-1), rel=1e-5)


def test_of_fewer_topics_than_three_all_have_a_share() -> None:
    two = Topics(("a", "b"), np.eye(3, dtype=np.float32)[:2], "two")
    assert (two.near(unit(5, 0, 3)) > 0).all()


@given(st.integers(1, 70), st.integers(0, 10**6))
def test_a_cosine_is_the_same_to_the_last_bit_whichever_rows_stand_beside_it(
    n: int, seed: int
) -> None:
    own, rows = public_topics(), unit(70, seed)
    order = np.random.default_rng(seed).permutation(70)[:n]
    assert np.array_equal(own.cosines(rows)[order], own.cosines(rows[order]))
    assert np.array_equal(own.near(rows)[order], own.near(rows[order]))


def test_cosines_are_right() -> None:
    own, rows = public_topics(), unit(20, 3)
    assert own.cosines(rows) == pytest.approx(rows @ own.vectors.T, abs=1e-5)


# -- kept -----------------------------------------------------------------------------------------


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.connect(tmp_path / "topics.sqlite", SCHEMA)) as opened:
        yield opened


def test_the_list_is_encoded_once(connection: sqlite3.Connection) -> None:
    embedder = WordEmbedder()
    first, again = (prepare(connection, embedder) for _ in range(2))
    assert [len(call) for call in embedder.calls] == [512]
    assert np.array_equal(first.vectors, again.vectors)
    assert (first.names, first.anchors) == (again.names, again.anchors)


def test_kept_vectors_are_those_of_the_encoder(connection: sqlite3.Connection) -> None:
    kept = prepare(connection, WordEmbedder())
    assert kept.vectors == pytest.approx(public_topics().vectors, abs=1e-3)
    found = read(connection, ENCODER)
    assert found is not None
    assert np.array_equal(found.vectors, kept.vectors)


def test_another_encoder_or_an_empty_database_has_none(
    connection: sqlite3.Connection,
) -> None:
    assert read(connection, ENCODER) is None
    prepare(connection, WordEmbedder())
    other = replace(ENCODER, sha256="00" * 32)
    assert read(connection, other) is None
    prepare(connection, WordEmbedder(other))
    assert read(connection, ENCODER) is not None


@pytest.mark.parametrize("damage", ["substr(vectors, 3)", "substr(vectors, 1, 100)", "x'00'"])
def test_damaged_vectors_are_none_and_made_again(
    connection: sqlite3.Connection, damage: str
) -> None:
    kept = prepare(connection, WordEmbedder())
    connection.execute(f"UPDATE topics SET vectors = {damage}")  # noqa: S608
    assert read(connection, ENCODER) is None
    assert np.array_equal(prepare(connection, WordEmbedder()).vectors, kept.vectors)
