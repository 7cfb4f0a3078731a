"""A tutorial in tests, part one: declare a task, enqueue it, await it."""

import pytest

from inloop import TaskManager

pytestmark = pytest.mark.anyio


async def test_a_task_is_enqueued_and_awaited(tasks: TaskManager) -> None:
    """Enqueueing returns a handle; awaiting it gives what the function returned."""

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with tasks:
        handle = await add.enqueue(1, b=2)
        assert await handle == 3


async def test_a_plain_function_runs_in_a_thread(tasks: TaskManager) -> None:
    """A `def` is a task as well; it does not hold up the event loop."""

    @tasks.task
    def double(n: int) -> int:
        return n * 2

    async with tasks:
        assert await (await double.enqueue(21)) == 42


async def test_a_task_function_is_still_a_function(tasks: TaskManager) -> None:
    """Called plainly it is just called: no store, no task."""

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    assert await add(1, 2) == 3
