"""etcd's v2 key space as a nested Python dict.

    >>> from etcdmap import EtcdMapping
    >>> cfg = EtcdMapping(["http://127.0.0.1:2379"], prefix="/app")
    >>> cfg["db"] = {"host": "localhost", "port": 5432}
    >>> cfg["db"]["port"], cfg["db/host"]
    (5432, 'localhost')

`EtcdMapping` is the dict.  `connect` makes a client, which sends the requests to a
member that works; several mappings can share one client.  `errors` has all exceptions.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etcdmap.public import *  # noqa: F403

__all__ = [
    "ABSENT",
    "Attempt",
    "CacheInfo",
    "Client",
    "ClientClosed",
    "ClusterRebuilt",
    "ClusterUnavailable",
    "Codec",
    "CompareFailed",
    "CredentialsMissing",
    "DeadlineExceeded",
    "DecodeError",
    "Difference",
    "Differences",
    "DirectoryGone",
    "DirectoryNotEmpty",
    "EtcdMapError",
    "EtcdMapping",
    "Event",
    "ExchangeFailed",
    "FlatView",
    "FrozenMapping",
    "InvalidKey",
    "InvalidRequest",
    "InvalidResponse",
    "KeyExists",
    "KeyNotFound",
    "KeysAPI",
    "LimitExceeded",
    "Live",
    "LocalClusterError",
    "Node",
    "NotADirectory",
    "NotAFile",
    "OutcomeUnknown",
    "PartialWrite",
    "Policy",
    "PrefixRequired",
    "RaftError",
    "ReadOnly",
    "Refusal",
    "RenewalFailed",
    "RequestFailed",
    "Result",
    "RootReadOnly",
    "ServerError",
    "Snapshot",
    "Unauthorized",
    "UnreadableName",
    "UnverifiedTLS",
    "V2NotEnabled",
    "View",
    "Watch",
    "WatchExpired",
    "WrongCluster",
    "connect",
]

#: The version, as a text.  It comes from the metadata of the installed package.
__version__: str

# Type checkers must not see this function: with it, they would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name only when it is used: pytest loads our plugin in every run."""
        if name == "__version__":
            return _version()
        if name in __all__:
            public = vars(import_module("etcdmap.public"))
            globals().update({each: public[each] for each in __all__})
            return globals()[name]
        # It may be a module, which is there as if everything had been imported.
        if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"{__name__}.{name}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    # Imported only here, because the import is slow and few programs need it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("etcdmap")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"  # a valid version, and older than every release
