"""What the engine's tests share: waiting for facts, and a door that a task can stand at."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from inloop import State, TaskManager

PATIENCE = 10.0


async def until(fact: Callable[[], Awaitable[object]], *, patience: float = PATIENCE) -> None:
    """Wait until the fact holds. It is looked at again and again; the patience is for failures."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not await fact():
        assert loop.time() < deadline, "it has not come true"
        await asyncio.sleep(0.003)


async def until_state(tasks: TaskManager, task_id: str, state: State) -> None:
    """Wait until the task is in this state."""

    async def is_there() -> bool:
        return (await tasks.get(task_id)).state is state

    await until(is_there)


async def until_mine(tasks: TaskManager, *ids: str) -> None:
    """Wait until these tasks run here: not just in the memory of a process that is dead."""
    (me,) = [owner.id for owner in await tasks.owners() if owner.me]

    async def are_mine() -> bool:
        found = [await tasks.get(task_id) for task_id in ids]
        return all(task.state is State.RUNNING and task.owner == me for task in found)

    await until(are_mine)


async def state(tasks: TaskManager, task_id: str) -> State:
    """The state that the task is in."""
    return (await tasks.get(task_id)).state


async def moves(tasks: TaskManager, task_id: str) -> list[str]:
    """The states that the task came into, one after the other.

    Whether it starts as it is stored, or is queued for a moment, is left open: a claim may be on
    its way just then.
    """
    states = [str(event.to) for event in await tasks.events(task_id) if event.what == "moved"]
    return states[1:] if states[:2] == ["queued", "running"] else states


async def turns(n: int = 50) -> None:
    """Let everything that can go on without waiting do so."""
    for _ in range(n):
        await asyncio.sleep(0)


class Door:
    """Where a coroutine waits until the test lets it go on."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self._open = asyncio.Event()

    async def pass_through(self) -> None:
        """In the task: tell that it is here, and wait."""
        self.inside.set()
        await self._open.wait()

    def open(self) -> None:
        """In the test: let it go on, now and whenever it comes again."""
        self._open.set()

    async def reached(self) -> None:
        """In the test: wait until it is here."""
        await asyncio.wait_for(self.inside.wait(), PATIENCE)


class ThreadDoor:
    """The same for a plain function in its thread."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self._open = threading.Event()

    def pass_through(self) -> None:
        """In the task: tell that it is here, and wait, but never for ever."""
        self.inside.set()
        assert self._open.wait(PATIENCE), "nobody opened the door"

    def open(self) -> None:
        """In the test: let it go on, now and whenever it comes again."""
        self._open.set()

    async def reached(self) -> None:
        """In the test: wait until it is here."""

        async def is_inside() -> bool:
            return self.inside.is_set()

        await until(is_inside)
