"""An engine that has nothing to do does nothing."""

import asyncio
from pathlib import Path

import pytest
from facts import Door, state

from inloop import State, TaskManager
from inloop.testing import FakeClock, running

pytestmark = pytest.mark.anyio


class CountingClock(FakeClock):
    """Counts how often the engine goes to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        self.waits += 1
        await super().wait(wake, seconds)


async def turns_of(clock: CountingClock, tasks: TaskManager) -> int:
    """How many rounds the engine makes while the loop turns five hundred times."""
    await clock.advance(0)
    before = clock.waits
    for _ in range(500):
        await asyncio.sleep(0)
    return clock.waits - before


# A glance of the keeper at the file may wake it now and then.
FEW = 5


async def test_an_idle_engine_sleeps(path: Path) -> None:
    """Without tasks it waits until woken."""
    clock = CountingClock()
    tasks = TaskManager(path)
    async with running(tasks, clock=clock):
        assert await turns_of(clock, tasks) <= FEW


async def test_a_full_engine_sleeps_while_more_is_due(path: Path) -> None:
    """What is due cannot start before a slot is free: there is nothing to do until then."""
    clock, door = CountingClock(), Door()
    tasks = TaskManager(path, concurrency=1)

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with running(tasks, clock=clock):
        due = await work.using(delay=60).enqueue()
        await clock.advance(1)
        await work.enqueue()
        await door.reached()
        queued = await work.enqueue()
        await clock.advance(120)
        assert await turns_of(clock, tasks) <= FEW
        door.open()
        await queued
        await due


async def test_a_paused_queue_does_not_keep_it_awake(path: Path) -> None:
    """What stands in a paused queue is looked at when the queue is resumed."""
    clock = CountingClock()
    tasks = TaskManager(path)

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        await tasks.pause_all()
        handle = await work.using(delay=60).enqueue()
        await work.enqueue()
        await clock.advance(120)
        assert await turns_of(clock, tasks) <= FEW
        assert await state(tasks, handle.id) in (State.QUEUED, State.SCHEDULED)
        await tasks.resume_all()
        await handle


async def test_a_task_nobody_knows_does_not_keep_it_awake(path: Path) -> None:
    """It is looked at now and then, not all the time."""
    clock = CountingClock()
    old, tasks = TaskManager(path), TaskManager(path)

    @old.task
    async def forgotten() -> None: ...

    async with running(old, clock=clock):
        await old.pause_all()
        await forgotten.enqueue()
    async with running(tasks, clock=clock):
        await tasks.resume_all()
        assert await turns_of(clock, tasks) <= FEW
