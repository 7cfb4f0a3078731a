"""Every way in which an attempt can end by itself, and what becomes of its task."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from facts import moves

from inloop import (
    GiveUp,
    ResultError,
    Retry,
    Snooze,
    State,
    TaskFailed,
    TaskManager,
    current_task,
    exponential,
)
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio

AT_ONCE = exponential(base=0)


class Flaky(Exception):
    """A user's own error."""


# ---- returned and raised


@pytest.mark.parametrize("in_thread", [False, True])
async def test_returned(tasks: TaskManager, in_thread: bool) -> None:
    """Succeeded, with its result stored."""

    @tasks.task
    async def coroutine() -> list[int]:
        return [1, 2]

    @tasks.task
    def plain() -> list[int]:
        return [1, 2]

    async with tasks:
        handle = await (plain if in_thread else coroutine).enqueue()
        assert await handle == [1, 2]
        task = await handle.task()
        assert (task.state, task.result, task.error) == (State.SUCCEEDED, [1, 2], None)
        assert task.finished is not None
        assert await moves(tasks, handle.id) == ["running", "succeeded"]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_raised(tasks: TaskManager, in_thread: bool) -> None:
    """Failed; its error is stored as text, with the frames from the user's function on."""

    def deep_inside() -> None:
        raise Flaky("bad luck")

    @tasks.task
    async def coroutine() -> None:
        deep_inside()

    @tasks.task
    def plain() -> None:
        deep_inside()

    async with tasks:
        handle = await (plain if in_thread else coroutine).enqueue()
        with pytest.raises(TaskFailed, match="bad luck") as caught:
            await handle
        assert isinstance(caught.value.__cause__, Flaky)
        assert (caught.value.task_id, caught.value.attempt) == (handle.id, 1)
        task = await handle.task()
        assert (task.state, task.failures) == (State.FAILED, 1)
        assert task.error is not None
        assert task.error.type.endswith("Flaky")
        assert task.error.message == "bad luck"
        assert "deep_inside" in task.error.traceback
        assert "inloop/_" not in task.error.traceback


async def test_it_is_told_only_after_it_is_stored(tasks: TaskManager) -> None:
    """Whoever hears of an outcome can read it."""

    @tasks.task
    async def work(n: int) -> int:
        return n

    async with tasks:

        async def check(n: int) -> None:
            handle = await work.enqueue(n)
            assert await handle == n
            assert (await handle.task()).state is State.SUCCEEDED

        await asyncio.gather(*(check(n) for n in range(100)))


# ---- retry


async def test_a_retry_is_a_new_attempt(tasks: TaskManager, clock: FakeClock) -> None:
    """Scheduled again after its backoff; what came before is kept."""

    @tasks.task(retry=Retry(3, exponential(base=10, factor=3, jitter=0)))
    async def work() -> int:
        attempt = current_task().attempt
        if attempt < 3:
            raise Flaky(f"attempt {attempt}")
        return attempt

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await settled(tasks)
        task = await handle.task()
        assert (task.state, task.label) == (State.SCHEDULED, "retrying")
        assert task.due == clock.time + timedelta(seconds=10)
        await clock.advance(9.999999)
        assert (await handle.task()).attempt == 1
        await clock.advance(0.000001)
        assert (await handle.task()).due == clock.time + timedelta(seconds=30)
        await clock.advance(30)
        assert await handle == 3
        first, second, third = await tasks.attempts(handle.id)
        assert [one.number for one in (first, second, third)] == [1, 2, 3]
        assert first.error is not None
        assert first.error.message == "attempt 1"
        assert second.error is not None
        assert second.error.message == "attempt 2"
        assert (third.outcome, third.error) == (State.SUCCEEDED, None)
        # The error of an attempt that was tried again is no longer the task's.
        assert (await handle.task()).error is None


async def test_the_last_failure_ends_it(tasks: TaskManager) -> None:
    """After as many failures as `attempts` says."""
    calls: list[int] = []

    @tasks.task(retry=Retry(3, AT_ONCE))
    async def work() -> None:
        calls.append(current_task().failures)
        raise Flaky("always")

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed, match="attempt 3"):
            await handle
    assert calls == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "error", "attempts"),
    [
        ({"on": (OSError,)}, ConnectionError("busy"), 3),
        ({"on": (OSError,)}, Flaky("bad"), 1),
        ({"give_up_on": (Flaky,)}, Flaky("bad"), 1),
        ({"give_up_on": (Flaky,)}, OSError("busy"), 3),
        ({}, GiveUp("no use"), 1),
        ({}, SystemExit(1), 1),
        ({"on": (BaseException,)}, SystemExit(1), 3),
    ],
)
async def test_what_is_retried(
    tasks: TaskManager, options: dict[str, Any], error: BaseException, attempts: int
) -> None:
    """`on` chooses the errors, `give_up_on` and GiveUp go before it."""

    @tasks.task(retry=Retry(3, AT_ONCE, **options))
    async def work() -> None:
        raise error

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed):
            await handle
        assert (await handle.task()).attempt == attempts


async def test_backoff_may_be_a_function(tasks: TaskManager, clock: FakeClock) -> None:
    """Of the number of failures, giving seconds."""

    @tasks.task(retry=Retry(3, backoff=lambda failures: 100 * failures))
    async def work() -> None:
        raise Flaky("bad")

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await settled(tasks)
        assert (await handle.task()).due == clock.time + timedelta(seconds=100)
        await clock.advance(100)
        assert (await handle.task()).due == clock.time + timedelta(seconds=200)


async def test_backoff_is_spread(tasks: TaskManager, clock: FakeClock) -> None:
    """Tasks that failed together do not come back together."""

    @tasks.task(retry=Retry(2, exponential(base=100, jitter=0.5)))
    async def work() -> None:
        raise Flaky("bad")

    async with running(tasks, clock=clock):
        await work.enqueue_many([()] * 20)
        await settled(tasks)
        waits = {(task.due - clock.time).total_seconds() for task in await tasks.find()}
        assert len(waits) > 10
        assert all(50 <= wait <= 150 for wait in waits)


async def test_a_broken_backoff_does_not_hide_the_error(tasks: TaskManager) -> None:
    """The task fails with its own error, and the reason tells of the backoff."""

    @tasks.task(retry=Retry(3, backoff=lambda failures: 1 / 0))
    async def work() -> None:
        raise Flaky("the error")

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed, match="the error"):
            await handle
        assert "backoff raised ZeroDivisionError" in ((await handle.task()).reason or "")


# ---- snooze and give up


@pytest.mark.parametrize("in_thread", [False, True])
async def test_snooze_counts_no_failure(
    tasks: TaskManager, clock: FakeClock, in_thread: bool
) -> None:
    """The task runs again after that time, however often, also without any retry."""

    def once_more() -> int:
        task = current_task()
        if task.attempt <= 5:
            raise Snooze(60)
        return task.failures

    @tasks.task
    async def coroutine() -> int:
        return once_more()

    @tasks.task
    def plain() -> int:
        return once_more()

    async with running(tasks, clock=clock):
        handle = await (plain if in_thread else coroutine).enqueue()
        await settled(tasks)
        task = await handle.task()
        assert (task.state, task.label) == (State.SCHEDULED, "scheduled")
        assert task.reason == "snoozed for 60 s"
        assert task.due == clock.time + timedelta(seconds=60)
        await clock.advance(300)
        assert await handle == 0
        assert (await handle.task()).attempt == 6


async def test_give_up_keeps_its_reason(tasks: TaskManager) -> None:
    """As the error of the failed task."""

    @tasks.task(retry=Retry(10))
    async def work() -> None:
        raise GiveUp("no such account")

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed, match="no such account") as caught:
            await handle
        assert isinstance(caught.value.__cause__, GiveUp)


# ---- what nobody asked for


async def test_a_stray_cancellation_is_a_failure(tasks: TaskManager) -> None:
    """A CancelledError that the engine did not ask for; it is retried as any other."""

    @tasks.task(retry=Retry(2, AT_ONCE))
    async def work() -> str:
        if current_task().attempt == 1:
            raise asyncio.CancelledError
        return "done"

    async with tasks:
        handle = await work.enqueue()
        assert await handle == "done"
        (first, _) = await tasks.attempts(handle.id)
        assert first.error is not None
        assert "nobody had asked for" in first.error.message
        assert (await handle.task()).failures == 1


async def test_a_task_that_cancels_itself_has_failed(tasks: TaskManager) -> None:
    """`asyncio.current_task().cancel()` is no request of the engine's."""

    @tasks.task
    async def work() -> None:
        me = asyncio.current_task()
        assert me is not None
        me.cancel()
        await asyncio.sleep(3600)

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed, match="nobody had asked for"):
            await handle


async def test_a_plain_function_may_raise_cancelled_error(tasks: TaskManager) -> None:
    """A failure like any other."""

    @tasks.task
    def work() -> None:
        raise asyncio.CancelledError

    async with tasks:
        with pytest.raises(TaskFailed, match="nobody had asked for"):
            await (await work.enqueue())


# ---- results that cannot be stored


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_result_that_cannot_be_stored_is_not_retried(
    tasks: TaskManager, in_thread: bool
) -> None:
    """What the task did cannot be undone by doing it again."""
    calls: list[int] = []

    @tasks.task(retry=Retry(5, AT_ONCE))
    async def coroutine() -> object:
        calls.append(1)
        return threading.Lock()

    @tasks.task(retry=Retry(5, AT_ONCE))
    def plain() -> object:
        calls.append(1)
        return threading.Lock()

    async with tasks:
        handle = await (plain if in_thread else coroutine).enqueue()
        with pytest.raises(TaskFailed, match="lock") as caught:
            await handle
        assert isinstance(caught.value.__cause__, ResultError)
        assert (await handle.task()).state is State.FAILED
    assert calls == [1]


async def test_a_large_result_comes_back(tasks: TaskManager) -> None:
    """Over 64 KiB it is encoded and decoded in a thread."""
    numbers = list(range(50_000))

    @tasks.task
    async def count() -> list[int]:
        return numbers

    async with tasks:
        assert await (await count.enqueue()) == numbers


# ---- large arguments


async def test_large_arguments_arrive(tasks: TaskManager) -> None:
    """Over 64 KiB they are encoded and decoded in a thread, for both kinds of functions."""
    text = "ä" * 300_000

    @tasks.task
    async def coroutine(text: str) -> int:
        return len(text)

    @tasks.task
    def plain(text: str) -> int:
        return len(text)

    async with tasks:
        assert await (await coroutine.enqueue(text)) == 300_000
        assert await (await plain.enqueue(text)) == 300_000
