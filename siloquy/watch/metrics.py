"""What silo, hub and gateway count, free of text.

Every label's values come from a closed set: node names of the roster, stages, outcomes, error
codes. What is not in the set is counted as ``other``, so no peer can write into a label or make
new ones.
"""

from __future__ import annotations

import functools
import sqlite3
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from siloquy.errors import BY_CODE, MissingReason
from siloquy.types import Answer, Missing, NodeId, Rule
from siloquy.watch.metric_parts import CODES, OTHER, LabelledMetric, Making, Metric

Outcome = Literal["answered", "abstained", "failed", "shed", "cancelled"]
"""What became of a question at the gateway."""
Stage = Literal["understand", "embed", "route", "seal", "search", "release", "rescore", "generate"]
Names = Callable[[], Collection[str]]
"""The node names that may stand in a label."""

RULES: tuple[Rule, ...] = get_args(Rule)


# -- gateway --------------------------------------------------------------------------------------


class GatewayMonitor:
    """What a gateway counts: ``names`` are the nodes of its roster."""

    def __init__(self, node: str = "", names: Names = frozenset) -> None:
        make = Making("gateway", node)
        self.registry = make.registry
        self._names = names
        self._load: Callable[[], tuple[int, int]] = lambda: (0, 0)
        questions = make.counter("questions", "Questions by what became of them.", "outcome")
        self._questions = LabelledMetric(questions, get_args(Outcome))
        self._question_s = LabelledMetric(
            make.seconds("question", "From a question to its end.", "outcome"), get_args(Outcome)
        )
        self._stages = LabelledMetric(make.seconds("stage", "By stage.", "stage"), get_args(Stage))
        self._retrievals = LabelledMetric(
            make.counter("retrievals", "Retrievals without an answer, by error code.", "code"),
            CODES,
        )
        self._retrieval_s = make.seconds("retrieval", "From such a request to its end.")
        self._errors = LabelledMetric(
            make.counter("errors", "Questions that failed, by error code.", "code"), BY_CODE
        )
        self._asked = make.counter("silos_asked", "Silos asked, summed over rounds.")
        self._missing = make.counter("missing", "Asked silos that took no part.", "silo", "reason")
        self._released = make.counter("passages_released", "Passages that silos released.")
        self._rounds = make.counter("rounds", "Retrievals, several for some questions.")
        self._model_failures = LabelledMetric(
            make.counter("model_failures", "Language model failures, by error code.", "code"),
            BY_CODE,
        )
        self._sentences = LabelledMetric(
            make.counter("sentences", "Sentences of drafts that held or were dropped.", "fate"),
            ("kept", "dropped"),
        )
        make.at_scrape(functools.partial(self._queue, make))

    def asked(self, outcome: Outcome, seconds: float) -> None:
        """A question has come to its end."""
        self._questions.add(outcome)
        self._question_s.add(outcome, seconds)

    def failed(self, code: str, seconds: float) -> None:
        """A question has ended in an error."""
        self.asked("failed", seconds)
        self._errors.add(code)

    def answered(self, answer: Answer, seconds: float) -> None:
        """A question was answered or abstained from; its rounds were counted one by one."""
        self.asked("abstained" if answer.abstained else "answered", seconds)
        self._stage(answer.timings_ms, _WHOLE)
        self._sentences.add("kept", len(answer.sentences))
        self._sentences.add("dropped", answer.dropped)

    def shed(self) -> None:
        """A question was turned away: too many wait."""
        self._questions.add("shed")

    def retrieved(self, code: str, seconds: float) -> None:
        """A retrieval without an answer has ended: ``ok`` or an error's code."""
        self._retrievals.add(code)
        self._retrieval_s.observe(seconds)

    def collected(
        self,
        asked: int,
        missing: Collection[Missing],
        released: int,
        timings_ms: Mapping[str, float],
    ) -> None:
        """A round has ended: how many silos were asked, what they did, milliseconds by stage."""
        self._rounds.inc()
        self._asked.inc(asked)
        self._released.inc(released)
        self._stage(timings_ms, _OF_A_ROUND)
        for item in missing:
            self._missing.labels(_known(item.silo, self._names), item.reason).inc()

    def model_failed(self, code: str) -> None:
        """The language model failed once."""
        self._model_failures.add(code)

    def queue(self, load: Callable[[], tuple[int, int]]) -> None:
        """Where to read how many questions are worked on, and how many wait."""
        self._load = load

    def _stage(self, timings_ms: Mapping[str, float], stages: Collection[Stage]) -> None:
        for stage in stages:
            if stage in timings_ms:
                self._stages.add(stage, timings_ms[stage] / 1000)

    def _queue(self, make: Making) -> Iterator[Metric]:
        for (name, told), value in zip(_QUEUE.items(), self._load(), strict=True):
            gauge = make.gauges(name, told)
            gauge.add_metric([], value)
            yield gauge


_OF_A_ROUND: tuple[Stage, ...] = ("embed", "route", "seal", "search", "release")
_WHOLE: tuple[Stage, ...] = ("understand", "rescore", "generate")
_QUEUE = {
    "running": "Questions that are worked on.",
    "waiting": "Questions that wait for their turn.",
}


# -- hub ------------------------------------------------------------------------------------------


class CountedLine(Protocol):
    """A node's connection, as the hub's channel counts it."""

    peer: NodeId
    bytes_in: int
    bytes_out: int
    refused_frames: int


LineRole = Literal["silo", "gateway", "hub", "newcomer"]


class HubMonitor:
    """What a hub counts; of lines it reads the channel's own numbers."""

    def __init__(self, node: str = "") -> None:
        make = Making("hub", node)
        self.registry = make.registry
        self._lines: dict[int, tuple[CountedLine, LineRole]] = {}
        self._silos: Tally[NodeId] = Tally()
        self._closed: Tally[tuple[str, str]] = Tally()
        self._gathers = LabelledMetric(make.counter("gathers", "Questions relayed.", "code"), CODES)
        self._gather_s = make.seconds("gather", "From a question to its merged candidates.")
        self._collects = LabelledMetric(
            make.counter("collects", "Releases relayed.", "code"), CODES
        )
        self._collect_s = make.seconds("collect", "From a release request to its passages.")
        self._turned_away = LabelledMetric(
            make.counter("handshakes_refused", "Nodes turned away.", "code"), CODES
        )
        self._replies = make.seconds("reply", "From asking a silo to its reply.", "silo")
        self._missing = make.counter("missing", "Asked silos that gave no usable reply.", "reason")
        make.at_scrape(functools.partial(self._traffic, make))

    def gathered(self, code: str, seconds: float) -> None:
        """A question was relayed and merged: ``ok`` or an error's code."""
        self._gathers.add(code)
        self._gather_s.observe(seconds)

    def collected(self, code: str, seconds: float) -> None:
        """A release was relayed."""
        self._collects.add(code)
        self._collect_s.observe(seconds)

    def turned_away(self, code: str) -> None:
        """A handshake was refused."""
        self._turned_away.add(code)

    def heard(self, silo: NodeId, reason: MissingReason | None, seconds: float) -> None:
        """A silo replied, or, with a reason, did not; only a connected one is named."""
        if reason is not None:
            self._missing.labels(reason).inc()
        elif self._silos[silo]:
            self._replies.labels(silo).observe(seconds)

    def joined(self, line: CountedLine, role: LineRole) -> None:
        """A proven node's line stands."""
        self._lines[id(line)] = line, role
        self._silos[line.peer] += role == "silo"

    def left(self, line: CountedLine) -> None:
        """It is closed; what it has carried stays counted."""
        _, role = self._lines.pop(id(line))
        self._closed.update(_carried(line, role))
        self._silos[line.peer] -= role == "silo"

    def _traffic(self, make: Making) -> Iterator[Metric]:
        lines = list(self._lines.values())
        sums = Tally(self._closed)
        for line, role in lines:
            sums.update(_carried(line, role))
        for name, told in _TRAFFIC.items():
            family = make.counters(name, told, "role")
            for role in get_args(LineRole):
                family.add_metric([role], sums[name, role])
            yield family
        connected = make.gauges("connected_nodes", "Nodes with a line now.", "role")
        for role in get_args(LineRole):
            connected.add_metric([role], sum(role == other for _, other in lines))
        yield connected


_TRAFFIC = {
    "bytes_in": "Bytes received, by the sender's role.",
    "bytes_out": "Bytes sent, by the receiver's role.",
    "frames_refused": "Frames that were malformed, too long or too many.",
}


def _carried(line: CountedLine, role: LineRole) -> dict[tuple[str, str], int]:
    values = (line.bytes_in, line.bytes_out, line.refused_frames)
    return {(name, role): value for name, value in zip(_TRAFFIC, values, strict=True)}


# -- silo -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a silo's store holds now; ``budget_left`` by approved gateway, in passages today."""

    documents: int
    passages: int
    ledger_entries: int
    paused: bool
    budget_left: Mapping[str, int]


class SiloMonitor:
    """What a silo counts."""

    def __init__(self, node: str = "") -> None:
        make = Making("silo", node)
        self.registry = make.registry
        self._connected: Callable[[], bool] = bool
        self._holdings: Callable[[], Holdings] | None = None
        self._searches = LabelledMetric(make.counter("searches", "Searches.", "code"), CODES)
        self._search_s = make.seconds("search", "From a sealed question to its signed candidates.")
        self._releases = LabelledMetric(
            make.counter("releases", "Release requests.", "code"), CODES
        )
        self._release_s = make.seconds("release", "From a release request to its sealed passages.")
        self._released = make.counter("passages_released", "Passages that left.")
        self._withheld = LabelledMetric(
            make.counter("passages_withheld", "Winners held back, by rule.", "rule"), RULES
        )
        make.at_scrape(functools.partial(self._store, make))

    def searched(self, code: str, seconds: float) -> None:
        """A search was answered with ``ok``, or refused with an error's code."""
        self._searches.add(code)
        self._search_s.observe(seconds)

    def released(self, code: str, seconds: float) -> None:
        """A release request was answered with ``ok``, or refused."""
        self._releases.add(code)
        self._release_s.observe(seconds)

    def let_out(self, passages: int, withheld: Mapping[Rule, int]) -> None:
        """Passages leave, and others are held back, by rule."""
        self._released.inc(passages)
        for rule, n in withheld.items():
            self._withheld.add(rule, n)

    def watch(self, connected: Callable[[], bool], holdings: Callable[[], Holdings]) -> None:
        """Where to read the line's state and the store's numbers, at each scrape."""
        self._connected, self._holdings = connected, holdings

    def _store(self, make: Making) -> Iterator[Metric]:
        connected = make.gauges("connected", "Whether the line to the hub stands.")
        connected.add_metric([], self._connected())
        yield connected
        if self._holdings is None:
            return
        readable = make.gauges("store_readable", "Whether the store could be read just now.")
        try:
            held = list(_held(make, self._holdings()))
        except (OSError, sqlite3.Error):
            held = []
        readable.add_metric([], bool(held))
        yield from (readable, *held)


def _held(make: Making, holdings: Holdings) -> Iterator[Metric]:
    for name, told in _HOLDINGS.items():
        gauge = make.gauges(name, told)
        gauge.add_metric([], getattr(holdings, name))
        yield gauge
    left = make.gauges("budget_left", "Passages left today.", "gateway")
    for gateway, passages in holdings.budget_left.items():
        left.add_metric([gateway], passages)
    yield left


_HOLDINGS = {
    "documents": "Documents in the store.",
    "passages": "Passages in the store.",
    "ledger_entries": "Entries of the disclosure ledger.",
    "paused": "Whether its hospital has paused it.",
}


def _known(name: str, names: Names) -> str:
    return name if name in names() else OTHER
