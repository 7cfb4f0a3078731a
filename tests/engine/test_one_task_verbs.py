"""Verbs on one task beside cancel and pause: retry, fail, reschedule, delete, restore, prune."""

from datetime import timedelta

import pytest
from facts import Door, state, until_state

from inloop import IllegalMove, Key, State, TaskManager, TaskNotFound, current_task, log
from inloop.testing import FakeClock, crash, running, settled

pytestmark = pytest.mark.anyio


# ---- retry


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
async def test_what_has_ended_can_be_retried(tasks: TaskManager, end: str) -> None:
    """A new attempt, from zero failures; its old result and error are history."""

    @tasks.task
    async def work(fails: bool) -> int:
        if fails and current_task().attempt == 1:
            raise ValueError("bad")
        return current_task().attempt

    async with tasks:
        first = work.using(delay=60) if end == "cancelled" else work
        handle = await first.enqueue(end == "failed")
        if end == "cancelled":
            await handle.cancel()
        await settled(tasks)
        assert (await handle.task()).state == end
        again = await tasks.retry(handle.id, reason="once more", actor="ana")
        assert again.id == handle.id
        assert await again == (1 if end == "cancelled" else 2)
        task = await handle.task()
        assert (task.failures, task.error) == (0, None)


@pytest.mark.parametrize("now", ["scheduled", "queued", "running", "paused"])
async def test_what_has_not_ended_is_not_retried(tasks: TaskManager, now: str) -> None:
    """IllegalMove, naming the state."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        if now == "queued":
            await tasks.pause_all()
        handle = await work.using(delay=60 if now == "scheduled" else 0).enqueue()
        if now in ("running", "paused"):
            await door.reached()
        if now == "paused":
            await handle.pause()
            await until_state(tasks, handle.id, State.PAUSED)
        with pytest.raises(IllegalMove, match=f"is {now}: only a failed, cancelled, held"):
            await handle.retry()
        door.open()


async def test_a_retried_task_whose_key_is_taken(tasks: TaskManager) -> None:
    """IllegalMove, naming who has it; free again, it can be retried."""

    @tasks.task(key="only")
    async def work() -> None: ...

    async with tasks:
        first = await work.enqueue()
        await first
        second = await work.using(delay=60).enqueue()
        with pytest.raises(IllegalMove, match=rf"'only' is held by .* {second.id}"):
            await first.retry()
        assert await state(tasks, first.id) is State.SUCCEEDED
        await second.cancel()
        await (await first.retry())


async def test_a_retry_is_due_now(tasks: TaskManager, clock: FakeClock) -> None:
    """And may wait as long as it might at first, before it expires."""

    @tasks.task(expires=60)
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        await tasks.pause_all()
        handle = await work.enqueue()
        await clock.advance(61)
        await tasks.resume_all()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.CANCELLED
        await handle.retry()
        task = await handle.task()
        assert (task.due, task.expires) == (clock.time, timedelta(seconds=60))
        assert await handle == "done"


# ---- fail


async def test_only_a_held_task_is_failed_by_hand(tasks: TaskManager) -> None:
    """With the reason as its error."""

    @tasks.task(on_crash="hold")
    async def work() -> None:
        await door.pass_through()

    door = Door()
    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        with pytest.raises(IllegalMove, match="is running: only a held task"):
            await tasks.fail(handle.id)
        await crash(tasks)
    async with tasks:
        await until_state(tasks, handle.id, State.HELD)
        assert await tasks.fail(handle.id, reason="paid by hand", actor="ana")
        task = await tasks.get(handle.id)
        assert (task.state, task.actor) == (State.FAILED, "ana")
        assert task.error is not None
        assert task.error.message == "paid by hand"
        door.open()


# ---- reschedule


async def test_a_scheduled_task_can_be_due_at_another_time(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Later, sooner, or now; each is an event."""

    @tasks.task(expires=60)
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.using(delay=3600).enqueue()
        later = clock.time + timedelta(days=1)
        assert await tasks.reschedule(handle.id, later, reason="tomorrow", actor="ana")
        await clock.advance(timedelta(hours=23))
        task = await handle.task()
        assert (task.state, task.due) == (State.SCHEDULED, later)
        assert task.expires == timedelta(seconds=60)  # counted from due
        event = (await tasks.events(handle.id))[-1]
        assert (event.what, event.actor, event.reason) == ("rescheduled", "ana", "tomorrow")
        assert await tasks.reschedule(handle.id)
        assert await handle == "done"


async def test_a_queued_task_can_be_put_off(tasks: TaskManager, clock: FakeClock) -> None:
    """It is scheduled again."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        await tasks.pause_all()
        handle = await work.enqueue()
        await tasks.reschedule(handle.id, clock.time + timedelta(minutes=5))
        await tasks.resume_all()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.SCHEDULED
        await clock.advance(timedelta(minutes=5))
        assert await handle == "done"


async def test_a_paused_task_stays_paused_when_it_is_rescheduled(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Resumed, it waits for its new time."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.using(delay=60).enqueue()
        await handle.pause()
        await tasks.reschedule(handle.id, clock.time + timedelta(days=1))
        await clock.advance(120)
        assert await state(tasks, handle.id) is State.PAUSED
        await handle.resume()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.SCHEDULED
        await clock.advance(timedelta(days=1))
        assert await handle == "done"


@pytest.mark.parametrize("now", ["running", "succeeded"])
async def test_what_runs_or_has_ended_is_not_rescheduled(tasks: TaskManager, now: str) -> None:
    """IllegalMove, naming the state."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        if now == "succeeded":
            door.open()
            await handle
        with pytest.raises(IllegalMove, match=f"is {now}: only a scheduled or queued"):
            await tasks.reschedule(handle.id)
        door.open()


# ---- delete and restore


async def test_a_deleted_task_is_out_of_sight(tasks: TaskManager) -> None:
    """Not listed, not counted; `restore` brings it back as it was."""

    @tasks.task
    async def work() -> int:
        return 7

    async with tasks:
        handle = await work.enqueue()
        assert await handle == 7
        before = await handle.task()
        assert await tasks.delete(handle.id) is True
        assert len(await tasks.find()) == 0
        assert await tasks.counts() == {}
        assert (await handle.task()).deleted is not None
        assert await tasks.delete(handle.id) is False
        with pytest.raises(IllegalMove, match="restore it first"):
            await handle.retry()
        assert await tasks.restore(handle.id) is True
        assert await handle.task() == before
        assert await tasks.restore(handle.id) is False


async def test_a_deleted_task_goes_for_good_after_a_minute(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Until then it can be brought back."""

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        gone, kept = await work.enqueue(), await work.enqueue()
        await settled(tasks)
        await tasks.delete(gone.id)
        await tasks.delete(kept.id)
        await clock.advance(59)
        assert await tasks.restore(kept.id)
        await clock.advance(120)
        with pytest.raises(TaskNotFound):
            await tasks.get(gone.id)
        assert await state(tasks, kept.id) is State.SUCCEEDED


async def test_what_has_not_ended_is_not_deleted(tasks: TaskManager) -> None:
    """IllegalMove: cancel it before."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=60).enqueue()
        with pytest.raises(IllegalMove, match="cancel it before you delete it"):
            await tasks.delete(handle.id)


# ---- prune


async def test_prune_removes_what_ended_before(tasks: TaskManager, clock: FakeClock) -> None:
    """With its events and logs; how many went is told."""

    @tasks.task
    async def work() -> None:
        log.info("a line")

    async with running(tasks, clock=clock):
        old = await work.enqueue()
        await settled(tasks)
        await clock.advance(60)
        limit = clock.time
        await clock.advance(60)
        young = await work.enqueue()
        await work.using(delay=3600).enqueue()
        await settled(tasks)
        assert await tasks.prune(before=limit) == 1
        assert await tasks.prune(before=limit) == 0
        for verb in (tasks.get, tasks.events, tasks.logs, tasks.attempts):
            with pytest.raises(TaskNotFound):
                await verb(old.id)
        assert len(await tasks.logs(young.id)) == 1
        async with tasks.connect() as db:
            for table in ("inloop_event", "inloop_log"):
                (n,) = await (
                    await db.execute(f"select count(distinct task) from {table}")
                ).fetchone()  # type: ignore[misc]
                assert n == (2 if table == "inloop_event" else 1)


async def test_prune_without_a_limit_follows_the_retention(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """Seven days by default: it removes nothing younger."""

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        await work.enqueue()
        await settled(tasks)
        assert await tasks.prune() == 0
        assert len(await tasks.find()) == 1


async def test_prune_goes_past_what_keys_keep(tasks: TaskManager, clock: FakeClock) -> None:
    """However many finished tasks still answer for their keys, others are removed."""

    @tasks.task(key=Key("n:{n}", keep=timedelta(days=30)))
    async def keyed(n: int) -> None: ...

    @tasks.task
    async def plain() -> None: ...

    async with running(tasks, clock=clock):
        await keyed.enqueue_many([(n,) for n in range(250)])
        await settled(tasks)
        await plain.enqueue()
        await settled(tasks)
        await clock.advance(1)
        assert await tasks.prune(before=clock.time) == 1
        assert await tasks.counts() == {"default": {State.SUCCEEDED: 250}}


async def test_prune_removes_many_in_small_batches(tasks: TaskManager, clock: FakeClock) -> None:
    """All of them, however many."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with running(tasks, clock=clock):
        await work.using(delay=3600).enqueue_many([(n,) for n in range(1200)])
        assert await tasks.cancel_where(name=work.name) == 1200
        await clock.advance(1)
        assert await tasks.prune(before=clock.time) == 1200
        assert await tasks.counts() == {}
