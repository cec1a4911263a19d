"""The fixtures for users' tests, in a test run of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.servers import binaries

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "how-to" / "test-your-code.md"

CONFTEST = 'pytest_plugins = ["etcdmap.pytest_plugin"]\n'


@pytest.fixture
def run(
    pytester: pytest.Pytester, etcd_version: str, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """Give a directory whose tests have our fixtures, on one version of etcd."""
    monkeypatch.setenv("ETCDMAP_ETCD", str(binaries()[etcd_version]))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeconftest(CONFTEST)
    return pytester


def outcomes(run: pytest.Pytester, *options: str) -> dict[str, int]:
    """Run the tests in a process of its own and count how they ended."""
    result = run.runpytest_subprocess("-p", "no:cacheprovider", *options)
    return result.parseoutcomes()


def test_etcd_mapping_is_empty_for_each_test(run: pytest.Pytester) -> None:
    """Two tests share the cluster, and neither sees what the other stored."""
    run.makepyfile(
        """
        import pytest

        seen = set()

        @pytest.mark.parametrize("n", [1, 2])
        def test_it(etcd_mapping, etcd_cluster, n):
            assert not etcd_mapping
            etcd_mapping["k"] = n
            assert etcd_mapping["k"] == n
            seen.add(etcd_cluster.endpoints)
            assert len(seen) == 1
        """
    )
    assert outcomes(run) == {"passed": 2}


def test_etcd_url_leads_to_the_same_directory(run: pytest.Pytester) -> None:
    """A program that takes the URL from the environment meets the mapping's data."""
    run.makepyfile(
        """
        from etcdmap import EtcdMapping

        def test_it(etcd_mapping, etcd_url, monkeypatch):
            monkeypatch.setenv("ETCDMAP_URL", etcd_url)
            with EtcdMapping() as other:
                other["k"] = 1
            assert etcd_mapping["k"] == 1
        """
    )
    assert outcomes(run) == {"passed": 1}


def test_plugin_leaves_runs_alone_that_do_not_ask_for_it(
    pytester: pytest.Pytester,
) -> None:
    """Having etcdmap installed changes nothing for other test runs."""
    pytester.makepyfile("def test_it(etcd_mapping): pass")
    assert outcomes(pytester) == {"errors": 1}


def test_plugin_without_an_etcd_says_how_to_get_one(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests fail, so that nobody takes them for passed."""
    monkeypatch.setenv("ETCDMAP_ETCD", str(run.path / "no-etcd"))
    run.makepyfile("def test_it(etcd_mapping): pass")
    result = run.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*LocalClusterError*no-etcd*"])


def test_docs_example_of_the_fixtures_passes(run: pytest.Pytester) -> None:
    """The tests on the page for users run as they stand."""
    fences = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    conftest, tests = (
        fence for fence in fences if "pytest" in fence or "def " in fence
    )
    assert conftest == CONFTEST
    run.makepyfile(tests)
    assert outcomes(run) == {"passed": 2}
