"""A hospital pauses its serving silo, and watches it in the console: real processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from siloquy.serve.local import HUB
from tests.end_to_end.processes import HARBOUR, NORTHMOOR, Console, Federation, run, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

PAUSED = {"silo": HARBOUR, "reason": "refused", "detail": "paused by its hospital"}


@contextmanager
def paused(fed: Federation) -> Iterator[None]:
    """Harbour General paused inside; afterwards everybody answers again."""
    folder = fed.layout.of(HARBOUR)
    assert run("silo", "pause", "-f", folder, "--reason", "a drill").code == 0
    try:
        yield
    finally:
        assert run("silo", "resume", "-f", folder).code == 0
        until(lambda: HARBOUR in fed.status()["profiled"], "its profile does not come back")
        until(fed.everyone_answers, "somebody is still missing")


def entries(fed: Federation) -> int:
    shown = run("silo", "status", "-f", fed.layout.of(HARBOUR)).json
    number: int = shown["ledger_entries"]
    return number


def test_a_paused_silo_is_missing_by_its_own_word_and_the_others_answer(fed: Federation) -> None:
    fed.ask(route="all")
    with paused(fed):
        before = entries(fed)
        answer = fed.ask(route="all")
        assert PAUSED in answer["missing"]
        assert HARBOUR not in answer["released"]
        assert HARBOUR not in {source["silo"] for source in answer["sources"]}
        assert entries(fed) == before
        assert "a drill" not in fed.log(HARBOUR) + fed.log(HUB)


def test_the_gateway_tells_who_belongs_and_who_was_missing_lately(fed: Federation) -> None:
    with paused(fed):
        fed.ask(route="all")
        until(lambda: HARBOUR not in fed.status()["profiled"], "its profile is still there")
        told = fed.http.get("/v1/federation").raise_for_status().json()
    silos = {silo["node"]: silo for silo in told["silos"]}
    assert list(silos) == list(fed.layout.silos)
    lately = silos[HARBOUR]["missing_lately"]
    assert (lately["last"]["reason"], lately["last"]["detail"]) == (
        "refused",
        "paused by its hospital",
    )
    assert (silos[HARBOUR]["profile"], silos[NORTHMOOR]["profile"]["epsilon"]) == (None, 8.0)
    assert (told["hub"]["connected"], told["warnings"]) == (True, [])
    assert told["promise"]["questions"] > 0
    roster = fed.http.get("/v1/roster").raise_for_status().json()
    assert roster["fingerprint"] == told["fingerprint"] == fed.status()["federation"]
    prints = {member["node"]: member["fingerprint"] for member in roster["members"]}
    assert prints[HARBOUR] == silos[HARBOUR]["fingerprint"]
    own = run("silo", "status", "-f", fed.layout.of(HARBOUR)).json
    assert prints[HARBOUR] == own["fingerprint"]


def test_while_questions_run_nothing_leaves_from_the_pause_on(fed: Federation) -> None:
    stop, failed = threading.Event(), list[str]()

    def keep_asking() -> None:
        with httpx.Client(base_url=fed.layout.gateway_url, trust_env=False, timeout=30) as http:
            while not stop.is_set():
                body = {"question": "What is the loading dose of vancomycin?", "route": "all"}
                reply = http.post("/v1/retrieve", json=body)
                if reply.status_code != 200:
                    failed.append(reply.text)

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        start = entries(fed)
        until(lambda: entries(fed) > start + 3, "nothing is released before the pause")
        with paused(fed):
            at_pause = entries(fed)
            until(lambda: HARBOUR not in fed.status()["profiled"], "its profile is still there")
            assert entries(fed) == at_pause
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert run("silo", "verify", "-f", fed.layout.of(HARBOUR)).code == 0


def test_a_restart_does_not_end_a_pause(fed: Federation) -> None:
    with paused(fed):
        fed.kill(HARBOUR)
        fed.demo.processes.start(HARBOUR)
        until(lambda: PAUSED in fed.ask(route="all")["missing"], "it is not back, or not paused")
        until(lambda: HARBOUR not in fed.status()["profiled"], "its profile is still there")


# -- the console ----------------------------------------------------------------------------------


@pytest.fixture
def console(fed: Federation) -> Iterator[Console]:
    made = Console(fed.layout.of(HARBOUR))
    yield made
    made.end()


def state(http: httpx.Client) -> dict[str, Any]:
    shown: dict[str, Any] = http.get("/v1/silo").raise_for_status().json()
    return shown


def test_the_console_shows_a_serving_silo_its_releases_and_pauses_it(
    fed: Federation, console: Console
) -> None:
    with console.entered() as http:
        shown = state(http)
        roster = f"version {fed.roster_version(HARBOUR)}"
        assert (shown["node"], shown["serving"], shown["rostered"]) == (HARBOUR, True, roster)
        assert (shown["line"], shown["restart_needed"]) == (None, False)
        assert shown["policy"][0]["words"] == "Only the gateway gateway may ask."
        assert shown["privacy"]["spent"] == pytest.approx(8.0, abs=0.1)
        answer = fed.ask(route="all")
        (newest,) = http.get("/v1/silo/ledger?limit=1").json()["entries"]
        assert newest["query_id"] == answer["rounds"][0]["query_id"]
        assert len(newest["passages"]) == answer["released"][HARBOUR]
        assert newest["hash"] == http.post("/v1/silo/ledger/verify", json={}).json()["head"]
        texts = [source["text"] for source in answer["sources"] if source["silo"] == HARBOUR]
        pages = [http.get(f"/v1/silo{page}").text for page in ("", "/ledger", "/documents")]
        assert not [text for text in texts for page in pages if text in page]
        http.post("/v1/silo/pause", json={"reason": "a drill"}).raise_for_status()
        assert PAUSED in fed.ask(route="all")["missing"]
        http.delete("/v1/silo/pause").raise_for_status()
        until(lambda: HARBOUR in fed.status()["profiled"], "its profile does not come back")
        until(fed.everyone_answers, "somebody is still missing")


def test_enter_gives_another_link_and_the_one_before_is_worthless(
    fed: Federation, console: Console
) -> None:
    address, first = console.link()
    console.press_enter()
    with console.entered() as http:
        assert http.post("/v1/session/open", json={"token": first}).status_code == 401
        assert state(http)["node"] == HARBOUR
        assert address == str(http.base_url).rstrip("/")


def test_a_console_of_another_silo_does_not_know_the_session(
    fed: Federation, console: Console
) -> None:
    other = Console(fed.layout.of(NORTHMOOR))
    try:
        with console.entered() as http:
            address, _ = other.link()
            assert http.get(f"{address}/v1/silo").status_code == 401
    finally:
        other.process.terminate()
        other.process.communicate(timeout=20)
