"""A local cluster whose members can be cut off from each other."""

from __future__ import annotations

from etcdmap.local import LocalCluster, Member
from etcdmap.local.guardian import Guardian

from support.links import CutMode, Links


class SplitCluster(LocalCluster):
    """A LocalCluster with a proxy between any two members.

    Members listen where they always do and advertise the socket of a proxy instead,
    so all they say to each other goes through `links`.  Clients reach all members at
    all times: that is what an isolated member is dangerous for.
    """

    _links: Links | None = None
    _member_names: dict[int, str]

    @property
    def links(self) -> Links:
        """The links between the members."""
        assert self._links is not None, "start the cluster first"
        return self._links

    def isolate(self, member: Member, *, mode: CutMode = "hang") -> None:
        """Cut a member off from all others, but not from its clients."""
        self.links.isolate(member.name, mode=mode)

    def __enter__(self) -> SplitCluster:
        return self.start()

    def start(self) -> SplitCluster:
        """Start proxies and members."""
        try:
            super().start()
        except BaseException:
            self._close_links()
            raise
        return self

    def close(self) -> None:
        """End members and proxies."""
        super().close()
        self._close_links()

    def _close_links(self) -> None:
        if self._links is not None:
            self._links.close()
            self._links = None

    def _make_members(
        self, guardian: Guardian, binary: str, token: str
    ) -> tuple[Member, ...]:
        members = super()._make_members(guardian, binary, token)
        self._close_links()  # of an attempt that failed
        self._member_names = {}
        self._links = links = Links(lambda pid: self._name_of(members, pid))
        advertised = {m.name: f"unix://{m.name}-link:1" for m in members}
        cluster = ",".join(f"{name}={url}" for name, url in advertised.items())
        for member in members:
            sockets = (
                guardian.run_dir / f"{member.name}{end}:1" for end in ("-link", "")
            )
            links.open(member.name, *sockets)
            # The last of two flags counts.
            member._argv += [
                f"--initial-advertise-peer-urls={advertised[member.name]}",
                f"--initial-cluster={cluster}",
            ]
        return members

    def _name_of(self, members: tuple[Member, ...], pid: int) -> str | None:
        # A restarted member has another process id.
        if pid not in self._member_names:
            self._member_names = {m.pid: m.name for m in members if m.pid is not None}
        return self._member_names.get(pid)
