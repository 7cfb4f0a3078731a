"""Group commit: callers hand in operations, one thread writes all that wait in one transaction.

    loop      submit(op) ─┐  submit(op) ─┐            done(result) ◄─┐
                          ▼              ▼                           │
    thread          [ begin immediate · holds · ends · adds · rest · commit ]

A whole transaction is one closure, run in one hop on aiosqlite's thread. So nothing ever awaits
between BEGIN and COMMIT, and a caller who is cancelled leaves no open transaction behind: his
operation happens or not, and nobody else's is touched. One fsync serves everybody who waited:
that is what makes `durability="full"` affordable.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

import aiosqlite

from inloop._errors import NotOpen

log = logging.getLogger("inloop")

R = TypeVar("R")
Work = Callable[[sqlite3.Connection], R]
Done = Callable[[Any, BaseException | None], None]

# Operations in one transaction: enough to spread the fsync thin, few enough that a second process
# waits for some tens of milliseconds. (A bulk enqueue is one operation, whole or not at all.)
MOST = 1000


class Phase(IntEnum):
    """The order of operations within one transaction.

    Ends come before claims, so that a freed slot is filled in the same commit; marks come before
    ends, so that a task which paused and then ended does so in that order.
    """

    MARK = 0
    END = 1
    ADD = 2
    REST = 3


@dataclass(slots=True)
class Op:
    """One operation: `item` is a row for its group, or a closure where its phase has no group."""

    phase: Phase
    item: Any
    done: Done


class Thread(aiosqlite.Connection):
    """aiosqlite's connection, used one whole transaction at a time.

    This file is the only one that touches aiosqlite's private parts: `_tx`, its thread's queue of
    functions, and `_execute`, which puts one there and awaits it; `_connection` and `_running`; and
    `_thread`, which must not hold up the interpreter's exit.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, iter_chunk_size=64)
        self._thread.daemon = True

    def start(self, work: Work[R]) -> "asyncio.Future[R]":
        """Run one closure on the connection, in its thread."""
        if not self._running or self._connection is None:
            raise NotOpen("the store is closed")

        def call() -> R:
            # Looked up in the thread: it may have been mended since this was handed in.
            assert self._connection is not None
            return work(self._connection)

        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((answer, call))
        return answer

    async def run(self, work: Work[R]) -> R:
        """The same, awaited."""
        return await self.start(work)

    async def reconnect(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Put a new connection in the place of a broken one."""

        def swap(old: sqlite3.Connection) -> None:
            new = connect()
            old.close()
            self._connection = new

        await run_on(self, swap)

    def is_closed(self) -> bool:
        """Whether nothing can be run any more."""
        return not self._running or self._connection is None

    def is_running(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()


class AppConnection(Thread):
    """A connection for the app's own use, which tells whether it is in a transaction."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect)
        self._in_flight = 0

    async def _execute(self, *args: Any, **kwargs: Any) -> Any:
        self._in_flight += 1
        try:
            return await super()._execute(*args, **kwargs)  # type: ignore[no-untyped-call] # untyped there
        finally:
            self._in_flight -= 1

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open, or may just be beginning."""
        cx = self._connection
        return cx is not None and (self._in_flight > 0 or cx.in_transaction)


async def run_on(connection: aiosqlite.Connection, work: Work[R]) -> R:
    """Run one closure on an aiosqlite connection, ours or the app's, in its thread, in one hop."""
    result: R = await connection._execute(work, connection._conn)  # type: ignore[no-untyped-call] # untyped there
    return result


class GroupCommit:
    """The waiting line in front of the one writer.

    `transact` runs in the thread: it takes operations in order of phase and returns, for each, its
    result or its error. No asyncio task stands between: one could be cancelled, by an event loop
    that is being torn down, just when the last outcomes are to be written.
    """

    def __init__(
        self, thread: Thread, transact: Callable[[sqlite3.Connection, list[Op]], list["Outcome"]]
    ) -> None:
        self._thread = thread
        self._transact = transact
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Op] = []
        self._in_hand: list[Op] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, phase: Phase, item: object, done: Done) -> None:
        """Hand in an operation; `done` is called in the loop once it is committed, or failed."""
        if self._closed:
            raise NotOpen("the store is closed")
        self._waiting.append(Op(phase, item, done))
        if self._idle.is_set():
            self._idle.clear()
            # Not at once: whatever else is handed in in this turn of the loop shares the commit.
            self._loop.call_soon(self._write)

    async def call(self, phase: Phase, item: object) -> Any:
        """Hand in an operation and wait for it. A caller who stops waiting changes nothing."""
        answer: asyncio.Future[Any] = self._loop.create_future()

        def done(result: object, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        self.submit(phase, item, done)
        return await answer

    def _write(self) -> None:
        """Hand what waits to the thread, or rest."""
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        if not batch:
            self._idle.set()
            return
        batch.sort(key=_phase)
        self._in_hand = batch
        try:
            writing = self._thread.start(lambda cx: self._transact(cx, batch))
        except Exception as error:
            self._tell(batch, [Outcome(None, error) for _ in batch])
            self._loop.call_soon(self._write)
        else:
            writing.add_done_callback(partial(self._written, batch))

    def _written(self, batch: list[Op], writing: "asyncio.Future[list[Outcome]]") -> None:
        if self._in_hand is not batch:
            return  # abandoned
        error = writing.exception()
        outcomes = [Outcome(None, error) for _ in batch] if error else writing.result()
        self._in_hand = []
        self._tell(batch, outcomes)
        self._loop.call_soon(self._write)

    def _tell(self, batch: list[Op], outcomes: list["Outcome"]) -> None:
        for op, outcome in zip(batch, outcomes, strict=True):
            try:
                op.done(outcome.result, outcome.error)
            except Exception:
                log.exception("an operation was committed, but telling its caller failed")

    def is_idle(self) -> bool:
        """Whether everything handed in is committed or failed."""
        return self._idle.is_set()

    async def close(self) -> None:
        """Take no more, and commit what waits."""
        self._closed = True
        await self._idle.wait()

    def abandon(self) -> None:
        """Stop without waiting; what waits fails with `NotOpen`, what is being written is unknown
        and fails too."""
        self._closed = True
        left = self._in_hand + self._waiting
        self._in_hand, self._waiting = [], []
        self._tell(left, [Outcome(None, NotOpen("the store was closed")) for _ in left])


@dataclass(slots=True)
class Outcome:
    """What became of one operation."""

    result: Any
    error: BaseException | None = None


def _phase(op: Op) -> Phase:
    return op.phase
