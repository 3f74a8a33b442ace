"""What a silo's word is worth: little before it has proven itself, nothing after a lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.router import trust
from siloquy.router.choice import usual_threshold
from siloquy.router.experience import SiloStanding
from siloquy.router.trust import PARDON_MS, PROVEN, quota, quotas
from siloquy.types import NodeId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
PROVED = SiloStanding(verified=PROVEN)
LIAR = SiloStanding(verified=500, strikes=1)


def test_one_strike_is_out_for_a_day_and_two_for_a_month() -> None:
    once, twice = SiloStanding(strikes=1, struck=1000), SiloStanding(strikes=2, struck=1000)
    assert not trust.struck_out(SiloStanding(verified=9), 0)
    assert trust.struck_out(once, 1000 + trust.REST_MS - 1)
    assert not trust.struck_out(once, 1000 + trust.REST_MS)
    assert trust.struck_out(twice, 1000 + PARDON_MS - 1)
    assert not trust.struck_out(twice, 1000 + PARDON_MS)


def test_who_has_proven_itself_may_win_all_and_a_newcomer_some() -> None:
    assert (quota(PROVED, 10), quota(SiloStanding(), 10), quota(SiloStanding(), 1)) == (10, 5, 1)


def test_a_liar_may_win_one_whatever_it_has_proven() -> None:
    assert quota(LIAR, 10) == 1


def test_quotas_name_only_those_who_may_not_win_all() -> None:
    standings = {A: PROVED, B: LIAR}
    assert quotas(standings, [A, B, C], 10, 10) == {B: 1, C: 5}


def test_where_few_are_asked_their_quotas_leave_no_place_empty() -> None:
    assert quotas({}, [A, B], 10, 10) == {A: 5, B: 5}
    assert quotas({}, [A], 10, 10) == {}


def test_a_liar_wins_one_even_where_places_stay_empty() -> None:
    assert quotas({A: LIAR}, [A], 10, 10) == {A: 1}
    assert quotas({A: LIAR}, [A, B], 10, 10) == {A: 1, B: 9}


def test_a_bound_for_all_holds_unless_places_would_stay_empty() -> None:
    proven = dict.fromkeys((A, B, C), PROVED)
    assert quotas(proven, [A, B, C], 10, 5) == {A: 5, B: 5, C: 5}
    assert quotas({A: LIAR, B: PROVED}, [A, B], 10, 5) == {A: 1, B: 9}


standings = st.builds(SiloStanding, verified=st.integers(0, 40), strikes=st.integers(0, 3))


@given(st.lists(standings, min_size=1, max_size=6), st.integers(1, 100), st.floats(0.01, 1))
def test_quotas_can_be_kept_and_fill_all_places_that_honest_silos_may_take(
    known: list[SiloStanding], k: int, share: float
) -> None:
    silos = [NodeId(str(i)) for i in range(len(known))]
    found = quotas(dict(zip(silos, known, strict=True)), silos, k, max(1, round(share * k)))
    assert all(1 <= most < k for most in found.values())
    if not all(standing.strikes for standing in known):
        assert sum(found.get(silo, k) for silo in silos) >= k
    for silo, standing in zip(silos, known, strict=True):
        assert not standing.strikes or found.get(silo, k) == 1


def test_a_strike_or_a_profile_that_nothing_backs_is_disbelieved() -> None:
    assert trust.belief(SiloStanding()) == 1
    assert trust.belief(SiloStanding(probe=0.5)) == 1
    assert trust.belief(SiloStanding(probe=0.3)) == trust.DISBELIEF
    assert trust.belief(SiloStanding(verified=99, strikes=1, probe=1.0)) == trust.DISBELIEF


def test_shares_of_those_believed_sum_to_one() -> None:
    shares = trust.believed(np.array([0.6, 0.4]), np.array([0.02, 1.0]), np.zeros(2, dtype=bool))
    assert shares == pytest.approx([0.012, 1.0])


def test_however_much_a_disbelieved_silo_claims_it_is_expected_to_hold_next_to_nothing() -> None:
    beliefs = np.array([trust.DISBELIEF, 1.0, 1.0])
    shares = trust.believed(np.array([0.98, 0.015, 0.005]), beliefs, np.zeros(3, dtype=bool))
    assert shares[1:] == pytest.approx([0.75, 0.25])
    assert shares[0] <= trust.DISBELIEF < usual_threshold(0.98)


def test_an_unproven_silo_takes_nothing_from_the_others() -> None:
    unproven = np.array([True, False, False])
    shares = trust.believed(np.array([0.98, 0.015, 0.005]), np.ones(3), unproven)
    assert shares == pytest.approx([0.98, 0.75, 0.25])


def test_where_all_are_unproven_all_are_taken_at_their_word() -> None:
    shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert trust.believed(shares, np.ones(2), np.ones(2, dtype=bool)) == pytest.approx(shares)


# -- probes ---------------------------------------------------------------------------------------


def test_probes_lie_near_the_largest_cells_but_where_nobody_can_foretell() -> None:
    means = np.eye(3, 64, dtype=np.float32)
    normal = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    probes = trust.cell_probes(means, np.array([5.0, 50.0, 10.0]), normal)
    assert np.linalg.norm(probes, axis=1) == pytest.approx(np.ones(4))
    assert (probes @ means.T).argmax(axis=1).tolist() == [1, 2, 0, 1]
    assert 0.5 < float(probes[0] @ probes[3]) < 0.99


def test_a_noised_profile_is_probed_at_topics_that_noise_does_not_explain() -> None:
    near = np.array([0.2, 9.0, 3.9, 5.0])
    assert trust.topic_probes(near, 1.0, 6).tolist() == [1, 3]
    assert trust.topic_probes(near, 1.0, 1).tolist() == [1]
    assert trust.topic_probes(near, 10.0, 6).tolist() == []


def test_the_outcome_is_the_share_of_probes_that_were_met() -> None:
    claims = [(0.5, 0.4, 0.1), (0.9,), (), (0.2, 0.2)]
    assert trust.outcome(claims, (0.4, 0.4, 0.4, 0.4)) == 0.5
    assert trust.outcome([], ()) == 0
