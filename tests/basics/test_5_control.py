"""A tutorial in tests, part five: pause, resume and cancel, one task or a whole queue."""

import asyncio

import pytest

from inloop import State, TaskCancelled, TaskManager
from inloop.testing import settled

pytestmark = pytest.mark.anyio


async def test_a_running_task_can_be_paused_and_resumed(tasks: TaskManager) -> None:
    """It stands still at its next `await`, without a slot, and goes on from there."""
    go = asyncio.Event()
    steps: list[str] = []

    @tasks.task
    async def work() -> str:
        await go.wait()
        steps.append("went on")
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await handle.pause(reason="the disk is nearly full")
        await settled(tasks)
        go.set()
        await settled(tasks)
        assert (await handle.task()).state is State.PAUSED
        assert steps == []

        await handle.resume()
        assert await handle == "done"


async def test_a_running_task_can_be_cancelled(tasks: TaskManager) -> None:
    """It gets a CancelledError at its `await`, and time to clean up."""
    cleaned_up: list[str] = []

    @tasks.task
    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned_up.append("here")

    async with tasks:
        handle = await work.enqueue()
        assert await handle.cancel(reason="not needed", actor="ana")
        with pytest.raises(TaskCancelled, match="not needed"):
            await handle
        assert cleaned_up == ["here"]


async def test_what_has_ended_can_be_run_again(tasks: TaskManager) -> None:
    """`retry` is a new attempt of the same task; its history is kept."""
    shelves = {"cups": 0}

    @tasks.task
    async def take(thing: str) -> str:
        if shelves[thing] == 0:
            raise LookupError(f"no {thing}")
        return f"one of the {thing}"

    async with tasks:
        handle = await take.enqueue("cups")
        await settled(tasks)
        assert (await handle.task()).state is State.FAILED
        shelves["cups"] = 1
        await handle.retry()
        assert await handle == "one of the cups"
        assert len(await tasks.attempts(handle.id)) == 2


async def test_a_queue_can_be_paused(tasks: TaskManager) -> None:
    """Nothing new starts in it until it is resumed, also over restarts."""

    @tasks.task(queue="mail")
    async def send() -> str:
        return "sent"

    async with tasks:
        await tasks.pause_queue("mail", reason="the server is down", actor="ana")
        handle = await send.enqueue()
        await settled(tasks)
        assert (await handle.task()).state is State.QUEUED

    async with tasks:
        await tasks.resume_queue("mail")
        assert await tasks.handle(handle.id) == "sent"


async def test_many_tasks_are_controlled_by_the_words_of_find(tasks: TaskManager) -> None:
    """`cancel_where`, `pause_where`, `resume_where`, `retry_where`, `delete_where`."""

    @tasks.task(tags=("newsletter",))
    async def send(to: str) -> None: ...

    async with tasks:
        later = send.using(delay=3600)
        await later.enqueue_many([("ana",), ("bob",), ("cy",)])
        assert await tasks.cancel_where(tag="newsletter", text="bob") == 1
        assert await tasks.cancel_where(tag="newsletter") == 2
        assert await tasks.counts() == {"default": {State.CANCELLED: 3}}
