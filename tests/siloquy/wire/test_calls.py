"""The contract between parties: every verb stands in one table, and its callee answers it."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from siloquy.wire import calls
from siloquy.wire.calls import CALLS, Verb, callable_by
from tests.product import sources
from tests.siloquy.federation import Federation
from tests.siloquy.world import NORTH, WARD, World


@pytest.fixture
async def world(tmp_path: Path, federation: Federation) -> AsyncIterator[World]:
    made = World(tmp_path, federation)
    yield made
    for hospital in made.hospitals.values():
        hospital.store.close()


def test_every_verb_is_a_call_and_is_explained() -> None:
    assert set(CALLS) == set(Verb)
    assert calls.__doc__ is not None
    assert [verb for verb in Verb if f"| `{verb}`" not in calls.__doc__] == []


async def test_the_hub_answers_each_role_its_verbs_and_no_others(world: World) -> None:
    hub, roster = world.hub.node, world.federation.roster
    silo, gateway = roster.member(NORTH), roster.member(WARD)
    assert set(hub.handlers(silo, enrolling=False)) == callable_by("silo", "hub")
    assert set(hub.handlers(gateway, enrolling=False)) == callable_by("gateway", "hub")
    assert set(hub.handlers(silo, enrolling=True)) == callable_by("newcomer", "hub")


async def test_a_silo_answers_the_hub(world: World) -> None:
    answered = set(world.hospitals[NORTH].node.handlers())
    # Every node follows the roster, whatever it is: the line to the hub does that.
    assert answered | {Verb.ROSTER} == callable_by("hub", "silo")


def spelled(node: ast.AST) -> bool:
    """Whether a verb is written as a string where a call is made or a handler is named."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        return name == "call" and bool(node.args) and isinstance(node.args[0], ast.Constant)
    if isinstance(node, ast.Dict):
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        handlers = [v for v in node.values if isinstance(v, ast.Attribute | ast.Name)]
        return len(handlers) == len(node.values) and bool(keys) and keys <= set(Verb)
    return False


def test_no_verb_is_spelled_elsewhere() -> None:
    found = {
        name
        for name, path in sources()
        if any(spelled(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == set()


def test_the_search_for_spelled_verbs_would_find_one() -> None:
    assert spelled(ast.parse('line.call("gather", body, 1.0)', mode="eval").body)
    assert spelled(ast.parse('{"search": search, "release": self.release}', mode="eval").body)
    assert not spelled(ast.parse("line.call(Verb.GATHER, body, 1.0)", mode="eval").body)
