"""A hub, a gateway or any node that dies while it changes what it keeps."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from siloquy.aggregator.registry import Registry
from siloquy.database import connect
from siloquy.errors import IntegrityError
from siloquy.silo_node.store import Store
from siloquy.trust import identity as identities
from siloquy.trust import ledger
from siloquy.trust import roster as rosters
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import Identity
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.trust.roster import PinnedRoster, SignedRoster
from siloquy.types import LedgerHead, NodeId, SignedMessage
from tests.end_to_end import town
from tests.faults.clinic import NORTH, save_people
from tests.faults.stage import KILLED, Stage
from tests.siloquy.federation import NOW, Federation, signed

pytestmark = pytest.mark.end_to_end

PLACES = (
    "head-noted",
    "head-kept",
    "invitation-used",
    "enrolled",
    "profile-noted",
    "roster-written",
    "roster-adopted",
    "receipt-signed",
)
EAST = NodeId("east")


@pytest.fixture
def people(tmp_path: Path) -> Federation:
    """A federation whose keys lie in the test's folder."""
    return save_people(tmp_path)


@pytest.fixture
def newcomer(tmp_path: Path) -> Identity:
    """A silo that is to be enrolled."""
    identity = identities.create(EAST, "silo", "East")
    identities.save(identity, tmp_path / "east")
    return identity


def grown(people: Federation, newcomer: Identity) -> SignedRoster:
    """The next roster, with the newcomer in it."""
    members = [*people.members, newcomer.card]
    return signed(rosters.succeed(people.roster, members, NOW + 1), (people.north, people.ward))


# -- the hub --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "waits"), [("invitation-used", False), ("enrolled", True)])
def test_a_newcomer_whose_hub_dies_can_say_again_that_it_is_invited(
    place: str, waits: bool, tmp_path: Path, newcomer: Identity, actors: Stage
) -> None:
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        secret = registry.invite(EAST, "silo", NOW).hex()
    arguments = (tmp_path, secret, tmp_path / "east")
    assert actors.run("enrol", *arguments, crash_at=place) == KILLED
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        assert registry.pending() == ([newcomer.card] if waits else [])
    assert actors.run("enrol", *arguments) == 0
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        assert registry.pending() == [newcomer.card]
        assert registry.counters() == {}


def test_a_hub_that_dies_while_it_takes_a_profile_keeps_the_old_one(
    tmp_path: Path, actors: Stage
) -> None:
    assert actors.run("publish", tmp_path, "first") == 0
    assert actors.run("publish", tmp_path, "second", crash_at="profile-noted") == KILLED
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        assert registry.profiles() == {NORTH: b"first"}


@pytest.mark.parametrize("place", ["roster-written", "roster-adopted"])
def test_a_hub_that_dies_while_it_adopts_a_roster_can_adopt_it_again(
    place: str, people: Federation, newcomer: Identity, tmp_path: Path, actors: Stage
) -> None:
    new = grown(people, newcomer)
    rosters.save(people.roster, tmp_path / "roster.json")
    rosters.save(new, tmp_path / "roster-2.json")
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        registry.enrol(registry.invite(EAST, "silo", NOW), newcomer.card, NOW)
    adopt = ("hub", "adopt", tmp_path / "roster-2.json", "--folder", tmp_path)
    assert actors.run("command", *adopt, crash_at=place) == KILLED
    assert PinnedRoster(tmp_path / "roster.json").current in (people.roster, new)
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        assert registry.pending() == [newcomer.card]
    assert actors.run("command", *adopt) == 0
    assert PinnedRoster(tmp_path / "roster.json").current == new
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        assert registry.pending() == []


# -- any node -------------------------------------------------------------------------------------


def test_a_node_that_dies_while_it_follows_a_roster_has_the_old_one_and_follows_again(
    people: Federation, newcomer: Identity, tmp_path: Path, actors: Stage
) -> None:
    new = grown(people, newcomer)
    rosters.save(people.roster, tmp_path / "roster.json")
    rosters.save(new, tmp_path / "offered.json")
    follow = ("follow", tmp_path, tmp_path / "offered.json")
    assert actors.run(*follow, crash_at="roster-written") == KILLED
    assert PinnedRoster(tmp_path / "roster.json").current == people.roster
    assert actors.run(*follow) == 0
    assert PinnedRoster(tmp_path / "roster.json").current == new


# -- the gateway ----------------------------------------------------------------------------------


def head(people: Federation, entries: int, mark: int) -> SignedMessage:
    """North's signed head; ``mark`` makes it another one of the same length."""
    value = LedgerHead(NORTH, entries, bytes([mark]) * 32, NOW + entries)
    return people.north.sign(HEAD_CONTEXT, value)


@pytest.mark.parametrize(("place", "kept"), [("head-noted", False), ("head-kept", True)])
def test_a_gateway_that_dies_remembers_the_heads_that_it_has_used(
    place: str, kept: bool, people: Federation, tmp_path: Path, actors: Stage
) -> None:
    assert actors.run("keep_head", tmp_path, 3) == 0
    assert actors.run("keep_head", tmp_path, 5, crash_at=place) == KILLED
    book = HeadBook(tmp_path / "heads.sqlite")
    with pytest.raises(IntegrityError, match="two heads of one length"):
        book.accept(people.roster, head(people, 3, 9), NORTH)
    if kept:
        with pytest.raises(IntegrityError, match="two heads of one length"):
            book.accept(people.roster, head(people, 5, 9), NORTH)
    else:
        book.accept(people.roster, head(people, 5, 9), NORTH)


def test_a_gateway_that_dies_with_a_signed_answer_has_cost_what_was_released_for_it(
    tmp_path: Path, actors: Stage
) -> None:
    assert actors.run("answer", tmp_path, crash_at="receipt-signed") == KILLED
    entered = 0
    for silo in town.SILOS:
        with closing(Store(tmp_path / silo / "silo.sqlite")) as store:
            ledger.check(store.connection)
            own = sum(len(entry.passages) for entry in ledger.entries(store.connection))
            (spent,) = store.connection.execute("SELECT sum(passages) FROM spent").fetchone()
            assert own == spent
            entered += own
    assert entered == town.K
    kept = connect(tmp_path / town.WARD / "heads.sqlite", "")
    assert kept.execute("SELECT count(DISTINCT silo) FROM heads").fetchone() == (len(town.SILOS),)
    kept.close()
