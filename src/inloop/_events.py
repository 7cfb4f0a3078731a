"""Who hears of what: outcomes for those who await a handle, events for those who subscribe.

Both are told only after the store has it ("write, then tell"), and both ask the store after they
have begun to listen ("subscribe, then read"): so nobody hears of what did not happen, and nobody
misses what did.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakValueDictionary

from inloop._errors import NotOpen
from inloop._exchange import Ended
from inloop._model import Event, Progress

MOST_WAITING = 10_000
AT_ONCE = 500


class Outcome:
    """How one task ended, once it has; shared by all handles of the task in this process."""

    __slots__ = ("__weakref__", "age", "ended", "error", "is_gone", "task_id", "waiters")

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.ended: Ended | None = None
        self.error: BaseException | None = None
        self.is_gone = False
        self.age = -1
        self.waiters: set[asyncio.Future[None]] = set()

    @property
    def is_known(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.ended is not None or self.is_gone

    def tell(self, ended: Ended | None, error: BaseException | None = None) -> None:
        """It has ended so (None: there is no such task any more)."""
        if error is None and ended and self.ended and ended.attempt == self.ended.attempt:
            error = self.error  # it is the same end, read again
        self.ended, self.error, self.is_gone = ended, error, ended is None
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def reset(self) -> None:
        """The task runs again: its old outcome counts no more."""
        self.ended = self.error = None
        self.is_gone = False

    def fail(self, error: Exception) -> None:
        """Nobody will ever know: those who wait get this error."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


class Outcomes:
    """The outcomes that somebody in this process holds a handle of."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[str, Outcome] = WeakValueDictionary()
        self._awaited: dict[str, Outcome] = {}
        self._age = 0
        self._is_open = False

    def open(self) -> None:
        """Outcomes will be told from now on."""
        self._is_open = True

    def of(self, task_id: str) -> Outcome:
        """The outcome of a task, known or not."""
        outcome = self._held.get(task_id)
        if outcome is None:
            outcome = self._held[task_id] = Outcome(task_id)
        return outcome

    def get(self, task_id: str) -> Outcome | None:
        """The same, if anybody holds a handle."""
        return self._held.get(task_id)

    def tell(self, task_id: str, ended: Ended | None, error: BaseException | None = None) -> None:
        """A task has ended so."""
        outcome = self._held.get(task_id)
        if outcome is not None:
            outcome.age = self._age
            outcome.tell(ended, error)

    def doubt(self) -> None:
        """Somebody else has written: what is known may be old, for a task may be retried."""
        self._age += 1

    def is_sure(self, outcome: Outcome) -> bool:
        """Whether the outcome is known, and nobody else has written since."""
        return outcome.is_known and outcome.age == self._age

    @contextmanager
    def listen(self, outcome: Outcome) -> Iterator[asyncio.Future[None]]:
        """A future that is done once the outcome is told, from now on."""
        if not self._is_open:
            raise _closed(outcome.task_id)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcome.waiters.add(waiter)
        self._awaited[outcome.task_id] = outcome
        try:
            yield waiter
        finally:
            outcome.waiters.discard(waiter)
            if not outcome.waiters:
                self._awaited.pop(outcome.task_id, None)

    def awaited(self) -> list[str]:
        """Ids of the tasks that somebody waits for."""
        return list(self._awaited)

    def close(self) -> None:
        """Nobody will hear anything any more: the manager is closing."""
        self._is_open = False
        self.doubt()
        for outcome in list(self._awaited.values()):
            outcome.fail(_closed(outcome.task_id))


def _closed(task_id: str) -> NotOpen:
    return NotOpen(
        f"the manager was closed before task {task_id} ended; the task is stored, and goes on when "
        f"the manager is opened again"
    )


class Listener:
    """One subscriber's queue: bounded, the oldest events give way and are counted."""

    def __init__(self, begin: int = 0) -> None:
        self.begin = begin
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue()
        self.lost = 0

    def put(self, event: Event | None) -> None:
        """Hand over an event; None ends the stream."""
        if self._waiting.qsize() >= MOST_WAITING:
            self._waiting.get_nowait()
            self.lost += 1
        self._waiting.put_nowait(event)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self._waiting.get()
        if event is None:
            raise StopAsyncIteration
        return event


ReadAfter = Callable[[int, int], Awaitable[list[Event]]]


class Feed:
    """The store's history as it grows, handed to all listeners; costs nothing without any.

    The history is one sequence over all processes, so reading on from a place gives every event
    once and in order, whoever wrote it.
    """

    def __init__(self) -> None:
        self._listeners: dict[Listener, str | None] = {}
        self._progress: dict[str, Progress | None] = {}
        self._place: int | None = None
        self._poked = asyncio.Event()
        self._is_closed = False

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def watched(self) -> set[str]:
        """The tasks that somebody watches one by one."""
        return {task_id for task_id in self._listeners.values() if task_id is not None}

    def is_new(self, task_id: str, progress: Progress | None) -> bool:
        """Whether this progress of a task that runs elsewhere was not told yet."""
        before = self._progress.get(task_id)
        self._progress[task_id] = progress
        return progress is not None and progress != before

    def poke(self) -> None:
        """There may be something new."""
        if self._listeners:
            self._poked.set()

    @asynccontextmanager
    async def listen(
        self, last: Callable[[], Awaitable[int]], task_id: str | None = None
    ) -> AsyncIterator[Listener]:
        """Listen from now on, to all tasks or to one."""
        if self._is_closed:
            raise NotOpen("the manager is closing: there is nothing more to listen to")
        begin = await last()
        if self._place is None:
            self._place = begin
        listener = Listener(begin)
        self._listeners[listener] = task_id
        try:
            yield listener
        finally:
            self._listeners.pop(listener, None)
            if not self._listeners:
                self._place = None
                self._progress.clear()

    def tell(self, event: Event) -> None:
        """Hand an event to those whom it concerns; also one that is not stored."""
        for listener, task_id in list(self._listeners.items()):
            is_new = event.id is None or event.id > listener.begin
            if is_new and (task_id is None or task_id == event.task_id):
                listener.put(event)

    async def pump(self, read: ReadAfter) -> None:
        """Hand on what is new, whenever poked; runs until cancelled.

        It may be started again after the store has failed: then it looks first.
        """
        self._poked.set()
        while True:
            await self._poked.wait()
            self._poked.clear()
            while self._listeners and self._place is not None:
                events = await read(self._place, AT_ONCE)
                for event in events:
                    self.tell(event)
                if events and events[-1].id is not None and self._place is not None:
                    self._place = max(self._place, events[-1].id)
                if len(events) < AT_ONCE:
                    break

    def close(self) -> None:
        """End every stream."""
        self._is_closed = True
        for listener in list(self._listeners):
            listener.put(None)
