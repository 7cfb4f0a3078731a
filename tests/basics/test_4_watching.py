"""A tutorial in tests, part four: see how far a task is, what it logs, and what happened to it."""

import logging

import pytest

from inloop import Progress, State, TaskManager, current_task, progress, track

pytestmark = pytest.mark.anyio

logger = logging.getLogger("shop")


async def test_a_task_tells_how_far_it_has_come(tasks: TaskManager) -> None:
    """`progress(done, total, message)` is cheap, and the last one stays with the task."""

    @tasks.task
    async def pack(boxes: int) -> None:
        for n in range(boxes):
            progress(n + 1, boxes, f"box {n + 1}")

    async with tasks:
        handle = await pack.enqueue(3)
        await handle
        assert (await handle.task()).progress == Progress(3, 3, "box 3")


async def test_track_tells_it_while_iterating(tasks: TaskManager) -> None:
    """Around anything that can be iterated, sync or async."""

    @tasks.task
    async def pack(boxes: list[str]) -> int:
        weight = 0
        async for box in track(boxes):
            weight += len(box)
        return weight

    async with tasks:
        handle = await pack.enqueue(["books", "cups"])
        assert await handle == 9
        assert (await handle.task()).progress == Progress(2, 2)


async def test_what_a_task_logs_is_kept_with_it(tasks: TaskManager) -> None:
    """Plain `logging`, from the task and all that it calls; no set-up is needed."""

    def deep_inside(name: str) -> None:
        logger.warning("no address for %s", name)

    @tasks.task
    async def send(name: str) -> None:
        deep_inside(name)

    async with tasks:
        handle = await send.enqueue("ana")
        await handle
        (line,) = await tasks.logs(handle.id)
        assert line.text == "no address for ana"
        assert line.logger == "shop"
        assert line.level == logging.WARNING


async def test_every_move_of_a_task_is_an_event(tasks: TaskManager) -> None:
    """Who moved it, from where to where, when, and why."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.using(delay=3600).enqueue()
        await tasks.reschedule(handle.id, actor="ana", reason="cannot wait")
        await handle
        moves = [(event.origin, event.to, event.actor) for event in await tasks.events(handle.id)]
        assert moves == [
            (None, State.SCHEDULED, "code"),
            (State.SCHEDULED, State.QUEUED, "ana"),
            (State.QUEUED, State.RUNNING, "engine"),
            (State.RUNNING, State.SUCCEEDED, "engine"),
        ]


async def test_a_task_can_be_watched_live(tasks: TaskManager) -> None:
    """From its first event on, until it has ended."""

    @tasks.task
    async def work() -> None: ...

    async with tasks:
        handle = await work.enqueue()
        states = [event.to async for event in handle.watch()]
        assert states[-2:] == [State.RUNNING, State.SUCCEEDED]


async def test_a_task_knows_itself(tasks: TaskManager) -> None:
    """`current_task()` gives its id, attempt, and more, to it and all that it calls."""

    @tasks.task(queue="mail", tags=("welcome",))
    async def who() -> tuple[str, int, str]:
        task = current_task()
        return task.id, task.attempt, task.queue

    async with tasks:
        handle = await who.enqueue()
        assert await handle == (handle.id, 1, "mail")
        assert [task.id for task in await tasks.find(tag="welcome")] == [handle.id]
