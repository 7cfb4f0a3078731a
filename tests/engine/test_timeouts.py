"""A timeout counts the time that an attempt runs, and only while it holds a slot."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from facts import Door, ThreadDoor, state, turns, until

from inloop import Retry, State, TaskFailed, TaskManager, checkpoint, current_task, exponential
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


async def test_a_coroutine_is_ended_at_its_timeout(tasks: TaskManager, clock: FakeClock) -> None:
    """It has failed, with a TimeoutError that says how long it was given."""
    door = Door()

    @tasks.task(timeout=30)
    async def work() -> None:
        await door.pass_through()

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await door.reached()
        await clock.advance(29.9)
        assert await state(tasks, handle.id) is State.RUNNING
        await clock.advance(0.2)
        with pytest.raises(TaskFailed, match="longer than its timeout of 30 s") as caught:
            await handle
        assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_timeout_is_per_attempt_and_retried(tasks: TaskManager, clock: FakeClock) -> None:
    """Each attempt has the whole of it; `on=(TimeoutError,)` fits it."""
    door = Door()

    @tasks.task(timeout=30, retry=Retry(3, exponential(base=10, jitter=0), on=(TimeoutError,)))
    async def work() -> int:
        if current_task().attempt < 3:
            await door.pass_through()
        return current_task().attempt

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await clock.advance(30 + 10 + 30 + 20)
        assert await handle == 3


async def test_its_clean_up_completes(tasks: TaskManager, clock: FakeClock) -> None:
    """A timeout reaches the code as one cancellation, and `finally` may await."""
    steps: list[str] = []

    @tasks.task(timeout=30)
    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            for n in range(3):
                await asyncio.sleep(0)
                steps.append(f"clean-up {n}")

    async with running(tasks, clock=clock):
        await work.enqueue()
        await clock.advance(31)
    assert steps == ["clean-up 0", "clean-up 1", "clean-up 2"]


async def test_an_error_in_clean_up_does_not_hide_the_timeout(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """It is in the traceback."""

    @tasks.task(timeout=30)
    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("in clean-up")

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await clock.advance(31)
        task = await handle.task()
        assert task.error is not None
        assert task.error.type == "TimeoutError"
        assert "in clean-up" in task.error.traceback


async def test_one_that_returns_all_the_same_has_succeeded(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Its work is done; the reason says that it was late."""

    @tasks.task(timeout=30)
    async def work() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await clock.advance(31)
        assert await handle == "done"
        assert (await handle.task()).reason == "finished after its timeout"


async def test_paused_time_does_not_count(tasks: TaskManager, clock: FakeClock) -> None:
    """The timeout stands still with the task, and goes on with it."""
    door = Door()

    @tasks.task(timeout=30)
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await door.reached()
        await clock.advance(20)
        await handle.pause()
        await clock.advance(timedelta(days=3))
        assert await state(tasks, handle.id) is State.PAUSED
        await handle.resume()
        await clock.advance(9)
        assert await state(tasks, handle.id) is State.RUNNING
        await clock.advance(2)
        with pytest.raises(TaskFailed, match="timeout"):
            await handle


async def test_the_deadline_moves_with_a_pause(tasks: TaskManager, clock: FakeClock) -> None:
    """`current_task().deadline` is when the attempt will be stopped, as it stands now."""
    door = Door()

    @tasks.task(timeout=30)
    async def work() -> float:
        await door.pass_through()
        deadline = current_task().deadline
        assert deadline is not None
        return (deadline - clock.time).total_seconds()

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await door.reached()
        await clock.advance(20)
        await handle.pause()
        await clock.advance(1000)
        await handle.resume()
        await settled_in_running(tasks, handle.id)
        door.open()
        assert await handle == 10


async def settled_in_running(tasks: TaskManager, task_id: str) -> None:
    async def runs() -> bool:
        return await state(tasks, task_id) is State.RUNNING

    await until(runs)
    await turns()


async def test_time_in_the_queue_does_not_count(tasks: TaskManager, clock: FakeClock) -> None:
    """It begins when the attempt begins."""

    @tasks.task(timeout=30)
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        await tasks.pause_all()
        handle = await work.enqueue()
        await clock.advance(3600)
        await tasks.resume_all()
        assert await handle == "done"


async def test_a_thread_stops_at_its_checkpoint(tasks: TaskManager, clock: FakeClock) -> None:
    """A plain function cannot be ended from outside: it notices at `checkpoint()`."""
    door = ThreadDoor()

    @tasks.task(timeout=30)
    def work() -> None:
        door.pass_through()
        checkpoint()
        raise AssertionError("it went on")

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await door.reached()
        # Not `advance`, which would wait for the thread: only the time is to pass.
        clock._now += 31_000_000
        clock._fire()
        door.open()
        with pytest.raises(TaskFailed, match="timeout of 30 s"):
            await handle


async def test_a_thread_past_its_timeout_is_shown_as_overrun(tasks: TaskManager) -> None:
    """It keeps its slot until it ends, and its result counts."""
    door = ThreadDoor()

    @tasks.task(timeout=0.05)
    def work() -> str:
        door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()

        async def is_overrun() -> bool:
            return (await handle.task()).label == "overrun"

        await until(is_overrun)
        assert await state(tasks, handle.id) is State.RUNNING
        door.open()
        assert await handle == "done"
        task = await handle.task()
        assert (task.reason, task.label) == ("finished after its timeout", "succeeded")


async def test_no_timeout_is_no_limit(tasks: TaskManager, clock: FakeClock) -> None:
    """A task without one runs as long as it takes."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await door.reached()
        await clock.advance(timedelta(days=30))
        assert await state(tasks, handle.id) is State.RUNNING
        door.open()
        assert await handle == "done"
        await settled(tasks)
