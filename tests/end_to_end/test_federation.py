"""One federation of real processes: five synthetic hospitals, a hub, a gateway, asked over HTTP."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from siloquy.serve import demo
from siloquy.serve.local import GATEWAY, HUB
from siloquy.settings import AskSettings
from siloquy.trust import receipt
from siloquy.trust import roster as rosters
from siloquy.trust.roster import ROSTER_FILE
from siloquy.types import NodeId
from tests.end_to_end.processes import (
    HARBOUR,
    HOME,
    NORTHMOOR,
    VANCOMYCIN,
    Federation,
    error_in,
    run,
    until,
)

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

UNANSWERABLE = "What is the loading dose of magnesium sulfate in severe pre-eclampsia?"
SCHEMA = HOME / "docs" / "answer.schema.json"
MOST_SILO_MEMORY_MB = 200
K = 10


@pytest.fixture(scope="module")
def answer(fed: Federation) -> dict[str, Any]:
    """The answer to the question about vancomycin."""
    return fed.ask()


@pytest.fixture(scope="module")
def abstention(fed: Federation) -> dict[str, Any]:
    """The answer to a question that no document covers."""
    return fed.ask(UNANSWERABLE, intent="fast")


# -- answers --------------------------------------------------------------------------------------


def test_a_question_is_answered_and_cites_the_hospital_that_knows(answer: dict[str, Any]) -> None:
    assert not answer["abstained"]
    assert "25 mg/kg" in answer["answer"]
    cited = {n for sentence in answer["sentences"] for n in sentence["citations"]}
    sources = {source["n"]: source for source in answer["sources"]}
    assert {sources[n]["silo"] for n in cited} == {HARBOUR}
    assert sources[min(cited)]["document"] == "vancomycin-dosing.txt"
    for sentence in answer["sentences"]:
        assert any(sentence["text"] in sources[n]["text"] for n in sentence["citations"])


def test_every_asked_silo_is_accounted_for(answer: dict[str, Any]) -> None:
    plan = answer["plan"]
    assert answer["missing"] == []
    assert set(answer["released"]) <= set(plan["asked"])
    assert set(plan["asked"]) | set(plan["skipped"]) == set(plan["reasons"])
    assert HARBOUR in plan["asked"]


def test_at_most_k_passages_leave_in_all(fed: Federation, answer: dict[str, Any]) -> None:
    assert sum(answer["released"].values()) <= K
    for k in (1, 3):
        few = fed.ask(k=k, route="all")
        assert sum(few["released"].values()) <= k
        assert len(few["sources"]) <= k


def test_the_answer_fits_its_schema(answer: dict[str, Any], abstention: dict[str, Any]) -> None:
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.relative_to(HOME)} is not written yet")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    for value in (answer, abstention):
        jsonschema.validate(value, schema)


def test_an_unanswerable_question_abstains_and_says_truly_what_left(
    fed: Federation, abstention: dict[str, Any]
) -> None:
    assert abstention["abstained"]
    assert (abstention["sentences"], abstention["sources"]) == ([], [])
    rounds = abstention["rounds"]
    left_out = set(fed.layout.silos) - set(rounds[0]["asked"])
    assert [item["kind"] for item in rounds] == ["question", "wider"][: 1 + bool(left_out)]
    assert left_out == {silo for item in rounds[1:] for silo in item["asked"]}
    assert 0 < sum(rounds[0]["released"].values()) <= K
    assert sum(abstention["released"].values()) <= AskSettings().most_released
    silo = NodeId(next(iter(abstention["released"])))
    before = entries_of(fed, silo)
    again = fed.ask(UNANSWERABLE, intent="fast")
    after = entries_of(fed, silo)
    assert after["passages_released"] - before["passages_released"] == again["released"][silo]
    assert after["ledger_entries"] == before["ledger_entries"] + 1


def entries_of(fed: Federation, silo: NodeId) -> dict[str, Any]:
    status: dict[str, Any] = run("silo", "status", "-f", fed.layout.of(silo)).json
    return status


def test_the_receipt_of_an_answer_verifies_and_a_changed_one_does_not(
    fed: Federation, answer: dict[str, Any], abstention: dict[str, Any]
) -> None:
    federation = rosters.load(fed.layout.of(GATEWAY) / ROSTER_FILE).fingerprint
    assert fed.status()["federation"] == federation
    for value, question in ((answer, VANCOMYCIN), (abstention, UNANSWERABLE)):
        checks = {item.name: item.holds for item in receipt.check(value, federation, question)}
        assert all(checks.values()), checks
        assert {"roster", "federation", "gateway's signature", "ledger heads"} < set(checks)
    changed = json.loads(json.dumps(answer).replace("25 mg/kg", "52 mg/kg"))
    checks = {item.name: item.holds for item in receipt.check(changed, federation, VANCOMYCIN)}
    assert not checks["answer"]
    assert not checks["sources"]
    assert checks["gateway's signature"]


def test_the_silo_s_ledger_holds_what_the_receipt_says(
    fed: Federation, answer: dict[str, Any], tmp_path: Path
) -> None:
    saved = tmp_path / "answer.json"
    saved.write_text(json.dumps(answer))
    folder = fed.layout.of(HARBOUR)
    ran = run("silo", "verify", "-f", folder, "--receipt", saved)
    assert (ran.code, ran.json["heads_compared"], ran.json["store"]) == (0, 1, "ok")
    ran = run("verify", saved, "--question", VANCOMYCIN)
    assert (ran.code, ran.json["holds"]) == (0, True)


# -- the router -----------------------------------------------------------------------------------


def test_silos_are_probed_and_what_they_are_worth_is_shown(
    fed: Federation, answer: dict[str, Any]
) -> None:
    folder = fed.layout.of(GATEWAY)

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = run("gateway", "router", "-f", folder).json
        return {item["silo"]: item for item in found["silos"]}

    until(lambda: shown().keys() >= set(answer["released"]), "no claim was checked")
    for silo, account in shown().items():
        assert (account["strikes"], account["asked"]) == (0, True), silo
        assert account["probe"] is None or account["probe"] >= 0.5, silo
    assert all(shown()[silo]["verified"] > 0 for silo, n in answer["released"].items() if n)


def test_past_questions_calibrate_the_router_and_nothing_leaves(
    fed: Federation, answer: dict[str, Any], tmp_path: Path
) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text(f"{VANCOMYCIN}\n{UNANSWERABLE}\n")
    folder = fed.layout.of(GATEWAY)
    before = {silo: entries_of(fed, silo)["ledger_entries"] for silo in fed.layout.silos}
    ran = run("gateway", "calibrate", questions, "-f", folder)
    assert (ran.code, ran.json["asked"], ran.json["counted"]) == (0, 2, 2)
    assert "too few" in ran.err
    after = {silo: entries_of(fed, silo)["ledger_entries"] for silo in fed.layout.silos}
    assert after == before


# -- documents come and go ------------------------------------------------------------------------


def test_a_document_deleted_from_a_serving_silo_vanishes_and_comes_back_when_ingested(
    fed: Federation,
) -> None:
    def found() -> bool:
        passages = fed.retrieved(VANCOMYCIN)
        return any(item["document"] == "vancomycin-dosing.txt" for item in passages)

    folder = fed.layout.of(HARBOUR)
    assert found()
    ran = fed.run("silo", "delete", "vancomycin-dosing.txt", "-f", folder, "--json")
    assert ran.json["deleted"]["vancomycin-dosing.txt"] >= 1
    assert until(lambda: not found(), "the document is still released") < 5
    ran = fed.run("silo", "ingest", demo.HOSPITALS / HARBOUR, "-f", folder, "--json")
    assert (ran.code, ran.json["added"], ran.json["embedded"]) == (0, 1, 0)
    assert until(found, "the document is not found again") < 5


def test_the_gateway_learns_a_silo_s_new_profile_within_seconds(fed: Federation) -> None:
    """A silo that lost all it had is not chosen any more; a silo that has it again is."""
    folder = fed.layout.of(NORTHMOOR)
    ids = [path.name for path in (demo.HOSPITALS / NORTHMOOR).iterdir() if path.suffix != ".jsonl"]
    records = [f"case-notes.jsonl#nm-00{n}" for n in range(1, 6)]
    fed.run("silo", "delete", *ids, *records, "-f", folder)

    def reason() -> str:
        body = {"question": VANCOMYCIN, "k": 1, "rescore": False}
        text: str = fed.http.post("/v1/retrieve", json=body).json()["plan"]["reasons"][NORTHMOOR]
        return text

    until(lambda: reason() == "holds no passages", "its old profile is still used")
    ran = fed.run("silo", "ingest", demo.HOSPITALS / NORTHMOOR, "-f", folder, "--json")
    assert ran.json["added"] == len(ids) + len(records) - 1
    words = ("likely to hold", "may hold", "unlikely to hold")
    until(lambda: reason().startswith(words), "its new profile is not used")


# -- processes ------------------------------------------------------------------------------------


def test_a_serving_silo_is_small_has_no_torch_and_listens_nowhere(fed: Federation) -> None:
    for silo in fed.layout.silos:
        process = fed.process(silo)
        assert process.memory_info().rss < MOST_SILO_MEMORY_MB * 1e6
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        sockets = process.net_connections("all")
        assert [item for item in sockets if item.status == "LISTEN"] == []
        assert len([item for item in sockets if item.status == "ESTABLISHED"]) == 1


def test_hub_and_gateway_listen_on_one_port_each(fed: Federation) -> None:
    for node, port in ((HUB, fed.layout.hub_port), (GATEWAY, fed.layout.gateway_port)):
        found = fed.process(node).net_connections("inet")
        listening = [item.laddr for item in found if item.status == "LISTEN"]
        assert [(item.ip, item.port) for item in listening] == [("127.0.0.1", port)]


def test_a_second_process_for_one_node_is_refused(fed: Federation) -> None:
    """Two silos on one store would hand out what the other has counted."""
    ran = fed.run("silo", "serve", "-f", fed.layout.of(HARBOUR))
    assert ran.code == 3
    assert "another process serves" in ran.err
    assert fed.everyone_answers()


def test_a_killed_silo_is_named_and_serves_again_after_a_restart(fed: Federation) -> None:
    fed.kill(HARBOUR)
    start = time.monotonic()
    answer = fed.ask(route="all")
    assert time.monotonic() - start < 6
    (missing,) = answer["missing"]
    assert (missing["silo"], missing["reason"]) == (HARBOUR, "unreachable")
    assert HARBOUR not in answer["released"]
    assert not [source for source in answer["sources"] if source["silo"] == HARBOUR]
    fed.demo.processes.start(HARBOUR)
    until(fed.everyone_answers, "the silo does not serve again", 30)
    assert fed.ask()["answer"].startswith("The loading dose is 25 mg/kg")


def test_a_silo_that_hangs_is_named_within_the_deadline(fed: Federation) -> None:
    process = fed.process(NORTHMOOR)
    process.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        answer = fed.ask(route="all")
        took_s = time.monotonic() - start
    finally:
        process.send_signal(signal.SIGCONT)
    (missing,) = answer["missing"]
    assert (missing["silo"], missing["reason"]) == (NORTHMOOR, "timeout")
    assert answer["timings_ms"]["search"] < 6000
    assert took_s < 12
    until(fed.everyone_answers, "the silo does not serve again", 30)


def test_a_killed_hub_is_named_and_everybody_comes_back_to_it(fed: Federation) -> None:
    fed.kill(HUB)
    until(lambda: not fed.status()["hub"], "the gateway does not notice")
    error = error_in(fed.http.post("/v1/ask", json={"question": VANCOMYCIN}), 503)
    assert error["code"] == "unreachable"
    fed.demo.processes.start(HUB)
    until(fed.everyone_answers, "not everybody came back", 30)


# -- what is written ------------------------------------------------------------------------------


def test_no_log_holds_a_word_of_questions_or_documents_or_a_stack_trace(
    fed: Federation, answer: dict[str, Any], abstention: dict[str, Any]
) -> None:
    texts = [source["text"] for source in answer["sources"]]
    pieces = {text[i : i + 30] for text in texts for i in range(0, len(text) - 30, 30)}
    words = {
        "vancomycin",
        "loading dose",
        "magnesium",
        "eclampsia",
        "HN-0000",
        "01632",
        "marketing",
    }
    for node in fed.layout.nodes:
        log = fed.log(node)
        assert "serving" in log
        assert "Traceback" not in log
        low = log.lower()
        assert [word for word in words if word.lower() in low] == []
        assert [piece for piece in pieces if piece.lower() in low] == []


def test_the_hub_s_folder_holds_no_word_of_questions_or_documents(
    fed: Federation, answer: dict[str, Any]
) -> None:
    kept = b"".join(p.read_bytes() for p in fed.layout.of(HUB).rglob("*") if p.is_file()).lower()
    assert HARBOUR.encode() in kept
    for word in ("vancomycin", "eclampsia", "hn-0000", "01632", "loading dose"):
        assert word.encode() not in kept
