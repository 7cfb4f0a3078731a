"""The private parts of aiosqlite that the store uses, and how they must behave.

If a test here fails, aiosqlite has changed: look at `_store/commit.py` before the upper bound of
its version in pyproject.toml is raised.
"""

import ast
import asyncio
import sqlite3
import threading
from importlib import metadata
from pathlib import Path

import aiosqlite
import pytest

import inloop

pytestmark = pytest.mark.anyio

CHANGED = "aiosqlite has changed: see _store/commit.py, and the upper bound in pyproject.toml"
PARTS = {"_execute", "_thread", "_conn", "_connection", "_connector", "_running"}


def test_the_version_is_bounded() -> None:
    """The next minor version may move its private parts: it is not taken by itself."""
    (bound,) = [line for line in metadata.requires("inloop") or [] if line.startswith("aiosqlite")]
    assert "<0.23" in bound, "a new bound: run the tests of this file against that version"
    assert ">=0.22" in bound


def test_only_one_file_touches_them() -> None:
    """They are used in `_store/commit.py` and nowhere else."""
    assert inloop.__file__
    users = {
        file.name
        for file in Path(inloop.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"_execute", "_conn", "_connector"}
    }
    assert users == {"commit.py"}


async def test_the_parts_are_there() -> None:
    """Every one that is used, before and after connecting."""
    db = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), iter_chunk_size=64)
    for part in PARTS - {"_conn"}:
        assert hasattr(db, part), f"{part} is gone: {CHANGED}"
    assert isinstance(db._thread, threading.Thread), CHANGED
    assert not db._thread.is_alive(), f"the thread starts before it is awaited: {CHANGED}"
    assert db._connection is None, CHANGED
    db._thread.daemon = True
    await db
    assert db._thread.is_alive(), CHANGED
    assert isinstance(db._connection, sqlite3.Connection), CHANGED
    assert db._conn is db._connection, CHANGED
    assert db._running, CHANGED
    await db.close()
    assert db._connection is None or not db._running, CHANGED


async def test_execute_runs_one_function_in_the_thread() -> None:
    """`_execute(function, *args)` runs it there, and gives its result or its error."""
    async with aiosqlite.connect(":memory:") as db:
        where = await db._execute(threading.get_ident)  # type: ignore[no-untyped-call] # untyped there
        assert where == db._thread.ident, CHANGED
        total = await db._execute(lambda a, b: a + b, 1, 2)  # type: ignore[no-untyped-call] # untyped there
        assert total == 3, CHANGED

        def fail(_: object) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await db._execute(fail, db._conn)  # type: ignore[no-untyped-call] # untyped there


async def test_what_has_begun_is_finished_though_its_caller_is_gone() -> None:
    """A function whose caller was cancelled runs to its end, and the next one after it."""
    async with aiosqlite.connect(":memory:") as db:
        begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            go_on.wait(5)
            ended.set()

        waiting = asyncio.ensure_future(db._execute(work))  # type: ignore[no-untyped-call] # untyped there
        while not begun.is_set():
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        assert await db._execute(ended.is_set), CHANGED  # type: ignore[no-untyped-call] # untyped there


async def test_a_connection_can_be_put_in_the_place_of_another() -> None:
    """`_connection` may be set: what runs next runs on the new one."""
    async with aiosqlite.connect(":memory:") as db:
        old = db._connection
        assert old is not None

        def swap(_: object) -> None:
            db._connection = sqlite3.connect(":memory:", check_same_thread=False)

        await db._execute(swap, db._conn)  # type: ignore[no-untyped-call] # untyped there
        assert db._conn is not old, CHANGED
        await db.execute("select 1")
        await db._execute(old.close)  # type: ignore[no-untyped-call] # untyped there


async def test_a_closed_connection_says_so() -> None:
    """`ValueError`, and not a call that waits for ever."""
    db = await aiosqlite.connect(":memory:")
    await db.close()
    with pytest.raises(ValueError, match=r"connection|closed"):
        await db._execute(lambda: 1)  # type: ignore[no-untyped-call] # untyped there


async def test_stop_ends_the_thread_without_waiting() -> None:
    """`stop()` may be called from the loop; the thread closes its connection and ends."""
    db = await aiosqlite.connect(":memory:")
    thread = db._thread
    db.stop()
    async with asyncio.timeout(5):
        while thread.is_alive():
            await asyncio.sleep(0.001)
