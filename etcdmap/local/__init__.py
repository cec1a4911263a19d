"""Run real etcd processes on this machine, for demos and tests.

::

    with LocalCluster(members=3) as cluster:
        print(cluster.endpoints)
        cluster.leader().kill()

Nothing is left behind, even if the Python process is killed: no process, and no file
except in a ``data_dir`` that you give.
"""

from etcdmap.local.binary import find_binary, read_version
from etcdmap.local.cluster import LocalCluster
from etcdmap.local.member import Member

__all__ = ["LocalCluster", "Member", "find_binary", "read_version"]
