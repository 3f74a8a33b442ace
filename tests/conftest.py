"""What every test may lean on: a small founded federation and one hypothesis profile."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

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


# What takes long to prepare is prepared once: the files whose tests take it go to one worker.
PREPARED = {"fed: Federation": "federation of processes", "actors: Stage": "stage for crashes"}


class ByPreparation(LoadScopeScheduling):  # type: ignore[misc]
    """Whole files go to a worker, those of one preparation to the same."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0])


@functools.cache
def _group(file: str) -> str:
    path = Path(__file__).resolve().parents[1] / file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return next((group for taken, group in PREPARED.items() if taken in text), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByPreparation:
    """How tests are dealt out to workers."""
    return ByPreparation(config, log)


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
