"""What can be read: one task, listings, counters, history, logs, owners, the audit."""

import os
import socket
from datetime import timedelta

import pytest
from facts import Door

from inloop import (
    Progress,
    State,
    Task,
    TaskManager,
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
