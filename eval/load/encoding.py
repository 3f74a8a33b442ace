"""The encoder's own time, and every query vector in the cache before anybody is asked."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from siloquy.errors import SiloquyError
from siloquy.eval.beir import EvalQuestion
from siloquy.settings import EncoderSettings
from siloquy.text.embed import SentenceEncoder, embedder, encoder_spec
from siloquy.text.words import clean

ENCODER_QUESTIONS = 30


def encode(cache: Path, questions: Sequence[EvalQuestion]) -> list[float]:
    """Milliseconds of the encoder for each of the first questions; all vectors are in the cache.

    In a child process, which loads the encoder and leaves the memory when it is done.
    """
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(cache, list(questions), far), daemon=True)
    child.start()
    far.close()
    try:
        times: list[float] = near.recv()
    except EOFError:
        raise SiloquyError("the encoder failed; its error stands above") from None
    finally:
        child.join()
    return times


def _child(cache: Path, questions: Sequence[EvalQuestion], pipe: Any) -> None:
    settings = EncoderSettings(cache=str(cache))
    texts = [" ".join(clean(question.text).split()) for question in questions]
    embedder(settings, cache.parent).encode(texts)
    encoder = SentenceEncoder(settings, encoder_spec(settings))
    encoder.encode(texts[:1])
    times = []
    for text in texts[:ENCODER_QUESTIONS]:
        start = perf_counter()
        encoder.encode([text])
        times.append(1000 * (perf_counter() - start))
    pipe.send(times)
