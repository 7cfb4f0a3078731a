"""A SQLite store's connections: opened, given to their threads, closed, and left alone by forks.

writer   every write of this process, gathered into shared transactions (`commit.py`)
reader   every read; never waits for a writer
keeper   heartbeat, recovery, and the look at whether anybody else has written
"""

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar
from uuid import uuid4

from inloop._errors import NotOpen, StoreError
from inloop._model import Micros
from inloop._store import housekeeping, keeper, place
from inloop._store.commit import GroupCommit, Op, Outcome, Phase, Thread
from inloop._store.keeper import Keeper
from inloop._store.owners import Owners, Turnstile, boot_id, host
from inloop._store.place import Durability, Place
from inloop._store.writer import Reserve, Writer, identity

log = logging.getLogger("inloop")

R = TypeVar("R")

OPENING_PATIENCE = 30.0

REGISTER = """
insert into inloop_owner (id, pid, host, boot, started, heartbeat, functions)
values (:id, :pid, :host, :boot, :now, :now, :functions)
returning n
"""
OPEN_IDS = "select id from inloop_owner where closed is null"
LEAVE = "update inloop_owner set closed = :now where n = :n and closed is null"


class Connections(ABC):
    """The part of `SQLiteStore` that opens and closes."""

    def __init__(self, where: Place | None, durability: Durability) -> None:
        # In memory: a file all the same, in a folder of our own that goes with us. So it has the
        # same threads, locks and connections as any other store, and one code serves both.
        self._where = where
        self._folder: weakref.finalize[[str, int], Connections] | None = None
        self.durability: Durability = durability if where else "normal"
        self.me = 0
        self._opened: Place | None = None
        self._owners: Owners | None = None
        self._thread: Thread | None = None
        self._reader: Thread | None = None
        self._writer: Writer | None = None
        self._keeper: Keeper | None = None
        self._vain: asyncio.Task[None] | None = None
        self._version = 0

    @property
    def place(self) -> Place:
        """Where the file is; a store in memory has one only while it is open."""
        found = self._opened or self._where
        if found is None:
            raise NotOpen("a store in memory is there only while it is open")
        return found

    @abstractmethod
    def _transact(self, cx: sqlite3.Connection, ops: list[Op]) -> list[Outcome]:
        """In the thread: do a batch of operations."""

    async def open(
        self, now: Callable[[], Micros], wake: Callable[[], None], functions: Sequence[str]
    ) -> None:
        self._now = now
        self._wake = wake
        self._functions = tuple(functions)
        loop = asyncio.get_running_loop()
        if self._vain is not None and self._vain.get_loop() is loop:
            await asyncio.wait([self._vain])  # an opening that was cancelled is being undone
        self._vain = None
        opening = loop.create_task(self._open(), name="inloop-open")
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on opening; what it opens must not stay open.
            self._vain = loop.create_task(self._undo(opening), name="inloop-undo")
            raise

    async def _undo(self, opening: asyncio.Task[None]) -> None:
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await self.close(keep_lock=False)

    async def _open(self) -> None:
        self._thread = Thread(self._connect_writer)
        try:
            await self._thread
            self._reader = Thread(partial(place.connect, self.place, self.durability, writes=False))
            await self._reader
        except BaseException:
            await self._part(partial(self._unlock, unlink=False))
            raise
        self._group = GroupCommit(self._thread, self._transact)
        _open_stores.add(self)
        if self._keeper is not None:
            self._keeper.start(self.me)

    def _connect_writer(self) -> sqlite3.Connection:
        """In the thread: look at the place, open it, migrate it, become an owner."""
        # One file has one name here, whatever links lead to it: its locks lie beside that.
        self._opened = here = place.resolve(self._where or self._in_folder())
        place.prepare(here)
        refuse_forked(here)
        self._owners = owners = Owners(here.path)
        owners.prepare()
        # Of several processes that start together one migrates, and the others wait for it.
        door = Turnstile(owners.folder / "open.lock", patience=OPENING_PATIENCE)
        turnstile = Turnstile(owners.folder / "write.lock")
        try:
            with door:
                cx = self._first_steps(here, owners, turnstile)
            # A turnstile of its own: two threads of one process are two writers.
            writer = Writer(here, Turnstile(owners.folder / "write.lock"), keeper.PATIENCE)
            self._keeper = Keeper(writer, self.durability, owners, self._now, self._wake)
            return cx
        except BaseException:
            turnstile.close()
            raise
        finally:
            door.close()

    def _in_folder(self) -> Place:
        folder = mkdtemp(prefix="inloop-")
        self._folder = weakref.finalize(self, _remove, folder, os.getpid())
        return Place(Path(folder) / "memory.db")

    def _first_steps(self, here: Place, owners: Owners, turnstile: Turnstile) -> sqlite3.Connection:
        cx = place.connect(here, self.durability)
        try:
            place.refuse_newer(cx, here)
            place.make_wal(cx, here, self.durability)
            place.quick_check(cx, here)
            self._writer = writer = Writer(here, turnstile)
            writer.run(cx, place.migrate)
            if self._where is not None:
                writer.reserve = Reserve(owners.folder / "reserve")
                writer.reserve.make()
            owners.sweep(i for (i,) in cx.execute(OPEN_IDS).fetchall())
            owners.register(str(uuid4()))
            self.me = writer.run(cx, self._register)
        except BaseException:
            cx.close()
            raise
        return cx

    def _register(self, cx: sqlite3.Connection) -> int:
        """Become an owner by its row; its lock is held before, so that no row is seen without."""
        assert self._owners is not None
        row = {
            "id": self._owners.id, "pid": os.getpid(), "host": host(), "boot": boot_id(),
            "now": self._now(), "functions": housekeeping.dump_names(self._functions),
        }  # fmt: skip
        (n,) = cx.execute(REGISTER, row).fetchone()
        return int(n)

    async def reopen_owner(self) -> None:
        assert self._thread is not None
        await self._thread.run(self._change_lock)
        self.me = await self._write(self._register)
        if self._keeper is not None:
            self._keeper.me = self.me

    def _change_lock(self, _: sqlite3.Connection) -> None:
        assert self._owners is not None
        self._owners.release(unlink=False)
        self._owners.register(str(uuid4()))

    def hurry(self, seconds: float) -> None:
        if self._writer is not None:
            self._writer.turnstile.hurry(seconds)

    async def close(self, *, keep_lock: bool) -> None:
        leave = {"now": self._now(), "n": self.me}
        has_left = False
        try:
            if not keep_lock:
                with contextlib.suppress(StoreError, NotOpen):
                    has_left = await self._write(lambda cx: cx.execute(LEAVE, leave).rowcount) > 0
            await self._group.close()
        finally:
            # The file of one who could not say that he leaves stays: it proves that he is dead.
            await self._part(None if keep_lock else partial(self._unlock, unlink=has_left))

    def keep_lock(self) -> Callable[[], None]:
        # Of this very opening: the manager may be open again, as another owner, by then.
        assert self._owners is not None
        return partial(self._owners.release, unlink=False)

    async def abandon(self) -> None:
        self._group.abandon()
        await self._part(partial(self._unlock, unlink=False))

    def _unlock(self, *, unlink: bool) -> None:
        if self._owners is not None:
            self._owners.release(unlink=unlink)

    async def _part(self, unlock: Callable[[], None] | None) -> None:
        """Give back what is held, in the threads that use it, and let them end."""

        def last_steps(_: sqlite3.Connection) -> None:
            if unlock is not None:
                unlock()
            if self._writer is not None:
                self._writer.turnstile.close()
            if self._folder is not None:
                self._folder()
                self._opened = None

        if self._keeper is not None:
            self._keeper.stop()
        if self._thread is not None and not self._thread.is_closed():
            last = asyncio.ensure_future(self._thread.run(last_steps))
            await asyncio.wait([last], timeout=1.0)
        self._shut()
        await self._threads_end()

    def _shut(self) -> None:
        """Let every thread end; nobody waits for them here."""
        _open_stores.discard(self)
        for thread in (self._thread, self._reader):
            if thread is not None and thread.is_running():
                thread.stop()

    async def _threads_end(self) -> None:
        threads = [self._thread, self._reader, self._keeper]
        for _ in range(100):
            if not any(thread is not None and thread.is_running() for thread in threads):
                return
            await asyncio.sleep(0.01)
        log.warning("inloop's threads for %s are still busy; they end by themselves", self._opened)

    # ---- using them

    async def _write(self, work: Callable[[sqlite3.Connection], R], *, mark: bool = False) -> R:
        result: R = await self._group.call(Phase.MARK if mark else Phase.REST, work)
        return result

    async def _read(self, look: Callable[[sqlite3.Connection], R]) -> R:
        if self._reader is None or self._reader.is_closed():
            raise NotOpen("the store is not open")
        try:
            return await self._reader.run(look)
        except sqlite3.Error as error:
            raise place.explain(error, self.place) from error


def _remove(folder: str, pid: int) -> None:
    """Remove the folder of a store in memory; a fork leaves its parent's alone."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


# ---- fork -----------------------------------------------------------------------------------

_open_stores: weakref.WeakSet[Connections] = weakref.WeakSet()
_forked: list[Connections] = []
_forked_files: dict[tuple[int, int], int] = {}


def _after_fork_in_child() -> None:
    """A child must not touch its parent's connections, nor close them: it keeps them unused."""
    for store in _open_stores:
        _forked.append(store)
        if store._writer is not None and store._writer.file is not None:
            _forked_files[store._writer.file] = os.getppid()
    _open_stores.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def refuse_forked(here: Place) -> None:
    """SQLite remembers its locks per process: a fork inherits the memory, and not the locks.

    A connection opened in the child to a file that the parent had open would take no locks at all,
    and the parent would end by deleting the log that the child writes.
    """
    parent = _forked_files.get(identity(here.path) or (0, 0))
    if parent is not None:
        raise StoreError(
            f"{here} was open in process {parent} when it forked this one, and SQLite's locks do "
            f"not survive that: open it in the parent after the fork, or start this process by "
            f"spawn"
        )
