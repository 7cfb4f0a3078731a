"""connect: "A connection to the same database, for the app's own use." """

import asyncio
from pathlib import Path

import pytest

from inloop._model import State
from inloop._store import open_store

from ..rig import Rig

pytestmark = pytest.mark.anyio


async def test_what_the_app_writes_is_in_the_same_database(rig: Rig) -> None:
    """Its own tables lie beside the tasks, and outlive the connection."""
    async with rig.store.connect() as db:
        await db.execute("create table app (n)")
        await db.execute("insert into app values (7)")
        await db.commit()
    db = await rig.store.connect()
    rows = await db.execute_fetchall("select n from app")
    await db.close()
    assert [tuple(row) for row in rows] == [(7,)]


async def test_the_app_can_read_the_tasks(rig: Rig) -> None:
    """A report of the app's own may look at the tables of inloop."""
    task_id = await rig.put("report")
    async with rig.store.connect() as db:
        rows = await db.execute_fetchall("select id, name, state from inloop_task")
    assert [tuple(row) for row in rows] == [(task_id, "report", "queued")]


async def test_reading_waits_for_no_writer(rig: Rig) -> None:
    """While the app is in a transaction of its own, tasks can be read, as they were before it."""
    task_id = await rig.put()
    async with rig.store.connect() as db:
        await db.execute("begin immediate")
        await db.execute("delete from inloop_task")
        assert await rig.state(task_id) is State.QUEUED
        assert await rig.store.counts() == {"default": {State.QUEUED: 1}}
        await db.rollback()


async def test_writing_waits_for_the_app(rig: Rig) -> None:
    """A write of inloop waits until the app's transaction has ended, and then succeeds."""
    async with rig.store.connect() as db:
        await db.execute("begin immediate")
        adding = rig.adding(rig.new())
        await asyncio.sleep(0.05)
        assert not adding.done()
        await db.commit()
    assert (await adding)[0].created


async def test_before_the_store_is_open(tmp_path: Path) -> None:
    """An app may make its own tables first; the store then opens on the same file."""
    rig = Rig(open_store(tmp_path / "tasks.db", "full"))
    async with rig.store.connect() as db:
        await db.execute("create table app (n)")
        await db.commit()
    await rig.open()
    assert await rig.sql("select count(*) from app") == [(0,)]
    assert await rig.put()
    await rig.close()
