"""What profiles let expect: shares that sum to one, more for the nearer, the larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr

from siloquy.router import atlas as module
from siloquy.router.atlas import Atlas
from siloquy.text import lexicon as lexicons
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import EncoderSpec, Profile, Term, Vector
from tests.router.profiles import TOPICS, described, tiny

D = 16
SMALL = EncoderSpec("small", "00" * 32, D)
LEXICON = Lexicon(("ache", "fever", "rash"), {"ache": 0, "fever": 1, "rash": 2})
QUESTION = np.eye(D, dtype=np.float32)[0]


def topics() -> Topics:
    vectors = np.random.default_rng(0).normal(size=(TOPICS, D))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:2] = np.eye(D)[:2]
    return Topics(tuple(f"topic {i}" for i in range(TOPICS)), vectors.astype(np.float32), "anchors")


LIST = topics()


def silo(name: str, *cosines: float, near: int | None = None, **other: Any) -> Profile:
    """A silo of cells at these cosines to QUESTION, and all its documents near one topic."""
    means = np.zeros((len(cosines), D), dtype=np.float32)
    means[:, 0] = cosines
    told = () if near is None else np.eye(TOPICS)[near] * 60
    plain = described(name, means, topics=tuple(told), spread=0.2, encoder=SMALL)
    return replace(plain, **other)


def grown(profile: Profile, factor: float) -> Profile:
    """The same content in another amount."""
    held = np.frombuffer(profile.topics, dtype="<f2") * factor
    return replace(
        profile,
        size=round(profile.size * factor),
        counts=tuple(count * factor for count in profile.counts),
        topics=held.astype("<f2").tobytes(),
    )


def counting(profile: Profile, *counts: int) -> Profile:
    return replace(profile, frequencies=lexicons.pack(np.array(counts)))


def shares(
    profiles: Sequence[Profile], vector: Vector = QUESTION, words: Sequence[str] = (), k: int = 10
) -> NDArray[np.float64]:
    terms = [Term(word, 8.0) for word in words]
    return Atlas(profiles, LIST, LEXICON).expect(vector, terms, k).shares


cells = st.lists(st.floats(-0.8, 0.8), min_size=1, max_size=4)
sizes = st.integers(0, 2000)
noised = st.booleans()


@st.composite
def federations(draw: st.DrawFn, least: int = 1) -> list[Profile]:
    """Silos of any kind: with cells, with noise, with words, without anything but a size."""
    found = []
    for i in range(draw(st.integers(least, 5))):
        size = draw(sizes)
        if draw(st.integers(0, 4)) == 0:
            found.append(tiny(f"silo-{i}", size, encoder=SMALL))
            continue
        one = grown(silo(f"silo-{i}", *draw(cells), near=draw(st.integers(0, 3))), size / 60)
        if draw(noised):
            m = len(one.counts)
            one = replace(one, epsilon=8.0, delta=1e-5, topic_noise=1.0, noises=(0.1,) * m)
        elif draw(st.booleans()):
            one = counting(one, *draw(st.lists(st.integers(0, size), min_size=3, max_size=3)))
        found.append(one)
    return found


vectors = st.integers(0, 1000).map(
    lambda seed: (
        lambda vector: (vector / np.linalg.norm(vector)).astype(np.float32)
    )(np.random.default_rng(seed).normal(size=D))
)  # fmt: skip


@given(federations(), vectors, st.integers(1, 10**9), st.lists(st.sampled_from(LEXICON.words)))
def test_shares_sum_to_one_and_the_empty_hold_none(
    profiles: list[Profile], vector: Vector, k: int, words: list[str]
) -> None:
    found = shares(profiles, vector, words, k)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    if any(profile.size for profile in profiles):
        empty = [profile.size == 0 for profile in profiles]
        assert not found[empty].any()
        assert (found[~np.array(empty)] > 0).all()


@given(federations(least=2), vectors, st.integers(1, 50), st.floats(0.1, 0.9))
def test_no_silo_is_expected_to_hold_more_by_shrinking(
    profiles: list[Profile], vector: Vector, k: int, factor: float
) -> None:
    # Without words: the smaller a silo, the less it makes its own words common.
    profiles = [replace(profile, frequencies=b"", topic_noise=0.0) for profile in profiles]
    before = shares(profiles, vector, k=k)[0]
    after = shares([grown(profiles[0], factor), *profiles[1:]], vector, k=k)[0]
    assert after <= before * 1.03 + 1e-3


def test_no_profiles_hold_nothing() -> None:
    found = Atlas((), LIST, LEXICON).expect(QUESTION, (), 10)
    assert found.shares.shape == (0,)


def test_where_nobody_holds_anything_all_are_alike() -> None:
    assert shares([silo("a", 0.5, size=0, counts=(0.0,)), tiny("b", 0)]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_cells_without_passages_say_nothing(noise: float) -> None:
    empty = [
        silo(name, 0.5, counts=(0.0,), noises=(noise,), topics=bytes(2 * TOPICS)) for name in "ab"
    ]
    assert shares(empty) == pytest.approx([0.5, 0.5])


def test_the_nearer_holds_more() -> None:
    found = shares([silo("far", 0.1), silo("near", 0.6)])
    assert found[1] > 0.8


def test_one_near_cell_counts_more_than_many_middling_ones() -> None:
    found = shares([silo("mixed", 0.0, 0.0, 0.0, 0.8), silo("even", 0.4, 0.4, 0.4, 0.4)], k=5)
    assert found[0] > found[1]


def test_spread_towards_the_question_reaches_further_than_spread_away_from_it() -> None:
    def along(name: str, axis: int) -> Profile:
        codes = np.zeros(D, dtype=np.uint8)
        codes[axis] = 7
        packed = (codes[0::2] | codes[1::2] << 4).tobytes()
        return silo(name, 0.3, rank=1, directions=packed, variances=(0.15,))

    found = shares([along("towards", 0), along("away", 1), silo("told nothing", 0.3)], k=5)
    assert found[0] > found[2] > found[1]


def test_whose_documents_lie_near_the_questions_topic_holds_more() -> None:
    found = shares([silo("there", 0.3, near=0), silo("elsewhere", 0.3, near=1)])
    assert found[0] > 0.6


def test_who_has_the_questions_words_holds_more() -> None:
    silos = [counting(silo("a", 0.3), 30, 1, 0), counting(silo("b", 0.3), 1, 30, 0)]
    assert shares(silos, words=["fever"])[1] > 0.55
    assert shares(silos, words=["ache", "unheard"])[0] > 0.55
    assert shares(silos, words=["rash"]) == pytest.approx([0.5, 0.5])
    assert shares(silos) == pytest.approx([0.5, 0.5])


def test_a_silo_that_counts_no_words_is_taken_to_be_as_the_others() -> None:
    silos = [counting(silo("a", 0.3), 0, 0, 0), counting(silo("b", 0.3), 9, 0, 0), silo("c", 0.3)]
    found = shares(silos, words=["ache"])
    assert found[0] < found[2] < found[1]


def test_words_are_not_read_where_profiles_are_noised() -> None:
    silos = [counting(silo("a", 0.3), 30, 1, 0), silo("b", 0.3, epsilon=8.0, delta=1e-5)]
    assert not Atlas(silos, LIST, LEXICON).reads_words
    assert shares(silos, words=["ache"]) == pytest.approx(shares(silos))


def test_noised_means_are_drawn_towards_those_of_the_federation() -> None:
    loud: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-5}
    clear = [silo("a", 0.6, **loud), silo("b", 0.2, **loud)]
    noisy = [replace(profile, noises=(0.3,)) for profile in clear]
    assert 0.5 < shares(noisy)[0] < shares(clear)[0]


def test_a_size_alone_counts_as_much_as_the_others_hold_and_more() -> None:
    found = shares([silo("a", 0.4), silo("b", 0.4), tiny("small", 6, encoder=SMALL)])
    assert 0.1 < found[2] < found[0]


def test_a_size_alone_cannot_be_claimed_to_be_huge() -> None:
    huge, large = (
        shares([grown(silo("a", 0.4), 20), tiny("x", size, encoder=SMALL)])[1]
        for size in (10**12, module.MOST_UNDESCRIBED)
    )
    assert huge == large < 0.75


def test_a_claim_beyond_length_one_counts_as_one() -> None:
    long = np.full((1, D), 1.0, dtype=np.float32)
    means = described("x", long, encoder=SMALL, spread=0.0)
    found = Atlas([means, silo("a", 0.5)], LIST, LEXICON)
    assert found.reach(0, np.full(D, 0.25, dtype=np.float32), 10) <= 1.1


def test_with_a_thousand_cells_only_the_likely_are_looked_at() -> None:
    generator = np.random.default_rng(0)
    many = [silo(f"s{i}", *generator.uniform(-0.7, 0.7, 16)) for i in range(40)]
    whole = shares(many)
    assert len(many) * 16 > module.MOST_LIKELY_CELLS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_LIKELY_CELLS", 10**6)
        assert shares(many) == pytest.approx(whole, rel=1e-2, abs=1e-5)


amounts = st.lists(
    st.tuples(st.floats(-1, 1), st.floats(0.02, 0.5), st.floats(0.1, 1000)), min_size=1, max_size=5
)


@given(amounts, st.integers(1, 200))
def test_the_threshold_is_exceeded_by_k_or_by_half_of_all(
    cells: list[tuple[float, float, float]], k: int
) -> None:
    means, deviations, counts = np.array(cells).T
    found = module._threshold(means, deviations, counts, k)
    over = float((counts * ndtr((means - found) / deviations)).sum())
    assert over == pytest.approx(min(k, 0.5 * counts.sum()), rel=0.02)


def test_a_silo_reaches_as_far_as_the_cells_that_hold_enough() -> None:
    means = np.outer([0.8, 0.3], QUESTION).astype(np.float32)
    silos = [
        described(name, means, counts=counts, size=int(sum(counts)), encoder=SMALL)
        for name, counts in (("near", (30.0, 30.0)), ("far", (5.0, 60.0)), ("tiny", (4.0, 3.0)))
    ]
    atlas = Atlas(silos, LIST, LEXICON)
    found = [atlas.reach(row, QUESTION, 10) for row in range(3)]
    assert found == pytest.approx([0.8, 0.3, 0.8], abs=0.01)


def test_a_silo_is_about_the_questions_topics_that_it_holds() -> None:
    silos = [silo("a", 0.3, near=0), silo("b", 0.3, near=1), silo("c", 0.3)]
    atlas = Atlas(silos, LIST, LEXICON)
    between = ((np.eye(D)[0] + np.eye(D)[1]) / 2**0.5).astype(np.float32)
    towards = atlas.expect(between, (), 10).towards
    assert towards.sum() == pytest.approx(1)
    first, second, any_topic = atlas.about([0, 1, 2], towards)
    assert (first, second) == (("topic 0",), ("topic 1",))
    assert set(any_topic) <= set(LIST.names)
    assert atlas.about([], towards) == []


def test_the_atlas_tells_what_a_silo_claims() -> None:
    silos = [silo("a", 0.3), silo("b", 0.5, -0.5, near=1)]
    atlas = Atlas(silos, LIST, LEXICON)
    means, counts = atlas.cells(1)
    assert means[:, 0] == pytest.approx([0.5, -0.5], abs=0.01)
    assert counts.tolist() == [30, 30]
    assert atlas.near(1).argmax() == 1
    assert atlas.near(0).sum() == pytest.approx(60, rel=0.05)
