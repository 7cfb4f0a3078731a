"""While a task is paused: its slot, what it has set going, and restarts."""

import asyncio
from pathlib import Path

import pytest
from facts import Door, state, turns, until, until_state

from inloop import (
    Queue,
    Retry,
    State,
    TaskManager,
    current_task,
    exponential,
)
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


# ---- its slot


async def test_a_paused_task_holds_no_slot(path: Path) -> None:
    """Another one runs in its place; resumed, it waits for a slot, ahead of queued tasks."""
    tasks = TaskManager(path, concurrency=1)
    first, second, order = Door(), Door(), []

    @tasks.task
    async def work(name: str) -> None:
        order.append(name)
        await {"first": first, "second": second}.get(name, first).pass_through()
        order.append(f"{name} ends")

    async with tasks:
        one = await work.enqueue("first")
        await first.reached()
        await one.pause()
        await until_state(tasks, one.id, State.PAUSED)
        two = await work.enqueue("second")
        await second.reached()
        three = await work.enqueue("third")
        await one.resume()
        first.open()
        await turns()
        assert (await one.task()).label == "resuming"
        assert order == ["first", "second"]
        second.open()
        for handle in (one, two, three):
            await handle.result(10)
    assert order == ["first", "second", "second ends", "first ends", "third", "third ends"]


async def test_a_paused_task_holds_no_slot_of_its_queue(path: Path) -> None:
    """The same for a queue with a concurrency of its own."""
    tasks = TaskManager(path, queues={"mail": Queue(concurrency=1)})
    first, second, order = Door(), Door(), []

    @tasks.task(queue="mail")
    async def work(name: str) -> None:
        await (first if name == "first" else second).pass_through()
        order.append(name)

    async with tasks:
        one = await work.enqueue("first")
        await first.reached()
        await one.pause()
        await until_state(tasks, one.id, State.PAUSED)
        two = await work.enqueue("second")
        await second.reached()
        await one.resume()
        first.open()
        await turns()
        assert order == []
        second.open()
        await one.result(10)
        await two.result(10)
    assert order == ["second", "first"]


# ---- what runs on


async def test_a_timeout_of_its_own_is_delivered_then_it_is_held_again(
    tasks: TaskManager,
) -> None:
    """A clock that the code set itself runs on; what comes after its expiry waits."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> None:
        try:
            async with asyncio.timeout(0.1):
                door.inside.set()
                await asyncio.sleep(3600)
        except TimeoutError:
            steps.append("expired")
        await asyncio.sleep(0)
        steps.append("on")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)

        async def has_expired() -> bool:
            return bool(steps)

        await until(has_expired)
        await turns()
        assert steps == ["expired"]
        await handle.resume()
        await handle
        assert steps == ["expired", "on"]


async def test_asyncio_tasks_that_it_spawned_run_on(tasks: TaskManager) -> None:
    """Only the task's own coroutine is held."""
    door, ticks = Door(), []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    @tasks.task
    async def work() -> None:
        ticking = asyncio.ensure_future(tick())
        await door.pass_through()
        ticking.cancel()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        before = len(ticks)
        await turns()
        assert len(ticks) > before
        await handle.resume()
        door.open()
        await handle


async def test_verbs_called_by_what_it_spawned_wait(tasks: TaskManager) -> None:
    """Every inloop verb called anywhere in a paused task waits until it is resumed."""
    door, go = Door(), asyncio.Event()
    done: list[str] = []

    @tasks.task
    async def other() -> None: ...

    async def verbs(me: str) -> None:
        await go.wait()
        verbs = {
            "enqueue": other.enqueue(),
            "enqueue_many": other.enqueue_many([(), ()]),
            "get": tasks.get(me),
            "find": tasks.find(),
            "counts": tasks.counts(),
            "cancel": tasks.cancel(finished),
            "result": tasks.handle(finished).result(),
        }

        async def call(name: str) -> None:
            await verbs[name]
            done.append(name)

        async with asyncio.TaskGroup() as group:
            for name in verbs:
                group.create_task(call(name))

    @tasks.task
    async def work() -> None:
        calling = asyncio.ensure_future(verbs(current_task().id))
        await door.pass_through()
        await calling

    async with tasks:
        earlier = await other.enqueue()
        await earlier
        finished = earlier.id
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        go.set()
        door.open()
        await turns()
        assert done == []
        assert len(await tasks.find()) == 2  # who is outside the task is not held
        await handle.resume()
        await handle.result(10)
        assert len(done) == 7
        assert len(await tasks.find()) == 5


# ---- restarts


async def test_paused_stays_paused_over_a_restart(tasks: TaskManager) -> None:
    """Resumed then, it runs from the top: a new attempt, and no failure."""
    door = Door()

    @tasks.task
    async def work() -> tuple[int, int]:
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt, current_task().failures

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause(reason="over night", actor="ana")
        await until_state(tasks, handle.id, State.PAUSED)
    async with tasks:
        await settled(tasks)
        task = await tasks.get(handle.id)
        assert (task.state, task.reason, task.actor) == (State.PAUSED, "over night", "ana")
        assert task.owner is None
        assert await tasks.resume(handle.id)
        assert await tasks.handle(handle.id, returns=work) == (2, 0)


async def test_a_paused_retry_stays_a_retry(tasks: TaskManager, clock: FakeClock) -> None:
    """Its failures are not forgotten by a pause."""

    @tasks.task(retry=Retry(2, exponential(base=60, jitter=0)))
    async def work() -> None:
        raise ValueError("bad")

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await settled(tasks)
        await handle.pause()
        await clock.advance(3600)
        await handle.resume()
        await settled(tasks)
        task = await handle.task()
        assert (task.state, task.failures) == (State.FAILED, 2)


async def test_closing_does_not_wait_for_paused_tasks(path: Path) -> None:
    """They are not running: the grace is not for them."""
    tasks, door = TaskManager(path, grace=3600), Door()
    cleaned_up: list[int] = []

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            cleaned_up.append(1)

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
    assert cleaned_up == [1]  # its code has ended, too
    async with tasks:
        assert await state(tasks, handle.id) is State.PAUSED
