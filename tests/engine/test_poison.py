"""A task that kills its process is contained, and its healthy neighbours are not touched."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from facts import Door, state, turns, until, until_mine, until_state

from inloop import State, TaskHandle, TaskManager, current_task, progress
from inloop.testing import crash

pytestmark = pytest.mark.anyio


class App:
    """An app that can be killed; its task functions are declared anew at each start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: list[str] = []
        self.gate = Door()

    def manager(self) -> TaskManager:
        tasks = TaskManager(self.path)

        @tasks.task(name="work")
        async def work(name: str, steps: bool = False) -> int:
            self.runs.append(name)
            if steps:
                progress(current_task().attempt)
            await self.gate.pass_through()
            return current_task().attempt

        self.work = work
        return tasks

    @contextlib.asynccontextmanager
    async def life(self) -> AsyncIterator[TaskManager]:
        """One life of the process, ended by a crash."""
        tasks = self.manager()
        async with tasks:
            yield tasks
            await crash(tasks)


async def until_running(tasks: TaskManager, *handles: TaskHandle[int]) -> None:
    await until_mine(tasks, *(handle.id for handle in handles))


async def die(app: App, *handles: TaskHandle[int]) -> None:
    """Start, wait until these run, and die."""
    async with app.life() as tasks:
        await until_running(tasks, *handles)


async def test_the_third_death_in_a_row_holds_it(path: Path) -> None:
    """Twice it is rerun; then a person decides, and reads why."""
    app = App(path)
    async with app.life() as tasks:
        handle = await app.work.enqueue("poison")
        await until_running(tasks, handle)
    await die(app, handle)
    await die(app, handle)
    async with app.manager() as tasks:
        await until_state(tasks, handle.id, State.HELD)
        task = await tasks.get(handle.id)
        assert task.attempt == 3  # it is not tried once more
        assert "3 deaths of its process in a row" in (task.reason or "")
        assert task.error is not None


async def test_retried_it_starts_with_a_clean_slate(path: Path) -> None:
    """Its deaths are forgotten: it takes three more to hold it again."""
    app = App(path)
    async with app.life() as tasks:
        handle = await app.work.enqueue("poison")
        await until_running(tasks, handle)
    await die(app, handle)
    await die(app, handle)
    async with app.life() as tasks:
        await until_state(tasks, handle.id, State.HELD)
        await tasks.retry(handle.id)
        await until_running(tasks, handle)
    await die(app, handle)
    async with app.manager() as tasks:
        await until_running(tasks, handle)
        app.gate.open()
        assert await tasks.handle(handle.id) == 6


async def test_after_two_deaths_suspects_run_one_at_a_time(path: Path) -> None:
    """Beside healthy work, which is not held up."""
    app = App(path)
    async with app.life() as tasks:
        suspects = [await app.work.enqueue(f"suspect {n}") for n in range(3)]
        await until_running(tasks, *suspects)
    await die(app, *suspects)
    app.runs.clear()
    async with app.manager() as tasks:
        healthy = [await app.work.enqueue(f"healthy {n}") for n in range(3)]
        await until_running(tasks, *healthy)

        async def one_suspect_runs() -> bool:
            return sum("suspect" in name for name in app.runs) == 1

        await until(one_suspect_runs)
        await turns()
        states = sorted([str(await state(tasks, one.id)) for one in suspects])
        assert states == ["queued", "queued", "running"]
        app.gate.open()
        for handle in (*suspects, *healthy):
            await tasks.handle(handle.id).result(10)
        assert sorted(app.runs) == sorted(
            [f"suspect {n}" for n in range(3)] + [f"healthy {n}" for n in range(3)]
        )


async def test_a_healthy_neighbour_is_never_held(path: Path) -> None:
    """It was running at two deaths; at the third it was not, for suspects run alone."""
    app = App(path)
    async with app.life() as tasks:
        poison = await app.work.using(priority=9).enqueue("poison")
        neighbour = await app.work.enqueue("neighbour")
        await until_running(tasks, poison, neighbour)
    await die(app, poison, neighbour)  # both have died twice: now they are suspects
    async with app.life() as tasks:
        await until_running(tasks, poison)
        assert await state(tasks, neighbour.id) is State.QUEUED
    async with app.manager() as tasks:
        await until_state(tasks, poison.id, State.HELD)
        await until_running(tasks, neighbour)
        app.gate.open()
        assert await tasks.handle(neighbour.id) == 3


async def test_a_success_in_between_clears_nothing_of_others(path: Path) -> None:
    """An attempt that ends by itself ends its row of deaths."""
    app = App(path)
    async with app.life() as tasks:
        handle = await app.work.enqueue("often interrupted")
        await until_running(tasks, handle)
    await die(app, handle)
    async with app.manager() as tasks:
        await until_running(tasks, handle)
        app.gate.open()
        assert await tasks.handle(handle.id) == 3
        app.gate = Door()
        await tasks.retry(handle.id)
        await until_running(tasks, handle)
        await crash(tasks)
    await die(app, handle)
    async with app.manager() as tasks:
        await until_running(tasks, handle)  # two deaths since then, not four
        app.gate.open()
        await tasks.handle(handle.id)


async def test_progress_starts_the_count_anew(path: Path) -> None:
    """A task that got further than at its last death is not stuck."""
    app = App(path)
    async with app.life() as tasks:
        handle = await app.work.enqueue("slow but sure", steps=True)
        await until_progress(tasks, handle, 1)
    for attempt in range(2, 7):
        async with app.life() as tasks:
            await until_progress(tasks, handle, attempt)
    async with app.manager() as tasks:
        await until_running(tasks, handle)
        app.gate.open()
        assert await tasks.handle(handle.id) == 7


async def until_progress(tasks: TaskManager, handle: TaskHandle[int], done: int) -> None:
    async def is_stored() -> bool:
        told = (await tasks.get(handle.id)).progress
        return told is not None and told.done >= done

    await until(is_stored)


async def test_paused_tasks_are_no_suspects(path: Path) -> None:
    """Whatever dies around them."""
    app = App(path)
    async with app.life() as tasks:
        handle = await app.work.enqueue("paused")
        await until_running(tasks, handle)
        await handle.pause()
        await until_state(tasks, handle.id, State.PAUSED)
    for _ in range(4):
        async with app.life() as tasks:
            neighbour = await app.work.enqueue("neighbour")
            await until_running(tasks, neighbour)
            assert await state(tasks, handle.id) is State.PAUSED
            await neighbour.cancel()
    async with app.manager() as tasks:
        await tasks.resume(handle.id)
        await until_running(tasks, handle)
        app.gate.open()
        assert await tasks.handle(handle.id) == 2


async def test_shutdowns_are_no_deaths(path: Path) -> None:
    """Interrupted as often as you like, it is not held."""
    app = App(path)
    handle: TaskHandle[int] | None = None
    for _ in range(5):
        tasks = app.manager()
        async with tasks:
            if handle is None:
                handle = await app.work.enqueue("deployed often")
            await until_running(tasks, handle)
            await tasks._close(0)
    assert handle is not None
    async with app.manager() as tasks:
        app.gate.open()
        assert await tasks.handle(handle.id) == 6


async def test_the_app_starts_at_once(path: Path) -> None:
    """Recovery runs beside it and never delays its start."""
    app = App(path)
    async with app.life() as tasks:
        handles = await app.work.enqueue_many([(str(n),) for n in range(50)])
        await until_running(tasks, *handles)
    tasks = app.manager()
    async with tasks:
        task = await tasks.get(handles[0].id)
        assert task.state in (State.RUNNING, State.QUEUED)
        fresh = await app.work.enqueue("fresh")
        app.gate.open()
        await asyncio.wait_for(fresh.result(), 10)
