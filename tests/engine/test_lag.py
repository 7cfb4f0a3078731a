"""A guest in the loop: while it lags, starts are held back; and nothing of inloop blocks it."""

import asyncio
import time
from pathlib import Path

import pytest
from facts import Door, state, until

from inloop import State, TaskCancelled, TaskManager
from inloop._engine import Engine

pytestmark = pytest.mark.anyio


def block(seconds: float) -> None:
    """Keep the event loop's thread busy, as bad code does."""
    until_then = time.perf_counter() + seconds
    while time.perf_counter() < until_then:
        pass


async def make_lag(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block the loop; what is measured then stands until the meter is stopped."""
    await asyncio.sleep(0)
    monkeypatch.setattr("inloop._watch.EVERY", 3600)
    block(0.3)
    while engine.lag.seconds < 0.1:
        await asyncio.sleep(0)


async def test_while_the_loop_lags_starts_are_held_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs goes on; the others wait until the loop is itself again."""
    tasks, door = TaskManager(path, max_lag=0.05), Door()

    @tasks.task
    async def work(n: int) -> int:
        await door.pass_through()
        return n

    async with tasks:
        first = await work.enqueue(0)
        await door.reached()
        engine = tasks._engine
        assert engine is not None
        await make_lag(engine, monkeypatch)
        alone = await work.enqueue(1)
        many = await work.enqueue_many([(2,), (3,)])
        await asyncio.sleep(0.2)
        assert await running_now(tasks) == 1
        assert await state(tasks, alone.id) is State.QUEUED
        engine.lag.stop()  # it lags no more

        async def all_run() -> bool:
            return await running_now(tasks) == 4

        await until(all_run)
        door.open()
        assert [await handle.result(10) for handle in (first, alone, *many)] == [0, 1, 2, 3]


async def running_now(tasks: TaskManager) -> int:
    return (await tasks.counts())["default"].get(State.RUNNING, 0)


async def test_however_late_one_task_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time the work goes on: it must not starve on a host that is always busy."""
    tasks, most, now = TaskManager(path, max_lag=0.05), 0, 0

    @tasks.task
    async def work(n: int) -> int:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return n

    async with tasks:
        engine = tasks._engine
        assert engine is not None
        await make_lag(engine, monkeypatch)
        handles = [await work.enqueue(n) for n in range(2)]
        handles += await work.enqueue_many([(n,) for n in range(2, 5)])
        assert [await handle.result(10) for handle in handles] == list(range(5))
        assert most == 1


async def test_with_a_great_max_lag_nothing_is_held_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever prefers throughput may say so."""
    tasks, door = TaskManager(path, max_lag=3600), Door()

    @tasks.task
    async def work(n: int) -> None:
        await door.pass_through()

    async with tasks:
        engine = tasks._engine
        assert engine is not None
        await make_lag(engine, monkeypatch)
        await work.enqueue_many([(n,) for n in range(5)])

        async def all_run() -> bool:
            return await running_now(tasks) == 5

        await until(all_run)
        door.open()


async def test_a_task_that_blocks_the_loop_loses_nothing(tasks: TaskManager) -> None:
    """The others wait and come after it."""

    @tasks.task
    async def blocks() -> str:
        block(0.3)
        return "blocked"

    @tasks.task
    async def work(n: int) -> int:
        return n

    async with tasks:
        bad = await blocks.enqueue()
        handles = [await work.enqueue(n) for n in range(5)]
        assert await bad.result(10) == "blocked"
        assert [await handle.result(10) for handle in handles] == list(range(5))


async def test_a_large_value_does_not_block_the_loop(tasks: TaskManager) -> None:
    """A megabyte of arguments and result is encoded and decoded in threads."""
    numbers = list(range(150_000))

    @tasks.task
    async def echo(numbers: list[int]) -> list[int]:
        return numbers

    async with tasks:
        worst, done = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal worst
            while not done.is_set():
                began = time.perf_counter()
                await asyncio.sleep(0)
                worst = max(worst, time.perf_counter() - began)

        watching = asyncio.ensure_future(watch())
        assert await (await echo.enqueue(numbers)) == numbers
        done.set()
        await watching
        # To encode it takes some 30 ms in one piece, and far more in debug mode; the GIL is shared.
        assert worst < 0.5


async def test_while_it_lags_it_still_ends_what_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes are stored, and control is obeyed."""
    tasks, door, other = TaskManager(path, max_lag=0.05), Door(), Door()

    @tasks.task
    async def work(name: str) -> str:
        await (door if name == "first" else other).pass_through()
        return name

    async with tasks:
        first, second = await work.enqueue("first"), await work.enqueue("second")
        await door.reached()
        await other.reached()
        engine = tasks._engine
        assert engine is not None
        await make_lag(engine, monkeypatch)
        door.open()
        assert await first.result(10) == "first"
        await second.cancel()
        with pytest.raises(TaskCancelled):
            await second.result(10)
