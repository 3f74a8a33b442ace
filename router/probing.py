"""Questions that a profile must answer for, near what it claims."""

from __future__ import annotations

import os

import numpy as np
from scipy.special import ndtri

from siloquy.router import trust
from siloquy.router.atlas import Atlas
from siloquy.text.topics import Topics
from siloquy.types import Probe, Vector


def probe(atlas: Atlas, row: int, topics: Topics) -> Probe:
    """Probes for the silo in ``row``: near its cells or, where noised, topics that stand out."""
    profile = atlas.profiles[row]
    if profile.epsilon is not None:
        rows = trust.topic_probes(atlas.near(row), profile.topic_noise, trust.PROBES)
        return Probe(profile.silo, topics.vectors[rows], (trust.NEAR_TOPIC,) * len(rows))
    means, counts = atlas.cells(row)
    vectors = trust.cell_probes(means, counts, _normal(trust.PROBES, means.shape[1]))
    expected = tuple(atlas.reach(row, vector, trust.PROBE_K) - trust.SPARE for vector in vectors)
    return Probe(profile.silo, vectors, expected)


def _normal(n: int, d: int) -> Vector:
    """(n, d) standard normal numbers of the operating system's generator."""
    uniform = np.frombuffer(os.urandom(8 * n * d), dtype="<u8").reshape(n, d) / 2.0**64
    return np.asarray(ndtri(uniform.clip(1e-12, 1 - 1e-12)), dtype=np.float32)
