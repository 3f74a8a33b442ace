"""What real processes show of themselves, and what an attacker at each of them would hold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from siloquy import settings as settings_files
from siloquy.serve import demo, local
from siloquy.serve.local import GATEWAY, HUB, Layout, Processes
from siloquy.settings import (
    AUDIT_PURPOSE,
    GatewaySettings,
    HubSettings,
    MonitorSettings,
    SiloSettings,
)
from siloquy.types import NodeId, ReleaseReply, SearchReply, SearchRequest, Vector
from siloquy.watch import capture
from siloquy.watch.capture import Record, decode_frame
from siloquy.watch.tracing import NUMBERS, PARENTS, WORDS
from tests.end_to_end.canaries import text_leaks, vector_leaks
from tests.end_to_end.processes import HARBOUR, NORTHMOOR, siloquy, until
from tests.siloquy.otlp_collector import Collector, collecting
from tests.siloquy.scrape import Scraped

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

QUESTION = "What is the loading dose of intravenous vancomycin in adults with snorrevik fever?"
CANARIES = ("snorrevik", "loading dose", "intravenous vancomycin")
OF_A_QUESTION = {
    f"{kind} {method}"
    for kind in ("request", "reply")
    for method in ("gather", "search", "collect", "release")
}


@dataclass(frozen=True)
class Watched:
    """A federation that captures, traces and is monitored, after one question."""

    layout: Layout
    processes: Processes
    ports: dict[NodeId, int]
    folder: Path
    collector: Collector
    answer: dict[str, Any]

    def get(self, node: NodeId, path: str) -> httpx.Response:
        """What a node's monitor says."""
        return httpx.get(f"http://127.0.0.1:{self.ports[node]}{path}", trust_env=False)

    def lacking(self, node: NodeId) -> list[str]:
        """What a node lacks to be ready."""
        lacking: list[str] = self.get(node, "/readyz").json().get("lacking", [])
        return lacking

    def records(self, *nodes: NodeId) -> list[Record]:
        """What the processes of ``nodes`` have recorded."""
        return [item for item in capture.read_all(self.folder) if item.node in nodes]

    def bodies(self, node: NodeId, *layers: str) -> bytes:
        """All that a process has heard and said, on some layers."""
        return b"\n".join(item.body for item in self.records(node) if item.layer in layers)

    @property
    def silos(self) -> list[NodeId]:
        """Silos that were asked."""
        return [NodeId(name) for name in self.answer["plan"]["asked"]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, embeddings: Path) -> Iterator[Watched]:
    """Two hospitals, a hub and a gateway, asked one question."""
    folder = tmp_path_factory.mktemp("observed")
    sources = [item for item in demo.sources(None) if item.silo in (HARBOUR, NORTHMOOR)]
    layout = local.create(folder / "nodes", [item.silo for item in sources], cache=embeddings)
    local.ingest_all(layout, sources, lambda silo, report: None)
    with collecting() as collector:
        ports = {node: local.free_port() for node in layout.nodes}
        for node, port in ports.items():
            _monitor(layout.of(node), node, MonitorSettings(port, collector.address))
        with local.running(layout, folder) as processes:
            body = {"question": QUESTION, "route": "all"}
            answer = local.post(f"{layout.gateway_url}/v1/ask", body, 30.0)
            yield Watched(layout, processes, ports, folder, collector, answer)


def _monitor(folder: Path, node: NodeId, monitor: MonitorSettings) -> None:
    kinds: dict[NodeId, type[Any]] = {HUB: HubSettings, GATEWAY: GatewaySettings}
    kind = kinds.get(node, SiloSettings)
    settings = settings_files.read(kind, folder, {})
    settings_files.write(dataclasses.replace(settings, monitor=monitor), folder)


def opened(watched: Watched, node: NodeId, direction: str, kind: type[Any]) -> list[Any]:
    """Values of a kind that a node has sealed or opened."""
    found = [
        decode_frame(item)
        for item in watched.records(node)
        if (item.layer, item.direction) == ("opened", direction)
    ]
    return [item for item in found if isinstance(item, kind)]


def vector_of(watched: Watched) -> Vector:
    """(1, d): the question's vector, as the gateway sealed it."""
    sent = opened(watched, GATEWAY, "sent", SearchRequest)
    (request,) = [item for item in sent if item.purpose != AUDIT_PURPOSE]
    return np.asarray(request.vector[None, :])


def probes(watched: Watched, node: NodeId, direction: str) -> int:
    """Searches that put a profile to the test, sealed by the gateway or opened by a silo."""
    found = opened(watched, node, direction, SearchRequest)
    return sum(item.purpose == AUDIT_PURPOSE for item in found)


def pieces(texts: list[str]) -> list[str]:
    """Stretches of 30 characters of the texts."""
    return [text[i : i + 30] for text in texts for i in range(0, len(text) - 30, 30)]


def released_texts(watched: Watched) -> list[str]:
    return [
        passage.text
        for silo in watched.silos
        for reply in opened(watched, silo, "sent", ReleaseReply)
        for passage in reply.passages
    ]


# -- capture: what an attacker holds --------------------------------------------------------------


def test_an_attacker_at_the_hub_holds_no_question_vector_or_passage(watched: Watched) -> None:
    records = watched.records(HUB)
    assert {item.layer for item in records} == {"frame"}
    held = watched.bodies(HUB, "frame")
    assert len(held) > 10_000
    assert text_leaks(held, CANARIES) == []
    assert text_leaks(held, pieces(released_texts(watched))) == []
    assert vector_leaks(held, vector_of(watched)) == []
    # It does hold what it works with: scores without text.
    replies = [decode_frame(item) for item in records if item.kind == "reply search"]
    assert any(isinstance(item, SearchReply) and item.hits for item in replies)


def test_an_attacker_at_a_silo_holds_vector_and_terms_and_that_silo_s_passages(
    watched: Watched,
) -> None:
    vector, texts = vector_of(watched), released_texts(watched)
    assert len(texts) == sum(watched.answer["released"].values()) > 0
    for silo in watched.silos:
        held = watched.bodies(silo, "opened")
        assert "raw" in vector_leaks(held, vector)
        assert text_leaks(held, ("snorrevik",)) == ["snorrevik"]
        assert text_leaks(held, [QUESTION]) == []
        sent = opened(watched, silo, "sent", ReleaseReply)
        own = [passage.text for reply in sent for passage in reply.passages]
        assert text_leaks(held, own) == own
        others = [text for text in texts if text not in own]
        assert text_leaks(held, pieces(others)) == []
        # In what goes over its line nothing can be read.
        assert text_leaks(watched.bodies(silo, "frame"), [*CANARIES, *pieces(texts)]) == []
        assert vector_leaks(watched.bodies(silo, "frame"), vector) == []


def test_an_attacker_at_the_gateway_holds_question_vector_and_passages(watched: Watched) -> None:
    held = watched.bodies(GATEWAY, "opened", "http")
    assert text_leaks(held, CANARIES) == list(CANARIES)
    assert "raw" in vector_leaks(held, vector_of(watched))
    texts = released_texts(watched)
    assert text_leaks(watched.bodies(GATEWAY, "opened"), texts) == texts
    asked = [item for item in watched.records(GATEWAY) if item.kind == "POST /v1/ask"]
    question, answer = (decode_frame(item) for item in asked)
    assert question == {"question": QUESTION, "route": "all"}
    assert answer == watched.answer
    assert vector_leaks(watched.bodies(GATEWAY, "frame"), vector_of(watched)) == []


def test_what_one_party_sends_is_what_the_other_receives(watched: Watched) -> None:
    def frames(direction: str) -> Counter[tuple[str, str, str, bytes]]:
        found: Counter[tuple[str, str, str, bytes]] = Counter()
        for item in watched.records(*watched.layout.nodes):
            if item.direction == direction and item.kind in OF_A_QUESTION:
                ends = (item.node, item.peer)
                sender, receiver = ends if direction == "sent" else ends[::-1]
                found[sender, receiver, item.kind, item.body] += 1
        return found

    sent = frames("sent")
    assert {kind for _, _, kind, _ in sent} == OF_A_QUESTION
    assert sent == frames("received")


def test_every_message_of_the_run_is_decoded_or_carries_nothing(watched: Watched) -> None:
    empty = {"request profiles", "reply publish", "reply roster"}
    for item in watched.records(*watched.layout.nodes):
        value = decode_frame(item)
        assert (value is None) == (item.kind in empty or item.kind.startswith("cancel")), item.kind
        assert item.kind != "malformed"


def test_records_of_an_opened_envelope_name_the_question(watched: Watched) -> None:
    (round_,) = watched.answer["rounds"]
    query = bytes.fromhex(round_["query_id"])
    found = {
        (item.node, item.kind)
        for item in watched.records(*watched.layout.nodes)
        if item.query == query
    }
    silos = {(silo, "search") for silo in watched.silos}
    silos |= {
        (NodeId(silo), kind)
        for silo in watched.answer["released"]
        for kind in ("release", "passages")
    }
    assert found == {(GATEWAY, "search"), (GATEWAY, "release"), (GATEWAY, "passages")} | silos


def test_every_log_warns_that_capture_is_on(watched: Watched) -> None:
    for node in watched.layout.nodes:
        log = (watched.layout.folder / "log" / f"{node}.log").read_text()
        assert "CAPTURE IS ON" in log
        assert text_leaks(log.encode(), CANARIES) == []


@pytest.mark.parametrize("role", ["silo", "hub"])
def test_a_node_that_talks_to_other_machines_does_not_serve_with_capture(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setenv(capture.ENVIRONMENT, str(tmp_path))
    if role == "hub":
        monkeypatch.setenv("SILOQUY_LISTEN_HOST", "0.0.0.0")  # noqa: S104 - it must refuse
        folder = tmp_path / "hub"
        siloquy(
            "hub", "init", "-f", folder, "--organisation", "x", "--port", str(local.free_port())
        )
    else:
        folder = tmp_path / "north"
        siloquy("silo", "init", "-f", folder, "--name", "north", "--organisation", "x")
    roster = (watched.layout.of(HUB) / "roster.json").read_bytes()
    (folder / "roster.json").write_bytes(roster)
    if role == "hub":
        for name in ("card", "signing.key", "sealing.key"):
            (folder / name).write_bytes((watched.layout.of(HUB) / name).read_bytes())
    ran = siloquy(role, "serve", "-f", folder)
    assert ran.code == 3
    assert capture.ENVIRONMENT in ran.err
    assert not (tmp_path / "capture").exists()


# -- metrics and health ---------------------------------------------------------------------------


def test_metrics_health_and_readiness_hold_no_word_of_question_or_passage(
    watched: Watched,
) -> None:
    secrets = [*CANARIES, *pieces(released_texts(watched)), "vancomycin-dosing"]
    for node in watched.layout.nodes:
        for path in ("/metrics", "/healthz", "/readyz"):
            reply = watched.get(node, path)
            assert reply.status_code == 200, (node, path, reply.text)
            assert text_leaks(reply.content, secrets) == []
            # Among so many seconds with so many digits some look like a component by chance.
            assert set(vector_leaks(reply.content, vector_of(watched))) <= {"decimal"}
    for path in ("/metrics", "/healthz", "/readyz"):
        reply = httpx.get(f"{watched.layout.gateway_url}{path}", trust_env=False)
        assert reply.status_code == 200
        assert text_leaks(reply.content, secrets) == []


def test_metrics_of_all_parties_tell_the_same_story(watched: Watched) -> None:
    gateway, hub = (Scraped(watched.get(node, "/metrics").content) for node in (GATEWAY, HUB))
    released = watched.answer["released"]
    assert gateway("gateway_questions_total", outcome="answered") == 1
    assert gateway("gateway_rounds_total") == 1
    assert gateway("gateway_silos_asked_total") == len(watched.silos)
    assert gateway("gateway_passages_released_total") == sum(released.values())
    assert gateway("gateway_sentences_total", fate="kept") == len(watched.answer["sentences"])
    assert gateway("gateway_stage_seconds_count", stage="search") == 1
    assert (gateway("gateway_running"), gateway("gateway_waiting")) == (0, 0)
    assert hub("hub_gathers_total", code="ok") == 1 + probes(watched, GATEWAY, "sent")
    assert hub("hub_collects_total", code="ok") == len(released)
    assert hub("hub_connected_nodes", role="silo") == len(watched.layout.silos)
    assert hub("hub_connected_nodes", role="gateway") == 1
    assert hub("hub_bytes_in_total", role="gateway") > 1000
    for silo in watched.silos:
        shown = Scraped(watched.get(silo, "/metrics").content)
        searches = 1 + probes(watched, silo, "received")
        assert hub("hub_reply_seconds_count", silo=silo) == searches
        assert shown("silo_searches_total", code="ok") == searches
        assert shown("silo_passages_released_total") == released.get(silo, 0)
        assert shown("silo_ledger_entries") == (silo in released)
        assert shown("silo_budget_left", gateway=GATEWAY) == 500 - released.get(silo, 0)
        assert shown("silo_connected") == 1
        assert shown("silo_passages") > 0


def test_labels_are_names_and_codes(watched: Watched) -> None:
    for node in watched.layout.nodes:
        for _, labels in Scraped(watched.get(node, "/metrics").content).table:
            for label, value in labels:
                assert len(value) <= 63, label
                assert " " not in value, label


# -- traces ---------------------------------------------------------------------------------------


def test_one_question_is_one_trace_over_gateway_hub_and_silos(watched: Watched) -> None:
    (round_,) = watched.answer["rounds"]
    query = bytes.fromhex(round_["query_id"])
    # Five of the gateway before and after the two phases, two phases, the hub's, the silos'.
    wanted = 5 + 2 + 1 + len(watched.silos) * 4 + 2 * len(watched.answer["released"])

    def of_question() -> list[Any]:
        return [item for item in watched.collector.spans() if item[1].trace_id == query]

    until(lambda: len(of_question()) >= wanted, "spans are missing", 15)
    spans = of_question()
    others = {span.trace_id for _, span in watched.collector.spans()} - {query}
    assert len(others) <= probes(watched, GATEWAY, "sent")
    assert {node for node, _ in spans} == {GATEWAY, HUB, *watched.silos}
    names = {span.span_id: span.name for _, span in spans}
    assert len(names) == len(spans) == wanted
    for _, span in spans:
        assert names.get(span.parent_span_id) == PARENTS[span.name]


def test_traces_hold_names_and_numbers_and_no_word(watched: Watched) -> None:
    until(lambda: bool(watched.collector.spans()), "no span came", 15)
    secrets = [*CANARIES, *pieces(released_texts(watched)), "vancomycin"]
    sent = b"\n".join(watched.collector.bodies)
    assert text_leaks(sent, secrets) == []
    assert vector_leaks(sent, vector_of(watched)) == []
    for _, span in watched.collector.spans():
        assert {pair.key for pair in span.attributes} <= NUMBERS | WORDS
        assert not span.events


# -- when something is lacking --------------------------------------------------------------------


def test_readiness_says_when_the_hub_is_gone_and_when_it_is_back(watched: Watched) -> None:
    def lack(codes: list[str]) -> Callable[[], bool]:
        return lambda: all(watched.lacking(node) == codes for node in (GATEWAY, HARBOUR))

    assert lack([])()
    hub = watched.processes.running[HUB]
    hub.kill()
    hub.wait(5)
    until(lack(["hub line"]), "nobody notices that the hub is gone")
    for node in (GATEWAY, HARBOUR):
        assert watched.get(node, "/readyz").status_code == 503
        assert watched.get(node, "/healthz").status_code == 200
    watched.processes.start(HUB)
    until(lack([]), "not everybody is ready again", 30)
    assert watched.lacking(HUB) == []
