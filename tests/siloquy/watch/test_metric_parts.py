"""The parts of metrics: times by code, closed labels."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from siloquy.errors import Busy, PolicyDenied
from siloquy.watch import metric_parts
from siloquy.watch.metric_parts import LabelledMetric, timing
from tests.siloquy.scrape import Scraped

CANARY = "zanthoxyl-dose"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyDenied(CANARY), "denied"),
        (Busy(CANARY), "busy"),
        (ValueError(CANARY), "other"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
def test_timing_tells_the_code_of_what_was_raised(error: BaseException, code: str) -> None:
    told: list[tuple[str, float]] = []
    with pytest.raises(type(error)), timing(lambda *item: told.append(item)):
        raise error
    ((heard, seconds),) = told
    assert heard == code
    assert 0 <= seconds < 5


def test_timing_tells_ok() -> None:
    told: list[str] = []
    with timing(lambda code, seconds: told.append(code)):
        assert not told
    assert told == ["ok"]


@pytest.mark.parametrize("kind", [Counter, Histogram])
def test_a_label_s_values_are_fixed_when_it_is_made(kind: type[Counter] | type[Histogram]) -> None:
    registry = CollectorRegistry()
    counted = LabelledMetric(kind("siloquy_it", "It.", ["what"], registry=registry), ("one", "two"))
    counted.add("one", 2)
    counted.add(CANARY)
    body, _ = metric_parts.text(registry)
    assert CANARY.encode() not in body
    name = "it_total" if kind is Counter else "it_count"
    shown = Scraped(body)
    assert shown.labels(name) == {"one", "two", "other"}
    assert (shown(name, what="two"), shown(name, what="other")) == (0, 1)
