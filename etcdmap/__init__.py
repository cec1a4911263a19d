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

from typing import TYPE_CHECKING

from etcdmap.cache import CacheInfo as CacheInfo
from etcdmap.client import Client as Client
from etcdmap.client import ClusterRebuilt as ClusterRebuilt
from etcdmap.client import Policy as Policy
from etcdmap.codecs import Codec as Codec
from etcdmap.connect import connect as connect
from etcdmap.errors import Attempt as Attempt
from etcdmap.errors import ClientClosed as ClientClosed
from etcdmap.errors import ClusterUnavailable as ClusterUnavailable
from etcdmap.errors import CompareFailed as CompareFailed
from etcdmap.errors import CredentialsMissing as CredentialsMissing
from etcdmap.errors import DeadlineExceeded as DeadlineExceeded
from etcdmap.errors import DecodeError as DecodeError
from etcdmap.errors import DirectoryGone as DirectoryGone
from etcdmap.errors import DirectoryNotEmpty as DirectoryNotEmpty
from etcdmap.errors import EtcdMapError as EtcdMapError
from etcdmap.errors import ExchangeFailed as ExchangeFailed
from etcdmap.errors import InvalidKey as InvalidKey
from etcdmap.errors import InvalidRequest as InvalidRequest
from etcdmap.errors import InvalidResponse as InvalidResponse
from etcdmap.errors import KeyExists as KeyExists
from etcdmap.errors import KeyNotFound as KeyNotFound
from etcdmap.errors import LimitExceeded as LimitExceeded
from etcdmap.errors import LocalClusterError as LocalClusterError
from etcdmap.errors import NotADirectory as NotADirectory
from etcdmap.errors import NotAFile as NotAFile
from etcdmap.errors import OutcomeUnknown as OutcomeUnknown
from etcdmap.errors import PartialWrite as PartialWrite
from etcdmap.errors import PrefixRequired as PrefixRequired
from etcdmap.errors import RaftError as RaftError
from etcdmap.errors import ReadOnly as ReadOnly
from etcdmap.errors import Refusal as Refusal
from etcdmap.errors import RequestFailed as RequestFailed
from etcdmap.errors import RootReadOnly as RootReadOnly
from etcdmap.errors import ServerError as ServerError
from etcdmap.errors import Unauthorized as Unauthorized
from etcdmap.errors import V2NotEnabled as V2NotEnabled
from etcdmap.errors import WatchExpired as WatchExpired
from etcdmap.errors import WrongCluster as WrongCluster
from etcdmap.mapping import ABSENT as ABSENT
from etcdmap.mapping import Difference as Difference
from etcdmap.mapping import Differences as Differences
from etcdmap.mapping import EtcdMapping as EtcdMapping
from etcdmap.mapping import FlatView as FlatView
from etcdmap.mapping import View as View
from etcdmap.paths import UnreadableName as UnreadableName
from etcdmap.transport import RenewalFailed as RenewalFailed
from etcdmap.transport import UnverifiedTLS as UnverifiedTLS
from etcdmap.tree import Snapshot as Snapshot
from etcdmap.v2 import KeysAPI as KeysAPI
from etcdmap.v2 import Node as Node
from etcdmap.v2 import Result as Result

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
    "ExchangeFailed",
    "FlatView",
    "InvalidKey",
    "InvalidRequest",
    "InvalidResponse",
    "KeyExists",
    "KeyNotFound",
    "KeysAPI",
    "LimitExceeded",
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
    "WatchExpired",
    "WrongCluster",
    "connect",
]

#: The version, as a text.  It comes from the metadata of what is installed.
__version__: str

# If type checkers saw this function, any misspelt name would pass for a str.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        """Look the version up when it is asked for."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Imported here as it is slow, and few need it.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("etcdmap")
        except PackageNotFoundError:  # run from a checkout that is not installed
            return "0+unknown"  # a valid version, and older than every release

    def __dir__() -> list[str]:
        return sorted({*globals(), "__version__"})
