"""The judge of fault runs, on histories that nobody thought of."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.faults.judge.checker import check
from benchmarks.faults.judge.events import Event, EventLog
from benchmarks.faults.judge.history import Kind, Op
from benchmarks.faults.judge.linearize import linearize, step

KINDS: tuple[Kind, ...] = ("get", "set", "create", "cas", "delete")


# --- histories made from a known order


@dataclasses.dataclass(frozen=True)
class Plan:
    """An operation, when it takes effect, and how long before and after it lasts."""

    kind: Kind
    at: float
    before: float
    after: float
    answered: bool
    expected: int


plans = st.lists(
    st.builds(
        Plan,
        kind=st.sampled_from(KINDS),
        at=st.floats(0, 100),
        before=st.floats(0, 20),
        after=st.floats(0, 20),
        answered=st.booleans() | st.just(True),
        expected=st.integers(0, 20),
    ),
    max_size=20,
    unique_by=lambda plan: plan.at,
)


def carry_out(some: list[Plan]) -> tuple[list[Op], list[Event]]:
    """Apply operations to a register, each at its moment."""
    state: str | None = None
    ops: list[Op] = []
    events: list[Event] = []
    for number, plan in enumerate(sorted(some, key=lambda plan: plan.at)):
        op, state_after = _answer(plan, number, state)
        if state_after != state or op.kind == "set":
            events.append(Event(number, "k", op.kind, state_after))
        state = state_after
        if op.kind != "get" and not plan.answered:
            # As for real: its caller gave up, before or after it took effect.
            op = dataclasses.replace(op, outcome="unknown", error="OutcomeUnknown")
        ops.append(op)
    return ops, events


def _answer(plan: Plan, number: int, state: str | None) -> tuple[Op, str | None]:
    value = None if plan.kind == "delete" else f"v{number}"
    value = state if plan.kind == "get" else value
    op = Op(
        client=f"c{number}",
        kind=plan.kind,
        key="k",
        start=plan.at - plan.before,
        end=plan.at + plan.after,
        value=value,
        expected=f"v{plan.expected}" if plan.kind == "cas" else None,
        level="linearizable",
    )
    fits, after = step(op, state)
    if fits:
        return op, after
    return dataclasses.replace(op, outcome="refused"), state


@given(plans)
def test_what_a_register_did_passes(some: list[Plan]) -> None:
    """A history made by a register has an order, whatever was not answered."""
    ops, events = carry_out(some)
    for log in (None, EventLog(tuple(events))):
        report = check(ops, events=log)
        assert not report.not_linearizable, report.examples
        assert not report.undecided
        assert not report.broken_sessions
        assert report.counters.clean, report.examples


@given(plans, st.randoms(use_true_random=False))
def test_search_agrees_with_trying_every_order(
    some: list[Plan], rng: random.Random
) -> None:
    """The search finds an order if and only if there is one, also for bad histories."""
    ops, _ = carry_out(some[:5])
    values = [op.value for op in ops] + [None]
    ops = [
        dataclasses.replace(op, value=rng.choice(values)) if op.kind == "get" else op
        for op in ops
    ]
    assert linearize(ops).ok is any_order_fits(ops, None)


def any_order_fits(ops: list[Op], state: str | None) -> bool:
    """Try every order, without any wit."""
    must = [op for op in ops if op.outcome in ("ok", "refused")]
    if not must:
        return True
    first_end = min(op.end for op in must)
    for op in ops:
        if op.start <= first_end:
            fits, after = step(op, state)
            rest = [other for other in ops if other is not op]
            if fits and any_order_fits(rest, after):
                return True
    return False


# --- one client after the other: what is done, and then said wrongly


@st.composite
def sequences(draw: st.DrawFn) -> list[Op]:
    """Draw sets and gets by several clients, one after the other."""
    ops: list[Op] = []
    state: str | None = None
    for number in range(draw(st.integers(3, 15))):
        client = draw(st.sampled_from("abc"))
        kind: Kind = draw(st.sampled_from(["set", "get"]))
        state = f"v{number}" if kind == "set" else state
        start, end = float(number), number + 0.5
        ops.append(Op(client, kind, "k", start, end, value=state, level="linearizable"))
    return ops


@given(sequences(), st.data())
def test_read_of_an_older_value_is_caught(ops: list[Op], data: st.DataObject) -> None:
    """A read that gives any value but the last one written is found."""
    reads = [
        at for at, op in enumerate(ops) if op.kind == "get" and op.value is not None
    ]
    assume(reads)
    at = data.draw(st.sampled_from(reads))
    older = [op.value for op in ops[:at] if op.kind == "set"][:-1]
    value = data.draw(st.sampled_from([None, *older]))
    bad = [*ops[:at], dataclasses.replace(ops[at], value=value), *ops[at + 1 :]]
    assert check(ops).clean
    assert check(bad).not_linearizable == ["k"]


@given(sequences(), st.data())
def test_session_read_is_caught_if_and_only_if_it_breaks_the_session(
    ops: list[Op], data: st.DataObject
) -> None:
    """An older value is wrong exactly where its client knew of a newer one."""
    ops = [dataclasses.replace(op, level="session") for op in ops]
    reads = [
        at for at, op in enumerate(ops) if op.kind == "get" and op.value is not None
    ]
    assume(reads)
    at = data.draw(st.sampled_from(reads))
    order = [None, *(op.value for op in ops[:at] if op.kind == "set")]
    chosen = data.draw(st.integers(0, len(order) - 2))
    mine = [op.value for op in ops[:at] if op.client == ops[at].client]
    newest = max((order.index(value) for value in mine), default=0)
    bad = [*ops[:at], dataclasses.replace(ops[at], value=order[chosen]), *ops[at + 1 :]]
    events = EventLog(
        tuple(Event(n, "k", "set", op.value) for n, op in enumerate(ops) if op.writes)
    )
    wrong = chosen < newest
    assert bool(check(bad).broken_sessions) is wrong
    assert check(bad).counters.clean is not wrong
    counters = check(bad, events=events).counters
    assert counters.stale_own_read + counters.backwards == int(wrong)


@given(sequences(), st.data())
def test_second_application_is_caught(ops: list[Op], data: st.DataObject) -> None:
    """A write that the cluster did twice is found, wherever the copy lands."""
    events = [Event(n, "k", "set", op.value) for n, op in enumerate(ops) if op.writes]
    assume(events)
    at = data.draw(st.integers(0, len(events) - 1))
    copy = data.draw(st.integers(at + 1, len(events)))
    twice = [*events[:copy], events[at], *events[copy:]]
    numbered = tuple(
        dataclasses.replace(event, index=n) for n, event in enumerate(twice)
    )
    counters = check(ops, events=EventLog(numbered)).counters
    assert counters.twice == 1
    assert counters.old_value_back == (1 if copy > at + 1 else 0)


@given(sequences(), st.data())
def test_lost_write_is_caught(ops: list[Op], data: st.DataObject) -> None:
    """An acknowledged write without an event is found."""
    events = [Event(n, "k", "set", op.value) for n, op in enumerate(ops) if op.writes]
    assume(events)
    events.remove(data.draw(st.sampled_from(events)))
    assert check(ops, events=EventLog(tuple(events))).counters.lost == 1
