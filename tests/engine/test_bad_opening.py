"""Opened wrongly, or used where it is not open: a clear error each time."""

import asyncio
import contextlib
import os
import pickle
import sqlite3
import threading
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from facts import Door, state, until_state

from inloop import NotOpen, State, TaskManager, TaskNotFound, current_task

pytestmark = pytest.mark.anyio


async def work() -> int:
    """A task function of an app."""
    return 1


# ---- before open and after close


async def test_before_it_is_open_and_after(tasks: TaskManager) -> None:
    """NotOpen, and how to open it; a wrong call stays a TypeError once it is open."""
    declared = tasks.task(work)
    how = r"is not open: give .*app lifespan=tasks\.lifespan .*or use it within `async with tasks"
    with pytest.raises(NotOpen, match=how):
        await declared.enqueue()
    with pytest.raises(NotOpen, match=how):
        await declared.enqueue_many([()])
    async with tasks:
        assert await (await declared.enqueue()) == 1
    with pytest.raises(NotOpen, match=how):
        await declared.enqueue()
    with pytest.raises(NotOpen, match=how):
        await declared.using(delay=60).enqueue()


async def test_it_can_be_opened_again(tasks: TaskManager) -> None:
    """As often as one likes."""
    declared = tasks.task(work)
    for _ in range(3):
        async with tasks:
            assert await (await declared.enqueue()) == 1


def test_it_can_be_opened_again_in_another_loop(tasks: TaskManager) -> None:
    """As TestClient does."""
    declared = tasks.task(work)

    async def live() -> int:
        async with tasks:
            return await (await declared.enqueue())

    assert [asyncio.run(live()) for _ in range(2)] == [1, 1]


async def test_lifespan_opens_and_closes(tasks: TaskManager) -> None:
    """For `FastAPI(lifespan=tasks.lifespan)`; what it yields is nothing of the app's business."""
    declared = tasks.task(work)
    async with tasks.lifespan(object()):
        assert await (await declared.enqueue()) == 1
    with pytest.raises(NotOpen):
        await declared.enqueue()


async def test_enter_and_exit_in_different_asyncio_tasks(tasks: TaskManager) -> None:
    """Some servers do that."""
    declared = tasks.task(work)
    await asyncio.create_task(tasks.__aenter__())
    assert await (await declared.enqueue()) == 1
    await asyncio.create_task(tasks.__aexit__())
    with pytest.raises(NotOpen):
        await declared.enqueue()


async def test_closing_what_is_not_open_is_nothing(tasks: TaskManager) -> None:
    """No error: an exit stack may be unwound twice."""
    await tasks.__aexit__()
    async with tasks:
        pass
    await tasks.__aexit__()


# ---- opened twice


async def test_opened_twice_at_once(tasks: TaskManager) -> None:
    """RuntimeError; the first opening goes on."""
    declared = tasks.task(work)
    async with tasks:
        with pytest.raises(RuntimeError, match="is open already: enter it once"):
            async with tasks:
                pass
        assert await (await declared.enqueue()) == 1


async def test_opened_in_two_loops(tasks: TaskManager) -> None:
    """RuntimeError there, NotOpen for calls from there; the first goes on."""
    declared = tasks.task(work)
    told: list[str] = []

    def elsewhere() -> None:
        async def live() -> None:
            with pytest.raises(RuntimeError, match="is open already in another event loop"):
                async with tasks:
                    pass
            with pytest.raises(
                NotOpen, match=r"is open in another event loop.*run_coroutine_threadsafe"
            ):
                await declared.enqueue()
            with pytest.raises(NotOpen, match="another event loop"):
                await tasks.counts()
            told.append("all")

        asyncio.run(live())

    async with tasks:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.003)
        assert told == ["all"]
        assert await (await declared.enqueue()) == 1


async def test_an_opening_that_fails_leaves_it_closed(tmp_path: Path) -> None:
    """It can be opened once the trouble is over."""
    tasks = TaskManager(tmp_path / "missing" / "tasks.db")
    declared = tasks.task(work)
    with pytest.raises(Exception, match="does not exist: make it first"):
        await tasks.__aenter__()
    with pytest.raises(NotOpen):
        await declared.enqueue()
    await asyncio.to_thread((tmp_path / "missing").mkdir)
    async with tasks:
        assert await (await declared.enqueue()) == 1


async def test_an_opening_that_is_cancelled_leaves_it_closed(tasks: TaskManager) -> None:
    """At whatever moment."""
    declared = tasks.task(work)
    for n in range(0, 40, 4):
        opening = asyncio.create_task(tasks.__aenter__())
        for _ in range(n):
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
            await tasks.__aexit__()
    async with tasks:
        assert await (await declared.enqueue()).result(10) == 1
        assert len(await tasks.owners()) == 1


async def test_a_closing_that_is_cancelled_still_closes(path: Path) -> None:
    """What runs is interrupted, not lost, and the store is free."""
    tasks, door = TaskManager(path, grace=3600), Door()

    @tasks.task
    async def wait() -> int:
        if current_task().attempt == 1:
            await door.pass_through()
        return current_task().attempt

    await tasks.__aenter__()
    handle = await wait.enqueue()
    await door.reached()
    closing = asyncio.create_task(tasks.__aexit__())
    await asyncio.sleep(0.05)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(NotOpen):
        await wait.enqueue()
    async with tasks:
        assert await tasks.handle(handle.id).result(10) == 2


async def test_an_error_in_the_body_closes_it_too(tasks: TaskManager) -> None:
    """And comes out as it is."""
    with pytest.raises(ZeroDivisionError):
        async with tasks:
            _ = 1 / 0
    async with tasks:
        assert await tasks.counts() == {}


# ---- no loop, or another kind


def test_without_an_asyncio_loop() -> None:
    """A clear RuntimeError, as on trio: inloop needs asyncio."""
    tasks = TaskManager(":memory:")
    with pytest.raises(RuntimeError, match=r"needs a running asyncio event loop.*trio"):
        tasks.__aenter__().send(None)


async def test_a_thread_without_a_loop(tasks: TaskManager) -> None:
    """NotOpen: its calls belong into the loop."""
    declared = tasks.task(work)
    async with tasks:

        def elsewhere() -> str:
            try:
                declared.enqueue().send(None)
            except NotOpen as error:
                return str(error)
            return "no error"

        assert "run_coroutine_threadsafe" in await asyncio.to_thread(elsewhere)


# ---- after fork


def in_fork(call: Callable[[], Any]) -> Any:
    """What the call gives, or the error it raises, in a forked child."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads are what this is about
        pid = os.fork()
    if pid == 0:
        try:
            try:
                answer: Any = call()
            except BaseException as error:
                answer = type(error).__name__, str(error)
            os.write(writes, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return pickle.loads(found)


def first_step(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        coroutine.send(None)
    finally:
        coroutine.close()


async def test_a_fork_cannot_use_it(tasks: TaskManager) -> None:
    """NotOpen, naming the process that opened it and what to do; the parent goes on."""
    declared = tasks.task(work)
    async with tasks:
        for call in (
            lambda: first_step(declared.enqueue()),
            lambda: first_step(tasks.counts()),
            lambda: first_step(tasks.cancel("x")),
        ):
            kind, told = in_fork(call)
            assert kind == "NotOpen"
            assert f"opened by process {os.getpid()}" in told
            assert "start this process by spawn, or open the manager after the fork" in told
        assert await (await declared.enqueue()) == 1


async def test_a_fork_does_not_free_the_lock(tasks: TaskManager) -> None:
    """Its parent's tasks are not taken for dead while it lives, nor after it has ended."""
    door, other = Door(), TaskManager(tasks.name)

    @tasks.task
    async def wait() -> int:
        await door.pass_through()
        return current_task().attempt

    async with tasks:
        handle = await wait.enqueue()
        await door.reached()
        in_fork(lambda: None)
        async with other:
            await asyncio.sleep(0.7)  # two looks of the keeper
            assert await state(other, handle.id) is State.RUNNING
            assert await other.recoveries() == []
        door.open()
        assert await handle == 1


async def test_a_fork_cannot_open_the_same_file(tasks: TaskManager, path: Path) -> None:
    """SQLite's own locks do not survive a fork: refused, and the parent's file is untouched."""
    parent = tasks.task(work)

    def live() -> None:
        async def enter() -> None:
            async with TaskManager(path, work=False):
                pass

        asyncio.run(enter())

    async with tasks:
        assert await (await parent.enqueue()) == 1
        kind, told = await asyncio.to_thread(in_fork, live)
        assert kind == "StoreError"
        assert f"was open in process {os.getpid()} when it forked" in told
        assert await (await parent.enqueue()) == 1
    with contextlib.closing(sqlite3.connect(path)) as cx:
        assert cx.execute("pragma integrity_check").fetchone() == ("ok",)


async def test_a_fork_may_open_another_file(tasks: TaskManager, tmp_path: Path) -> None:
    """With a manager of its own."""

    def live() -> int:
        mine = TaskManager(tmp_path / "child.db")
        declared = mine.task(work)

        async def enqueue() -> int:
            async with mine:
                return await (await declared.enqueue()).result(10)

        return asyncio.run(enqueue())

    async with tasks:
        assert await asyncio.to_thread(in_fork, live) == 1


# ---- ids


@pytest.mark.parametrize(
    "verb", ["cancel", "pause", "resume", "retry", "fail", "delete", "restore"]
)
async def test_an_unknown_id(tasks: TaskManager, verb: str) -> None:
    """TaskNotFound, a LookupError, naming it."""
    async with tasks:
        with pytest.raises(TaskNotFound, match="'no-such-task'") as caught:
            await getattr(tasks, verb)("no-such-task")
        assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("verb", ["get", "events", "attempts", "logs", "reschedule"])
async def test_an_unknown_id_cannot_be_read_either(tasks: TaskManager, verb: str) -> None:
    """The same."""
    async with tasks:
        with pytest.raises(TaskNotFound, match="'no-such-task'"):
            await getattr(tasks, verb)("no-such-task")


async def test_an_id_is_no_sql(tasks: TaskManager) -> None:
    """Whatever stands in it."""
    declared = tasks.task(work)
    async with tasks:
        handle = await declared.using(delay=60).enqueue()
        for evil in ("' or 1=1 --", "%", "*", '"'):
            with pytest.raises(TaskNotFound):
                await tasks.cancel(evil)
        await until_state(tasks, handle.id, State.SCHEDULED)
