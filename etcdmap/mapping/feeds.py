"""The feeds of a client: each follows a directory and everything below it."""

from __future__ import annotations

import threading

from etcdmap import forking
from etcdmap.client import Client
from etcdmap.mapping.feed import Feed
from etcdmap.tree import WatchableStore


class Feeds:
    """The feeds of a client."""

    def __init__(self, client: Client) -> None:
        self._feeds: list[Feed] = []
        self._closed = False
        client.on_close.append(self.close)
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Replace the lock: a thread that did not survive the fork may hold it."""
        self._lock = threading.Lock()

    @classmethod
    def of(cls, client: Client) -> Feeds:
        """Return the feeds of a client."""
        found: Feeds = client.stores.get("feeds") or client.stores.setdefault(
            "feeds", cls(client)
        )
        return found

    def lease(
        self, store: WatchableStore, path: str, max_stale: float, ticket: object
    ) -> Feed:
        """Return a feed that covers a path; start it if needed.  See `give_back`."""
        with self._lock:
            feed = next((each for each in self._feeds if _covers(each, path)), None)
            if feed is None:
                feed = Feed(store, path, max_stale)
                feed.closed = self._closed  # a closed feed refuses to start
                self._feeds.append(feed)
            feed.users[ticket] = max_stale
            hurried = feed.keep_pace()
        try:
            feed.start()
            if hurried:
                feed.follower.prove()
        except BaseException:
            self.give_back(feed, ticket)
            raise
        return feed

    def give_back(self, feed: Feed, ticket: object) -> None:
        """End the use of a feed by the holder of a ticket; the last one closes it."""
        with self._lock:
            if feed.users.pop(ticket, None) is None:
                return
            if feed.users:
                feed.keep_pace()
            elif feed in self._feeds:  # otherwise `close` was quicker
                self._feeds.remove(feed)
        # Only now, after the ticket is gone: a subscription that another thread makes
        # at this moment either finds no ticket, or is ended here.
        feed.end_all(ticket)
        if not feed.users:
            feed.close()

    def close(self) -> None:
        """Close all feeds; the content that was seen last can still be read."""
        with self._lock:
            feeds, self._feeds, self._closed = self._feeds, [], True
        for feed in feeds:
            feed.close()


def _covers(feed: Feed, path: str) -> bool:
    return path == feed.path or path.startswith(f"{feed.path}/")
