"""What a gateway tells of its federation, after real questions to real silos in this process."""

from __future__ import annotations

from pathlib import Path

from siloquy.gateway.ask import Gateway
from siloquy.gateway.attendance import SiloAttendance
from siloquy.silo_node import pause
from siloquy.types import Query
from tests.siloquy.federation import Federation
from tests.siloquy.world import ALL, NORTH, QUESTION, SOUTH, WARD, World


async def opened(folder: Path, federation: Federation) -> tuple[World, Gateway]:
    world = World(folder, federation)
    await world.start()
    return world, world.gateway


async def test_a_silo_that_pauses_is_missing_lately_and_the_others_are_not(
    tmp_path: Path, federation: Federation
) -> None:
    world, gateway = await opened(tmp_path, federation)
    await world.ask(QUESTION, ALL)
    store = world.hospitals[NORTH].store
    pause.begin(store.connection, 1, "anna", "an audit")
    await world.ask(QUESTION, ALL)
    found = {silo.node: silo for silo in (await gateway.federation()).silos}
    lately = found[NORTH].missing_lately
    assert lately.last is not None
    assert (lately.asked, lately.missing) == (2, 1)
    assert (lately.last.reason, lately.last.detail) == ("refused", "paused by its hospital")
    assert found[SOUTH].missing_lately == SiloAttendance(2, 0, None)


async def test_audits_count_too(tmp_path: Path, federation: Federation) -> None:
    _, gateway = await opened(tmp_path, federation)
    await gateway.audit(Query(QUESTION))
    found = (await gateway.federation()).silos
    assert [silo.missing_lately.asked for silo in found] == [1, 1]


async def test_profiles_and_the_node_itself_are_told_before_any_question(
    tmp_path: Path, federation: Federation
) -> None:
    _, gateway = await opened(tmp_path, federation)
    found = await gateway.federation()
    assert (found.gateway.node, found.hub.connected, found.promise) == (WARD, True, None)
    assert [silo.profile is not None for silo in found.silos] == [True, True]
    assert gateway.roster().fingerprint == found.fingerprint == federation.roster.fingerprint
