"""The keeper: heartbeat, recovery and the look at what others wrote, without the event loop."""

# ruff: noqa: ASYNC240, ASYNC251 # the loop is made to stand still on purpose

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from inloop._model import State, to_datetime

from .rig import SECOND, Rig

pytestmark = pytest.mark.anyio


def state_in_file(path: Path, task_id: str) -> str:
    with closing(sqlite3.connect(path)) as cx:
        ((state,),) = cx.execute("select state from inloop_task where id = ?", (task_id,))
        return str(state)


async def test_the_heartbeat_follows_the_clock(full: Rig) -> None:
    """Every five seconds of the store's clock, also when that clock was set back."""
    for step in (5 * SECOND, -3600 * SECOND):
        full.now += step

        async def has_beaten() -> bool:
            (me,) = await full.store.owners(full.now)
            return me.heartbeat == to_datetime(full.now)

        await full.until(has_beaten)


async def test_a_siblings_commit_wakes(pair: tuple[Rig, Rig]) -> None:
    """What another owner commits wakes this one, though it did nothing itself."""
    one, other = pair
    assert one.woken.wait(5)  # by its own opening, and the other's
    while one.woken.is_set():
        one.woken.clear()
        time.sleep(0.2)
    await other.put()
    assert one.woken.wait(5)


async def test_an_apps_commit_wakes(full: Rig) -> None:
    """What an app's own connection commits wakes as well: it may be a task."""
    full.woken.clear()
    async with full.store.connect() as db:
        await full.store.add_within(db, [full.new()])
        await db.commit()
    assert full.woken.wait(5)


async def test_a_blocked_loop_delays_no_recovery(pair: tuple[Rig, Rig], path: Path) -> None:
    """A sibling's tasks are recovered while this process's event loop stands still."""
    one, other = pair
    claimed = await one.start()
    await one.die()
    deadline = time.monotonic() + 10
    while state_in_file(path, claimed.id) != "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)  # nothing of the loop runs here
    assert await other.state(claimed.id) is State.QUEUED


async def test_several_living_ones_recover_once(pair: tuple[Rig, Rig], path: Path) -> None:
    """Of many that look, one recovers: a task is queued once, and reported once."""
    one, other = pair
    more = [await Rig(type(one.store)(other.store.place, "full")).open() for _ in range(3)]  # type: ignore[call-arg, attr-defined] # a store of the same kind
    added = await one.add(*[one.new() for _ in range(700)])
    assert len((await one.claim(free=700)).claimed) == 700
    await one.die()

    async def are_queued() -> bool:
        return (await other.store.counts())["default"] == {State.QUEUED: 700}

    await other.until(are_queued)
    reports = await other.store.recoveries(100)
    told = [task.task_id for report in reports for task in report.tasks]
    assert sorted(told) == sorted(new.id for new in added)
    for rig in more:
        await rig.close()


async def test_trouble_is_told_once(
    full: Rig, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A keeper that cannot do its work says so once per kind of trouble, and goes on trying."""
    away = path.with_suffix(".away")
    with caplog.at_level(logging.WARNING, "inloop"):
        path.rename(away)
        for _ in range(3):
            full.now += 5 * SECOND
            time.sleep(0.5)  # standing still is what is tested: several looks
        away.rename(path)
    told = [record.message for record in caplog.records if "cannot look after" in record.message]
    assert told
    assert len(told) == len(set(told))
    full.now += 5 * SECOND

    async def has_beaten() -> bool:
        (me,) = await full.store.owners(full.now)
        return me.heartbeat == to_datetime(full.now)

    await full.until(has_beaten)
