"""Suspects: tasks that were running at two deaths of their process in a row."""

import asyncio

import pytest

from inloop import State, TaskManager
from inloop.testing import crash, settled

pytestmark = pytest.mark.anyio


async def test_suspects_run_one_at_a_time_and_all_of_them(tasks: TaskManager) -> None:
    """In a process with nothing else to do, each suspect that ends makes room for the next."""
    running: set[str] = set()
    most = 0

    @tasks.task
    async def innocent(name: str) -> str:
        nonlocal most
        running.add(name)
        most = max(most, len(running))
        try:
            await (asyncio.Event().wait() if deaths < 2 else asyncio.sleep(0.01))
        finally:
            running.discard(name)
        return name

    deaths = 0
    await tasks.__aenter__()
    handles = [await innocent.enqueue(str(n)) for n in range(5)]
    while deaths < 2:
        while len(running) < 5:
            await asyncio.sleep(0.01)
        await crash(tasks)
        deaths += 1
        most = 0
        await tasks.__aenter__()
    try:
        again = [tasks.handle(handle.id, returns=str) for handle in handles]
        assert [await handle.result(timeout=5) for handle in again] == list("01234")
        assert most == 1
        await settled(tasks)
        found = [await handle.task() for handle in again]
        assert {(task.state, task.attempt) for task in found} == {(State.SUCCEEDED, 3)}
    finally:
        await tasks.__aexit__()
