"""A plain function that does not end before the test says so, and the lock of an owner."""

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from inloop import TaskManager

PATIENCE = 10.0


class Stuck:
    """What a `def` task does: it looks at nothing, and ends when it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.inside = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> None:
        """In the task."""
        self.calls += 1
        self.inside.set()
        self._go.wait(PATIENCE)

    def let_go(self) -> None:
        """In the test; it ends, and will not be stuck again."""
        self._go.set()


async def lock_of(tasks: TaskManager, path: Path) -> Path:
    """The lock file of the owner that this opening is."""
    (me,) = [owner.id for owner in await tasks.owners() if owner.me]
    return Path(f"{path}.inloop") / f"{me}.lock"


def is_held(lock: Path) -> bool:
    """Whether anybody holds it."""
    try:
        fd = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def until(fact: Callable[[], object], what: str) -> None:
    """Wait for a fact that needs no event loop."""
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


async def until_so(fact: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait for a fact, and leave the event loop free meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not await fact():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)
