"""Tasks that do odd things: threads, forks, progress and times that cannot be."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from facts import state, turns

from inloop import (
    Retry,
    Snooze,
    State,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    current_task,
    exponential,
    log,
    progress,
    track,
)
from inloop.testing import settled

pytestmark = pytest.mark.anyio


@pytest.fixture
async def opened(tasks: TaskManager) -> AsyncIterator[TaskManager]:
    """An open manager that at the end still works, with nothing left running."""
    async with tasks:
        yield tasks

        @tasks.task
        async def still_works() -> int:
            progress(1)
            log.info("well")
            await asyncio.sleep(0)
            return 1

        handle = await still_works.enqueue()
        assert await handle.result(10) == 1
        assert [line.text for line in await tasks.logs(handle.id)] == ["well"]
        await settled(tasks)
        assert State.RUNNING not in (await tasks.counts())["default"]


# ---- threads, processes, and others of its own


async def test_a_task_that_spawns_threads(opened: TaskManager) -> None:
    """They are its own business: the task ends when its function does."""
    go = threading.Event()

    @opened.task
    def spawn() -> str:
        threading.Thread(target=go.wait, args=(10,), name="spawned").start()
        return "done"

    assert await (await spawn.enqueue()).result(10) == "done"
    assert any(thread.name == "spawned" for thread in threading.enumerate())
    go.set()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_task_that_forks(opened: TaskManager, in_thread: bool) -> None:
    """The child may end without a trace; nothing of the task is done twice."""

    def fork() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    @opened.task
    async def coroutine() -> int:
        return fork()

    @opened.task
    def plain() -> int:
        return fork()

    handle = await (plain if in_thread else coroutine).enqueue()
    assert await handle.result(10) == 0
    assert (await handle.task()).attempt == 1
    assert len(await opened.owners()) == 1
    assert await opened.recoveries() == []


async def test_a_task_that_runs_a_subprocess(opened: TaskManager) -> None:
    """Either way; its output comes back."""

    @opened.task
    async def coroutine() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('hello')", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    @opened.task
    def plain() -> str:
        out = subprocess.check_output([sys.executable, "-c", "print('hello')"])
        return out.decode().strip()

    for function in (coroutine, plain):
        assert await (await function.enqueue()).result(15) == "hello"


async def test_a_task_that_leaves_asyncio_tasks_behind(opened: TaskManager) -> None:
    """They run on after it, and what they log is no longer its own when it has ended."""
    done: list[str] = []

    @opened.task
    async def leave() -> str:
        async def later() -> None:
            await asyncio.sleep(0.02)
            log.info("late")
            done.append(current_task().id)

        background.append(asyncio.ensure_future(later()))
        return "done"

    background: list[asyncio.Future[None]] = []
    handle = await leave.enqueue()
    assert await handle.result(10) == "done"
    await asyncio.gather(*background)
    assert done == [handle.id]


async def test_a_plain_function_with_a_loop_of_its_own(opened: TaskManager) -> None:
    """`asyncio.run` in a thread is allowed."""

    @opened.task
    def own_loop() -> int:
        async def inner() -> int:
            await asyncio.sleep(0)
            return 42

        return asyncio.run(inner())

    assert await (await own_loop.enqueue()).result(10) == 42


async def test_a_task_that_enqueues_itself_for_ever(opened: TaskManager) -> None:
    """One after the other, others have their turn; it can be stopped by pausing its queue."""
    n = 0

    @opened.task(queue="endless")
    async def again() -> None:
        nonlocal n
        n += 1
        await again.enqueue()

    @opened.task
    async def other() -> str:
        return "done"

    await again.enqueue()
    assert await (await other.enqueue()).result(10) == "done"
    await opened.pause_queue("endless")
    await settled(opened)
    before = n
    await turns()
    assert n == before
    assert await opened.cancel_where(queue="endless", state="queued") == 1


# ---- progress and log lines that cannot be


@pytest.mark.parametrize(
    "done",
    [
        10**30,
        -(10**30),
        float("inf"),
        float("nan"),
        Decimal("1.5"),
        Fraction(1, 3),
        True,
    ],
    ids=repr,
)
async def test_odd_progress(opened: TaskManager, done: Any) -> None:
    """A number is a number: it is kept as well as it can be, or refused where it is told."""

    @opened.task
    async def work() -> str:
        with contextlib.suppress(TypeError, ValueError):
            progress(done, done, "odd")
        await asyncio.sleep(0.4)
        return "done"

    handle = await work.enqueue()
    assert await handle.result(10) == "done"
    assert (await handle.task()).state is State.SUCCEEDED


@pytest.mark.parametrize("done", ["half", None, object(), [1]], ids=repr)
async def test_progress_that_is_no_number(opened: TaskManager, done: Any) -> None:
    """A TypeError where it is told, naming it; nobody else is harmed."""

    @opened.task
    async def work() -> None:
        progress(done)

    handle = await work.enqueue()
    with pytest.raises(TaskFailed, match="progress") as caught:
        await handle.result(10)
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("message", ["\ud800", "\0", "x" * 1_000_000])
async def test_a_progress_message_that_cannot_be_stored_as_it_is(
    opened: TaskManager, message: str
) -> None:
    """It is shown as well as it can be."""

    @opened.task
    async def work() -> str:
        progress(1, 2, message)
        await asyncio.sleep(0.4)
        return "done"

    handle = await work.enqueue()
    assert await handle.result(10) == "done"
    told = (await handle.task()).progress
    assert told is not None
    assert told.done == 1
    assert len(told.message or "") < 100_000


async def test_track_over_what_raises(opened: TaskManager) -> None:
    """Its error is the task's; the progress up to there is kept."""

    def items() -> Any:
        yield 1
        yield 2
        raise ZeroDivisionError

    @opened.task
    async def work() -> None:
        async for _ in track(items(), total=5):
            pass

    handle = await work.enqueue()
    with pytest.raises(TaskFailed):
        await handle.result(10)
    told = (await handle.task()).progress
    assert told is not None
    assert (told.done, told.total) == (2, 5)


# ---- times that cannot be


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), 1e12, 1e300, "soon"])
async def test_a_snooze_that_cannot_be(opened: TaskManager, seconds: Any) -> None:
    """A failure where it is raised: a task that would never come back is not put to sleep."""

    @opened.task
    async def work() -> None:
        raise Snooze(seconds)

    handle = await work.enqueue()
    with pytest.raises(TaskFailed, match="seconds") as caught:
        await handle.result(10)
    assert isinstance(caught.value.__cause__, TypeError | ValueError)


@pytest.mark.parametrize("seconds", [1e12, 1e300, float("inf")])
async def test_a_backoff_that_cannot_be(opened: TaskManager, seconds: float) -> None:
    """The task fails with its own error, and the listing can still be read."""

    @opened.task(retry=Retry(3, backoff=lambda failures: seconds))
    async def work() -> None:
        raise ValueError("its own")

    handle = await work.enqueue()
    with pytest.raises(TaskFailed, match="its own"):
        await handle.result(10)
    assert "backoff" in ((await handle.task()).reason or "")
    assert len(await opened.find()) == 1


async def test_a_year_of_failures(opened: TaskManager) -> None:
    """An exponential delay stays within its maximum, however many failures there were."""

    @opened.task(retry=Retry(10**9, exponential(base=1, factor=1e6, maximum=60)))
    async def work() -> None:
        raise ValueError

    handle = await work.enqueue()
    await settled(opened)
    task = await handle.task()
    assert task.state is State.SCHEDULED
    assert (task.due - task.moved).total_seconds() <= 66
    await handle.cancel()
    with pytest.raises(TaskCancelled):
        await handle
    assert await state(opened, handle.id) is State.CANCELLED
