"""What opening makes of a place: modes, durability, names, and an app's own file."""

# ruff: noqa: ASYNC240 # the tests' own loop may wait for a file

import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from inloop import StoreError
from inloop._model import State
from inloop._store import open_store, place
from inloop._store.sqlite import SQLiteStore

from .rig import Rig

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(where: str | Path, durability: place.Durability = "full") -> AsyncIterator[Rig]:
    rig = await Rig(open_store(where, durability)).open()
    try:
        yield rig
    finally:
        await rig.close()


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


# ---- modes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_what_is_made_is_for_its_user_alone(path: Path, umask: int) -> None:
    """ "what inloop creates is 0600 (database, `-wal`, `-shm`) and 0700 (`<db>.inloop/`)"."""
    before = os.umask(umask)
    try:
        async with opened(path) as rig:
            await rig.put()
            made = {file.name: mode(file) for file in path.parent.iterdir()}
            locks = [mode(file) for file in Path(f"{path}.inloop").iterdir()]
    finally:
        os.umask(before)
    assert made == {
        "tasks.db": 0o600, "tasks.db-wal": 0o600, "tasks.db-shm": 0o600, "tasks.db.inloop": 0o700,
    }  # fmt: skip
    assert locks
    assert set(locks) == {0o600}


@pytest.mark.parametrize("given", [0o600, 0o640, 0o664])
async def test_an_existing_file_keeps_its_mode(path: Path, given: int) -> None:
    """The app's own file, and the log beside it, are as the app wants them."""
    with closing(sqlite3.connect(path)) as cx:
        cx.execute("create table app (n)")
    path.chmod(given)
    async with opened(path) as rig:
        await rig.put()
        assert mode(path) == given
        assert mode(Path(f"{path}-wal")) == given
    assert mode(path) == given


async def test_an_orderly_close_leaves_no_lock_of_its_own(path: Path) -> None:
    """Of the lock files only the two that all openings share stay."""
    async with opened(path):
        assert len(list(Path(f"{path}.inloop").glob("*.lock"))) == 3
    left = {file.name for file in Path(f"{path}.inloop").glob("*.lock")}
    assert left == {"write.lock", "open.lock"}


# ---- durability


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_durability_is_what_was_asked_for(
    path: Path, durability: place.Durability, level: int
) -> None:
    """Every connection that writes, inloop's and the app's, has it; the journal is a WAL."""
    async with opened(path, durability) as rig:
        assert isinstance(rig.store, SQLiteStore)
        assert rig.store._thread is not None
        for pragma, value in [("synchronous", level), ("journal_mode", "wal"), ("fullfsync", 1)]:
            ask = f"pragma {pragma}"
            found = await rig.store._thread.run(lambda cx, ask=ask: cx.execute(ask).fetchone())  # type: ignore[misc] # lambda
            assert found == (value,)
        assert await rig.sql("pragma synchronous") == [(level,)]


@pytest.mark.parametrize("wrong", ["pragma synchronous = off", "pragma synchronous = normal"])
def test_durability_is_read_back(path: Path, wrong: str) -> None:
    """ "the setting is read back at open": a connection that does not do it is refused."""
    where = place.parse(path)
    assert where is not None
    place.prepare(where)
    cx = place.connect(where, "full")
    with closing(cx):
        cx.execute(wrong)
        with pytest.raises(StoreError, match="does not do what was asked"):
            place.make_wal(cx, where, "full")


async def test_the_reader_cannot_write(full: Rig) -> None:
    """A read that would write is refused by its connection."""
    assert isinstance(full.store, SQLiteStore)
    with pytest.raises(StoreError):
        await full.store._read(lambda cx: cx.execute("delete from inloop_task"))


# ---- names


@pytest.mark.parametrize(
    "name",
    ["a b.db", "a?b#c%20.db", "ü 日本.db", "'quoted\".db", "no_extension", "-dash.db", "a\nb.db"],
)
async def test_any_name_of_a_file(tmp_path: Path, name: str) -> None:
    """Whatever the file is called, exactly that file is used."""
    async with opened(tmp_path / name) as rig:
        await rig.put()
    made = {file.name for file in tmp_path.iterdir()}
    assert made == {name, f"{name}.inloop"}
    async with opened(str(tmp_path / name)) as rig:
        assert await rig.store.counts() == {"default": {State.QUEUED: 1}}


async def test_a_symbolic_link_to_the_file(path: Path, tmp_path: Path) -> None:
    """A link to a store leads to that store."""
    async with opened(path) as rig:
        task_id = await rig.put()
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with opened(link) as rig:
        assert await rig.state(task_id) is State.QUEUED
        await rig.put()
    async with opened(path) as rig:
        assert await rig.store.counts() == {"default": {State.QUEUED: 2}}


async def test_two_ways_to_one_file_share_their_locks(path: Path, tmp_path: Path) -> None:
    """Opened by its name and by a link at once, a store has one turnstile, and the living stay so.

    Two lock folders for one file would each take the other's owners for gone.
    """
    link = tmp_path / "link.db"
    async with opened(path) as one:
        claimed = await one.start()
        link.symlink_to(path)
        async with opened(link) as other:
            owners = await other.store.owners(other.now)
            assert [owner.alive for owner in owners] == [True, True]
            await other.put(queue="other")
            assert await other.state(claimed.id) is State.RUNNING
            assert await one.end(one.move(claimed))


# ---- an app's own file


async def test_the_file_may_be_the_apps_own(path: Path) -> None:
    """Its tables stay, ours are beside them, and all of ours are named inloop_*."""
    with closing(sqlite3.connect(path)) as cx:
        cx.execute("create table app (n)")
        cx.execute("insert into app values (7)")
        cx.commit()
    async with opened(path) as rig:
        await rig.put()
        assert await rig.sql("select n from app") == [(7,)]
        names = await rig.sql(
            "select tbl_name from sqlite_master where tbl_name not like 'sqlite_%'"
        )
        assert all(name == "app" or name.startswith("inloop_") for (name,) in names)


@pytest.mark.parametrize(
    "setting",
    ["pragma encoding = 'UTF-16le'", "pragma page_size = 512", "pragma auto_vacuum = full",
     "pragma foreign_keys = on", "pragma user_version = 77"],
)  # fmt: skip
async def test_an_apps_settings_do_no_harm(path: Path, setting: str) -> None:
    """Whatever the app has set for its file, tasks go in and come out as they were."""
    with closing(sqlite3.connect(path, isolation_level=None)) as cx:
        cx.execute(setting)
        cx.execute("create table app (n)")
    async with opened(path) as rig:
        claimed = await rig.start(arguments='{"text":"Ärger 日本"}', key="ü")
        assert claimed.arguments == '{"text":"Ärger 日本"}'
        assert await rig.end(rig.move(claimed))
        assert (await rig.get(claimed.id)).key == "ü"
    with closing(sqlite3.connect(path)) as cx:
        assert cx.execute("pragma integrity_check").fetchone() == ("ok",)
        if "user_version" in setting:
            assert cx.execute("pragma user_version").fetchone() == (77,)


async def test_the_apps_connection_is_set_up_rightly(full: Rig) -> None:
    """`connect()`: waits for other writers, and begins by itself what it writes."""
    async with full.store.connect() as db:
        assert [tuple(row) for row in await db.execute_fetchall("pragma busy_timeout")] == [(5000,)]
        assert not db.in_transaction
        await db.execute("insert into inloop_queue values ('a', 1)")
        assert db.in_transaction
        await db.rollback()
