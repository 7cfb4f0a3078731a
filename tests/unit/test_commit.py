"""Group commit: what waits is written in one transaction, and each caller hears of his own part."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inloop import NotOpen
from inloop._store.commit import MOST, GroupCommit, Op, Outcome, Phase, Thread

pytestmark = pytest.mark.anyio


class Book:
    """A table that is written through a group commit, and what was written together."""

    def __init__(self, group: "GroupCommit", thread: Thread) -> None:
        self.group = group
        self.thread = thread
        self.batches: list[list[object]] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.writing = threading.Event()
        self.told: list[tuple[object, object, BaseException | None]] = []

    def submit(self, item: object, phase: Phase = Phase.REST) -> None:
        """Hand in an item, and take note of what is told about it."""
        self.group.submit(phase, item, partial(self._done, item))

    def _done(self, item: object, result: object, error: BaseException | None) -> None:
        self.told.append((item, result, error))

    async def stored(self) -> list[object]:
        """What is in the table."""
        rows = await self.thread.run(
            lambda cx: cx.execute("select item from entry order by rowid").fetchall()
        )
        return [item for (item,) in rows]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Book]:
    """A group commit that writes its items into a table; the item "bad" breaks its batch."""

    def connect() -> sqlite3.Connection:
        cx = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        cx.execute("create table entry (item)")
        return cx

    book: Book

    def transact(cx: sqlite3.Connection, ops: list[Op]) -> list[Outcome]:
        book.writing.set()
        assert book.may_write.wait(10)
        book.batches.append([op.item for op in ops])
        cx.execute("begin immediate")
        try:
            for op in ops:
                if op.item == "bad":
                    raise ValueError("bad")
                cx.execute("insert into entry values (?)", [op.item])
            cx.execute("commit")
        except BaseException:
            cx.execute("rollback")
            raise
        return [Outcome(f"wrote {op.item}") for op in ops]

    thread = Thread(connect)
    await thread
    group = GroupCommit(thread, transact)
    book = Book(group, thread)
    try:
        yield book
    finally:
        book.may_write.set()
        group.abandon()
        await thread.close()


@pytest.fixture
async def book(path: Path) -> AsyncIterator[Book]:
    async with opened(path) as book:
        yield book


async def until(is_true: Callable[[], Any]) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.001)


async def test_an_operation_is_told_its_result_once_it_is_committed(book: Book) -> None:
    """The caller hears nothing before the commit, and then what his own operation gave."""
    book.may_write.clear()
    call = asyncio.ensure_future(book.group.call(Phase.REST, "a"))
    await asyncio.to_thread(book.writing.wait, 10)
    assert not call.done()
    book.may_write.set()
    assert await call == "wrote a"
    assert await book.stored() == ["a"]


async def test_what_waits_is_written_together(book: Book) -> None:
    """Operations that were handed in before the writer looks share one transaction."""
    for item in "abc":
        book.submit(item)
    await until(book.group.is_idle)
    assert book.batches == [["a", "b", "c"]]
    assert [item for item, _, _ in book.told] == ["a", "b", "c"]


async def test_what_comes_while_it_writes_waits_for_the_next(book: Book) -> None:
    """While one transaction is being committed the next one gathers."""
    book.may_write.clear()
    book.submit("first")
    await asyncio.to_thread(book.writing.wait, 10)
    for item in "abc":
        book.submit(item)
    book.may_write.set()
    await until(book.group.is_idle)
    assert book.batches == [["first"], ["a", "b", "c"]]


async def test_within_a_transaction_ends_come_before_claims(book: Book) -> None:
    """Phases go in their order, and within one phase whoever came first goes first."""
    given = [("r1", Phase.REST), ("a1", Phase.ADD), ("e1", Phase.END), ("m1", Phase.MARK)]
    given += [("r2", Phase.REST), ("a2", Phase.ADD), ("e2", Phase.END), ("m2", Phase.MARK)]
    for item, phase in given:
        book.submit(item, phase)
    await until(book.group.is_idle)
    assert book.batches == [["m1", "m2", "e1", "e2", "a1", "a2", "r1", "r2"]]


async def test_a_transaction_is_bounded(book: Book) -> None:
    """Of many operations a thousand go at once, so that other processes get their turn."""
    for n in range(2 * MOST + 1):
        book.submit(n)
    await until(book.group.is_idle)
    assert [len(batch) for batch in book.batches] == [MOST, MOST, 1]
    assert await book.stored() == list(range(2 * MOST + 1))


async def test_a_caller_who_is_cancelled_changes_nothing(book: Book) -> None:
    """His operation is written all the same, with the others; no transaction stays open."""
    book.may_write.clear()
    calls = [asyncio.ensure_future(book.group.call(Phase.REST, n)) for n in range(50)]
    await asyncio.to_thread(book.writing.wait, 10)
    for call in calls[::2]:
        call.cancel()
    book.may_write.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results[:2]] == [asyncio.CancelledError, str]
    await until(book.group.is_idle)
    assert await book.stored() == list(range(50))
    assert not await book.thread.run(lambda cx: cx.in_transaction)


async def test_a_caller_who_is_cancelled_before_it_is_written_changes_nothing(book: Book) -> None:
    """Also where the writer has not begun: what was handed in is handed in."""
    call = asyncio.ensure_future(book.group.call(Phase.REST, "a"))
    await asyncio.sleep(0)
    call.cancel()
    await until(book.group.is_idle)
    assert await book.stored() == ["a"]


async def test_a_broken_transaction_is_told_to_all_of_it_and_to_nobody_else(book: Book) -> None:
    """The error reaches each caller; the writer goes on with the next."""
    book.submit("a")
    book.submit("bad")
    await until(book.group.is_idle)
    assert [type(error) for _, _, error in book.told] == [ValueError, ValueError]
    assert await book.group.call(Phase.REST, "b") == "wrote b"
    assert await book.stored() == ["b"]


async def test_a_caller_who_breaks_when_told_harms_nobody(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    """His error is logged, and those behind him are told."""

    def broken(result: object, error: BaseException | None) -> None:
        raise RuntimeError("mine")

    book.group.submit(Phase.REST, "a", broken)
    book.submit("b")
    await until(book.group.is_idle)
    assert [item for item, _, _ in book.told] == ["b"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert await book.group.call(Phase.REST, "c") == "wrote c"


async def test_callers_are_told_in_the_loop(book: Book) -> None:
    """`done` is called in the event loop's thread, whoever wrote."""
    where: list[int] = []
    book.group.submit(Phase.REST, "a", lambda *_: where.append(threading.get_ident()))
    await until(lambda: where)
    assert where == [threading.get_ident()]


async def test_it_is_idle_only_when_all_is_told(book: Book) -> None:
    """From the moment of handing in until the answer it is not idle."""
    assert book.group.is_idle()
    book.submit("a")
    assert not book.group.is_idle()
    await until(lambda: book.told)
    await until(book.group.is_idle)


async def test_closing_writes_what_waits(book: Book) -> None:
    """Whatever was handed in before is committed; afterwards nothing is taken."""
    for n in range(MOST + 5):
        book.submit(n)
    await book.group.close()
    assert len(await book.stored()) == MOST + 5
    with pytest.raises(NotOpen):
        book.submit("late")


async def test_abandoning_tells_those_who_wait(book: Book) -> None:
    """What was not written is told so; what is being written has an unknown outcome, told too."""
    book.may_write.clear()
    book.submit("being written")
    await asyncio.to_thread(book.writing.wait, 10)
    book.submit("waiting")
    book.group.abandon()
    assert [(item, type(error)) for item, _, error in book.told] == [
        ("being written", NotOpen),
        ("waiting", NotOpen),
    ]


# ---- the thread, and the private parts of aiosqlite


async def test_work_runs_in_one_hop_on_the_connections_thread(book: Book) -> None:
    """All statements of a closure run in one thread that is not the loop's."""

    def where(cx: sqlite3.Connection) -> set[int]:
        found = set()
        for _ in range(3):
            cx.execute("select 1").fetchall()
            found.add(threading.get_ident())
        return found

    (thread,) = await book.thread.run(where)
    assert thread != threading.get_ident()
    assert await book.thread.run(where) == {thread}


async def test_cancelled_work_runs_to_its_end(book: Book) -> None:
    """A closure that has begun is not cut in two by a caller who stops waiting."""

    def slow(cx: sqlite3.Connection) -> None:
        book.writing.set()
        cx.execute("begin immediate")
        cx.execute("insert into entry values ('whole')")
        assert book.may_write.wait(10)
        cx.execute("commit")

    book.may_write.clear()
    work = asyncio.ensure_future(book.thread.run(slow))
    await asyncio.to_thread(book.writing.wait, 10)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    book.may_write.set()
    assert await book.stored() == ["whole"]


async def test_the_thread_does_not_hold_up_the_exit(book: Book) -> None:
    """It is a daemon: an interpreter that ends without closing does not wait for it."""
    assert book.thread._thread.daemon
    assert book.thread.is_running()


async def test_a_broken_connection_is_replaced(book: Book, tmp_path: Path) -> None:
    """`reconnect` closes the old connection and works on a new one from then on."""
    await book.thread.reconnect(
        lambda: sqlite3.connect(tmp_path / "other.db", check_same_thread=False)
    )
    (name,) = await book.thread.run(
        lambda cx: [row[2] for row in cx.execute("pragma database_list")]
    )
    assert name.endswith("other.db")
