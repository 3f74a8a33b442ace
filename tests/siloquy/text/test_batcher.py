"""Texts of many callers share passes of the encoder, and each caller gets its own back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from siloquy.text import batcher as batchers
from siloquy.text.batcher import MOST_TEXTS, Batcher
from siloquy.types import Vector
from tests.silo_node.hospital import WordEmbedder


class Gated(WordEmbedder):
    """An embedder whose first pass waits until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()

    async def at_work(self) -> None:
        """Return when the first pass is under way: who asks from now on waits for the next."""
        assert await asyncio.to_thread(self.entered.wait, 10)

    def encode(self, texts: Sequence[str]) -> Vector:
        self.entered.set()
        assert self.gate.wait(10)
        return super().encode(texts)


class Broken(WordEmbedder):
    """An embedder that fails on one text."""

    def encode(self, texts: Sequence[str]) -> Vector:
        if "bad" in texts:
            raise MemoryError
        return super().encode(texts)


async def test_what_comes_back_is_what_the_encoder_gives() -> None:
    texts = ["give ceftriaxone", "image the head"]
    found = await Batcher(WordEmbedder()).encode(texts)
    np.testing.assert_array_equal(found, WordEmbedder().encode(texts))


async def test_no_texts_give_no_vectors_and_no_pass() -> None:
    embedder = WordEmbedder()
    assert (await Batcher(embedder).encode([])).shape == (0, embedder.spec.dimension)
    assert embedder.calls == []


async def test_callers_that_wait_share_a_pass_and_get_their_own_rows() -> None:
    embedder = Gated()
    batcher = Batcher(embedder)
    texts = [[f"word{i} dose", f"other{i}"] for i in range(10)]
    waiting = [asyncio.create_task(batcher.encode(item)) for item in texts]
    await embedder.at_work()
    embedder.gate.set()
    for item, found in zip(texts, await asyncio.gather(*waiting), strict=True):
        np.testing.assert_array_equal(found, WordEmbedder().encode(item))
    assert len(embedder.calls) <= 2


async def test_no_pass_takes_more_than_its_share_and_a_large_caller_is_served_in_several() -> None:
    embedder = Gated()
    batcher = Batcher(embedder)
    sizes = (1, 14, 14, 2 * MOST_TEXTS + 5)
    waiting = [asyncio.create_task(batcher.encode([f"word{i}" for i in range(n)])) for n in sizes]
    await embedder.at_work()
    embedder.gate.set()
    assert [len(found) for found in await asyncio.gather(*waiting)] == list(sizes)
    assert max(map(len, embedder.calls)) <= MOST_TEXTS


async def test_a_caller_that_gave_up_is_not_encoded() -> None:
    embedder = Gated()
    batcher = Batcher(embedder)
    first = asyncio.create_task(batcher.encode(["first"]))
    await embedder.at_work()
    given_up = asyncio.create_task(batcher.encode(["given up"]))
    third = asyncio.create_task(batcher.encode(["third"]))
    await asyncio.sleep(0)
    given_up.cancel()
    embedder.gate.set()
    await asyncio.gather(first, third)
    assert embedder.calls == [["first"], ["third"]]


async def test_a_failing_pass_fails_its_callers_and_the_next_goes_on() -> None:
    batcher = Batcher(Broken())
    with pytest.raises(MemoryError):
        await batcher.encode(["bad"])
    assert len(await batcher.encode(["good"])) == 1


async def test_a_text_met_again_is_not_encoded_again() -> None:
    embedder = WordEmbedder()
    batcher = Batcher(embedder)
    texts = ["give ceftriaxone", "image the head", "give ceftriaxone"]
    first = await batcher.encode(texts)
    again = await batcher.encode([*texts[::-1], "new"])
    np.testing.assert_array_equal(again[:3], first[::-1])
    assert embedder.calls == [["give ceftriaxone", "image the head"], ["new"]]


async def test_only_the_last_texts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchers, "MOST_RECENT", 2)
    embedder = WordEmbedder()
    batcher = Batcher(embedder)
    for text in ("a", "b", "a", "c", "a", "b"):
        await batcher.encode([text])
    assert embedder.calls == [["a"], ["b"], ["c"], ["b"]]


async def test_a_lone_surrogate_does_not_break_it() -> None:
    assert (await Batcher(WordEmbedder()).encode(["\ud800"])).shape[0] == 1


async def test_questions_go_before_passages() -> None:
    embedder = Gated()
    batcher = Batcher(embedder)
    passages = [[f"passage {i} {n}" for n in range(20)] for i in range(3)]
    waiting = [asyncio.create_task(batcher.encode(item)) for item in passages]
    await embedder.at_work()
    question = asyncio.create_task(batcher.encode(["question"]))
    await asyncio.sleep(0)
    embedder.gate.set()
    await asyncio.gather(question, *waiting)
    assert [call[0] for call in embedder.calls][:2] == ["passage 0 0", "question"]
