"""Pause means pause: what stands still, what runs on, and what happens to its slot."""

import asyncio
import threading
from pathlib import Path

import pytest
from facts import Door, ThreadDoor, moves, state, turns, until, until_state

from inloop import (
    IllegalMove,
    Queue,
    Retry,
    State,
    TaskCancelled,
    TaskManager,
    checkpoint,
    current_task,
    exponential,
)
from inloop.testing import FakeClock, crash, running, settled

pytestmark = pytest.mark.anyio


# ---- in every state


async def test_a_scheduled_task_goes_back_to_scheduled(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Due while it is paused, it does not start; resumed, it does."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.using(delay=60).enqueue()
        assert await handle.pause(reason="not yet", actor="ana")
        task = await handle.task()
        assert (task.state, task.paused_from) == (State.PAUSED, State.SCHEDULED)
        assert (task.actor, task.reason) == ("ana", "not yet")
        await clock.advance(120)
        assert await state(tasks, handle.id) is State.PAUSED
        assert await handle.resume()
        assert await handle == "done"


async def test_a_queued_task_goes_back_to_queued(tasks: TaskManager) -> None:
    """And starts when the queue lets it."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with tasks:
        await tasks.pause_all()
        handle = await work.enqueue()
        await handle.pause()
        await tasks.resume_all()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.PAUSED
        await handle.resume()
        assert await handle == "done"
        expected = ["queued", "paused", "queued", "running", "succeeded"]
        assert await moves(tasks, handle.id) == expected


async def test_a_running_coroutine_stands_still(tasks: TaskManager) -> None:
    """At its present await: what it waited for has come, and it does not go on."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> int:
        await door.pass_through()
        steps.append("on")
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.pause(reason="wait", actor="ana")
        await until_state(tasks, handle.id, State.PAUSED)
        task = await handle.task()
        assert (task.actor, task.reason, task.paused_from) == ("ana", "wait", State.RUNNING)
        door.open()
        await turns()
        assert steps == []
        assert await handle.resume()
        assert await handle == 1  # the same attempt: it went on
        assert await moves(tasks, handle.id) == ["running", "paused", "running", "succeeded"]


async def test_a_running_thread_stands_still_at_its_checkpoint(tasks: TaskManager) -> None:
    """Until it comes there it is shown as pausing."""
    door, rounds, enough = ThreadDoor(), [0], threading.Event()

    @tasks.task
    def work() -> int:
        door.pass_through()
        while not enough.is_set():
            rounds[0] += 1
            checkpoint()
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        assert (await handle.task()).label == "pausing"
        door.open()
        await until_state(tasks, handle.id, State.PAUSED)
        before = rounds[0]
        await asyncio.sleep(0.02)
        assert rounds[0] == before
        enough.set()
        await handle.resume()
        assert await handle == 1


async def test_a_thread_without_checkpoint_goes_on(tasks: TaskManager) -> None:
    """It ends as if nobody had asked."""
    door = ThreadDoor()

    @tasks.task
    def work() -> str:
        door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        door.open()
        assert await handle == "done"


@pytest.mark.parametrize("end", ["succeeded", "cancelled"])
async def test_a_finished_task_is_not_paused(tasks: TaskManager, end: str) -> None:
    """False, for pause and resume alike."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=60 if end == "cancelled" else 0).enqueue()
        if end == "cancelled":
            await handle.cancel()
        await settled(tasks)
        assert await handle.pause() is False
        assert await handle.resume() is False
        assert await state(tasks, handle.id) == end


async def test_a_held_task_is_not_paused(tasks: TaskManager) -> None:
    """IllegalMove, and what would do instead."""

    @tasks.task(on_crash="hold")
    async def work() -> None:
        await asyncio.sleep(3600)

    async with tasks:
        handle = await work.enqueue()
        await until_state(tasks, handle.id, State.RUNNING)
        await crash(tasks)
    async with tasks:
        await until_state(tasks, handle.id, State.HELD)
        with pytest.raises(IllegalMove, match="retry it or fail it"):
            await tasks.pause(handle.id)
        with pytest.raises(IllegalMove, match="retry it or fail it"):
            await tasks.resume(handle.id)


async def test_a_task_that_is_being_cancelled_is_not_paused(tasks: TaskManager) -> None:
    """IllegalMove: it is on its way out."""
    door, cleaned_up = Door(), asyncio.Event()

    @tasks.task
    async def work() -> None:
        try:
            await door.pass_through()
        finally:
            await cleaned_up.wait()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(IllegalMove, match="is being cancelled"):
            await handle.pause()
        cleaned_up.set()
        with pytest.raises(TaskCancelled):
            await handle


async def test_pausing_and_resuming_twice_is_pausing_and_resuming(tasks: TaskManager) -> None:
    """Asked again, the answer is True and nothing more happens."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        assert await handle.resume()  # it is not paused at all
        for _ in range(2):
            assert await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        assert await handle.pause()
        for _ in range(2):
            assert await handle.resume()
        await until_state(tasks, handle.id, State.RUNNING)
        door.open()
        await handle
        assert await moves(tasks, handle.id) == ["running", "paused", "running", "succeeded"]


async def test_the_last_word_counts(tasks: TaskManager) -> None:
    """Paused and resumed, or resumed and paused, faster than it can obey."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        for _ in range(10):
            await asyncio.gather(handle.pause(), handle.resume(), handle.pause())
        await until_state(tasks, handle.id, State.PAUSED)
        await settled(tasks)
        assert await state(tasks, handle.id) is State.PAUSED
        for _ in range(10):
            await asyncio.gather(handle.resume(), handle.pause(), handle.resume())
        door.open()
        assert await handle.result(10) == "done"


async def test_it_can_be_paused_and_resumed_many_times(tasks: TaskManager) -> None:
    """It goes on exactly where it stood, each time."""
    steps: list[int] = []
    doors = [Door() for _ in range(5)]

    @tasks.task
    async def work() -> list[int]:
        for n, door in enumerate(doors):
            await door.pass_through()
            steps.append(n)
        return steps

    async with tasks:
        handle = await work.enqueue()
        for n, door in enumerate(doors):
            await door.reached()
            await handle.pause()
            await until_state(tasks, handle.id, State.PAUSED)
            door.open()
            await turns()
            assert len(steps) == n
            await handle.resume()
        assert await handle == [0, 1, 2, 3, 4]


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
