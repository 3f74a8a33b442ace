"""Thousands of questions while silos die, hang and come back: each is answered or says who lacks.

``python -m tests.faults.storm 2000`` prints the figures.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siloquy.serve import demo
from siloquy.types import NodeId
from tests.faults.siege import DOWN, WEAK, Fault, Siege, besieged

AT_ONCE = 8
ANSWERED = ("whole", "partial", "abstained", "abstained, silos missing")
SPARE_S = 1.0
REJOIN_S = 5.0
QUESTIONS = (
    "What is the loading dose of intravenous vancomycin in adults?",
    "When can full-dose apixaban be restarted after a procedure with high bleeding risk?",
    "How soon are antibiotics given in sepsis, and how much fluid?",
    "When is metformin stopped before contrast?",
    "Which antibiotic is given for neutropenic sepsis with penicillin anaphylaxis?",
    "What is the loading dose of magnesium sulfate in severe pre-eclampsia?",
    "How long are patients watched after the switch to oral antibiotics?",
    "Which tyre pressure suits an ambulance?",
)


@dataclass(frozen=True, slots=True)
class Told:
    """One question's way."""

    path: str
    began: float
    ended: float
    status: int
    body: dict[str, Any]

    @property
    def outcome(self) -> str:
        """How it came back."""
        if self.status != 200:
            return f"error {self.body.get('error', {}).get('code', self.status)}"
        if self.body.get("abstained"):
            return "abstained, silos missing" if self.body["missing"] else "abstained"
        return "partial" if self.body["missing"] else "whole"


@dataclass(frozen=True, slots=True)
class Outage:
    """A silo that could not take part from ``began`` to ``ended``, seconds of the clock."""

    silo: NodeId
    fault: str
    began: float
    ended: float


@dataclass(slots=True)
class Report:
    """What came of a storm.

    rejoin_s    by fault, from its end until the hub had all lines again
    answers_s   the same until a question was answered by all, the time of this question included
    """

    told: list[Told] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    rejoin_s: dict[str, list[float]] = field(default_factory=dict)
    answers_s: dict[str, list[float]] = field(default_factory=dict)

    def worst_s(self, deadline_s: float) -> float:
        """How far the slowest question was over the deadline; negative when none was."""
        return max(item.ended - item.began for item in self.told) - deadline_s

    def outcomes(self) -> Counter[str]:
        """How often each way of coming back was met."""
        return Counter(item.outcome for item in self.told)

    def figures(self, siege: Siege) -> dict[str, Any]:
        """For people."""
        took = sorted(item.ended - item.began for item in self.told)
        late = sum(item > siege.deadline_s + SPARE_S for item in took)
        rejoined = [value for values in self.rejoin_s.values() for value in values]
        return {
            "questions": len(self.told),
            "outcomes": dict(self.outcomes()),
            "faults": dict(Counter(item.fault for item in self.outages)),
            "deadline_s": siege.deadline_s,
            "p50_s": round(took[len(took) // 2], 2),
            "p99_s": round(took[int(len(took) * 0.99)], 2),
            "worst_over_deadline_s": round(self.worst_s(siege.deadline_s), 2),
            "later_than_deadline_plus_1_s": late,
            "worst_search_and_release_s": round(max(map(_waited_s, self.told)), 2),
            "silent_partials": len(silent_partials(self)),
            "rejoin_s": _spread(self.rejoin_s),
            "answers_s": _spread(self.answers_s),
            "slowest": [
                {
                    "path": item.path,
                    "took_s": round(item.ended - item.began, 2),
                    "timings_ms": item.body.get("timings_ms"),
                    "missing": [gone["reason"] for gone in item.body.get("missing", ())],
                }
                for item in sorted(self.told, key=lambda item: item.began - item.ended)[:3]
            ],
            "rejoined_later_than_5_s": sum(value > REJOIN_S for value in rejoined),
        }


def _waited_s(told: Told) -> float:
    """What of a question's time went into both phases, apart from encoder and generator."""
    stages = told.body.get("timings_ms", {})
    return float(stages.get("search", 0.0) + stages.get("release", 0.0)) / 1000


def _spread(by_fault: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        fault: {"n": len(v), "median": sorted(v)[len(v) // 2], "worst": max(v)}
        for fault, v in by_fault.items()
    }


# -- what must hold -------------------------------------------------------------------------------


def check_reply(told: Told, silos: Sequence[NodeId]) -> None:
    """Every asked silo has answered or is named as missing, in the receipt too.

    A question that was not answered says why and what to do, and gives nothing out.
    """
    if told.status != 200:
        assert set(told.body) == {"error"}
        assert all(told.body["error"][part] for part in ("code", "message", "hint"))
        return
    plan, missing = told.body["plan"], {item["silo"] for item in told.body["missing"]}
    asked, skipped = set(plan["asked"]), set(plan["skipped"])
    assert asked | skipped == set(silos)
    assert not asked & skipped
    assert missing <= asked
    assert all(item["reason"] for item in told.body["missing"])
    assert set(told.body["released"]) <= asked
    if told.path != "/v1/ask":
        return
    body = told.body["receipt"]["body"]
    assert set(body["asked"]) == asked
    assert {item["silo"] for item in body["missing"]} == missing
    if told.body["abstained"] and missing:
        heard = f"{len(asked - missing)} of {len(asked)} asked silos"
        text = told.body["answer"]
        assert heard in text or (missing == asked and "No asked silo took part" in text), text


def silent_partials(report: Report) -> list[tuple[Told, Outage]]:
    """Replies that do not name an asked silo that was down all the time."""
    return [
        (told, outage)
        for told, outage in itertools.product(report.told, report.outages)
        if told.status == 200
        and outage.began < told.began
        and told.ended < outage.ended
        and outage.silo in told.body["plan"]["asked"]
        and outage.silo not in {item["silo"] for item in told.body["missing"]}
    ]


def check_books(siege: Siege, report: Report) -> None:
    """Ledger and budget of every silo agree and hold all that the gateway has been given."""
    for silo in siege.layout.silos:
        entered, spent = siege.books(silo)
        given = sum(t.body["released"].get(silo, 0) for t in report.told if t.status == 200)
        assert given <= entered == spent, silo


# -- the storm ------------------------------------------------------------------------------------


def questions(seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Endless questions: one in three to be answered, the others for evidence alone."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    while True:
        body = {"question": rng.choice(QUESTIONS), "k": rng.choice((3, 6))}
        body["route"] = rng.choice(("auto", "all", "all"))
        if rng.random() < 1 / 3:
            yield "/v1/ask", body
        else:
            yield "/v1/retrieve", {**body, "rescore": False}


def ask(siege: Siege, path: str, body: dict[str, Any]) -> Told:
    """One question; a connection that breaks is told as status 0."""
    began = time.monotonic()
    reply = siege.ask(path, body)
    return Told(path, began, time.monotonic(), reply.status_code, reply.json())


def battle(siege: Siege, rng: random.Random, report: Report, faults: Sequence[Fault]) -> None:
    """Some silos suffer one fault for a while; then all is well again, and how soon is noted."""
    fault = rng.choice(faults)
    silos = rng.sample(siege.layout.silos, rng.randint(1, len(siege.layout.silos) - 1))
    for silo in silos:
        fault(siege, silo)
    began = time.monotonic()
    time.sleep(rng.uniform(1.0, 1.5 * siege.deadline_s))
    ended = time.monotonic()
    if fault in DOWN:
        report.outages += [Outage(silo, fault.__name__, began, ended) for silo in silos]
    healed = time.time()
    siege.heal()
    answered_s = siege.rejoined()
    report.answers_s.setdefault(fault.__name__, []).append(round(answered_s, 2))
    joined_s = max(siege.joined(silo, healed) for silo in silos)
    report.rejoin_s.setdefault(fault.__name__, []).append(joined_s)


def storm(siege: Siege, count: int, seed: int, faults: Sequence[Fault] = (*DOWN, *WEAK)) -> Report:
    """Ask ``count`` questions, some at once, while faults come and go; all is well at the end."""
    report, over = Report(), threading.Event()
    rng = random.Random(seed)  # noqa: S311 - repeatable

    def rage() -> None:
        for fault in itertools.cycle(faults):
            if over.is_set():
                return
            battle(siege, rng, report, [fault])

    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        raging = pool.submit(rage)
        try:
            asked = itertools.islice(questions(seed), count)
            report.told += pool.map(lambda item: ask(siege, *item), asked)
        finally:
            over.set()
            raging.result()
    return report


def main(count: int) -> int:
    """Run a storm and print its figures; 1 when something did not hold."""
    with (
        tempfile.TemporaryDirectory() as folder,
        besieged(Path(folder), 6.0, demo.cache_file()) as siege,
    ):
        start = time.monotonic()
        report = storm(siege, count, seed=3)
        figures = report.figures(siege) | {"took_s": round(time.monotonic() - start)}
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
        for told in report.told:
            check_reply(told, siege.layout.silos)
        check_books(siege, report)
        return int(bool(silent_partials(report)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
