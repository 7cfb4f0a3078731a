"""Tasks that misbehave: each ends as it should, its neighbours and the app are not touched."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from facts import Door, turns, until_state

from inloop import (
    State,
    TaskFailed,
    TaskManager,
    checkpoint,
    log,
    progress,
)
from inloop.testing import settled

pytestmark = pytest.mark.anyio


@pytest.fixture
async def opened(tasks: TaskManager) -> AsyncIterator[TaskManager]:
    """An open manager that at the end still works, with nothing left running."""
    async with tasks:
        yield tasks

        @tasks.task
        async def still_works() -> int:
            progress(1)
            log.info("well")
            await asyncio.sleep(0)
            return 1

        handle = await still_works.enqueue()
        assert await handle.result(10) == 1
        assert [line.text for line in await tasks.logs(handle.id)] == ["well"]
        await settled(tasks)
        assert State.RUNNING not in (await tasks.counts())["default"]


def both_kinds(tasks: TaskManager, error: Any) -> list[Any]:
    """A coroutine and a plain function that raise it."""

    @tasks.task
    async def coroutine() -> None:
        raise error

    @tasks.task
    def plain() -> None:
        raise error

    return [coroutine, plain]


# ---- what it raises


@pytest.mark.parametrize(
    "error",
    [
        BaseException("base"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit("generator"),
        StopIteration(7),
        StopAsyncIteration(),
        MemoryError(),
        RecursionError("deep"),
        BaseExceptionGroup("group", [ValueError("one"), KeyboardInterrupt()]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_it_raises_it_has_failed(opened: TaskManager, error: BaseException) -> None:
    """Not only Exceptions: the app is not ended by a task that calls `sys.exit()`."""
    for function in both_kinds(opened, error):
        handle = await function.enqueue()
        with pytest.raises(TaskFailed) as caught:
            await handle.result(10)
        cause = caught.value.__cause__
        # Python itself makes a RuntimeError of a StopIteration that leaves a coroutine.
        assert cause is error or (cause is not None and cause.__cause__ is error)
        assert (await handle.task()).state is State.FAILED


class BadStr(Exception):
    """Its text cannot be had."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class NoText(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value] # on purpose


class BadNotes(Exception):
    """Its notes cannot be had."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override] # on purpose
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error",
    [
        BadStr(ValueError("no text")),
        BadStr(KeyboardInterrupt()),
        BadStr(SystemExit()),
        NoText(),
        BadNotes("notes"),
        ValueError("\ud800 surrogate"),
        ValueError("nul \0"),
        ValueError("x" * 1_000_000),
    ],
    ids=["str raises", "interrupts", "exits", "no text", "notes", "surrogate", "nul", "large"],
)
async def test_an_error_that_cannot_be_shown(opened: TaskManager, error: Exception) -> None:
    """The task has failed all the same, and can be read."""
    for function in both_kinds(opened, error):
        handle = await function.enqueue()
        with pytest.raises(TaskFailed):
            await handle.result(10)
        told = (await handle.task()).error
        assert told is not None
        assert told.type.split(".")[-1] == type(error).__name__
        assert len(told.message) <= 64 * 1024
        assert len(await opened.find()) >= 1


async def test_an_error_with_a_long_history(opened: TaskManager) -> None:
    """Chained a thousand times, or from deep recursion: its traceback is cut, not lost."""

    @opened.task
    async def chained() -> None:
        error: Exception = ValueError("first")
        for n in range(1000):
            later = ValueError(f"no {n}")
            later.__cause__ = error
            error = later
        raise error

    @opened.task
    async def deep() -> None:
        def down(n: int) -> None:
            down(n + 1)

        down(0)

    for function in (chained, deep):
        handle = await function.enqueue()
        with pytest.raises(TaskFailed):
            await handle.result(10)
        told = (await handle.task()).error
        assert told is not None
        assert 0 < len(told.traceback) <= 64 * 1024


# ---- what it does with cancellation


async def test_one_that_swallows_cancellation(opened: TaskManager) -> None:
    """It may go on to its end; what it returns is its result."""
    door = Door()

    @opened.task
    async def stubborn() -> str:
        with contextlib.suppress(BaseException):
            await door.pass_through()
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return "done"

    handle = await stubborn.enqueue()
    await door.reached()
    await handle.cancel()
    assert await handle.result(10) == "done"


async def test_a_plain_function_that_swallows_cancellation(opened: TaskManager) -> None:
    """Each further checkpoint tells it again."""
    heard: list[int] = []

    @opened.task
    def stubborn() -> str:
        while len(heard) < 3:
            try:
                checkpoint()
            except asyncio.CancelledError:
                heard.append(1)
        return "done"

    handle = await stubborn.enqueue()
    await until_state(opened, handle.id, State.RUNNING)
    await handle.cancel()
    assert await handle.result(10) == "done"


async def test_one_that_cancels_all_others(opened: TaskManager) -> None:
    """Asyncio tasks that are not its own: inloop's services start again, nothing is lost."""

    @opened.task
    async def rampant() -> str:
        for other in asyncio.all_tasks():
            if other.get_name() in ("inloop-notes", "inloop-feed"):
                other.cancel()
        return "done"

    assert await (await rampant.enqueue()).result(10) == "done"
    await turns()
