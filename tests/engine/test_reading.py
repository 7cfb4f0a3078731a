"""What can be read: one task, listings, counters, history, logs, owners, the audit."""

import asyncio
import logging
import os
import socket
from datetime import timedelta
from typing import Any

import pytest
from facts import Door, turns, until_state

from inloop import (
    NotOpen,
    Progress,
    Retry,
    State,
    Task,
    TaskManager,
    exponential,
    log,
    progress,
)
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


# ---- get


async def test_a_task_as_it_stands(tasks: TaskManager, clock: FakeClock) -> None:
    """All that is known of it."""

    @tasks.task(queue="mail", priority=3, key="mail:{user_id}", tags=("a",), expires=60)
    async def send(user_id: int, subject: str = "Hi") -> dict[str, int]:
        progress(1, 2, "half")
        return {"sent": user_id}

    async with running(tasks, clock=clock):
        start = clock.time
        handle = await send.using(delay=10).enqueue(7)
        await clock.advance(20)
        task = await tasks.get(handle.id)
        assert task == await handle.task()
        assert (task.id, task.name) == (handle.id, send.name)
        assert (task.queue, task.priority, task.key, task.tags) == ("mail", 3, "mail:7", ("a",))
        assert (task.state, task.label) == (State.SUCCEEDED, "succeeded")
        assert (task.attempt, task.failures) == (1, 0)
        assert task.created == start
        assert task.due == task.started == task.finished == start + timedelta(seconds=10)
        assert task.arguments == {"user_id": 7, "subject": "Hi"}
        assert task.result == {"sent": 7}
        assert task.progress == Progress(1, 2, "half")
        assert (task.owner, task.asked, task.error, task.deleted) == (None, None, None, None)


async def test_a_running_task_names_its_owner(tasks: TaskManager) -> None:
    """By the id that `owners()` shows."""
    door = Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        (owner,) = await tasks.owners()
        assert (await handle.task()).owner == owner.id
        assert (owner.pid, owner.host) == (os.getpid(), socket.gethostname())
        assert (owner.me, owner.alive, owner.responding, owner.running) == (True, True, True, 1)
        door.open()


# ---- find


@pytest.fixture
async def shop(tasks: TaskManager, clock: FakeClock) -> TaskManager:
    """A manager with a few tasks of several kinds in its store, closed again."""

    @tasks.task(name="mail", queue="mail", tags=("a", "b"))
    async def mail(to: str) -> None:
        if to == "nobody":
            raise LookupError("No Such Person")

    @tasks.task(name="bill", key="bill-{n}", tags=("b",))
    async def bill(n: int) -> None: ...

    async with running(tasks, clock=clock):
        await mail.enqueue("Ana")
        await settled(tasks)
        await clock.advance(60)
        await mail.enqueue("nobody")
        await settled(tasks)
        await clock.advance(60)
        await bill.using(delay=3600).enqueue(1)
        await bill.using(delay=3600).enqueue(2)
    return tasks


def words(page: object) -> list[str]:
    """Each task in a word, newest first."""
    return [f"{task.name}:{next(iter(task.arguments.values()))}" for task in page]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["bill:2", "bill:1", "mail:nobody", "mail:Ana"]),
        ({"state": "failed"}, ["mail:nobody"]),
        ({"state": State.SUCCEEDED}, ["mail:Ana"]),
        ({"state": ["failed", State.SUCCEEDED]}, ["mail:nobody", "mail:Ana"]),
        ({"state": []}, []),
        ({"name": "bill"}, ["bill:2", "bill:1"]),
        ({"queue": "mail"}, ["mail:nobody", "mail:Ana"]),
        ({"tag": "a"}, ["mail:nobody", "mail:Ana"]),
        ({"tag": "b", "name": "bill"}, ["bill:2", "bill:1"]),
        ({"tag": "c"}, []),
        ({"text": "ana"}, ["mail:Ana"]),
        ({"text": "no such person"}, ["mail:nobody"]),
        ({"text": "bill-2"}, ["bill:2"]),
        ({"text": "MAIL"}, ["mail:nobody", "mail:Ana"]),
        ({"text": "%"}, []),
    ],
)
async def test_find_by(shop: TaskManager, filters: dict[str, object], found: list[str]) -> None:
    """Every word that is given must fit; newest first."""
    async with shop:
        assert words(await shop.find(**filters)) == found  # type: ignore[arg-type]


async def test_find_by_time_of_creation(shop: TaskManager, clock: FakeClock) -> None:
    """Since inclusive, until exclusive."""
    start = FakeClock().time
    minute = timedelta(minutes=1)
    async with shop:
        assert words(await shop.find(since=start + minute, until=start + 2 * minute)) == [
            "mail:nobody"
        ]
        assert words(await shop.find(until=start + minute)) == ["mail:Ana"]
        assert words(await shop.find(since=start + 2 * minute)) == ["bill:2", "bill:1"]


async def test_find_by_id(shop: TaskManager) -> None:
    """A part of an id is text, too."""
    async with shop:
        (newest, *_) = await shop.find()
        assert [task.id for task in await shop.find(text=newest.id[-12:])] == [newest.id]


async def test_find_a_page_at_a_time(tasks: TaskManager) -> None:
    """Each once, newest first, also if more are enqueued meanwhile."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        later = work.using(delay=3600)
        handles = await later.enqueue_many([(n,) for n in range(25)])
        seen: list[Task] = []
        cursor, sizes = None, []
        while True:
            page = await tasks.find(limit=10, cursor=cursor)
            sizes.append(len(page))
            seen += page.items
            await later.enqueue(99)
            if (cursor := page.next) is None:
                break
        assert sizes == [10, 10, 5]
        assert [task.id for task in seen] == [handle.id for handle in reversed(handles)]


async def test_a_page_that_is_just_full_is_the_last(tasks: TaskManager) -> None:
    """`next` is None when there is no more."""

    @tasks.task
    async def work(n: int) -> None: ...

    async with tasks:
        await work.using(delay=60).enqueue_many([(n,) for n in range(10)])
        assert (await tasks.find(limit=10)).next is None
        assert len(await tasks.find(limit=1000)) == 10


# ---- counts


async def test_counts_are_by_queue_and_state(tasks: TaskManager, clock: FakeClock) -> None:
    """Exact after every kind of move; a state that has none is left out."""

    @tasks.task
    async def work(fails: bool = False) -> None:
        if fails:
            raise ValueError("bad")

    async with running(tasks, clock=clock):
        assert await tasks.counts() == {}
        await work.enqueue()
        await work.enqueue(fails=True)
        await settled(tasks)
        later = await work.using(delay=60, queue="mail").enqueue()
        other = await work.using(delay=60, queue="mail").enqueue()
        assert await tasks.counts() == {
            "default": {State.SUCCEEDED: 1, State.FAILED: 1},
            "mail": {State.SCHEDULED: 2},
        }
        await later.pause()
        await other.cancel()
        assert (await tasks.counts())["mail"] == {State.PAUSED: 1, State.CANCELLED: 1}
        await tasks.delete(other.id)
        assert (await tasks.counts())["mail"] == {State.PAUSED: 1}
        await tasks.restore(other.id)
        assert (await tasks.counts())["mail"] == {State.PAUSED: 1, State.CANCELLED: 1}


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
