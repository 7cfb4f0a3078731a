"""Cancel means cancel, in every state; and what a task may make of it."""

import asyncio

import pytest
from facts import Door, ThreadDoor, moves, state, turns, until, until_state

from inloop import (
    Retry,
    State,
    TaskCancelled,
    TaskManager,
    checkpoint,
    exponential,
)
from inloop.testing import FakeClock, crash, running, settled

pytestmark = pytest.mark.anyio


# ---- in every state


async def test_a_scheduled_task_never_starts(tasks: TaskManager, clock: FakeClock) -> None:
    """It is cancelled at once, with actor and reason."""
    calls: list[int] = []

    @tasks.task
    async def work() -> None:
        calls.append(1)

    async with running(tasks, clock=clock):
        handle = await work.using(delay=60).enqueue()
        assert await handle.cancel(reason="not needed", actor="ana")
        task = await handle.task()
        assert (task.state, task.actor, task.reason) == (State.CANCELLED, "ana", "not needed")
        await clock.advance(120)
    assert calls == []


async def test_a_queued_task_never_starts(tasks: TaskManager) -> None:
    """The same."""
    calls: list[int] = []

    @tasks.task
    async def work() -> None:
        calls.append(1)

    async with tasks:
        await tasks.pause_all()
        handle = await work.enqueue()
        assert await tasks.cancel(handle.id)
        await tasks.resume_all()
        await settled(tasks)
        with pytest.raises(TaskCancelled):
            await handle
    assert calls == []


async def test_a_running_coroutine_is_asked_to_stop(tasks: TaskManager) -> None:
    """By a CancelledError at its await; ended, it is cancelled, on behalf of who asked."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.cancel(reason="enough", actor="ana")
        with pytest.raises(TaskCancelled, match="enough") as caught:
            await handle
        assert (caught.value.task_id, caught.value.reason) == (handle.id, "enough")
        last = (await tasks.events(handle.id))[-1]
        assert (last.to, last.actor, last.reason) == (State.CANCELLED, "ana", "enough")
        assert last.error is None


async def test_a_running_thread_stops_at_its_checkpoint(tasks: TaskManager) -> None:
    """Until then it is shown as cancelling."""
    door = ThreadDoor()

    @tasks.task
    def work() -> None:
        door.pass_through()
        checkpoint()
        raise AssertionError("it went on")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.cancel()
        assert (await handle.task()).label == "cancelling"
        await until_asked(tasks)
        door.open()
        with pytest.raises(TaskCancelled):
            await handle


async def until_asked(tasks: TaskManager) -> None:
    """The engine has passed the word on to the thread."""
    engine = tasks._engine
    assert engine is not None

    async def is_asked() -> bool:
        return all(run.request is not None for run in engine._running)

    await until(is_asked)


async def test_a_paused_coroutine_is_let_go_to_clean_up(tasks: TaskManager) -> None:
    """It does not have to be resumed first."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            for n in range(3):
                await asyncio.sleep(0)
                steps.append(n)

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        assert await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
        assert steps == [0, 1, 2]
        assert await moves(tasks, handle.id) == ["running", "paused", "cancelled"]


async def test_a_paused_thread_is_let_go(tasks: TaskManager) -> None:
    """From its checkpoint, which raises."""
    door = ThreadDoor()

    @tasks.task
    def work() -> None:
        door.inside.set()
        while True:
            checkpoint()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        assert await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle


async def test_a_task_that_was_paused_before_it_began(tasks: TaskManager) -> None:
    """It is cancelled at once: there is nothing to clean up."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=60).enqueue()
        await handle.pause()
        assert await handle.cancel()
        assert await state(tasks, handle.id) is State.CANCELLED


async def test_a_held_task_is_cancelled_at_once(tasks: TaskManager) -> None:
    """A person's decision, like failing it or trying it again."""

    @tasks.task(on_crash="hold")
    async def work() -> None:
        await asyncio.sleep(3600)

    async with tasks:
        handle = await work.enqueue()
        await until_state(tasks, handle.id, State.RUNNING)
        await crash(tasks)
    async with tasks:
        await until_state(tasks, handle.id, State.HELD)
        assert await tasks.cancel(handle.id)
        assert await state(tasks, handle.id) is State.CANCELLED


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
async def test_a_finished_task_is_not_cancelled(tasks: TaskManager, end: str) -> None:
    """False, and nothing is changed."""

    @tasks.task
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError("bad")

    async with tasks:
        later = work.using(delay=60 if end == "cancelled" else 0)
        handle = await later.enqueue(end == "failed")
        if end == "cancelled":
            await handle.cancel()
        await settled(tasks)
        before = await handle.task()
        assert before.state == end
        assert await handle.cancel() is False
        assert await handle.task() == before


async def test_a_task_between_two_tries_is_not_tried_again(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Its last error is kept in its history."""

    @tasks.task(retry=Retry(5, exponential(base=60)))
    async def work() -> None:
        raise ValueError("bad")

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await settled(tasks)
        assert await handle.cancel()
        await clock.advance(3600)
        assert (await handle.task()).attempt == 1
        (attempt,) = await tasks.attempts(handle.id)
        assert attempt.error is not None


async def test_asked_twice_it_is_asked_once(tasks: TaskManager) -> None:
    """True both times, one event, one CancelledError."""
    door, heard = Door(), []
    cleaned_up = asyncio.Event()

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        except asyncio.CancelledError:
            heard.append(1)
            await cleaned_up.wait()
            raise

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.cancel(reason="first")
        assert await handle.cancel(reason="second")
        await turns()
        assert (await handle.task()).label == "cancelling"
        cleaned_up.set()
        with pytest.raises(TaskCancelled, match="first"):
            await handle
        asked = [event for event in await tasks.events(handle.id) if event.what == "asked"]
        assert [event.reason for event in asked] == ["cancel: first"]
    assert heard == [1]
