"""A file that is deleted or replaced while it is open: nothing is acknowledged any more.

"Full disk, read-only, broken or vanished file: the caller gets the matching `StoreError`; running
tasks keep their outcome in memory (nothing new is claimed) and write it when the store is back".
"""

# ruff: noqa: ASYNC240 # the tests' own loop may wait for a file

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from inloop import StoreError, StoreGone
from inloop._model import State

from .rig import Rig

pytestmark = pytest.mark.anyio


def move_away(path: Path) -> list[Path]:
    """The database and what belongs to it lies elsewhere."""
    away = path.parent / "away"
    away.mkdir()
    moved = []
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        (path.parent / name).rename(away / name)
        moved.append(away / name)
    return moved


def put_back(moved: list[Path]) -> None:
    for file in moved:
        file.rename(file.parent.parent / file.name)


async def test_a_deleted_file(full: Rig, path: Path) -> None:
    """Every write raises `StoreGone`, naming the file and what to do; nothing is made anew."""
    claimed = await full.start()
    path.unlink()
    for write in (
        full.put(queue="other"),
        full.end(full.move(claimed)),
        full.claim(),
        full.store.control("cancel", claimed.id, full.by()),
    ):
        with pytest.raises(StoreGone, match=f"{path} was deleted or replaced") as caught:
            await write
        assert "restart" in str(caught.value)
    assert not path.exists()


async def test_a_deleted_file_is_not_made_anew(full: Rig, path: Path) -> None:
    """Mending does not begin an empty store in the place of the lost one."""
    await full.put()
    path.unlink()
    for _ in range(2):
        with pytest.raises(StoreError):
            await full.put()
        with pytest.raises(StoreError):
            await full.store.mend()
        assert not path.exists()


async def test_a_file_that_is_put_back(full: Rig, path: Path) -> None:
    """Put back, the store works again without being opened anew, and what ran can still end."""
    kept = await full.put(queue="kept")
    claimed = await full.start()
    moved = move_away(path)
    with pytest.raises(StoreGone):
        await full.end(full.move(claimed))
    with pytest.raises(StoreGone):
        await full.put()
    put_back(moved)
    await full.store.mend()
    assert await full.end(full.move(claimed))
    assert await full.state(claimed.id) is State.SUCCEEDED
    assert await full.claim_ids() == [kept]
    with closing(sqlite3.connect(path)) as cx:
        assert cx.execute("pragma integrity_check").fetchone() == ("ok",)


async def test_a_replaced_file(full: Rig, path: Path, tmp_path: Path) -> None:
    """Another file in its place: `StoreGone`, and the other one is not written."""
    await full.put()
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as cx:
        cx.execute("create table other (n)")
    content = other.read_bytes()
    os.replace(other, path)
    with pytest.raises(StoreGone, match="replaced"):
        await full.put()
    with pytest.raises(StoreGone):
        await full.claim()
    assert path.read_bytes() == content


async def test_nothing_of_it_was_acknowledged(full: Rig, path: Path) -> None:
    """After the file is back, exactly what was acknowledged is there."""
    acknowledged = [await full.put() for _ in range(3)]
    moved = move_away(path)
    for _ in range(3):
        with pytest.raises(StoreGone):
            await full.put()
    put_back(moved)
    await full.store.mend()
    assert await full.claim_ids() == acknowledged


async def test_a_log_that_is_deleted(full: Rig, path: Path) -> None:
    """What is only in a write-ahead log that has no name any more is not acknowledged, either."""
    await full.put()
    Path(f"{path}-wal").unlink()
    with pytest.raises(StoreGone, match="-wal"):
        await full.put()


async def test_the_apps_transaction_on_a_deleted_file(full: Rig, path: Path) -> None:
    """`connection=`: `StoreGone` as well, before anything is promised."""
    async with full.store.connect() as db:
        await db.execute("begin immediate")
        path.unlink()
        with pytest.raises(StoreGone):
            await full.store.add_within(db, [full.new()])
        await db.rollback()


async def test_closing_what_is_gone(full: Rig, path: Path) -> None:
    """A store whose file is gone closes as any other."""
    await full.start()
    path.unlink()
    await full.close()
    assert not path.exists()
