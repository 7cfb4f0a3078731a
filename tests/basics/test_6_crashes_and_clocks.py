"""A tutorial in tests, part six: a task outlives its process, and how to test your own tasks."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from inloop import State, TaskManager, current_task
from inloop.testing import FakeClock, crash, running, settled

pytestmark = pytest.mark.anyio


async def test_a_task_survives_a_crash(tasks: TaskManager) -> None:
    """The process dies in the middle; at the next start the task runs again, from the top."""
    go = asyncio.Event()

    @tasks.task
    async def work() -> tuple[int, bool]:
        task = current_task()
        if task.attempt == 1:
            await go.wait()
        return task.attempt, task.resumed

    async with tasks:
        handle = await work.enqueue()
        await crash(tasks)  # as `kill -9` would

    async with tasks:
        assert await tasks.handle(handle.id, returns=work) == (2, True)


async def test_what_became_of_it_is_told(tasks: TaskManager) -> None:
    """After a crash a report says which tasks were running, and what was done with each."""

    @tasks.task(on_crash="hold")
    async def transfer(amount: int) -> None:
        await asyncio.sleep(3600)

    async with tasks:
        handle = await transfer.enqueue(100)
        await crash(tasks)

    async with tasks:
        async with tasks.subscribe() as events:
            if not await tasks.recoveries():
                await anext(aiter(events))
        (report,) = await tasks.recoveries()
        (told,) = report.tasks
        assert told.task_id == handle.id
        assert told.to is State.HELD  # for a person to decide: retry it, or fail it
        await tasks.fail(handle.id, reason="the money had gone out", actor="ana")
        assert (await handle.task()).state is State.FAILED


async def test_a_shutdown_interrupts_and_loses_nothing(path: Path) -> None:
    """Running tasks get `grace` seconds; then they go back to the queue, and no failure counts."""
    tasks = TaskManager(path, grace=0)

    @tasks.task
    async def work() -> int:
        if current_task().attempt == 1:
            await asyncio.sleep(3600)
        return current_task().failures

    async with tasks:
        handle = await work.enqueue()

    async with tasks:
        assert await tasks.handle(handle.id, returns=work) == 0


async def test_a_month_passes_at_once(tasks: TaskManager, clock: FakeClock) -> None:
    """With a FakeClock your own tests wait for nothing; everything else is real."""
    sent: list[int] = []

    @tasks.task
    async def remind(day: int) -> None:
        sent.append(day)

    async with running(tasks, clock=clock):
        for day in (1, 7, 30):
            await remind.using(delay=timedelta(days=day)).enqueue(day)
        await clock.advance(timedelta(days=10))
        assert sent == [1, 7]
        await clock.advance(timedelta(days=20))
        assert sent == [1, 7, 30]


async def test_settled_waits_until_all_is_done(tasks: TaskManager) -> None:
    """And not a moment longer: no sleeping in tests."""
    done: list[int] = []

    @tasks.task
    async def work(n: int) -> None:
        done.append(n)

    async with running(tasks):
        await work.enqueue_many([(n,) for n in range(10)])
        await settled(tasks)
        assert sorted(done) == list(range(10))
