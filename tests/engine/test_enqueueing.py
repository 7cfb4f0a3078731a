"""Calls and many calls at once; and the slots that new tasks are given."""

import asyncio
import contextvars
from pathlib import Path

import pytest
from facts import Door, state, turns, until

from inloop import ArgumentError, Call, State, TaskManager, current_task
from inloop.testing import running, settled

pytestmark = pytest.mark.anyio


# ---- call and enqueue_many


async def test_many_are_enqueued_in_one_transaction(tasks: TaskManager) -> None:
    """By tuples of arguments or by calls; handles come in their order."""

    @tasks.task
    async def add(a: int, b: int = 10) -> int:
        return a + b

    async with tasks:
        call: Call[..., int] = add.call(3, b=4)
        handles = await add.enqueue_many([(1,), (1, 2), call])
        assert [await handle for handle in handles] == [11, 3, 7]
        assert all(handle.created for handle in handles)
        assert len({handle.id for handle in handles}) == 3


async def test_many_may_come_from_a_generator_or_be_none(tasks: TaskManager) -> None:
    """Any iterable; an empty one is no error."""

    @tasks.task
    async def work(n: int) -> int:
        return n

    async with tasks:
        handles = await work.enqueue_many((n,) for n in range(300))
        assert [await handle for handle in handles] == list(range(300))
        assert await work.enqueue_many([]) == []


async def test_all_of_them_or_none(tasks: TaskManager) -> None:
    """One wrong call, and nothing is stored."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        with pytest.raises(ArgumentError, match="argument n is of type str"):
            await work.enqueue_many([(1,), ("two",)])
        with pytest.raises(TypeError, match="missing a required argument: 'n'"):
            await work.enqueue_many([(1,), ()])
        with pytest.raises(TypeError, match="must be a tuple of arguments"):
            await work.enqueue_many([1, 2])  # type: ignore[list-item] # on purpose
        assert await tasks.counts() == {}


async def test_keys_hold_among_many(tasks: TaskManager) -> None:
    """Two calls of one key in one transaction are one task."""

    @tasks.task(key="k{n}")
    async def work(n: int) -> int:
        return n

    async with tasks:
        handles = await work.enqueue_many([(1,), (2,), (1,)])
        assert [handle.created for handle in handles] == [True, True, False]
        assert handles[0].id == handles[2].id
        assert [await handle for handle in handles] == [1, 2, 1]


async def test_a_call_of_another_function_is_refused(tasks: TaskManager) -> None:
    """TypeError, naming both."""

    @tasks.task
    async def one(n: int) -> None: ...

    @tasks.task
    async def two(n: int) -> None: ...

    async with tasks:
        with pytest.raises(TypeError, match=r"is not a call of .*one"):
            await one.enqueue_many([two.call(1)])


async def test_a_wrong_call_is_refused_where_it_is_made(tasks: TaskManager) -> None:
    """`call` binds at once."""

    @tasks.task
    async def work(n: int) -> None: ...

    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        work.call()  # type: ignore[call-arg] # on purpose


async def test_a_thousand_at_once(tasks: TaskManager) -> None:
    """More than one claim's worth, and all of them run, each once."""
    ran: list[int] = []

    @tasks.task
    async def work(n: int) -> None:
        ran.append(n)

    async with tasks:
        handles = await work.enqueue_many([(n,) for n in range(1100)])
        await tasks.drain(15)
        assert sorted(ran) == list(range(1100))
        assert [handle.created for handle in handles] == [True] * 1100
        await handles[-1]


# ---- who starts it


async def test_the_engine_starts_it_not_the_caller(tasks: TaskManager) -> None:
    """A caller who is cancelled while he enqueues does not take his task with him."""
    context = contextvars.ContextVar("context", default="the app's")
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return context.get()

    async with tasks:

        async def request() -> str:
            context.set("a request's")
            return (await work.enqueue()).id

        caller = asyncio.ensure_future(request())
        await door.reached()
        task_id = (await tasks.find()).items[0].id
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        door.open()
        # It does not see the caller's context either: later attempts could not.
        assert await tasks.handle(task_id) == "the app's"


async def test_a_cancelled_caller_leaves_a_running_task(tasks: TaskManager) -> None:
    """Cancelled at every possible moment of the call."""
    ran: list[int] = []

    @tasks.task
    async def work(n: int) -> None:
        ran.append(n)

    async with tasks:
        for n in range(30):
            caller = asyncio.ensure_future(work.enqueue(n))
            await turns(n % 10)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
        await tasks.drain(10)
        assert sorted(ran) == sorted(task.arguments["n"] for task in await tasks.find())  # type: ignore[type-var]
        await settled(tasks)


async def test_enqueued_within_a_task(tasks: TaskManager) -> None:
    """A task may enqueue and await another, on a manager with room for both."""

    @tasks.task
    async def inner(n: int) -> int:
        return n * 2

    @tasks.task
    async def outer(n: int) -> int:
        return await (await inner.enqueue(n)) + 1

    async with tasks:
        assert await (await outer.enqueue(20)) == 41


async def test_a_task_sees_itself_not_who_enqueued_it(tasks: TaskManager) -> None:
    """`current_task()` in the inner one is the inner one."""

    @tasks.task
    async def inner() -> str:
        return current_task().name

    @tasks.task
    async def outer() -> list[str]:
        return [await (await inner.enqueue()), current_task().name]

    async with tasks:
        assert await (await outer.enqueue()) == [inner.name, outer.name]


# ---- order


async def test_first_come_first_served(path: Path) -> None:
    """With one slot, tasks run in the order in which they were enqueued, one by one or in bulk."""
    tasks, order, door = TaskManager(path, concurrency=1), [], Door()

    @tasks.task
    async def work(n: int) -> None:
        await door.pass_through()
        order.append(n)

    async with tasks:
        for n in range(5):
            await work.enqueue(n)
        await work.enqueue_many([(n,) for n in range(5, 10)])
        await work.enqueue(10)
        door.open()
        await tasks.drain(10)
    assert order == list(range(11))


async def test_a_new_task_does_not_overtake(path: Path) -> None:
    """One that could start at once waits, if others stand before it in its queue."""
    tasks, order = TaskManager(path, concurrency=2), []

    @tasks.task
    async def work(n: int) -> None:
        order.append(n)

    async with tasks:
        await tasks.pause_queue("default")
        await work.enqueue(1)
        resume = asyncio.ensure_future(tasks.resume_queue("default"))
        await work.enqueue(2)
        await work.enqueue(3)
        await resume
        await tasks.drain(10)
    assert order == [1, 2, 3]


async def test_unlimited_tasks_run_together(tasks: TaskManager) -> None:
    """A hundred by default, and each makes its way."""
    inside, everybody = 0, asyncio.Event()

    @tasks.task
    async def work() -> None:
        nonlocal inside
        inside += 1
        if inside == 100:
            everybody.set()
        await everybody.wait()

    async with running(tasks):
        await work.enqueue_many([()] * 100)
        await asyncio.wait_for(everybody.wait(), 10)
        await settled(tasks)


async def test_a_slot_is_filled_as_soon_as_it_is_free(path: Path) -> None:
    """Nobody waits for a poll: two hundred short tasks through three slots."""
    tasks, ran = TaskManager(path, concurrency=3), []

    @tasks.task
    async def work(n: int) -> None:
        ran.append(n)

    async with tasks:
        await work.enqueue_many([(n,) for n in range(200)])

        async def all_ran() -> bool:
            return len(ran) == 200

        await until(all_ran)
        await settled(tasks)
        assert await tasks.counts() == {"default": {State.SUCCEEDED: 200}}
        assert await state(tasks, (await tasks.find()).items[0].id) is State.SUCCEEDED
