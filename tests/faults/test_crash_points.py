"""The places at which a process can be told to die: each is somewhere, and each is tried."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from siloquy import crash
from tests.end_to_end.processes import siloquy
from tests.faults import test_ingest_crashes, test_node_crashes, test_release_crashes
from tests.product import sources


def placed() -> Iterator[str]:
    """The name at every call of ``crash.point`` in the product."""
    for _, path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("crash.point"):
                yield ast.literal_eval(node.args[0])


def test_every_place_stands_once_in_the_product() -> None:
    assert Counter(placed()) == Counter(crash.POINTS.keys())


def test_a_process_dies_at_every_place_in_these_tests() -> None:
    tried = {
        *test_ingest_crashes.PLACES,
        "document-dropped",
        *test_release_crashes.PLACES,
        "profile-numbered",
        "profile-charged",
        *test_node_crashes.PLACES,
    }
    assert tried == set(crash.POINTS)


def test_a_place_does_nothing_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crash.armed() == ""
    for name in crash.POINTS:
        crash.point(name)
    monkeypatch.setattr(crash, "_armed", "release-begun")
    for name in crash.POINTS.keys() - {"release-begun"}:
        crash.point(name)


@pytest.mark.end_to_end
def test_a_command_says_loudly_that_it_will_die_and_refuses_an_unknown_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("silo", "status", "--folder", tmp_path)
    monkeypatch.setenv(crash.VARIABLE, "release-comitted")
    ran = siloquy(*arguments)
    assert ran.code == 3
    assert "SILOQUY_CRASH_AT is 'release-comitted', which names no place" in ran.err
    assert "release-committed" in ran.err
    monkeypatch.setenv(crash.VARIABLE, "release-committed:2")
    ran = siloquy(*arguments)
    assert "this process kills itself at release-committed:2" in ran.err
