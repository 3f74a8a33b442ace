"""Metrics: what is counted is shown, and nobody can write into a label."""

from __future__ import annotations

import dataclasses
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from siloquy.errors import BY_CODE, MissingReason
from siloquy.types import Answer, Missing, NodeId, Plan, Sentence
from siloquy.watch import metric_parts
from siloquy.watch.metric_parts import Registry
from siloquy.watch.metrics import (
    RULES,
    GatewayMonitor,
    Holdings,
    HubMonitor,
    LineRole,
    Outcome,
    SiloMonitor,
)
from tests.siloquy.scrape import Scraped

HOME = Path(__file__).resolve().parents[3]
CANARY = "zanthoxyl-dose"
ANSWER = Answer(
    question=CANARY,
    answer=CANARY,
    abstained=False,
    sentences=(Sentence(CANARY, (1,), 1.0),),
    sources=(),
    plan=Plan("open", (NodeId("north"),), (), {}),
    missing=(),
    withheld={},
    released={"north": 2},
    flagged={},
    rounds=(),
    conflicts=(),
    dropped=3,
    notes=(CANARY,),
    mode="open",
    model=CANARY,
    extractive=True,
    timings_ms={"understand": 10.0, "generate": 500.0, "search": 7.0, CANARY: 1.0},
    receipt={},
)


def scrape(registry: Registry) -> Scraped:
    body, kind = metric_parts.text(registry)
    assert kind.startswith("text/plain")
    assert CANARY.encode() not in body
    return Scraped(body)


@dataclass
class Line:
    """A connection that has carried something."""

    peer: NodeId
    bytes_in: int = 0
    bytes_out: int = 0
    refused_frames: int = 0


# -- gateway --------------------------------------------------------------------------------------


def gateway(*names: str) -> GatewayMonitor:
    return GatewayMonitor("ward", lambda: names)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_a_question_is_counted_once_by_its_outcome(outcome: Outcome) -> None:
    monitor = gateway()
    monitor.asked(outcome, 0.2)
    shown = scrape(monitor.registry)
    for other in get_args(Outcome):
        assert shown("gateway_questions_total", outcome=other) == (other == outcome)
    assert shown("gateway_question_seconds_sum", outcome=outcome) == pytest.approx(0.2)


def test_an_answer_is_counted_with_its_sentences_and_its_own_stages() -> None:
    monitor = gateway()
    monitor.answered(ANSWER, 0.6)
    monitor.answered(dataclasses.replace(ANSWER, abstained=True, sentences=()), 0.1)
    shown = scrape(monitor.registry)
    assert shown("gateway_questions_total", outcome="answered") == 1
    assert shown("gateway_questions_total", outcome="abstained") == 1
    assert shown("gateway_sentences_total", fate="kept") == 1
    assert shown("gateway_sentences_total", fate="dropped") == 6
    assert shown("gateway_stage_seconds_sum", stage="generate") == pytest.approx(1.0)
    # Rounds have counted theirs.
    assert shown("gateway_stage_seconds_count", stage="search") == 0
    assert shown("gateway_passages_released_total") == 0


def test_a_round_is_counted_with_its_silos_and_stages() -> None:
    monitor = gateway("north", "south")
    missing = [Missing(NodeId("north"), "timeout", CANARY), Missing(NodeId("south"), "refused")]
    monitor.collected(5, missing, 7, {"search": 40.0, "generate": 9.0})
    monitor.collected(1, (), 2, {})
    shown = scrape(monitor.registry)
    assert shown("gateway_rounds_total") == 2
    assert shown("gateway_silos_asked_total") == 6
    assert shown("gateway_passages_released_total") == 9
    assert shown("gateway_missing_total", silo="north", reason="timeout") == 1
    assert shown("gateway_missing_total", silo="south", reason="refused") == 1
    assert shown("gateway_stage_seconds_sum", stage="search") == pytest.approx(0.04)
    assert shown("gateway_stage_seconds_count", stage="generate") == 0


def test_a_silo_that_the_roster_does_not_name_gets_no_label() -> None:
    monitor = gateway("north")
    for name in (CANARY, "x" * 5000, 'a"}\nforged 1'):
        monitor.collected(1, [Missing(NodeId(name), "timeout")], 0, {})
    assert scrape(monitor.registry)("gateway_missing_total", silo="other", reason="timeout") == 3


def test_errors_sheds_and_model_failures_are_counted_by_code() -> None:
    monitor = gateway()
    monitor.failed("unreachable", 0.1)
    monitor.failed(CANARY, 0.1)
    monitor.shed()
    monitor.model_failed("timeout")
    monitor.retrieved("busy", 0.1)
    shown = scrape(monitor.registry)
    assert shown("gateway_questions_total", outcome="failed") == 2
    assert shown("gateway_errors_total", code="unreachable") == 1
    assert shown("gateway_errors_total", code="other") == 1
    assert shown("gateway_questions_total", outcome="shed") == 1
    assert shown("gateway_model_failures_total", code="timeout") == 1
    assert shown("gateway_retrievals_total", code="busy") == 1


def test_the_queue_is_read_when_it_is_scraped() -> None:
    monitor, load = gateway(), [(1, 0)]
    monitor.queue(lambda: load[0])
    assert scrape(monitor.registry)("gateway_running") == 1
    load[0] = (8, 21)
    shown = scrape(monitor.registry)
    assert (shown("gateway_running"), shown("gateway_waiting")) == (8, 21)


def test_two_gateways_in_one_process_count_apart() -> None:
    one, other = gateway(), gateway()
    one.shed()
    assert scrape(other.registry)("gateway_questions_total", outcome="shed") == 0


# -- hub ------------------------------------------------------------------------------------------


def test_a_line_s_bytes_stay_counted_after_it_is_closed() -> None:
    monitor = HubMonitor("hub")
    silo, again = Line(NodeId("north"), 10, 20, 1), Line(NodeId("north"), 5)
    monitor.joined(silo, "silo")
    silo.bytes_in = 100
    assert scrape(monitor.registry)("hub_bytes_in_total", role="silo") == 100
    monitor.joined(again, "silo")
    monitor.left(silo)
    shown = scrape(monitor.registry)
    assert shown("hub_connected_nodes", role="silo") == 1
    assert shown("hub_bytes_in_total", role="silo") == 105
    assert shown("hub_bytes_out_total", role="silo") == 20
    assert shown("hub_frames_refused_total", role="silo") == 1


def test_only_a_connected_silo_is_named_with_its_reply_time() -> None:
    monitor = HubMonitor("hub")
    north = Line(NodeId("north"))
    monitor.joined(north, "silo")
    monitor.joined(Line(NodeId(CANARY)), "newcomer")
    monitor.heard(NodeId("north"), None, 0.02)
    monitor.heard(NodeId(CANARY), None, 0.02)
    monitor.heard(NodeId("south"), None, 0.02)
    for reason in get_args(MissingReason):
        monitor.heard(NodeId(CANARY), reason, 0.02)
    shown = scrape(monitor.registry)
    assert shown.labels("hub_reply_seconds_count") == {"north"}
    assert shown("hub_missing_total", reason="timeout") == 1
    monitor.left(north)
    monitor.heard(NodeId("north"), None, 0.02)
    assert scrape(monitor.registry)("hub_reply_seconds_count", silo="north") == 1


def test_handshakes_gathers_and_collects_are_counted_by_code() -> None:
    monitor = HubMonitor("hub")
    monitor.turned_away("denied")
    monitor.gathered("ok", 0.1)
    monitor.collected("unreachable", 0.1)
    shown = scrape(monitor.registry)
    assert shown("hub_handshakes_refused_total", code="denied") == 1
    assert shown("hub_gathers_total", code="ok") == 1
    assert shown("hub_collects_total", code="unreachable") == 1


def test_every_role_of_a_line_is_shown_from_the_start() -> None:
    shown = scrape(HubMonitor("hub").registry)
    assert shown.labels("hub_connected_nodes") == set(get_args(LineRole))


# -- silo -----------------------------------------------------------------------------------------


def test_releases_and_what_each_rule_held_back_are_counted() -> None:
    monitor = SiloMonitor("north")
    monitor.released("ok", 0.01)
    monitor.let_out(3, {"budget": 2, CANARY: 1})  # type: ignore[dict-item]
    shown = scrape(monitor.registry)
    assert shown("silo_releases_total", code="ok") == 1
    assert shown("silo_passages_released_total") == 3
    assert shown("silo_passages_withheld_total", rule="budget") == 2
    assert shown("silo_passages_withheld_total", rule="other") == 1
    assert shown.labels("silo_passages_withheld_total") == {*RULES, "other"}


def test_the_store_is_read_when_it_is_scraped_and_its_failure_is_shown() -> None:
    monitor, works = SiloMonitor("north"), [True]

    def holdings() -> Holdings:
        if not works[0]:
            raise sqlite3.OperationalError(CANARY)
        return Holdings(4, 9, 2, False, {"ward": 490})

    assert ("siloquy_silo_passages", frozenset()) not in scrape(monitor.registry).table
    monitor.watch(lambda: True, holdings)
    shown = scrape(monitor.registry)
    assert (shown("silo_connected"), shown("silo_store_readable")) == (1, 1)
    assert (shown("silo_documents"), shown("silo_passages")) == (4, 9)
    assert shown("silo_ledger_entries") == 2
    assert shown("silo_budget_left", gateway="ward") == 490
    works[0] = False
    shown = scrape(monitor.registry)
    assert shown("silo_store_readable") == 0
    assert ("siloquy_silo_passages", frozenset()) not in shown.table


# -- all together ---------------------------------------------------------------------------------


def test_codes_in_labels_are_those_of_the_errors() -> None:
    shown = scrape(SiloMonitor("north").registry)
    assert shown.labels("silo_searches_total") == {"ok", "cancelled", "other", *BY_CODE}


def test_operations_name_every_metric_and_no_other() -> None:
    monitor = SiloMonitor("north")
    monitor.watch(lambda: True, lambda: Holdings(0, 0, 0, False, {}))
    registries = (GatewayMonitor().registry, HubMonitor().registry, monitor.registry)
    families = {
        family.name + "_total" * (family.type == "counter")
        for registry in registries
        for family in text_string_to_metric_families(metric_parts.text(registry)[0].decode())
    }
    page = (HOME / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(siloquy_[a-z_]+)`", page))
    assert named == {name for name in families if name.startswith("siloquy_")}


def test_a_question_s_counting_costs_little() -> None:
    monitor = gateway("north")
    missing = [Missing(NodeId("north"), "timeout")]
    start = perf_counter()
    for _ in range(200):
        monitor.collected(5, missing, 7, {"embed": 1.0, "route": 1.0, "search": 40.0})
        monitor.answered(ANSWER, 0.6)
    # Some 10 microseconds; several hundred times that on a busy machine.
    assert (perf_counter() - start) / 200 < 0.004
