"""What is remembered: attempts, events, log lines, progress, the audit; and how to wait for it."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from facts import Door, turns, until_state

from inloop import (
    NotOpen,
    Progress,
    Retry,
    State,
    TaskManager,
    exponential,
    log,
    progress,
)
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


# ---- attempts and events


async def test_attempts_are_never_overwritten(tasks: TaskManager, clock: FakeClock) -> None:
    """Neither by a retry of the engine's nor by one by hand."""
    answers = iter(["one", "two", None])

    @tasks.task(retry=Retry(2, exponential(base=60, jitter=0)))
    async def work() -> None:
        if answer := next(answers):
            raise ValueError(answer)

    async with running(tasks, clock=clock):
        start = clock.time
        handle = await work.enqueue()
        await clock.advance(60)
        await handle.retry()
        await clock.advance(1)
        told = [
            (one.number, one.outcome, one.error.message if one.error else None, one.started)
            for one in await tasks.attempts(handle.id)
        ]
        assert told == [
            (1, State.SCHEDULED, "one", start),
            (2, State.FAILED, "two", start + timedelta(seconds=60)),
            (3, State.SUCCEEDED, None, start + timedelta(seconds=60)),
        ]
        task = await handle.task()
        assert (task.attempt, task.failures) == (3, 0)  # failures start anew


async def test_an_attempt_that_runs_has_no_outcome(tasks: TaskManager) -> None:
    """Paused and resumed it is still the same attempt."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        (attempt,) = await tasks.attempts(handle.id)
        assert (attempt.number, attempt.outcome, attempt.ended) == (1, None, None)
        await handle.resume()
        door.open()
        await handle
        (attempt,) = await tasks.attempts(handle.id)
        assert attempt.outcome is State.SUCCEEDED


async def test_a_task_that_never_started_has_no_attempts(tasks: TaskManager) -> None:
    """An empty list, not an error."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=60).enqueue()
        assert await tasks.attempts(handle.id) == []


async def test_every_event_says_who_when_and_why(tasks: TaskManager, clock: FakeClock) -> None:
    """From, to, attempt, actor, reason, and the instant."""

    @tasks.task
    async def work() -> None:
        raise ValueError("bad")

    async with running(tasks, clock=clock):
        start = clock.time
        handle = await work.using(delay=10).enqueue()
        await clock.advance(10)
        made, due, began, ended = await tasks.events(handle.id)
        at = start + timedelta(seconds=10)
        assert (made.origin, made.to, made.attempt, made.actor, made.at) == (
            None, State.SCHEDULED, 0, "code", start,
        )  # fmt: skip
        assert (due.origin, due.to, due.actor, due.reason, due.at) == (
            State.SCHEDULED, State.QUEUED, "engine", "due", at,
        )  # fmt: skip
        assert (began.origin, began.to, began.attempt) == (State.QUEUED, State.RUNNING, 1)
        assert (ended.origin, ended.to, ended.attempt) == (State.RUNNING, State.FAILED, 1)
        assert ended.error is not None
        assert ended.error.message == "bad"
        assert all(event.task_id == handle.id for event in (made, due, began, ended))


# ---- logs and progress


async def test_logs_are_read_on_from_a_line(tasks: TaskManager) -> None:
    """`after` is the `n` of the last line that was read."""

    @tasks.task
    async def work() -> None:
        for n in range(5):
            log.info("line %d", n)

    async with tasks:
        handle = await work.enqueue()
        await handle
        first = await tasks.logs(handle.id, limit=2)
        assert [line.text for line in first] == ["line 0", "line 1"]
        rest = await tasks.logs(handle.id, after=first[-1].n)
        assert [line.text for line in rest] == ["line 2", "line 3", "line 4"]
        assert await tasks.logs(handle.id, after=rest[-1].n) == []


async def test_lines_belong_to_their_task_and_attempt(tasks: TaskManager) -> None:
    """Also of tasks that run at the same time, and of plain functions."""
    quiet = logging.getLogger("tests.reading")

    @tasks.task(retry=Retry(2, exponential(base=0)))
    async def coroutine(name: str) -> None:
        quiet.warning("%s 1", name)
        await asyncio.sleep(0)
        quiet.warning("%s 2", name)
        if name == "flaky" and not seen:
            seen.append(name)
            raise ValueError

    @tasks.task
    def plain(name: str) -> None:
        quiet.warning("%s in a thread", name)

    seen: list[str] = []
    async with tasks:
        a, b = await coroutine.enqueue("a"), await coroutine.enqueue("flaky")
        c = await plain.enqueue("c")
        await asyncio.gather(a, b, c)
        told = {
            handle.id: [(line.attempt, line.text) for line in await tasks.logs(handle.id)]
            for handle in (a, b, c)
        }
        assert told[a.id] == [(1, "a 1"), (1, "a 2")]
        assert told[b.id] == [(1, "flaky 1"), (1, "flaky 2"), (2, "flaky 1"), (2, "flaky 2")]
        assert told[c.id] == [(1, "c in a thread")]


async def test_what_is_logged_outside_belongs_to_nobody(tasks: TaskManager) -> None:
    """Not even while a task runs."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        log.warning("from outside")
        door.open()
        await handle
        assert await tasks.logs(handle.id) == []


async def test_progress_is_stored_while_it_runs(tasks: TaskManager) -> None:
    """And the last one with the end."""
    door = Door()

    @tasks.task
    async def work() -> None:
        progress(1, 3)
        await door.pass_through()
        progress(2, 3, "nearly")
        progress(3, 3, "there")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        while (await handle.task()).progress is None:
            await asyncio.sleep(0.01)
        assert (await handle.task()).progress == Progress(1, 3)
        door.open()
        await handle
        assert (await handle.task()).progress == Progress(3, 3, "there")


# ---- the audit


async def test_every_act_of_control_is_in_the_audit(tasks: TaskManager) -> None:
    """Who did what to which target, and why; newest first."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=60).enqueue()
        who: dict[str, Any] = {"actor": "ana", "reason": "a test"}
        await tasks.pause(handle.id, **who)
        await tasks.resume(handle.id, **who)
        await tasks.reschedule(handle.id, None, **who)
        await settled(tasks)
        await tasks.retry(handle.id, **who)
        await settled(tasks)
        await tasks.delete(handle.id, **who)
        await tasks.restore(handle.id, **who)
        await tasks.cancel(handle.id, **who)
        await tasks.pause_queue("mail", **who)
        await tasks.resume_queue("mail", **who)
        await tasks.pause_all(**who)
        await tasks.resume_all(**who)
        await tasks.set_queue("mail", concurrency=3, **who)
        await tasks.cancel_where(tag="none", **who)
        told = await tasks.audit()
        assert [entry.action for entry in reversed(told)] == [
            "pause", "resume", "reschedule", "retry", "delete", "restore", "cancel",
            "pause_queue", "resume_queue", "pause_all", "resume_all", "set_queue", "cancel_where",
        ]  # fmt: skip
        assert {(entry.actor, entry.reason) for entry in told} == {("ana", "a test")}
        assert {entry.target for entry in told[-7:]} == {handle.id}
        older = await tasks.audit(before=told[2].id, limit=2)
        assert older == told[3:5]


async def test_what_was_refused_is_not_in_the_audit(tasks: TaskManager) -> None:
    """Only what was done."""
    async with tasks:
        with pytest.raises(LookupError):
            await tasks.cancel("no-such-task")
        assert await tasks.audit() == []


# ---- drain


async def test_drain_waits_for_all_that_is_due(tasks: TaskManager, clock: FakeClock) -> None:
    """Also for what running tasks enqueue; not for what is scheduled for later, paused or held."""
    done: list[int] = []

    @tasks.task
    async def work(n: int) -> None:
        if n > 0:
            await work.enqueue(n - 1)
        await turns(3)
        done.append(n)

    async with running(tasks, clock=clock):
        await work.using(delay=60).enqueue(0)
        paused = await work.using(delay=60).enqueue(0)
        await paused.pause()
        await work.enqueue(5)
        await tasks.drain(timeout=10)
        assert sorted(done) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
async def test_drain_may_have_a_timeout(tasks: TaskManager, timeout: float) -> None:
    """TimeoutError; nothing is cancelled."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TimeoutError):
            await tasks.drain(timeout=timeout)
        door.open()
        await handle


# ---- connect


async def test_connect_gives_a_connection_to_the_same_file(tasks: TaskManager) -> None:
    """Set up rightly, to read and write the app's own tables, and to look at inloop's."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        await (await work.enqueue())
        async with tasks.connect() as db:
            await db.execute("create table book (title text)")
            await db.execute("insert into book values ('Ulysses')")
            await db.commit()
            (n,) = await (await db.execute("select count(*) from inloop_task")).fetchone()  # type: ignore[misc]
            assert n == 1
        again = await tasks.connect()
        try:
            rows = await again.execute_fetchall("select title from book")
            assert [tuple(row) for row in rows] == [("Ulysses",)]
        finally:
            await again.close()


@pytest.mark.parametrize(
    "read",
    [
        lambda tasks: tasks.get("id"),
        lambda tasks: tasks.find(),
        lambda tasks: tasks.counts(),
        lambda tasks: tasks.attempts("id"),
        lambda tasks: tasks.events("id"),
        lambda tasks: tasks.logs("id"),
        lambda tasks: tasks.owners(),
        lambda tasks: tasks.recoveries(),
        lambda tasks: tasks.audit(),
        lambda tasks: tasks.pauses(),
        lambda tasks: tasks.drain(),
        lambda tasks: tasks.prune(),
        lambda tasks: tasks.cancel("id"),
        lambda tasks: tasks.cancel_where(everything=True),
        lambda tasks: tasks.pause_queue("mail"),
        lambda tasks: tasks.handle("id").result(),
        lambda tasks: tasks.handle("id").task(),
    ],
)
async def test_no_verb_works_on_a_closed_manager(tasks: TaskManager, read: object) -> None:
    """NotOpen, and what to do about it."""
    with pytest.raises(NotOpen, match=r"lifespan=tasks\.lifespan"):
        await read(tasks)  # type: ignore[operator]
