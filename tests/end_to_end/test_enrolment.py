"""A hospital joins and leaves a running federation through the commands that its IT would type."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siloquy import settings as settings_files
from siloquy.aggregator.registry import Invitation
from siloquy.serve import demo, local
from siloquy.serve.local import GATEWAY, HUB
from siloquy.settings import EncoderSettings, SiloSettings
from siloquy.silo_node.store import Store
from siloquy.text.embed import model_folder
from siloquy.trust import roster as rosters
from siloquy.trust.roster import ROSTER_FILE
from siloquy.types import NodeId
from tests.end_to_end.processes import Federation, Ran, run, siloquy, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

USAGE, SETTINGS, UNREACHABLE, DENIED, INTEGRITY = 2, 3, 4, 5, 6
VALLEY = NodeId("valley")
FOUNDERS = ("north", "south")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small federation of its own: north and south found it, its hub serves, nobody else does."""
    place = tmp_path_factory.mktemp("office")
    port, hub = local.free_port(), place / HUB
    url = f"wss://127.0.0.1:{port}"
    made = run("hub", "init", "-f", hub, "--organisation", "o", "--url", url, "--port", str(port))
    assert made.code == 0
    for founder in FOUNDERS:
        assert new_silo(place / founder, founder).code == 0
    cards = [item for name in FOUNDERS for item in ("--founder", place / name / "card")]
    draft = ("--out", place / "draft.json")
    found = ("roster", "found", "--federation", "office", "--hub", hub / "card", "--threshold", "2")
    assert run(*found, *cards, *draft).code == 0
    assert adopt(place, place / "draft.json", *(place / name for name in FOUNDERS)).code == 0
    with serving("hub", hub, place / "hub.log"):
        until(lambda: "serving" in (place / "hub.log").read_text(), "the hub does not start")
        yield place
    assert "Traceback" not in (place / "hub.log").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new silo's folder, ready to enrol."""
    assert new_silo(tmp_path / VALLEY).code == 0
    return tmp_path / VALLEY


def new_silo(folder: Path, name: str = VALLEY) -> Ran:
    return run(
        "silo", "init", "--name", name, "-f", folder, "--organisation", name, "--gateway", GATEWAY
    )


def invite(place: Path, name: str = VALLEY, role: str = "silo") -> str:
    """A fresh invitation of the hub that lies in ``place``."""
    ran = run("hub", "invite", name, "--role", role, "-f", place / HUB)
    assert ran.code == 0
    token: str = ran.json["invitation"]
    return token


def enrol(token: str, folder: Path, *more: str) -> Ran:
    return run("silo", "enroll", token, "-f", folder, *more)


def hub_status(place: Path) -> Any:
    return run("hub", "status", "-f", place / HUB).json


def drafted(place: Path, draft: Path, *without: str) -> list[str]:
    """Draft the next roster; the names in it."""
    more = [item for name in without for item in ("--without", name)]
    assert run("hub", "draft", "-f", place / HUB, "--out", draft, *more).code == 0
    return [card["node"] for card in json.loads(draft.read_text())["roster"]["members"]]


def adopt(place: Path, draft: Path, *founders: Path) -> Ran:
    """Sign a draft by some founders and hand it to the hub."""
    for founder in founders:
        assert run("roster", "sign", draft, "-f", founder, "--yes").code == 0
    return run("hub", "adopt", draft, "-f", place / HUB)


@contextmanager
def serving(role: str, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node's process."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "siloquy", role, "serve", "-f", str(folder)]
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 - ours
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


# -- joining and leaving --------------------------------------------------------------------------


def test_a_silo_is_invited_enrolled_signed_in_serves_and_leaves_again(
    fed: Federation, folder: Path, tmp_path: Path
) -> None:
    place = fed.layout.folder
    founders = [fed.layout.of(silo) for silo in fed.layout.silos[:2]]
    federation, version = fed.status()["federation"], fed.roster_version(HUB)

    ran = enrol(invite(place), folder, "--federation", federation)
    assert (ran.code, ran.json["waiting"], ran.json["federation"]) == (0, True, federation)
    own = run("silo", "status", "-f", folder).json
    assert own["rostered"] == "waiting for the founders"
    (pending,) = hub_status(place)["pending"]
    assert (pending["node"], pending["fingerprint"]) == (VALLEY, own["fingerprint"])
    assert pending["fingerprint"] == ran.json["fingerprint"]

    draft = tmp_path / "draft.json"
    assert VALLEY in drafted(place, draft)
    refused = adopt(place, draft, founders[0])
    assert (refused.code, refused.error["code"]) == (INTEGRITY, "integrity")
    assert "has 1 founders' signatures, needs 2" in refused.error["message"]
    assert adopt(place, draft, founders[1]).code == 0
    until(lambda: fed.roster_version(GATEWAY) == version + 1, "the gateway does not follow")

    source = tmp_path / "documents"
    source.mkdir()
    for name in ("vancomycin-dosing.txt", "sepsis-first-hour.md"):
        text = (demo.HOSPITALS / "harbour-general" / name).read_text()
        (source / name).write_text(text)
    ran = fed.run("silo", "ingest", source, "-f", folder, "--json")
    assert (ran.code, ran.json["added"]) == (0, 2)

    with serving("silo", folder, tmp_path / "valley.log") as process:
        until(lambda: VALLEY in fed.status()["profiled"], "it does not become routable", 30)
        released = fed.retrieved("What is the loading dose of vancomycin?")
        assert VALLEY in {passage["silo"] for passage in released}
        assert VALLEY in fed.ask()["plan"]["asked"]
        assert run("silo", "status", "-f", folder).json["passages_released"] > 0

        assert VALLEY not in drafted(place, draft, VALLEY)
        assert adopt(place, draft, *founders).code == 0
        until(lambda: VALLEY not in fed.status()["silos"], "it is still in the roster")
        assert VALLEY not in {passage["silo"] for passage in fed.retrieved("vancomycin dose")}
        assert process.poll() is None
        log = tmp_path / "valley.log"
        until(lambda: "is not in version" in log.read_text(), "it is not told that it was left out")
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


def test_a_node_that_was_left_out_does_not_come_back_with_the_next_draft(
    office: Path, tmp_path: Path
) -> None:
    draft, founders = tmp_path / "draft.json", [office / name for name in FOUNDERS]
    new_silo(tmp_path / "dale", "dale")
    assert enrol(invite(office, "dale"), tmp_path / "dale").code == 0
    assert "dale" in drafted(office, draft)
    assert adopt(office, draft, *founders).code == 0
    assert "dale" not in {item["node"] for item in hub_status(office)["pending"]}
    assert "dale" not in drafted(office, draft, "dale")
    assert adopt(office, draft, *founders).code == 0
    assert "dale" not in drafted(office, draft)
    assert "dale" not in {item["node"] for item in hub_status(office)["pending"]}


def test_a_roster_is_signed_by_founders_alone(office: Path, folder: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft.json"
    drafted(office, draft)
    for node in (office / HUB, folder):
        ran = run("roster", "sign", draft, "-f", node, "--yes")
        assert (ran.code, ran.error["code"]) == (DENIED, "denied")
    assert run("roster", "verify", draft).code == INTEGRITY
    assert run("roster", "verify", office / HUB).code == 0


# -- invitations ----------------------------------------------------------------------------------


def test_an_invitation_is_good_once(office: Path, folder: Path, tmp_path: Path) -> None:
    token = invite(office)
    assert enrol(token, folder).code == 0
    other = tmp_path / "other"
    new_silo(other)
    ran = enrol(token, other)
    assert (ran.code, ran.error["code"]) == (DENIED, "denied")
    assert "no open invitation for valley" in ran.error["message"]
    assert not (other / ROSTER_FILE).exists()
    refused = hub_status(office)["refused"]
    assert refused["enrolments refused"] >= 1


def test_an_invitation_is_for_one_name_and_role(office: Path, tmp_path: Path) -> None:
    new_silo(tmp_path / "hill", "hill")
    ran = enrol(invite(office), tmp_path / "hill")
    assert (ran.code, ran.error["code"]) == (INTEGRITY, "integrity")
    assert ran.error["message"] == "the invitation is for silo valley, this is silo hill"
    ran = enrol(invite(office, "hill", "gateway"), tmp_path / "hill")
    assert ran.error["message"] == "the invitation is for gateway hill, this is silo hill"
    token = Invitation.parse(invite(office))
    ran = enrol(replace(token, node=NodeId("hill")).token(), tmp_path / "hill")
    assert (ran.code, ran.error["code"]) == (DENIED, "denied")
    assert not (tmp_path / "hill" / ROSTER_FILE).exists()


def test_an_invitation_expires(office: Path, folder: Path) -> None:
    token = invite(office)
    with closing(sqlite3.connect(office / HUB / "hub.sqlite")) as database:
        database.execute("UPDATE invitations SET expires = 1 WHERE NOT used")
        database.commit()
    assert enrol(token, folder).code == DENIED


def test_another_federation_is_refused_and_the_invitation_stays_good(
    office: Path, folder: Path
) -> None:
    token = invite(office)
    ran = enrol(token, folder, "--federation", "AAAA-BBBB-CCCC-DDDD-EEEE")
    assert (ran.code, ran.error["code"]) == (INTEGRITY, "integrity")
    assert "expected AAAA-BBBB-CCCC-DDDD-EEEE" in ran.error["message"]
    forged = replace(Invitation.parse(token), federation="AAAA-BBBB-CCCC-DDDD-EEEE")
    assert enrol(forged.token(), folder).code == INTEGRITY
    assert not (folder / ROSTER_FILE).exists()
    assert enrol(token, folder).code == 0


def test_an_invitation_to_another_hub_or_certificate_is_refused(office: Path, folder: Path) -> None:
    token = Invitation.parse(invite(office))
    ran = enrol(replace(token, hub_key=bytes(32)).token(), folder)
    assert (ran.code, ran.error["message"]) == (INTEGRITY, "this hub is not the federation's")
    ran = enrol(replace(token, certificate=bytes(32)).token(), folder)
    assert ran.code == INTEGRITY
    assert "not the invitation's" in ran.error["message"]
    ran = enrol(replace(token, url="wss://127.0.0.1:9").token(), folder)
    assert (ran.code, ran.error["code"]) == (UNREACHABLE, "unreachable")
    ran = enrol(replace(token, url="ws://127.0.0.1:9").token(), folder)
    assert (ran.code, ran.error["code"]) == (SETTINGS, "settings")


@pytest.mark.parametrize("damage", ["siloquy1.", "siloquy1.AAAA", "siloquy2.AAAA", "x", "", "ä.ö"])
def test_a_damaged_invitation_is_refused(folder: Path, damage: str) -> None:
    ran = enrol(damage, folder)
    assert (ran.code, ran.error["code"]) == (INTEGRITY, "integrity")


def test_new_keys_for_a_member_s_name_wait_for_the_founders(office: Path, tmp_path: Path) -> None:
    """Whoever gets hold of an invitation is not the member before founders have compared."""
    token = invite(office, FOUNDERS[0])
    new_silo(tmp_path / "usurper", FOUNDERS[0])
    assert enrol(token, tmp_path / "usurper").code == 0
    before = rosters.load(office / HUB / ROSTER_FILE)
    log = tmp_path / "usurper.log"
    with serving("silo", tmp_path / "usurper", log):
        until(lambda: "other keys" in log.read_text(), "the usurper is not turned away")
    assert rosters.load(office / HUB / ROSTER_FILE) == before


# -- encoders -------------------------------------------------------------------------------------


def other_encoder(folder: Path, dimension: int, *, weights: bytes = b"") -> Path:
    """An encoder's folder with other weights, or the true ones under another dimension."""
    folder.mkdir()
    true = model_folder(EncoderSettings())
    if weights:
        (folder / "model.safetensors").write_bytes(weights)
    else:
        (folder / "model.safetensors").symlink_to(true / "model.safetensors")
    (folder / "tokenizer.json").symlink_to(true / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps({"hidden_size": dimension}))
    return folder


def use_encoder(folder: Path, model: Path | None) -> None:
    """Set ``encoder.model`` of a silo."""
    settings = settings_files.read(SiloSettings, folder)
    encoder = replace(settings.encoder, model=str(model or ""))
    settings_files.write(replace(settings, encoder=encoder), folder)


@pytest.mark.parametrize(("dimension", "weights"), [(384, b"other"), (128, b"")])
def test_another_encoder_or_dimension_is_refused_at_enrolment_and_named(
    office: Path, folder: Path, tmp_path: Path, dimension: int, weights: bytes
) -> None:
    use_encoder(folder, other_encoder(tmp_path / "mini", dimension, weights=weights))
    token = invite(office)
    ran = enrol(token, folder)
    assert (ran.code, ran.error["code"]) == (DENIED, "incompatible")
    assert f"encoder mini ({dimension} dimensions" in ran.error["message"]
    assert "federation's all-MiniLM-L6-v2 (384" in ran.error["message"]
    assert "encoder.model" in ran.error["hint"]
    assert not (folder / ROSTER_FILE).exists()
    use_encoder(folder, None)
    assert enrol(token, folder).code == 0


def test_an_encoder_that_changed_after_enrolment_is_named_by_doctor_and_refused_by_serve(
    office: Path, folder: Path, tmp_path: Path
) -> None:
    assert enrol(invite(office), folder).code == 0
    use_encoder(folder, other_encoder(tmp_path / "mini", 128, weights=b"other"))

    ran = run("doctor", "--folder", folder)
    assert (ran.code, ran.error["code"]) == (SETTINGS, "settings")
    assert "valley: encoder" in ran.error["message"]
    shown = siloquy("doctor", "--folder", folder)
    assert shown.code == SETTINGS
    assert "differs" in shown.out
    assert "mini" in shown.out

    ran = siloquy("silo", "serve", "-f", folder)
    assert ran.code == DENIED
    assert "encoder mini (128 dimensions" in " ".join(ran.err.split())

    use_encoder(folder, None)
    store = Store(folder / "silo.sqlite")
    assert store.fact("encoder") is None
    store.close()
    ran = run("doctor", "--folder", folder)
    assert "valley: encoder" not in ran.error["message"]
    assert "valley: membership" in ran.error["message"]


@pytest.mark.parametrize("spoil", ["config.json", "model.safetensors", "the folder"])
def test_an_incomplete_encoder_folder_is_named(
    office: Path, folder: Path, tmp_path: Path, spoil: str
) -> None:
    model = other_encoder(tmp_path / "mini", 384, weights=b"other")
    assert enrol(invite(office), folder).code == 0
    if spoil == "the folder":
        model = tmp_path / "nowhere"
    else:
        (model / spoil).unlink()
    use_encoder(folder, model)
    ran = run("doctor", "--folder", folder)
    assert ran.code == SETTINGS
    assert "valley: encoder" in ran.error["message"]
    ran = siloquy("silo", "serve", "-f", folder)
    assert ran.code == SETTINGS
    assert str(model) in " ".join(ran.err.split()).replace(" ", "") or "mini" in ran.err


def test_a_store_of_another_encoder_is_refused_and_named(
    office: Path, folder: Path, tmp_path: Path
) -> None:
    assert enrol(invite(office), folder).code == 0
    store = Store(folder / "silo.sqlite")
    store.set_fact("encoder", "00" * 32)
    store.close()
    ran = run("doctor", "--folder", folder)
    assert "valley: store" in ran.error["message"]
    ran = siloquy("silo", "serve", "-f", folder)
    assert ran.code == DENIED
    assert "the store's vectors are of encoder 000000000000" in ran.err


# -- not enrolled ---------------------------------------------------------------------------------


def test_a_node_that_is_not_enrolled_does_not_serve_and_says_what_to_do(folder: Path) -> None:
    ran = siloquy("silo", "serve", "-f", folder)
    assert ran.code == SETTINGS
    assert "roster.json is missing" in ran.err
    assert "enroll" in ran.err
    assert run("silo", "status", "-f", folder).json["rostered"] == "not enrolled"
    ran = run("doctor", "--folder", folder)
    assert (ran.code, "valley: roster" in ran.error["message"]) == (SETTINGS, True)


def test_an_identity_is_never_overwritten(folder: Path) -> None:
    ran = new_silo(folder)
    assert (ran.code, ran.error["code"]) == (SETTINGS, "settings")
