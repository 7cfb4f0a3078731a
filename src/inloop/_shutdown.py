"""How long to wait at the end, and for what."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

# After the grace, for clean-up of the interrupted and for the last writes: each at most this long,
# so that an exit takes no more than a second beyond its grace.
LAST_SECONDS = 0.4
LOOK_EVERY = 0.02


async def within(
    seconds: float, is_done: Callable[[], bool], is_enough: Callable[[], bool] = lambda: False
) -> None:
    """Wait until done, but not longer than `seconds`, nor after it is enough."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not is_done() and loop.time() < deadline and not is_enough():
        await asyncio.sleep(LOOK_EVERY)


def server() -> object:
    """The server that takes SIGINT here, if it keeps note of it: uvicorn does, on its object.

    Asked for at the start: when a second SIGINT comes uvicorn gives its handlers back at once.
    """
    return getattr(signal.getsignal(signal.SIGINT), "__self__", None)


def is_insisted(server: object) -> bool:
    """Whether SIGINT came a second time; inloop sets no signal handlers of its own."""
    return getattr(server, "force_exit", False) is True


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, however often the caller is cancelled meanwhile; then tell him.

    The work must be short and bounded: it protects the last writes of a shutdown.
    """
    task = asyncio.get_running_loop().create_task(work, name="inloop-close")
    # `asyncio.run` cancels whatever `all_tasks` shows when it is torn down; this one is waited for
    # by its caller. (A documented hook, for those who extend asyncio's tasks.)
    asyncio.tasks._unregister_task(task)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
