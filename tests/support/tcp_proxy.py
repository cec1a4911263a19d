"""A proxy before one member that drops, forgets or delays connections."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from urllib.parse import urlsplit


class TcpProxy:
    """Passes bytes on; ``with TcpProxy(endpoint) as proxy: ... proxy.endpoint``.

    Attributes:
        delay: seconds by which each answer comes later.
        opened: how many connections there were.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._to = (parts.hostname or "", parts.port or 0)
        self.delay = 0.0
        self.opened = 0
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._forgotten: set[socket.socket] = set()
        #: Those on which a long poll has begun.
        self._polls: set[socket.socket] = set()
        self._holding = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> TcpProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()

    def drop(self) -> None:
        """End all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for sock in (sock for pair in pairs for sock in pair):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Let nothing through any more on the connections there are: they stay open."""
        with self._lock:
            self._forgotten.update(sock for pair in self._pairs for sock in pair)

    def forget_polls(self) -> None:
        """The same, but only of connections on which a long poll has begun."""
        with self._lock:
            self._forgotten.update(self._polls)

    def hold(self) -> None:
        """Let nothing through on any connection, new ones too; they stay open."""
        self._holding = True
        self.forget()

    def let_go(self) -> None:
        """End what was held, and carry new connections again."""
        self._holding = False
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._to)
            except OSError:
                near.close()
                continue
            self.opened += 1
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((near, far))
                if self._holding:
                    self._forgotten.update((near, far))
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        to = {near: far, far: near}
        with near, far, contextlib.suppress(OSError):
            while to:
                for sock in select.select(list(to), [], [])[0]:
                    self._pass_on(sock, to, late=sock is far)

    def _pass_on(
        self, sock: socket.socket, to: dict[socket.socket, socket.socket], *, late: bool
    ) -> None:
        data = sock.recv(1 << 16)
        if not data:  # half of it: the other way goes on
            to.pop(sock).shutdown(socket.SHUT_WR)
            return
        if not late and b"wait=true" in data:
            with self._lock:
                self._polls.update((sock, to[sock]))
        if sock not in self._forgotten:
            if late and self.delay:
                time.sleep(self.delay)
            to[sock].sendall(data)
