"""Links between the members of a cluster that can be cut.

A proxy stands before each member's peer socket and knows who dials: the sockets are
Unix domain sockets, of which the system tells the process at the other end.  So what
one member says to another can be stopped without touching the rest, in one direction
too: etcd answers on connections that the other one opened.

A link that is cut hangs, as one does where a switch dies: connections stay open, new
ones open, and nothing arrives until it heals.  Or it closes (``reset``), as where a
firewall refuses: connections end, and new ones end at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Literal

CutMode = Literal["hang", "reset"]

_CHUNK = 1 << 16
_TIMEOUT = 10.0


class Links:
    """The proxies of a cluster.

    Args:
        name_of: tells a member's name from its process id; None if it is none.

    Threads: any thread may call.
    """

    def __init__(self, name_of: Callable[[int], str | None]) -> None:
        self._name_of = name_of
        self._names: set[str] = set()
        self._servers: list[asyncio.Server] = []
        self._hanging: set[tuple[str, str]] = set()
        self._refused: set[tuple[str, str]] = set()
        self._open: dict[asyncio.StreamWriter, tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        # Woken at every change; each flow then looks whether it may go on.
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, name: str, front: Path, back: Path) -> None:
        """Put a proxy before a member.

        Args:
            name: whose socket `back` is.
            front: where to listen.
            back: where the member listens, now or later.
        """
        self._names.add(name)
        self._run(self._listen(name, front, back))

    def cut(
        self, one: str, other: str, *, mode: CutMode = "hang", one_way: bool = False
    ) -> None:
        """Cut the link between two members.

        Args:
            one: a member's name.
            other: another one's.
            mode: what a connection over the link sees.
            one_way: whether only what `one` says to `other` is lost; for "hang".
        """
        pairs = {(one, other)} if one_way else {(one, other), (other, one)}
        self._run(self._change(pairs, mode))

    def isolate(self, name: str, *, mode: CutMode = "hang") -> None:
        """Cut all links of a member."""
        others = self._names - {name}
        pairs = {(name, other) for other in others} | {(o, name) for o in others}
        self._run(self._change(pairs, mode))

    def heal(self) -> None:
        """Mend all links; what hung goes on."""
        self._run(self._change(None, "hang"))

    def close(self) -> None:
        """End all proxies."""
        if self._loop.is_closed():
            return
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        self._loop.close()

    # --- inside the thread of the loop

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT)

    async def _listen(self, name: str, front: Path, back: Path) -> None:
        async def accept(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(name, back, reader, writer)
            finally:
                self._tasks.discard(task)

        self._servers.append(await asyncio.start_unix_server(accept, front))

    async def _change(
        self, pairs: Iterable[tuple[str, str]] | None, mode: CutMode
    ) -> None:
        if pairs is None:
            self._hanging.clear()
            self._refused.clear()
        elif mode == "hang":
            self._hanging.update(pairs)
        else:
            self._refused.update(pairs)
            for writer, pair in list(self._open.items()):
                if pair in self._refused:
                    writer.transport.abort()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self,
        name: str,
        back: Path,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Carry one connection to a member until either side ends it."""
        dialer = self._dialer(writer)
        try:
            with contextlib.suppress(OSError):
                if (dialer, name) not in self._refused:
                    self._open[writer] = (dialer, name)
                    await self._carry(back, reader, writer, (dialer, name))
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _carry(
        self,
        back: Path,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[str, str],
    ) -> None:
        there, to_there = await asyncio.open_unix_connection(back)
        try:
            await self._join(
                self._flow(reader, to_there, pair),
                self._flow(there, writer, pair[::-1]),
            )
        finally:
            to_there.transport.abort()

    def _dialer(self, writer: asyncio.StreamWriter) -> str:
        pid = peer_pid(writer.get_extra_info("socket"))
        # Not a member: a test, or the guard.
        return self._name_of(pid) or ""

    async def _join(self, *flows: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.ensure_future(flow) for flow in flows]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _flow(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[str, str],
    ) -> None:
        """Carry what one member says to another, while the link is whole."""
        while True:
            data = await reader.read(_CHUNK)
            # The end of a connection does not pass a link that hangs, either.
            while pair in self._hanging:
                await self._changed.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()


def peer_pid(sock: socket.socket) -> int:
    """Tell the process that opened a connection to a Unix domain socket."""
    if hasattr(socket, "SO_PEERCRED"):  # Linux
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("iII", credentials)[0])
    # macOS: LOCAL_PEERPID of SOL_LOCAL; Python has no names for them.
    return int(sock.getsockopt(0, 2))
