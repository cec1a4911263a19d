"""HTTP proxies before the members of a cluster, which lose or delay what they are told.

::

    with AnswerProxies(cluster.endpoints) as proxies:
        mapping = EtcdMapping(proxies.endpoints, ...)
        fate = proxies.next("PUT", "/k", lose_answer=True)

The next matching request, through whichever member it goes, then has this fate; all
others are passed on.  A request can be

* delivered, and its answer dropped (``lose_answer``): the connection just ends;
* delivered, and its answer held (``hold_answer``) until `Fate.release`;
* held (``late``), and delivered by `Fate.deliver`; the client's connection ends at
  once, or stays open and silent with ``silent=True``;
* refused (``refuse``): never delivered, and the connection ends.

`before` runs before it is delivered, `after` before the client sees an end: on the
proxy's thread, so that a test needs no timing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

#: Seconds after which a test that hangs is given up.
PATIENCE = 20.0


def _nothing() -> None:
    pass


class Seen(NamedTuple):
    """A request that came to a proxy."""

    member: int
    method: str
    target: str


class Fate:
    """What becomes of one request.

    Attributes:
        came: set once the request is there.
        status: that of the member's answer; 0 while there is none.
    """

    def __init__(
        self,
        method: str,
        part: str,
        *,
        lose_answer: bool = False,
        hold_answer: bool = False,
        late: bool = False,
        silent: bool = False,
        refuse: bool = False,
        before: Callable[[], object] = _nothing,
        after: Callable[[], object] = _nothing,
    ) -> None:
        assert sum((lose_answer, hold_answer, late, refuse)) == 1
        self.method = method
        self.part = part
        self.before = before
        self.after = after
        self.came = threading.Event()
        self.status = 0
        self._late = late
        self._silent = silent
        self._refuse = refuse
        self._hold_answer = hold_answer
        self._released = threading.Event()
        self._answered = threading.Event()

    def wait(self) -> None:
        """Wait until the request has come."""
        assert self.came.wait(PATIENCE), "the request never came"

    def release(self) -> None:
        """Let it go on."""
        self._released.set()

    def deliver(self) -> int:
        """Deliver a late request, and give the status of the member's answer."""
        self.wait()
        self.release()
        assert self._answered.wait(PATIENCE), "the member never answered"
        return self.status

    def carry_out(
        self, line: socket.socket, forward: Callable[[], bytes]
    ) -> bytes | None:
        """Do it; give the answer to pass on, or None for an end.

        Called by the proxy.
        """
        self.came.set()
        if self._refuse:
            self.after()
            return None
        if self._late:
            self.after()
            if not self._silent:
                _end(line)
            assert self._released.wait(PATIENCE), "never released"
        self.before()
        answer = forward()
        self.status = int(answer.split(b" ", 2)[1]) if answer else 0
        self._answered.set()
        if not self._late:
            self.after()
        if self._hold_answer:
            assert self._released.wait(PATIENCE), "never released"
            return answer
        return answer if self._late and self._silent else None


class AnswerProxies:
    """A proxy before each of some members; they end with the block.

    Attributes:
        endpoints: of the proxies, in the order of the members.
        seen: what came, in order.
    """

    def __init__(self, members: Sequence[str]) -> None:
        self._members = [_address(url) for url in members]
        self.seen: list[Seen] = []
        self._fates: list[Fate] = []
        self._all_fates: list[Fate] = []
        self._lock = threading.Lock()
        self._closing = False
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._listeners = [
            socket.create_server(("127.0.0.1", 0), backlog=64) for _ in members
        ]
        self.endpoints = tuple(
            f"http://127.0.0.1:{listener.getsockname()[1]}"
            for listener in self._listeners
        )

    def __enter__(self) -> AnswerProxies:
        """Start to serve."""
        for number, listener in enumerate(self._listeners):
            self._start(self._accept, number, listener)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End everything; raise what went wrong on the proxies' threads."""
        self._closing = True
        for listener in self._listeners:
            # Wakes up the accept(), which close() would not.
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname(), 1).close()
        for fate in self._all_fates:
            fate.release()
        with self._lock:
            for sock in self._sockets:
                _end(sock)
        for thread in self._threads:
            thread.join(PATIENCE)
        for listener in self._listeners:
            listener.close()
        assert not any(thread.is_alive() for thread in self._threads)
        if self._errors and error is None:
            raise self._errors[0]

    def next(self, method: str, part: str, **fate: object) -> Fate:
        """Choose what becomes of the next request of a kind.

        Args:
            method: of the request.
            part: what its path and query contain, percent escapes undone.
            **fate: see `Fate`.
        """
        made = Fate(method, part, **fate)  # type: ignore[arg-type]
        with self._lock:
            self._fates.append(made)
            self._all_fates.append(made)
        return made

    def count(self, method: str, part: str) -> int:
        """Count the requests of a kind that came."""
        return sum(s.method == method and part in unquote(s.target) for s in self.seen)

    # --- threads

    def _start(self, work: Callable[..., None], *args: object) -> None:
        def run() -> None:
            try:
                work(*args)
            except OSError:
                pass  # either side went away
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, number: int, listener: socket.socket) -> None:
        while True:
            line, _ = listener.accept()
            if self._closing:
                line.close()
                return
            self._start(self._serve, number, line)

    def _serve(self, number: int, line: socket.socket) -> None:
        """Serve one request; the connection ends with it."""
        with self._known(line):
            request = _read_request(line)
            if request is None:
                return
            method, target = request.split(b" ", 2)[:2]
            seen = Seen(number, method.decode(), target.decode())
            fate = self._fate_of(seen)

            def forward() -> bytes:
                return self._forward(number, request)

            if fate is None:
                answer: bytes | None = forward()
            else:
                answer = fate.carry_out(line, forward)
            if answer is not None:
                line.sendall(answer)

    def _fate_of(self, seen: Seen) -> Fate | None:
        target = unquote(seen.target)
        with self._lock:
            self.seen.append(seen)
            for fate in self._fates:
                if fate.method == seen.method and fate.part in target:
                    self._fates.remove(fate)
                    return fate
        return None

    def _forward(self, number: int, request: bytes) -> bytes:
        """Give the member's answer; an empty one if it ended at once."""
        head, _, body = request.partition(b"\r\n\r\n")
        with self._known(socket.create_connection(self._members[number])) as sock:
            sock.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            parts = []
            while data := sock.recv(65536):
                parts.append(data)
            return b"".join(parts)

    @contextlib.contextmanager
    def _known(self, sock: socket.socket):  # type: ignore[no-untyped-def]
        """Have a socket ended with the proxies, and closed with the block."""
        with self._lock:
            self._sockets.add(sock)
        try:
            if self._closing:
                raise OSError("closing")
            yield sock
        finally:
            with self._lock:
                self._sockets.discard(sock)
            sock.close()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _read_request(line: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = line.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for field in head.split(b"\r\n")[1:]:
        name, _, value = field.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        more = line.recv(65536)
        if not more:
            return None
        body += more
    return head + b"\r\n\r\n" + body
