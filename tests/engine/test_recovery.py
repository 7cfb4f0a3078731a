"""What becomes of tasks whose process died: `on_crash`, order, reports."""

import asyncio
from pathlib import Path

import pytest
from facts import Door, ThreadDoor, moves, state, until, until_mine, until_state

from inloop import (
    Recovery,
    Retry,
    State,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    current_task,
    exponential,
)
from inloop.testing import crash, settled

pytestmark = pytest.mark.anyio


async def reports(tasks: TaskManager, n: int = 1) -> list[Recovery]:
    """The recovery reports, once there are as many."""

    async def are_there() -> bool:
        return len(await tasks.recoveries()) >= n

    await until(are_there)
    return await tasks.recoveries()


# ---- on_crash


async def test_rerun_is_the_default(tasks: TaskManager) -> None:
    """A new attempt from the top; no failure is counted, and `Retry` is not asked."""
    door = Door()

    @tasks.task
    async def work() -> tuple[int, int, bool]:
        task = current_task()
        if task.attempt == 1:
            await door.pass_through()
        return task.attempt, task.failures, task.resumed

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await crash(tasks)
    async with tasks:
        assert await tasks.handle(handle.id, returns=work) == (2, 0, True)
        assert await moves(tasks, handle.id) == ["running", "queued", "running", "succeeded"]
        assert (await tasks.events(handle.id))[1].reason == "its process died"


async def test_fail_ends_it(tasks: TaskManager) -> None:
    """Failed, `Retry` or not; the error names the process that is gone."""
    door = Door()

    @tasks.task(on_crash="fail", retry=Retry(10, exponential(base=0)))
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await crash(tasks)
    async with tasks:
        with pytest.raises(TaskFailed, match="on_crash is 'fail'"):
            await tasks.handle(handle.id)
        assert (await tasks.get(handle.id)).attempt == 1


async def test_hold_waits_for_a_person(tasks: TaskManager) -> None:
    """Held, it keeps its waiters waiting; retried, it runs anew."""
    door = Door()

    @tasks.task(on_crash="hold")
    async def work() -> int:
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await crash(tasks)
    async with tasks:
        await until_state(tasks, handle.id, State.HELD)
        waiting = asyncio.ensure_future(tasks.handle(handle.id, returns=work).result())
        await settled(tasks)
        assert not waiting.done()
        await tasks.retry(handle.id)
        assert await waiting == 2


async def test_a_thread_is_recovered_as_well(tasks: TaskManager) -> None:
    """A plain function's task runs again, although its old thread may still end."""
    door = ThreadDoor()

    @tasks.task
    def work() -> int:
        if current_task().attempt == 1:
            door.pass_through()
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await crash(tasks)
    async with tasks:
        again = tasks.handle(handle.id, returns=work)
        assert await again == 2
        door.open()
        await settled(tasks)
        assert await again == 2  # what the old thread returned is not heard


async def test_whoever_was_asked_to_stop_is_cancelled(tasks: TaskManager) -> None:
    """The request outlives the process that did not get to obey it."""
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
        await crash(tasks)
    cleaned_up.set()
    async with tasks:
        with pytest.raises(TaskCancelled):
            await tasks.handle(handle.id)


async def test_paused_stays_paused(tasks: TaskManager) -> None:
    """Over a crash as over a restart; resumed, it runs from the top."""
    door = Door()

    @tasks.task
    async def work() -> int:
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        await crash(tasks)
    async with tasks:
        (report,) = await reports(tasks)
        assert [told.to for told in report.tasks] == [State.PAUSED]
        assert await state(tasks, handle.id) is State.PAUSED
        await tasks.resume(handle.id)
        assert await tasks.handle(handle.id, returns=work) == 2


async def test_what_was_not_running_is_untouched(tasks: TaskManager) -> None:
    """Scheduled, queued and ended tasks are as they were."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    @tasks.task(queue="other")
    async def quick() -> None: ...

    async with tasks:
        ended = await quick.enqueue()
        await ended
        await tasks.pause_queue("other")
        queued = await quick.enqueue()
        scheduled = await quick.using(delay=3600).enqueue()
        running = await work.enqueue()
        await door.reached()
        before = [await tasks.get(one.id) for one in (ended, queued, scheduled)]
        await crash(tasks)
    async with tasks:
        (report,) = await reports(tasks)
        assert [told.task_id for told in report.tasks] == [running.id]
        assert [await tasks.get(one.id) for one in (ended, queued, scheduled)] == before
        door.open()


# ---- order and report


async def test_the_interrupted_come_first(path: Path) -> None:
    """Ahead of what is queued, whatever its priority; in the order of their own."""
    tasks, door, order = TaskManager(path, grace=0), Door(), []

    @tasks.task
    async def work(name: str) -> None:
        order.append(name)
        if current_task().attempt == 1 and name.startswith("was running"):
            await door.pass_through()

    async with tasks:
        handles = [await work.enqueue(f"was running {n}") for n in (1, 2)]
        await until_mine(tasks, *(handle.id for handle in handles))
        await tasks.pause_all()
        await work.using(priority=100).enqueue("urgent")
    order.clear()
    after = TaskManager(path, concurrency=1)
    after.task(name=work.name)(work.function)
    async with after:
        await after.resume_all()
        await settled(after)
    assert order == ["was running 1", "was running 2", "urgent"]


async def test_it_says_what_became_of_each(tasks: TaskManager) -> None:
    """Whose tasks they were, and of each: what it was, what it is now, and why."""
    door = Door()

    async def work() -> None:
        await door.pass_through()

    functions = {
        on_crash: tasks.task(name=on_crash, on_crash=on_crash)(work)
        for on_crash in ("rerun", "fail", "hold")
    }
    async with tasks:
        handles = {name: await function.enqueue() for name, function in functions.items()}
        for handle in handles.values():
            await until_state(tasks, handle.id, State.RUNNING)
        (owner,) = await tasks.owners()
        await crash(tasks)
    door.open()
    async with tasks:
        (report,) = await reports(tasks)
        assert (report.owner, report.pid, report.host) == (owner.id, owner.pid, owner.host)
        assert report.why == "its process died"
        told = {one.name: one for one in report.tasks}
        assert {name: str(one.to) for name, one in told.items()} == {
            "rerun": "queued",
            "fail": "failed",
            "hold": "held",
        }
        assert {one.task_id for one in report.tasks} == {one.id for one in handles.values()}
        assert all(one.attempt == 1 and one.why for one in report.tasks)
        # The dead owner is not shown any more.
        assert [one.me for one in await tasks.owners()] == [True]


async def test_a_clean_shutdown_leaves_nothing_to_recover(tasks: TaskManager) -> None:
    """No report, and `resumed` is for those that were interrupted."""

    @tasks.task
    async def work() -> bool:
        return current_task().resumed

    async with tasks:
        await (await work.enqueue())
        await tasks.pause_all()
        handle = await work.enqueue()
    async with tasks:
        await tasks.resume_all()
        assert await tasks.handle(handle.id) is False
        assert await tasks.recoveries() == []


async def test_a_living_sibling_recovers_within_a_second(path: Path) -> None:
    """Nobody has to start anew: the lock of the dead is free."""
    one, two, door = TaskManager(path), TaskManager(path), Door()

    async def work() -> int:
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt

    mine, _ = one.task(name="work")(work), two.task(name="work")(work)
    async with one, two:
        await two.pause_all()
        await two.resume_all()
        handle = await mine.enqueue()
        await door.reached()
        owner = (await two.get(handle.id)).owner
        if owner == next(o.id for o in await one.owners() if o.me):
            dead, alive = one, two
        else:
            dead, alive = two, one
        loop = asyncio.get_running_loop()
        await crash(dead)
        died = loop.time()
        assert await alive.handle(handle.id) == 2
        assert loop.time() - died < 1.5  # promised is one second; this machine may be busy


async def test_recovering_many_is_whole(tasks: TaskManager) -> None:
    """Page by page, each with its part of the report; none is forgotten."""
    door = Door()

    @tasks.task
    async def work() -> None:
        if current_task().attempt == 1:
            await door.pass_through()

    many = TaskManager(tasks.name, concurrency=1200)
    enqueue = many.task(name=work.name)(work.function)
    async with many:
        await enqueue.enqueue_many([()] * 1100)

        async def all_run() -> bool:
            return (await many.counts())["default"].get(State.RUNNING) == 1100

        await until(all_run)
        await crash(many)
    async with many:

        async def all_done() -> bool:
            return (await many.counts())["default"] == {State.SUCCEEDED: 1100}

        await until(all_done)
        found = await many.recoveries()
        assert sum(len(report.tasks) for report in found) == 1100
        assert len({told.task_id for report in found for told in report.tasks}) == 1100
