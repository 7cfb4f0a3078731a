"""Code that uses anyio or asyncio's structured concurrency behaves in a task as anywhere else."""

import asyncio

import anyio
import anyio.lowlevel
import pytest
from facts import Door, turns, until_state

from inloop import State, TaskCancelled, TaskFailed, TaskManager

pytestmark = pytest.mark.anyio


async def test_a_scope_that_expires_ends_only_itself(tasks: TaskManager) -> None:
    """`move_on_after` and `fail_after` do what they say."""

    @tasks.task
    async def work() -> list[str]:
        steps = []
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(3600)
        steps.append(f"moved on: {scope.cancelled_caught}")
        try:
            with anyio.fail_after(0.01):
                await anyio.sleep(3600)
        except TimeoutError:
            steps.append("timed out")
        await anyio.lowlevel.checkpoint()
        return steps

    async with tasks:
        assert await (await work.enqueue()) == ["moved on: True", "timed out"]


async def test_a_task_group_is_joined(tasks: TaskManager) -> None:
    """Its children run, and it waits for them."""

    @tasks.task
    async def work() -> list[int]:
        found: list[int] = []

        async def child(n: int) -> None:
            await anyio.sleep(0.001 * (3 - n))
            found.append(n)

        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(child, n)
        return sorted(found)

    async with tasks:
        assert await (await work.enqueue()) == [0, 1, 2]


async def test_a_failing_child_fails_the_task(tasks: TaskManager) -> None:
    """With the group's ExceptionGroup as its error."""

    @tasks.task
    async def work() -> None:
        async def child() -> None:
            raise ValueError("bad child")

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.sleep(3600)

    async with tasks:
        handle = await work.enqueue()
        with pytest.raises(TaskFailed) as caught:
            await handle
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        error = (await handle.task()).error
        assert error is not None
        assert "bad child" in error.traceback


async def test_a_scope_that_the_code_cancels_is_no_cancellation(tasks: TaskManager) -> None:
    """Neither anyio's nor asyncio's way of cancelling a part of the task."""

    @tasks.task
    async def work() -> str:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(3600)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3600)
            group.cancel_scope.cancel()
        part = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.sleep(0)
        part.cancel()
        await asyncio.gather(part, return_exceptions=True)
        return "done"

    async with tasks:
        assert await (await work.enqueue()) == "done"


@pytest.mark.parametrize("kind", ["anyio group", "asyncio group", "scope", "timeout"])
async def test_a_cancelled_task_leaves_its_scopes(tasks: TaskManager, kind: str) -> None:
    """Children are cancelled, clean-up inside and outside the scope completes, once."""
    door, steps = Door(), []

    async def child() -> None:
        try:
            door.inside.set()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            steps.append("child")

    async def scoped() -> None:
        if kind == "anyio group":
            async with anyio.create_task_group() as group:
                group.start_soon(child)
        elif kind == "asyncio group":
            async with asyncio.TaskGroup() as plain:
                plain.create_task(child())
        elif kind == "scope":
            with anyio.CancelScope():
                await child()
        else:
            async with asyncio.timeout(3600):
                await child()

    @tasks.task
    async def work() -> None:
        try:
            await scoped()
        finally:
            await anyio.sleep(0.001)
            steps.append("outside")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
        error = (await tasks.events(handle.id))[-1].error
        assert error is None
    # Within an anyio group the child is cancelled by the group's scope, level by level: its first
    # await in `finally` is cancelled again, as anywhere in anyio.
    assert steps == (["outside"] if kind == "anyio group" else ["child", "outside"])


async def test_a_shielded_scope_protects_clean_up(tasks: TaskManager) -> None:
    """As anyio's documentation has it."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3600)
            try:
                await door.pass_through()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
                    steps.append("saved")

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
    assert steps == ["saved"]


async def test_a_task_that_uses_anyio_can_be_paused(tasks: TaskManager) -> None:
    """In a scope, within a group: held at its await, and let go there."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> str:
        async with anyio.create_task_group() as group:
            with anyio.fail_after(3600):
                await door.pass_through()
                await anyio.sleep(0.001)
                steps.append("on")
            group.cancel_scope.cancel()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        door.open()
        await turns()
        assert steps == []
        await handle.resume()
        assert await handle == "done"


async def test_an_anyio_scope_that_expires_while_paused(tasks: TaskManager) -> None:
    """Its expiry is delivered at once, without a spin; then the task is held again."""
    door, steps = Door(), []

    @tasks.task
    async def work() -> str:
        with anyio.move_on_after(0.1):
            door.inside.set()
            await anyio.sleep(3600)
        steps.append("expired")
        await anyio.lowlevel.checkpoint()
        steps.append("on")
        return "done"

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        while not steps:
            await asyncio.sleep(0.003)
        await turns()
        assert steps == ["expired"]
        await handle.resume()
        assert await handle == "done"


async def test_a_paused_anyio_task_can_be_cancelled(tasks: TaskManager) -> None:
    """From within its scopes."""
    door = Door()

    @tasks.task
    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3600)
            with anyio.fail_after(3600):
                await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        await door.reached()
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle.result(10)


async def test_anyio_threads_work_in_a_task(tasks: TaskManager) -> None:
    """`to_thread.run_sync` and back."""

    @tasks.task
    async def work() -> int:
        return await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(lambda: 42))

    async with tasks:
        assert await (await work.enqueue()) == 42


async def test_enqueueing_within_a_scope_that_expires(tasks: TaskManager) -> None:
    """The call is cancelled, nothing hangs, and later calls work."""

    @tasks.task
    async def work() -> str:
        return "done"

    async with tasks:
        with anyio.move_on_after(0) as scope:
            await work.enqueue()
        assert scope.cancelled_caught
        with anyio.fail_after(10):
            assert await (await work.enqueue()) == "done"
