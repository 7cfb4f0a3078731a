"""Two managers on one file, as two processes are: no task twice, control from either."""

import asyncio
import collections
from pathlib import Path

import pytest
from facts import Door, state, until, until_state

from inloop import IllegalMove, State, TaskCancelled, TaskManager, current_task
from inloop.testing import crash, settled

pytestmark = pytest.mark.anyio


async def test_no_task_is_run_twice(path: Path) -> None:
    """Five hundred tasks and two managers that claim them: each runs once, and both work."""
    managers = [TaskManager(path, concurrency=10) for _ in range(2)]
    ran: collections.Counter[int] = collections.Counter()
    owners: set[str | None] = set()

    async def work(n: int) -> None:
        ran[n] += 1
        await asyncio.sleep(0)

    one, _ = (tasks.task(name="work")(work) for tasks in managers)
    async with managers[0], managers[1]:
        await one.enqueue_many([(n,) for n in range(500)])
        while len(ran) < 500:
            owners |= {task.owner for task in await managers[0].find(state="running")}
            await asyncio.sleep(0.003)
        await managers[0].drain(15)
        assert ran == dict.fromkeys(range(500), 1)
        assert await managers[1].counts() == {"default": {State.SUCCEEDED: 500}}
        assert {task.attempt for task in await managers[1].find(limit=1000)} == {1}
        assert len(owners - {None}) == 2


async def test_both_enqueue_at_once(path: Path) -> None:
    """All calls succeed, and every task runs once."""
    managers = [TaskManager(path) for _ in range(2)]
    ran: collections.Counter[int] = collections.Counter()

    async def work(n: int) -> int:
        ran[n] += 1
        return n

    one, two = (tasks.task(name="work")(work) for tasks in managers)
    async with managers[0], managers[1]:

        async def call(n: int) -> int:
            return await (await (one if n % 2 else two).enqueue(n)).result(15)

        assert await asyncio.gather(*(call(n) for n in range(100))) == list(range(100))
        assert ran == dict.fromkeys(range(100), 1)


async def test_a_key_holds_over_both(path: Path) -> None:
    """Whoever enqueues first; the other gets its handle."""
    managers = [TaskManager(path, work=False) for _ in range(2)]

    async def work() -> None: ...

    one, two = (tasks.task(name="work", key="only")(work) for tasks in managers)
    async with managers[0], managers[1]:
        handles = await asyncio.gather(*(f.enqueue() for f in (one, two) * 10))
        assert sum(handle.created for handle in handles) == 1
        assert len({handle.id for handle in handles}) == 1


# ---- control from the other one


@pytest.fixture
def back(path: Path) -> TaskManager:
    """The one that works."""
    return TaskManager(path)


@pytest.fixture
def front(path: Path) -> TaskManager:
    """The one that controls."""
    return TaskManager(path, work=False)


async def obeyed_within(seconds: float, tasks: TaskManager, task_id: str, wanted: State) -> None:
    """The owner has obeyed within that time, with room for a busy machine."""
    loop = asyncio.get_running_loop()
    asked = loop.time()
    await until_state(tasks, task_id, wanted)
    assert loop.time() - asked < seconds * 2


async def test_the_owner_obeys_within_a_second(back: TaskManager, front: TaskManager) -> None:
    """Pause, resume and cancel of a task that runs elsewhere."""
    door = Door()

    @back.task
    async def work() -> None:
        await door.pass_through()

    async with back, front:
        handle = front.handle((await work.enqueue()).id)
        await door.reached()
        assert await handle.pause(actor="ana")
        await obeyed_within(1, front, handle.id, State.PAUSED)
        assert await handle.resume()
        await obeyed_within(1, front, handle.id, State.RUNNING)
        assert await handle.cancel(reason="enough")
        await obeyed_within(1, front, handle.id, State.CANCELLED)
        with pytest.raises(TaskCancelled, match="enough"):
            await handle


async def test_a_task_made_elsewhere_starts_within_a_second(
    back: TaskManager, front: TaskManager
) -> None:
    """So does one that is resumed, retried or rescheduled there."""

    @back.task
    async def work() -> int:
        return current_task().attempt

    enqueue = front.task(name=work.name)(work.function)
    async with back, front:
        loop = asyncio.get_running_loop()
        began = loop.time()
        handle = await enqueue.enqueue()
        assert await handle.result(10) == 1
        assert loop.time() - began < 2
        await front.retry(handle.id)
        assert await front.handle(handle.id).result(10) == 2
        later = await enqueue.using(delay=3600).enqueue()
        await later.pause()
        await later.resume()
        await front.reschedule(later.id)
        assert await later.result(10) == 1


# ---- taking over


async def test_a_person_may_take_tasks_over(path: Path) -> None:
    """The old owner is fenced: what its code returns is not heard, and it goes on as a new one."""
    stuck, rescuer, door = TaskManager(path), TaskManager(path), Door()
    attempts: list[int] = []

    async def work() -> int:
        attempts.append(current_task().attempt)
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt

    mine = stuck.task(name="work")(work)
    async with stuck:
        handle = await mine.enqueue()
        await door.reached()
        (old,) = await stuck.owners()
        rescuer.task(name="work")(work)
        async with rescuer:
            assert await rescuer.take_over(old.id, reason="it is stuck", actor="ana") == 1
            assert await rescuer.handle(handle.id, returns=int).result(10) == 2
            (report,) = await rescuer.recoveries()
            assert report.owner == old.id
            assert "ana" in report.why

            async def has_a_new_owner() -> bool:
                ids = {owner.id for owner in await rescuer.owners()}
                return len(ids) == 2 and old.id not in ids

            await until(has_a_new_owner)
            door.open()
            assert await (await mine.enqueue()).result(10) == 1
            await settled(stuck)
            assert (await rescuer.get(handle.id)).result == 2
            assert await rescuer.counts() == {"default": {State.SUCCEEDED: 2}}


async def test_whom_nobody_can_take_over(back: TaskManager, front: TaskManager) -> None:
    """IllegalMove for an owner that is not there, and for oneself."""
    async with back, front:
        me = next(owner for owner in await front.owners() if owner.me)
        with pytest.raises(IllegalMove, match="is this process itself"):
            await front.take_over(me.id)
        with pytest.raises(IllegalMove, match=r"no open owner .*owners\(\)"):
            await front.take_over("no-such-owner")


async def test_owners_are_shown_as_they_are(path: Path) -> None:
    """Both alive; after a crash of one, and its recovery, only the other."""
    one, two = TaskManager(path), TaskManager(path)
    async with two:
        async with one:
            owners = await two.owners()
            assert [(owner.alive, owner.responding) for owner in owners] == [(True, True)] * 2
            assert sum(owner.me for owner in owners) == 1
            await crash(one)

        async def is_alone() -> bool:
            return len(await two.owners()) == 1

        await until(is_alone)


async def test_closing_one_does_not_disturb_the_other(path: Path) -> None:
    """Its tasks go on; what the first interrupted, the second runs."""
    one, two, door = TaskManager(path, grace=0), TaskManager(path), Door()

    async def work() -> int:
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt

    mine = one.task(name="work")(work)
    async with two:
        async with one:
            handle = await mine.enqueue()
            await door.reached()
            two.task(name="work")(work)
        assert await two.handle(handle.id).result(10) == 2
        assert await state(two, handle.id) is State.SUCCEEDED
