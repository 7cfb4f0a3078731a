"""open, reopen_owner, hurry, close, release, abandon: becoming an owner, and ceasing to be one."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from inloop import NotOpen, StoreBusy
from inloop._exchange import Filter
from inloop._model import State, to_datetime
from inloop._store import open_store
from inloop._store.protocol import Fenced

from ..rig import HOUR, Rig

pytestmark = pytest.mark.anyio


# ---- open: "Open, migrate, and become an owner; from here on dead owners' tasks are recovered."


async def test_who_opens_becomes_an_owner(rig: Rig) -> None:
    """After opening there is one owner, alive, and it is this one."""
    (me,) = await rig.store.owners(rig.now)
    assert (me.me, me.alive, me.responding, me.running) == (True, True, True, 0)
    assert me.started == to_datetime(rig.now)


async def test_each_opening_is_another_owner(pair: tuple[Rig, Rig]) -> None:
    """Two openings of one store are two owners, also within one process."""
    one, other = pair
    (mine,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    (theirs,) = [owner.id for owner in await other.store.owners(one.now) if owner.me]
    assert mine != theirs
    assert {owner.id for owner in await one.store.owners(one.now)} == {mine, theirs}


async def test_two_stores_in_memory_are_two_stores() -> None:
    """ ":memory:" is one opening's own: another one does not see its tasks."""
    one, other = Rig(open_store(":memory:", "full")), Rig(open_store(":memory:", "full"))
    await one.open()
    await other.open()
    await one.put()
    assert len(await one.store.find(Filter(), 10, None)) == 1
    assert len(await other.store.find(Filter(), 10, None)) == 0
    await one.close()
    await other.close()


async def test_dead_owners_tasks_are_recovered(pair: tuple[Rig, Rig]) -> None:
    """A living sibling finds the tasks of an owner whose process died, and wakes its engine."""
    dying, living = pair
    claimed = await dying.start()
    living.woken.clear()
    await dying.die()
    await living.until_state(claimed.id, State.QUEUED)
    assert living.woken.wait(5)
    assert [owner.me for owner in await living.store.owners(living.now)] == [True]


async def test_dead_owners_tasks_are_recovered_at_the_next_start(pair: tuple[Rig, Rig]) -> None:
    """With no sibling alive, the next opening recovers them."""
    one, other = pair
    await other.close()
    claimed = await one.start()
    await one.die()
    await other.open()
    await other.until_state(claimed.id, State.QUEUED)
    (again,) = (await other.claim()).claimed
    assert (again.id, again.attempt, again.resumed) == (claimed.id, 2, True)


# ---- reopen_owner: "Become a new owner, after this one was taken over."


async def test_a_fenced_owner_becomes_a_new_one(pair: tuple[Rig, Rig]) -> None:
    """After a takeover the owner may start over as another one, and claims again."""
    one, other = pair
    claimed = await one.start()
    (before,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    await other.store.take_over(before, other.by())
    with pytest.raises(Fenced):
        await one.claim()
    await one.store.reopen_owner()
    (after,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    assert after != before
    assert await one.claim_ids() == [claimed.id]


# ---- hurry: "From now on wait no longer than `seconds` for other writers."


async def test_hurry_bounds_the_wait_for_another_writer(full: Rig) -> None:
    """A write that would wait 5 s for an app's transaction gives up when it was told to hurry."""
    async with full.store.connect() as db:
        await db.execute("begin immediate")
        full.store.hurry(0.2)
        begun = time.monotonic()
        with pytest.raises(StoreBusy, match="connection="):
            await full.put()
        assert time.monotonic() - begun < 4
        await db.rollback()


# ---- close: "Write what waits, end the owner, close. `keep_lock`: code of its tasks still runs."


async def test_close_writes_what_waits(rig: Rig) -> None:
    """What was handed in before closing is committed."""
    answer = rig.adding(rig.new())
    await rig.close()
    (added,) = answer.result()
    assert added.created


async def test_closing_ends_the_owner(pair: tuple[Rig, Rig]) -> None:
    """An owner that closed is gone at once, without a recovery."""
    one, other = pair
    await one.close()
    assert [owner.me for owner in await other.store.owners(other.now)] == [True]
    assert await other.store.recoveries(10) == []


async def test_a_closed_store_takes_nothing(rig: Rig) -> None:
    """Once closed, writing and reading raise `NotOpen`."""
    task_id = await rig.put()
    await rig.close()
    with pytest.raises(NotOpen):
        await rig.put()
    with pytest.raises(NotOpen):
        await rig.store.control("cancel", task_id, rig.by())
    with pytest.raises(NotOpen):
        await rig.get(task_id)


async def test_a_closed_store_can_be_opened_again(full: Rig) -> None:
    """A store that was closed is opened again as another owner, and has kept its tasks."""
    task_id = await full.put()
    (before,) = await full.store.owners(full.now)
    await full.close()
    await full.open()
    (after,) = await full.store.owners(full.now)
    assert before.id != after.id
    assert await full.state(task_id) is State.QUEUED
    assert await full.claim_ids() == [task_id]


async def test_memory_keeps_nothing() -> None:
    """ ":memory:" forgets everything when it is closed."""
    rig = await Rig(open_store(":memory:", "full")).open()
    await rig.put()
    await rig.close()
    await rig.open()
    assert await rig.store.counts() == {}
    await rig.close()


async def test_a_kept_lock_keeps_the_tasks(pair: tuple[Rig, Rig]) -> None:
    """Closed with `keep_lock`, an owner's tasks stay its own until that lock is given up."""
    one, other = pair
    claimed = await one.start()
    one.is_open = False
    give_up = one.store.keep_lock()
    await one.store.close(keep_lock=True)
    # Standing still is what is tested: two looks of the keeper.
    await asyncio.sleep(0.8)
    assert await other.state(claimed.id) is State.RUNNING
    threading.Thread(target=give_up).start()
    await other.until_state(claimed.id, State.QUEUED)


async def test_a_kept_lock_is_of_that_opening(pair: tuple[Rig, Rig]) -> None:
    """Opened again meanwhile, as another owner, giving up the old lock leaves the new one."""
    one, other = pair
    claimed = await one.start()
    give_up = one.store.keep_lock()
    await one.store.close(keep_lock=True)
    await one.open()
    again = await one.start(queue="other")
    give_up()
    give_up()
    await other.until_state(claimed.id, State.QUEUED)
    assert await other.state(again.id) is State.RUNNING
    assert await one.end(one.move(again))


# ---- abandon: "Stop as a killed process would: nothing more is written, the lock is free."


async def test_an_abandoned_store_writes_nothing_more(pair: tuple[Rig, Rig]) -> None:
    """What still waited fails with `NotOpen`, or had been committed; its tasks are recovered."""
    one, other = pair
    claimed = await one.start()
    await one.die()
    with pytest.raises(NotOpen):
        await one.end(one.move(claimed))
    await other.until_state(claimed.id, State.QUEUED)
    (report,) = await other.store.recoveries(10)
    assert [task.task_id for task in report.tasks] == [claimed.id]


# ---- mend: "After a `StoreError`: open anew what may be broken."


async def test_mending_keeps_the_owner(rig: Rig) -> None:
    """Mended, it is the same owner: what runs is still ours to end."""
    claimed = await rig.start()
    (before,) = await rig.store.owners(rig.now)
    await rig.store.mend()
    (after,) = await rig.store.owners(rig.now)
    assert after.id == before.id
    assert await rig.end(rig.move(claimed))
    assert await rig.state(claimed.id) is State.SUCCEEDED


async def test_mending_a_whole_store_changes_nothing(rig: Rig) -> None:
    """Tasks are as before; it adds and claims as before."""
    first = await rig.put()
    await rig.store.mend()
    second = await rig.put()
    assert await rig.claim_ids() == [first, second]


# ---- is_idle, has_changed


async def test_idle_is_when_all_is_written(rig: Rig) -> None:
    """`is_idle`: "Whether nothing that was handed in is still to be written."."""
    assert rig.store.is_idle()
    answer = rig.adding(rig.new())
    assert not rig.store.is_idle()
    await answer
    await rig.idle()
    assert answer.done()


async def test_own_commits_are_no_change(rig: Rig) -> None:
    """`has_changed`: "Whether somebody else has committed since the last look."."""
    await rig.store.has_changed()
    await rig.put()
    await asyncio.sleep(0)
    assert not await rig.store.has_changed()


async def test_commits_of_others_are_seen_once(rig: Rig) -> None:
    """A commit by an app's own connection is a change, once."""
    await rig.store.has_changed()
    await rig.sql("update inloop_owner set heartbeat = heartbeat + 1")
    assert await rig.store.has_changed()
    assert not await rig.store.has_changed()


async def test_the_path_may_be_text_or_a_path(tmp_path: Path) -> None:
    """A store is the same whether named by text, `Path` or URL."""
    place = tmp_path / "tasks.db"
    one = await Rig(open_store(place, "full")).open()
    task_id = await one.put()
    await one.close()
    for name in (str(place), f"sqlite:///{place}"):
        rig = await Rig(open_store(name, "full")).open()
        assert await rig.state(task_id) is State.QUEUED
        await rig.close()


async def test_the_heartbeat_is_shown(pair: tuple[Rig, Rig]) -> None:
    """An owner whose heartbeat is over 30 s old is alive, but shown as not responding."""
    one, other = pair
    owners = await other.store.owners(other.now)
    assert [(owner.alive, owner.responding) for owner in owners] == [(True, True)] * 2
    later = await other.store.owners(other.now + HOUR)
    assert [(owner.alive, owner.responding) for owner in later] == [(True, False)] * 2
    assert one.is_open
