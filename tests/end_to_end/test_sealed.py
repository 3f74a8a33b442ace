"""Sealed questions over real processes, and what an attacker at each party holds of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siloquy.codec import decode
from siloquy.errors import Incompatible
from siloquy.eval.attacks.sealed import features, told_apart
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire as sealed_wire
from siloquy.serve import demo, local
from siloquy.serve.local import GATEWAY, HUB, Layout, Processes
from siloquy.settings import AskSettings, EncoderSettings
from siloquy.text.embed import SentenceEncoder, encoder_spec
from siloquy.types import (
    MergeReply,
    NodeId,
    ReleaseReply,
    SealedRequest,
    SearchReply,
    Ticket,
    Vector,
)
from siloquy.watch import capture
from siloquy.watch.capture import Record, decode_frame
from siloquy.wire.envelope import Envelope, Header
from tests.end_to_end.canaries import text_leaks
from tests.end_to_end.processes import HARBOUR, NORTHMOOR, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

QUESTIONS = (
    "What is the loading dose of intravenous vancomycin in adults with snorrevik fever?",
    "When is a chest drain taken out after zanthoxyl poisoning in children?",
)
CANARIES = ("snorrevik", "vancomycin", "zanthoxyl", "chest drain")
REPEATS = 12
ASKED = len(QUESTIONS) * REPEATS
K, TAKEN = 5, 10
WINDOW = 24


@dataclass(frozen=True)
class Watched:
    """A federation that captures, after each question was asked a number of times in turn."""

    layout: Layout
    folder: Path
    found: list[dict[str, Any]]
    processes: Processes

    def records(self, node: NodeId, layer: str) -> list[Record]:
        every = capture.read_all(self.folder)
        return [item for item in every if (item.node, item.layer) == (node, layer)]

    def frames(self, node: NodeId, kind: str) -> list[Any]:
        """What messages of a kind say, in order of time."""
        found = [item for item in self.records(node, "frame") if item.kind == kind]
        return [decode_frame(item) for item in found]

    def opened(self, node: NodeId, direction: str, kind: type[Any]) -> list[Any]:
        found = [i for i in self.records(node, "opened") if i.direction == direction]
        values = [decode_frame(item) for item in found]
        return [item for item in values if isinstance(item, kind)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, embeddings: Path) -> Iterator[Watched]:
    """Two hospitals, a hub and a gateway; nobody probes, so that every search is a question's."""
    try:
        sealed.check()
    except Incompatible as error:
        pytest.skip(f"{error.message}: {error.hint}")
    folder = tmp_path_factory.mktemp("sealed")
    sources = [item for item in demo.sources(None) if item.silo in (HARBOUR, NORTHMOOR)]
    layout = local.create(
        folder / "nodes",
        [item.silo for item in sources],
        cache=embeddings,
        question_cache=folder / "questions.sqlite",
        ask=AskSettings(k=K, deadline_s=20.0, most_released=TAKEN, mode="sealed", route="all"),
    )
    local.ingest_all(layout, sources, lambda silo, report: None)
    with local.running(layout, folder) as processes:
        found = [
            local.post(f"{layout.gateway_url}/v1/retrieve", {"question": text}, 30.0)
            for _ in range(REPEATS)
            for text in QUESTIONS
        ]
        yield Watched(layout, folder, found, processes)


def sealed_requests(watched: Watched) -> list[SealedRequest]:
    return watched.opened(GATEWAY, "sent", SealedRequest)


def question_vectors() -> Vector:
    """(2, d): what the gateway encrypted."""
    settings = EncoderSettings()
    return SentenceEncoder(settings, encoder_spec(settings)).encode(QUESTIONS)


def holds_any_of(captured: bytes, secret: bytes) -> bool:
    """Whether a stretch of ``secret``, of 64 from all over it, stands in ``captured``."""
    step = max((len(secret) - WINDOW) // 64, 1)
    starts = range(0, len(secret) - WINDOW, step)
    return any(secret[i : i + WINDOW] in captured for i in starts)


# -- the answer -----------------------------------------------------------------------------------


def test_every_silo_took_part_and_the_better_passages_came_first(watched: Watched) -> None:
    for found in watched.found:
        assert found["plan"]["mode"] == "sealed"
        assert found["missing"] == []
        assert len(found["passages"]) == K
        assert sum(found["released"].values()) <= TAKEN
    first = watched.found[0]["passages"][0]
    assert (first["silo"], first["document"]) == (HARBOUR, "vancomycin-dosing.txt")


# -- the hub --------------------------------------------------------------------------------------


def test_the_hub_holds_no_ciphertext_question_vector_or_passage(watched: Watched) -> None:
    assert {item.layer for item in capture.read_all(watched.folder) if item.node == HUB} == {
        "frame"
    }
    frames = watched.records(HUB, "frame")
    # The questions that it relays it was sent: once is enough to search.
    held = b"\n".join(item.body for item in frames if item.kind != "request search")
    texts = {
        passage.text[:40]
        for silo in (HARBOUR, NORTHMOOR)
        for reply in watched.opened(silo, "sent", ReleaseReply)
        for passage in reply.passages
    }
    assert texts
    assert text_leaks(held, CANARIES) == []
    assert text_leaks(held, texts) == []
    queries = sealed_requests(watched)
    assert len(queries) == ASKED
    # The control: at a silo, which opens it, the search finds the ciphertext.
    at_silo = b"".join(item.body for item in watched.records(HARBOUR, "opened"))
    assert holds_any_of(at_silo, queries[0].query)
    assert not any(holds_any_of(held, request.query) for request in queries[:2])
    assert not any(holds_any_of(held, vector.tobytes()) for vector in question_vectors())


def test_the_hub_tells_the_gateway_who_won_and_no_score(watched: Watched) -> None:
    merged = [item for item in watched.frames(GATEWAY, "reply gather") if of_a_question(item)]
    assert len(merged) == ASKED
    for reply in merged:
        for signed in reply.tickets:
            ticket = decode(Ticket, signed.body)
            assert ticket.claims == ticket.lexical == ()


def test_each_winner_has_a_handle_of_its_own_in_each_question_and_was_released(
    watched: Watched,
) -> None:
    # What a gateway would rebuild vectors from is a table of scores: it has no score, and no row
    # of a passage comes back under the same name, so that no two of its columns can be joined.
    merged = [item for item in watched.frames(GATEWAY, "reply gather") if of_a_question(item)]
    seen = [winner.handle for reply in merged for winner in reply.winners]
    assert len(seen) == len(set(seen)) == ASKED * TAKEN
    released = {
        passage.handle
        for reply in watched.opened(GATEWAY, "received", ReleaseReply)
        for passage in reply.passages
    }
    assert released == set(seen)
    # The same few passages win all the time, under other handles.
    texts = {
        passage.text
        for reply in watched.opened(GATEWAY, "received", ReleaseReply)
        for passage in reply.passages
    }
    assert len(texts) <= len(QUESTIONS) * TAKEN


def of_a_question(reply: MergeReply) -> bool:
    """Whether it is none of the router's probes, which are open."""
    return len(reply.silo_ms) > 1


# -- the silo -------------------------------------------------------------------------------------


def test_a_silo_holds_nothing_of_the_question(watched: Watched) -> None:
    vectors = question_vectors()
    for silo in (HARBOUR, NORTHMOOR):
        held = [item for item in watched.records(silo, "opened") if item.direction == "received"]
        assert sum(item.kind == "sealed search" for item in held) == ASKED
        heard = b"\n".join(item.body for item in held)
        assert text_leaks(heard, CANARIES) == []
        assert not any(holds_any_of(heard, vector.tobytes()) for vector in vectors)


def test_what_a_silo_sees_before_it_releases_does_not_tell_the_questions_apart(
    watched: Watched,
) -> None:
    for silo in (HARBOUR, NORTHMOOR):
        views = views_before_release(watched, silo)
        assert len(views) == ASKED
        sizes = np.array([[len(item) for item in view] for view in views])
        # Numbers of frames, deadlines and the mask's offset take a byte more or less.
        assert (np.ptp(sizes, axis=0) <= 8).all()
        assert not np.ptp(sizes[:, 2])
        seen = np.array([features(view) for view in views])
        share = told_apart(seen[::2], seen[1::2])
        # Of 24 coins 21 or more show one side once in 7,000 times.
        assert share <= 20 / 24
    # The control: what it releases does tell them apart.
    after = [features([item.body]) for item in released_by(watched, HARBOUR)]
    texts = np.array([item[-768:] for item in after])
    assert told_apart(texts[::2], texts[1::2]) > 0.9


def views_before_release(watched: Watched, silo: NodeId) -> list[list[bytes]]:
    """For each question, what the silo heard and said in phase 1: opened, and on the line."""
    opened = [i.body for i in watched.records(silo, "opened") if i.kind == "sealed search"]
    frames = watched.records(silo, "frame")
    requests = [i.body for i in frames if i.kind == "request search" and is_sealed(i)]
    replies = [i.body for i in frames if i.kind == "reply search" and is_sealed(i)]
    return [list(view) for view in zip(requests, opened, replies, strict=True)]


def is_sealed(record: Record) -> bool:
    """Whether a search, or its reply, is of a sealed question and of no probe."""
    value = decode_frame(record)
    if isinstance(value, Envelope):
        return decode(Header, value.header).mode == "sealed"
    return isinstance(value, SearchReply) and value.sealed is not None


def released_by(watched: Watched, silo: NodeId) -> list[Record]:
    return [item for item in watched.records(silo, "opened") if item.kind == "passages"]


def test_replies_are_of_one_size_class(watched: Watched) -> None:
    for silo in (HARBOUR, NORTHMOOR):
        replies = watched.frames(silo, "reply search")
        sizes = {
            len(item.sealed.scores)
            for item in replies
            if isinstance(item, SearchReply) and item.sealed is not None
        }
        assert len(sizes) == 1
        assert sealed_wire.is_size_class(sizes.pop() // sealed_wire.BLOCK_BYTES)


# -- life -----------------------------------------------------------------------------------------


def test_a_restarted_hub_has_another_key_and_questions_go_on(watched: Watched) -> None:
    keys = {item.key.body for item in sealed_requests(watched)}
    assert len(keys) == 1
    watched.processes.running[HUB].terminate()
    watched.processes.running[HUB].wait(20)
    watched.processes.start(HUB)
    watched.processes.wait_ready()
    url, body = f"{watched.layout.gateway_url}/v1/retrieve", {"question": QUESTIONS[0]}
    until(lambda: local.post(url, body, 30)["missing"] == [], "a silo did not dial again")
    assert len({item.key.body for item in sealed_requests(watched)}) == 2
