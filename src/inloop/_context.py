"""What a running task calls: who am I, how far have I come, shall I stop.

Everything here also works outside a task, where it does nothing: a function called plainly, in a
test or by another function, behaves as if inloop were not there. Only `current_task` has no answer
then.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sized
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from inloop._model import Progress, Task

T = TypeVar("T")
MOST_MESSAGE = 1000


class Inside(Protocol):
    """What the functions below need of the attempt that runs in this context."""

    def as_task(self) -> Task: ...

    def report(self, progress: Progress) -> None: ...

    def checkpoint(self) -> None: ...

    def guard(self, connection: Any) -> None: ...

    async def passed(self) -> None: ...


inside: ContextVar[Inside | None] = ContextVar("inloop_attempt", default=None)


def current_task() -> Task:
    """The task that this code runs in.

    `deadline` is when inloop will stop this attempt (None: it has no timeout); `resumed` tells
    that the attempt before was interrupted by a shutdown or a crash. Raises `RuntimeError` outside
    a task.
    """
    attempt = inside.get()
    if attempt is None:
        raise RuntimeError(
            "current_task() was called outside a task: it works in a task function that was "
            "enqueued, and in what it calls"
        )
    return attempt.as_task()


def progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Tell how far the task has come: `done` of `total` (None: unknown), in units of its own.

    Cheap, and never waits: it is stored at most once a second, and with the attempt's last move.
    A `done` that rises also tells inloop that the task gets somewhere, should its process die.
    """
    told = Progress(
        _number(done, "done"), None if total is None else _number(total, "total"), _text(message)
    )
    if (attempt := inside.get()) is not None:
        attempt.report(told)


def _number(value: object, what: str) -> float:
    """A number that the store can keep; Decimals, Fractions and numpy's become floats."""
    if type(value) is int and abs(value) < 1 << 53:
        return value
    try:
        number = float(value)  # type: ignore[arg-type] # whatever cannot be one is refused below
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"progress({what}={value!r}): must be a number") from error
    if not -1e300 < number < 1e300:
        raise ValueError(f"progress({what}={value!r}): must be a finite number")
    return number


def _text(message: str | None) -> str | None:
    if message is None:
        return None
    if not isinstance(message, str):
        raise TypeError(f"progress(message={message!r}): must be text")
    return message[:MOST_MESSAGE].encode("utf-8", "backslashreplace").decode()


async def track(
    items: Iterable[T] | AsyncIterable[T], total: int | None = None
) -> AsyncIterator[T]:
    """Go through `items`, sync or async, reporting progress after each.

    total: how many there will be; None takes `len(items)` where it has one.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    done = 0
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
            done += 1
            progress(done, total)
    else:
        for item in items:
            yield item
            done += 1
            progress(done, total)


def checkpoint() -> None:
    """Where a `def` task notices that it is to stop or pause: call it now and then in a loop.

    Raises `asyncio.CancelledError` if the task was cancelled, timed out or is being shut down;
    waits while it is paused. In an `async def` task it does nothing: there, every await is one.
    """
    if (attempt := inside.get()) is not None:
        attempt.checkpoint()
