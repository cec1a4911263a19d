"""etcd's v2 key space as a nested Python dict.

    >>> from etcdmap import EtcdMapping
    >>> cfg = EtcdMapping(["http://127.0.0.1:2379"], prefix="/app")
    >>> cfg["db"] = {"host": "localhost", "port": 5432}
    >>> cfg["db"]["port"], cfg["db/host"]
    (5432, 'localhost')

`EtcdMapping` is the dict; `connect` makes the failover client that several
mappings can share; `errors` tells what can go wrong.
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

#: The version, as a text.  It comes from the metadata of what is installed.
__version__: str

# If type checkers saw this function, any misspelt name would pass.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for: pytest loads our plugin in every test run."""
        if name == "__version__":
            return _version()
        if name in __all__:
            public = vars(import_module("etcdmap.public"))
            globals().update({each: public[each] for each in __all__})
            return globals()[name]
        # A module, as after an import of everything.
        if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"{__name__}.{name}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    # Imported here as it is slow, and few need it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("etcdmap")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"  # a valid version, and older than every release
