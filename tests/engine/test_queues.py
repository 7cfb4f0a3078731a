"""Queues at run time: paused with reason, actor and end; with other slots than the code says."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from facts import Door, state, turns, until

from inloop import Pause, Queue, State, TaskManager
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


# ---- pausing one queue


async def test_a_paused_queue_starts_nothing_new(tasks: TaskManager) -> None:
    """What runs goes on; other queues are not touched."""
    door = Door()

    @tasks.task(queue="mail")
    async def send() -> str:
        await door.pass_through()
        return "sent"

    async with tasks:
        runs = await send.enqueue()
        await door.reached()
        await tasks.pause_queue("mail")
        waits = await send.enqueue()
        other = await send.using(queue="other").enqueue()
        door.open()
        assert await runs == "sent"
        assert await other == "sent"
        await settled(tasks)
        assert await state(tasks, waits.id) is State.QUEUED
        await tasks.resume_queue("mail")
        assert await waits == "sent"


async def test_a_pause_is_shown_with_reason_and_actor(tasks: TaskManager, clock: FakeClock) -> None:
    """Until it is lifted; paused again, the last word counts."""
    async with running(tasks, clock=clock):
        await tasks.pause_queue("mail", reason="first", actor="ana")
        await tasks.pause_queue("mail", reason="server down", actor="bob")
        assert await tasks.pauses() == [Pause("mail", clock.time, None, "bob", "server down")]
        await tasks.resume_queue("mail")
        assert await tasks.pauses() == []
        await tasks.resume_queue("mail")  # lifting what is not paused is no error


async def test_a_pause_may_have_an_end(tasks: TaskManager, clock: FakeClock) -> None:
    """Then it lifts itself, and what waited starts."""

    @tasks.task(queue="mail")
    async def send() -> str:
        return "sent"

    async with running(tasks, clock=clock):
        end = clock.time + timedelta(hours=1)
        await tasks.pause_queue("mail", until=end)
        handle = await send.enqueue()
        await clock.advance(timedelta(minutes=59))
        assert await state(tasks, handle.id) is State.QUEUED
        assert [pause.until for pause in await tasks.pauses()] == [end]
        await clock.advance(timedelta(minutes=1))
        assert await handle == "sent"
        assert await tasks.pauses() == []


async def test_a_pause_survives_a_restart(tasks: TaskManager, clock: FakeClock) -> None:
    """With its end: also if that comes while nobody runs."""

    @tasks.task(queue="mail")
    async def send() -> str:
        return "sent"

    async with running(tasks, clock=clock):
        await tasks.pause_queue("mail", until=clock.time + timedelta(hours=1))
        handle = await send.enqueue()
    async with running(tasks, clock=clock):
        await clock.advance(60)
        assert await state(tasks, handle.id) is State.QUEUED
    clock._now += 3_600_000_000
    async with running(tasks, clock=clock):
        assert await tasks.handle(handle.id) == "sent"


async def test_interrupted_work_waits_in_a_paused_queue_too(path: Path) -> None:
    """It comes first when the queue is resumed."""
    tasks, door = TaskManager(path, grace=0), Door()

    @tasks.task(queue="mail")
    async def send() -> str:
        await door.pass_through()
        return "sent"

    async with tasks:
        handle = await send.enqueue()
        await door.reached()
        await tasks.pause_queue("mail")
    async with tasks:
        await settled(tasks)
        assert await state(tasks, handle.id) is State.QUEUED
        door.open()
        await tasks.resume_queue("mail")
        assert await tasks.handle(handle.id) == "sent"


async def test_a_pause_from_another_manager_holds(path: Path) -> None:
    """Whoever pauses, all processes obey."""
    tasks, other = TaskManager(path), TaskManager(path, work=False)

    @tasks.task
    async def work() -> str:
        return "done"

    async with tasks, other:
        await other.pause_queue("default")
        handle = await work.enqueue()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.QUEUED
        await other.resume_queue("default")
        assert await handle.result(10) == "done"


# ---- pausing everything


async def test_everything_can_be_paused(tasks: TaskManager, clock: FakeClock) -> None:
    """Queues that are paused by name stay so when all is resumed."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        await tasks.pause_queue("mail")
        await tasks.pause_all(until=clock.time + timedelta(days=1), reason="move", actor="ana")
        everything, mail = await tasks.pauses()
        assert (everything.queue, everything.reason, everything.actor) == (None, "move", "ana")
        assert mail.queue == "mail"
        one = await work.enqueue()
        two = await work.using(queue="mail").enqueue()
        await settled(tasks)
        assert await state(tasks, one.id) is State.QUEUED
        await tasks.resume_all()
        assert await one == "done"
        assert await state(tasks, two.id) is State.QUEUED
        await tasks.resume_queue("mail")
        assert await two == "done"


async def test_a_pause_of_everything_may_have_an_end(tasks: TaskManager, clock: FakeClock) -> None:
    """The same as for one queue; what fell due meanwhile starts then."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        await tasks.pause_all(until=clock.time + timedelta(hours=1))
        handle = await work.using(delay=60).enqueue()
        await clock.advance(timedelta(minutes=59))
        assert (await handle.task()).attempt == 0
        await clock.advance(timedelta(minutes=1))
        assert await handle == "done"


# ---- slots at run time


async def running_now(tasks: TaskManager) -> int:
    counts = await tasks.counts()
    return sum(states.get(State.RUNNING, 0) for states in counts.values())


async def test_slots_can_be_changed_at_run_time(tasks: TaskManager) -> None:
    """More start at once; with fewer, what runs goes on."""
    door = Door()

    @tasks.task(queue="mail")
    async def send() -> None:
        await door.pass_through()

    async with tasks:
        await tasks.set_queue("mail", concurrency=1)
        await send.enqueue_many([()] * 10)

        async def is_running(n: int) -> None:
            async def so_many() -> bool:
                return await running_now(tasks) == n

            await until(so_many)
            await turns()
            assert await running_now(tasks) == n

        await is_running(1)
        await tasks.set_queue("mail", concurrency=4)
        await is_running(4)
        await tasks.set_queue("mail", concurrency=2)
        await is_running(4)
        await tasks.set_queue("mail", concurrency=None)
        await is_running(10)
        door.open()


async def test_what_was_set_at_run_time_goes_before_the_code(path: Path) -> None:
    """Over restarts, and in every process; None goes back to what the code says."""
    tasks, door = TaskManager(path, queues={"mail": Queue(concurrency=1)}), Door()

    @tasks.task(queue="mail")
    async def send() -> None:
        await door.pass_through()

    async with tasks:
        await tasks.set_queue("mail", concurrency=0)
        await send.enqueue_many([()] * 3)
        await settled(tasks)
        assert await running_now(tasks) == 0
    async with tasks:
        await settled(tasks)
        assert await running_now(tasks) == 0
        await tasks.set_queue("mail", concurrency=None, reason="all well", actor="ana")

        async def one_runs() -> bool:
            return await running_now(tasks) == 1

        await until(one_runs)
        await asyncio.sleep(0.02)
        assert await running_now(tasks) == 1
        door.open()
        await tasks.drain(10)
