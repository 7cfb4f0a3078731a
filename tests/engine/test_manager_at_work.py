"""More options of TaskManager: grace, work, capture_logs, max_size, and state."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from facts import Door, moves, state, until_state

from inloop import ArgumentError, State, TaskFailed, TaskManager, log
from inloop.testing import settled

pytestmark = pytest.mark.anyio


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
