"""Writes whose answers are lost or whose copies come late, on a real cluster of three.

What was carried out is read from the cluster's own history of events.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from etcdmap import (
    CompareFailed,
    EtcdMapping,
    KeyExists,
    KeyNotFound,
    KeysAPI,
    NotAFile,
    OutcomeUnknown,
    PartialWrite,
)
from etcdmap.client.endpoint_health import Policy
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import make_transport

from support.answer_proxy import AnswerProxies
from support.raw_http import Raw
from support.servers import newest

pytestmark = pytest.mark.etcd

REFUSED = 412
NOT_A_FILE = 403
NOT_FOUND = 404
#: v2 can't tell "absent" from "absent again", so a create is carried out once for each
#: absence that its copies meet.
ABSENT_AGAIN = pytest.mark.xfail(reason="v2 can't tell one absence from the next")
#: Asks another endpoint when one has failed, not when it is silent: what happens in
#: between has all the time it needs.
PATIENT = Policy(first_delay=30, read_floor=30, write_floor=30)
#: Asks another endpoint soon, so that silence costs a test little.
HASTY = Policy(first_delay=0.1, write_floor=0.05, again=0.1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Give three members of the newest etcd at hand."""
    with LocalCluster(3, binary=newest(), fsync=False) as running:
        yield running


@pytest.fixture
def proxies(cluster: LocalCluster) -> Iterator[AnswerProxies]:
    """Give a proxy before each member."""
    with AnswerProxies(cluster.endpoints) as running:
        yield running


@pytest.fixture
def mapping(proxies: AnswerProxies, prefix: str) -> Iterator[EtcdMapping]:
    """Give a mapping that reaches the members through the proxies only."""
    with EtcdMapping(
        proxies.endpoints, prefix, shuffle=False, policy=PATIENT, timeout=20
    ) as made:
        yield made


@pytest.fixture
def somebody(cluster: LocalCluster) -> Iterator[KeysAPI]:
    """Give another client, which reaches the leader without the proxies."""
    with make_client(cluster.leader().endpoint, make_transport()) as client:
        yield KeysAPI(client)


class History:
    """What the cluster did below a directory since this was made."""

    def __init__(self, somebody: KeysAPI, prefix: str) -> None:
        self._somebody = somebody
        self._prefix = prefix
        self._start = somebody.set(f"{prefix}/start", "").etcd_index

    def events(self) -> list[tuple[str, str, str | None]]:
        """Give all events: action, key below the directory, value."""
        end = self._somebody.set(f"{self._prefix}/end", "").etcd_index
        found: list[tuple[str, str, str | None]] = []
        raw = Raw(self._somebody.client.pinned, self._prefix)
        after = self._start
        while True:
            answer = raw("GET", f"?wait=true&recursive=true&waitIndex={after + 1}")
            assert answer.status == 200, answer.body
            node = answer.json["node"]
            after = node["modifiedIndex"]
            if after >= end:
                return found
            key = node["key"][len(self._prefix) :].lstrip("/")
            found.append((answer.json["action"], key, node.get("value")))

    def writes_of(self, value: str) -> int:
        """Count the events that wrote a value."""
        return sum(text == value for _, _, text in self.events())

    def deletes_of(self, key: str) -> int:
        """Count the events that deleted a key."""
        return sum(
            name == key and action in ("delete", "compareAndDelete")
            for action, name, _ in self.events()
        )


@pytest.fixture
def history(somebody: KeysAPI, prefix: str) -> History:
    """Give the history of the mapping's directory."""
    return History(somebody, prefix)


@pytest.fixture
def world(
    mapping: EtcdMapping, somebody: KeysAPI, history: History, prefix: str
) -> World:
    """Give a mapping with one key, known to it, and somebody else."""
    mapping["k"] = "old"
    return World(mapping, somebody, history, f"{prefix}/k")


@pytest.fixture
def hasty_world(world: World, proxies: AnswerProxies) -> Iterator[World]:
    """Give the same, with a mapping that soon asks another endpoint as well."""
    prefix = world.mapping.prefix
    with EtcdMapping(
        proxies.endpoints, prefix, shuffle=False, policy=HASTY, timeout=8
    ) as mapping:
        mapping["k"] = "old"
        yield World(mapping, world.somebody, world.history, world.path)


class World:
    """A mapping, somebody else, and what the cluster did."""

    def __init__(
        self, mapping: EtcdMapping, somebody: KeysAPI, history: History, path: str
    ) -> None:
        self.mapping = mapping
        self.somebody = somebody
        self.history = history
        self.path = path

    def value(self, key: str = "k") -> str | None:
        """Give what all members agree is there."""
        path = f"{self.mapping.prefix}/{key}"
        try:
            node = self.somebody.get(path, quorum=True).node
        except KeyNotFound:
            return None
        assert node is not None
        return node.value

    def write(self, value: str = "theirs") -> Callable[[], object]:
        """Have somebody else write the key."""
        return lambda: self.somebody.set(self.path, value)

    def swap(self, value: str, **more: Any) -> Callable[[], object]:
        """Have somebody else write the key as a fenced write would."""

        def swap() -> None:
            node = self.somebody.get(self.path).node
            assert node is not None
            self.somebody.compare_and_swap(
                self.path, value, prev_index=node.modified_index, **more
            )

        return swap

    def delete(self) -> None:
        """Have somebody else delete the key."""
        self.somebody.delete(self.path)


def double(value: str) -> str:
    """Be what `transform` calls."""
    return value + value


# --- the answer is dropped --------------------------------------------------


def test_set_answer_dropped_gives_the_index_of_its_one_write(
    world: World, proxies: AnswerProxies
) -> None:
    """The caller is told the index of the write that was carried out."""
    proxies.next("PUT", "/k", lose_answer=True)
    index = world.mapping.set("k", "new")
    node = world.somebody.get(world.path, quorum=True).node
    assert node is not None
    assert (node.value, node.modified_index) == ("new", index)
    assert world.history.writes_of("new") == 1


def test_set_absent_key_answer_dropped_is_written_once(
    world: World, proxies: AnswerProxies
) -> None:
    """A write of what was absent is settled as well."""
    proxies.next("PUT", "/fresh", lose_answer=True)
    index = world.mapping.set("fresh", "new")
    assert index == world.somebody.get(f"{world.mapping.prefix}/fresh").etcd_index
    assert world.history.writes_of("new") == 1


def test_set_answers_of_all_members_dropped_is_written_once(
    world: World, proxies: AnswerProxies
) -> None:
    """Each member in turn takes the write and loses the answer."""
    for _ in range(3):
        proxies.next("PUT", "/k", lose_answer=True)
    world.mapping["k"] = "new"
    assert world.history.writes_of("new") == 1


def test_set_answer_held_is_settled_without_it(
    hasty_world: World, proxies: AnswerProxies
) -> None:
    """A member that is silent after the write costs a delay, not a second write."""
    fate = proxies.next("PUT", "/k", hold_answer=True)
    hasty_world.mapping["k"] = "new"
    assert fate.came.is_set()
    assert hasty_world.history.writes_of("new") == 1


def test_delete_answer_dropped_is_done_once(
    world: World, proxies: AnswerProxies
) -> None:
    """A delete that was carried out is no KeyError."""
    proxies.next("DELETE", "/k", lose_answer=True)
    del world.mapping["k"]
    assert world.value() is None
    assert world.history.deletes_of("k") == 1


UNKNOWN = [
    pytest.param("PUT", lambda m: m.create("fresh", "new"), id="create"),
    pytest.param("PUT", lambda m: m.compare_and_swap("k", "old", "new"), id="swap"),
    pytest.param(
        "PUT", lambda m: m.compare_and_swap("empty", "", "new"), id="swap-empty"
    ),
    pytest.param("PUT", lambda m: m.transform("k", lambda _: "new"), id="transform"),
    pytest.param(
        "PUT",
        lambda m: m.transform("fresh", lambda _: "new", default=""),
        id="transform-absent",
    ),
    pytest.param(
        "PUT", lambda m: m.set("k", "new", keep_ttl=True), id="set-keeping-ttl"
    ),
    pytest.param("POST", lambda m: m.append("new"), id="append"),
]


@pytest.mark.parametrize(("method", "call"), UNKNOWN)
def test_write_whose_author_matters_answer_dropped_is_unknown_and_done_once(
    world: World,
    proxies: AnswerProxies,
    method: str,
    call: Callable[[EtcdMapping], object],
) -> None:
    """An equal write could be somebody else's, so success is not claimed."""
    world.mapping["empty"] = ""
    proxies.next(method, world.mapping.prefix, lose_answer=True)
    with pytest.raises(OutcomeUnknown):
        call(world.mapping)
    assert world.history.writes_of("new") == 1


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.pop("k"), id="pop"),
        pytest.param(lambda m: m.pop("k", "default"), id="pop-default"),
        pytest.param(lambda m: m.compare_and_delete("k", "old"), id="delete-if"),
    ],
)
def test_taking_a_value_answer_dropped_is_unknown_and_done_once(
    world: World, proxies: AnswerProxies, call: Callable[[EtcdMapping], object]
) -> None:
    """The value is gone, and nobody can say who has it."""
    proxies.next("DELETE", "/k", lose_answer=True)
    with pytest.raises(OutcomeUnknown):
        call(world.mapping)
    assert world.value() is None
    assert world.history.deletes_of("k") == 1


def test_popitem_answer_dropped_takes_one_key_only(
    mapping: EtcdMapping, proxies: AnswerProxies
) -> None:
    """It does not go on to the next key."""
    mapping.update({"a": 1, "b": 2, "c": 3})
    proxies.next("DELETE", "/c", lose_answer=True)
    with pytest.raises(OutcomeUnknown):
        mapping.popitem()
    assert mapping.to_dict() == {"a": 1, "b": 2}


@pytest.mark.parametrize("flat", [False, True], ids=["mapping", "flat"])
def test_setdefault_answer_dropped_gives_the_value(
    world: World, proxies: AnswerProxies, flat: bool
) -> None:
    """Whoever wrote it: that value is there now."""
    proxies.next("PUT", "/fresh", lose_answer=True)
    target = world.mapping.flat if flat else world.mapping
    assert target.setdefault("fresh", "new") == "new"
    assert world.history.writes_of("new") == 1


@pytest.mark.parametrize(
    ("method", "call"),
    [
        pytest.param("PUT", lambda m: m.setdefault("new", {"x": 1}), id="setdefault"),
        pytest.param("PUT", lambda m: m.create("new", {"x": 1}), id="create"),
        pytest.param("PUT", lambda m: m.mkdir("new"), id="mkdir"),
        pytest.param("PUT", lambda m: m.__setitem__("k", {}), id="for-a-value"),
        pytest.param("DELETE", lambda m: m.__delitem__("d"), id="delete"),
    ],
)
def test_directory_answer_dropped_is_unknown_and_sent_once(
    world: World,
    proxies: AnswerProxies,
    method: str,
    call: Callable[[EtcdMapping], object],
) -> None:
    """v2 has no condition for it, so a second one could meet something newer."""
    world.mapping["d"] = {"x": 1}
    proxies.next(method, world.mapping.prefix, lose_answer=True)
    with pytest.raises(OutcomeUnknown):
        call(world.mapping)
    events = [key for _, key, _ in world.history.events()]
    assert events.count("new") <= 1
    assert len(events) == 3


def test_append_answer_dropped_is_sent_once(
    world: World, proxies: AnswerProxies
) -> None:
    """Nothing tells two appends apart, so there is no second one."""
    proxies.next("POST", world.mapping.prefix, lose_answer=True)
    with pytest.raises(OutcomeUnknown):
        world.mapping.append("new")
    assert proxies.count("POST", world.mapping.prefix) == 1


def test_update_answers_dropped_writes_each_key_once(
    world: World, proxies: AnswerProxies
) -> None:
    """Bulk writes are settled like single ones."""
    values = {f"n{number}": f"v{number}" for number in range(12)}
    for number in (0, 5, 11):
        proxies.next("PUT", f"/n{number}?", lose_answer=True)
    world.mapping.update(values)
    written = [value for _, key, value in world.history.events() if key[0] == "n"]
    assert sorted(map(str, written)) == sorted(values.values())


# --- the request is delivered late ------------------------------------------

LATE = [
    pytest.param("PUT", "k", lambda m: m.set("k", "mine"), id="set"),
    pytest.param("PUT", "fresh", lambda m: m.set("fresh", "mine"), id="set-absent"),
    pytest.param(
        "PUT", "empty", lambda m: m.compare_and_swap("empty", "", "mine"), id="swap"
    ),
    pytest.param("PUT", "k", lambda m: m.transform("k", lambda _: "mine"), id="trans"),
    pytest.param("DELETE", "k", lambda m: m.__delitem__("k"), id="delete"),
    pytest.param("DELETE", "k", lambda m: m.pop("k"), id="pop"),
    pytest.param(
        "DELETE", "k", lambda m: m.compare_and_delete("k", "old"), id="delete-if"
    ),
    pytest.param("DELETE", "zz", lambda m: m.popitem(), id="popitem"),
]


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
@pytest.mark.parametrize(("method", "key", "call"), LATE)
def test_fenced_write_late_copy_is_refused(
    hasty_world: World,
    proxies: AnswerProxies,
    method: str,
    key: str,
    call: Callable[[EtcdMapping], object],
    silent: bool,
) -> None:
    """The call succeeds elsewhere; the old copy does not pass over a newer value."""
    hasty_world.mapping.update({"empty": "", "zz": "last"})
    path = f"{hasty_world.mapping.prefix}/{key}"
    fate = proxies.next(method, f"/{key}", late=True, silent=silent)
    call(hasty_world.mapping)
    hasty_world.somebody.set(path, "newer")
    assert fate.deliver() == REFUSED
    assert hasty_world.value(key) == "newer"
    if method == "PUT":
        assert hasty_world.history.writes_of("mine") == 1
    else:
        assert hasty_world.history.deletes_of(key) == 1


@pytest.mark.parametrize("method", ["create", "setdefault"])
def test_create_whose_author_matters_is_never_sent_twice(
    hasty_world: World, proxies: AnswerProxies, method: str
) -> None:
    """A copy that comes late could bring back what was taken since."""
    fate = proxies.next("PUT", "/fresh", late=True)
    with pytest.raises(OutcomeUnknown):
        getattr(hasty_world.mapping, method)("fresh", "mine")
    assert proxies.count("PUT", "/fresh") == 1
    assert fate.deliver() == 201
    assert hasty_world.history.writes_of("mine") == 1


def test_set_late_copy_that_lands_first_is_the_write(
    hasty_world: World, proxies: AnswerProxies
) -> None:
    """The first copy is let in before the second one, which is refused: one write."""
    first = proxies.next("PUT", "/k", late=True)
    second = proxies.next("PUT", "/k", hold_answer=True, before=first.deliver)
    done = threading.Thread(target=hasty_world.mapping.set, args=("k", "mine"))
    done.start()
    second.wait()
    second.release()
    done.join(20)
    assert not done.is_alive()
    assert (first.status, second.status) == (200, REFUSED)
    assert hasty_world.history.writes_of("mine") == 1


def test_replace_late_copy_does_not_pass_over_a_newer_value(
    world: World, proxies: AnswerProxies
) -> None:
    """Also where the caller was told that the outcome is unknown."""
    fate = proxies.next("PUT", "/k", late=True)
    with contextlib.suppress(OutcomeUnknown):
        world.mapping.replace("k", "mine")
    world.mapping["k"] = "newer"
    fate.deliver()
    assert world.value() == "newer"


def test_swap_late_copy_does_not_pass_over_a_newer_value(
    world: World, proxies: AnswerProxies
) -> None:
    """The value expected is not there any more."""
    fate = proxies.next("PUT", "/k", late=True)
    with contextlib.suppress(OutcomeUnknown):
        world.mapping.compare_and_swap("k", "old", "mine")
    world.mapping["k"] = "newer"
    assert fate.deliver() == REFUSED
    assert world.value() == "newer"


def test_append_late_is_unknown_and_done_once(
    world: World, proxies: AnswerProxies
) -> None:
    """It was not sent elsewhere, and may be carried out later: the caller knows."""
    fate = proxies.next("POST", world.mapping.prefix, late=True)
    with pytest.raises(OutcomeUnknown, match="now or later"):
        world.mapping.append("mine")
    assert fate.deliver() == 201
    assert world.history.writes_of("mine") == 1


# --- carried out, and then something else happened ---------------------------

MEANWHILE = [
    pytest.param(World.write, "theirs", id="other-value"),
    pytest.param(lambda world: world.write("old"), "old", id="old-value-anew"),
    pytest.param(lambda world: world.delete, None, id="deleted"),
    pytest.param(
        lambda world: (
            lambda: world.somebody.delete(world.mapping.prefix, recursive=True)
        ),
        None,
        id="parent-deleted",
    ),
]


@pytest.mark.parametrize(("what", "left"), MEANWHILE)
def test_set_carried_out_then_overwritten_is_not_written_again(
    world: World,
    proxies: AnswerProxies,
    what: Callable[[World], Callable[[], object]],
    left: str | None,
) -> None:
    """The write is done; what came after it stays."""
    proxies.next("PUT", "/k", lose_answer=True, after=what(world))
    world.mapping["k"] = "mine"
    assert world.value() == left
    assert world.history.writes_of("mine") == 1


@pytest.mark.parametrize(
    ("what", "left"),
    [
        *MEANWHILE[:2],
        *(pytest.param(*p.values, id=p.id, marks=ABSENT_AGAIN) for p in MEANWHILE[2:]),
    ],
)
def test_create_by_set_carried_out_then_overwritten_is_not_written_again(
    world: World,
    proxies: AnswerProxies,
    what: Callable[[World], Callable[[], object]],
    left: str | None,
) -> None:
    """The same for a key that was absent."""
    del world.mapping["k"]
    proxies.next("PUT", "/k", lose_answer=True, after=what(world))
    world.mapping["k"] = "mine"
    assert world.value() == left
    assert world.history.writes_of("mine") == 1


def test_set_carried_out_then_refreshed_is_not_written_again(
    world: World, proxies: AnswerProxies
) -> None:
    """A renewed ttl moves the index on without an event."""
    fate = proxies.next(
        "PUT",
        "/k",
        lose_answer=True,
        after=lambda: world.somebody.refresh(world.path, 500),
    )
    world.mapping.set("k", "mine", ttl=100)
    assert fate.status == 200
    assert world.history.writes_of("mine") == 1
    assert (world.mapping.ttl("k") or 0) > 100


def test_set_carried_out_then_a_directory_in_its_place_is_left_alone(
    world: World, proxies: AnswerProxies
) -> None:
    """A directory that came after the write is newer than it."""

    def make_directory() -> None:
        world.somebody.set(world.path, dir=True)
        world.somebody.set(f"{world.path}/below", "theirs")

    proxies.next("PUT", "/k", lose_answer=True, after=make_directory)
    with contextlib.suppress(OutcomeUnknown):
        world.mapping["k"] = "mine"
    assert world.history.writes_of("mine") == 1
    assert world.value("k/below") == "theirs"


def test_delete_carried_out_then_created_is_not_deleted_again(
    world: World, proxies: AnswerProxies
) -> None:
    """What came after the delete stays."""
    proxies.next("DELETE", "/k", lose_answer=True, after=world.write())
    del world.mapping["k"]
    assert world.value() == "theirs"


def test_delete_carried_out_then_a_directory_in_its_place_is_left_alone(
    world: World, proxies: AnswerProxies
) -> None:
    """A directory that came after the delete is not deleted with all below it."""
    proxies.next(
        "DELETE",
        "/k",
        lose_answer=True,
        after=lambda: world.somebody.set(f"{world.path}/below", "theirs"),
    )
    with contextlib.suppress(OutcomeUnknown):
        del world.mapping["k"]
    assert world.value("k/below") == "theirs"


def test_create_carried_out_then_deleted_is_not_created_again(
    world: World, proxies: AnswerProxies
) -> None:
    """A second create would bring a deleted value back."""

    def take() -> None:
        world.somebody.delete(f"{world.mapping.prefix}/fresh")

    proxies.next("PUT", "/fresh", lose_answer=True, after=take)
    with contextlib.suppress(OutcomeUnknown):
        world.mapping.create("fresh", "mine")
    assert world.history.writes_of("mine") == 1


# --- never carried out, and something else happened --------------------------


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(World.write, id="other-value"),
        pytest.param(lambda world: world.delete, id="deleted"),
        pytest.param(
            lambda world: (
                lambda: world.somebody.delete(world.mapping.prefix, recursive=True)
            ),
            id="parent-deleted",
        ),
        pytest.param(
            lambda world: lambda: world.somebody.set(world.path, dir=True),
            id="directory",
        ),
    ],
)
def test_set_never_carried_out_is_written_over_what_came_between(
    world: World,
    proxies: AnswerProxies,
    what: Callable[[World], Callable[[], object]],
) -> None:
    """The call was still under way: its value is the newer one."""
    proxies.next("PUT", "/k", refuse=True, after=what(world))
    world.mapping["k"] = "mine"
    assert world.value() == "mine"
    assert world.history.writes_of("mine") == 1


def test_set_of_what_was_deleted_long_before_is_written(
    world: World, proxies: AnswerProxies
) -> None:
    """History tells of the delete, though it is older than the first copy."""
    assert world.mapping["k"] == "old"
    world.delete()
    world.mapping["other"] = "moves the index that this client has seen"
    proxies.next("PUT", "/k", refuse=True)
    world.mapping["k"] = "mine"
    assert world.value() == "mine"
    assert world.history.writes_of("mine") == 1


def test_set_never_carried_out_after_a_refresh_is_unknown(
    world: World, proxies: AnswerProxies
) -> None:
    """History has nothing to tell of a renewed ttl, and silence proves nothing."""
    world.mapping.set("k", "old", ttl=100)
    fate = proxies.next(
        "PUT",
        "/k",
        refuse=True,
        after=lambda: world.somebody.refresh(world.path, 500),
    )
    with pytest.raises(OutcomeUnknown):
        world.mapping["k"] = "mine"
    assert fate.came.is_set()
    assert world.value() == "old"
    assert world.history.writes_of("mine") == 0


def test_delete_never_carried_out_deletes_what_came_between(
    world: World, proxies: AnswerProxies
) -> None:
    """The call was still under way: it deletes the newer value."""
    proxies.next("DELETE", "/k", refuse=True, after=world.write())
    del world.mapping["k"]
    assert world.value() is None
    assert world.history.deletes_of("k") == 1


def test_create_never_carried_out_and_another_one_is_key_exists(
    world: World, proxies: AnswerProxies
) -> None:
    """History says for certain whose value is there, if the two differ.

    It takes a read before that, to know from where on to look.
    """
    path = f"{world.mapping.prefix}/fresh"
    proxies.next(
        "PUT", "/fresh", refuse=True, after=lambda: world.somebody.set(path, "theirs")
    )
    assert world.mapping.setdefault("fresh", "mine") == "theirs"
    assert world.history.writes_of("mine") == 0


def test_transform_never_carried_out_goes_on_from_the_other_value(
    world: World, proxies: AnswerProxies
) -> None:
    """Somebody else was quicker, for certain: the function is called again."""
    proxies.next("PUT", "/k", refuse=True, after=world.write("x"))
    assert world.mapping.transform("k", double) == "xx"
    assert world.history.writes_of("oldold") == 0


def test_pop_never_carried_out_gives_the_other_value(
    world: World, proxies: AnswerProxies
) -> None:
    """The value that was read was replaced; the new one is taken."""
    proxies.next("DELETE", "/k", refuse=True, after=world.write())
    assert world.mapping.pop("k") == "theirs"
    assert world.history.deletes_of("k") == 1


def test_swap_of_empty_never_carried_out_is_refused_for_certain(
    world: World, proxies: AnswerProxies
) -> None:
    """The caller may rely on it that their value was not written."""
    world.mapping["k"] = ""
    proxies.next("PUT", "/k", refuse=True, after=world.write())
    with pytest.raises(CompareFailed):
        world.mapping.compare_and_swap("k", "", "mine")
    assert world.history.writes_of("mine") == 0


# --- an equal write by somebody else ------------------------------------------


def test_set_equal_write_by_somebody_else_is_as_good(
    world: World, proxies: AnswerProxies
) -> None:
    """The value is there; who wrote it makes no difference."""
    proxies.next("PUT", "/k", refuse=True, after=world.swap("mine"))
    index = world.mapping.set("k", "mine")
    assert index == world.somebody.get(world.path).etcd_index
    assert world.history.writes_of("mine") == 1


def test_set_with_ttl_equal_write_without_one_is_not_taken_for_it(
    world: World, proxies: AnswerProxies
) -> None:
    """The same text that stays for ever is another write."""
    proxies.next("PUT", "/k", refuse=True, after=world.swap("mine"))
    world.mapping.set("k", "mine", ttl=100)
    assert world.mapping.ttl("k") is not None


def test_set_without_ttl_equal_write_with_one_is_not_taken_for_it(
    world: World, proxies: AnswerProxies
) -> None:
    """The same text that expires is another write."""
    proxies.next("PUT", "/k", refuse=True, after=world.swap("mine", ttl=100))
    world.mapping["k"] = "mine"
    assert world.mapping.ttl("k") is None


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.compare_and_swap("k", "", "mine"), id="swap"),
        pytest.param(lambda m: m.transform("k", lambda _: "mine"), id="transform"),
    ],
)
def test_write_whose_author_matters_equal_write_is_unknown(
    world: World, proxies: AnswerProxies, call: Callable[[EtcdMapping], object]
) -> None:
    """Neither success nor failure is claimed."""
    world.mapping["k"] = ""
    proxies.next("PUT", "/k", refuse=True, after=world.swap("mine"))
    with pytest.raises(OutcomeUnknown):
        call(world.mapping)
    assert world.history.writes_of("mine") == 1


def test_create_equal_create_by_somebody_else_is_unknown(
    world: World, proxies: AnswerProxies
) -> None:
    """A lock that is created by two must not be held by both."""
    path = f"{world.mapping.prefix}/fresh"
    proxies.next(
        "PUT", "/fresh", refuse=True, after=lambda: world.somebody.create(path, "mine")
    )
    with pytest.raises(OutcomeUnknown):
        world.mapping.create("fresh", "mine")


def test_pop_equal_delete_by_somebody_else_is_unknown(
    world: World, proxies: AnswerProxies
) -> None:
    """A value is never handed out twice."""

    def take() -> None:
        node = world.somebody.get(world.path).node
        assert node is not None
        world.somebody.compare_and_delete(world.path, prev_index=node.modified_index)

    proxies.next("DELETE", "/k", refuse=True, after=take)
    with pytest.raises(OutcomeUnknown):
        world.mapping.pop("k")


# --- created and deleted by another in between --------------------------------


def come_and_go(world: World, key: str) -> Callable[[], object]:
    """Have somebody create and delete a key."""
    path = f"{world.mapping.prefix}/{key}"

    def come_and_go() -> None:
        world.somebody.set(path, "theirs")
        world.somebody.delete(path)

    return come_and_go


def test_set_absent_carried_out_after_others_came_and_went_is_written_once(
    world: World, proxies: AnswerProxies
) -> None:
    """The first event after the absence is not the one to look for."""
    proxies.next("PUT", "/fresh", lose_answer=True, before=come_and_go(world, "fresh"))
    world.mapping["fresh"] = "mine"
    assert world.history.writes_of("mine") == 1


def test_setdefault_carried_out_after_others_came_and_went_gives_its_value(
    world: World, proxies: AnswerProxies
) -> None:
    """The value given is the one that is there."""
    proxies.next("PUT", "/fresh", lose_answer=True, before=come_and_go(world, "fresh"))
    assert world.mapping.setdefault("fresh", "mine") == "mine"
    assert world.history.writes_of("mine") == 1


def test_create_carried_out_after_others_came_and_went_is_not_refused(
    world: World, proxies: AnswerProxies
) -> None:
    """KeyExists would say that it was not carried out."""
    proxies.next("PUT", "/fresh", lose_answer=True, before=come_and_go(world, "fresh"))
    with pytest.raises(OutcomeUnknown):
        world.mapping.create("fresh", "mine")


def test_transform_absent_carried_out_after_others_came_and_went_is_done_once(
    world: World, proxies: AnswerProxies
) -> None:
    """The function's effect is not added to itself."""
    proxies.next("PUT", "/fresh", lose_answer=True, before=come_and_go(world, "fresh"))
    with contextlib.suppress(OutcomeUnknown):
        world.mapping.transform("fresh", lambda value: value + "x", default="")
    assert world.value("fresh") == "x"


# --- history that does not help ------------------------------------------------


def fill_history(world: World) -> None:
    """Write as many events as etcd remembers, elsewhere."""
    path = f"{world.mapping.prefix}/noise"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: world.somebody.set(path, ""), range(1001)))


@pytest.mark.parametrize("delivered", [True, False], ids=["delivered", "refused"])
def test_set_history_gone_is_unknown_and_never_written_twice(
    world: World, proxies: AnswerProxies, delivered: bool
) -> None:
    """Nobody can tell any more; the newer value stays."""

    def meanwhile() -> None:
        world.write("newer")()
        fill_history(world)

    proxies.next(
        "PUT", "/k", lose_answer=delivered, refuse=not delivered, after=meanwhile
    )
    with pytest.raises(OutcomeUnknown, match="history"):
        world.mapping["k"] = "mine"
    assert world.value() == "newer"


def test_delete_history_gone_is_unknown(world: World, proxies: AnswerProxies) -> None:
    """The same for a delete."""

    def meanwhile() -> None:
        world.write("newer")()
        fill_history(world)

    proxies.next("DELETE", "/k", lose_answer=True, after=meanwhile)
    with pytest.raises(OutcomeUnknown, match="history"):
        del world.mapping["k"]
    assert world.value() == "newer"


def test_set_history_silent_is_never_written_twice(
    hasty_world: World, proxies: AnswerProxies
) -> None:
    """A member that does not answer about the past has not said "nothing happened"."""
    proxies.next("PUT", "/k", lose_answer=True, after=hasty_world.write("newer"))
    for _ in range(3):
        proxies.next("GET", "wait=true", hold_answer=True)
    with contextlib.suppress(OutcomeUnknown):
        hasty_world.mapping["k"] = "mine"
    assert hasty_world.history.writes_of("mine") == 1
    assert hasty_world.value() == "newer"


@pytest.mark.parametrize("part", ["quorum=true", "wait=true"])
def test_set_settling_is_interrupted_and_goes_on_elsewhere(
    world: World, proxies: AnswerProxies, part: str
) -> None:
    """The member asked what became of the write ends the connection."""
    proxies.next("PUT", "/k", lose_answer=True, after=world.write("newer"))
    fate = proxies.next("GET", part, refuse=True)
    world.mapping["k"] = "mine"
    assert fate.came.is_set()
    assert world.history.writes_of("mine") == 1
    assert world.value() == "newer"


# --- without fences --------------------------------------------------------------


@pytest.fixture(params=["fence=False", "one endpoint"])
def unfenced(
    proxies: AnswerProxies, prefix: str, request: pytest.FixtureRequest
) -> Iterator[EtcdMapping]:
    """Give a mapping whose writes are not fenced, with one key."""
    endpoints = proxies.endpoints
    if request.param == "one endpoint":
        endpoints = endpoints[:1]
    fence = False if request.param == "fence=False" else None
    with EtcdMapping(
        endpoints, prefix, shuffle=False, policy=HASTY, fence=fence, timeout=8
    ) as made:
        made["k"] = "old"
        yield made


UNFENCED = [
    pytest.param("PUT", lambda m: m.set("k", "new"), id="set"),
    pytest.param("DELETE", lambda m: m.__delitem__("k"), id="delete"),
    pytest.param("DELETE", lambda m: m.pop("k"), id="pop"),
    pytest.param("PUT", lambda m: m.create("fresh", "new"), id="create"),
    pytest.param("PUT", lambda m: m.transform("k", double), id="transform"),
    pytest.param("POST", lambda m: m.append("new"), id="append"),
]


@pytest.mark.parametrize("delivered", [True, False], ids=["delivered", "refused"])
@pytest.mark.parametrize(("method", "call"), UNFENCED)
def test_unfenced_write_without_answer_is_unknown_and_sent_once(
    unfenced: EtcdMapping,
    proxies: AnswerProxies,
    method: str,
    call: Callable[[EtcdMapping], object],
    delivered: bool,
) -> None:
    """Without a fence there is no second copy, whatever became of the first."""
    before = len([seen for seen in proxies.seen if seen.method == method])
    proxies.next(method, unfenced.prefix, lose_answer=delivered, refuse=not delivered)
    with pytest.raises(OutcomeUnknown) as caught:
        call(unfenced)
    assert [attempt.sent for attempt in caught.value.attempts] == [True]
    after = len([seen for seen in proxies.seen if seen.method == method])
    assert after - before == 1


def test_unfenced_silent_write_waits_until_its_deadline(
    unfenced: EtcdMapping, proxies: AnswerProxies
) -> None:
    """It is sent to no other member, and not said to have failed."""
    fate = proxies.next("PUT", "/k", late=True, silent=True)
    with pytest.raises(OutcomeUnknown):
        unfenced.using(timeout=0.5)["k"] = "new"
    assert proxies.count("PUT", "/k") == 2  # one is the fixture's
    assert fate.deliver() == 200


def test_unfenced_write_refused_by_etcd_is_that_refusal(unfenced: EtcdMapping) -> None:
    """What etcd answers is not unknown."""
    with pytest.raises(KeyExists):
        unfenced.create("k", "new")
    unfenced.mkdir("d")
    with pytest.raises(NotAFile):
        unfenced.compare_and_swap("d", "old", "new")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.update({"d": "mine", "e": "mine"}), id="update"),
        pytest.param(lambda m: m.merge({"d": "mine", "e": "mine"}), id="merge"),
        pytest.param(lambda m: m.assign({"d": "mine", "e": "mine"}), id="assign"),
    ],
)
def test_delete_that_makes_room_late_takes_nothing_along(
    world: World, proxies: AnswerProxies, call: Callable[[EtcdMapping], object]
) -> None:
    """v2 has no condition for it: what would stand in its way is not sent after it."""
    world.mapping["d"] = {"x": 1}
    fate = proxies.next("DELETE", "/d?", late=True)
    with pytest.raises(PartialWrite) as caught:
        call(world.mapping)
    report = caught.value
    assert list(report.failed) == [f"{world.mapping.prefix}/d"]
    assert report.written == ()
    assert f"{world.mapping.prefix}/e" in report.pending
    assert fate.deliver() == 200
    assert world.history.writes_of("mine") == 0


# --- one URL, with fences ---------------------------------------------------


@pytest.fixture
def balanced(world: World, proxies: AnswerProxies) -> Iterator[World]:
    """Give a mapping that knows one URL, and fences."""
    with EtcdMapping(
        proxies.endpoints[0], world.mapping.prefix, fence=True, timeout=1
    ) as mapping:
        mapping["k"] = "old"
        yield World(mapping, world.somebody, world.history, world.path)


def test_set_at_one_url_with_fences_answer_dropped_is_written_once(
    balanced: World, proxies: AnswerProxies
) -> None:
    """The connection failed, so it is sent there again; history tells the rest."""
    proxies.next("PUT", "/k", lose_answer=True)
    balanced.mapping["k"] = "new"
    assert balanced.history.writes_of("new") == 1


def test_set_at_one_url_with_fences_late_copy_is_refused(
    balanced: World, proxies: AnswerProxies
) -> None:
    """It is waited for until the deadline, and then is no match for a newer value."""
    fate = proxies.next("PUT", "/k", late=True, silent=True)
    with pytest.raises(OutcomeUnknown):
        balanced.mapping["k"] = "mine"
    balanced.mapping["k"] = "newer"
    assert fate.deliver() == REFUSED
    assert balanced.value() == "newer"
