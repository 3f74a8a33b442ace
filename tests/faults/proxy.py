"""A TCP line with faults: slow, dripping, mute, half open, cut in the middle of a frame, reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to every piece of data on its way.

    latency_s      added to each piece, either way
    bytes_per_s    0 for as fast as it comes
    mute           nothing passes and nothing ends; who dials is let in and hears nothing
    refuses        who dials is reset
    """

    latency_s: float = 0.0
    bytes_per_s: int = 0
    mute: bool = False
    refuses: bool = False


FAIR = Weather()


class Proxy:
    """One port in front of another; its faults may be changed from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int) -> None:
        self.port = 0
        self._loop = loop
        self._target = target
        self._weather = FAIR
        self._changed = asyncio.Event()
        self._left = -1
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server

    # -- what a test may do ---------------------------------------------------------------------

    def set(self, weather: Weather) -> None:
        """From now on."""

        def change() -> None:
            self._weather = weather
            self._changed.set()
            self._changed = asyncio.Event()

        self._loop.call_soon_threadsafe(change)

    def reset(self) -> None:
        """End all lines with a TCP reset at both ends."""
        self._each(_abort_both)

    def half_open(self) -> None:
        """Hang up on the far end of all lines; the near one is told nothing and hears nothing."""
        self._each(lambda near, far: _abort(far))

    def cut_after(self, size_bytes: int) -> None:
        """Reset the line on which that many bytes more have passed."""

        def set_left() -> None:
            self._left = size_bytes

        self._loop.call_soon_threadsafe(set_left)

    # -- how it is done -------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._attend, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all lines."""
        self._server.close()
        for near, far in list(self._pairs):
            _abort(near)
            _abort(far)

    def _each(self, act: Callable[[asyncio.StreamWriter, asyncio.StreamWriter], None]) -> None:
        def run() -> None:
            for pair in list(self._pairs):
                act(*pair)

        self._loop.call_soon_threadsafe(run)

    async def _attend(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._weather.refuses:
            _abort(near)
            return
        try:
            other, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _abort(near)
            return
        self._pairs.add((near, far))
        try:
            # A half-open line ends at one end alone: the other pump goes on swallowing.
            await asyncio.gather(self._pump(reader, far), self._pump(other, near))
        finally:
            self._pairs.discard((near, far))
            _abort(near)
            _abort(far)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._hold(len(data))
                if 0 <= self._left <= len(data):
                    writer.write(data[: self._left])
                    await writer.drain()
                    self._left = -1
                    self.reset()
                    return
                self._left -= len(data) if self._left >= 0 else 0
                if not writer.transport.is_closing():
                    writer.write(data)
                    await writer.drain()
            if writer.can_write_eof() and not writer.transport.is_closing():
                writer.write_eof()

    async def _hold(self, size: int) -> None:
        while self._weather.mute:
            await self._changed.wait()
        wait_s = self._weather.latency_s
        if self._weather.bytes_per_s:
            wait_s += size / self._weather.bytes_per_s
        if wait_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, ValueError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _abort_both(near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
    _abort(near)
    _abort(far)


@contextmanager
def proxies(targets: Sequence[int]) -> Iterator[list[Proxy]]:
    """A proxy in front of each port, run by a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    made = [Proxy(loop, target) for target in targets]
    try:
        for proxy in made:
            run(proxy.open())
        yield made
    finally:
        for proxy in made:
            run(proxy.close())
        run(_ended())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _ended() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
