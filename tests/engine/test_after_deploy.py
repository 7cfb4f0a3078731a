"""After a deploy: stored tasks meet task functions that have changed."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from facts import moves, state, until_state

from inloop import State, TaskManager, UnknownTaskFunction
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio

assert issubclass(UnknownTaskFunction, LookupError)


async def enqueue_old(path: Path, function: Callable[..., Any], *args: object) -> str:
    """A task that an earlier version of the app has stored, and not run."""
    old = TaskManager(path)
    declared = old.task(name="work")(function)
    async with old:
        await old.pause_all()
        task_id: str = (await declared.enqueue(*args)).id
        return task_id


async def test_an_added_parameter_with_a_default_binds(path: Path) -> None:
    """What was stored without it runs with the default."""

    async def old(a: int) -> None: ...

    async def new(a: int, b: int = 5) -> int:
        return a + b

    task_id = await enqueue_old(path, old, 1)
    tasks = TaskManager(path)
    tasks.task(name="work")(new)
    async with tasks:
        await tasks.resume_all()
        assert await tasks.handle(task_id) == 6


async def test_renamed_order_does_not_matter(path: Path) -> None:
    """Arguments are stored by name."""

    async def old(a: int, b: int) -> None: ...

    async def new(b: int, a: int) -> list[int]:
        return [a, b]

    task_id = await enqueue_old(path, old, 1, 2)
    tasks = TaskManager(path)
    tasks.task(name="work")(new)
    async with tasks:
        await tasks.resume_all()
        assert await tasks.handle(task_id) == [1, 2]


async def removed(a: int) -> None: ...


async def added(a: int, b: int, c: int) -> None: ...


async def retyped(a: int, b: list[int]) -> None: ...


def retyped_in_thread(a: int, b: list[int]) -> None: ...


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (removed, r"argument b is stored, but .* no such parameter"),
        (added, r"argument c is not stored, and has no default"),
        (retyped, r"argument b is stored as .*, which does not decode as list\[int\]"),
        (retyped_in_thread, r"argument b is stored as .*, which does not decode as list\[int\]"),
    ],
)
async def test_what_does_not_fit_is_held(path: Path, new: Callable[..., Any], told: str) -> None:
    """Neither failed nor lost: the reason says what is wrong; put right, it is retried."""

    async def old(a: int, b: int) -> int:
        return a + b

    task_id = await enqueue_old(path, old, 1, 2)
    tasks = TaskManager(path)
    tasks.task(name="work")(new)
    async with tasks:
        await tasks.resume_all()
        await until_state(tasks, task_id, State.HELD)
        task = await tasks.get(task_id)
        assert task.failures == 0
        with pytest.raises(AssertionError, match=told):
            raise AssertionError(task.reason)
        await settled(tasks)

    tasks = TaskManager(path)
    tasks.task(name="work")(old)
    async with tasks:
        await tasks.retry(task_id)
        assert await tasks.handle(task_id) == 3


async def test_what_cannot_be_read_is_held(path: Path) -> None:
    """Stored text that is no JSON does not stop anybody else."""

    async def work(a: int) -> int:
        return a

    broken, whole = [await enqueue_old(path, work, n) for n in (1, 2)]
    with closing(sqlite3.connect(path)) as cx:
        cx.execute("update inloop_task set arguments = '{\"a\": ' where id = ?", (broken,))
        cx.commit()
    tasks = TaskManager(path)
    tasks.task(name="work")(work)
    async with tasks:
        await tasks.resume_all()
        assert await tasks.handle(whole) == 2
        await until_state(tasks, broken, State.HELD)


async def test_a_held_task_can_be_failed(path: Path) -> None:
    """The other decision: nobody needs it any more."""

    async def old(a: int, b: int) -> None: ...

    task_id = await enqueue_old(path, old, 1, 2)
    tasks = TaskManager(path)
    tasks.task(name="work")(removed)
    async with tasks:
        await tasks.resume_all()
        await until_state(tasks, task_id, State.HELD)
        await tasks.fail(task_id, reason="of last year", actor="ana")
        task = await tasks.get(task_id)
        assert (task.state, task.actor, task.reason) == (State.FAILED, "ana", "of last year")


async def test_a_parameter_that_is_stored_may_become_optional(path: Path) -> None:
    """A wider type takes what a narrower one has stored."""

    async def old(a: int) -> None: ...

    async def new(a: int | str | None = None) -> object:
        return a

    task_id = await enqueue_old(path, old, 7)
    tasks = TaskManager(path)
    tasks.task(name="work")(new)
    async with tasks:
        await tasks.resume_all()
        assert await tasks.handle(task_id) == 7


# ---- unknown functions


async def test_an_unknown_function_waits(path: Path, clock: FakeClock) -> None:
    """It may be known to a newer process; after ten minutes without one its tasks are held."""

    async def work(a: int) -> int:
        return a

    old, new = TaskManager(path), TaskManager(path)
    declared = old.task(name="work")(work)

    @new.task
    async def other() -> str:
        return "not held up"

    async with running(old, clock=clock):
        await old.pause_all()
        task_id = (await declared.enqueue(7)).id
    async with running(new, clock=clock):
        await new.resume_all()
        await clock.advance(timedelta(minutes=9))
        assert await state(new, task_id) is State.QUEUED
        assert await (await other.enqueue()) == "not held up"
        await clock.advance(timedelta(minutes=3))
        task = await new.get(task_id)
        assert task.state is State.HELD
        assert "knows a task function named work" in (task.reason or "")
    async with running(old, clock=clock):
        await old.retry(task_id)
        assert await old.handle(task_id) == 7


async def test_it_waits_as_long_as_somebody_knows_it(path: Path, clock: FakeClock) -> None:
    """A process that has no slot for it, or only enqueues, knows it all the same."""

    async def work() -> str:
        return "done"

    for work_here in (True, False):
        busy, other = TaskManager(path, work=work_here), TaskManager(path)
        declared = busy.task(name="work", queue="full")(work)
        async with running(busy, clock=clock), running(other, clock=clock):
            await busy.set_queue("full", concurrency=0)
            handle = await declared.enqueue()
            await clock.advance(timedelta(hours=3))
            assert await state(busy, handle.id) is State.QUEUED
            await busy.set_queue("full", concurrency=None)
            await handle.cancel()


async def test_a_function_declared_later_takes_what_waits(path: Path) -> None:
    """A module that is imported at its first use."""

    async def work(a: int) -> int:
        return a

    task_id = await enqueue_old(path, work, 7)
    tasks = TaskManager(path)
    async with tasks:
        await tasks.resume_all()
        await settled(tasks)
        tasks.task(name="work")(work)
        assert await asyncio.wait_for(tasks.handle(task_id).result(), 10) == 7
        assert await moves(tasks, task_id) == ["running", "succeeded"]
