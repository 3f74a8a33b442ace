"""The check sets: built alike from a seed, split by document, scored with intervals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from siloquy.eval.answers.edits import SWAPS
from siloquy.eval.answers.swaps import Result, SwapCase, SwapRow, build, rates, run
from siloquy.eval.shares import share
from siloquy.serve.demo import HOSPITALS


@pytest.fixture(scope="module")
def cases() -> list[SwapCase]:
    return build(HOSPITALS, None, 0)


@pytest.fixture(scope="module")
def result() -> Result:
    return run(HOSPITALS, None, 0)


def test_the_same_seed_builds_the_same_cases(cases: list[SwapCase]) -> None:
    assert build(HOSPITALS, None, 0) == cases
    assert build(HOSPITALS, None, 1) != cases


def test_every_class_is_there_and_no_swap_is_the_sentence_itself(cases: list[SwapCase]) -> None:
    assert {case.swapped for case in cases} >= {"", "words", "added", *SWAPS} - {"laterality"}
    for case in cases:
        if case.writing == "verbatim":
            stands = case.sentence in case.sources[0].text
            assert stands == (not case.swapped) or case.swapped in SWAPS


def test_no_document_is_on_both_sides(cases: list[SwapCase]) -> None:
    sides: dict[str, set[str]] = {}
    for case in cases:
        sides.setdefault(case.id, set()).add(case.split)
    assert all(len(found) == 1 for found in sides.values())
    assert {"train", "test"} == set().union(*sides.values())


def test_the_demo_is_held_to_the_goal(result: Result) -> None:
    """90 % of the swaps and at most 10 % of the untouched, well above what runs here."""
    shown = {(r.check, r.writing, r.swapped): r.flagged for r in result.summary}
    assert shown["check", "all", "swapped"].value >= 0.9
    assert shown["check", "all", "untouched"].value <= 0.1
    assert shown["check", "all", "swapped"].value > shown["baseline", "all", "swapped"].value


def test_rows_hold_no_text(result: Result) -> None:
    assert all(" " not in row.id.split("/", 1)[0] and len(row.id) < 80 for row in result.rows)


def test_rates_count_what_was_flagged() -> None:
    rows = [
        SwapRow("a", "c", "rule", "dose", "test", "dose", 0.0, True, False),
        SwapRow("b", "c", "rule", "dose", "test", "", 1.0, False, False),
        SwapRow("c", "c", "rule", "", "test", "", 1.0, False, True),
    ]
    shown = {(r.check, r.writing, r.swapped): r.flagged for r in rates(rows)}
    assert shown["check", "rule", "dose"] == share([True, False])
    assert shown["check", "all", "swapped"] == share([True, False])
    assert shown["baseline", "all", "untouched"] == share([True])
    assert ("check", "human", "dose") not in shown


def test_a_share_of_nothing_is_unknown() -> None:
    nothing = share([])
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert nothing.value != nothing.value


@pytest.mark.slow
@pytest.mark.needs_data
def test_real_text_meets_the_goal() -> None:
    data = Path(os.environ.get("SILOQUY_DATA", "absent"))
    if not (data / "evidence_mix").exists():
        pytest.skip("SILOQUY_DATA names no folder with the data sets")
    shown = {(r.check, r.writing, r.swapped): r.flagged for r in run(HOSPITALS, data, 0).summary}
    assert shown["check", "all", "swapped"].n >= 300
    assert shown["check", "all", "untouched"].n >= 300
    for writing in ("all", "verbatim", "rule", "human"):
        assert shown["check", writing, "swapped"].value >= 0.9
        assert shown["check", writing, "untouched"].value <= 0.1
