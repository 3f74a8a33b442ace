"""What every language model keeps to, at an address or in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from siloquy.errors import TimedOut
from siloquy.generator.model.endpoint import Endpoint
from siloquy.generator.model.local_model import LocalModel
from siloquy.ports import LanguageModel, Message
from siloquy.settings import ModelSettings
from tests.generator import tiny_model
from tests.generator.fake_endpoint import FakeEndpoint, Messages, slowly

LONG = 3000


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of model, and what a test must know of it.

    make      a model with changed settings
    rests     whether no work is under way, after some time
    """

    make: Callable[..., LanguageModel]
    rests: Callable[[], bool]


def question(text: str) -> list[Message]:
    return [Message("system", "Answer from the passages."), Message("user", text)]


async def said(model: LanguageModel, text: str, most_tokens: int = 24) -> list[str]:
    return [piece async for piece in model.stream(question(text), most_tokens)]


# -- the back ends --------------------------------------------------------------------------------


def reply_to(messages: Messages) -> str:
    """A long reply that only this question gets."""
    return f"About {messages[-1]['content']}: " + " ".join(str(i) for i in range(LONG))


@contextlib.contextmanager
def endpoint(folder: Path) -> Iterator[Backend]:
    with FakeEndpoint(replies=reply_to, otherwise=slowly(0.002)) as server:

        def make(**changed: Any) -> LanguageModel:
            values = {"timeout_s": 60.0, **changed}
            return Endpoint(
                ModelSettings(kind="endpoint", name="fake", url=server.url, **values), folder
            )

        yield Backend(make, server.rests)


@contextlib.contextmanager
def transformers(folder: Path) -> Iterator[Backend]:
    steps: list[float] = []

    def make(**changed: Any) -> LanguageModel:
        values = {"timeout_s": 60.0, "device": "cpu", **changed}
        model = LocalModel(ModelSettings(kind="transformers", name=str(folder), **values), folder)
        model.load().model.register_forward_hook(lambda *_: steps.append(time.monotonic()))
        return model

    def rests() -> bool:
        """Whether half a second passes without a step: thousands would be left to do."""
        until = time.monotonic() + 20
        while steps and time.monotonic() - steps[-1] < 0.5 and time.monotonic() < until:
            time.sleep(0.05)
        return len(steps) < LONG // 2 and time.monotonic() < until

    yield Backend(make, rests)


KINDS = {"endpoint": endpoint, "transformers": transformers}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, model_folder: Path) -> Iterator[Backend]:
    with KINDS[request.param](model_folder) as made:
        yield made


# -- the contract ---------------------------------------------------------------------------------


async def test_a_model_has_a_name(backend: Backend) -> None:
    assert backend.make().name


async def test_a_reply_comes_in_pieces_none_of_them_empty(backend: Backend) -> None:
    pieces = await said(backend.make(), "apixaban before surgery")
    assert len(pieces) > 5
    assert all(pieces)


async def test_the_same_question_gets_the_same_reply(backend: Backend) -> None:
    model = backend.make()
    first, second = await said(model, "one dose"), await said(model, "one dose")
    assert "".join(first) == "".join(second)


async def test_no_more_tokens_come_than_asked_for(backend: Backend) -> None:
    model = backend.make()
    short, longer = ["".join(await said(model, "doses", n)) for n in (6, 30)]
    assert longer.startswith(short)
    assert len(short) < len(longer)
    assert await said(model, "doses", 1)
    assert len(await said(model, "doses", 6)) <= 6


async def test_pieces_come_before_the_reply_is_whole(backend: Backend) -> None:
    model = backend.make()
    async with aclosing(_generator(model, "first", LONG)) as pieces:
        await asyncio.wait_for(anext(pieces), 30)
    assert await asyncio.to_thread(backend.rests)


async def test_closing_early_ends_the_work_and_frees_its_place(backend: Backend) -> None:
    model = backend.make(at_once=1)
    for _ in range(3):
        async with aclosing(_generator(model, "early", LONG)) as pieces:
            assert await anext(pieces)
            assert await anext(pieces)
    assert await asyncio.to_thread(backend.rests)
    assert await asyncio.wait_for(said(model, "next", 4), 30)


async def test_a_cancelled_question_ends_the_work(backend: Backend) -> None:
    model = backend.make(at_once=1)
    asking = asyncio.create_task(said(model, "cancelled", LONG))
    await asyncio.sleep(0.2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.to_thread(backend.rests)
    assert await asyncio.wait_for(said(model, "next", 4), 30)


@pytest.mark.parametrize("at_once", [1, 3, 16])
async def test_questions_asked_together_do_not_mix(backend: Backend, at_once: int) -> None:
    model = backend.make(at_once=at_once)
    texts = [f"question {i} " * (1 + 3 * i) for i in range(7)]
    alone = ["".join(await said(model, text)) for text in texts]
    together = await asyncio.gather(*(said(model, text) for text in texts))
    assert ["".join(pieces) for pieces in together] == alone
    assert len(set(alone)) == len(texts)


async def test_one_that_leaves_does_not_disturb_the_others(backend: Backend) -> None:
    model = backend.make(at_once=3)
    alone = ["".join(await said(model, text, n)) for text, n in (("stays", 40), ("brief", 5))]

    async def leave() -> None:
        async with aclosing(_generator(model, "leaves", LONG)) as pieces:
            await anext(pieces)

    stays, brief, _ = await asyncio.gather(
        said(model, "stays", 40), said(model, "brief", 5), leave()
    )
    assert ["".join(stays), "".join(brief)] == alone


async def test_a_model_that_is_too_slow_times_out(backend: Backend) -> None:
    model = backend.make(timeout_s=0.5)
    with pytest.raises(TimedOut) as caught:
        await said(model, "Quillfeather", LONG)
    assert "Quillfeather" not in f"{caught.value.message}{caught.value.hint}"
    assert await asyncio.to_thread(backend.rests)


async def test_a_question_can_be_asked_from_another_event_loop(backend: Backend) -> None:
    model = backend.make()
    here = "".join(await said(model, "loops", 5))
    there = await asyncio.to_thread(lambda: asyncio.run(said(model, "loops", 5)))
    assert "".join(there) == here


def _generator(model: LanguageModel, text: str, most_tokens: int) -> Any:
    pieces: AsyncIterator[str] = model.stream(question(text), most_tokens)
    return pieces
