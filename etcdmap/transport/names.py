"""Look up the names of hosts, with a deadline and without holding anybody up.

The system's resolver knows no deadline, so a thread asks it, and others wait for the
thread.  A look-up that hangs can't be ended.  So that such threads don't pile up, each
name is looked up once at a time, for all who ask for it meanwhile.
"""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import Any

from etcdmap import forking
from etcdmap.transport import failures
from etcdmap.transport.polling import Flag, in_thread


class LookUp:
    """One look-up, for all that wait for it."""

    def __init__(self) -> None:
        #: What `socket.getaddrinfo` returned or raised; None until then.
        self.outcome: list[Any] | Exception | None = None
        #: To raise at its end.
        self.flags: set[Flag] = set()

    def addresses(self, port: int) -> list[Any]:
        """Return what was found, with a port in each address."""
        found = self.outcome or []
        if isinstance(found, UnicodeError):  # a label that IDNA can't spell
            raise failures.unusable_url("the host can't be a name") from found
        if isinstance(found, Exception):
            raise found
        return [(*rest, (address[0], port, *address[2:])) for *rest, address in found]


class Resolver:
    """The look-ups under way, by name."""

    def __init__(self) -> None:
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start anew: the threads that look up are the parent's."""
        self._lock = threading.Lock()
        self._under_way: dict[str, LookUp] = {}

    def look_up(self, host: str, flag: Flag) -> LookUp:
        """Join the look-up of a name, or start it; its end raises `flag`."""
        try:
            with self._lock:
                known = self._under_way.get(host)
                look_up = known or self._under_way.setdefault(host, LookUp())
                look_up.flags.add(flag)
            if known is None:
                in_thread("etcdmap-resolve", partial(self._work, host, look_up))
        except BaseException:  # Ctrl-C: nobody may join a look-up without a thread
            self._under_way.pop(host, None)
            raise
        return look_up

    def leave(self, look_up: LookUp, flag: Flag) -> None:
        """Forget a flag: the look-up may hang for as long as the process lives."""
        with self._lock:
            look_up.flags.discard(flag)

    def _work(self, host: str, look_up: LookUp) -> None:
        found: Any = OSError("the look-up of the name was interrupted")
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except Exception as error:
            found = error
        finally:  # even for Ctrl-C, or all later look-ups of this name would hang
            with self._lock:
                look_up.outcome = found
                self._under_way.pop(host, None)
                for flag in look_up.flags:
                    flag.raise_()


resolver = Resolver()


def address_of(host: str, port: int) -> list[Any] | None:
    """Return the addresses of a host that is an IP address; None if it is a name."""
    try:
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError):
        return None
