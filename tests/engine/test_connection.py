"""`connection=`: a task that exists exactly if the app's own transaction commits."""

import asyncio
import sqlite3
import time
from pathlib import Path

import aiosqlite
import pytest
from facts import state, turns

from inloop import ArgumentError, StoreBusy, StoreError, TaskManager, TaskNotFound
from inloop.testing import settled

pytestmark = pytest.mark.anyio


async def notify(n: int) -> int:
    """A task function of an app."""
    return n


async def test_it_exists_if_the_transaction_commits(tasks: TaskManager) -> None:
    """Together with the app's own rows; until then nobody sees it, and it does not run."""
    declared = tasks.task(notify)
    async with tasks, tasks.connect() as db:
        await db.execute("create table book (title text)")
        await db.execute("insert into book values ('Ulysses')")
        handle = await declared.using(connection=db).enqueue(7)
        assert handle.created
        with pytest.raises(TaskNotFound):
            await tasks.get(handle.id)
        await turns()
        assert await tasks.counts() == {}
        await db.commit()
        assert await handle.result(10) == 7
        assert (await db.execute_fetchall("select title from book")) != []


async def test_it_does_not_exist_if_it_rolls_back(tasks: TaskManager) -> None:
    """Nor do its rows in counters and history."""
    declared = tasks.task(notify)
    async with tasks, tasks.connect() as db:
        await db.execute("create table book (title text)")
        await db.commit()
        await db.execute("insert into book values ('Ulysses')")
        handle = await declared.using(connection=db).enqueue(7)
        await db.rollback()
        await settled(tasks)
        with pytest.raises(TaskNotFound):
            await tasks.get(handle.id)
        with pytest.raises(TaskNotFound):
            await handle.result(10)
        assert await tasks.counts() == {}


async def test_it_starts_soon_after_the_commit(tasks: TaskManager) -> None:
    """Within 250 ms, though inloop is not told of it: the best of a few tries on a busy machine."""
    began: list[float] = []

    @tasks.task
    async def work() -> None:
        began.append(time.monotonic())

    waits: list[float] = []
    async with tasks, tasks.connect() as db:
        for _ in range(5):
            handle = await work.using(connection=db).enqueue()
            await asyncio.sleep(0.05)
            await db.commit()
            committed = time.monotonic()
            await handle.result(10)
            waits.append(began[-1] - committed)
    assert sorted(waits)[2] < 0.25


async def test_many_within_one_transaction(tasks: TaskManager) -> None:
    """`using` goes with `enqueue_many`, delays and keys as well."""
    declared = tasks.task(key="n:{n}")(notify)
    async with tasks, tasks.connect() as db:
        mine = declared.using(connection=db)
        handles = await mine.enqueue_many([(1,), (2,), (1,)])
        assert [handle.created for handle in handles] == [True, True, False]
        later = await mine.using(delay=60).enqueue(3)
        again = await mine.enqueue(3)
        assert (again.created, again.id) == (False, later.id)
        await db.commit()
        assert [await handle.result(10) for handle in handles] == [1, 2, 1]
        assert await state(tasks, later.id) == "scheduled"


async def test_the_apps_own_aiosqlite_connection_will_do(path: Path) -> None:
    """Opened by the app itself, with a row factory of its own."""
    tasks = TaskManager(path)
    declared = tasks.task(notify)
    async with tasks, aiosqlite.connect(path) as db:
        db.row_factory = sqlite3.Row
        await db.execute("begin immediate")
        handle = await declared.using(connection=db).enqueue(7)
        await db.commit()
        assert await handle.result(10) == 7
        assert db.row_factory is sqlite3.Row


async def test_without_a_transaction_of_its_own_one_begins(path: Path) -> None:
    """As for any insert on a connection that does not commit by itself."""
    tasks = TaskManager(path)
    declared = tasks.task(notify)
    async with tasks, aiosqlite.connect(path) as db:
        handle = await declared.using(connection=db).enqueue(7)
        assert db.in_transaction
        await db.commit()
        assert await handle.result(10) == 7


async def test_within_a_task(tasks: TaskManager) -> None:
    """Rows and children of a task commit together."""
    declared = tasks.task(notify)

    @tasks.task
    async def work() -> int:
        async with tasks.connect() as db:
            handle = await declared.using(connection=db).enqueue(7)
            await db.commit()
        return await handle

    async with tasks:
        assert await (await work.enqueue()).result(10) == 7


async def test_work_false_on_this_side(path: Path) -> None:
    """The app enqueues on its connection, another process runs it."""
    front, back = TaskManager(path, work=False), TaskManager(path)
    enqueue, _ = front.task(notify), back.task(notify)
    async with front, back, front.connect() as db:
        handle = await enqueue.using(connection=db).enqueue(7)
        await db.commit()
        assert await handle.result(10) == 7


# ---- refused


async def test_what_is_no_connection_is_refused(tasks: TaskManager) -> None:
    """TypeError, and what would do; a plain sqlite3 connection would block the loop."""
    declared = tasks.task(notify)
    async with tasks:
        for wrong in ("tasks.db", object()):
            with pytest.raises(TypeError, match=r"connection=.*aiosqlite.*tasks\.connect\(\)"):
                await declared.using(connection=wrong).enqueue(7)


async def test_a_connection_to_another_database_is_refused(
    tasks: TaskManager, tmp_path: Path
) -> None:
    """ValueError, naming both: a transaction cannot span them."""
    declared = tasks.task(notify)
    async with tasks:
        for other in (tmp_path / "other.db", ":memory:"):
            async with aiosqlite.connect(other) as db:
                await db.execute("begin")
                with pytest.raises(ValueError, match=r"tasks are in .*tasks\.db"):
                    await declared.using(connection=db).enqueue(7)


async def test_a_connection_in_autocommit_needs_a_transaction(path: Path) -> None:
    """ValueError, and what to execute first."""
    tasks = TaskManager(path)
    declared = tasks.task(notify)
    async with tasks, aiosqlite.connect(path, isolation_level=None) as db:
        with pytest.raises(ValueError, match="begin immediate"):
            await declared.using(connection=db).enqueue(7)
        await db.execute("begin immediate")
        handle = await declared.using(connection=db).enqueue(7)
        await db.execute("commit")
        assert await handle.result(10) == 7


async def test_a_wrong_argument_leaves_the_transaction_open(tasks: TaskManager) -> None:
    """Refused before anything is written; the app decides about its own rows."""
    declared = tasks.task(notify)
    async with tasks, tasks.connect() as db:
        await db.execute("create table book (title text)")
        await db.commit()
        await db.execute("insert into book values ('Ulysses')")
        with pytest.raises(ArgumentError):
            await declared.using(connection=db).enqueue("seven")  # type: ignore[arg-type] # on purpose
        assert db.in_transaction
        await db.commit()
        assert [tuple(row) for row in await db.execute_fetchall("select * from book")] == [
            ("Ulysses",)
        ]


async def test_a_closed_connection_is_refused(tasks: TaskManager) -> None:
    """An error that says so, and nothing is stored."""
    declared = tasks.task(notify)
    async with tasks:
        async with tasks.connect() as db:
            pass
        with pytest.raises((ValueError, StoreError), match="connection"):
            await declared.using(connection=db).enqueue(7)
        assert await tasks.counts() == {}


async def test_inside_ones_own_transaction_others_wait(
    tasks: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call without `connection=` meanwhile gets StoreBusy, which names this cause."""
    monkeypatch.setattr("inloop._store.writer.PATIENCE", 0.2)
    declared = tasks.task(notify)
    async with tasks, tasks.connect() as db:
        await db.execute("begin immediate")
        with pytest.raises(StoreBusy, match=r"If it is your own .*using\(connection=…\)"):
            await declared.enqueue(7)
        await db.rollback()
        assert await (await declared.enqueue(7)).result(10) == 7
