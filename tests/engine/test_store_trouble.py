"""The store fails while tasks run: nothing that was acknowledged is lost."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from facts import Door, ThreadDoor, moves, state, until, until_mine, until_state

from inloop import Retry, State, StoreBusy, StoreError, TaskManager, current_task, exponential, log
from inloop.testing import settled

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds is the promise; a tenth of one is enough to see it."""
    monkeypatch.setattr("inloop._store.writer.PATIENCE", 0.1)


@contextmanager
def somebody_writes(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection holds a write transaction open."""
    cx = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        cx.execute("begin immediate")
        yield cx
        if cx.in_transaction:
            cx.execute("rollback")
    finally:
        cx.close()


async def until_in_trouble(tasks: TaskManager) -> None:
    """The engine has noticed."""

    async def has_noticed() -> bool:
        return tasks._engine is not None and tasks._engine.trouble is not None

    await until(has_noticed)


async def test_an_outcome_is_kept_and_written_when_the_store_is_back(
    tasks: TaskManager, path: Path
) -> None:
    """The task has run; it is not run again."""
    door, ran = Door(), []

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        ran.append(current_task().attempt)
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        with somebody_writes(path):
            door.open()
            await until_in_trouble(tasks)
            assert await state(tasks, handle.id) is State.RUNNING
        assert await handle.result(10) == "done"
        assert await moves(tasks, handle.id) == ["running", "succeeded"]
    assert ran == [1]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_failure_is_kept(tasks: TaskManager, path: Path, attempts: int) -> None:
    """Also one that is tried again."""
    door = Door()

    @tasks.task(retry=Retry(attempts, exponential(base=0)))
    async def work() -> None:
        await door.pass_through()
        if current_task().attempt == 1:
            raise ValueError("bad")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        with somebody_writes(path):
            door.open()
            await until_in_trouble(tasks)
        await until_state(tasks, handle.id, State.FAILED if attempts == 1 else State.SUCCEEDED)
        assert (await handle.task()).failures == 1


async def test_a_cancellation_is_kept(tasks: TaskManager, path: Path) -> None:
    """The code has ended as it was asked to."""
    door, heard, clean = Door(), asyncio.Event(), asyncio.Event()

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            heard.set()
            await clean.wait()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        await asyncio.wait_for(heard.wait(), 10)
        with somebody_writes(path):
            clean.set()
            await until_in_trouble(tasks)
        await until_state(tasks, handle.id, State.CANCELLED)


async def test_the_end_of_a_plain_function_is_kept(tasks: TaskManager, path: Path) -> None:
    """It comes from its thread."""
    door = ThreadDoor()

    @tasks.task
    def work() -> str:
        door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        with somebody_writes(path):
            door.open()
            await until_in_trouble(tasks)
        assert await handle.result(10) == "done"


async def test_nothing_is_claimed_meanwhile(tasks: TaskManager, path: Path) -> None:
    """Queued tasks wait; they start once the outcomes are stored."""
    door, order = Door(), []

    @tasks.task
    async def work(name: str) -> str:
        if name == "first":
            await door.pass_through()
        order.append(name)
        return name

    async with tasks:
        first = await work.enqueue("first")
        await door.reached()
        await tasks.pause_all()
        second = await work.enqueue("second")
        with somebody_writes(path) as cx:
            door.open()
            await until_in_trouble(tasks)
            cx.execute("delete from inloop_pause")
            cx.execute("commit")
            cx.execute("begin immediate")
            await asyncio.sleep(0.3)
            assert order == ["first"]
        assert await first.result(10) == "first"
        assert await second.result(10) == "second"


async def test_the_caller_gets_the_error(tasks: TaskManager, path: Path) -> None:
    """StoreBusy at the call; nothing was stored, and later calls work."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with tasks:
        with somebody_writes(path):
            with pytest.raises(StoreBusy, match="has held a write transaction open"):
                await work.enqueue()
            with pytest.raises(StoreBusy):
                await work.enqueue_many([(), ()])
            with pytest.raises(StoreBusy):
                await tasks.pause_all()
            assert await tasks.counts() == {}  # reading needs no writer
        assert await (await work.enqueue()).result(10) == "done"
        assert await tasks.counts() == {"default": {State.SUCCEEDED: 1}}


async def test_slots_are_given_back_by_calls_that_failed(path: Path) -> None:
    """A call that could not be stored leaves no slot taken."""
    tasks, door = TaskManager(path, concurrency=2), Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        with somebody_writes(path):
            failed = await asyncio.gather(
                *(work.enqueue() for _ in range(6)), return_exceptions=True
            )
        assert all(isinstance(one, StoreError) for one in failed)
        handles = [await work.enqueue() for _ in range(2)]
        await until_mine(tasks, *(handle.id for handle in handles))
        door.open()
        for handle in handles:
            await handle.result(10)


async def test_it_is_logged_once_and_shown(
    tasks: TaskManager, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That the store does not answer, and that it answers again; not at every try."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    with caplog.at_level(logging.WARNING, "inloop"):
        async with tasks:
            handle = await work.enqueue()
            await door.reached()
            with somebody_writes(path):
                door.open()
                await until_in_trouble(tasks)
                await asyncio.sleep(1.2)
            await handle.result(10)

            async def is_well() -> bool:
                return tasks._engine is not None and tasks._engine.trouble is None

            await until(is_well)
    told = [record.getMessage() for record in caplog.records if record.name == "inloop"]
    away = [line for line in told if "does not answer" in line]
    assert 1 <= len(away) <= 2
    assert sum("answers again" in line for line in told) == 1


async def test_log_lines_are_kept_as_well(tasks: TaskManager, path: Path) -> None:
    """What the task logged meanwhile comes with its outcome, each line once."""
    door = Door()

    @tasks.task
    async def work() -> None:
        log.info("before")
        await door.pass_through()
        log.info("during")
        await asyncio.sleep(0.6)
        log.info("after")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        with somebody_writes(path):
            door.open()
            await asyncio.sleep(1.0)
        await handle.result(10)
        assert [line.text for line in await tasks.logs(handle.id)] == ["before", "during", "after"]


async def test_ended_before_the_store_was_back(path: Path) -> None:
    """Closed meanwhile, the task comes back as interrupted: run twice, never lost."""
    tasks, door = TaskManager(path, grace=0), Door()

    @tasks.task
    async def work() -> int:
        await door.pass_through()
        return current_task().attempt

    with_lock: sqlite3.Connection
    with somebody_writes_later(path) as with_lock:
        async with tasks:
            handle = await work.enqueue()
            await door.reached()
            with_lock.execute("begin immediate")
            door.open()
            await until_in_trouble(tasks)
        with_lock.execute("rollback")
    async with tasks:
        assert await tasks.handle(handle.id, returns=work).result(10) == 2
        task = await tasks.get(handle.id)
        assert task.failures == 0


@contextmanager
def somebody_writes_later(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that is going to write."""
    cx = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        yield cx
    finally:
        cx.close()


async def test_the_same_owner_goes_on_afterwards(tasks: TaskManager, path: Path) -> None:
    """What ran meanwhile is still its own, and it can still be controlled."""
    door, other = Door(), Door()

    @tasks.task
    async def work(name: str) -> str:
        await (door if name == "ends" else other).pass_through()
        return name

    async with tasks:
        ends, goes_on = await work.enqueue("ends"), await work.enqueue("goes on")
        await door.reached()
        await other.reached()
        (before,) = await tasks.owners()
        with somebody_writes(path):
            door.open()
            await until_in_trouble(tasks)
        assert await ends.result(10) == "ends"
        (after,) = await tasks.owners()
        assert after.id == before.id
        assert await goes_on.pause()
        await until_state(tasks, goes_on.id, State.PAUSED)
        await goes_on.resume()
        other.open()
        assert await goes_on.result(10) == "goes on"
        await settled(tasks)


async def test_a_pause_that_could_not_be_stored_is_stored_later(
    tasks: TaskManager, path: Path
) -> None:
    """The word was acknowledged; the task is held meanwhile, and is paused in the end."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.pause()
        with somebody_writes(path):
            await asyncio.sleep(0.3)
        await until_state(tasks, handle.id, State.PAUSED)
        door.open()
        await handle.resume()
        assert await handle.result(10) == "done"
