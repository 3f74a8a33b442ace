"""A silo's policy as sentences that a hospital's data protection officer reads. Pure.

Each also has a code that stays the same and the values that stand in it, so that a page can say it
in another language.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from siloquy.settings import AUDIT_PURPOSE, ProfileSettings, ReleasePolicy


@dataclass(frozen=True, slots=True)
class PolicySentence:
    """One setting in words.

    key      its name in siloquy.toml, without the section
    value    as it is set; None for no limit
    code     which sentence it is; the same for every silo that says this
    values   what the sentence names, in its order
    """

    key: str
    value: object
    words: str
    code: str
    values: tuple[object, ...] = ()


def policy(settings: ReleasePolicy) -> tuple[PolicySentence, ...]:
    """Who may ask, for what, and how much may leave."""
    return (
        _gateways(settings.gateways),
        _purposes(settings.purposes),
        _passages_per_day(settings.passages_per_day),
        _most_per_question(settings.most_per_question),
        _sealed(settings.sealed),
        _sealed_per_day(settings.sealed_per_day),
    )


def profile(settings: ProfileSettings) -> tuple[PolicySentence, ...]:
    """What approved gateways are told of the content, and what protects it."""
    return (
        _epsilon(settings.epsilon, settings.unit),
        _delta(settings),
        _unit(settings),
        _yearly(settings),
        _refresh_days(settings),
        _least_passages(settings.least_passages),
    )


def listed(names: Sequence[object]) -> str:
    """Names in a sentence.

    >>> listed(["north"]), listed(["north", "south", "east"])
    ('north', 'north, south and east')
    """
    *others, last = map(str, names)
    return f"{', '.join(others)} and {last}" if others else last


# -- policy ---------------------------------------------------------------------------------------


def _gateways(names: tuple[str, ...]) -> PolicySentence:
    key, value = "gateways", list(names)
    if not names:
        return PolicySentence(key, value, "No gateway may ask: nothing leaves.", "gateways.none")
    noun = "gateway" if len(names) == 1 else "gateways"
    words = f"Only the {noun} {listed(names)} may ask."
    return PolicySentence(key, value, words, f"gateways.{_number(names)}", names)


def _purposes(names: tuple[str, ...]) -> PolicySentence:
    key, value = "purposes", list(names)
    others = tuple(name for name in names if name != AUDIT_PURPOSE)
    audited = (
        "Gateways may also search to check what this silo says of itself; nothing is released "
        "for that."
    )
    if not names:
        return PolicySentence(
            key, value, "No purpose is accepted: nothing leaves.", "purposes.none"
        )
    if not others:
        words = f"No passage is released for any purpose. {audited}"
        return PolicySentence(key, value, words, "purposes.audit")
    noun = "the purpose" if len(others) == 1 else "the purposes"
    words = f"Passages are released for {noun} {listed(others)} alone."
    if len(others) < len(names):
        return PolicySentence(key, value, f"{words} {audited}", "purposes.some.audit", others)
    return PolicySentence(key, value, words, "purposes.some", others)


def _passages_per_day(most: int) -> PolicySentence:
    key = "passages_per_day"
    if not most:
        return PolicySentence(key, most, "No gateway gets any passage.", "passages_per_day.none")
    words = f"A gateway gets at most {_counted(most, 'passage')} a day; the day ends at 00:00 UTC."
    return PolicySentence(key, most, words, "passages_per_day.most", (most,))


def _most_per_question(most: int) -> PolicySentence:
    key = "most_per_question"
    if not most:
        return PolicySentence(key, most, "No question gets any passage.", "most_per_question.none")
    words = f"One question gets at most {_counted(most, 'passage')} from this silo."
    return PolicySentence(key, most, words, "most_per_question.most", (most,))


def _sealed(names: tuple[str, ...]) -> PolicySentence:
    key, value = "sealed", list(names)
    if "*" in names:
        words = (
            "Questions are answered only when they are sealed: this silo never reads what is asked."
        )
        return PolicySentence(key, value, words, "sealed.all")
    if not names:
        words = "Questions may be put openly: this silo then reads what is asked."
        return PolicySentence(key, value, words, "sealed.none")
    noun = "the collection" if len(names) == 1 else "the collections"
    words = (
        f"Documents of {noun} {listed(names)} are released only for sealed questions, which this "
        "silo cannot read."
    )
    return PolicySentence(key, value, words, f"sealed.{_number(names)}", names)


def _sealed_per_day(most: int) -> PolicySentence:
    key = "sealed_per_day"
    if not most:
        return PolicySentence(key, most, "No sealed question is answered.", "sealed_per_day.none")
    words = f"A gateway may ask at most {_counted(most, 'sealed question')} a day."
    return PolicySentence(key, most, words, "sealed_per_day.most", (most,))


# -- profile --------------------------------------------------------------------------------------


def _epsilon(epsilon: float, unit: str) -> PolicySentence:
    key = "epsilon"
    if epsilon == math.inf:
        words = (
            "What gateways are told of the content is told without noise: it may show whether a "
            f"certain {unit} is here."
        )
        return PolicySentence(key, None, words, "epsilon.none", (unit,))
    words = (
        "What gateways are told of the content is blurred with noise, so that it hardly shows "
        f"whether any one {unit} is here (differential privacy, epsilon {epsilon:g} each time; "
        "less is stricter)."
    )
    return PolicySentence(key, epsilon, words, "epsilon.noised", (unit, epsilon))


def _delta(settings: ProfileSettings) -> PolicySentence:
    key, delta = "delta", settings.delta
    if settings.epsilon == math.inf:
        return PolicySentence(key, delta, "Without noise there is no such bound.", "delta.none")
    words = f"That bound may be exceeded with a probability of at most {delta:g}."
    return PolicySentence(key, delta, words, "delta.most", (delta,))


def _unit(settings: ProfileSettings) -> PolicySentence:
    if settings.unit == "patient":
        words = (
            "The noise protects all documents of one patient together, where their metadata names "
            "the patient."
        )
        return PolicySentence("unit", settings.unit, words, "unit.patient")
    words = (
        "The noise protects one document; several about the same patient are protected each by "
        "itself."
    )
    return PolicySentence("unit", settings.unit, words, "unit.document")


def _yearly(settings: ProfileSettings) -> PolicySentence:
    key, yearly = "yearly", settings.yearly
    if math.inf in (settings.epsilon, yearly):
        value = None if yearly == math.inf else yearly
        return PolicySentence(key, value, "No limit holds for a year.", "yearly.none")
    words = (
        f"All that is told in a calendar year comes to an epsilon of at most {yearly:g}; after "
        "that nothing new is told."
    )
    return PolicySentence(key, yearly, words, "yearly.most", (yearly,))


def _refresh_days(settings: ProfileSettings) -> PolicySentence:
    key, days = "refresh_days", settings.refresh_days
    if settings.epsilon == math.inf:
        words = "What is told follows the documents at once."
        return PolicySentence(key, days, words, "refresh_days.none")
    words = (
        f"It is told anew after {days:g} days at the earliest, or when the number of passages has "
        "changed by half."
    )
    return PolicySentence(key, days, words, "refresh_days.least", (days,))


def _least_passages(least: int) -> PolicySentence:
    words = f"Of fewer than {_counted(least, 'passage')} only the number is told."
    return PolicySentence("least_passages", least, words, "least_passages.least", (least,))


def _number(names: Sequence[str]) -> str:
    return "one" if len(names) == 1 else "some"


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + "s" * (n != 1)
