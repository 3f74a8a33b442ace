"""What a silo tells of its content: as it is, or so that no document can be told from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.router import profile as profiles
from siloquy.silo_node import sketch as sketches
from siloquy.silo_node.privacy import Draw, bounded, sigma
from siloquy.silo_node.sketch import (
    CELLS_SHARE,
    MOST_CELLS,
    MOST_OF_A_GROUP,
    MOST_RANK,
    PASSAGES_PER_CELL,
    SIZE_SHARE,
    TOPICS_SHARE,
    Content,
    noised_sketch,
    sketch,
)
from siloquy.text import topics as topic_lists
from siloquy.text.topics import Topics
from siloquy.types import EncoderSpec, NodeId, Profile, Vector
from tests.silo_node.hospital import public_topics, unit
from tests.siloquy.federation import ENCODER

Groups = NDArray[np.int64]
EPSILON, DELTA, LEAST = 8.0, 1e-5, 10
D = 12
SMALL = Topics(topic_lists.names(), unit(len(topic_lists.names()), 5, D), "small")


def draws(seed: int) -> Draw:
    """Bytes that come again."""
    return np.random.default_rng(seed).bytes


def each_its_own(n: int) -> Groups:
    return np.arange(n, dtype=np.int64)


def near(content: Content) -> NDArray[np.float64]:
    return np.frombuffer(content.topics, dtype="<f2").astype(np.float64)


def told(vectors: Vector, groups: Groups, seed: int, topics: Topics = SMALL) -> Content:
    """With noise of ``seed``, whatever the size."""
    return noised_sketch(vectors, groups, topics, 1, EPSILON, DELTA, draws(seed))


def profile_of(content: Content, d: int) -> Profile:
    """A profile that says no more than ``content``."""
    spec = EncoderSpec("tiny", "00" * 32, d)
    noised = content.topic_noise > 0
    return Profile(
        silo=NodeId("north"),
        version=1,
        created=0,
        expires=1,
        encoder=spec,
        anchors=topic_lists.anchors(spec),
        epsilon=EPSILON if noised else None,
        delta=DELTA if noised else 0.0,
        unit="document",
        frequencies=b"",
        **{name: getattr(content, name) for name in Content.__slots__},
    )


def check(content: Content, d: int) -> None:
    """What a gateway checks."""
    profile = profile_of(content, d)
    profiles.check(profile, profile.encoder)


# -- without noise --------------------------------------------------------------------------------


def test_an_empty_silo_tells_that_it_is() -> None:
    assert sketch(np.zeros((0, 0), np.float32), each_its_own(0), SMALL, 1).size == 0


def test_a_small_silo_tells_its_size_alone() -> None:
    content = sketch(unit(LEAST - 1, 0, D), each_its_own(LEAST - 1), SMALL, LEAST)
    assert (content.size, content.topics, content.counts) == (LEAST - 1, b"", ())
    check(content, D)


@pytest.mark.parametrize("size", [LEAST, 79, 80, 333, 2 * MOST_CELLS * PASSAGES_PER_CELL])
def test_counts_sum_to_the_size(size: int) -> None:
    content = sketch(unit(size, 0, D), each_its_own(size), SMALL, LEAST)
    assert (content.size, sum(content.counts)) == (size, size)
    assert len(content.counts) == min(MOST_CELLS, max(size // PASSAGES_PER_CELL, 1))
    check(content, D)


@pytest.mark.parametrize("d", [1, 2, 7, 385, 1025])
def test_any_dimension_keeps_its_parts_together(d: int) -> None:
    topics = Topics(topic_lists.names(), unit(len(topic_lists.names()), 5, d), "odd")
    vectors = unit(90, 1, d)
    whole = sketch(vectors, each_its_own(90), topics, LEAST)
    assert len(whole.centroids) == 2 * d
    assert len(whole.directions) == 2 * MOST_RANK * ((d + 1) // 2)
    check(noised_sketch(vectors, each_its_own(90), topics, 1, EPSILON, DELTA, draws(1)), d)


@pytest.mark.parametrize(("d", "cells"), [(1024, 16), (2048, 8), (4096, 4), (40_000, 1)])
def test_of_long_vectors_fewer_means_are_told(d: int, cells: int) -> None:
    assert sketches._most_cells(d, MOST_CELLS) == cells


def test_means_are_those_of_the_cells() -> None:
    vectors = np.concatenate([unit(100, 1, around=0), unit(60, 2, around=1)])
    content = sketch(vectors, each_its_own(160), public_topics(), LEAST)
    profile = profile_of(content, ENCODER.dimension)
    # Seeded 12-step k-means with 4 means over two far clusters: each mean lies in one of them.
    means = profiles.centroids(profile)
    nearest = np.argmax(means[:, :2], axis=1)
    assert np.bincount(nearest, weights=content.counts, minlength=2).tolist() == [100, 60]
    assert (means.max(axis=1) > 0.95).all()


def test_a_spread_is_the_mean_squared_distance_to_the_mean() -> None:
    vectors = unit(79, 0, D)
    (spread,) = sketch(vectors, each_its_own(79), SMALL, LEAST).spreads
    distances = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    assert spread == pytest.approx(float(np.mean(distances**2)), rel=1e-4)


def test_equal_passages_have_no_spread() -> None:
    content = sketch(np.repeat(unit(1, 0, D), 100, axis=0), each_its_own(100), SMALL, LEAST)
    assert sum(content.counts) == 100
    assert max(content.spreads) < 1e-6
    assert max(content.variances) < 1e-6
    check(content, D)


def test_directions_come_back_from_four_bits_near_those_of_most_spread() -> None:
    rng = np.random.default_rng(4)
    widths = 2.0 ** -np.arange(9.0)
    vectors = np.asarray(rng.standard_normal((79, 9)) * widths, dtype=np.float32)
    topics = Topics(topic_lists.names(), unit(len(topic_lists.names()), 5, 9), "odd")
    content = sketch(vectors, each_its_own(79), topics, LEAST)
    found = profiles.directions(profile_of(content, 9))
    residuals = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(residuals.T @ residuals / len(vectors))
    alike = np.abs(np.sum(found * axes[:, ::-1].T[:MOST_RANK], axis=1))
    assert (alike > 0.99).all()
    assert content.variances == pytest.approx(values[::-1][:MOST_RANK].tolist(), rel=1e-3)


def test_a_sketch_can_be_made_again() -> None:
    vectors, groups = unit(200, 0, D), each_its_own(200)
    first, again = (sketch(vectors, groups, SMALL, LEAST) for _ in range(2))
    assert all(getattr(first, name) == getattr(again, name) for name in Content.__slots__)


def test_more_documents_near_one_topic_than_a_half_can_tell_are_told_as_the_most() -> None:
    most = np.frombuffer(sketches._half(np.array([1e6, -1e6, 3.0])), dtype="<f2")
    assert most.tolist() == [65504.0, -65504.0, 3.0]


# -- what one group moves -------------------------------------------------------------------------


def groups_and_one_more(seed: int, passages: int, alike: bool) -> tuple[Vector, Groups]:
    """Some groups and, last, one of ``passages``, all in one place if ``alike``."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 9, 20))
    own = np.repeat(unit(1, seed + 1, D), passages, axis=0) if alike else unit(passages, seed, D)
    vectors = np.concatenate([unit(20, seed + 2, D), own])
    return vectors, np.append(groups, np.full(passages, 9)).astype(np.int64)


@given(st.integers(0, 10**6), st.integers(1, 60), st.booleans())
def test_a_group_of_any_length_moves_topics_and_sums_by_no_more_than_is_hidden(
    seed: int, passages: int, alike: bool
) -> None:
    vectors, groups = groups_and_one_more(seed, passages, alike)
    rest = groups < 9
    moved = sketches._near_topics(vectors, groups, SMALL) - sketches._near_topics(
        vectors[rest], groups[rest], SMALL
    )
    assert np.linalg.norm(moved) == pytest.approx(1.0, abs=1e-6)
    cells = np.arange(len(SMALL)) % 4
    sums = [
        sketches._weighed_sums(vectors[kept], bounded(groups[kept]), SMALL, cells)
        for kept in (rest, groups <= 9)
    ]
    assert np.linalg.norm(sums[1] - sums[0]) <= math.sqrt(2) * sketches._ROUNDING


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_a_group_of_any_length_moves_the_size_by_at_most_four(seed: int, passages: int) -> None:
    vectors, groups = groups_and_one_more(seed, passages, alike=False)
    rest = groups < 9
    with_it, without = (
        told(vectors[kept], groups[kept], 1).size for kept in (groups <= 9, groups < 9)
    )
    assert rest.sum() == 20
    assert 0 <= with_it - without <= MOST_OF_A_GROUP


def test_what_a_group_adds_hangs_on_no_other_to_the_last_bit() -> None:
    vectors, rng = unit(3000, 1), np.random.default_rng(2)
    topics, order = public_topics(), rng.permutation(3000)
    groups = rng.integers(0, 400, 3000)
    whole = sketches._near_topics(vectors, groups, topics)
    shuffled = sketches._near_topics(vectors[order], groups[order], topics)
    # Within a group the order of its own passages may cost a step.
    assert np.abs(whole - shuffled).max() < 1e-9
    parts = [
        sketches._near_topics(vectors[groups == one], groups[groups == one], topics)
        for one in range(400)
    ]
    assert np.array_equal(whole, np.sum(parts, axis=0))


def test_a_vector_that_is_too_long_counts_as_one_of_length_one() -> None:
    vectors, cells = unit(5, 0, D), np.zeros(len(SMALL), dtype=np.int64)
    weights = np.ones(5)
    long = sketches._weighed_sums(7 * vectors, weights, SMALL, cells)
    assert long == pytest.approx(sketches._weighed_sums(vectors, weights, SMALL, cells), abs=1e-5)


# -- an attacker who knows all but whether one group is there -------------------------------------


@dataclass(frozen=True)
class Attack:
    """All other documents, and the one of four passages whose presence is to be found out.

    Its passages are alike: nothing moves more.
    """

    vectors: Vector
    groups: Groups
    candidate: Vector

    def content(self, there: bool, seed: int) -> Content:
        """What is told with or without it."""
        if not there:
            return told(self.vectors, self.groups, seed)
        vectors = np.concatenate([self.vectors, self.candidate])
        groups = np.append(self.groups, np.full(len(self.candidate), self.groups.max() + 1))
        return told(vectors, groups, seed)

    def by_topics(self, content: Content) -> float:
        """How much the topics speak for its presence: the most powerful test there is."""
        own = sketches._near_topics(self.candidate, np.zeros(4, np.int64), SMALL)
        others = sketches._near_topics(self.vectors, self.groups, SMALL)
        return float((near(content) - others) @ own)

    def by_all(self, content: Content) -> float:
        """How much topics, sums and size speak for it together, each after its noise."""
        multiplier, documents = sigma(EPSILON, DELTA), _documents(content)
        means = profiles.centroids(profile_of(content, D)).astype(np.float64)
        sums = np.append((documents[:, None] * means).sum(axis=0), documents.sum())
        cell = np.zeros(len(SMALL), dtype=np.int64)
        weights = bounded(self.groups)
        others = sketches._weighed_sums(self.vectors, weights, SMALL, cell)[0]
        own = np.append(self.candidate[0], 1.0)
        size = content.size - len(self.vectors)
        spoken = (
            TOPICS_SHARE * self.by_topics(content),
            CELLS_SHARE * float((sums - others) @ own) / 2,
            SIZE_SHARE * size / MOST_OF_A_GROUP,
        )
        return math.fsum(spoken) / multiplier


def _documents(content: Content) -> NDArray[np.float64]:
    """Of each cell, as noised: what its mean was divided by."""
    noise = math.sqrt(2) * sigma(EPSILON, DELTA) / math.sqrt(CELLS_SHARE)
    return noise / np.array(content.noises)


def auc(present: Sequence[float], absent: Sequence[float]) -> float:
    """How often one who is there looks more so than one who is not."""
    there, gone = np.array(present)[:, None], np.array(absent)[None, :]
    return float((there > gone).mean() + (there == gone).mean() / 2)


def bound(multiplier: float) -> float:
    """AUC of the best test against Gaussian noise: Phi(1 / (sigma sqrt 2))."""
    return (1 + math.erf(1 / (2 * multiplier))) / 2


TRIES = 400
# Three standard errors of an AUC of 400 against 400.
ERROR = 0.04


@pytest.fixture(scope="module")
def attack() -> Attack:
    return Attack(unit(30, 1, D), each_its_own(30), np.repeat(unit(1, 2, D), 4, axis=0))


@pytest.fixture(scope="module")
def contents(attack: Attack) -> tuple[list[Content], list[Content]]:
    """Told with the candidate, and without."""
    with_it = [attack.content(True, seed) for seed in range(TRIES)]
    without = [attack.content(False, TRIES + seed) for seed in range(TRIES)]
    described = [[c for c in told if c.counts] for told in (with_it, without)]
    assert min(map(len, described)) > 0.95 * TRIES
    return described[0], described[1]


def test_who_knows_all_else_learns_of_a_document_no_more_than_its_share_of_the_noise_lets(
    attack: Attack, contents: tuple[list[Content], list[Content]]
) -> None:
    found = auc(*(list(map(attack.by_topics, told)) for told in contents))
    assert found == pytest.approx(bound(sigma(EPSILON, DELTA) / math.sqrt(TOPICS_SHARE)), abs=ERROR)
    assert found <= bound(sigma(EPSILON, DELTA)) + ERROR


def test_all_that_is_told_together_keeps_to_the_whole_budget_and_uses_it(
    attack: Attack, contents: tuple[list[Content], list[Content]]
) -> None:
    found = auc(*(list(map(attack.by_all, told)) for told in contents))
    whole = bound(sigma(EPSILON, DELTA))
    assert whole - 2 * ERROR < found <= whole + ERROR


def test_without_noise_the_same_attacker_is_always_right(attack: Attack) -> None:
    vectors = np.concatenate([attack.vectors, attack.candidate])
    groups = np.append(attack.groups, np.full(4, 99))
    there = attack.by_topics(sketch(vectors, groups, SMALL, 1))
    gone = attack.by_topics(sketch(attack.vectors, attack.groups, SMALL, 1))
    assert auc([there] * 3, [gone] * 3) == 1.0


def test_the_shares_of_the_budget_add_up_to_all_of_it() -> None:
    assert math.isclose(TOPICS_SHARE + CELLS_SHARE + SIZE_SHARE, 1.0)


# -- with noise -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, LEAST - 1, LEAST, 100, 3000])
def test_a_noised_profile_of_any_size_is_one_that_gateways_take(size: int) -> None:
    for seed in range(5):
        content = noised_sketch(
            unit(size, 1, D), each_its_own(size), SMALL, LEAST, EPSILON, DELTA, draws(seed)
        )
        check(content, D)
        assert content.size >= 1
        assert bool(content.counts) == bool(content.topics) == (content.size >= LEAST)


def test_counts_of_a_noised_profile_sum_to_its_noised_size() -> None:
    content = told(unit(3000, 1, D), each_its_own(3000) // 2, 3)
    assert sum(content.counts) == pytest.approx(content.size)
    assert content.size == pytest.approx(3000, abs=60)
    assert 1 < len(content.counts) <= sketches.MOST_NOISED_CELLS


def test_the_noise_that_is_told_is_the_noise_that_is_there() -> None:
    vectors, groups = unit(40, 1, D), each_its_own(40)
    exact = sketches._near_topics(vectors, groups, SMALL)
    contents = [content for seed in range(40) if (content := told(vectors, groups, seed)).counts]
    off = np.array([near(content) - exact for content in contents])
    assert off.std() == pytest.approx(contents[0].topic_noise, rel=0.03)
    assert abs(off.mean()) < 0.03


def test_no_noise_is_drawn_but_from_the_given_bytes() -> None:
    vectors, groups = unit(80, 1, D), each_its_own(80)
    one, again, other = (told(vectors, groups, seed) for seed in (1, 1, 2))
    assert (one.topics, one.centroids, one.size) == (again.topics, again.centroids, again.size)
    assert one.topics != other.topics
    by_the_system = noised_sketch(vectors, groups, SMALL, 1, EPSILON, DELTA)
    assert by_the_system.topics != one.topics


def test_a_noised_profile_tells_no_spread_direction_or_variance_of_its_own() -> None:
    content = told(unit(80, 1, D), each_its_own(80), 1)
    assert set(content.spreads) == {sketches.USUAL_SPREAD}
    assert (content.rank, content.directions, content.variances) == (0, b"", ())


def test_topics_that_hold_most_are_found_again_under_noise() -> None:
    vectors = np.repeat(SMALL.vectors[[7, 300]], 400, axis=0)
    content = told(vectors, each_its_own(800), 1)
    assert set(np.argsort(-near(content))[:2]) == {7, 300}


def sizes_told(noised: Iterable[int]) -> float:
    return float(np.std(list(noised)))


def test_the_size_has_the_noise_that_hides_four_passages() -> None:
    contents = (told(unit(200, 1, D), each_its_own(200), seed).size for seed in range(150))
    spread = MOST_OF_A_GROUP * sigma(EPSILON, DELTA) / math.sqrt(SIZE_SHARE)
    assert sizes_told(contents) == pytest.approx(spread, rel=0.15)
