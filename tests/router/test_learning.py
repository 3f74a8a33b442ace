"""What feedback changes: nothing without records, little after few, the truth after many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from siloquy.router import learning
from siloquy.router.learning import LearnedCorrection, Lessons, learn
from siloquy.types import Vector

SILOS = 4
TOPICS = ("heart failure", "renal stones", "skin rash")


def questions(n: int, seed: int) -> tuple[Vector, tuple[tuple[str, ...], ...], NDArray[np.int64]]:
    """Vectors around three topics, words of the topic among others, and each one's topic."""
    generator = np.random.default_rng(seed)
    middles = np.random.default_rng(7).normal(size=(len(TOPICS), 16))
    topics = generator.integers(0, len(TOPICS), n)
    vectors = middles[topics] + 0.7 * generator.normal(size=(n, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fillers = generator.integers(0, 50, (n, 3))
    words = tuple(
        ("what", *TOPICS[topic].split(), *(f"word{filler}" for filler in row))
        for topic, row in zip(topics, fillers, strict=True)
    )
    return vectors.astype(np.float32), words, topics


def lessons(n: int, seed: int = 0) -> Lessons:
    """Silo i mostly holds topic i; the last silo holds a tenth of anything."""
    vectors, words, topics = questions(n, seed)
    rates = np.full((n, SILOS), 0.1)
    rates[np.arange(n), topics] = 0.9
    targets = (np.random.default_rng(seed + 1).random((n, SILOS)) < rates).astype(np.float64)
    return Lessons(vectors, words, targets)


def adjusted(learned: LearnedCorrection, asked: Lessons) -> NDArray[np.float64]:
    offsets = [None] * len(asked.words) if asked.offsets is None else list(asked.offsets)
    rows = zip(asked.vectors, asked.words, offsets, strict=True)
    return np.stack([learned.adjust(*row) for row in rows])


def loss(odds: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, odds) - targets * odds).mean())


def test_nothing_learned_changes_nothing() -> None:
    learned = learn(lessons(0))
    test = replace(lessons(5), offsets=np.full((5, SILOS), -2.0))
    assert not adjusted(learned, test).any()
    assert learned.adjust(test.vectors[0], (), None).shape == (SILOS,)


def test_a_silo_that_was_never_asked_is_left_alone() -> None:
    some = lessons(40)
    some.targets[:, 2] = np.nan
    offsets = np.random.default_rng(0).normal(size=(40, SILOS))
    changes = adjusted(learn(replace(some, offsets=offsets)), replace(some, offsets=offsets))
    assert not changes[:, 2].any()
    assert changes[:, [0, 1, 3]].any(axis=0).all()


def test_records_in_which_nobody_was_asked_change_nothing() -> None:
    some = lessons(10)
    some.targets[:] = np.nan
    assert not adjusted(learn(some), lessons(5)).any()


def test_records_of_other_silos_do_not_move_a_rate() -> None:
    whole = lessons(60)
    censored = replace(whole, targets=whole.targets.copy())
    censored.targets[:50, 0] = np.nan
    odds = learn(censored).levels
    alone = learn(replace(whole, targets=np.where(np.arange(SILOS) == 0, np.nan, whole.targets)))
    assert odds[1:] == pytest.approx(alone.levels[1:], abs=0.5)


def test_one_record_moves_the_prior_a_little_and_many_move_it_to_the_rate() -> None:
    vectors, words, _ = questions(400, 3)
    targets = (np.random.default_rng(4).random((400, 2)) < [0.02, 0.9]).astype(np.float64)
    few = learn(Lessons(vectors[:1], words[:1], np.zeros((1, 2))))
    many = learn(Lessons(vectors, words, targets))
    assert np.abs(few.adjust(vectors[5], words[5])).max() < 1.0
    rates = expit(adjusted(many, Lessons(vectors, words, targets))).mean(axis=0)
    assert rates == pytest.approx(targets.mean(axis=0), abs=0.05)


def test_many_records_tell_which_silo_holds_a_topic() -> None:
    test = lessons(300, seed=50)
    odds = adjusted(learn(lessons(600)), test)
    assert loss(odds, test.targets) < loss(np.zeros(odds.shape), test.targets) - 0.2
    assert loss(odds, test.targets) < 0.40


def test_words_alone_are_enough_to_learn_from() -> None:
    train, test = lessons(400), lessons(200, seed=9)
    blind = np.full((600, 16), 0.25, dtype=np.float32)
    learned = learn(replace(train, vectors=blind[:400]))
    odds = adjusted(learned, replace(test, vectors=blind[400:]))
    assert loss(odds, test.targets) < 0.42


def test_more_records_do_better() -> None:
    test = lessons(200, seed=50)
    reached = [loss(adjusted(learn(lessons(n)), test), test.targets) for n in (0, 10, 50, 300)]
    assert reached[0] > reached[1] + 0.1 > reached[2] + 0.15
    assert reached[3] < reached[2] + 0.01


def test_a_right_prior_survives_a_few_records() -> None:
    test = lessons(300, seed=50)
    right = np.where(np.eye(3, SILOS)[questions(300, 50)[2]] > 0, 2.2, -2.2)
    harm = []
    for seed in range(5):
        few = lessons(3, seed)
        held = np.where(np.eye(3, SILOS)[questions(3, seed)[2]] > 0, 2.2, -2.2)
        learned = learn(replace(few, offsets=held))
        odds = right + adjusted(learned, replace(test, offsets=right))
        harm.append(loss(odds, test.targets) - loss(right, test.targets))
    assert np.mean(harm) < 0.05


def test_a_timid_prior_is_stretched() -> None:
    train = lessons(300)
    right = np.where(np.eye(3, SILOS)[questions(300, 0)[2]] > 0, 2.2, -2.2)
    assert learn(replace(train, offsets=right / 2)).slopes.min() > 0.3
    assert abs(learn(replace(train, offsets=right)).slopes).max() < 0.3
    assert learn(replace(train, offsets=-right)).slopes.max() < -0.5


def test_grades_count_for_more_than_yes_and_no() -> None:
    vectors, words, topics = questions(60, 0)
    grades = 0.2 + 0.1 * np.eye(3)[topics]
    votes = (np.random.default_rng(0).random(grades.shape) < grades).astype(np.float64)
    truth = np.log(grades / (1 - grades))
    errors = [
        np.abs(adjusted(learn(some), some) - truth).mean()
        for some in (Lessons(vectors, words, grades), Lessons(vectors, words, votes))
    ]
    assert errors[0] < 0.15 < errors[1]


def test_the_same_records_give_the_same_answer() -> None:
    first, second = (adjusted(learn(lessons(80)), lessons(20, 5)) for _ in range(2))
    assert np.array_equal(first, second)


def test_repeated_questions_and_infinite_priors_are_no_trouble() -> None:
    some = lessons(20)
    vectors, words = np.repeat(some.vectors[:1], 20, axis=0), (some.words[0],) * 20
    offsets = np.full((20, SILOS), np.inf)
    learned = learn(Lessons(vectors, words, some.targets, offsets))
    assert np.isfinite(learned.adjust(vectors[0], words[0], offsets[0])).all()


def test_beyond_the_landmarks_the_answer_hardly_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = lessons(300), lessons(200, seed=50)
    exact = adjusted(learn(train), test)
    monkeypatch.setattr(learning, "LANDMARKS", 100)
    learned = learn(train)
    assert len(learned.places.vectors) == 100
    assert np.corrcoef(exact.ravel(), adjusted(learned, test).ravel())[0, 1] > 0.98


@settings(max_examples=15)
@given(
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.floats(0, 1),
    st.booleans(),
)
def test_changes_are_finite_and_follow_the_order_of_silos(
    n: int, silos: int, seed: int, hidden: float, prior: bool
) -> None:
    generator = np.random.default_rng(seed)
    vectors, words, _ = questions(n, seed)
    targets = generator.random((n, silos))
    targets[generator.random((n, silos)) < hidden] = np.nan
    offsets = generator.normal(size=(n, silos)) if prior else None
    order = generator.permutation(silos)
    turned = None if offsets is None else offsets[:, order]
    here = adjusted(learn(Lessons(vectors, words, targets, offsets)), Lessons(*asked(n, offsets)))
    there = adjusted(
        learn(Lessons(vectors, words, targets[:, order], turned)), Lessons(*asked(n, turned))
    )
    assert np.isfinite(here).all()
    assert there == pytest.approx(here[:, order], abs=0.02)
    assert not here[:, np.isnan(targets).all(axis=0)].any()


def asked(
    n: int, offsets: NDArray[np.float64] | None
) -> tuple[Vector, tuple[tuple[str, ...], ...], NDArray[np.float64], NDArray[np.float64] | None]:
    vectors, words, _ = questions(n, 99)
    return vectors, words, np.zeros((n, 1)), offsets
