"""The tree of deliberate errors."""

from __future__ import annotations

import pytest

from siloquy import errors
from siloquy.errors import BY_CODE, SiloquyError, from_code

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SiloquyError)
]


def test_every_error_can_be_named_by_its_code() -> None:
    assert {kind.code: kind for kind in KINDS} == BY_CODE


def test_no_two_errors_share_a_code() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_over_its_code(kind: type[SiloquyError]) -> None:
    error = from_code(kind.code, "what happened", "what to do")
    assert (type(error), error.message, error.hint) == (kind, "what happened", "what to do")


def test_an_unknown_code_gives_the_plain_error() -> None:
    assert type(from_code("from the future", "message")) is SiloquyError


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_tells_each_error_with_its_exit_code(
    kind: type[SiloquyError],
) -> None:
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line]
    assert kind is SiloquyError or line.endswith(f"exit {kind.exit_code}")


def test_a_spent_budget_is_a_refusal() -> None:
    assert issubclass(errors.BudgetExhausted, errors.PolicyDenied)


def test_an_error_reads_as_its_message() -> None:
    assert str(errors.Busy("more than 64 requests at once", "retry")) == (
        "more than 64 requests at once"
    )


def test_exit_codes_of_answers_are_not_those_of_errors() -> None:
    codes = {kind.exit_code for kind in KINDS}
    assert codes.isdisjoint({0, errors.EXIT_ABSTAINED, errors.EXIT_PARTIAL})
