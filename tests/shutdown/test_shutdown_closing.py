"""What happens while it opens or closes: cancellation, more work, a failure."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from shutdown_serving import look
from shutdown_threads import is_held, lock_of

from inloop import NotOpen, StoreError, TaskHandle, TaskManager

pytestmark = pytest.mark.anyio

STATES = "select state, failures, deaths from inloop_task order by seq"
INTERRUPTED = "queued", 0, 0
# What closing may take beyond its grace, on a busy machine.
PROMPT = 1.0 + 3.0


class Work:
    """What the tasks of these tests do: run until they are let go, and clean up."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.go = asyncio.Event()
        self.then: Callable[[], Awaitable[object]] | None = None
        self.cleaned = False

    async def __call__(self) -> None:
        """In the task."""
        self.inside.set()
        try:
            await self.go.wait()
            if self.then is not None:
                await self.then()
        finally:
            await asyncio.sleep(0.02)
            self.cleaned = True


@pytest.fixture
def work() -> Work:
    return Work()


def managing(path: Path, work: Work, grace: float) -> TaskManager:
    """A manager with one task function that does this work."""
    tasks = TaskManager(path, grace=grace)

    @tasks.task(name="work")
    async def function() -> None:
        await work()

    return tasks


async def enqueue(tasks: TaskManager) -> TaskHandle[object]:
    """One more."""
    return await tasks._functions["work"].enqueue()


async def serving(tasks: TaskManager, work: Work) -> "asyncio.Task[None]":
    """An asyncio task with the open manager in it, in which one task runs."""

    async def serve() -> None:
        async with tasks:
            await enqueue(tasks)
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await work.inside.wait()
    return task


async def is_closing(tasks: TaskManager) -> None:
    """Wait until its grace has begun."""
    while tasks._engine is None or not tasks._engine._closing:
        await asyncio.sleep(0)


def names() -> list[str]:
    """The threads of this process."""
    return sorted(thread.name for thread in threading.enumerate())


# ---- the block is cancelled


async def test_a_cancelled_block_gives_the_grace(path: Path, work: Work) -> None:
    """What ends within it has succeeded; the cancellation goes on to whoever asked for it."""
    tasks = managing(path, work, grace=20)
    serve = await serving(tasks, work)
    serve.cancel()
    await is_closing(tasks)
    work.go.set()
    with pytest.raises(asyncio.CancelledError):
        await serve
    assert look(path, STATES) == [("succeeded", 0, 0)]


async def test_a_cancelled_block_interrupts(path: Path, work: Work) -> None:
    """After the grace; the clean-up of the interrupted is completed."""
    serve = await serving(managing(path, work, grace=0.05), work)
    serve.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serve
    assert work.cleaned
    assert look(path, STATES) == [INTERRUPTED]


@pytest.mark.parametrize("times", [1, 5])
async def test_cancelled_while_it_closes(path: Path, work: Work, times: int) -> None:
    """That ends the grace, and nothing else: all is stored, and the lock is given back."""
    tasks = managing(path, work, grace=60)
    serve = await serving(tasks, work)
    lock = await lock_of(tasks, path)
    serve.cancel()
    await is_closing(tasks)
    begun = time.monotonic()
    for _ in range(times):
        serve.cancel()
        await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await serve
    assert time.monotonic() - begun < PROMPT
    assert work.cleaned
    assert look(path, STATES) == [INTERRUPTED]
    assert not is_held(lock)
    work.go.set()
    async with tasks:
        await tasks.drain(10)
    assert look(path, STATES) == [("succeeded", 0, 0)]


# ---- the opening is cancelled, or fails


async def test_cancelled_while_it_opens(path: Path, work: Work) -> None:
    """At whatever moment: nothing stays open, and the next opening works."""
    tasks = managing(path, work, grace=0)
    work.go.set()
    held: list[Path] = []
    for turns in (*range(12), 20, 40, 80, 160, 320):
        opening = asyncio.create_task(tasks.__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.done():
            await tasks.__aexit__()
            continue
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(NotOpen):
            await enqueue(tasks)
    async with tasks:
        await (await enqueue(tasks))
        mine = await lock_of(tasks, path)
        held = [lock for lock in mine.parent.glob("*-*.lock") if is_held(lock)]
        assert held == [mine]


async def test_an_opening_that_fails_leaves_nothing(
    tmp_path: Path,
    work: Work,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No thread, no word to stderr or the log beside the error; it opens once that is mended."""
    caplog.set_level(logging.WARNING)
    path = tmp_path / "tasks.db"
    path.write_bytes(b"this is no database, and long enough to be looked at as one" * 40)
    tasks = managing(path, work, grace=0)
    before = names()
    for _ in range(3):
        with pytest.raises(StoreError):
            await tasks.__aenter__()
    assert names() == before
    with pytest.raises(NotOpen):
        await enqueue(tasks)
    assert "".join(capfd.readouterr()) == ""
    assert not caplog.records
    path.unlink()
    work.go.set()
    async with tasks:
        await (await enqueue(tasks))


# ---- more work while it closes


async def test_enqueue_works_while_it_closes(path: Path, work: Work) -> None:
    """From a running task and from outside, until what runs is done; it runs at the next start."""
    tasks = managing(path, work, grace=20)
    serve = await serving(tasks, work)
    work.then = lambda: enqueue(tasks)
    serve.cancel()
    await is_closing(tasks)
    await enqueue(tasks)
    work.go.set()
    await asyncio.wait([serve])
    assert look(path, STATES) == [("succeeded", 0, 0), ("queued", 0, 0), ("queued", 0, 0)]
    with pytest.raises(NotOpen):
        await enqueue(tasks)
    work.then = None
    async with tasks:
        await tasks.drain(10)
    assert look(path, STATES) == [("succeeded", 0, 0)] * 3


async def test_what_is_acknowledged_while_it_closes_is_stored(path: Path, work: Work) -> None:
    """Callers that go on to the very end hear NotOpen, or their task is there."""
    tasks = managing(path, work, grace=0.1)
    serve = await serving(tasks, work)
    acknowledged = []

    async def go_on() -> None:
        while True:
            acknowledged.append((await enqueue(tasks)).id)

    callers = [asyncio.create_task(go_on()) for _ in range(5)]
    serve.cancel()
    await asyncio.wait([serve], timeout=PROMPT)
    assert serve.done()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(end) for end in ends} == {NotOpen}
    assert len(acknowledged) > 5
    stored = {task for (task,) in look(path, "select id from inloop_task")}
    assert stored >= set(acknowledged)
    assert set(look(path, STATES)) == {INTERRUPTED}


async def test_nothing_starts_while_it_closes(path: Path, work: Work) -> None:
    """Not even what had been queued for a free slot; only a claim on its way may still take it."""
    tasks = managing(path, work, grace=0.3)
    serve = await serving(tasks, work)
    started = "select max(attempt) from inloop_task where id = ?"
    serve.cancel()
    await is_closing(tasks)
    engine = tasks._engine
    while engine is not None and engine._running.reserved:
        await asyncio.sleep(0)
    late = await enqueue(tasks)
    await asyncio.wait([serve])
    assert look(path, started, late.id) == [(0,)]


async def test_who_waits_for_a_result_hears_that_it_closed(path: Path, work: Work) -> None:
    """A handle is not awaited for ever: the task has no outcome here any more."""
    tasks = managing(path, work, grace=0)
    serve = await serving(tasks, work)
    handle = await enqueue(tasks)
    waiter = asyncio.create_task(handle.result())
    await asyncio.sleep(0.02)
    serve.cancel()
    await asyncio.wait([serve])
    with pytest.raises(NotOpen):
        await asyncio.wait_for(waiter, 10)
