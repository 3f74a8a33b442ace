"""The parts that metrics are made of: closed labels, one registry a node, Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from time import perf_counter

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as _Metric
from prometheus_client.registry import Collector

from siloquy import __version__
from siloquy.errors import BY_CODE, SiloquyError
from siloquy.types import Role

Registry = CollectorRegistry
Metric = _Metric
OTHER = "other"
OK = "ok"
CANCELLED = "cancelled"
CODES = (OK, CANCELLED, *BY_CODE)
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Left out: when each series began, which doubles the lines and tells a scrape nothing.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def text(registry: Registry) -> tuple[bytes, str]:
    """All metrics of a node as Prometheus reads them, and their content type."""
    return prometheus_client.generate_latest(registry), prometheus_client.CONTENT_TYPE_LATEST


@contextmanager
def timing(tell: Callable[[str, float], None]) -> Iterator[None]:
    """Tells ``ok``, ``cancelled`` or the code of the error raised inside, and the seconds taken."""
    start, code = perf_counter(), CANCELLED
    try:
        yield
        code = OK
    except Exception as error:
        code = error.code if isinstance(error, SiloquyError) else OTHER
        raise
    finally:
        tell(code, perf_counter() - start)


class LabelledMetric:
    """A counter, or the seconds of a histogram, by one label from a closed set."""

    def __init__(self, metric: Counter | Histogram, values: Collection[str]) -> None:
        self._children = {value: metric.labels(value) for value in (*values, OTHER)}

    def add(self, value: str, n: float = 1) -> None:
        """Count ``n``, or observe ``n`` seconds, under ``value``."""
        child = self._children.get(value) or self._children[OTHER]
        if isinstance(child, Counter):
            child.inc(n)
        else:
            child.observe(n)


class Making:
    """Makes the metrics of one role in one registry."""

    def __init__(self, role: Role, node: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = f"siloquy_{role}"
        info = self.gauge("info", "Version of this node.", "node", "version")
        info.labels(node, __version__).set(1)
        # Memory, CPU and open files, where the system tells them.
        prometheus_client.ProcessCollector(registry=self.registry)

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"{self._prefix}_{name}", help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"{self._prefix}_{name}", help_text, labels, registry=self.registry)

    def seconds(self, name: str, help_text: str, *labels: str) -> Histogram:
        return Histogram(
            f"{self._prefix}_{name}_seconds",
            help_text,
            labels,
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def at_scrape(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self.registry.register(AtScrape(collect))

    def gauges(self, name: str, help_text: str, label: str = "") -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{self._prefix}_{name}", help_text, labels=[label] * bool(label))

    def counters(self, name: str, help_text: str, label: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"{self._prefix}_{name}", help_text, labels=[label])


class AtScrape(Collector):
    """Metrics that are read when they are asked for."""

    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Nothing: reading needs a node that runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What stands now."""
        return self._read()
