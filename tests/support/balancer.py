"""A TCP balancer before one member, whose connections can die without a word."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

_CHUNK = 1 << 16
_TIMEOUT = 10.0


class Balancer:
    """Carries connections to a member, until the end of the block.

    Args:
        member: its endpoint.

    Attributes:
        url: the endpoint to give to a client.
        opened: how many connections were accepted.

    Threads: any thread may call.
    """

    url: str

    def __init__(self, member: str) -> None:
        parts = urlsplit(member)
        self._member = parts.hostname, parts.port
        self.opened = 0
        self._dead: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Balancer:
        """Start to listen."""
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all connections."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        self._loop.close()

    def lose_connections(self) -> None:
        """From now on nothing passes on those that are open, and none of them ends."""
        self._run(self._lose())

    # --- inside the thread of the loop

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _lose(self) -> None:
        self._dead.update(self._tasks)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        there, to_there = await asyncio.open_connection(*self._member)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(
                    self._flow(reader, to_there, task), self._flow(there, writer, task)
                )
        finally:
            self._tasks.discard(task)
            for end in (writer, to_there):
                end.transport.abort()

    async def _flow(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: asyncio.Task[None],
    ) -> None:
        """Carry what one side says; a line that is dead takes it and says nothing."""
        while data := await reader.read(_CHUNK):
            if line not in self._dead:
                writer.write(data)
        writer.transport.abort()
