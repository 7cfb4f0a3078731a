"""The gate between an asyncio task and the user's coroutine: what passes, what is held."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from inloop._gate import Gate

pytestmark = pytest.mark.anyio


async def turns(n: int = 5) -> None:
    """Let everything that can go on do so."""
    for _ in range(n):
        await asyncio.sleep(0)


async def through(gate: Gate, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await gate.drive(coroutine)


@asynccontextmanager
async def driven(
    gate: Gate, coroutine: Coroutine[Any, Any, Any]
) -> AsyncIterator[asyncio.Task[Any]]:
    """The coroutine in an asyncio task of its own, ended at the end."""
    task = asyncio.create_task(through(gate, coroutine))
    try:
        yield task
    finally:
        gate.open()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Steps:
    """A coroutine that waits for one event after another, and notes how far it came."""

    def __init__(self) -> None:
        self.events = [asyncio.Event() for _ in range(3)]
        self.done: list[str] = []

    async def run(self) -> str:
        for n, event in enumerate(self.events):
            await event.wait()
            self.done.append(str(n))
        return "end"


# ---- open


async def test_what_is_returned_comes_through() -> None:
    """Driven, a coroutine gives what it would have given if awaited."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert await Gate().drive(answer()) == 42


async def test_what_is_raised_comes_through() -> None:
    """With its own traceback, and nothing wrapped around it."""
    error = ValueError("bad")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(ValueError, match="bad") as caught:
        await Gate().drive(fail())
    assert caught.value is error


async def test_what_it_awaits_passes_through_untouched() -> None:
    """The asyncio task waits for the very future that the coroutine waits for."""
    gate, future = Gate(), asyncio.get_running_loop().create_future()

    async def wait() -> object:
        return await future

    async with driven(gate, wait()) as task:
        await turns()
        assert task._fut_waiter is future  # type: ignore[attr-defined] # asyncio's own view
        future.set_result("here")
        assert await task == "here"


async def test_the_coroutine_may_handle_what_is_thrown_into_it() -> None:
    """A cancellation that it swallows does not end it."""
    gate = Gate()

    async def stubborn() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    async with driven(gate, stubborn()) as task:
        await turns()
        task.cancel()
        assert await task == "went on"


# ---- shut


async def test_it_is_held_at_the_await_where_it_stands() -> None:
    """What it waited for has come, and yet it does not go on."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()):
        await turns()
        gate.shut()
        assert gate.is_shut
        for event in steps.events:
            event.set()
        await turns(20)
        assert steps.done == []


async def test_opened_it_goes_on_where_it_was() -> None:
    """It has missed nothing of what happened meanwhile."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()) as task:
        await turns()
        gate.shut()
        for event in steps.events:
            event.set()
        await turns()
        gate.open()
        assert await task == "end"
        assert steps.done == ["0", "1", "2"]


async def test_it_can_be_held_again_and_again() -> None:
    """Shut between any two steps, it makes one step each time it is opened for."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()) as task:
        await turns()
        for n, event in enumerate(steps.events):
            gate.shut()
            event.set()
            await turns()
            assert len(steps.done) == n
            gate.open()
            await turns()
            assert len(steps.done) == n + 1
        assert await task == "end"


async def test_opened_and_shut_at_once_it_is_still_held() -> None:
    """What counts is whether the gate is open when it comes to its turn."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()):
        await turns()
        gate.shut()
        steps.events[0].set()
        await turns()
        gate.open()
        gate.shut()
        await turns()
        assert steps.done == []


async def test_a_coroutine_that_had_not_begun_is_held_as_well() -> None:
    """Shut before its first step, it makes none."""
    gate, begun = Gate(), asyncio.Event()

    async def begin() -> None:
        begun.set()

    gate.shut()
    async with driven(gate, begin()) as task:
        await turns()
        assert not begun.is_set()
        gate.open()
        await task
        assert begun.is_set()


async def test_an_exception_is_delivered_at_once() -> None:
    """Held, its clean-up runs up to its next await; there it is held again."""
    gate, steps = Gate(), []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            steps.append("heard")
            await asyncio.sleep(0)
            steps.append("cleaned up")

    async with driven(gate, clean_up()) as task:
        await turns()
        gate.shut()
        task.cancel()
        await turns(20)
        assert steps == ["heard"]
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["heard", "cleaned up"]


async def test_a_cancellation_while_it_is_held_is_delivered_at_once() -> None:
    """Also where what it waited for has come already."""
    gate, steps = Gate(), []

    async def wait(event: asyncio.Event) -> None:
        try:
            await event.wait()
            steps.append("came")
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise

    event = asyncio.Event()
    async with driven(gate, wait(event)) as task:
        await turns()
        gate.shut()
        event.set()
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["cancelled"]


async def test_a_timeout_of_its_own_is_delivered_then_it_is_held_again() -> None:
    """A clock that the code set itself runs on; what comes after the timeout waits."""
    gate, steps = Gate(), []

    async def impatient() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        except TimeoutError:
            steps.append("timed out")
        await asyncio.sleep(0)
        steps.append("went on")

    async with driven(gate, impatient()) as task:
        await turns()
        gate.shut()
        while not steps:
            await asyncio.sleep(0.001)
        await turns(20)
        assert steps == ["timed out"]
        gate.open()
        await task
        assert steps == ["timed out", "went on"]


async def test_an_anyio_scope_that_is_cancelled_while_held_does_not_spin() -> None:
    """anyio calls `cancel()` in a tight loop until somebody listens: it is listened to at once."""
    gate = Gate()
    steps: list[object] = []

    async def scoped() -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(3600)
        steps.append(scope.cancelled_caught)
        await asyncio.sleep(0)
        steps.append("went on")

    async with driven(gate, scoped()) as task:
        await turns()
        gate.shut()
        while not steps:
            await asyncio.sleep(0.001)
        await turns(20)
        assert steps == [True]
        gate.open()
        await task
        assert steps == [True, "went on"]


# ---- passing beside it


async def test_passed_returns_at_once_while_it_is_open() -> None:
    """Nobody waits at an open gate, not even one turn of the loop."""
    with pytest.raises(StopIteration):
        Gate().passed().send(None)


async def test_passed_waits_until_it_opens() -> None:
    """However many wait there."""
    gate = Gate()
    gate.shut()
    waiting = [asyncio.create_task(gate.passed()) for _ in range(3)]
    await turns()
    assert not any(one.done() for one in waiting)
    gate.open()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_one_who_stops_waiting_harms_nobody() -> None:
    """Neither the others who wait to pass, nor the coroutine that is held."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()) as task:
        await turns()
        gate.shut()
        steps.events[0].set()
        await turns()
        impatient, patient = (asyncio.create_task(gate.passed()) for _ in range(2))
        await turns()
        impatient.cancel()
        await turns()
        assert impatient.cancelled()
        assert not patient.done()
        assert not task.done()
        gate.open()
        await patient
        await turns()
        assert steps.done == ["0"]


async def test_the_held_coroutine_being_cancelled_lets_nobody_pass() -> None:
    """Those who wait to pass go on waiting."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()) as task:
        await turns()
        gate.shut()
        steps.events[0].set()
        await turns()
        waiting = asyncio.create_task(gate.passed())
        await turns()
        task.cancel()
        await turns()
        assert task.cancelled()
        assert not waiting.done()
        gate.open()
        await waiting


# ---- abandoned


async def test_abandoned_it_is_never_stepped_again() -> None:
    """It is closed where it stands, whatever its clean-up would like to await."""
    gate, steps = Gate(), []

    async def endless() -> None:
        try:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    steps.append("ignored")
        finally:
            steps.append("closed")

    async with driven(gate, endless()) as task:
        await turns()
        task.cancel()
        await turns()
        assert steps == ["ignored"]
        gate.abandon()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["ignored", "closed"]


async def test_abandoned_while_held_it_ends_too() -> None:
    """A shut gate is no place to survive in."""
    gate, steps = Gate(), Steps()
    async with driven(gate, steps.run()) as task:
        await turns()
        gate.shut()
        steps.events[0].set()
        await turns()
        gate.abandon()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps.done == []


async def test_one_that_awaits_while_it_is_closed_still_ends() -> None:
    """`close()` raises then; its asyncio task ends all the same."""
    gate, heard = Gate(), []

    async def clingy() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(3600)
            except BaseException as error:
                heard.append(type(error))

    async with driven(gate, clingy()) as task:
        await turns()
        gate.abandon()
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.done()
        assert heard[0] is GeneratorExit
