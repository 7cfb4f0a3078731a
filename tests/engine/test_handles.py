"""Handles: the same in another manager, after a restart, and after a retry."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from facts import Door, state, turns, until_state

from inloop import (
    NotOpen,
    State,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    TaskNotFound,
    current_task,
)
from inloop.testing import crash, settled

pytestmark = pytest.mark.anyio


@dataclass
class Point:
    """A typed result."""

    x: int
    y: int


async def mirror(point: Point) -> Point:
    """A task function of an app."""
    return Point(point.y, point.x)


# ---- results


async def test_an_id_alone_gives_plain_values(tasks: TaskManager) -> None:
    """With the task function, or a type, the result has its type."""
    declared = tasks.task(mirror)
    async with tasks:
        handle = await declared.enqueue(Point(1, 2))
        assert await handle == Point(2, 1)
        assert await tasks.handle(handle.id) == {"x": 2, "y": 1}
        assert await tasks.handle(handle.id, returns=declared) == Point(2, 1)
        assert await tasks.handle(handle.id, returns=Point) == Point(2, 1)


async def test_it_can_be_awaited_again_and_by_many(tasks: TaskManager) -> None:
    """Each waiter gets the result, also those who come later."""
    door = Door()

    @tasks.task
    async def work() -> int:
        await door.pass_through()
        return 7

    async with tasks:
        handle = await work.enqueue()
        waiting = [asyncio.ensure_future(handle.result()) for _ in range(20)]
        others = [asyncio.ensure_future(tasks.handle(handle.id).result()) for _ in range(20)]
        await door.reached()
        door.open()
        assert await asyncio.gather(*waiting, *others) == [7] * 40
        assert await handle == 7


async def test_each_awaiting_decodes_anew(tasks: TaskManager) -> None:
    """What one waiter does to its result is not seen by others."""

    @tasks.task
    async def work() -> list[int]:
        return [1]

    async with tasks:
        handle = await work.enqueue()
        (await handle).append(2)
        assert await handle == [1]


async def test_awaited_at_the_very_moment_of_its_end(tasks: TaskManager) -> None:
    """However the two race, nobody is left waiting."""

    @tasks.task
    async def work(n: int) -> int:
        return n

    async with tasks:

        async def wait(n: int) -> None:
            handle = await work.enqueue(n)
            for _ in range(n % 17):
                await asyncio.sleep(0)
            assert await tasks.handle(handle.id, returns=work).result(10) == n

        await asyncio.gather(*(wait(n) for n in range(150)))


async def test_a_failure_is_the_same_for_all(tasks: TaskManager) -> None:
    """Raised to every waiter, each time."""

    @tasks.task
    async def work() -> None:
        raise ValueError("bad")

    async with tasks:
        handle = await work.enqueue()
        for _ in range(2):
            with pytest.raises(TaskFailed, match="bad"):
                await handle


async def test_the_cause_stays_while_somebody_holds_a_handle(tasks: TaskManager) -> None:
    """Whatever others write meanwhile; without one, and elsewhere, there is the text."""

    @tasks.task
    async def work() -> None:
        raise ValueError("bad")

    other = TaskManager(tasks.name)
    async with tasks, other:
        handle = await work.enqueue()
        await settled(tasks)
        await other.pause_queue("elsewhere")  # another process writes
        await asyncio.sleep(0.15)  # and this one has noticed
        with pytest.raises(TaskFailed) as caught:
            await handle
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(TaskFailed, match="ValueError: bad") as caught:
            await other.handle(handle.id)
        assert caught.value.__cause__ is None


# ---- timeout


@pytest.mark.parametrize("timeout", [0.01, timedelta(milliseconds=10)])
async def test_a_wait_may_have_a_timeout(tasks: TaskManager, timeout: float) -> None:
    """TimeoutError, and the task goes on."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=timeout)
        door.open()
        assert await handle.result(timeout=10) == "done"
        assert await handle.result(timeout=0) == "done"


async def test_a_timeout_of_zero_asks(tasks: TaskManager) -> None:
    """The result if it is there, else TimeoutError."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0)
        door.open()


# ---- elsewhere


async def test_another_manager_hears_of_the_end(path: Path) -> None:
    """Two processes on one store: one runs it, the other waits for it."""
    front, back, door = TaskManager(path, work=False), TaskManager(path), Door()

    async def work(n: int) -> int:
        await door.pass_through()
        return n + 1

    enqueue, _ = front.task(name="work")(work), back.task(name="work")(work)
    async with front, back:
        handle = await enqueue.enqueue(1)
        waiting = asyncio.ensure_future(handle.result())
        await door.reached()
        await turns()
        assert not waiting.done()
        door.open()
        assert await asyncio.wait_for(waiting, 10) == 2


async def test_after_a_restart(tasks: TaskManager) -> None:
    """The id is all that is needed; the handle itself goes on working, too."""
    declared = tasks.task(mirror)
    async with tasks:
        ended = await declared.enqueue(Point(1, 2))
        await ended
        waits = await declared.using(delay=0.2).enqueue(Point(3, 4))
    async with tasks:
        assert await tasks.handle(ended.id, returns=declared) == Point(2, 1)
        assert await ended == Point(2, 1)
        assert await waits.result(10) == Point(4, 3)


async def test_those_who_wait_while_it_closes(tasks: TaskManager) -> None:
    """NotOpen: the task is stored, and goes on at the next start."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=3600).enqueue()
        waiting = asyncio.ensure_future(handle.result())
        await turns()
    with pytest.raises(NotOpen, match="goes on when the manager is opened again"):
        await waiting
    with pytest.raises(NotOpen, match="is not open"):
        await handle


async def test_those_who_wait_while_it_crashes(tasks: TaskManager) -> None:
    """The same."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        waiting = asyncio.ensure_future(handle.result())
        await turns()
        await crash(tasks)
        with pytest.raises(NotOpen):
            await waiting


# ---- retried, held, removed


async def test_a_retried_task_is_awaited_anew(tasks: TaskManager) -> None:
    """The same handle, and any other one, waits for the new outcome."""
    answers: Iterator[Exception | int] = iter([ValueError("bad"), 7])
    door = Door()

    @tasks.task
    async def work() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        await door.pass_through()
        return answer

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed):
            await handle
        again = await handle.retry()
        assert again is handle
        waiting = asyncio.ensure_future(handle.result())
        await door.reached()
        assert not waiting.done()
        door.open()
        assert await waiting == 7
        assert await tasks.handle(handle.id, returns=int) == 7


async def test_retried_in_one_manager_and_awaited_in_another(path: Path) -> None:
    """What this process knew of its end counts no more."""
    here, there, door = TaskManager(path), TaskManager(path, work=False), Door()

    @here.task
    async def work() -> int:
        if current_task().attempt == 1:
            raise ValueError("bad")
        await door.pass_through()
        return 7

    async with here, there:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed):
            await handle
        elsewhere = there.handle(handle.id, returns=work)
        with pytest.raises(TaskFailed):
            await elsewhere
        await elsewhere.retry()
        await door.reached()
        waiting = [asyncio.ensure_future(one.result()) for one in (handle, elsewhere)]
        await turns()
        assert not any(one.done() for one in waiting)
        door.open()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [7, 7]


async def test_a_retry_resets_what_the_caller_sees_at_once(path: Path) -> None:
    """After `await retry(...)` nobody in this process gets the old outcome."""
    here, there, door = TaskManager(path, work=False), TaskManager(path), Door()

    @there.task
    async def work() -> int:
        if current_task().attempt == 1:
            raise ValueError("bad")
        await door.pass_through()
        return 7

    async with here, there:
        handle = here.handle((await work.enqueue()).id)
        with pytest.raises(TaskFailed):
            await handle
        await here.retry(handle.id)
        with pytest.raises(TimeoutError):
            await handle.result(0.05)
        door.open()
        assert await handle == 7


async def test_a_held_task_keeps_its_waiters_waiting(tasks: TaskManager) -> None:
    """Until a person decides: here, to fail it."""

    @tasks.task(on_crash="hold")
    async def work() -> None:
        await asyncio.sleep(3600)

    async with tasks:
        handle = await work.enqueue()
        await until_state(tasks, handle.id, State.RUNNING)
        await crash(tasks)
    async with tasks:
        waiting = asyncio.ensure_future(tasks.handle(handle.id).result())
        await until_state(tasks, handle.id, State.HELD)
        await turns()
        assert not waiting.done()
        await tasks.fail(handle.id, reason="nobody needs it")
        with pytest.raises(TaskFailed, match="nobody needs it"):
            await waiting


async def test_a_task_that_was_removed_is_not_found(tasks: TaskManager) -> None:
    """Nor one that never was; those who wait hear of it."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.enqueue()
        await settled(tasks)
        await tasks.delete(handle.id)
        assert await tasks.prune(before=(await handle.task()).created + timedelta(days=1)) == 1
        other = tasks.handle(handle.id)
        with pytest.raises(TaskNotFound, match=handle.id):
            await other
        with pytest.raises(TaskNotFound, match="it never existed"):
            await tasks.handle("no-such-task")


# ---- handle verbs


async def test_a_handle_has_the_verbs_of_its_task(tasks: TaskManager) -> None:
    """With reason and actor, as the manager's."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = tasks.handle((await work.enqueue()).id)
        await door.reached()
        assert await handle.pause(reason="a", actor="ana")
        await until_state(tasks, handle.id, State.PAUSED)
        assert await handle.resume(reason="b", actor="bob")
        await until_state(tasks, handle.id, State.RUNNING)
        assert await handle.cancel(reason="c", actor="cy")
        with pytest.raises(TaskCancelled):
            await handle
        await handle.retry(reason="d", actor="dan")
        told = [
            (event.to, event.actor, event.reason)
            for event in await tasks.events(handle.id)
            if event.what == "moved" and event.actor != "engine"
        ]
        assert told == [
            (State.RUNNING, "code", None),
            (State.PAUSED, "ana", "a"),
            (State.RUNNING, "bob", "b"),
            (State.CANCELLED, "cy", "c"),
            (State.QUEUED, "dan", "d"),
        ]
        door.open()
        await handle


async def test_a_handle_shows_its_id(tasks: TaskManager) -> None:
    """In logs and debuggers."""
    assert repr(tasks.handle("abc")) == "<TaskHandle abc>"


async def test_outcomes_do_not_pile_up(tasks: TaskManager) -> None:
    """What nobody holds a handle of any more is forgotten."""

    class Big(Exception):
        pass

    errors: list[weakref.ref[Big]] = []

    @tasks.task
    async def work() -> None:
        error = Big()
        errors.append(weakref.ref(error))
        raise error

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed):
            await handle
        await settled(tasks)
        del handle
        for _ in range(3):
            await turns(5)
            gc.collect()
        assert errors[0]() is None
        assert await state(tasks, (await tasks.find()).items[0].id) is State.FAILED
