"""Differential privacy: enough noise, of the right shape, and an account that cannot be overdrawn.

Every random test has its own fixed generator in place of the operating system's.
"""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import NormalDist

import dp_accounting
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from siloquy.database import connect, transaction
from siloquy.errors import BudgetExhausted
from siloquy.silo_node.privacy import (
    MOST_SIGMA,
    SCHEMA,
    Draw,
    Releases,
    bounded,
    composed,
    discrete_gaussian,
    noised,
    period_of,
    sigma,
)

DELTA = 1e-5
TRIALS = 1000
PHI = NormalDist().cdf


def seeded(seed: int) -> Draw:
    return np.random.default_rng(seed).bytes


def masses(spread: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Integers out to 12 ``spread`` and their probabilities under the discrete Gaussian."""
    reach = math.ceil(12 * spread) + 1
    points = np.arange(-reach, reach + 1)
    weights = np.exp(-((points / spread) ** 2) / 2)
    return points, weights / weights.sum()


# -- how much noise -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "delta", "expected"),
    [
        (1.0, 1e-5, 3.7306),
        (2.0, 1e-5, 1.9938),
        (4.0, 1e-5, 1.0812),
        (8.0, 1e-5, 0.6002),
        (1.0, 1e-6, 4.2247),
        (8.0, 1e-6, 0.6529),
    ],
)
def test_sigma_is_the_analytic_gaussian_mechanisms(
    epsilon: float, delta: float, expected: float
) -> None:
    assert sigma(epsilon, delta) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_sigma_spends_all_of_delta_and_no_more(epsilon: float, delta: float) -> None:
    # Balle and Wang 2018, equation 6, for sensitivity 1.
    s = sigma(epsilon, delta)
    left = PHI(0.5 / s - epsilon * s) - math.exp(epsilon) * PHI(-0.5 / s - epsilon * s)
    assert left == pytest.approx(delta, rel=1e-6)


def test_no_privacy_needs_no_noise() -> None:
    assert sigma(math.inf, DELTA) == 0.0


def test_a_senseless_epsilon_gives_next_to_no_noise_and_no_warning() -> None:
    assert 0 < sigma(1e8, DELTA) < 1e-4


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_epsilon_must_be_above_0(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        sigma(epsilon, DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_must_be_between_0_and_1(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must be between 0 and 1"):
        sigma(1.0, delta)
    with pytest.raises(ValueError, match="delta must be between 0 and 1"):
        composed([1.0], delta)


def test_a_serving_silo_does_not_load_the_accountant() -> None:
    program = (
        "import sys, numpy\n"
        "from siloquy.silo_node.privacy import bounded, noised, sigma\n"
        "noised(numpy.zeros(3), 1.0, 2.0), bounded(numpy.zeros(3, int)), sigma(float('inf'), .1)\n"
        "sys.exit('dp_accounting' in sys.modules or 'scipy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603


# -- releases together ----------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-5, 1e-9])
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 8.0, 50.0])
def test_one_release_composes_to_the_epsilon_that_it_was_made_for(
    epsilon: float, delta: float
) -> None:
    total = composed([sigma(epsilon, delta)], delta)
    assert epsilon * (1 - 1e-9) <= total <= epsilon * (1 + 1e-4)


@pytest.mark.parametrize("sigmas", [[1.0], [2.0] * 4, [3.7, 3.6, 1.1], [20.0, 0.9]])
def test_releases_compose_as_the_accountant_composes_them_one_by_one(sigmas: list[float]) -> None:
    slow = dp_accounting.pld.PLDAccountant(value_discretization_interval=1e-3)
    for one in sigmas:
        slow.compose(dp_accounting.GaussianDpEvent(one))
    assert composed(sigmas, DELTA) == pytest.approx(slow.get_epsilon(DELTA), rel=1e-4)


@pytest.mark.parametrize(
    ("sigmas", "expected"), [([1.0], 4.377), ([2.0] * 20, 11.48)], ids=["one", "twenty"]
)
def test_releases_come_to_the_epsilon_that_was_measured_before(
    sigmas: list[float], expected: float
) -> None:
    assert composed(sigmas, DELTA) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("sigmas", [[1.0], [2.0] * 20, [3.7, 3.6, 1.1]])
def test_renyi_accounting_never_comes_to_less(sigmas: list[float]) -> None:
    renyi = dp_accounting.rdp.RdpAccountant()
    for one in sigmas:
        renyi.compose(dp_accounting.GaussianDpEvent(one))
    assert renyi.get_epsilon(DELTA) >= composed(sigmas, DELTA)


def test_no_release_and_endless_noise_cost_nothing() -> None:
    assert composed([], DELTA) == composed([math.inf, math.inf], DELTA) == 0.0


@pytest.mark.parametrize("bare", [0.0, 5e-324, 1e-9])
def test_one_release_without_noise_leaves_no_privacy(bare: float) -> None:
    assert composed([4.0, bare], DELTA) == math.inf


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_a_noise_multiplier_below_0_cannot_be_composed(wrong: float) -> None:
    with pytest.raises(ValueError, match="sigma must be at least 0"):
        composed([1.0, wrong], DELTA)


# -- the discrete Gaussian ------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.4, 1.0, 3.0, 20.5])
def test_each_integer_comes_as_often_as_it_should(spread: float) -> None:
    n = 200_000
    points, shares = masses(spread)
    samples = discrete_gaussian(spread, n, seeded(1))
    common = n * shares >= 10
    seen = np.bincount(samples - points[0], minlength=len(points))[common]
    expected = n * shares[common]
    chi_square = ((seen - expected) ** 2 / expected).sum()
    degrees = common.sum() - 1
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees)
    assert n - seen.sum() <= 10 + 2 * n * shares[~common].sum()


@pytest.mark.parametrize("spread", [0.5, 2.0, 1000.0, 1e7, 2.0**50])
def test_mean_variance_and_tails_are_the_discrete_gaussians(spread: float) -> None:
    n = 100_000
    z = discrete_gaussian(spread, n, seeded(2)) / spread
    points, shares = masses(min(spread, 1000.0))
    theory = points / min(spread, 1000.0)
    variance = float((theory**2 * shares).sum())
    fourth = float((theory**4 * shares).sum())
    assert abs(z.mean()) < 4 * math.sqrt(variance / n)
    assert abs((z**2).mean() - variance) < 4 * math.sqrt((fourth - variance**2) / n)
    for edge in (1.25, 2.25, 3.25):
        tail = float(shares[np.abs(theory) > edge].sum())
        assert abs((np.abs(z) > edge).mean() - tail) < 4 * math.sqrt(tail / n) + 2e-5


def test_a_wide_one_is_normal_and_has_no_preferred_low_bits() -> None:
    n = 100_000
    samples = discrete_gaussian(1e7, n, seeded(3))
    ranked = np.sort(samples / 1e7)
    normal = np.array([PHI(z) for z in ranked[::100]])
    assert np.abs(normal - np.arange(0, n, 100) / n).max() < 1.95 / math.sqrt(n)
    assert np.abs(np.bincount(samples % 16, minlength=16) - n / 16).max() < 4 * math.sqrt(n / 16)


def test_samples_are_independent_of_their_neighbours() -> None:
    z = discrete_gaussian(50.0, 100_000, seeded(4)) / 50
    assert abs((z[1:] * z[:-1]).mean()) < 4 / math.sqrt(len(z))


def test_the_same_bytes_give_the_same_samples_and_others_others() -> None:
    one, same, other = (discrete_gaussian(9.0, 50, seeded(seed)) for seed in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()


def test_the_operating_system_draws_unless_told_otherwise() -> None:
    samples = discrete_gaussian(1e6, 50)
    assert samples.shape == (50,)
    assert samples.dtype == np.int64
    assert len(set(samples.tolist())) > 1


def test_no_spread_is_no_noise() -> None:
    assert discrete_gaussian(0.0, 4).tolist() == [0, 0, 0, 0]
    assert discrete_gaussian(1e-300, 4, seeded(7)).tolist() == [0, 0, 0, 0]


def test_no_samples_are_no_samples() -> None:
    assert discrete_gaussian(3.0, 0, seeded(7)).shape == (0,)


@pytest.mark.parametrize(("spread", "rounds"), [(4.0, 2), (3.0, 1)], ids=["5", "4, no remainder"])
def test_no_remainder_is_likelier_than_another(spread: float, rounds: int) -> None:
    # 2 ** 64 - 1 is the last, incomplete run of remainders by 5, and must be drawn again.
    calls: list[int] = []
    draw = seeded(7)

    def last_word_first(n: int) -> bytes:
        calls.append(n)
        return b"\xff" * n if len(calls) == 1 else draw(n)

    discrete_gaussian(spread, 1, last_word_first)
    assert len(calls) == 5 * rounds


@pytest.mark.parametrize("wrong", [-1.0, math.nan, MOST_SIGMA * 2, math.inf])
def test_a_spread_that_cannot_be_drawn_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="sigma must be at"):
        discrete_gaussian(wrong, 1)


def test_a_whole_profile_takes_well_under_half_a_second() -> None:
    start = time.process_time()
    discrete_gaussian(1e6, 40_000)
    assert time.process_time() - start < 0.5


# -- noised values --------------------------------------------------------------------------------


def steps_of(values: NDArray[np.float64]) -> float:
    """The greatest power of two that all ``values`` are whole multiples of."""
    step = 2.0**10
    while (values % step).any():
        step /= 2
    return step


@pytest.mark.parametrize("n", [1, 384, 40_000])
def test_noise_has_the_scale_that_sensitivity_and_rounding_ask_for(n: int) -> None:
    draw, many = seeded(8), max(1000 // n, 1)
    drawn = [noised(np.full(n, math.pi), 3.0, 2.0, draw) - math.pi for _ in range(many)]
    noise = np.concatenate(drawn)
    assert noise.std() == pytest.approx(6.0, rel=4 / math.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 * 6 / math.sqrt(noise.size)


@pytest.mark.parametrize("n", [1, 384, 40_000])
@pytest.mark.parametrize("multiplier", [0.6, 4.0, 36.0])
def test_the_grid_is_fine_beside_the_noise_and_beside_the_sensitivity(
    n: int, multiplier: float
) -> None:
    draw = seeded(9)
    step = steps_of(np.array([noised(np.zeros(n), 1.0, multiplier, draw)[0] for _ in range(12)]))
    assert step * math.sqrt(n) <= 1.0 / 1024
    assert multiplier / 1024 / 2 < step * max(1.0, multiplier * math.sqrt(n)) <= multiplier / 1024


@given(
    arrays(np.float64, 5, elements=st.floats(-1e6, 1e6)),
    st.sampled_from([1e-3, 1.0, math.sqrt(2), 50.0]),
)
def test_what_comes_out_is_on_the_same_grid_whatever_went_in(
    values: NDArray[np.float64], sensitivity: float
) -> None:
    step = 2.0 ** math.floor(math.log2(sensitivity / math.sqrt(5) / 1024))
    out = noised(values, sensitivity, 3.0, seeded(10))
    assert (out % step == 0).all()
    assert not np.signbit(out[out == 0]).any()


def test_values_that_round_alike_come_out_alike() -> None:
    one, other = (noised(np.array([x]), 1.0, 1.0, seeded(11)) for x in (0.1, 0.1 + 1e-9))
    assert one == other


def test_noise_keeps_the_shape() -> None:
    assert noised(np.zeros((3, 4)), 1.0, 1.0, seeded(12)).shape == (3, 4)
    assert noised(np.zeros((0, 4)), 1.0, 1.0, seeded(12)).shape == (0, 4)


def test_without_noise_values_stay_as_they_are() -> None:
    values = np.array([math.pi, -1e-9])
    assert noised(values, 1.0, 0.0).tolist() == values.tolist()


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_a_sensitivity_must_be_above_0_and_finite(wrong: float) -> None:
    with pytest.raises(ValueError, match="sensitivity must be above 0 and finite"):
        noised(np.zeros(1), wrong, 1.0)


def test_noise_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="sigma must be at least 0"):
        noised(np.zeros(1), 1.0, -1.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1e300])
def test_a_value_off_the_grid_is_refused_and_not_repeated(wrong: float) -> None:
    with pytest.raises(ValueError, match="not finite or too large") as refused:
        noised(np.array([0.0, wrong]), 1.0, 1.0)
    assert str(wrong) not in str(refused.value)


# -- what an attacker gets ------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_grid_gives_away_no_more_than_the_continuous_gaussian(epsilon: float) -> None:
    # One coordinate takes the whole sensitivity: nothing averages the grid's effect out.
    multiplier = sigma(epsilon, DELTA)
    shift = round(2.0 ** -math.floor(math.log2(min(multiplier, 1.0) / 1024))) + 1
    points, with_group = masses(multiplier * shift)
    log_ratio = (2 * points * shift - shift**2) / (2 * (multiplier * shift) ** 2)
    left = with_group * np.maximum(0, 1 - np.exp(np.minimum(epsilon + log_ratio, 1.0)))
    assert left.sum() == pytest.approx(DELTA, rel=1e-5)


def area(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a member scores higher, ties half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, side="left")
    not_above = np.searchsorted(ordered, members, side="right")
    return float((below + not_above).mean() / 2 / len(others))


def attacked(multiplier: float, trials: int = TRIALS) -> float:
    """AUC of the likelihood ratio between sums with and without one unit vector."""
    d, draw = 16, seeded(13)
    rest = np.random.default_rng(14).normal(size=d)
    victim = np.full(d, 1 / math.sqrt(d))
    scores = [
        [float(noised(total, 1.0, multiplier, draw) @ victim) for _ in range(trials)]
        for total in (rest + victim, rest)
    ]
    return area(np.array(scores[0]), np.array(scores[1]))


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_best_attacker_on_a_noised_sum_stays_at_the_ceiling(epsilon: float) -> None:
    multiplier = sigma(epsilon, DELTA)
    ceiling = PHI(1 / (multiplier * math.sqrt(2)))
    error = 1 / math.sqrt(6 * TRIALS)
    found = attacked(multiplier)
    assert found <= ceiling + 3 * error
    # Far below would be a weak attacker, and no evidence.
    assert found >= ceiling - 3 * error


def test_without_noise_the_same_attacker_always_wins() -> None:
    assert attacked(0.0, trials=50) == 1.0


# -- what a group contributes ---------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 5), max_size=40),
    st.integers(1, 6),
)
def test_no_group_weighs_more_than_allowed(numbers: list[int], most: int) -> None:
    groups = np.array(numbers, dtype=np.int64)
    weights = bounded(groups, most)
    assert weights.shape == groups.shape
    assert weights.dtype == np.float64
    for group in set(numbers):
        of_group = weights[groups == group]
        assert of_group.sum() == pytest.approx(min(most, len(of_group)))
        assert len(set(of_group.tolist())) == 1


def test_a_group_moves_the_weighted_sum_by_no_more_than_its_weight() -> None:
    rng = np.random.default_rng(15)
    groups = rng.integers(0, 40, size=500)
    vectors = rng.normal(size=(500, 8)) + 2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for most in (1, 3):
        weighted = bounded(groups, most)[:, None] * vectors
        moved = [np.linalg.norm(weighted[groups == g].sum(axis=0)) for g in range(40)]
        assert most * 0.5 < max(moved) <= most * (1 + 1e-12)


def test_another_groups_passages_do_not_change_a_groups_weights() -> None:
    groups = np.array([3, 3, 8, 8, 8, 5])
    assert bounded(groups)[groups != 8].tolist() == bounded(groups[groups != 8]).tolist()


def test_a_group_must_count_for_something() -> None:
    with pytest.raises(ValueError, match="most must be at least 1"):
        bounded(np.zeros(1, dtype=np.int64), 0)


# -- the account ----------------------------------------------------------------------------------

NEW_YEAR_2026_MS = 1_767_225_600_000


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / "silo.sqlite", SCHEMA)) as opened:
        yield opened


def rows(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM profile_releases ORDER BY number").fetchall()


def charge(connection: sqlite3.Connection, epsilon: float, most: float, year: str = "2026") -> None:
    Releases(connection).charge(7, sigma(epsilon, DELTA), epsilon, DELTA, year, most)


def test_a_period_is_a_calendar_year_in_utc() -> None:
    assert period_of(NEW_YEAR_2026_MS) == "2026"
    assert period_of(NEW_YEAR_2026_MS - 1) == "2025"


def test_a_release_is_recorded_with_its_numbers(connection: sqlite3.Connection) -> None:
    charge(connection, 2.0, 8.0)
    assert rows(connection) == [(1, 7, sigma(2.0, DELTA), 2.0, DELTA, "2026")]
    assert Releases(connection).spent("2026", DELTA) == pytest.approx(2.0, rel=1e-4)


def test_a_release_made_for_the_whole_budget_fits_and_none_after_it(
    connection: sqlite3.Connection,
) -> None:
    charge(connection, 8.0, 8.0)
    before = rows(connection)
    with pytest.raises(BudgetExhausted) as refused:
        charge(connection, 0.5, 8.0)
    assert rows(connection) == before
    assert "after 1 others" in refused.value.message
    for number in ("2026", f"{sigma(0.5, DELTA):.4g}", "epsilon 8.0", "1e-05", "most is 8"):
        assert number in refused.value.message
    assert "1 January" in refused.value.hint


def test_releases_together_cost_less_than_their_sum(connection: sqlite3.Connection) -> None:
    for _ in range(3):
        charge(connection, 1.0, 8.0)
    assert 1.0 < Releases(connection).spent("2026", DELTA) < 2.0


def test_each_period_has_its_own_budget(connection: sqlite3.Connection) -> None:
    for year in ("2025", "2026"):
        charge(connection, 4.0, 4.0, year)
    assert Releases(connection).spent("2026", DELTA) == pytest.approx(4.0, rel=1e-4)
    assert Releases(connection).spent("2027", DELTA) == 0.0


def test_a_release_without_noise_is_recorded_and_charged_to_nothing(
    connection: sqlite3.Connection,
) -> None:
    charge(connection, math.inf, 0.0)
    assert rows(connection) == [(1, 7, 0.0, math.inf, DELTA, "2026")]
    assert Releases(connection).spent("2026", DELTA) == 0.0
    charge(connection, 4.0, 4.0)


def test_of_two_processes_that_charge_the_last_of_the_budget_one_is_refused(
    tmp_path: Path,
) -> None:
    def attempt(_: int) -> bool:
        with closing(connect(tmp_path / "silo.sqlite", SCHEMA)) as own:
            try:
                charge(own, 3.0, 3.0)
            except BudgetExhausted:
                return False
            return True

    connect(tmp_path / "silo.sqlite", SCHEMA).close()
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [False, True]


def test_nothing_is_recorded_when_numbers_make_no_sense(connection: sqlite3.Connection) -> None:
    with pytest.raises(ValueError, match="sigma must be at least 0"):
        Releases(connection).charge(7, -1.0, 1.0, DELTA, "2026", 8.0)
    assert rows(connection) == []


def test_an_account_can_be_read_inside_a_transaction(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        assert Releases(connection).spent("2026", DELTA) == 0.0
