"""add_within: "As `add`, within the caller's open transaction; nothing is started."

"the task exists exactly if that transaction commits".
"""

import aiosqlite
import pytest

from inloop._exchange import Filter
from inloop._model import State
from inloop._store import open_store

from ..rig import Rig

pytestmark = pytest.mark.anyio


async def test_a_commit_makes_it_there(rig: Rig) -> None:
    """Before the commit nobody sees it; after it, it is queued."""
    async with rig.store.connect() as db:
        await db.execute("begin immediate")
        (added,) = await rig.store.add_within(db, [rig.new(start=True)])
        assert (added.created, added.claimed) == (True, None)
        assert await rig.store.counts() == {}
        await db.commit()
    assert await rig.store.counts() == {"default": {State.QUEUED: 1}}
    assert await rig.claim_ids() == [added.id]


async def test_a_rollback_leaves_nothing(rig: Rig) -> None:
    """Neither a row, nor an event, nor a count."""
    async with rig.store.connect() as db:
        await db.execute("begin immediate")
        await rig.store.add_within(db, [rig.new() for _ in range(3)])
        await db.rollback()
    assert len(await rig.store.find(Filter(), 10, None)) == 0
    assert await rig.store.counts() == {}
    assert await rig.store.last_event() == 0


async def test_it_commits_with_the_apps_own_rows(rig: Rig) -> None:
    """The app's writes and the task are one transaction, both ways."""
    await rig.sql("create table app (id text)")
    async with rig.store.connect() as db:
        for commit in (False, True):
            new = rig.new()
            await db.execute("insert into app values (?)", (new.id,))
            await rig.store.add_within(db, [new])
            await (db.commit() if commit else db.rollback())
    tasks = [task.id for task in await rig.store.find(Filter(), 10, None)]
    assert await rig.sql("select id from app") == [(task_id,) for task_id in tasks]
    assert len(tasks) == 1


async def test_a_key_that_is_taken(rig: Rig) -> None:
    """Keys hold within it as well: stored before, and in the same transaction."""
    holder = await rig.put(key="k")
    async with rig.store.connect() as db:
        await db.execute("begin immediate")
        news = [rig.new(key="k"), rig.new(key="other"), rig.new(key="other")]
        taken, one, other = await rig.store.add_within(db, news)
        await db.commit()
    assert (taken.id, taken.created) == (holder, False)
    assert (one.id, other.created) == (other.id, False)


async def test_an_ill_formed_one_takes_the_whole_call_with_it(rig: Rig) -> None:
    """It happens whole or not at all: after an error the app may still commit its own rows."""
    await rig.sql("create table app (id text)")
    there = await rig.put()
    async with rig.store.connect() as db:
        await db.execute("insert into app values ('row')")
        news = [rig.new(key="k"), rig.new(), rig.new(id=there)]
        with pytest.raises(Exception, match="UNIQUE"):
            await rig.store.add_within(db, news)
        await db.commit()
    assert [task.id for task in await rig.store.find(Filter(), 10, None)] == [there]
    assert await rig.sql("select id from app") == [("row",)]


@pytest.mark.parametrize("connection", [None, "app.db", 7, object()])
async def test_what_is_no_connection(rig: Rig, connection: object) -> None:
    """`TypeError`, naming the parameter and what would do."""
    with pytest.raises(TypeError, match=r"connection=.*aiosqlite"):
        await rig.store.add_within(connection, [rig.new()])


async def test_a_connection_to_another_database(rig: Rig) -> None:
    """`ValueError`: "a transaction cannot span both"."""
    async with aiosqlite.connect(":memory:") as db:
        await db.execute("begin")
        with pytest.raises(ValueError, match=r"connection=.*cannot span both"):
            await rig.store.add_within(db, [rig.new()])


async def test_a_connection_to_another_store(rig: Rig) -> None:
    """A store in memory is not another one, though both are called so."""
    other = await Rig(open_store(":memory:", "full")).open()
    async with other.store.connect() as db:
        await db.execute("begin immediate")
        with pytest.raises(ValueError, match="connection="):
            await rig.store.add_within(db, [rig.new()])
        await db.rollback()
    await other.close()


async def test_its_commit_is_noticed(rig: Rig) -> None:
    """A commit of the app's is a change that wakes who looks."""
    await rig.store.has_changed()
    async with rig.store.connect() as db:
        await db.execute("begin immediate")
        await rig.store.add_within(db, [rig.new()])
        assert not await rig.store.has_changed()
        await db.commit()
    assert await rig.store.has_changed()
