"""What a task makes of its cancellation, and what becomes of the caller who is cancelled."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from facts import Door, moves, state, turns, until_state

from inloop import (
    Retry,
    State,
    TaskCancelled,
    TaskManager,
    current_task,
    exponential,
)
from inloop._outcome import Request, Stop
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


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
