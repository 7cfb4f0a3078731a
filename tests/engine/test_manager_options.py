"""Every option of TaskManager does what the contract says."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from facts import Door, moves, state, turns, until_state

from inloop import ArgumentError, Queue, State, TaskFailed, TaskManager, TaskNotFound, log
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


# ---- grace


async def test_running_tasks_get_grace_at_shutdown(path: Path) -> None:
    """Closing waits for what runs, and takes its outcome with it."""
    tasks, door = TaskManager(path, grace=10), Door()

    @tasks.task
    async def work() -> int:
        await door.pass_through()
        return 42

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        asyncio.get_running_loop().call_later(0.05, door.open)
    async with tasks:
        assert await tasks.handle(handle.id) == 42
        assert await moves(tasks, handle.id) == ["running", "succeeded"]


async def test_after_the_grace_they_are_interrupted(path: Path) -> None:
    """They go back to the queue with no failure counted, and run first at the next start."""
    tasks, door = TaskManager(path, grace=timedelta(seconds=0)), Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
    door.open()
    async with tasks:
        await tasks.handle(handle.id)
        assert await moves(tasks, handle.id) == ["running", "queued", "running", "succeeded"]
        task = await tasks.get(handle.id)
        assert (task.attempt, task.failures) == (2, 0)


async def test_the_environment_goes_before_the_grace(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INLOOP_GRACE, in seconds: whoever runs the app knows how long its host waits."""
    tasks, door = TaskManager(path, grace=3600), Door()

    @tasks.task
    async def work() -> None:
        await door.pass_through()

    monkeypatch.setenv("INLOOP_GRACE", "0")
    async with tasks:
        handle = await work.enqueue()
        await door.reached()
    monkeypatch.delenv("INLOOP_GRACE")
    async with TaskManager(path, work=False) as other:
        assert await state(other, handle.id) is State.QUEUED


async def test_while_closing_enqueue_still_works(path: Path) -> None:
    """What running tasks enqueue at the end is stored, and runs at the next start."""
    tasks, door = TaskManager(path), Door()

    @tasks.task
    async def child() -> int:
        return 7

    @tasks.task
    async def parent() -> str:
        await door.pass_through()
        return (await child.enqueue()).id

    async with tasks:
        handle = await parent.enqueue()
        await door.reached()
        asyncio.get_running_loop().call_later(0.1, door.open)
    async with tasks:
        child_id = await tasks.handle(handle.id, returns=str)
        assert await tasks.handle(child_id) == 7


# ---- work


async def test_without_work_it_only_enqueues_and_controls(path: Path) -> None:
    """`work=False` runs nothing, and hears how others end it."""
    front, back = TaskManager(path, work=False), TaskManager(path)

    async def work(n: int) -> int:
        return n + 1

    enqueue, _ = front.task(name="work")(work), back.task(name="work")(work)
    async with front:
        handle = await enqueue.enqueue(1)
        other = await enqueue.enqueue(2)
        await settled(front)
        assert await state(front, handle.id) is State.QUEUED
        assert await other.cancel()
        async with back:
            assert await handle.result(10) == 2


async def test_without_work_recovery_still_happens(path: Path) -> None:
    """A dead sibling's task is put back into the queue for those who work."""
    back, front, door = TaskManager(path), TaskManager(path, work=False), Door()

    @back.task
    async def work() -> None:
        await door.pass_through()

    async with back:
        handle = await work.enqueue()
        await door.reached()
        await back._crash()
    async with front:
        await until_state(front, handle.id, State.QUEUED)


# ---- capture_logs


@pytest.fixture
def silent_logger() -> Iterator[logging.Logger]:
    """A logger that lets everything pass and shows nothing."""
    logger = logging.getLogger("tests.silent")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    yield logger
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("level", "kept"),
    [(logging.DEBUG, ["d", "i", "w"]), (logging.INFO, ["i", "w"]), (logging.WARNING, ["w"])],
)
async def test_capture_logs_is_the_least_level_that_is_kept(
    path: Path, level: int, kept: list[str], silent_logger: logging.Logger
) -> None:
    """From any logger, and from `inloop.log`, whose own level it is."""
    tasks = TaskManager(path, capture_logs=level)

    @tasks.task
    async def work() -> None:
        for logger in (silent_logger, log):
            logger.debug("d")
            logger.info("i")
            logger.warning("w")

    async with tasks:
        handle = await work.enqueue()
        await handle
        assert [line.text for line in await tasks.logs(handle.id)] == kept * 2


# ---- max_size


async def test_max_size_bounds_arguments_and_results(path: Path) -> None:
    """Bytes as JSON; what is too large is refused at the call, or fails the task."""
    tasks = TaskManager(path, max_size=1000)

    @tasks.task
    async def repeat(text: str, times: int) -> str:
        return text * times

    async with tasks:
        assert len(await (await repeat.enqueue("x" * 900, 1))) == 900
        with pytest.raises(ArgumentError, match=r"limit is 1000"):
            await repeat.enqueue("x" * 1100, 1)
        with pytest.raises(TaskFailed, match=r"limit is 1000"):
            await (await repeat.enqueue("x" * 900, 2))


async def test_the_default_size_is_a_mebibyte(tasks: TaskManager) -> None:
    """For the arguments of one task."""

    @tasks.task
    async def measure(text: str) -> int:
        return len(text)

    async with tasks:
        assert await (await measure.enqueue("x" * 1_048_000)) == 1_048_000
        with pytest.raises(ArgumentError, match="1048576"):
            await measure.enqueue("x" * 1_049_000)


# ---- state


async def test_state_is_a_plain_namespace(tasks: TaskManager) -> None:
    """For pools, clients and settings that tasks need."""

    @tasks.task
    async def work() -> str:
        pool: str = tasks.state.pool
        return pool

    tasks.state.pool = "a pool"
    async with tasks:
        assert await (await work.enqueue()) == "a pool"
    with pytest.raises(AttributeError, match=r"tasks\.state has no 'client'"):
        _ = tasks.state.client
