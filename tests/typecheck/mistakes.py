"""Mistakes that type checkers of users must see.  Checked by two of them, never run.

Each line is wrong.  Both checkers call a `type: ignore` that nothing needs an error, so
that a mistake that one of them does not see fails its run.
"""

from __future__ import annotations

from etcdmap import EtcdMapping, connect

m = EtcdMapping("http://127.0.0.1:2379", "/app")

# options: names
EtcdMapping(cache_tll=5)  # type: ignore[call-arg]
connect(tiemout=5)  # type: ignore[call-arg]
connect(prefix="/app")  # type: ignore[call-arg]
EtcdMapping.from_url("etcd://h/app", cache_tll=5)  # type: ignore[call-arg]
m.using(readonly=True)  # type: ignore[call-arg]

# options: types and choices
EtcdMapping(timeout="3")  # type: ignore[arg-type]
EtcdMapping(codec="jsn")  # type: ignore[arg-type]
EtcdMapping(consistency="strong")  # type: ignore[arg-type]
EtcdMapping(client="http://127.0.0.1:2379")  # type: ignore[arg-type]
EtcdMapping.from_url("etcd://h/app", readonly="yes")  # type: ignore[arg-type]
connect(2379)  # type: ignore[arg-type]
connect(cert=("ca.pem", "cert.pem", "key.pem"))  # type: ignore[arg-type]
connect(policy={"retries": 3})  # type: ignore[arg-type]
m.using(consistency="linearisable")  # type: ignore[arg-type]
m.using(codec="yaml")  # type: ignore[arg-type]

# what is written
m[1] = 2  # type: ignore[index]
m.update(5)  # type: ignore[arg-type]
m.update({1: 2})  # type: ignore[arg-type]
m.merge("ab")  # type: ignore[arg-type]
m.assign(3.5)  # type: ignore[arg-type]
m.flat.update(["ab"])  # type: ignore[list-item]
m.set("k", 1, ttl="60")  # type: ignore[arg-type]

# what comes back
(m.keys() & {"a"}).pop() + 1  # type: ignore[operator]
m.keys() & 5  # type: ignore[operator]

# last, as nothing is known of `m` from here on
m |= 5  # type: ignore[arg-type]
