"""The fixtures for users' tests, in a test run of their own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import etcdmap

from support.servers import binaries

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "how-to" / "test-your-code.md"

CONFTEST = 'pytest_plugins = ["etcdmap.pytest_plugin"]\n'
METADATA = "Metadata-Version: 2.1\nName: etcdmap\nVersion: 0\n"


@pytest.fixture
def fresh(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """Give a directory, and Python's path, as they are where etcdmap is installed.

    The metadata is that of pyproject.toml now, whenever this checkout was installed.
    """
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    plugins = declared["project"]["entry-points"]["pytest11"]
    site = pytester.mkdir("site")
    installed = site / "etcdmap-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA)
    lines = [f"{name} = {value}\n" for name, value in plugins.items()]
    (installed / "entry_points.txt").write_text("[pytest11]\n" + "".join(lines))
    places = [str(site), str(Path(etcdmap.__file__).parent.parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


@pytest.fixture(params=["", CONFTEST], ids=["as-installed", "conftest"])
def run(
    fresh: pytest.Pytester,
    etcd_version: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> pytest.Pytester:
    """Give a directory whose tests have our fixtures, on one version of etcd."""
    monkeypatch.setenv("ETCDMAP_ETCD", str(binaries()[etcd_version]))
    fresh.makeconftest(request.param)
    return fresh


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


def test_plugin_loads_nothing_for_runs_that_do_not_use_it(
    fresh: pytest.Pytester,
) -> None:
    """Having etcdmap installed costs other test runs nothing that could be noticed."""
    fresh.makepyfile(
        """
        import sys

        def test_it():
            ours = [n for n in sys.modules if n.partition(".")[0] == "etcdmap"]
            assert ours == ["etcdmap", "etcdmap.pytest_plugin"]
            assert not {"requests", "urllib3", "cachetools"} & set(sys.modules)
        """
    )
    assert outcomes(fresh, "-W", "error") == {"passed": 1}


def test_failure_of_ours_shows_the_lines_of_the_test_only(
    run: pytest.Pytester,
) -> None:
    """What is wrong is in the message, and nothing in the frames of this library."""
    run.makepyfile(
        """
        from etcdmap import EtcdMapping
        from etcdmap.local import LocalCluster

        def test_absent(etcd_mapping): etcd_mapping["nope"]
        def test_pop(etcd_mapping): etcd_mapping.pop("nope")
        def test_create(etcd_mapping):
            etcd_mapping.create("k", 1)
            etcd_mapping.create("k", 1)
        def test_transform(etcd_mapping): etcd_mapping.transform("nope", str)
        def test_flat(etcd_mapping): etcd_mapping.flat["nope"]
        def test_key(etcd_mapping): etcd_mapping["/k"] = 1
        def test_keys_api(etcd_mapping): etcd_mapping.keys_api.get("/nope")
        def test_keys_api_key(etcd_mapping): etcd_mapping.keys_api.get("nope")
        def test_large(etcd_mapping): etcd_mapping["k"] = "&" * 4_000_000
        def test_prefix(): EtcdMapping("http://127.0.0.1:1", "http://127.0.0.1:2")
        def test_gone(etcd_mapping): etcd_mapping["a"] = etcd_mapping.sub("b")
        def test_update(etcd_mapping):
            outage().update(a=1)
        def test_read(): outage()["k"]
        def test_list(): list(outage())
        def test_write(): outage()["k"] = 1
        def test_no_value(etcd_mapping): etcd_mapping["k"] = object()
        def test_no_values(etcd_mapping): etcd_mapping.update(a={"b": [float("nan")]})
        def test_no_document(etcd_mapping): etcd_mapping.assign(["a", "list"])
        def test_no_text(etcd_mapping): etcd_mapping[1] = 2
        def test_no_etcd(): LocalCluster(binary="/no/etcd").start()

        def outage():
            return EtcdMapping("http://127.0.0.1:1", "/a", timeout=0.1)
        """
    )
    result = run.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=20)
    result.stdout.no_re_match_line(r".*[/\\]etcdmap[/\\].*\.py:\d+")


def test_plugin_without_an_etcd_says_how_to_get_one(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests fail, so that nobody takes them for passed."""
    monkeypatch.setenv("ETCDMAP_ETCD", str(run.path / "no-etcd"))
    run.makepyfile("def test_it(etcd_mapping): pass")
    result = run.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*LocalClusterError*no-etcd*"])
    result.stdout.no_re_match_line(r".*[/\\]local[/\\].*\.py:\d+")


def test_docs_example_of_the_fixtures_passes(run: pytest.Pytester) -> None:
    """The tests on the page for users run as they stand."""
    fences = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (tests,) = (fence for fence in fences if "def " in fence)
    run.makepyfile(tests)
    assert outcomes(run) == {"passed": 2}
