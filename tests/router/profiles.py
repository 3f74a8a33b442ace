"""Profiles that hold, made of numbers instead of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from siloquy.text import topics as topic_lists
from siloquy.types import EncoderSpec, NodeId, Profile, Vector
from tests.siloquy.federation import ENCODER, NOW

HOUR = 3_600_000
TOPICS = len(topic_lists.names())


def profile(silo: str = "north", *, size: int = 60, version: int = 1, **other: Any) -> Profile:
    """A profile of two cells that holds in the tests' federation; ``other`` is what is changed."""
    plain = described(silo, axes(0, 1), size=size)
    return replace(plain, version=version, **other)


def axes(*numbers: int, encoder: EncoderSpec = ENCODER) -> Vector:
    """Unit vectors along the axes of these numbers."""
    return np.eye(encoder.dimension, dtype=np.float32)[list(numbers)]


def described(
    silo: str,
    means: Vector,
    *,
    size: int = 60,
    counts: Sequence[float] = (),
    spread: float = 0.04,
    topics: Sequence[float] = (),
    encoder: EncoderSpec = ENCODER,
    **other: Any,
) -> Profile:
    """A profile with these cells: ``means`` (m, d), of the same count each unless told."""
    m = len(means)
    told = np.array(topics if len(topics) else (min(size / TOPICS, 6e4),) * TOPICS)
    plain = Profile(
        silo=NodeId(silo),
        version=1,
        created=NOW,
        expires=NOW + HOUR,
        encoder=encoder,
        anchors=topic_lists.anchors(encoder),
        epsilon=None,
        delta=0.0,
        unit="document",
        size=size,
        topics=told.astype("<f2").tobytes(),
        topic_noise=0.0,
        counts=tuple(counts) or (size / max(m, 1),) * m,
        noises=(0.0,) * m,
        centroids=np.rint(127 * means).astype(np.int8).tobytes(),
        spreads=(spread,) * m,
        rank=0,
        directions=b"",
        variances=(),
        frequencies=b"",
    )
    return replace(plain, **other)


def tiny(silo: str, size: int, **other: Any) -> Profile:
    """A silo that tells its size alone."""
    return replace(described(silo, axes(), size=size), topics=b"", **other)
