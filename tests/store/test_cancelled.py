"""A caller who stops waiting, in the middle of every store call: whole or not at all, nothing open.

"Every method is one transaction: it happens whole or not at all, also when the caller is
cancelled."
"""

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from inloop._exchange import Filter, Line
from inloop._model import FINAL, Progress, State
from inloop._store import open_store

from .rig import HOUR, LANES, Rig

pytestmark = pytest.mark.anyio

# Turns of the loop before the cancellation: before the first step, on the way, at the answer.
TURNS = (0, 1, 2, 3, 5, 8)

Op = Callable[[Rig], Awaitable[object]]


class Call(NamedTuple):
    """A call, on what was made ready for it."""

    name: str
    ready: Callable[[Rig, int], Awaitable[Op]]


async def _plain(rig: Rig, n: int) -> None:
    """Something of everything, so that a call could do half of it."""
    for _ in range(3):
        await rig.put(queue=f"q{n}")
    await rig.put(queue=f"q{n}", wait=1)


async def claim(rig: Rig, n: int) -> Op:
    await _plain(rig, n)
    await rig.put(queue=f"q{n}", expires=rig.now - 1)
    rig.now += 1_000_001
    return lambda rig: rig.store.claim(LANES, 10, rig.now)


async def pause_mine(rig: Rig, n: int) -> Op:
    claimed = await rig.start(queue=f"q{n}")
    await rig.store.control("pause", claimed.id, rig.by())
    return lambda rig: rig.store.pause_mine(claimed.seq, 1, rig.by())


async def resume_mine(rig: Rig, n: int) -> Op:
    task_id = await rig.bring(State.PAUSED, owned=True, queue=f"q{n}")
    await rig.store.control("resume", task_id, rig.by())
    seq = await rig.seq(task_id)
    return lambda rig: rig.store.resume_mine(seq, 1, rig.by(), LANES)


async def answered(rig: Rig, n: int) -> Op:
    claimed = await rig.start(queue=f"q{n}")
    await rig.store.control("pause", claimed.id, rig.by())
    return lambda rig: rig.store.answered(claimed.seq, 1, "pause")


async def note(rig: Rig, n: int) -> Op:
    claimed = await rig.start(queue=f"q{n}")
    lines = [Line(claimed.seq, 1, rig.now, 20, "app", f"{i}") for i in range(150)]
    return lambda rig: rig.store.note(lines, [(claimed.seq, 1, Progress(7))])


async def overrun(rig: Rig, n: int) -> Op:
    claimed = await rig.start(queue=f"q{n}")
    return lambda rig: rig.store.overrun(claimed.seq, 1, rig.by())


async def leave_running(rig: Rig, n: int) -> Op:
    await rig.start(queue=f"q{n}a")
    await rig.bring(State.PAUSED, owned=True, queue=f"q{n}b")
    return lambda rig: rig.store.leave_running(rig.now)


async def hold_unknown(rig: Rig, n: int) -> Op:
    for name in ("x", "y"):
        await rig.put(name, f"q{n}", due=rig.now - HOUR)
    return lambda rig: rig.store.hold_unknown(rig.now, rig.by())


async def know(rig: Rig, n: int) -> Op:
    await rig.store.know([])
    return lambda rig: rig.store.know(["mail", "report", "new"])


async def control(rig: Rig, n: int) -> Op:
    task_id = await rig.put(queue=f"q{n}")
    return lambda rig: rig.store.control("cancel", task_id, rig.by())


async def control_many(rig: Rig, n: int) -> Op:
    ids = [await rig.put(queue=f"q{n}") for _ in range(5)]
    return lambda rig: rig.store.control_many("pause", ids, rig.by())


async def reschedule(rig: Rig, n: int) -> Op:
    task_id = await rig.put(queue=f"q{n}")
    return lambda rig: rig.store.reschedule(task_id, rig.now + HOUR, rig.by())


async def audit(rig: Rig, n: int) -> Op:
    return lambda rig: rig.store.audit("a", "t", rig.by())


async def pause_queue(rig: Rig, n: int) -> Op:
    return lambda rig: rig.store.pause_queue(f"q{n}", None, rig.by())


async def resume_queue(rig: Rig, n: int) -> Op:
    await rig.store.pause_queue(f"q{n}", None, rig.by())
    return lambda rig: rig.store.resume_queue(f"q{n}", rig.by())


async def set_queue(rig: Rig, n: int) -> Op:
    return lambda rig: rig.store.set_queue(f"q{n}", 3, rig.by())


async def prune(rig: Rig, n: int) -> Op:
    for state in FINAL:
        await rig.finish(state, queue=f"q{n}-{state}")
    deleted = await rig.finish(queue=f"q{n}-deleted")
    await rig.store.control("delete", deleted, rig.by())
    rig.now += HOUR
    before = dict.fromkeys(FINAL, rig.now - 1)
    return lambda rig: rig.store.prune(before, rig.now, rig.now, 100)


async def mend(rig: Rig, n: int) -> Op:
    return lambda rig: rig.store.mend()


WRITES = [
    Call(ready.__name__, ready)
    for ready in (
        claim, pause_mine, resume_mine, answered, note, overrun, leave_running, hold_unknown, know,
        control, control_many, reschedule, audit, pause_queue, resume_queue, set_queue, prune, mend,
    )
]  # fmt: skip

LOOK = (
    "select 'task ' || state || coalesce(asked, '') || coalesce(owner, '') || coalesce(done, '')"
    "  || coalesce(deleted > 0, '') from inloop_task",
    "select 'event ' || what || state from inloop_event",
    "select 'log ' || text from inloop_log",
    "select 'count ' || state || name || sum(n) from inloop_count where n > 0 group by state, name",
    "select 'audit ' || action from inloop_audit",
    "select 'pause' from inloop_pause",
    "select 'queue ' || coalesce(concurrency, '') from inloop_queue",
    "select 'owner ' || functions || (closed is null) from inloop_owner",
)


def snapshot(path: Path) -> Counter[str]:
    """What is stored, without names and instants."""
    with contextlib.closing(sqlite3.connect(path)) as cx:
        return Counter(word for sql in LOOK for (word,) in cx.execute(sql))


def clean_up(path: Path) -> None:
    """Remove what was made, and keep the owner."""
    with contextlib.closing(sqlite3.connect(path)) as cx, cx:
        for table in ("task", "event", "log", "pause", "queue", "count"):
            cx.execute(f"delete from inloop_{table}")


def is_free(path: Path) -> bool:
    """Whether another connection can write at once."""
    cx = sqlite3.connect(path, timeout=1, isolation_level=None)
    try:
        cx.execute("begin immediate")
        cx.execute("rollback")
    except sqlite3.OperationalError:
        return False
    finally:
        cx.close()
    return True


async def cancel_after(turns: int, work: Awaitable[object]) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def changes(before: Counter[str], after: Counter[str]) -> tuple[Counter[str], Counter[str]]:
    return after - before, before - after


@pytest.mark.parametrize("call", WRITES, ids=lambda call: call.name)
async def test_a_write_happens_whole_or_not_at_all(full: Rig, path: Path, call: Call) -> None:
    """Cancelled at any turn, nothing is left open, and all of it happened or nothing."""
    outcomes = []
    for n, turns in enumerate(TURNS):
        op = await call.ready(full, n)
        before = snapshot(path)
        await cancel_after(turns, op(full))
        await full.idle()
        assert is_free(path)
        after = snapshot(path)
        if after == before:
            await op(full)  # not at all: it can be done still
            after = snapshot(path)
        outcomes.append(changes(before, after))
        clean_up(path)
    assert all(outcome == outcomes[0] for outcome in outcomes), outcomes


@pytest.mark.parametrize("call", WRITES[:-1], ids=lambda call: call.name)
async def test_a_write_that_waits_for_its_transaction(full: Rig, path: Path, call: Call) -> None:
    """Cancelled while its transaction is being begun, it still happens whole, once it can."""
    op = await call.ready(full, 0)
    before = snapshot(path)
    async with full.store.connect() as db:
        await db.execute("begin immediate")
        await cancel_after(20, op(full))
        assert not full.store.is_idle()
        await db.rollback()
    await full.idle()
    assert is_free(path)
    assert snapshot(path) != before


@pytest.mark.parametrize("turns", TURNS)
async def test_tasks_that_are_added(full: Rig, path: Path, turns: int) -> None:
    """`add` has no caller to cancel: who no longer waits for the answer changes nothing."""
    answer = full.adding(*[full.new(start=True) for _ in range(3)])
    for _ in range(turns):
        await asyncio.sleep(0)
    answer.cancel()
    await full.idle()
    assert is_free(path)
    assert len(await full.store.find(Filter(), 10, None)) == 3


@pytest.mark.parametrize("turns", TURNS)
async def test_a_read(full: Rig, path: Path, turns: int) -> None:
    """A read whose caller is gone leaves the reader as it was."""
    task_id = await full.put()
    for read in (
        full.store.get(task_id), full.store.counts(), full.store.find(Filter(), 10, None),
        full.store.asks(), full.store.has_changed(), full.store.events(task_id),
        full.store.logs(task_id, 0, 10), full.store.owners(full.now), full.store.last_event(),
    ):  # fmt: skip
        await cancel_after(turns, read)
    assert is_free(path)
    await full.put(queue="other")
    assert len(await full.store.find(Filter(), 10, None)) == 2


@pytest.mark.parametrize("turns", TURNS)
async def test_add_within(full: Rig, path: Path, turns: int) -> None:
    """Cancelled, the tasks are part of the app's transaction as a whole or not at all."""
    async with full.store.connect() as db:
        await db.execute("begin immediate")
        await cancel_after(turns, full.store.add_within(db, [full.new() for _ in range(3)]))
        await db.commit()
    assert is_free(path)
    assert len(await full.store.find(Filter(), 10, None)) in (0, 3)


async def test_a_takeover_that_is_cut_off(pair: tuple[Rig, Rig]) -> None:
    """However far it came, the rest of the tasks is recovered without a person."""
    one, other = pair
    await one.add(*[one.new() for _ in range(600)])
    await one.claim(free=600)
    (them,) = [owner for owner in await other.store.owners(other.now) if not owner.me]
    taking = asyncio.ensure_future(other.store.take_over(them.id, other.by()))

    async def is_fenced() -> bool:
        return len(await other.store.owners(other.now)) == 1

    await other.until(is_fenced)
    taking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await taking
    other.now += HOUR  # it is looked for with the heartbeat

    async def are_recovered() -> bool:
        return (await other.store.counts())["default"] == {State.QUEUED: 600}

    await other.until(are_recovered)


async def test_an_owner_that_starts_over(pair: tuple[Rig, Rig]) -> None:
    """Cut off while it becomes a new owner, it can try again, and leaves no owner behind."""
    one, other = pair
    for turns in TURNS:
        (them,) = [owner for owner in await other.store.owners(other.now) if not owner.me]
        await other.store.take_over(them.id, other.by())
        await cancel_after(turns, one.store.reopen_owner())
        await one.idle()
        await one.store.reopen_owner()

        async def are_two() -> bool:
            return len(await other.store.owners(other.now)) == 2

        await other.until(are_two)
        task_id = await one.put()
        assert task_id in await one.claim_ids()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20, 100])
async def test_opening(path: Path, turns: int) -> None:
    """Cut off while it opens, a store holds no lock, leaves no owner, and can be opened again."""
    rig = Rig(open_store(path, "full"))
    await cancel_after(turns, rig.open())
    other = await Rig(open_store(path, "full")).open()

    async def alone() -> bool:
        return [owner.me for owner in await other.store.owners(other.now)] == [True]

    if rig.is_open:
        await rig.close()
    await other.until(alone)
    assert is_free(path)
    await rig.open()
    task_id = await rig.put()
    assert await rig.claim_ids() == [task_id]
    await rig.close()
    await other.close()
