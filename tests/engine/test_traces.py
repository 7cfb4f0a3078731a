"""On a fake clock time costs nothing, and what happens is the same each time."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from facts import Door

from inloop import Retry, Snooze, State, TaskManager, current_task, exponential
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio

Trace = list[tuple[str, str, str, int, float]]


async def a_busy_month(path: Path) -> Trace:
    """Retries, snoozes, pauses, expiry and control over thirty days; everything that happened."""
    clock, door = FakeClock(), Door()
    tasks = TaskManager(path, concurrency=2, retention=None)

    @tasks.task(name="flaky", retry=Retry(6, exponential(base=3600, factor=5, jitter=0)))
    async def flaky() -> int:
        if current_task().attempt < 5:
            raise ConnectionError("busy")
        return current_task().attempt

    @tasks.task(name="sleepy")
    async def sleepy() -> None:
        if current_task().attempt < 4:
            raise Snooze(86400)

    @tasks.task(name="slow", timeout=86400)
    async def slow() -> None:
        await door.pass_through()

    @tasks.task(name="brief", expires=3600, queue="mail")
    async def brief() -> None: ...

    async with running(tasks, clock=clock):
        start = clock.time
        names: dict[str, str] = {}

        async def add(function: object, delay: float = 0) -> str:
            handle = await function.using(delay=delay).enqueue()  # type: ignore[attr-defined]
            names[handle.id] = f"task {len(names)}"
            task_id: str = handle.id
            return task_id

        await settled(tasks)
        await add(flaky)
        await add(sleepy)
        held_up = await add(slow)
        await clock.advance(3600)
        await tasks.pause(held_up)
        for day in range(10):
            await add(brief, delay=day * 86400 + 60)
        await tasks.pause_queue("mail", until=start + timedelta(days=5))
        await clock.advance(timedelta(days=15))
        await tasks.resume(held_up)
        await clock.advance(timedelta(days=15))
        trace: Trace = []
        for task_id, name in names.items():
            for event in await tasks.events(task_id):
                at = (event.at - start).total_seconds()
                trace.append((name, event.what, str(event.to), event.attempt, at))
        states = {str(task.state) for task in await tasks.find()}
        assert states == {State.SUCCEEDED, State.FAILED, State.CANCELLED}
    return trace


async def test_a_month_passes_in_a_moment(tmp_path: Path) -> None:
    """Thirty days of retries and pauses in well under a second of real time."""
    began = time.perf_counter()
    trace = await a_busy_month(tmp_path / "tasks.db")
    took = time.perf_counter() - began
    assert len(trace) > 50
    assert max(at for *_, at in trace) > 14 * 86400
    assert took < 3  # alone it takes some 0.5 s in debug mode; this machine may be busy


async def test_the_same_happens_each_time(path: Path) -> None:
    """Fifty runs of one scenario leave the same trace, event by event, instant by instant."""
    clock, tasks = FakeClock(), TaskManager(path, concurrency=1)

    @tasks.task(name="flaky", retry=Retry(3, exponential(base=60, jitter=0)))
    async def flaky() -> None:
        if current_task().attempt < 3:
            raise ValueError("bad")

    @tasks.task(name="plain")
    async def plain() -> None: ...

    async def scenario() -> Trace:
        start = clock.time
        await tasks.pause_all(until=start + timedelta(seconds=30))
        handles = [await flaky.enqueue()]
        handles += [await plain.using(priority=n).enqueue() for n in range(3)]
        await handles[-1].pause()
        await clock.advance(30)
        await handles[-1].resume()
        await clock.advance(180)
        return [
            (str(n), event.what, str(event.to), event.attempt, (event.at - start).total_seconds())
            for n, handle in enumerate(handles)
            for event in await tasks.events(handle.id)
        ]

    async with running(tasks, clock=clock):
        traces = [await scenario() for _ in range(50)]
    assert len(traces[0]) > 10
    assert all(trace == traces[0] for trace in traces)
