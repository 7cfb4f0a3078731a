"""Live events: of one task by `watch`, of all by `subscribe`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from facts import Door, turns, until

from inloop import (
    Event,
    LogLine,
    NotOpen,
    Progress,
    Retry,
    State,
    TaskManager,
    TaskNotFound,
    exponential,
    progress,
)
from inloop.testing import settled

pytestmark = pytest.mark.anyio

logger = logging.getLogger("tests.watching")


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.what, str(event.to)) for event in events]


# ---- watch


async def test_it_tells_what_was_and_what_comes(tasks: TaskManager) -> None:
    """From the first event on, each once and in order, until the task has ended."""
    answers = iter(["bad", "good"])

    @tasks.task(retry=Retry(2, exponential(base=0)))
    async def work() -> None:
        if next(answers) == "bad":
            raise ValueError("bad")

    async with tasks:
        await tasks.pause_all()
        handle = await work.enqueue()
        seen: list[Event] = []

        async def watch() -> None:
            async for event in handle.watch():
                seen.append(event)  # noqa: PERF401 # it is looked at while it grows

        watching = asyncio.ensure_future(watch())
        await turns()
        await tasks.resume_all()
        await asyncio.wait_for(watching, 10)
        assert told(seen) == told(await tasks.events(handle.id))
        assert [event.id for event in seen] == sorted({event.id for event in seen})  # type: ignore[type-var]
        assert seen[-1].to is State.SUCCEEDED


async def test_a_finished_task_is_told_from_the_store(tasks: TaskManager) -> None:
    """Its whole history; then the watching ends."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.enqueue()
        await settled(tasks)
        assert [event async for event in handle.watch()] == await tasks.events(handle.id)


async def test_progress_and_log_lines_come_live(tasks: TaskManager) -> None:
    """They are events of their own, and not stored as such."""
    door = Door()

    @tasks.task
    async def work() -> None:
        progress(1, 2, "half")
        logger.warning("a line")
        await door.pass_through()

    async with tasks:
        handle = await work.enqueue()
        seen: dict[str, Event] = {}
        async for event in handle.watch():
            seen[event.what] = event
            if {"progress", "logged"} <= set(seen):
                door.open()
        assert seen["progress"].progress == Progress(1, 2, "half")
        (line,) = seen["logged"].lines
        assert isinstance(line, LogLine)
        assert (line.text, line.attempt, line.level) == ("a line", 1, logging.WARNING)
        assert {event.what for event in await tasks.events(handle.id)} == {"moved"}


async def test_it_works_from_another_manager(path: Path) -> None:
    """Moves as they are stored, and its progress once a second."""
    back, front, door = TaskManager(path), TaskManager(path, work=False), Door()

    @back.task
    async def work() -> None:
        progress(1, 2)
        await door.pass_through()

    async with back, front:
        handle = front.handle((await work.enqueue()).id)
        seen: list[Event] = []
        async for event in handle.watch():
            seen.append(event)
            if event.what == "progress":
                assert event.progress == Progress(1, 2)
                door.open()
        moved = [event for event in told(seen) if event[0] == "moved"]
        assert moved == told(await front.events(handle.id))
        assert moved[-1] == ("moved", "succeeded")


async def test_watching_may_stop_early(tasks: TaskManager) -> None:
    """Nothing is left behind, and the task is not touched."""
    door = Door()

    @tasks.task
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with tasks:
        handle = await work.enqueue()
        watching = handle.watch()
        async for _ in watching:
            break
        await watching.aclose()  # type: ignore[attr-defined] # it is an async generator
        assert not tasks._feed.is_heard
        door.open()
        assert await handle == "done"


async def test_watching_what_is_not_there(tasks: TaskManager) -> None:
    """TaskNotFound."""
    async with tasks:
        with pytest.raises(TaskNotFound):
            async for _ in tasks.handle("no-such-task").watch():
                pass


# ---- subscribe


async def test_it_tells_of_all_tasks_in_order(tasks: TaskManager) -> None:
    """From entering on; of each task every move, in the order they were stored."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        before = await work.enqueue()
        await settled(tasks)
        async with tasks.subscribe() as events:
            handles = [await work.enqueue() for _ in range(5)]
            await settled(tasks)
            stored = [event for one in handles for event in await tasks.events(one.id)]
            seen = [await asyncio.wait_for(anext(events), 10) for _ in stored]
        assert before.id not in {event.task_id for event in seen}
        assert {event.id for event in seen} == {event.id for event in stored}
        ids = [event.id for event in seen]
        assert ids == sorted(ids)  # type: ignore[type-var]


async def test_it_tells_what_other_processes_did(path: Path) -> None:
    """All that is stored, whoever stored it."""
    one, two = TaskManager(path, work=False), TaskManager(path, work=False)

    @two.task
    async def work() -> None: ...

    async with one, two, one.subscribe() as events:
        handle = await work.enqueue()
        event = await asyncio.wait_for(anext(events), 10)
        assert (event.task_id, event.to) == (handle.id, State.QUEUED)
        await two.cancel(handle.id, reason="no", actor="ana")
        event = await asyncio.wait_for(anext(events), 10)
        assert (event.to, event.actor, event.reason) == (State.CANCELLED, "ana", "no")


async def test_many_may_listen(tasks: TaskManager) -> None:
    """Each hears everything, from when it came on."""

    @tasks.task
    async def work() -> None: ...

    async with tasks, tasks.subscribe() as first:
        await work.enqueue()
        await settled(tasks)
        async with tasks.subscribe() as second:
            handle = await work.enqueue()
            seen, late = await until_end(first, handle.id), await until_end(second, handle.id)
        assert {event.task_id for event in late} == {handle.id}
        assert late == seen[-len(late) :]
        assert len(seen) > len(late)


async def until_end(events: AsyncIterator[Event], task_id: str) -> list[Event]:
    """What is told up to the end of this task."""
    seen: list[Event] = []
    while not (seen and seen[-1].task_id == task_id and seen[-1].to is State.SUCCEEDED):
        seen.append(await asyncio.wait_for(anext(events), 10))
    return seen


async def test_closing_ends_the_streams(tasks: TaskManager) -> None:
    """A page that listens does not hold up the shutdown."""
    async with tasks, tasks.subscribe() as events:
        listening = asyncio.ensure_future(collect(events))
        await turns()
        await tasks._close(0)
        assert await asyncio.wait_for(listening, 10) == []
    with pytest.raises(NotOpen):
        async with tasks.subscribe():
            pass


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_a_slow_listener_loses_the_oldest(
    tasks: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is held up, and the losses are counted."""
    monkeypatch.setattr("inloop._events.MOST_WAITING", 10)

    @tasks.task
    async def work() -> None: ...

    async with tasks, tasks.subscribe() as events:
        handles = [await work.enqueue() for _ in range(8)]
        await settled(tasks)
        stored = sum([len(await tasks.events(handle.id)) for handle in handles])

        async def has_lost() -> bool:
            return events.lost == stored - 10

        await until(has_lost)
        seen = [await asyncio.wait_for(anext(events), 10) for _ in range(10)]
        assert seen[-1].task_id in {handle.id for handle in handles}


async def test_nobody_listens_at_no_cost(tasks: TaskManager) -> None:
    """Without listeners the history is not read."""
    reads: list[int] = []

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        store = tasks._store
        original = store.events_after

        async def counted(after: int, most: int) -> list[Event]:
            reads.append(after)
            return await original(after, most)

        store.events_after = counted  # type: ignore[method-assign]
        for _ in range(5):
            await (await work.enqueue())
        await settled(tasks)
    assert reads == []
