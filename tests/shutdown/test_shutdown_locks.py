"""An owner that closes while a thread still runs keeps its lock until that thread has ended."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shutdown_serving import look
from shutdown_threads import Stuck, is_held, lock_of, until, until_so

from inloop import State, TaskManager

# What closing may take beyond its grace, on a busy machine.
PROMPT = 1.0 + 3.0
HISTORY = "select state, attempt, failures, deaths from inloop_task where name = 'stuck'"


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Let go at the end, whatever happens."""
    stuck = Stuck()
    yield stuck
    stuck.let_go()


@pytest.fixture
def other() -> Iterator[Stuck]:
    """A second one."""
    stuck = Stuck()
    yield stuck
    stuck.let_go()


@pytest.fixture
def tasks(path: Path) -> TaskManager:
    """Gives no grace."""
    return TaskManager(path, grace=0)


def declare(tasks: TaskManager, name: str, stuck: Stuck) -> None:
    """A task function that is stuck."""

    def function() -> None:
        stuck()

    tasks.task(name=name)(function)


def leave(tasks: TaskManager, path: Path, *names: str) -> tuple[Path, list[str]]:
    """Open, have these run, and close on them: the lock of that owner, and the tasks' ids."""

    async def live() -> tuple[Path, list[str]]:
        async with tasks:
            handles = [await tasks._functions[name].enqueue() for name in names]
            for handle in handles:

                async def runs(id: str = handle.id) -> bool:
                    return (await tasks.get(id)).state is State.RUNNING

                await until_so(runs, "it runs")
            left = await lock_of(tasks, path), [handle.id for handle in handles]
            begun = time.monotonic()
        assert time.monotonic() - begun < PROMPT
        return left

    return asyncio.run(live())


def test_the_lock_is_kept_until_the_thread_has_ended(
    tasks: TaskManager, path: Path, stuck: Stuck
) -> None:
    """The closing does not wait for it; a sibling finds the owner alive, and later gone.

    The task comes back as interrupted then: no failure, no death.
    """
    declare(tasks, "stuck", stuck)
    lock, (task_id,) = leave(tasks, path, "stuck")
    assert is_held(lock)

    async def sibling() -> None:
        async with TaskManager(path, work=False) as looker:
            await looker.counts()
            await asyncio.sleep(1.2)  # a sibling looks for the dead once a second
            assert (await looker.get(task_id)).state is State.RUNNING
            stuck.let_go()

            async def is_queued() -> bool:
                return (await looker.get(task_id)).state is State.QUEUED

            await until_so(is_queued, "it is given back")

    asyncio.run(sibling())
    assert look(path, HISTORY) == [("queued", 1, 0, 0)]
    assert not is_held(lock)


def test_it_is_let_go_without_anybody_looking(tasks: TaskManager, path: Path, stuck: Stuck) -> None:
    """The loop is closed by then; the thread itself lets go of it."""
    declare(tasks, "stuck", stuck)
    lock, _ = leave(tasks, path, "stuck")
    assert is_held(lock)
    stuck.let_go()
    until(lambda: not is_held(lock), "the lock is free")


def test_the_last_of_several_threads_lets_go(
    tasks: TaskManager, path: Path, stuck: Stuck, other: Stuck
) -> None:
    """While any code of its tasks may run, the owner lives."""
    declare(tasks, "stuck", stuck)
    declare(tasks, "other", other)
    lock, _ = leave(tasks, path, "stuck", "other")
    stuck.let_go()
    time.sleep(0.3)
    assert is_held(lock)
    other.let_go()
    until(lambda: not is_held(lock), "the lock is free")


def test_opened_again_meanwhile(tasks: TaskManager, path: Path, stuck: Stuck) -> None:
    """The new opening is another owner: it works, and does not run that task beside its thread.

    As soon as the thread has ended the task runs again, here.
    """
    declare(tasks, "stuck", stuck)

    @tasks.task
    async def quick() -> int:
        return 1

    lock, (task_id,) = leave(tasks, path, "stuck")

    async def again() -> None:
        async with tasks:
            assert await lock_of(tasks, path) != lock
            assert await (await quick.enqueue()) == 1
            await asyncio.sleep(1.2)
            assert stuck.calls == 1
            assert is_held(lock)
            stuck.let_go()
            assert await tasks.handle(task_id).result(10) is None
            assert stuck.calls == 2
            assert not is_held(lock)

    asyncio.run(again())
    assert look(path, HISTORY) == [("succeeded", 2, 0, 0)]


def test_opened_and_closed_again_meanwhile(tasks: TaskManager, path: Path, stuck: Stuck) -> None:
    """Closing the later opening gives back its own lock, and leaves the earlier one's alone."""
    declare(tasks, "stuck", stuck)
    lock, _ = leave(tasks, path, "stuck")
    later, _ = leave(tasks, path)
    assert is_held(lock)
    assert not is_held(later)
    stuck.let_go()
    until(lambda: not is_held(lock), "the lock is free")


def test_without_threads_it_goes_at_once(tasks: TaskManager, path: Path) -> None:
    """A coroutine that ignores cancellation is ended by the closing: nothing of it runs on."""
    steps = []

    @tasks.task(name="ignores")
    async def ignores() -> None:
        while True:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                steps.append(time.monotonic())

    async def live() -> None:
        async with tasks:
            await ignores.enqueue()
            lock = await lock_of(tasks, path)
            await asyncio.sleep(0.1)
        assert not is_held(lock)
        seen = len(steps)
        await asyncio.sleep(0.2)
        assert len(steps) == seen

    asyncio.run(live())
