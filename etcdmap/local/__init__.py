"""Real etcd processes on this machine, for demos and tests.

::

    with LocalCluster(members=3) as cluster:
        print(cluster.endpoints)
        cluster.leader().kill()

Nothing is left behind: no process and, unless ``data_dir`` is given, no file;
also when the Python process is killed.
"""

from etcdmap.local.binary import find_binary, read_version
from etcdmap.local.cluster import LocalCluster
from etcdmap.local.member import Member

__all__ = ["LocalCluster", "Member", "find_binary", "read_version"]
