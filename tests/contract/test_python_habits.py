"""What Python programs do with a dict, done with a mapping: the real thing.

What can't work is here too, with what works instead; the docs list it.
"""

from __future__ import annotations

import argparse
import collections
import configparser
import copy
import functools
import itertools
import json
import logging
import logging.config
import multiprocessing
import operator
import pickle
import pprint
import string
import types
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import pytest

from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster

from support.mapping_kit import StoreKit

CONTENT: dict[str, Any] = {
    "db": {"host": "localhost", "port": 5432},
    "debug": False,
    "name": "app",
    "retries": 3,
}


@pytest.fixture
def cfg(kit: StoreKit) -> EtcdMapping:
    """Give a filled mapping."""
    return kit.make(CONTENT)


# --- the standard library, reading --------------------------------------------


def test_isinstance_mapping_is_true(cfg: EtcdMapping) -> None:
    """It passes where a function checks for the abstract classes, not for dict."""
    assert isinstance(cfg, Mapping)
    assert isinstance(cfg, MutableMapping)
    assert not isinstance(cfg, dict)


def test_chainmap_finds_etcd_first_and_defaults_behind(cfg: EtcdMapping) -> None:
    """Defaults in a dict, overrides in etcd, writes to the first."""
    chain = collections.ChainMap(cfg, {"name": "default", "colour": "red"})
    assert (chain["name"], chain["colour"]) == ("app", "red")
    assert sorted(chain) == ["colour", *CONTENT]
    chain["colour"] = "blue"
    assert cfg["colour"] == "blue"
    del chain["colour"]
    assert chain["colour"] == "red"
    with pytest.raises(KeyError):
        chain["no"]


def test_chainmap_of_two_mappings_falls_through(cfg: EtcdMapping) -> None:
    """One mapping can stand behind another one."""
    chain = collections.ChainMap(cfg.sub("db"), cfg)
    assert (chain["port"], chain["name"]) == (5432, "app")


def test_format_map_looks_up_by_name(cfg: EtcdMapping) -> None:
    """Names in braces are keys, indexes reach into directories."""
    assert "{name}: {retries:03}".format_map(cfg) == "app: 003"
    assert "{db[host]}:{db[port]}".format_map(cfg) == "localhost:5432"
    assert "%(name)s %(retries)d" % cfg == "app 3"  # noqa: UP031


def test_template_substitutes_from_it(cfg: EtcdMapping) -> None:
    """`substitute` finds keys; `safe_substitute` leaves what is absent."""
    template = string.Template("$name $retries $no")
    assert template.safe_substitute(cfg) == "app 3 $no"
    with pytest.raises(KeyError):
        template.substitute(cfg)


def test_json_needs_a_plain_dict(cfg: EtcdMapping) -> None:
    """`json` takes dicts only; `to_dict` is one, sorted by key."""
    assert json.loads(json.dumps(cfg.to_dict())) == CONTENT
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(cfg)
    assert json.loads(json.dumps(cfg, default=lambda m: m.to_dict())) == CONTENT


def test_yaml_needs_a_plain_dict(cfg: EtcdMapping) -> None:
    """`safe_dump` refuses it, and `dump` never writes the data that it stands for."""
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(yaml.safe_dump(cfg.to_dict())) == CONTENT
    with pytest.raises(yaml.YAMLError):
        yaml.safe_dump(cfg)
    try:
        text = yaml.dump(dict(cfg))
    except (TypeError, ValueError):  # a lock or a socket was in the handle
        return
    assert "localhost" not in text


def test_pprint_shows_the_handle_and_the_plain_dict(cfg: EtcdMapping) -> None:
    """Like `repr`, `pprint` makes no request; `to_dict` shows what is stored."""
    assert pprint.pformat(cfg) == repr(cfg)
    assert pprint.pformat(cfg.to_dict()) == pprint.pformat(CONTENT)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_copy_is_a_plain_dict(cfg: EtcdMapping, copier: Any) -> None:
    """A copy is of the data: changing it changes nothing in etcd."""
    copied = copier(cfg)
    assert type(copied) is dict
    assert copied == CONTENT
    copied["db"]["port"] = 1
    assert cfg["db/port"] == 5432


def test_dict_of_it_holds_live_mappings(cfg: EtcdMapping) -> None:
    """`dict(m)` copies one level only, as it does of any dict of dicts."""
    shallow = dict(cfg)
    assert shallow == CONTENT
    assert isinstance(shallow["db"], EtcdMapping)
    assert dict(cfg.items()) == {**cfg} == CONTENT


def test_dict_of_it_raises_where_another_process_deletes(kit: StoreKit) -> None:
    """CPython asks for the keys, and then for each value: that is no one moment."""

    class Raced(EtcdMapping):
        def keys(self) -> Any:
            found = list(super().keys())
            del self["retries"]
            return found

    cfg = kit.make(CONTENT)
    with pytest.raises(KeyError):
        dict(Raced._on(cfg._view))


def test_keyword_arguments_are_its_keys(cfg: EtcdMapping) -> None:
    """`f(**m)` passes each key by name."""
    assert dict(**cfg) == CONTENT

    def only(*, name: str, **rest: object) -> tuple[str, list[str]]:
        return name, sorted(rest)

    assert only(**cfg) == ("app", ["db", "debug", "retries"])


def test_dataclass_is_made_from_a_directory(cfg: EtcdMapping) -> None:
    """One directory, one object."""

    @dataclass
    class Db:
        host: str
        port: int

    assert Db(**cfg["db"]) == Db("localhost", 5432)
    assert Db(**cfg["db"].to_dict()) == Db("localhost", 5432)


def test_match_statement_takes_it_for_a_mapping(cfg: EtcdMapping) -> None:
    """Patterns look keys up, nested ones too, and the rest is a plain dict."""
    match cfg:
        case {"db": {"host": str(host), "port": 5432}, "name": name, **rest}:
            assert (host, name, rest) == (
                "localhost",
                "app",
                {"debug": False, "retries": 3},
            )
        case _:
            raise AssertionError("no pattern matched")
    match cfg:
        case {"no": _}:
            raise AssertionError("an absent key matched")
        case {}:
            pass


def test_sorted_max_and_friends_see_the_keys(cfg: EtcdMapping) -> None:
    """Whatever loops over a dict loops over its keys."""
    keys = list(CONTENT)
    assert sorted(cfg, reverse=True) == keys[::-1]
    assert (min(cfg), max(cfg, key=len)) == ("db", "retries")
    assert list(enumerate(cfg)) == list(enumerate(keys))
    assert list(zip(cfg, range(4), strict=True)) == list(
        zip(keys, range(4), strict=True)
    )
    assert list(itertools.islice(cfg, 2)) == keys[:2]
    assert all(cfg)
    assert any(cfg)
    assert [*cfg] == keys
    assert sum(len(key) for key in cfg) == sum(map(len, keys))
    assert "-".join(cfg) == "-".join(keys)
    assert set(cfg) & {"db", "x"} == {"db"}


def test_operator_and_functools_reach_into_it(cfg: EtcdMapping) -> None:
    """`itemgetter`, `reduce` and `partial` work by item access."""
    assert operator.itemgetter("name", "retries")(cfg) == ("app", 3)
    path = ["db", "port"]
    assert functools.reduce(operator.getitem, path, cfg) == 5432
    assert functools.partial(cfg.get, "no", "default")() == "default"


def test_functools_cache_refuses_it_like_a_dict(cfg: EtcdMapping) -> None:
    """As unhashable as a dict, it can't be the argument of a cached function."""

    @functools.cache
    def size(mapping: Any) -> int:
        return len(mapping)

    with pytest.raises(TypeError, match="unhashable"):
        size(cfg)  # type: ignore[arg-type]


def test_singledispatch_finds_the_mapping(cfg: EtcdMapping) -> None:
    """A function for mappings is a function for this one."""

    @functools.singledispatch
    def kind(value: object) -> str:
        return "other"

    @kind.register
    def _(value: Mapping) -> str:  # type: ignore[type-arg]
        return "mapping"

    assert kind(cfg) == "mapping"


def test_mappingproxy_is_a_view_on_it(cfg: EtcdMapping) -> None:
    """It reads through and refuses writes; `readonly=True` does so one level deeper."""
    proxy = types.MappingProxyType(cfg)
    assert proxy["name"] == "app"
    assert (list(proxy), len(proxy), "db" in proxy) == (list(CONTENT), 4, True)
    with pytest.raises(TypeError):
        proxy["name"] = "x"  # type: ignore[index]
    cfg["name"] = "new"
    assert proxy["name"] == "new"


def test_simplenamespace_is_filled_by_keywords(cfg: EtcdMapping) -> None:
    """For who likes attributes better; a copy, not a view."""
    assert types.SimpleNamespace(**cfg["db"]).port == 5432


def test_userdict_takes_a_copy(cfg: EtcdMapping) -> None:
    """`UserDict(m)` copies one level; writes to it stay in memory."""
    user = collections.UserDict(cfg)
    user["name"] = "other"
    assert cfg["name"] == "app"
    assert user["db"]["port"] == 5432


def test_userdict_over_it_writes_through(cfg: EtcdMapping) -> None:
    """With the mapping as its data, a subclass of UserDict lives in etcd."""

    class Upper(collections.UserDict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            super().__setitem__(key.lower(), value)

    user = Upper()
    user.data = cfg  # type: ignore[assignment]
    user["NAME"] = "x"
    assert cfg["name"] == user["name"] == "x"


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_dict_classes_are_updated_from_it(cfg: EtcdMapping, kind: type[Any]) -> None:
    """`update` of a dict takes any mapping."""
    target = kind()
    target.update(cfg["db"])
    assert target == {"host": "localhost", "port": 5432}


def test_defaultdict_updates_and_is_updated(cfg: EtcdMapping) -> None:
    """In both directions; of a mapping, the default is not used."""
    found: collections.defaultdict[str, Any] = collections.defaultdict(list)
    found.update(cfg)
    assert found["retries"] == 3
    assert found["no"] == []
    cfg.update(collections.defaultdict(list, {"more": 1}))
    assert cfg["more"] == 1


# --- the standard library, writing --------------------------------------------


def test_in_place_or_updates_it(cfg: EtcdMapping) -> None:
    """`|=` writes, `|` makes a plain dict."""
    alias = cfg
    cfg |= {"name": "x", "new": 1}
    assert cfg is alias
    assert (cfg["name"], cfg["new"]) == ("x", 1)
    assert type(cfg | {}) is dict
    plain = {"a": 1}
    plain |= cfg
    assert plain == {"a": 1, **CONTENT, "name": "x", "new": 1}


def test_configparser_reads_it_section_by_section(cfg: EtcdMapping) -> None:
    """A directory of directories is a configuration of sections."""
    cfg.assign({"db": {"host": "localhost", "port": 5432}, "log": {"level": "INFO"}})
    parser = configparser.ConfigParser()
    parser.read_dict(cfg)
    assert parser.sections() == ["db", "log"]
    assert parser.getint("db", "port") == 5432


def test_configparser_is_stored_as_it_is(cfg: EtcdMapping) -> None:
    """It is a mapping of mappings, its `DEFAULT` section included; values are text."""
    parser = configparser.ConfigParser()
    parser.read_string("[db]\nhost = h2\nport = 1\n[log]\nlevel = DEBUG\n")
    cfg.assign(parser)
    assert cfg.to_dict() == {
        "DEFAULT": {},
        "db": {"host": "h2", "port": "1"},
        "log": {"level": "DEBUG"},
    }


def test_argparse_takes_defaults_from_it(cfg: EtcdMapping) -> None:
    """etcd gives the defaults, the command line wins."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--retries", type=int)
    parser.set_defaults(**cfg.to_dict())
    options = parser.parse_args(["--retries", "5"])
    assert (options.name, options.retries, options.debug) == ("app", 5, False)


def test_argparse_results_are_written_into_it(cfg: EtcdMapping) -> None:
    """`vars` of the result is a dict like any other."""
    cfg.update(vars(argparse.Namespace(name="cli", retries=9)))
    assert (cfg["name"], cfg["retries"]) == ("cli", 9)


def test_dictconfig_takes_the_plain_dict(cfg: EtcdMapping) -> None:
    """logging changes what it is given, so it gets a copy; empty directories stay."""
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"f": {"format": "%(levelname)s %(message)s"}},
        "handlers": {"h": {"class": "logging.NullHandler", "formatter": "f"}},
        "loggers": {"etcdmap-test": {"handlers": ["h"], "level": "WARNING"}},
    }
    cfg["logging"] = config
    try:
        logging.config.dictConfig(cfg["logging"].to_dict())
        logger = logging.getLogger("etcdmap-test")
        assert logger.level == logging.WARNING
        assert isinstance(logger.handlers[0], logging.NullHandler)
    finally:
        logging.getLogger("etcdmap-test").handlers.clear()
    assert cfg["logging"] == config


def test_dictconfig_with_dotted_names_and_slashes_needs_escape_keys(
    kit: StoreKit, cfg: EtcdMapping
) -> None:
    """A dict whose keys hold `/` or start with `_` is kept as it is by that option."""
    escaped = kit.make(escape_keys=True)
    content = {"text/html": 1, "_private": {"": 2}, "a.b.c": 3}
    with pytest.raises(ValueError, match="escape_keys"):
        cfg["plain"] = {"text/html": 1}
    escaped.assign(content)
    assert escaped == content


# --- pickling, processes --------------------------------------------------------
#
# Only what is reached over a network can be reached from another process, and neither
# a session nor a transport of the user's goes there: so these have mappings that made
# their client themselves.


@pytest.fixture(params=["cache-off", "cache-on"])
def own(
    request: pytest.FixtureRequest, etcd: LocalCluster, prefix: str
) -> Iterator[EtcdMapping]:
    """Give a filled mapping that made its client, without and with a cache."""
    cache_ttl = 60 if request.param == "cache-on" else None
    with EtcdMapping(etcd.endpoints, prefix=prefix, cache_ttl=cache_ttl) as own:
        own.assign(CONTENT)
        yield own


def _read_in_child(cfg: EtcdMapping) -> tuple[int, str]:
    with cfg:
        cfg["from-child"] = True
        return cfg["db"]["port"], cfg.prefix


def _read_sub_in_child(db: EtcdMapping) -> int:
    with db:
        port: int = db["port"]
        return port


def test_pickled_mapping_connects_anew_in_a_spawned_process(own: EtcdMapping) -> None:
    """Mapping and sub-mapping go to other processes as arguments."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read_in_child, (own,)) == (5432, own.prefix)
        assert pool.apply(_read_sub_in_child, (own["db"],)) == 5432
    assert own["from-child"] is True


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_mapping_is_the_same_directory(own: EtcdMapping, protocol: int) -> None:
    """What is pickled is where the data is, not the data."""
    with pickle.loads(pickle.dumps(own, protocol)) as again:  # noqa: S301
        assert again.prefix == own.prefix
        again["name"] = "other"
    own.cache_clear()
    assert own["name"] == "other"


# --- libraries ----------------------------------------------------------------


def test_flask_config_is_filled_from_it(cfg: EtcdMapping) -> None:
    """Flask takes upper-case keys, of any mapping, and keeps a copy."""
    flask = pytest.importorskip("flask")
    cfg.update({"SECRET_KEY": "dev", "DEBUG": True, "lower": 1})
    app = flask.Flask(__name__)
    app.config.from_mapping(cfg)
    assert (app.config["SECRET_KEY"], app.config["DEBUG"]) == ("dev", True)
    assert "lower" not in app.config
    app.config.from_mapping(**cfg.to_dict())
    app.config.update(cfg.sub("db"))
    assert app.config["port"] == 5432


def test_pydantic_settings_takes_it_as_a_source(
    cfg: EtcdMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source is a function that gives a dict, as `to_dict` is; variables may win."""
    settings = pytest.importorskip("pydantic_settings")
    import pydantic

    class Db(pydantic.BaseModel):
        host: str
        port: int

    class Settings(settings.BaseSettings):  # type: ignore[misc, name-defined]
        model_config = settings.SettingsConfigDict(extra="ignore", env_prefix="APP_")
        db: Db
        name: str
        retries: int

        @classmethod
        def settings_customise_sources(cls, *_: Any, **sources: Any) -> Any:
            return sources["env_settings"], cfg.to_dict

    monkeypatch.setenv("APP_NAME", "from-environment")
    found = Settings()
    assert (found.name, found.retries) == ("from-environment", 3)
    assert found.db == Db(host="localhost", port=5432)


def test_pydantic_model_is_validated_from_the_plain_dict(cfg: EtcdMapping) -> None:
    """And what it dumps can be assigned."""
    pydantic = pytest.importorskip("pydantic")

    class Db(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        host: str
        port: int

    db = Db.model_validate(cfg["db"].to_dict())
    cfg["db"] = db.model_copy(update={"port": 1}).model_dump()
    assert cfg["db/port"] == 1


# --- what can't work, as the docs say -------------------------------------------


def test_list_that_was_read_is_a_copy(cfg: EtcdMapping) -> None:
    """Appending to it stores nothing; `transform` does."""
    cfg["hosts"] = ["a"]
    cfg["hosts"].append("b")
    assert cfg["hosts"] == ["a"]
    cfg.transform("hosts", lambda hosts: [*hosts, "b"])
    assert cfg["hosts"] == ["a", "b"]


def test_augmented_assignment_of_a_list_stores_it(cfg: EtcdMapping) -> None:
    """`m[k] += [..]` reads, changes and writes back: stored, but not atomic."""
    cfg["hosts"] = ["a"]
    cfg["hosts"] += ["b"]
    assert cfg["hosts"] == ["a", "b"]


def test_keys_are_sorted_not_in_order_of_insertion(cfg: EtcdMapping) -> None:
    """A dict keeps the order of its insertions; etcd keeps none."""
    cfg.assign({"b": 1, "a": 2})
    assert list(cfg) == ["a", "b"]
    assert cfg == {"b": 1, "a": 2}


def test_value_is_never_the_same_object(cfg: EtcdMapping) -> None:
    """`is` compares handles and copies, `==` compares what is stored."""
    assert cfg["db"] is not cfg["db"]
    assert cfg["db"] == cfg["db"]


def test_functions_that_need_a_real_dict_are_given_one(cfg: EtcdMapping) -> None:
    """`dict.update(d, m)` takes it as an argument; `exec` and `type` want a dict."""
    target: dict[str, Any] = {}
    dict.update(target, cfg)
    assert target == CONTENT
    with pytest.raises(TypeError):
        exec("x = 1", cfg)  # type: ignore[arg-type]  # noqa: S102
    exec("name += '!'", {}, names := cfg.to_dict())  # noqa: S102
    assert names["name"] == "app!"
