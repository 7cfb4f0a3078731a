"""What becomes of a dead owner's tasks: the decision, case by case, and how it is written."""

import sqlite3
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import pytest

from inloop._exchange import By
from inloop._model import LEGAL, State
from inloop._store import place, queue, recovery
from inloop._store.protocol import Fenced
from inloop._store.recovery import Dead, Fate, Orphan, decide

R, W, P, Q, H = State.RUNNING, State.WAITING, State.PAUSED, State.QUEUED, State.HELD


def orphan(
    state: State = R,
    asked: str | None = None,
    on_crash: str = "rerun",
    deaths: int = 0,
    mark: float | None = None,
    done: float | None = None,
) -> Orphan:
    return Orphan(1, "id", "mail", state, 1, asked, on_crash, deaths, mark, done)


class Case(NamedTuple):
    """An orphan, and its fate: state, deaths in a row, and whether it goes before all others."""

    name: str
    orphan: Orphan
    to: State
    deaths: int
    first: bool


DEATHS = [
    Case("first-death", orphan(), Q, 1, True),
    Case("second-death", orphan(deaths=1), Q, 2, True),
    Case("third-death", orphan(deaths=2), H, 3, False),
    Case("fourth-death", orphan(deaths=3), H, 4, False),
    Case("first-death-with-progress", orphan(done=5), Q, 1, True),
    Case("progress-since-the-last", orphan(deaths=2, mark=5, done=5.5), Q, 1, True),
    Case("first-progress-ever", orphan(deaths=2, mark=None, done=1), Q, 1, True),
    Case("no-progress-since", orphan(deaths=2, mark=5, done=5), H, 3, False),
    Case("less-than-before", orphan(deaths=2, mark=5, done=4), H, 3, False),
    Case("progress-after-one", orphan(deaths=1, mark=0, done=1), Q, 1, True),
    Case("zero-is-no-progress", orphan(deaths=1, mark=0, done=0), Q, 2, True),
    Case("fail", orphan(on_crash="fail"), State.FAILED, 0, False),
    Case("hold", orphan(on_crash="hold"), H, 0, False),
    Case("asked-to-cancel", orphan(asked="cancel"), State.CANCELLED, 0, False),
    Case("asked-to-pause", orphan(asked="pause"), P, 0, False),
    Case("pause-called-off", orphan(asked="resume"), Q, 1, True),
    Case("overrun", orphan(asked="timeout"), Q, 1, True),
    Case("interrupted", orphan(asked="interrupt"), Q, 0, True),
    Case("interrupted-suspect", orphan(asked="interrupt", deaths=2), Q, 2, True),
    Case("interrupted-to-fail", orphan(asked="interrupt", on_crash="fail"), Q, 0, True),
    Case("interrupted-to-hold", orphan(asked="interrupt", on_crash="hold"), Q, 0, True),
    Case("waiting", orphan(W), Q, 0, True),
    Case("waiting-suspect", orphan(W, deaths=2), Q, 2, True),
    Case("waiting-to-fail", orphan(W, on_crash="fail"), Q, 0, True),
    Case("waiting-to-cancel", orphan(W, asked="cancel"), State.CANCELLED, 0, False),
    Case("paused", orphan(P), P, 0, False),
    Case("paused-suspect", orphan(P, deaths=2), P, 2, False),
    Case("paused-to-fail", orphan(P, on_crash="fail"), P, 0, False),
    Case("paused-to-resume", orphan(P, asked="resume"), Q, 0, True),
    Case("paused-to-cancel", orphan(P, asked="cancel"), State.CANCELLED, 0, False),
]


@pytest.mark.parametrize("case", DEATHS, ids=lambda case: case.name)
def test_the_fate_after_a_death(case: Case) -> None:
    """Promise 6, on_crash, and what had been asked, case by case."""
    fate = decide(case.orphan, died=True)
    assert (fate.to, fate.deaths, fate.first) == (case.to, case.deaths, case.first)


@pytest.mark.parametrize("case", DEATHS, ids=lambda case: case.name)
def test_the_fate_after_a_takeover(case: Case) -> None:
    """A person's takeover is no death: the same, but nothing is counted and nobody held for it."""
    fate = decide(case.orphan, died=False)
    is_by_death = case.orphan.state is R and case.orphan.asked not in ("cancel", "pause")
    if is_by_death and case.orphan.on_crash == "rerun":
        assert (fate.to, fate.first) == (Q, True)
    else:
        assert fate.to is case.to
    assert fate.deaths == case.orphan.deaths


def test_every_fate_is_a_legal_move_and_says_why() -> None:
    """Whatever was stored, what is decided may be written."""
    asks = (None, "cancel", "pause", "resume", "interrupt", "timeout")
    for state, asked, on_crash, deaths, died in product(
        (R, W, P), asks, ("rerun", "fail", "hold"), range(5), (True, False)
    ):
        fate = decide(orphan(state, asked, on_crash, deaths), died=died)
        assert fate.to is state or fate.to in LEGAL[state]
        assert fate.why
        assert fate.first == (fate.to is Q)


@pytest.mark.parametrize(("deaths", "word"), [(0, "died"), (1, "2nd"), (2, "3 deaths")])
def test_the_reason_counts_the_deaths(deaths: int, word: str) -> None:
    """The report tells a person how often it has happened."""
    assert word in decide(orphan(deaths=deaths), died=True).why


def test_a_neighbour_is_never_held() -> None:
    """A task that was waiting or paused at any number of deaths is no suspect for it."""
    for state in (W, P):
        for _ in range(5):
            fate: Fate = decide(orphan(state), died=True)
            assert (fate.to is H, fate.deaths) == (False, 0)


# ---- written


@pytest.fixture
def cx() -> Iterator[sqlite3.Connection]:
    """A store's tables in memory."""
    cx = sqlite3.connect(":memory:", isolation_level=None)
    place.migrate(cx)
    yield cx
    cx.close()


ADD = """
insert into inloop_task (id, name, queue, state, rank, priority, due, attempt, owner, created,
  moved, actor, arguments)
values (:id, 'mail', 'default', 'running', 0, 0, 0, 1, 7, 0, 0, 'code', '{}')
"""
DEAD = Dead(7, "owner", 42, "here", "boot")


def add(cx: sqlite3.Connection, count: int = 1) -> None:
    cx.executemany(ADD, [{"id": f"t{n}"} for n in range(count)])


def recover(cx: sqlite3.Connection, after: int = 0) -> tuple[int, int]:
    """One page: how many were settled, and where the next begins."""
    by = By(1, "engine", None, 1)
    return recovery.recover_page(cx, DEAD, after, "died", by, died=True)


def die(cx: sqlite3.Connection, done: float | None = None) -> State:
    """Its owner dies with so much progress; what became of it, and it runs again."""
    if done is not None:
        cx.execute("update inloop_task set done = ?", (done,))
    recover(cx)
    ((state,),) = cx.execute("select state from inloop_task").fetchall()
    if state == "queued":
        cx.execute("update inloop_task set state = 'running', owner = 7, attempt = attempt + 1")
    return State(state)


def test_poison_is_held_at_the_third_death(cx: sqlite3.Connection) -> None:
    """Dying at every run without progress, a task is held after the third."""
    add(cx)
    assert [die(cx) for _ in range(3)] == [Q, Q, H]


@pytest.mark.parametrize(
    ("progress", "states"),
    [
        ([5, 5, 5], [Q, Q, H]),
        ([None, 5, 5, 5], [Q, Q, Q, H]),
        ([5, 7, 7, 7], [Q, Q, Q, H]),
        ([5, 5, 7, 7, 7], [Q, Q, Q, Q, H]),
        ([1, 2, 3, 4, 5, 6], [Q] * 6),
        ([0.5, 0.5, 0.5], [Q, Q, H]),
    ],
)
def test_progress_is_compared_with_the_last_death(
    cx: sqlite3.Connection, progress: list[float | None], states: list[State]
) -> None:
    """ "a persisted `progress(done)` higher than at the last death starts the count anew"."""
    add(cx)
    assert [die(cx, done) for done in progress] == states


def test_many_are_settled_page_by_page(cx: sqlite3.Connection) -> None:
    """A page at a time, each with its report; the last one closes the owner; none is forgotten."""
    cx.execute("insert into inloop_owner values (7, 'owner', 42, 'here', 'boot', 0, 0, '[]', null)")
    add(cx, recovery.PAGE * 2 + 1)
    sizes = []
    after = 0
    for closed in (0, 0, 1):
        settled, after = recover(cx, after)
        sizes.append(settled)
        open_or_not = "select count(*) from inloop_owner where closed is not null"
        assert cx.execute(open_or_not).fetchone() == (closed,)
    assert after == 0
    assert sizes == [recovery.PAGE, recovery.PAGE, 1]
    queued = cx.execute("select count(*) from inloop_task where state = 'queued'").fetchone()
    assert queued == (sum(sizes),)
    reports = recovery.reports(cx, 10)
    assert [len(report.tasks) for report in reports] == [1, recovery.PAGE, recovery.PAGE]
    assert len({task.task_id for report in reports for task in report.tasks}) == sum(sizes)


def test_done_again_it_changes_nothing(cx: sqlite3.Connection) -> None:
    """Recovery that was cut off after a page, or done twice, finds only what is left."""
    add(cx)
    assert recover(cx) == (1, 0)
    assert recover(cx) == (0, 0)
    assert len(recovery.reports(cx, 10)) == 1
    assert cx.execute("select deaths from inloop_task").fetchall() == [(1,)]


def test_a_row_that_cannot_be_settled_stops_no_other(
    cx: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database refuses for one task is told, and the others are recovered."""
    add(cx, 3)
    cx.execute(
        "create trigger veto before update on inloop_task when old.id = 't1' "
        "begin select raise(abort, 'not this one'); end"
    )
    assert recover(cx) == (2, 0)
    states = cx.execute("select id, state from inloop_task order by id").fetchall()
    assert states == [("t0", "queued"), ("t1", "running"), ("t2", "queued")]
    assert "t1" in caplog.text
    (report,) = recovery.reports(cx, 10)
    assert [task.task_id for task in report.tasks] == ["t0", "t2"]


def test_a_fence_closes_the_owner_at_once(cx: sqlite3.Connection) -> None:
    """Before any of its tasks is settled it may claim nothing more."""
    cx.execute("insert into inloop_owner values (7, 'owner', 42, 'here', 'boot', 0, 0, '[]', null)")
    queue.require_open(cx, 7)
    assert recovery.fence(cx, "owner", By(1, "ana", None, 1)).n == 7
    with pytest.raises(Fenced):
        queue.require_open(cx, 7)


def test_owners_nobody_knows_are_found(cx: sqlite3.Connection) -> None:
    """Tasks of an owner whose row is closed, or gone, are found all the same."""
    add(cx)
    (row,) = cx.execute(recovery.ABANDONED).fetchall()
    assert Dead(*row).n == 7
    cx.execute("insert into inloop_owner values (7, 'owner', 42, 'here', 'boot', 0, 0, '[]', null)")
    assert cx.execute(recovery.ABANDONED).fetchall() == []
    cx.execute("update inloop_owner set closed = 1")
    (row,) = cx.execute(recovery.ABANDONED).fetchall()
    assert Dead(*row)[:4] == (7, "owner", 42, "here")
