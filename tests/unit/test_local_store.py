"""What a data directory must hold to be used."""

from __future__ import annotations

import json
import os

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import store


def test_open_store_new_then_known(tmp_path):
    """The token of the first start is that of all others."""
    token, new = store.open_store(tmp_path, 3)
    assert new
    assert store.open_store(tmp_path, 3) == (token, False)
    assert set(os.listdir(tmp_path)) <= {
        path.name for path in store.own_files(tmp_path, 3)
    }


def test_open_store_other_size_refused(tmp_path):
    """The error has both sizes and what to pass."""
    store.open_store(tmp_path, 3)
    with pytest.raises(LocalClusterError, match=r"of 3, not of 1: pass members=3"):
        store.open_store(tmp_path, 1)


@pytest.mark.parametrize(
    "text",
    ["", "\xff", "{", "[]", "null", "{}", '{"format": 1, "members": "x", "token": 1}'],
)
def test_open_store_unreadable_refused(text, tmp_path):
    """A damaged file is named."""
    (tmp_path / "cluster.json").write_text(text, "latin-1")
    with pytest.raises(LocalClusterError, match=r"cluster\.json can't be read"):
        store.open_store(tmp_path, 1)


@pytest.mark.parametrize("name", ["cluster.json", "cluster.json.new"])
def test_open_store_blocked_refused(name, tmp_path):
    """What the system refuses to read or write is an error of ours."""
    (tmp_path / name).mkdir()
    with pytest.raises(LocalClusterError, match="can't be used"):
        store.open_store(tmp_path, 1)


def test_open_store_of_the_future_refused(tmp_path):
    """Another format is not guessed at."""
    manifest = {"format": 2, "members": 1, "token": "x"}
    (tmp_path / "cluster.json").write_text(json.dumps(manifest))
    with pytest.raises(LocalClusterError, match="another version of etcdmap"):
        store.open_store(tmp_path, 1)


def test_refuse_foreign_own_or_empty_or_absent_accepted(tmp_path):
    """A start that was killed early left no more than a lock and a draft."""
    store.refuse_foreign(tmp_path / "absent")
    store.refuse_foreign(tmp_path)
    (tmp_path / "lock").touch()
    (tmp_path / "cluster.json.new").touch()
    store.refuse_foreign(tmp_path)
    store.open_store(tmp_path, 1)
    (tmp_path / "m0").mkdir()
    store.refuse_foreign(tmp_path)


def test_refuse_foreign_other_files_refused(tmp_path):
    """Somebody else's files are left alone."""
    (tmp_path / "member").mkdir()
    with pytest.raises(LocalClusterError, match="not empty, and holds no cluster"):
        store.refuse_foreign(tmp_path)


def test_new_token_never_the_same():
    """Clusters made here can be told apart."""
    assert store.new_token() != store.new_token()
