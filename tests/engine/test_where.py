"""Verbs on many tasks, by the words of `find`."""

import asyncio
from datetime import timedelta

import pytest
from facts import Door, turns

from inloop import State, TaskCancelled, TaskManager
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


async def test_cancel_where(tasks: TaskManager) -> None:
    """Those that have ended are passed over; the running ones are asked. How many is told."""
    door = Door()

    @tasks.task(tags=("batch",))
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        runs = await work.enqueue()
        await door.reached()
        later = [await work.using(delay=60).enqueue() for _ in range(3)]
        other = await work.using(delay=60, tags=("other",)).enqueue()
        await later[0].cancel()
        assert await tasks.cancel_where(tag="batch", reason="all off", actor="ana") == 3
        for handle in (runs, *later[1:]):
            with pytest.raises(TaskCancelled, match="all off"):
                await handle
        assert (await other.task()).state is State.SCHEDULED


async def test_pause_and_resume_where(tasks: TaskManager, clock: FakeClock) -> None:
    """Those whose state does not allow it are passed over."""

    @tasks.task
    async def work(n: int) -> int:
        return n

    async with running(tasks, clock=clock):
        ended = await work.enqueue(0)
        await ended
        handles = await work.using(delay=60, tags=("batch",)).enqueue_many([(1,), (2,)])
        assert await tasks.pause_where(tag="batch") == 2
        await clock.advance(120)
        assert await tasks.counts() == {"default": {State.SUCCEEDED: 1, State.PAUSED: 2}}
        assert await tasks.resume_where(state="paused") == 2
        assert [await handle for handle in handles] == [1, 2]


async def test_retry_where(tasks: TaskManager) -> None:
    """All that failed, for one reason, in one go."""
    trouble = dict.fromkeys(range(3), "the network is down") | {3: "no space", 4: "no space"}

    @tasks.task
    async def work(n: int) -> int:
        if n in trouble:
            raise OSError(trouble[n])
        return n

    async with tasks:
        await work.enqueue_many([(n,) for n in range(5)])
        await settled(tasks)
        trouble.clear()
        assert await tasks.retry_where(state="failed", text="network") == 3
        await settled(tasks)
        assert await tasks.counts() == {"default": {State.SUCCEEDED: 3, State.FAILED: 2}}


async def test_delete_where(tasks: TaskManager) -> None:
    """What has not ended is passed over."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        await work.enqueue_many([()] * 3)
        await settled(tasks)
        await work.using(delay=60).enqueue()
        assert await tasks.delete_where(name=work.name) == 3
        assert await tasks.counts() == {"default": {State.SCHEDULED: 1}}


async def test_more_than_a_page(tasks: TaskManager) -> None:
    """However many there are."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        await work.using(delay=60).enqueue_many([(n,) for n in range(450)])
        assert await tasks.pause_where(name=work.name) == 450
        assert await tasks.cancel_where(state=State.PAUSED) == 450
        assert await tasks.counts() == {"default": {State.CANCELLED: 450}}


async def test_by_time(tasks: TaskManager, clock: FakeClock) -> None:
    """`since` and `until`, as in `find`."""

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        for _ in range(3):
            await work.using(delay=3600).enqueue()
            await clock.advance(60)
        start = FakeClock().time
        minute = timedelta(minutes=1)
        assert await tasks.cancel_where(since=start + minute, until=start + 2 * minute) == 1


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry", "delete"])
async def test_without_a_filter_nothing_is_done(tasks: TaskManager, verb: str) -> None:
    """ValueError, unless `everything=True`."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        await work.using(delay=60).enqueue()
        where = getattr(tasks, f"{verb}_where")
        with pytest.raises(ValueError, match=rf"would {verb} every task.*everything=True"):
            await where()
        assert await tasks.counts() == {"default": {State.SCHEDULED: 1}}
        assert await where(everything=True) == {"cancel": 1, "pause": 1}.get(
            verb, 1 if verb == "resume" else 0
        )


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry", "delete"])
async def test_a_word_that_find_does_not_know(tasks: TaskManager, verb: str) -> None:
    """TypeError, naming the words: a misspelt filter must not hit everything."""
    async with tasks:
        with pytest.raises(TypeError, match=r"tagg=.*words are those of find: state, name, queue"):
            await getattr(tasks, f"{verb}_where")(tagg="batch")


async def test_an_empty_list_of_states_hits_nobody(tasks: TaskManager) -> None:
    """It is a filter, and one that nothing fits."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        await work.using(delay=60).enqueue()
        assert await tasks.cancel_where(state=[]) == 0


async def test_many_at_once_leave_the_loop_free(tasks: TaskManager) -> None:
    """Other code runs in between."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        await work.using(delay=60).enqueue_many([(n,) for n in range(1000)])
        cancelling = asyncio.ensure_future(tasks.cancel_where(everything=True))
        rounds = 0
        while not cancelling.done():
            await turns(1)
            rounds += 1
        assert await cancelling == 1000
        assert rounds > 10
