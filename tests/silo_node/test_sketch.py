"""What a silo tells of its content: nothing when it is small, little when it is large."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siloquy import embed
from siloquy import lexicon as lexicons
from siloquy.codec import encode
from siloquy.lexicon import Lexicon
from siloquy.router.profile import centroids, check
from siloquy.settings import EncoderSettings
from siloquy.silo_node.chunk import Span
from siloquy.silo_node.sketch import (
    LEAST_PASSAGES,
    LIFETIME_MS,
    MOST_CENTROIDS,
    PASSAGES_PER_CENTROID,
    sketch,
)
from siloquy.silo_node.store import Indexed, Store
from siloquy.types import NodeId, Profile, Vector
from tests.silo_node.hospital import document, fill, open_store
from tests.siloquy.federation import ENCODER, NOW

NORTH = NodeId("north")
LEXICON = Lexicon(("fever", "insulin", "sepsis"), {"fever": 0, "insulin": 1, "sepsis": 2})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "silo.sqlite")) as opened:
        yield opened


def put(store: Store, vectors: Vector, text: str = "fever") -> None:
    """One document a row of ``vectors``."""
    first = store.counts().documents
    store.put(
        [
            Indexed(document(f"{first + i}", text), (Span(0, len(text)),), row.reshape(1, -1), "")
            for i, row in enumerate(vectors)
        ]
    )


def unit(n: int, seed: int = 0, around: int | None = None) -> Vector:
    """(n, 384) random directions, near one axis if given."""
    vectors = np.random.default_rng(seed).standard_normal((n, ENCODER.dimension))
    if around is not None:
        vectors = 0.1 * vectors / np.sqrt(ENCODER.dimension)
        vectors[:, around] += 1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def profile_of(store: Store, lexicon: Lexicon = LEXICON) -> Profile:
    return sketch(store, NORTH, ENCODER, lexicon, 3, NOW)


def test_a_small_silo_tells_its_size_alone(store: Store) -> None:
    put(store, unit(LEAST_PASSAGES - 1))
    profile = profile_of(store)
    assert (profile.size, profile.centroids, profile.counts, profile.radii) == (19, b"", (), ())
    assert lexicons.unpack(profile.frequencies, LEXICON).tolist() == [0, 0, 0]
    check(profile, ENCODER)


def test_an_empty_silo_tells_that_it_is(store: Store) -> None:
    profile = profile_of(store)
    assert (profile.size, profile.counts, profile.centroids) == (0, (), b"")


def test_from_twenty_passages_on_a_silo_describes_itself(store: Store) -> None:
    put(store, unit(LEAST_PASSAGES))
    profile = profile_of(store)
    assert (profile.size, profile.counts) == (20, (20,))
    assert lexicons.unpack(profile.frequencies, LEXICON)[0] == pytest.approx(20, rel=0.05)
    check(profile, ENCODER)


def test_name_version_encoder_and_dates_are_those_given(store: Store) -> None:
    profile = profile_of(store)
    assert (profile.silo, profile.version, profile.encoder) == (NORTH, 3, ENCODER)
    assert (profile.created, profile.expires) == (NOW, NOW + LIFETIME_MS)


@pytest.mark.parametrize("size", [20, 79, 80, 333, 3 * MOST_CENTROIDS * PASSAGES_PER_CENTROID])
def test_counts_sum_to_the_size(store: Store, size: int) -> None:
    put(store, unit(size))
    profile = profile_of(store)
    assert (profile.size, sum(profile.counts)) == (size, size)
    assert len(profile.counts) == min(MOST_CENTROIDS, max(size // PASSAGES_PER_CENTROID, 1))
    check(profile, ENCODER)


def test_a_profile_of_five_thousand_passages_keeps_to_32_kb(store: Store) -> None:
    lexicon = lexicons.load(embed.model_folder(EncoderSettings()))
    rng = np.random.default_rng(7)
    # A rank's frequency as in natural language (Zipf), so that most words of the lexicon occur.
    ranks = np.minimum(rng.zipf(1.2, size=(5000, 80)), len(lexicon)) - 1
    order = rng.permutation(len(lexicon))
    vectors = unit(5000)
    store.put(
        [
            Indexed(
                document(str(i), text := " ".join(lexicon.words[j] for j in order[row])),
                (Span(0, len(text)),),
                vectors[i : i + 1],
                "",
            )
            for i, row in enumerate(ranks)
        ]
    )
    profile = profile_of(store, lexicon)
    assert (profile.size, len(profile.counts)) == (5000, MOST_CENTROIDS)
    assert np.count_nonzero(lexicons.unpack(profile.frequencies, lexicon)) > 10_000
    assert len(encode(profile)) < 32 * 1024


def test_centroids_are_the_means_of_the_clusters(store: Store) -> None:
    put(store, unit(100, 1, around=0))
    put(store, unit(60, 2, around=1))
    profile = profile_of(store)
    # Seeded 12-step k-means with 4 means over two far clusters: each mean lies in one of them.
    means = centroids(profile)
    nearest = np.argmax(means[:, :2], axis=1)
    counts = np.bincount(nearest, weights=profile.counts, minlength=2)
    assert counts.tolist() == [100, 60]
    assert (means.max(axis=1) > 0.95).all()


def test_a_radius_is_the_root_mean_square_distance_to_the_mean(store: Store) -> None:
    vectors = unit(79)
    put(store, vectors)
    (radius,) = profile_of(store).radii
    distances = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    assert radius == pytest.approx(float(np.sqrt(np.mean(distances**2))), rel=1e-4)


def test_equal_passages_have_no_radius(store: Store) -> None:
    put(store, np.repeat(unit(1), 100, axis=0))
    profile = profile_of(store)
    assert sum(profile.counts) == 100
    assert max(profile.radii) < 1e-3
    check(profile, ENCODER)


def test_a_sketch_can_be_made_again(store: Store) -> None:
    put(store, unit(200))
    assert profile_of(store) == profile_of(store)


def test_only_words_of_the_public_lexicon_are_counted(store: Store) -> None:
    fill(store, [document(str(i), "Insulin for Mrs Featherstonehaugh.") for i in range(25)])
    profile = profile_of(store)
    counts = lexicons.unpack(profile.frequencies, LEXICON)
    assert counts == pytest.approx([0, 25, 0], rel=0.05)
    assert len(zlib.decompress(profile.frequencies)) == len(LEXICON)


def test_a_sketch_holds_no_number_of_a_deleted_passage(store: Store) -> None:
    put(store, unit(60))
    whole = profile_of(store)
    store.delete(document("0", "").id)
    assert (whole.size, profile_of(store).size) == (60, 59)
    assert replace(whole, size=59) != profile_of(store)
