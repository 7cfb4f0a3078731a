"""`using(...)`: other options for the calls that are made through it."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from inloop import Key, Retry, State, TaskFailed, TaskManager, current_task, exponential
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


async def test_it_leaves_the_original_alone(tasks: TaskManager) -> None:
    """It gives another task function of the same name; what it does not say stays as declared."""

    @tasks.task(queue="mail", priority=3, tags=("a",))
    async def work() -> None: ...

    changed = work.using(delay=60, queue="slow")
    async with tasks:
        task = await (await changed.enqueue()).task()
        assert (task.queue, task.priority, task.tags) == ("slow", 3, ("a",))
        task = await (await work.enqueue()).task()
        assert (task.queue, task.due) == ("mail", task.created)


async def test_it_can_be_used_upon_itself(tasks: TaskManager) -> None:
    """Later words go before earlier ones, the others add up."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        changed = work.using(queue="a", priority=1).using(queue="b", delay=60)
        task = await (await changed.enqueue()).task()
        assert (task.queue, task.priority, task.state) == ("b", 1, State.SCHEDULED)


async def test_delay_and_at_replace_each_other(tasks: TaskManager, clock: FakeClock) -> None:
    """The last one counts."""

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        later = clock.time + timedelta(hours=1)
        by_at = await work.using(delay=60).using(at=later).enqueue()
        by_delay = await work.using(at=later).using(delay=60).enqueue()
        assert (await by_at.task()).due == later
        assert (await by_delay.task()).due == clock.time + timedelta(minutes=1)


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
async def test_delay_is_seconds_or_a_timedelta(
    tasks: TaskManager, clock: FakeClock, delay: float
) -> None:
    """Exact to the microsecond."""

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        task = await (await work.using(delay=delay).enqueue()).task()
        assert task.due == clock.time + timedelta(seconds=90)
        assert task.state is State.SCHEDULED


async def test_no_delay_is_at_once(tasks: TaskManager) -> None:
    """`delay=0` is queued, or running already."""

    @tasks.task
    async def work() -> int:
        return 1

    async with tasks:
        assert await (await work.using(delay=0).enqueue()) == 1


async def test_at_may_be_in_any_time_zone(tasks: TaskManager, clock: FakeClock) -> None:
    """It is an instant; what comes back is UTC."""

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        at = datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        assert at == clock.time
        task = await (await work.using(at=at + timedelta(hours=1)).enqueue()).task()
        assert task.due == datetime(2026, 1, 1, 1, tzinfo=UTC)
        assert task.due.tzinfo is UTC


async def test_at_in_the_past_is_at_once(tasks: TaskManager, clock: FakeClock) -> None:
    """And keeps its due, by which it is sorted."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.using(at=clock.time - timedelta(days=1)).enqueue()
        assert await handle == "done"
        assert (await handle.task()).due == clock.time - timedelta(days=1)


async def test_key_in_all_its_forms(tasks: TaskManager) -> None:
    """A template, a function, or a `Key`."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        later = work.using(delay=60)
        keys: list[Any] = ["k{n}", lambda n: f"f{n}", Key("K{n}")]
        found = [(await (await later.using(key=key).enqueue(7)).task()).key for key in keys]
        assert found == ["k7", "f7", "K7"]


async def test_retry_goes_with_the_task(tasks: TaskManager, clock: FakeClock) -> None:
    """Stored with it: a later process decides by it, too."""

    @tasks.task
    async def work() -> None:
        raise ConnectionError("busy")

    rule = Retry(3, exponential(base=60, jitter=0), on=(OSError,))
    async with running(tasks, clock=clock):
        handle = await work.using(retry=rule).enqueue()
        plain = await work.enqueue()
        await settled(tasks)
        assert (await plain.task()).state is State.FAILED
        assert (await handle.task()).due == clock.time + timedelta(seconds=60)
    async with running(tasks, clock=clock):
        await clock.advance(60)
        assert (await tasks.get(handle.id)).due == clock.time + timedelta(seconds=120)
        await clock.advance(120)
        task = await tasks.get(handle.id)
        assert (task.state, task.failures) == (State.FAILED, 3)


async def test_timeout_and_expires_go_with_the_task(tasks: TaskManager, clock: FakeClock) -> None:
    """As retry does."""

    @tasks.task
    async def deadline() -> datetime | None:
        return current_task().deadline

    async with running(tasks, clock=clock):
        handle = await deadline.using(timeout=timedelta(minutes=1), expires=5).enqueue()
        assert await handle == clock.time + timedelta(minutes=1)
        assert (await handle.task()).expires == timedelta(seconds=5)
        assert await (await deadline.enqueue()) is None


async def test_tags_replace_those_that_were_declared(tasks: TaskManager) -> None:
    """An empty list means none."""

    @tasks.task(tags=("a",))
    async def work() -> None: ...

    async with tasks:
        later = work.using(delay=60)
        assert (await (await later.using(tags=("b", "c")).enqueue()).task()).tags == ("b", "c")
        assert (await (await later.using(tags=()).enqueue()).task()).tags == ()


async def test_called_plainly_it_is_still_the_function(tasks: TaskManager) -> None:
    """Options are for tasks only."""

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    assert await add.using(delay=60)(1, 2) == 3


async def test_what_it_says_holds_for_calls_and_many(tasks: TaskManager) -> None:
    """A call keeps the options of the task function it was made with."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        slow, fast = work.using(queue="slow", delay=60), work.using(queue="fast", delay=60)
        handles = await work.enqueue_many([slow.call(1), fast.call(2)])
        handles += await slow.enqueue_many([(3,), (4,)])
        queues = [(await handle.task()).queue for handle in handles]
        assert queues == ["slow", "fast", "slow", "slow"]


async def test_a_retry_with_a_function_for_backoff_is_refused(tasks: TaskManager) -> None:
    """It could not be stored with the task; the message says where it may stand."""

    @tasks.task(retry=Retry(2, backoff=lambda n: 0))
    async def work() -> None:
        raise ValueError("bad")

    with pytest.raises(TypeError, match=r"@tasks\.task\(retry=…\)"):
        work.using(retry=Retry(2, backoff=lambda n: 0))
    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed):
            await handle
        assert (await handle.task()).failures == 2
