"""The federation and its roster as a gateway shows them."""

from __future__ import annotations

from dataclasses import replace

from siloquy.codec import to_json
from siloquy.gateway.attendance import Absence, SiloAttendance
from siloquy.gateway.membership import (
    FederationView,
    HubView,
    MemberView,
    NodeView,
    ProfileView,
    PromiseView,
    TrustView,
    federation_view,
    roster_view,
)
from siloquy.router.account import RouterReport, SiloReport
from siloquy.router.profile import OpenedProfiles
from siloquy.trust.identity import fingerprint
from siloquy.trust.roster import SignedRoster
from siloquy.types import Missing, NodeId
from tests.router.profiles import profile
from tests.siloquy.federation import ENCODER, NOW, Federation

NORTH, SOUTH = NodeId("north"), NodeId("south")
LATE = SiloAttendance(9, 2, Absence(NOW, "timeout", "it did not answer in 9 s"))
NOTHING = OpenedProfiles((), ())
ACCOUNT = RouterReport(
    210,
    150,
    200,
    broken=True,
    promised={"precise": None, "diverse": None, "fast": 0.8},
    silos=(SiloReport(NORTH, 12, 1, NOW, asked=True, wins=1, probe=0.9),),
)


def seen(
    federation: Federation,
    opened: OpenedProfiles = NOTHING,
    account: RouterReport | None = None,
    roster: SignedRoster | None = None,
) -> FederationView:
    return federation_view(
        roster or federation.roster,
        federation.ward.card,
        opened,
        account,
        lambda silo: LATE if silo == NORTH else SiloAttendance(),
        connected=True,
    )


def test_gateway_hub_and_every_silo_of_the_roster_are_named(federation: Federation) -> None:
    found = seen(federation)
    assert (found.federation, found.fingerprint) == ("vale", federation.roster.fingerprint)
    assert found.roster_version == 1
    assert found.gateway == NodeView(NodeId("ward"), "Northmoor")
    assert found.hub == HubView(NodeId("hub"), "Vale", connected=True)
    assert [(silo.node, silo.organisation) for silo in found.silos] == [
        (NORTH, "Northmoor"),
        (SOUTH, "St Brigid"),
    ]
    assert found.silos[0].fingerprint == fingerprint(federation.north.card.signing_key)


def test_a_silo_s_profile_or_why_there_is_none_is_told(federation: Federation) -> None:
    shown = replace(profile("north"), version=7, epsilon=8.0, delta=1e-5, sealing="able")
    opened = OpenedProfiles((shown,), (Missing(SOUTH, "integrity", "it was rolled back"),))
    north, south = seen(federation, opened).silos
    assert north.profile == ProfileView(7, shown.created, shown.expires, shown.size, 8.0, "able")
    assert (north.refused, south.profile, south.refused) == ("", None, "it was rolled back")


def test_what_a_silo_s_word_was_worth_and_how_it_went_lately_is_told(
    federation: Federation,
) -> None:
    north, south = seen(federation, account=ACCOUNT).silos
    assert (north.trust, north.quota) == (TrustView(12, 1, NOW, asked=True, probe=0.9), 1)
    assert (north.missing_lately, south.missing_lately) == (LATE, SiloAttendance())
    assert (south.trust, south.quota) == (None, None)


def test_what_is_promised_is_told(federation: Federation) -> None:
    found = seen(federation, account=ACCOUNT)
    assert found.promise == PromiseView(210, 150, 200, True, None, None, 0.8)
    assert seen(federation).promise is None


def test_it_is_said_where_the_hub_s_organisation_runs_silos_too(federation: Federation) -> None:
    assert seen(federation).warnings == ()
    members = tuple(
        replace(card, organisation="Vale") if card.node == SOUTH else card
        for card in federation.members
    )
    roster = replace(federation.roster, roster=replace(federation.roster.roster, members=members))
    (warning,) = seen(federation, roster=roster).warnings
    assert warning.startswith("Vale runs the hub and south: sealed mode protects nothing")


def test_the_roster_is_shown_by_fingerprints_without_keys(federation: Federation) -> None:
    found = roster_view(federation.roster)
    assert (found.federation, found.version, found.created) == ("vale", 1, NOW)
    assert (found.threshold, found.encoder) == (2, ENCODER)
    founders = [federation.north, federation.south, federation.ward]
    assert set(found.founders) == {fingerprint(one.card.signing_key) for one in founders}
    own = fingerprint(federation.hub.card.signing_key)
    assert found.members[-1] == MemberView(NodeId("hub"), "hub", "Vale", own)
    assert [item.node for item in found.members] == ["north", "south", "ward", "hub"]
    assert "key" not in str(to_json(found))
