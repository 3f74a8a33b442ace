"""What every test may lean on: a small founded federation and one hypothesis profile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser

from tests.browser import launched
from tests.siloquy.federation import Federation, new_federation

# No deadline: other jobs share the machine. Derandomised: a run can be repeated.
settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("house")


# What takes long to prepare is prepared once: its tests go to one worker, whatever their file.
PREPARED = {"fed": "federation of processes", "actors": "stage of processes that die"}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Groups for workers: tests of one preparation together, all others by file."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        group = next((name for fixture, name in PREPARED.items() if fixture in used), None)
        item.add_marker(pytest.mark.xdist_group(group or item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def federation() -> Federation:
    """Two silos, a gateway and a hub; any two of the three that are no hub sign the roster."""
    return new_federation()


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors that any test of this run has computed, one file for all workers.

    A passage is encoded once however many federations hold it: that is most of what they cost.
    """
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return place / "embeddings.sqlite"


@pytest.fixture
def cached_vectors(embeddings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that a test starts take vectors from ``embeddings``, whatever their settings say."""
    monkeypatch.setenv("SILOQUY_ENCODER_CACHE", str(embeddings))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for a file of tests, which are not async: its driver runs a loop of its own."""
    with launched() as opened:
        yield opened
