"""Cancel means cancel, in every state; and what a task may make of it."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from facts import Door, ThreadDoor, moves, state, turns, until, until_state

from inloop import (
    Retry,
    State,
    TaskCancelled,
    TaskManager,
    checkpoint,
    current_task,
    exponential,
)
from inloop._outcome import Request, Stop
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


# ---- what the code makes of it


async def test_clean_up_completes(tasks: TaskManager) -> None:
    """One single `cancel()`: every await in `finally` runs to its end, also a task group's."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            for n in range(5):
                await asyncio.sleep(0.001)
                steps.append(n)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.001))
            async with asyncio.timeout(5):
                await asyncio.sleep(0.001)
            steps.append(5)

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
    assert steps == [0, 1, 2, 3, 4, 5]


async def test_one_that_returns_all_the_same_has_succeeded(tasks: TaskManager) -> None:
    """With the event *cancellation ignored*."""
    door = Door()

    @tasks.task
    async def work() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.cancel()
        assert await handle == "done"
        last = (await tasks.events(handle.id))[-1]
        assert (last.to, last.reason) == (State.SUCCEEDED, "cancellation ignored")


async def test_an_error_in_clean_up_is_kept(tasks: TaskManager) -> None:
    """The task is cancelled, and its event tells the error; it is not retried."""
    door = Door()

    @tasks.task(retry=Retry(5, exponential(base=0)))
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            raise ValueError("in clean-up")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
        last = (await tasks.events(handle.id))[-1]
        assert last.to is State.CANCELLED
        assert last.error is not None
        assert last.error.message == "in clean-up"
        assert (await handle.task()).attempt == 1


async def test_it_is_repeated_after_five_seconds(tasks: TaskManager, clock: FakeClock) -> None:
    """Not sooner, so that clean-up has its time; then again and again."""
    door = Door()
    heard: list[float] = []

    @tasks.task
    async def stubborn() -> None:
        door.inside.set()
        while len(heard) < 3:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard.append(clock.monotonic())
        raise asyncio.CancelledError

    async with running(tasks, clock=clock):
        handle = await stubborn.enqueue()
        await door.reached()
        await handle.cancel()
        await clock.advance(4.9)
        assert heard == [0]
        await clock.advance(10)
        with pytest.raises(TaskCancelled):
            await handle
    assert heard == [0, 5, 10]


async def test_a_cancellation_may_be_shielded(tasks: TaskManager) -> None:
    """The code's own shield works as anywhere in asyncio."""
    door, heard, saved = Door(), asyncio.Event(), []

    async def save() -> None:
        await heard.wait()
        saved.append("saved")

    @tasks.task
    async def work() -> None:
        saving = asyncio.ensure_future(save())
        door.inside.set()
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            heard.set()
            await saving
            raise

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
    assert saved == ["saved"]


async def test_the_gravest_reason_counts(tasks: TaskManager, clock: FakeClock) -> None:
    """Cancelled while it cleans up after its timeout, it is cancelled, not failed."""
    door, cleaned_up = Door(), asyncio.Event()

    @tasks.task(timeout=30, retry=Retry(5))
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            await cleaned_up.wait()

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await clock.advance(31)
        await handle.cancel()
        await turns()
        cleaned_up.set()
        with pytest.raises(TaskCancelled):
            await handle


# ---- the caller


async def test_cancelling_who_waits_does_not_cancel_the_task(tasks: TaskManager) -> None:
    """Nor does a timeout of the wait."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        waiting = asyncio.ensure_future(handle.result())
        await turns()
        waiting.cancel()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.result(), 0.01)
        assert await state(tasks, handle.id) is State.RUNNING
        door.open()
        assert await handle == "done"


async def test_a_cancelled_enqueue_may_have_enqueued(tasks: TaskManager) -> None:
    """Its task exists or not, whole; if it does, it runs: nothing is left half-way."""
    ran: list[int] = []

    @tasks.task
    async def work(n: int) -> None:
        ran.append(n)

    async with tasks:
        calls = [asyncio.ensure_future(work.enqueue(n)) for n in range(40)]
        for n, call in enumerate(calls):
            for _ in range(n % 4):
                await asyncio.sleep(0)
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await tasks.drain(10)
        stored = {task.arguments["n"] for task in await tasks.find(limit=1000)}
        assert len(ran) == len(stored)
        assert set(ran) == stored
        assert len(ran) > 0
        # Every slot that was kept for one of them has been given back.
        assert await tasks.counts() == {"default": {State.SUCCEEDED: len(ran)}}


async def test_slots_of_cancelled_enqueues_are_given_back(path: Path) -> None:
    """The next tasks have all of them."""
    tasks, door = TaskManager(path, concurrency=2), Door()

    @tasks.task
    async def work() -> int:
        return current_task().attempt

    @tasks.task
    async def wait() -> None:
        await door.pass_through()

    async with tasks:
        for _ in range(10):
            call = asyncio.ensure_future(work.enqueue())
            await asyncio.sleep(0)
            call.cancel()
        await tasks.drain(10)
        handles = [await wait.enqueue() for _ in range(2)]
        for handle in handles:
            await until_state(tasks, handle.id, State.RUNNING)
        door.open()
        for handle in handles:
            await handle


@pytest.mark.parametrize("stop", list(Stop))
async def test_asked_before_its_first_step(tasks: TaskManager, stop: Stop) -> None:
    """It does not begin at all, and ends as it was asked to; its slot is free again."""
    ran: list[int] = []

    @tasks.task
    async def work() -> None:
        ran.append(current_task().attempt)

    async with tasks:
        engine = tasks._engine
        assert engine is not None
        call = asyncio.ensure_future(work.enqueue())
        while not engine._running.ids:
            await asyncio.sleep(0)
        (run,) = engine._running
        run.stop(Request(stop, reason="too early"))
        assert ran == []
        handle = await call
        await settled(tasks)
        expected = {
            Stop.CANCEL: ["running", "cancelled"],
            Stop.TIMEOUT: ["running", "failed"],
            Stop.INTERRUPT: ["running", "queued", "running", "succeeded"],
        }
        assert await moves(tasks, handle.id) == expected[stop]
        assert ran == ([2] if stop is Stop.INTERRUPT else [])
