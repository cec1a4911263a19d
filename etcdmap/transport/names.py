"""Look up the names of hosts, with a deadline and in nobody's way.

The system's resolver knows no deadline, so a name is looked up in a thread, and who
waits for it can wait for other things beside it.  A look-up that hangs can't be
ended: so there is one of a name at a time, and all who ask meanwhile wait for it.
"""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import Any

from etcdmap import forking
from etcdmap.errors import ExchangeFailed
from etcdmap.transport.polling import Flag, in_thread


class LookUp:
    """One look-up, for all that wait for it.

    Attributes:
        outcome: what `socket.getaddrinfo` gave or raised; None until then.
    """

    def __init__(self) -> None:
        self.outcome: list[Any] | Exception | None = None
        self.flags: set[Flag] = set()

    def addresses(self, port: int) -> list[Any]:
        """Return what was found, with a port in each address."""
        if isinstance(self.outcome, UnicodeError):  # a label that IDNA can't spell
            raise ExchangeFailed(
                "not a usable URL: the host can't be a name", sent=False, lasting=True
            ) from self.outcome
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return [
            (*found, (address[0], port, *address[2:]))
            for *found, address in self.outcome or ()
        ]


class Resolver:
    """The look-ups under way, by name."""

    def __init__(self) -> None:
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start anew: the threads that look up are not here."""
        self._lock = threading.Lock()
        self._under_way: dict[str, LookUp] = {}

    def look_up(self, host: str, flag: Flag) -> LookUp:
        """Join the look-up of a name, or start it; `flag` is raised at its end."""
        with self._lock:
            known = self._under_way.get(host)
            look_up = known or self._under_way.setdefault(host, LookUp())
            look_up.flags.add(flag)
        if known is None:
            in_thread("etcdmap-resolve", partial(self._work, host, look_up))
        return look_up

    def leave(self, look_up: LookUp, flag: Flag) -> None:
        """Wait for it no more: it may hang for as long as the process lives."""
        with self._lock:
            look_up.flags.discard(flag)

    def _work(self, host: str, look_up: LookUp) -> None:
        found: Any = OSError("the look-up of the name was interrupted")
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except Exception as error:
            found = error
        finally:  # also at Ctrl-C, in the caller: nobody else would end it
            with self._lock:
                look_up.outcome = found
                self._under_way.pop(host, None)
                for flag in look_up.flags:
                    flag.raise_()


resolver = Resolver()


def address_of(host: str, port: int) -> list[Any] | None:
    """Return the address that a host is itself; None if it is a name."""
    try:
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError):
        return None
