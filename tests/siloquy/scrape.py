"""Prometheus text as a table, read by the client library's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, frozenset[tuple[str, str]]]


def table(text: bytes) -> dict[Key, float]:
    """The value of each series."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class Scraped:
    """What a scrape has shown."""

    def __init__(self, text: bytes) -> None:
        self.table = table(text)

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one series; KeyError when there is none."""
        return self.table[f"siloquy_{name}", frozenset(labels.items())]

    def labels(self, name: str) -> set[str]:
        """The values of all labels of a metric."""
        return {
            value
            for series, labels in self.table
            if series == f"siloquy_{name}"
            for _, value in labels
        }
