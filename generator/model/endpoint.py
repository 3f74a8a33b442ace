"""A language model behind an OpenAI-compatible address: vLLM, Ollama, llama.cpp, TGI and others.

The question and the released passages go there in clear under TLS, or in plain text within this
machine: whoever runs the endpoint reads them. No error, log line or trace repeats what was sent,
what the server said or the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import logging
import random
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from siloquy.errors import Busy, SettingsError, TimedOut, Unreachable
from siloquy.generator.model.chat_stream import ReplyStream, refusal, unreadable
from siloquy.generator.model.endpoint_access import address, is_loopback, read_key
from siloquy.ports import Message
from siloquy.settings import ModelSettings

T = TypeVar("T")
CONNECT_S = 5.0
# Shares of timeout_s, for the first word and between two: a slow server reads the prompt first.
FIRST_SHARE, BETWEEN_SHARE = 0.5, 0.25
BACKOFF_S, MOST_BACKOFF_S = 0.5, 8.0
CHARACTERS_A_TOKEN = 16
# An event of one token is 200 to 400 bytes with the servers named above.
BYTES_A_TOKEN, LEAST_BYTES = 4096, 65_536
_random = random.SystemRandom()


class Endpoint:
    """The model ``settings.name`` at ``settings.url``: ``ports.LanguageModel``.

    A request that failed before its first piece was given out is sent again, at most ``retries``
    times and within ``timeout_s``. At most ``at_once`` requests are under way.
    """

    def __init__(self, settings: ModelSettings, folder: Path) -> None:
        if not settings.name:
            raise SettingsError("model.name is empty", "name the model as the endpoint does")
        self.name = settings.name
        self._settings = settings
        self._url = address(settings.url)
        self._key_file = folder / settings.key_file if settings.key_file else None
        self._tls = ssl.create_default_context()
        self._slots = asyncio.Semaphore(settings.at_once)
        read_key(self._key_file)
        # Its debug lines hold the headers of replies, and a server may send the key back in them.
        logging.getLogger("httpcore").setLevel(logging.WARNING)
        try:
            self._client()
        except (ImportError, ValueError, httpx.InvalidURL):
            raise SettingsError(
                "the proxy that the environment names cannot be used for model.url",
                "correct HTTPS_PROXY or ALL_PROXY, or name the endpoint's host in NO_PROXY",
            ) from None

    async def stream(
        self, messages: Sequence[Message], most_tokens: int
    ) -> AsyncGenerator[str, None]:
        """Pieces of the reply as they come; see ``ports.LanguageModel``."""
        whole = TimeLimit(self._settings.timeout_s)
        headers = _headers(read_key(self._key_file))
        body = _body(self.name, messages, most_tokens)
        async with self._slot(whole), self._client() as client:
            for number in range(self._settings.retries + 1):
                request = client.build_request("POST", self._url, content=body, headers=headers)
                attempt = Attempt(client, request, most_tokens, whole)
                try:
                    async with contextlib.aclosing(attempt.pieces()) as pieces:
                        async for piece in pieces:
                            yield piece
                    return
                except (Busy, Unreachable):
                    pause_s = attempt.pause_s(number)
                    last = number == self._settings.retries
                    if last or attempt.given or pause_s >= whole.left_s:
                        raise
                await asyncio.sleep(pause_s)

    def _client(self) -> httpx.AsyncClient:
        """A client for one answer: a line kept open is often dead when it is needed again."""
        return httpx.AsyncClient(
            verify=self._tls,
            trust_env=not is_loopback(urlsplit(self._url).hostname or ""),
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_S),
        )

    @contextlib.asynccontextmanager
    async def _slot(self, whole: TimeLimit) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(whole.left_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Busy(
                f"model.at_once ({self._settings.at_once}) requests are under way", "retry later"
            ) from None
        try:
            yield
        finally:
            self._slots.release()


class TimeLimit:
    """A time limit that runs from now on."""

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._at = time.monotonic() + most_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self._at - time.monotonic(), 0.0)


async def _within(work: Awaitable[T], patience: TimeLimit, whole: TimeLimit) -> T:
    """What ``work`` gives, or TimedOut when either limit passes."""
    try:
        async with asyncio.timeout(min(patience.left_s, whole.left_s)):
            return await work
    except TimeoutError:
        raise TimedOut(
            f"the model's endpoint was silent for {patience.most_s:g} s, "
            f"or not done in {whole.most_s:g} s",
            "raise model.timeout_s, or use a faster model",
        ) from None


@dataclass(slots=True)
class Attempt:
    """One request for an answer.

    whole           what is left of the time for the answer
    given           whether a piece of the reply was given out
    retry_after_s   how long the server wants to be left alone, when it said so
    """

    client: httpx.AsyncClient
    request: httpx.Request
    most_tokens: int
    whole: TimeLimit
    given: bool = False
    retry_after_s: float | None = None

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Pieces of the reply as they come; closing the iterator closes the line."""
        patience = TimeLimit(self.whole.most_s * FIRST_SHARE)
        response = await _within(self._send(), patience, self.whole)
        async with contextlib.aclosing(response), contextlib.aclosing(_chunks(response)) as chunks:
            reply = self._open(response)
            while not reply.ended:
                chunk = await _within(anext(chunks, None), patience, self.whole)
                pieces = reply.end() if chunk is None else reply.add(chunk)
                for piece in filter(None, pieces):
                    self.given = True
                    yield piece
                if chunk is None:
                    return
                # The clock starts here: the server is not to blame for a slow reader.
                if pieces:
                    patience = TimeLimit(self.whole.most_s * BETWEEN_SHARE)

    def pause_s(self, number: int) -> float:
        """How long to wait before the attempt after this one, the ``number``th from 0."""
        if self.retry_after_s is not None:
            return self.retry_after_s
        return min(BACKOFF_S * 2.0**number, MOST_BACKOFF_S) * _random.uniform(0.5, 1.0)

    async def _send(self) -> httpx.Response:
        with _named_failures():
            return await self.client.send(self.request, stream=True)

    def _open(self, response: httpx.Response) -> ReplyStream:
        """What will read the reply; the error that stands in its place is raised."""
        self.retry_after_s = retry_after_s(response.headers.get("retry-after", ""), time.time())
        if response.status_code != httpx.codes.OK:
            raise refusal(response.status_code)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise unreadable("a compressed reply, which was not asked for")
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        most_bytes = LEAST_BYTES + BYTES_A_TOKEN * self.most_tokens
        return ReplyStream(media_type, most_bytes, CHARACTERS_A_TOKEN * self.most_tokens)


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes, not unpacked."""
    with _named_failures():
        async for chunk in response.aiter_raw():
            yield chunk


@contextlib.contextmanager
def _named_failures() -> Iterator[None]:
    """The house's errors for those of the line, which could say what was sent."""
    try:
        yield
    except httpx.TimeoutException:
        raise TimedOut(
            f"the model's endpoint did not connect in {CONNECT_S:g} s", "check model.url"
        ) from None
    except (httpx.TransportError, httpx.StreamError) as error:
        raise Unreachable(
            f"the line to the model's endpoint failed ({type(error).__name__})",
            "check that it runs, model.url and, for https, its certificate (SSL_CERT_FILE)",
        ) from None


def retry_after_s(value: str, now: float) -> float | None:
    """Seconds to wait by a Retry-After header, a number or a date; None when it says neither.

    >>> retry_after_s("3", 0.0), retry_after_s("Thu, 01 Jan 1970 00:00:09 GMT", 2.0)
    (3.0, 7.0)
    """
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _headers(key: str) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",
    }
    return {**headers, "Authorization": f"Bearer {key}"} if key else headers


def _body(name: str, messages: Sequence[Message], most_tokens: int) -> bytes:
    said = [{"role": message.role, "content": message.content} for message in messages]
    wanted = {
        "model": name,
        "messages": said,
        "max_tokens": most_tokens,
        "temperature": 0,
        "stream": True,
    }
    return json.dumps(wanted).encode()
