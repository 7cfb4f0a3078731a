"""What the machine allows: the same rows without inloop, to be measured beside it in one run.

`Plain` is sqlite3 in one thread, nothing asynchronous: the floor under everything. `Grouped` is a
bare group commit over one connection in a thread: awaited inserts without events, logs, limits,
counters, retries or recovery. What lies between it and inloop is what inloop's features cost.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from uuid import uuid4

SCHEMA = """
create table task (
  seq integer primary key, id text not null unique, name text not null, queue text not null,
  state text not null, priority integer not null, due integer not null, attempt integer not null,
  created integer not null, finished integer, arguments text not null, result text
)
"""
INSERT = """
insert into task (id, name, queue, state, priority, due, attempt, created, arguments)
values (?, 'add', 'default', 'queued', 0, ?, 0, ?, '{"a":1,"b":2}')
"""
CLAIM = "update task set state = 'running', attempt = attempt + 1 where id = ?"
FINISH = "update task set state = 'succeeded', result = '3', finished = ? where id = ?"


def connect(path: Path, durability: str) -> sqlite3.Connection:
    """A connection as inloop sets its own up."""
    cx = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    cx.execute("pragma journal_mode = wal").fetchone()
    cx.execute(f"pragma synchronous = {durability}")
    cx.execute(SCHEMA)
    return cx


def row() -> tuple[str, int, int]:
    now = time.time_ns() // 1000
    return str(uuid4()), now, now


class Plain:
    """Transactions of `batch` rows, one after the other, in this thread."""

    def __init__(self, path: Path, durability: str) -> None:
        self._cx = connect(path, durability)

    def insert(self, n: int, batch: int) -> None:
        for start in range(0, n, batch):
            size = min(batch, n - start)
            self._transaction(partial(self._add, size))

    def end_to_end(self, n: int, batch: int) -> None:
        """Insert, claim and finish: three transactions for each batch, as inloop has at most."""
        for _ in range(0, n, batch):
            ids = [row() for _ in range(batch)]
            self._transaction(partial(self._cx.executemany, INSERT, ids))
            names = [(one[0],) for one in ids]
            self._transaction(partial(self._cx.executemany, CLAIM, names))
            ends = [(one[1], one[0]) for one in ids]
            self._transaction(partial(self._cx.executemany, FINISH, ends))

    def _add(self, size: int) -> None:
        self._cx.executemany(INSERT, [row() for _ in range(size)])

    def _transaction(self, work: Callable[[], object]) -> None:
        self._cx.execute("begin immediate")
        work()
        self._cx.execute("commit")

    def close(self) -> None:
        self._cx.close()


Operation = tuple[str, tuple[object, ...]]


class Grouped:
    """Awaited statements; all that wait go into one transaction, in one hop to the thread."""

    def __init__(self, path: Path, durability: str) -> None:
        self._cx = connect(path, durability)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Operation, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._jobs: SimpleQueue[tuple[list[Operation], asyncio.Future[None]] | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()
        self._writer = asyncio.create_task(self._write())

    async def execute(self, sql: str, *values: object) -> None:
        """Hand a statement in, and wait for its commit."""
        done = self._loop.create_future()
        self._waiting.append(((sql, values), done))
        self._wake.set()
        await done

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            hop = self._loop.create_future()
            self._jobs.put(([operation for operation, _ in batch], hop))
            await hop
            for _, done in batch:
                done.set_result(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            operations, hop = job
            self._cx.execute("begin immediate")
            for sql, values in operations:
                self._cx.execute(sql, values)
            self._cx.execute("commit")
            self._loop.call_soon_threadsafe(hop.set_result, None)

    async def close(self) -> None:
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        self._jobs.put(None)
        self._cx.close()
