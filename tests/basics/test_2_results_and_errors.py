"""A tutorial in tests, part two: what comes back, and what happens when a task fails."""

from dataclasses import dataclass
from datetime import date

import pytest

from inloop import State, TaskCancelled, TaskFailed, TaskManager

pytestmark = pytest.mark.anyio


@dataclass
class Invoice:
    number: int
    due: date


async def test_a_result_comes_back_as_its_type(tasks: TaskManager) -> None:
    """Arguments and results are stored as JSON, and the type hints bring them back as they were."""

    @tasks.task
    async def postpone(invoice: Invoice, to: date) -> Invoice:
        return Invoice(invoice.number, to)

    async with tasks:
        handle = await postpone.enqueue(Invoice(7, date(2026, 1, 31)), date(2026, 2, 28))
        assert await handle == Invoice(7, date(2026, 2, 28))


async def test_a_task_that_raises_has_failed(tasks: TaskManager) -> None:
    """Awaiting it raises TaskFailed; the exception that the task raised is its cause."""

    @tasks.task
    async def divide(a: int, b: int) -> float:
        return a / b

    async with tasks:
        handle = await divide.enqueue(1, 0)
        with pytest.raises(TaskFailed, match="division by zero") as caught:
            await handle
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_handle_tells_how_the_task_stands(tasks: TaskManager) -> None:
    """State, attempt, arguments, result: everything that is stored about it."""

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with tasks:
        handle = await add.enqueue(1, b=2)
        await handle
        task = await handle.task()
        assert task.state is State.SUCCEEDED
        assert task.attempt == 1
        assert task.arguments == {"a": 1, "b": 2}
        assert task.result == 3


async def test_an_id_is_enough_to_find_a_task_again(tasks: TaskManager) -> None:
    """Keep the id, in a URL or a table, and ask for a handle in any process, at any time."""

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with tasks:
        task_id = (await add.enqueue(1, 2)).id

    async with tasks:  # the app was restarted
        assert await tasks.handle(task_id, returns=add) == 3


async def test_a_cancelled_task_has_no_result(tasks: TaskManager) -> None:
    """Awaiting it raises TaskCancelled, with the reason if one was given."""

    @tasks.task
    async def remind(name: str) -> None: ...

    async with tasks:
        handle = await remind.using(delay=3600).enqueue("ana")
        assert await handle.cancel(reason="she came by herself")
        with pytest.raises(TaskCancelled, match="she came by herself"):
            await handle
