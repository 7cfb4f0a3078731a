"""Every option of TaskManager does what the contract says."""

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from facts import Door, state, turns

from inloop import Queue, State, TaskManager, TaskNotFound
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


# ---- store and name


async def test_nothing_is_touched_before_it_is_entered(path: Path) -> None:
    """Making a manager does no I/O: the file and its lock folder come with entering."""
    tasks = TaskManager(path)
    assert os.listdir(path.parent) == []
    async with tasks:
        assert path.name in os.listdir(path.parent)


@pytest.mark.parametrize("kind", ["Path", "str", "url"])
async def test_store_is_a_path_or_a_url(path: Path, kind: str) -> None:
    """All three name the same file."""
    stores: dict[str, str | Path] = {
        "Path": path,
        "str": str(path),
        "url": f"sqlite:///{path}",
    }
    tasks = TaskManager(stores[kind])

    @tasks.task
    async def work() -> int:
        return 1

    async with tasks:
        assert await (await work.enqueue()) == 1
    with closing(sqlite3.connect(path)) as cx:
        assert cx.execute("select state from inloop_task").fetchall() == [("succeeded",)]


@pytest.fixture
def made_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskManager:
    """A manager with a relative path, made in another folder than the one it is entered in."""
    monkeypatch.chdir(tmp_path)
    tasks = TaskManager("tasks.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    return tasks


async def test_a_relative_path_is_meant_where_the_manager_is_made(
    tmp_path: Path, made_elsewhere: TaskManager
) -> None:
    """A `chdir` before it is entered does not lead it elsewhere."""
    async with made_elsewhere:
        names = {entry.name for entry in os.scandir(tmp_path)}
    assert "tasks.db" in names
    assert not list(os.scandir(tmp_path / "other"))


async def test_memory_keeps_nothing() -> None:
    """`:memory:` works like a file, for one opening."""
    tasks = TaskManager(":memory:")

    @tasks.task
    async def work() -> int:
        return 1

    async with tasks:
        handle = await work.enqueue()
        assert await handle == 1
    async with tasks:
        with pytest.raises(TaskNotFound):
            await tasks.get(handle.id)


async def test_the_file_may_be_the_apps_own(path: Path) -> None:
    """Every table is named `inloop_…`, and the app's stay as they are."""
    with closing(sqlite3.connect(path)) as cx:
        cx.execute("create table book (title text)")
        cx.execute("insert into book values ('Ulysses')")
        cx.commit()
    async with TaskManager(path):
        pass
    with closing(sqlite3.connect(path)) as cx:
        names = {n for (n,) in cx.execute("select name from sqlite_master where type = 'table'")}
        assert cx.execute("select title from book").fetchall() == [("Ulysses",)]
    assert {n for n in names if not n.startswith(("inloop_", "sqlite_"))} == {"book"}


def test_name_is_what_people_are_shown(path: Path) -> None:
    """By default the store's."""
    assert TaskManager(path).name == str(path)
    assert TaskManager(path, name="shop").name == "shop"
    assert "shop" in repr(TaskManager(path, name="shop"))


# ---- concurrency and queues


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.door = Door()

    async def come_in(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.door.pass_through()
        finally:
            self.now -= 1


async def test_concurrency_limits_what_runs_at_once(path: Path) -> None:
    """The rest waits in the queue, and comes when a slot is free."""
    tasks, crowd = TaskManager(path, concurrency=3), Crowd()

    @tasks.task
    async def work() -> None:
        await crowd.come_in()

    async with tasks:
        for _ in range(5):
            await work.enqueue()
        await work.enqueue_many([()] * 5)
        await until_running(tasks, 3)
        await turns()
        assert crowd.now == 3
        crowd.door.open()
        await settled(tasks)
        assert crowd.most == 3
        assert await tasks.counts() == {"default": {State.SUCCEEDED: 10}}


async def until_running(tasks: TaskManager, n: int) -> None:
    while (await tasks.counts())["default"].get(State.RUNNING) != n:
        await asyncio.sleep(0.003)


async def test_queues_have_their_own_concurrency(path: Path) -> None:
    """A full queue holds up its own tasks and nobody else's."""
    tasks = TaskManager(path, queues={"mail": Queue(concurrency=1), "free": Queue()})
    mail, other = Crowd(), Crowd()

    @tasks.task(queue="mail")
    async def send() -> None:
        await mail.come_in()

    @tasks.task(queue="free")
    async def work() -> None:
        await other.come_in()

    async with tasks:
        for _ in range(4):
            await send.enqueue()
            await work.enqueue()
        while other.now < 4:
            await asyncio.sleep(0.003)
        await turns()
        assert mail.now == 1
        mail.door.open()
        other.door.open()
        await settled(tasks)
        assert (mail.most, other.most) == (1, 4)


async def test_a_queues_concurrency_counts_over_all_managers(path: Path) -> None:
    """Two processes that share a store share its slots."""
    crowd = Crowd()
    managers = [TaskManager(path, queues={"mail": Queue(concurrency=1)}) for _ in range(2)]

    async def send() -> None:
        await crowd.come_in()

    one, _two = (tasks.task(queue="mail", name="send")(send) for tasks in managers)
    async with managers[0], managers[1]:
        handles = await one.enqueue_many([()] * 6)
        crowd.door.open()
        for handle in handles:
            await handle.result(10)
        assert crowd.most == 1


async def test_a_queue_may_have_no_slot_at_all(path: Path) -> None:
    """Concurrency 0 is a queue that only takes in."""
    tasks = TaskManager(path, queues={"mail": Queue(concurrency=0)})

    @tasks.task(queue="mail")
    async def send() -> None: ...

    async with tasks:
        handle = await send.enqueue()
        await settled(tasks)
        assert await state(tasks, handle.id) is State.QUEUED


# ---- durability


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_durability_is_how_sqlite_synchronises(
    path: Path, durability: str, level: int
) -> None:
    """Also on the connections that the app gets for its own use."""
    tasks = TaskManager(path, durability=durability)  # type: ignore[arg-type] # parametrised
    async with tasks, tasks.connect() as db:
        (found,) = await (await db.execute("pragma synchronous")).fetchone()  # type: ignore[misc]
        assert found == level


# ---- retention


@pytest.mark.parametrize("retention", [timedelta(hours=1), {"succeeded": timedelta(hours=1)}])
async def test_retention_is_how_long_ended_tasks_are_kept(
    path: Path, clock: FakeClock, retention: timedelta
) -> None:
    """One duration for all, or one per final state; then they are gone, by themselves."""
    tasks = TaskManager(path, retention=retention)

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await clock.advance(timedelta(minutes=59))
        assert await state(tasks, handle.id) is State.SUCCEEDED
        await clock.advance(timedelta(minutes=3))
        with pytest.raises(TaskNotFound, match="retention"):
            await tasks.get(handle.id)
        assert await tasks.counts() == {}


async def test_each_final_state_has_its_own_retention(path: Path, clock: FakeClock) -> None:
    """Also where the one that is kept longer ended first; None keeps for ever."""
    tasks = TaskManager(
        path,
        retention={
            State.SUCCEEDED: timedelta(days=2),
            State.FAILED: timedelta(days=1),
            State.CANCELLED: None,
        },
    )

    @tasks.task
    async def work(a: int, b: int) -> float:
        return a / b

    async with running(tasks, clock=clock):
        await work.enqueue(1, 1)
        await settled(tasks)
        await work.enqueue(1, 0)
        await (await work.using(delay=99).enqueue(1, 1)).cancel()
        await settled(tasks)

        left = []
        for _ in range(3):
            left.append({str(task.state) for task in await tasks.find()})
            await clock.advance(timedelta(days=1, minutes=2))
        assert left == [
            {"succeeded", "failed", "cancelled"},
            {"succeeded", "cancelled"},
            {"cancelled"},
        ]
        await clock.advance(timedelta(days=3650))
        assert len(await tasks.find()) == 1


async def test_a_state_that_is_not_named_is_kept_for_a_week(path: Path, clock: FakeClock) -> None:
    """The default is seven days."""
    tasks = TaskManager(path, retention={"failed": None})

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        await work.enqueue()
        await clock.advance(timedelta(days=6, hours=23))
        assert len(await tasks.find()) == 1
        await clock.advance(timedelta(hours=2))
        assert len(await tasks.find()) == 0


async def test_retention_does_not_touch_what_has_not_ended(path: Path, clock: FakeClock) -> None:
    """A task that is scheduled, paused or held stays, however old it is."""
    tasks = TaskManager(path, retention=timedelta(0))

    @tasks.task
    async def work() -> None: ...

    async with running(tasks, clock=clock):
        later = await work.using(delay=timedelta(days=400)).enqueue()
        paused = await work.using(delay=timedelta(days=1)).enqueue()
        await paused.pause()
        await clock.advance(timedelta(days=365))
        assert await state(tasks, later.id) is State.SCHEDULED
        assert await state(tasks, paused.id) is State.PAUSED
