"""add_within on SQLite: every way in which an app may use aiosqlite."""

import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiosqlite
import pytest

from inloop import StoreBusy, StoreReadOnly
from inloop._model import State

from .rig import Rig

pytestmark = pytest.mark.anyio

ONE = {"default": {State.QUEUED: 1}}


async def begin(db: aiosqlite.Connection) -> None:
    await db.execute("begin immediate")


async def write(db: aiosqlite.Connection) -> None:
    await db.execute("insert into app values (1)")


async def nothing(db: aiosqlite.Connection) -> None: ...


# isolation_level, and what the app does before it enqueues.
MODES: dict[str, tuple[str | None, Callable[[aiosqlite.Connection], Awaitable[None]]]] = {
    "legacy-has-written": ("", write),
    "legacy-has-not-written": ("", nothing),
    "legacy-has-begun": ("", begin),
    "immediate-has-written": ("IMMEDIATE", write),
    "immediate-has-not-written": ("IMMEDIATE", nothing),
    "manual-has-begun": (None, begin),
}


@pytest.fixture(params=list(MODES))
async def db(
    request: pytest.FixtureRequest, full: Rig, path: Path
) -> AsyncIterator[aiosqlite.Connection]:
    """A connection as an app makes it, within a transaction of its own."""
    await full.sql("create table app (n)")
    level, before = MODES[request.param]
    async with aiosqlite.connect(path, isolation_level=level) as db:
        await before(db)
        yield db


async def test_it_is_there_when_the_app_commits(full: Rig, db: aiosqlite.Connection) -> None:
    """In every mode: not before, and then at once."""
    (added,) = await full.store.add_within(db, [full.new()])
    assert db.in_transaction
    assert await full.store.counts() == {}
    await db.commit()
    assert await full.store.counts() == ONE
    assert await full.claim_ids() == [added.id]


async def test_it_is_not_there_when_the_app_rolls_back(full: Rig, db: aiosqlite.Connection) -> None:
    """In every mode: neither the app's row nor the task."""
    await full.store.add_within(db, [full.new(), full.new()])
    await db.rollback()
    assert await full.store.counts() == {}
    assert await full.sql("select * from app") == []


async def test_without_a_transaction_it_is_refused(full: Rig, path: Path) -> None:
    """Where the app begins by hand and has not, `ValueError` says so, and nothing is stored."""
    async with aiosqlite.connect(path, isolation_level=None) as db:
        with pytest.raises(ValueError, match=r"connection=.*no open transaction.*begin"):
            await full.store.add_within(db, [full.new()])
    assert await full.store.counts() == {}


if sys.version_info >= (3, 12):  # `autocommit` came with it

    async def test_an_autocommit_connection_is_refused(full: Rig, path: Path) -> None:
        """With `autocommit=True` there is no transaction to be part of, either."""
        async with aiosqlite.connect(path, autocommit=True) as db:
            with pytest.raises(ValueError, match=r"connection=.*no open transaction"):
                await full.store.add_within(db, [full.new()])
        assert await full.store.counts() == {}


async def test_the_apps_own_factories_are_left_alone(full: Rig, path: Path) -> None:
    """Rows and texts may be made into anything; the app's settings are as before."""
    await full.put(key="k")
    async with aiosqlite.connect(path) as db:
        db.row_factory = sqlite3.Row
        db.text_factory = bytes
        taken, added = await full.store.add_within(db, [full.new(key="k"), full.new()])
        assert (taken.created, added.created) == (False, True)
        assert isinstance(taken.id, str)
        assert (db.row_factory, db.text_factory) == (sqlite3.Row, bytes)
        await db.commit()


@pytest.mark.parametrize("other", ["other.db", ":memory:", ""])
async def test_another_file_is_refused(full: Rig, tmp_path: Path, other: str) -> None:
    """Another file, a database in memory, a temporary one: "a transaction cannot span both"."""
    where = tmp_path / other if other.endswith(".db") else other
    async with aiosqlite.connect(where) as db:
        await db.execute("begin")
        with pytest.raises(ValueError, match=r"connection=.*cannot span both"):
            await full.store.add_within(db, [full.new()])


async def test_the_same_file_by_another_name(full: Rig, path: Path, tmp_path: Path) -> None:
    """A symbolic link, or a relative way to it, is the same file."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    for name in (link, tmp_path / "x" / ".." / path.name):
        (tmp_path / "x").mkdir(exist_ok=True)
        async with aiosqlite.connect(name) as db:
            await full.store.add_within(db, [full.new()])
            await db.commit()
    assert await full.store.counts() == {"default": {State.QUEUED: 2}}


async def test_a_database_that_is_attached_is_not_the_main_one(
    full: Rig, path: Path, tmp_path: Path
) -> None:
    """A connection to another file, with ours attached, would write into the wrong one."""
    async with aiosqlite.connect(tmp_path / "other.db", isolation_level=None) as db:
        await db.execute("attach ? as mine", (str(path),))
        await db.execute("begin immediate")
        with pytest.raises(ValueError, match="cannot span both"):
            await full.store.add_within(db, [full.new()])


async def test_a_connection_that_cannot_write(full: Rig, path: Path) -> None:
    """`StoreReadOnly` for one that was opened for reading."""
    async with aiosqlite.connect(f"{path.as_uri()}?mode=ro", uri=True) as db:
        await db.execute("begin")
        with pytest.raises(StoreReadOnly):
            await full.store.add_within(db, [full.new()])


async def test_another_writer_is_in_the_way(full: Rig, path: Path) -> None:
    """`StoreBusy` where the app's own connection does not wait, or no longer."""
    async with full.store.connect() as writing, aiosqlite.connect(path, timeout=0) as db:
        await begin(writing)
        with pytest.raises(StoreBusy):
            await full.store.add_within(db, [full.new()])
        await writing.rollback()


async def test_many_at_once(full: Rig, path: Path) -> None:
    """A thousand tasks are one part of the app's transaction, answered in order."""
    async with aiosqlite.connect(path) as db:
        news = [full.new() for _ in range(1000)]
        added = await full.store.add_within(db, news)
        assert [one.id for one in added] == [new.id for new in news]
        await db.commit()
    assert await full.store.counts() == {"default": {State.QUEUED: 1000}}


async def test_a_connection_of_the_stores_own(full: Rig) -> None:
    """`connect()` begins a transaction by itself at the first write, ours or the app's."""
    async with full.store.connect() as db:
        await full.store.add_within(db, [full.new()])
        assert db.in_transaction
        await db.commit()
    assert await full.store.counts() == ONE


async def test_a_connection_that_is_closed(full: Rig, path: Path) -> None:
    """`ValueError`, as aiosqlite's own."""
    db = await aiosqlite.connect(path)
    await db.close()
    with pytest.raises(ValueError, match="connection"):
        await full.store.add_within(db, [full.new()])
