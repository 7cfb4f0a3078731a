"""A tutorial in tests, part three: later, again after a failure, and only once.

A `FakeClock` stands still until it is told to advance, so that nobody has to wait for tomorrow.
"""

from datetime import timedelta

import pytest

from inloop import Retry, Snooze, State, TaskManager, exponential
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


async def test_a_task_can_wait_for_its_time(tasks: TaskManager, clock: FakeClock) -> None:
    """`delay` is a time from now; until then the task is scheduled."""

    @tasks.task
    async def remind(name: str) -> str:
        return f"dear {name}"

    async with running(tasks, clock=clock):
        handle = await remind.using(delay=timedelta(days=1)).enqueue("ana")
        await clock.advance(timedelta(hours=23))
        assert (await handle.task()).state is State.SCHEDULED
        await clock.advance(timedelta(hours=1))
        assert await handle == "dear ana"


async def test_a_task_can_wait_for_an_instant(tasks: TaskManager, clock: FakeClock) -> None:
    """`at` is an aware datetime."""

    @tasks.task
    async def remind(name: str) -> str:
        return f"dear {name}"

    async with running(tasks, clock=clock):
        handle = await remind.using(at=clock.time + timedelta(days=7)).enqueue("ana")
        await clock.advance(timedelta(days=7))
        assert await handle == "dear ana"


async def test_a_failure_can_be_tried_again(tasks: TaskManager, clock: FakeClock) -> None:
    """`Retry` says how often and when; every attempt is kept."""
    answers = iter(["busy", "busy", "sent"])

    @tasks.task(retry=Retry(attempts=5, backoff=exponential(base=60)))
    async def send() -> str:
        answer = next(answers)
        if answer == "busy":
            raise ConnectionError(answer)
        return answer

    async with running(tasks, clock=clock):
        handle = await send.enqueue()
        await clock.advance(timedelta(minutes=10))
        assert await handle == "sent"
        outcomes = [attempt.outcome for attempt in await tasks.attempts(handle.id)]
        assert outcomes == [State.SCHEDULED, State.SCHEDULED, State.SUCCEEDED]


async def test_a_task_can_put_itself_off(tasks: TaskManager, clock: FakeClock) -> None:
    """`raise Snooze(seconds)` runs it again later, and counts no failure."""
    ready = False

    @tasks.task
    async def collect() -> str:
        if not ready:
            raise Snooze(300)
        return "collected"

    async with running(tasks, clock=clock):
        handle = await collect.enqueue()
        await settled(tasks)
        ready = True
        await clock.advance(300)
        assert await handle == "collected"
        assert (await handle.task()).failures == 0


async def test_a_key_stands_for_one_unfinished_task(tasks: TaskManager) -> None:
    """Enqueued twice with one key there is one task: the second call gets a handle to the first."""

    @tasks.task(key="welcome:{user_id}")
    async def welcome(user_id: int) -> None: ...

    async with tasks:
        first = await welcome.using(delay=3600).enqueue(7)
        again = await welcome.enqueue(7)
        other = await welcome.enqueue(8)
        assert first.created
        assert not again.created
        assert again.id == first.id
        assert other.created
