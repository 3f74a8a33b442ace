"""The router learns whom to ask, promises what it can keep, and believes what it has checked."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siloquy.errors import SettingsError
from siloquy.router import fitting, probing, trust
from siloquy.router import learner as module
from siloquy.router.calibration import LEAST_AUDITS
from siloquy.router.choice import CUT, LEFT_OUT
from siloquy.router.experience import Experience, Lesson
from siloquy.router.progress import REFIT_EVERY, REFIT_REST_MS, Progress
from siloquy.router.router import AUDITED, DRIFTED, STRUCK_OUT, LearningRouter
from siloquy.settings import AskSettings
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import (
    EncoderSpec,
    Intent,
    Missing,
    NodeId,
    Plan,
    Probe,
    Profile,
    RouteRequest,
    SearchFeedback,
    Vector,
)
from tests.router.profiles import TOPICS, described, tiny

D, K, SILOS = 32, 10, 6
SMALL = EncoderSpec("small", "00" * 32, D)
PROMISE = 0.95
LEXICON = Lexicon(("ache", "fever"), {"ache": 0, "fever": 1})
NAMES = tuple(NodeId(f"silo-{i}") for i in range(SILOS))
# Of the passages made here, alike in all directions; the atlas takes real ones to be six times
# wider where they are widest.
SPREAD = 0.51
SUBJECTS = ("heart", "kidney", "skin", "lung", "liver", "eye")


def unit(rows: NDArray[np.floating]) -> Vector:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def topics() -> Topics:
    vectors = np.random.default_rng(0).normal(size=(TOPICS, D))
    vectors[:SILOS] = np.eye(SILOS, D)
    return Topics(tuple(f"topic {i}" for i in range(TOPICS)), unit(vectors), "anchors")


LIST = topics()


def about(axis: int, name: str = "", *, size: int = 200, **other: Any) -> Profile:
    """A silo whose passages all lie about one axis, at .7 from it."""
    means = 0.7 * np.eye(D, dtype=np.float32)[[axis]]
    near = np.eye(TOPICS)[axis] * min(size, 6e4)
    plain = described(name or NAMES[axis], means, size=size, spread=SPREAD / 6, encoder=SMALL,
                      topics=tuple(near))  # fmt: skip
    return plain if not other else replace(plain, **other)


def vague(axis: int, version: int = 1) -> Profile:
    """A silo whose profile says nothing of what it holds."""
    means = np.zeros((1, D), dtype=np.float32)
    return described(
        NAMES[axis], means, size=200, spread=SPREAD / 6, encoder=SMALL, created=version
    )


PROFILES = [about(axis) for axis in range(SILOS)]
VAGUE = [vague(axis) for axis in range(SILOS)]


class Town:
    """A gateway's router among silos of which each holds one subject, ``holds[i]`` of them."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.path = folder / "router.sqlite"
        self.now = 10**12
        self.roll = 1.0
        self.holds = list(range(SILOS))
        self.settings = AskSettings(**{"audit": 0.5, **settings})
        self.generator = np.random.default_rng(0)
        self.experience = Experience(self.path)
        self.router = self.start()

    def start(self) -> LearningRouter:
        return LearningRouter(
            LIST, LEXICON, self.experience, self.settings, lambda: self.now, lambda: self.roll
        )

    def sought(self, subject: int, intent: Intent = "precise", silos: Sequence[NodeId] = NAMES,
               k: int = K) -> RouteRequest:  # fmt: skip
        noise = 0.08 * self.generator.normal(size=D)
        vector = unit(np.eye(D)[subject] + noise)
        words = ("what", "of", "the", SUBJECTS[subject], "then")
        return RouteRequest(vector, words, k, intent, tuple(silos))

    def winners(self, sought: RouteRequest, plan: Plan) -> dict[NodeId, int]:
        """Nine of ten lie where the subject is held, one at the next silo."""
        subject = SUBJECTS.index(sought.words[3])
        held = dict.fromkeys(plan.asked, 0)
        for silo, count in ((NAMES[self.holds[subject]], 9),
                            (NAMES[(self.holds[subject] + 1) % SILOS], 1)):  # fmt: skip
            if silo in held:
                held[silo] += count
        return held

    def ask(self, subject: int | None = None, missing: Sequence[Missing] = ()) -> Plan:
        subject = int(self.generator.integers(SILOS)) if subject is None else subject
        sought = self.sought(subject)
        plan = self.router.plan(sought)
        gone = {item.silo for item in missing}
        held = {s: n for s, n in self.winners(sought, plan).items() if s not in gone}
        self.router.heard(
            SearchFeedback(sought.vector, sought.words, plan, held, tuple(missing), {})
        )
        return plan

    def audits(self, n: int) -> None:
        self.roll = 0.0
        for _ in range(n):
            self.ask()
        self.roll = 1.0


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    made.router.follow(PROFILES)
    yield made
    made.experience.close()


@pytest.fixture
def towns(tmp_path: Path) -> Iterator[Callable[..., Town]]:
    """Makes towns with other settings."""
    made: list[Town] = []

    def build(profiles: Sequence[Profile] = PROFILES, **settings: Any) -> Town:
        made.append(Town(tmp_path / str(len(made)), **settings))
        made[-1].router.follow(profiles)
        return made[-1]

    yield build
    for one in made:
        one.experience.close()


@pytest.fixture(autouse=True)
def _repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same probes each time."""
    generator = np.random.default_rng(5)
    monkeypatch.setattr(
        probing, "_normal", lambda n, d: generator.normal(size=(n, d)).astype(np.float32)
    )


def all_probed(router: LearningRouter, met: bool = True) -> None:
    for probe in router.unprobed():
        router.probed(probe, [(1.0,) if met else (-1.0,)] * len(probe.vectors))


# -- planning -------------------------------------------------------------------------------------


def test_who_holds_the_questions_subject_is_asked_first(towns: Callable[..., Town]) -> None:
    town = towns(coverage=0.8)
    for subject in range(SILOS):
        plan = town.router.plan(town.sought(subject))
        assert plan.asked[0] == NAMES[subject]
        assert len(plan.asked) < SILOS
        assert f"covers topic {subject}" in plan.reasons[NAMES[subject]]
        assert (plan.coverage, plan.audit) == (None, False)


def test_a_share_of_questions_is_asked_of_all(town: Town) -> None:
    town.roll = 0.49
    plan = town.router.plan(town.sought(0))
    assert (plan.asked, plan.audit, plan.notes) == (NAMES, True, ())
    assert set(plan.reasons.values()) == {AUDITED}


@pytest.mark.parametrize("intent", ["precise", "diverse", "fast"])
@pytest.mark.parametrize("k", [1, 10**6])
@pytest.mark.parametrize(
    "profiles",
    [
        [],
        PROFILES[:1],
        [tiny("silo-0", 0, encoder=SMALL), tiny("silo-1", 0, encoder=SMALL)],
        [about(0, size=0), about(1, size=10**15)],
        [about(0, epsilon=8.0, delta=1e-5, noises=(0.0,)), tiny("silo-9", 3, encoder=SMALL)],
    ],
)
def test_a_plan_is_made_of_any_profiles(
    towns: Callable[..., Town], profiles: list[Profile], k: int, intent: Intent
) -> None:
    town = towns(profiles)
    for silos in (NAMES, NAMES[:1], (), tuple(p.silo for p in profiles)):
        for words in ((), ("fever",)):
            sought = RouteRequest(town.sought(0).vector, words, k, intent, silos)
            plan = town.router.plan(sought)
            every = {*silos, *(profile.silo for profile in profiles)}
            assert {*plan.asked, *plan.skipped} == every == set(plan.reasons)
            assert set(plan.asked) <= set(silos)
            assert plan.asked or silos != NAMES
            town.router.quotas(plan, k)


def test_an_answer_from_nobody_teaches_nothing_and_breaks_nothing(town: Town) -> None:
    plan = town.router.plan(town.sought(0))
    sought = town.sought(0)
    town.router.heard(SearchFeedback(sought.vector, (), plan, {}, (), {}))
    town.router.learner.refit()
    assert town.router.fitted.audits == 0
    assert town.router.plan(town.sought(0)).asked[0] == NAMES[0]


def test_a_silo_without_a_profile_is_asked_unless_settings_say_no(
    towns: Callable[..., Town],
) -> None:
    some = PROFILES[:3]
    plan = towns(some).router.plan(Town.sought(towns(some), 0))
    assert set(NAMES[3:]) <= set(plan.asked)
    assert plan.reasons[NAMES[4]] == "shows this gateway no profile, so it is asked"
    town = towns(some, unprofiled=False)
    plan = town.router.plan(town.sought(0))
    assert not set(NAMES[3:]) & set(plan.asked)
    assert plan.reasons[NAMES[4]] == "shows this gateway no profile"


def test_a_silo_without_a_profile_that_refused_is_let_alone_for_an_hour(
    towns: Callable[..., Town],
) -> None:
    town = towns(PROFILES[:5])
    town.ask(0, [Missing(NAMES[5], "refused")])
    assert NAMES[5] in town.router.plan(town.sought(0)).skipped
    town.now += 3_600_000
    assert NAMES[5] in town.router.plan(town.sought(0)).asked


def test_a_silo_that_left_the_roster_is_not_asked(town: Town) -> None:
    plan = town.router.plan(town.sought(0, silos=NAMES[1:]))
    assert NAMES[0] not in plan.asked
    assert plan.reasons[NAMES[0]] == "is not in the roster"


def test_a_silo_that_settings_bar_is_never_asked_not_even_in_an_audit(
    towns: Callable[..., Town],
) -> None:
    town = towns(never=("silo-0", "stranger"))
    for town.roll in (0.0, 1.0):
        plan = town.router.plan(town.sought(0))
        assert NAMES[0] not in plan.asked
        assert plan.reasons[NAMES[0]] == "this gateway does not ask it"
        assert "stranger" not in plan.reasons


def test_no_more_silos_are_asked_than_settings_allow(towns: Callable[..., Town]) -> None:
    town = towns(VAGUE, most_silos=2)
    for town.roll in (0.0, 1.0):
        plan = town.router.plan(town.sought(0))
        assert (len(plan.asked), plan.audit) == (2, False)


def test_a_slow_silo_is_left_out_of_fast_answers_alone(town: Town) -> None:
    sought = town.sought(0)
    plan = town.router.plan(sought)
    times = {str(NAMES[0]): 900.0}
    town.router.heard(
        SearchFeedback(sought.vector, sought.words, plan, dict.fromkeys(plan.asked, 1), (), times)
    )
    assert NAMES[0] in town.router.plan(town.sought(0)).asked
    fast = town.router.plan(town.sought(0, "fast"))
    assert "usually takes 900 ms" in fast.reasons[NAMES[0]]


def test_a_fast_answer_asks_no_more_silos_than_a_precise_one(town: Town) -> None:
    sought = town.sought(0)
    fast = replace(sought, intent="fast")
    assert len(town.router.plan(fast).asked) <= len(town.router.plan(sought).asked)


def test_costs_count_in_the_choice(towns: Callable[..., Town]) -> None:
    dear = towns(VAGUE, costs=("silo-0=50",))
    assert NAMES[0] not in dear.router.plan(dear.sought(0)).asked
    with pytest.raises(SettingsError):
        towns(costs=("silo-0=-1",))


def test_words_are_weighed_by_the_profiles(town: Town) -> None:
    assert [term.word for term in town.router.terms(("What", "fever"))] == ["fever"]


# -- quotas ---------------------------------------------------------------------------------------


def test_several_hospitals_share_the_winners_of_a_diverse_answer(town: Town) -> None:
    for silo in NAMES:
        town.router.checked({silo: trust.PROVEN}, {})
    plan = town.router.plan(town.sought(0, "diverse"))
    assert len(plan.asked) >= 3
    assert town.router.quotas(plan, 10) == dict.fromkeys(plan.asked, 5)
    assert town.router.quotas(replace(plan, intent="precise"), 10) == {}
    assert town.router.quotas(replace(plan, asked=NAMES[:1]), 10) == {}


def test_newcomers_win_half_until_proven(town: Town) -> None:
    plan = Plan("open", NAMES, (), {})
    town.router.checked({NAMES[0]: trust.PROVEN}, {})
    assert town.router.quotas(plan, 10) == dict.fromkeys(NAMES[1:], 5)


# -- learning -------------------------------------------------------------------------------------


def test_feedback_teaches_to_ask_fewer_silos(towns: Callable[..., Town]) -> None:
    town = towns(VAGUE, coverage=0.8)
    assert len(town.router.plan(town.sought(0)).asked) == SILOS
    town.audits(120)
    for subject in range(SILOS):
        plan = town.router.plan(town.sought(subject))
        assert plan.asked[0] == NAMES[subject]
        assert len(plan.asked) <= 4


def test_what_was_learned_survives_a_restart(towns: Callable[..., Town]) -> None:
    town = towns(VAGUE)
    town.audits(60)
    town.router.learner.refit()
    again = town.start()
    again.follow(VAGUE)
    sought = town.sought(2)
    assert again.plan(sought).asked == town.router.plan(sought).asked


def test_nothing_is_promised_before_two_hundred_audits_and_then_kept(
    towns: Callable[..., Town],
) -> None:
    town = towns(VAGUE, coverage=PROMISE)
    town.audits(LEAST_AUDITS - 1)
    assert town.router.plan(town.sought(0)).coverage is None
    town.audits(1)
    assert town.router.fitted.audits == LEAST_AUDITS
    plan = town.router.plan(town.sought(0))
    assert plan.coverage == PROMISE
    kept = []
    for n in range(60):
        sought = town.sought(n % SILOS)
        plan = town.router.plan(sought)
        kept.append(sum(town.winners(sought, plan).values()) / K)
    assert np.mean(kept) > PROMISE - 0.02
    fast = town.router.plan(town.sought(0, "fast"))
    assert fast.coverage == town.settings.fast_coverage


def test_audits_are_remembered_however_many_other_questions_come(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LESSONS", 60)
    monkeypatch.setattr(module, "MOST_AUDITS", 40)
    town.audits(30)
    for _ in range(80):
        town.ask()
    town.router.learner.refit()
    assert town.router.fitted.audits == 30


def test_an_audit_in_which_a_silo_was_missing_does_not_count(town: Town) -> None:
    town.roll = 0.0
    town.ask(0, [Missing(NAMES[3], "timeout")])
    town.ask(0)
    town.router.learner.refit()
    assert town.router.fitted.audits == 1


def test_an_audit_without_a_winner_does_not_count(town: Town) -> None:
    town.roll = 0.0
    sought = town.sought(0)
    plan = town.router.plan(sought)
    town.router.heard(
        SearchFeedback(sought.vector, sought.words, plan, dict.fromkeys(NAMES, 0), (), {})
    )
    town.router.learner.refit()
    assert town.router.fitted.audits == 0


def test_a_question_while_a_silo_rests_is_no_audit(town: Town) -> None:
    town.roll = 0.0
    for _ in range(3):
        town.ask(0, [Missing(NAMES[3], "timeout")])
    plan = town.router.plan(town.sought(0))
    assert NAMES[3] in plan.skipped
    assert not plan.audit


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The memory of a router after 200 audits."""
    town = Town(tmp_path_factory.mktemp("audited"), coverage=PROMISE)
    town.router.follow(VAGUE)
    town.router.learner._refit = lambda: None  # type: ignore[method-assign]
    town.audits(LEAST_AUDITS)
    town.experience.close()
    return town.path


@pytest.fixture
def promised(audited: Path, tmp_path: Path) -> Iterator[Town]:
    """A town whose promise of .9 was calibrated."""
    shutil.copy(audited, tmp_path / audited.name)
    town = Town(tmp_path, coverage=PROMISE)
    town.router.follow(VAGUE)
    yield town
    town.experience.close()


def test_a_barred_silo_cancels_the_promise(promised: Town) -> None:
    for _ in range(3):
        promised.router.health.note([NAMES[0]], [Missing(NAMES[0], "timeout")], {})
    plan = promised.router.plan(promised.sought(0))
    assert (plan.coverage, plan.notes) == (None, (LEFT_OUT,))
    assert promised.router.plan(promised.sought(3)).coverage == PROMISE


def test_fewer_silos_than_the_promise_needs_cancel_it(promised: Town) -> None:
    promised.router._settings = replace(promised.settings, most_silos=1)
    needs = next(
        plan
        for subject in range(SILOS)
        if (plan := promised.router.plan(promised.sought(subject))).coverage is None
    )
    assert needs.notes == (CUT,)


def test_a_silo_that_joins_is_asked_until_audits_know_it(promised: Town) -> None:
    joined = described("new", np.zeros((1, D), np.float32), spread=SPREAD / 6, encoder=SMALL)
    promised.router.follow([*VAGUE, joined])
    assert promised.router.fitted.new == ("new",)
    silos = (*NAMES, NodeId("new"))
    plan = promised.router.plan(promised.sought(0, silos=silos))
    assert "new" in plan.asked
    assert plan.coverage == PROMISE


def test_a_silo_that_settings_bar_leaves_promises_that_do_not_need_it(promised: Town) -> None:
    joined = described("new", np.zeros((1, D), np.float32), spread=SPREAD / 6, encoder=SMALL)
    promised.router._settings = replace(promised.settings, never=("new", NAMES[0]))
    promised.router.follow([*VAGUE, joined])
    silos = (*NAMES, NodeId("new"))
    plans = [promised.router.plan(promised.sought(i, silos=silos)) for i in range(SILOS)]
    assert plans[0].coverage is None
    assert plans[2].coverage == PROMISE


def test_a_silo_that_joins_and_lies_is_not_asked_for_the_promise(promised: Town) -> None:
    joined = described("new", np.zeros((1, D), np.float32), spread=SPREAD / 6, encoder=SMALL)
    promised.router.checked({}, {NodeId("new"): 1})
    promised.router.follow([*VAGUE, joined])
    plan = promised.router.plan(promised.sought(0, silos=(*NAMES, NodeId("new"))))
    assert "new" in plan.skipped


def test_an_alarm_during_a_refit_is_not_forgotten(
    promised: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fitting.fit

    def alarmed(*arguments: Any) -> fitting.RouterFit:
        found = fit(*arguments)
        assert found.thresholds[PROMISE] is not None
        promised.experience.mark("calibrated from", 150)
        return found

    monkeypatch.setattr(fitting, "fit", alarmed)
    promised.router.learner.refit()
    assert promised.router.fitted.drifted
    assert promised.router.plan(promised.sought(0)).notes == (DRIFTED,)


def test_one_bad_audit_breaks_no_promise(promised: Town) -> None:
    promised.holds = promised.holds[1:] + promised.holds[:1]
    promised.audits(1)
    assert not promised.router.fitted.drifted


def test_when_silos_swap_their_content_all_are_asked_until_it_is_calibrated_anew(
    promised: Town,
) -> None:
    promised.holds = [(i + 3) % SILOS for i in range(SILOS)]
    asked = 0
    while not promised.router.fitted.drifted:
        promised.audits(1)
        asked += 1
        assert asked < 30
    plan = promised.router.plan(promised.sought(0))
    assert (plan.asked, plan.audit, plan.coverage) == (NAMES, True, None)
    assert plan.notes == (DRIFTED,)
    again = promised.start()
    again.follow(VAGUE)
    assert again.fitted.drifted
    for _ in range(LEAST_AUDITS):
        assert promised.router.fitted.drifted
        assert promised.ask().notes == (DRIFTED,)
    assert not promised.router.fitted.drifted
    kept = []
    for n in range(60):
        sought = promised.sought(n % SILOS)
        plan = promised.router.plan(sought)
        assert plan.coverage == PROMISE
        kept.append(sum(promised.winners(sought, plan).values()) / K)
    assert np.mean(kept) > PROMISE - 0.02


def test_while_the_promise_is_broken_no_more_silos_are_asked_than_allowed(promised: Town) -> None:
    promised.router._settings = replace(promised.settings, most_silos=2)
    view = promised.router.learner.view
    promised.router.learner.view = replace(view, fitted=fitting.broken(view.fitted))
    plan = promised.router.plan(promised.sought(0))
    assert (len(plan.asked), plan.coverage, plan.audit) == (2, None, False)


def test_what_an_audit_missed_is_what_a_plan_would_have_missed(promised: Town) -> None:
    promised.router.checked({}, {NAMES[2]: 1})
    for subject in range(SILOS):
        sought = promised.sought(subject)
        plan = promised.router.plan(sought)
        every = promised.winners(sought, replace(plan, asked=NAMES))
        lost = sum(count for silo, count in every.items() if silo not in plan.asked) / K
        lesson = Lesson(sought.vector, sought.words, every, True)
        assert promised.router.learner.view.missed(lesson, PROMISE) == pytest.approx(lost)


# -- refits ---------------------------------------------------------------------------------------


def test_refits_come_rarer_the_more_there_is_to_learn_from() -> None:
    progress = Progress(taught=100)
    for _ in range(REFIT_EVERY):
        assert not progress.due(0, 0)
        progress.count(audit=False)
    assert progress.due(0, 0)
    progress.taught = 1000
    assert not progress.due(0, 0)
    progress.begin(0)
    assert progress.questions == 0


def test_a_refit_comes_as_soon_as_the_audits_suffice() -> None:
    progress = Progress(taught=10_000, audits=1)
    assert progress.due(LEAST_AUDITS - 1, 0)
    assert not progress.due(LEAST_AUDITS - 2, 0)
    assert not progress.due(LEAST_AUDITS, 0)


def test_profiles_that_say_something_new_wait_for_ten_minutes(town: Town) -> None:
    refits: list[int] = []
    town.router.learner._refit = lambda: refits.append(1)  # type: ignore[method-assign]
    town.now += REFIT_REST_MS - 1
    town.router.follow([about(0, size=300), *PROFILES[1:]])
    assert not refits
    town.ask()
    assert not refits
    town.now += 1
    town.ask()
    assert len(refits) == 1
    town.router.follow([about(0, size=400), *PROFILES[1:]])
    assert len(refits) == 2


def test_the_same_content_in_a_new_version_changes_nothing(town: Town) -> None:
    view = town.router.learner.view
    town.router.follow([replace(profile, version=2) for profile in PROFILES])
    town.router.follow(PROFILES)
    assert town.router.learner.view is view


def test_other_silos_are_not_planned_with_what_was_learned_of_these(promised: Town) -> None:
    seen: list[fitting.RouterFit] = []
    promised.router.learner._refit = lambda: seen.append(promised.router.fitted)  # type: ignore[method-assign]
    promised.router.follow(VAGUE[:4])
    (fitted,) = seen
    assert (fitted.silos, fitted.learned, fitted.thresholds) == (NAMES[:4], None, {})
    assert promised.router.plan(promised.sought(0)).coverage is None


def test_a_question_does_not_wait_for_a_refit(town: Town) -> None:
    held = town.router.learner._refitting
    with held:
        for _ in range(2 * REFIT_EVERY):
            town.ask()
    assert town.router.fitted.learned is None
    town.ask()
    assert town.router.fitted.learned is not None


def test_plans_are_whole_while_others_learn_and_refit(town: Town) -> None:
    stop = threading.Event()

    def plan() -> int:
        done = 0
        generator = np.random.default_rng(1)
        while not stop.is_set():
            sought = RouteRequest(unit(generator.normal(size=D)), ("fever",), K, "precise", NAMES)
            found = town.router.plan(sought)
            assert {*found.asked, *found.skipped} >= set(NAMES)
            done += 1
        return done

    with ThreadPoolExecutor(3) as pool:
        planners = [pool.submit(plan) for _ in range(2)]
        for n in range(8):
            town.router.follow(PROFILES[: 3 + n % 4])
            town.audits(4)
            town.router.checked({NAMES[n % SILOS]: 1}, {})
            all_probed(town.router)
        stop.set()
        assert all(planner.result() > 0 for planner in planners)


# -- trust ----------------------------------------------------------------------------------------


def backed(profile: Profile, probe: Probe, axis: int) -> list[tuple[float, ...]]:
    """What a silo whose passages lie about an axis claims for each probe."""
    passages = np.random.default_rng(axis).normal(size=(profile.size, D)) * (SPREAD / D) ** 0.5
    passages[:, axis] += 0.7
    cosines = probe.vectors @ unit(passages).T
    return [tuple(np.sort(row)[::-1][:10].tolist()) for row in cosines]


def test_an_honest_profile_meets_its_probes(town: Town) -> None:
    for axis, probe in enumerate(town.router.unprobed()):
        town.router.probed(probe, backed(PROFILES[axis], probe, axis))
    known = town.router.standings
    assert min(known[silo].probe or 0.0 for silo in NAMES) >= trust.BELIEVED
    assert town.router.unprobed() == []


def test_forged_profiles_are_found_out_by_probes_and_disbelieved(
    towns: Callable[..., Town],
) -> None:
    """Three of nine claim to hold everything about the question's subject, and hold the last's."""
    forged = [about(0, f"forger-{i}", size=5000) for i in range(3)]
    town = towns([*PROFILES, *forged])
    silos = (*NAMES, *(profile.silo for profile in forged))
    assert town.router.plan(town.sought(0, silos=silos)).asked[0].startswith("forger")
    for probe in town.router.unprobed():
        axis = NAMES.index(probe.silo) if probe.silo in NAMES else 5
        town.router.probed(probe, backed(about(axis), probe, axis))
    assert {town.router.standings[profile.silo].probe for profile in forged} == {0.0}
    plan = town.router.plan(town.sought(0, silos=silos))
    assert plan.asked[0] == NAMES[0]
    for subject in range(1, SILOS):
        plan = town.router.plan(town.sought(subject, silos=silos))
        assert not {profile.silo for profile in forged} & set(plan.asked)


def test_who_does_not_answer_probes_takes_no_place_of_others(towns: Callable[..., Town]) -> None:
    town = towns()
    all_probed(town.router)
    honest = town.router.plan(town.sought(1)).asked
    forged = [about(axis, f"forger-{axis}", size=10**6) for axis in range(3)]
    town.router.follow([*PROFILES, *forged])
    silos = (*NAMES, *(profile.silo for profile in forged))
    asked = town.router.plan(town.sought(1, silos=silos)).asked
    assert set(honest) <= set(asked)


def test_a_probe_counts_for_the_profile_that_it_was_made_for(town: Town) -> None:
    probe = town.router.unprobed()[0]
    town.router.follow([about(0, size=300), *PROFILES[1:]])
    newer = town.router.unprobed()[0]
    town.router.probed(probe, [(1.0,)] * len(probe.vectors))
    assert NAMES[0] not in town.router.standings
    town.router.probed(newer, [(1.0,)] * len(newer.vectors))
    assert NAMES[0] not in [probe.silo for probe in town.router.unprobed()]
    town.router.probed(Probe(NodeId("stranger"), probe.vectors, probe.expected), [])
    assert "stranger" not in town.router.standings


def test_a_noised_profile_is_probed_at_its_topics(towns: Callable[..., Town]) -> None:
    loud = about(0, epsilon=8.0, delta=1e-5, topic_noise=1.0)
    quiet = about(1, epsilon=8.0, delta=1e-5, topic_noise=1000.0)
    town = towns([loud, quiet])
    first, second = town.router.unprobed()
    assert len(first.expected) >= 1
    assert np.array_equal(first.vectors[0], LIST.vectors[0])
    assert second.expected == ()
    town.router.probed(second, [])
    assert town.router.standings[NAMES[1]].probe == 1


def test_a_silo_of_size_alone_is_not_probed(towns: Callable[..., Town]) -> None:
    assert towns([tiny("silo-0", 5, encoder=SMALL)]).router.unprobed() == []


def test_a_liar_is_not_asked_for_a_day_wins_one_then_is_not_asked_for_a_month(town: Town) -> None:
    town.router.checked({NAMES[0]: 5, NAMES[1]: 30}, {NAMES[0]: 1})
    assert town.router.standings[NAMES[0]].strikes == 1
    assert town.router.standings[NAMES[0]].verified == 0
    assert NAMES[0] in town.router.plan(town.sought(0)).skipped
    town.now += trust.REST_MS
    plan = Plan("open", NAMES[:2], (), {})
    assert town.router.quotas(plan, 10) == {NAMES[0]: 1}
    assert town.router.plan(town.sought(0)).asked[0] != NAMES[0]
    town.router.checked({}, {NAMES[0]: 3})
    for town.roll in (0.0, 1.0):
        plan = town.router.plan(town.sought(0))
        assert NAMES[0] in plan.skipped
        assert "did not fit its passages" in plan.reasons[NAMES[0]]
    assert town.router.barred(NAMES) == {NAMES[0]: STRUCK_OUT}
    town.now += trust.PARDON_MS
    assert NAMES[0] in town.router.plan(town.sought(0, k=10)).reasons
    town.roll = 0.0
    assert NAMES[0] in town.router.plan(town.sought(0)).asked


def test_a_pardoned_silo_is_asked_and_probed_again(town: Town) -> None:
    all_probed(town.router)
    town.router.checked({}, {NAMES[0]: 1})
    town.router.checked({}, {NAMES[0]: 1})
    assert town.router.learner.pardon(NAMES[0])
    assert not town.router.learner.pardon(NAMES[0])
    assert town.router.plan(town.sought(0)).asked[0] == NAMES[0]
    assert [probe.silo for probe in town.router.unprobed()] == [NAMES[0]]


def test_claims_of_nothing_change_nothing(town: Town) -> None:
    town.router.checked({NAMES[0]: 0}, {NAMES[1]: 0})
    assert town.router.standings == {}


def test_the_router_tells_its_silos(town: Town) -> None:
    assert town.router.silos == NAMES
