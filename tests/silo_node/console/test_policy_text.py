"""Policy and privacy in words: every setting is said, truly, and without any word of the code."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.settings import ProfileSettings, ReleasePolicy
from siloquy.silo_node.console import policy_text
from siloquy.silo_node.console.policy_text import PolicySentence

NAMES = st.lists(st.text("abc-", min_size=1, max_size=6), max_size=4, unique=True).map(tuple)
COUNTS = st.integers(0, 3000)
POLICIES = st.builds(ReleasePolicy, NAMES, NAMES, COUNTS, COUNTS, NAMES, COUNTS)
PROFILES = st.builds(
    lambda epsilon, unit: ProfileSettings(epsilon=epsilon, unit=unit, yearly=math.inf),
    st.sampled_from([0.5, 8.0, math.inf]),
    st.sampled_from(["document", "patient"]),
)


def words(said: tuple[PolicySentence, ...], key: str) -> str:
    (one,) = [item for item in said if item.key == key]
    return one.words


@given(POLICIES, PROFILES)
def test_every_setting_is_said_once_in_whole_sentences(
    policy: ReleasePolicy, profile: ProfileSettings
) -> None:
    for settings, said in (
        (policy, policy_text.policy(policy)),
        (profile, policy_text.profile(profile)),
    ):
        assert [item.key for item in said] == [f.name for f in dataclasses.fields(settings)]
        for item in said:
            assert re.fullmatch(r"[A-Z].*\.", item.words)
            assert item.code.startswith(f"{item.key}.")
            assert "_" not in item.words
            for value in item.values:
                told = f"{value:,}" if isinstance(value, int) else f"{value}"
                assert told in item.words or f"{value:g}" in item.words


POLICY_WORDS = [
    ({}, "gateways", "No gateway may ask: nothing leaves."),
    ({"gateways": ("ward",)}, "gateways", "Only the gateway ward may ask."),
    (
        {"gateways": ("north-clinic", "ward")},
        "gateways",
        "Only the gateways north-clinic and ward may ask.",
    ),
    ({"purposes": ()}, "purposes", "No purpose is accepted: nothing leaves."),
    (
        {"purposes": ("treatment",)},
        "purposes",
        "Passages are released for the purpose treatment alone.",
    ),
    (
        {"purposes": ("audit",)},
        "purposes",
        "No passage is released for any purpose. Gateways may also search to check what this silo "
        "says of itself; nothing is released for that.",
    ),
    (
        {"passages_per_day": 1},
        "passages_per_day",
        "A gateway gets at most 1 passage a day; the day ends at 00:00 UTC.",
    ),
    ({"passages_per_day": 0}, "passages_per_day", "No gateway gets any passage."),
    ({"most_per_question": 0}, "most_per_question", "No question gets any passage."),
    ({"sealed_per_day": 0}, "sealed_per_day", "No sealed question is answered."),
    (
        {"sealed_per_day": 1500},
        "sealed_per_day",
        "A gateway may ask at most 1,500 sealed questions a day.",
    ),
    (
        {"sealed": ("letters",)},
        "sealed",
        "Documents of the collection letters are released only for sealed questions, which this "
        "silo cannot read.",
    ),
]


@pytest.mark.parametrize(("settings", "key", "expected"), POLICY_WORDS)
def test_a_policy_says_what_it_allows(settings: dict[str, object], key: str, expected: str) -> None:
    policy = dataclasses.replace(ReleasePolicy(), **settings)  # type: ignore[arg-type]
    assert words(policy_text.policy(policy), key) == expected


def test_audits_are_named_beside_the_purposes_that_release() -> None:
    said = words(policy_text.policy(ReleasePolicy()), "purposes")
    assert said.startswith("Passages are released for the purpose treatment alone. Gateways may")
    assert said.endswith("nothing is released for that.")


def test_a_silo_that_wants_sealed_questions_alone_says_that_it_reads_none() -> None:
    policy = ReleasePolicy(sealed=("*", "letters"))
    assert "never reads what is asked" in words(policy_text.policy(policy), "sealed")
    assert "then reads what is asked" in words(policy_text.policy(ReleasePolicy()), "sealed")


def test_a_profile_without_noise_is_not_called_private() -> None:
    said = policy_text.profile(ProfileSettings(epsilon=math.inf))
    assert "may show whether a certain document is here" in words(said, "epsilon")
    assert "privacy" not in " ".join(item.words for item in said)
    assert said[0].value is None


def test_a_noised_profile_says_its_bounds() -> None:
    said = policy_text.profile(ProfileSettings(unit="patient"))
    assert "whether any one patient is here" in words(said, "epsilon")
    assert "epsilon 8 each time" in words(said, "epsilon")
    assert "at most 1e-05" in words(said, "delta")
    assert "at most 24" in words(said, "yearly")
    assert "all documents of one patient" in words(said, "unit")


def test_the_codes_of_one_sentence_are_the_same_whatever_it_names() -> None:
    two = [
        policy_text.policy(ReleasePolicy(gateways=names))[0] for names in (("a", "b"), ("c", "d"))
    ]
    assert two[0].code == two[1].code == "gateways.some"
    assert two[1].values == ("c", "d")
