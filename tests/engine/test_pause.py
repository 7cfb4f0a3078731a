"""Pause means pause: what stands still, what runs on, and what happens to its slot."""

import asyncio
import threading

import pytest
from facts import Door, ThreadDoor, moves, state, turns, until_state

from inloop import (
    IllegalMove,
    State,
    TaskCancelled,
    TaskManager,
    checkpoint,
    current_task,
)
from inloop.testing import FakeClock, crash, running, settled

pytestmark = pytest.mark.anyio


# ---- in every state


async def test_a_scheduled_task_goes_back_to_scheduled(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Due while it is paused, it does not start; resumed, it does."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.using(delay=60).enqueue()
        assert await handle.pause(reason="not yet", actor="ana")
        task = await handle.task()
        assert (task.state, task.paused_from) == (State.PAUSED, State.SCHEDULED)
        assert (task.actor, task.reason) == ("ana", "not yet")
        await clock.advance(120)
        assert await state(tasks, handle.id) is State.PAUSED
        assert await handle.resume()
        assert await handle == "done"


async def test_a_queued_task_goes_back_to_queued(tasks: TaskManager) -> None:
    """And starts when the queue lets it."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with tasks:
        await tasks.pause_all()
        handle = await work.enqueue()
        await handle.pause()
        await tasks.resume_all()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.PAUSED
        await handle.resume()
        assert await handle == "done"
        expected = ["queued", "paused", "queued", "running", "succeeded"]
        assert await moves(tasks, handle.id) == expected


async def test_a_running_coroutine_stands_still(tasks: TaskManager) -> None:
    """At its present await: what it waited for has come, and it does not go on."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> int:
        await door.pass_through()
        steps.append("on")
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.pause(reason="wait", actor="ana")
        await until_state(tasks, handle.id, State.PAUSED)
        task = await handle.task()
        assert (task.actor, task.reason, task.paused_from) == ("ana", "wait", State.RUNNING)
        door.open()
        await turns()
        assert steps == []
        assert await handle.resume()
        assert await handle == 1  # the same attempt: it went on
        assert await moves(tasks, handle.id) == ["running", "paused", "running", "succeeded"]


async def test_a_running_thread_stands_still_at_its_checkpoint(tasks: TaskManager) -> None:
    """Until it comes there it is shown as pausing."""
    door, rounds, enough = ThreadDoor(), [0], threading.Event()

    @tasks.task
    def work() -> int:
        door.pass_through()
        while not enough.is_set():
            rounds[0] += 1
            checkpoint()
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        assert (await handle.task()).label == "pausing"
        door.open()
        await until_state(tasks, handle.id, State.PAUSED)
        before = rounds[0]
        await asyncio.sleep(0.02)
        assert rounds[0] == before
        enough.set()
        await handle.resume()
        assert await handle == 1


async def test_a_thread_without_checkpoint_goes_on(tasks: TaskManager) -> None:
    """It ends as if nobody had asked."""
    door = ThreadDoor()

    @tasks.task
    def work() -> str:
        door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        door.open()
        assert await handle == "done"


@pytest.mark.parametrize("end", ["succeeded", "cancelled"])
async def test_a_finished_task_is_not_paused(tasks: TaskManager, end: str) -> None:
    """False, for pause and resume alike."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=60 if end == "cancelled" else 0).enqueue()
        if end == "cancelled":
            await handle.cancel()
        await settled(tasks)
        assert await handle.pause() is False
        assert await handle.resume() is False
        assert await state(tasks, handle.id) == end


async def test_a_held_task_is_not_paused(tasks: TaskManager) -> None:
    """IllegalMove, and what would do instead."""

    @tasks.task(on_crash="hold")
    async def work() -> None:
        await asyncio.sleep(3600)

    async with tasks:
        handle = await work.enqueue()
        await until_state(tasks, handle.id, State.RUNNING)
        await crash(tasks)
    async with tasks:
        await until_state(tasks, handle.id, State.HELD)
        with pytest.raises(IllegalMove, match="retry it or fail it"):
            await tasks.pause(handle.id)
        with pytest.raises(IllegalMove, match="retry it or fail it"):
            await tasks.resume(handle.id)


async def test_a_task_that_is_being_cancelled_is_not_paused(tasks: TaskManager) -> None:
    """IllegalMove: it is on its way out."""
    door, cleaned_up = Door(), asyncio.Event()

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            await cleaned_up.wait()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(IllegalMove, match="is being cancelled"):
            await handle.pause()
        cleaned_up.set()
        with pytest.raises(TaskCancelled):
            await handle


async def test_pausing_and_resuming_twice_is_pausing_and_resuming(tasks: TaskManager) -> None:
    """Asked again, the answer is True and nothing more happens."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.resume()  # it is not paused at all
        for _ in range(2):
            assert await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        assert await handle.pause()
        for _ in range(2):
            assert await handle.resume()
        await until_state(tasks, handle.id, State.RUNNING)
        door.open()
        await handle
        assert await moves(tasks, handle.id) == ["running", "paused", "running", "succeeded"]


async def test_the_last_word_counts(tasks: TaskManager) -> None:
    """Paused and resumed, or resumed and paused, faster than it can obey."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        for _ in range(10):
            await asyncio.gather(handle.pause(), handle.resume(), handle.pause())
        await until_state(tasks, handle.id, State.PAUSED)
        await settled(tasks)
        assert await state(tasks, handle.id) is State.PAUSED
        for _ in range(10):
            await asyncio.gather(handle.resume(), handle.pause(), handle.resume())
        door.open()
        assert await handle.result(10) == "done"


async def test_it_can_be_paused_and_resumed_many_times(tasks: TaskManager) -> None:
    """It goes on exactly where it stood, each time."""
    steps: list[int] = []
    doors = [Door() for _ in range(5)]

    @tasks.task
    async def work() -> list[int]:
        for n, door in enumerate(doors):
            await door.pass_through()
            steps.append(n)
        return steps

    async with tasks:
        handle = await work.enqueue()
        for n, door in enumerate(doors):
            await door.reached()
            await handle.pause()
            await until_state(tasks, handle.id, State.PAUSED)
            door.open()
            await turns()
            assert len(steps) == n
            await handle.resume()
        assert await handle == [0, 1, 2, 3, 4]
