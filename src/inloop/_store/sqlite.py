"""The SQLite store: every method of the protocol, in its order, and how a batch is written.

The statements live in `queue`, `attempts`, `control`, `recovery` and `read`; here they are bound to
the protocol.
"""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import aiosqlite

from inloop._errors import IllegalMove, StoreError, StoreFull, StoreGone, TaskNotFound
from inloop._exchange import Added, Ask, By, Ended, Filter, Grant, Lanes, Line, Move, NewTask
from inloop._model import (
    Attempt,
    AuditEntry,
    Event,
    LogLine,
    Micros,
    Owner,
    Page,
    Pause,
    Progress,
    Recovery,
    State,
    Task,
    to_datetime,
)
from inloop._store import attempts, control, housekeeping, place, queue, read, recovery
from inloop._store.commit import AppConnection, Op, Outcome, Phase, run_on
from inloop._store.connections import Connections, refuse_forked
from inloop._store.protocol import Done, Fenced

R = TypeVar("R")

RESPONDS_WITHIN = 30_000_000

# Raised by verbs before they have written anything: the transaction they are part of is whole.
HARMLESS = (TaskNotFound, IllegalMove, Fenced)


class SQLiteStore(Connections):
    """A store in one SQLite file (or in memory, for one process)."""

    # ---- writing

    def _transact(self, cx: sqlite3.Connection, ops: list[Op]) -> list[Outcome]:
        """In the thread: a batch in one transaction; if one operation is at fault, each in its own.

        The usual batch pays for no savepoint, and a bad operation takes nobody with it.
        """
        assert self._writer is not None
        ends = all(op.phase is Phase.END for op in ops)
        reserve = self._writer.reserve
        if not ends and reserve is not None and not reserve.make():
            error = StoreFull(f"{self.place}: its disk is full: make room; what runs can finish")
            return self._ends_at_least(cx, ops, error)
        run = self._writer.run_making_room if ends else self._writer.run
        try:
            return run(cx, lambda cx: self._apply(cx, ops))
        except StoreFull as error:
            if ends:
                return [Outcome(None, error) for _ in ops]
            return self._ends_at_least(cx, ops, error)
        except StoreError as error:
            return [Outcome(None, error) for _ in ops]
        except Exception as error:
            if len(ops) == 1:
                return [Outcome(None, error)]
            return [outcome for op in ops for outcome in self._transact(cx, [op])]

    def _ends_at_least(
        self, cx: sqlite3.Connection, ops: list[Op], error: StoreFull
    ) -> list[Outcome]:
        """On a full disk: what has run is written first; new work is refused."""
        ends = [op for op in ops if op.phase is Phase.END]
        saved = iter(self._transact(cx, ends) if ends else [])
        return [next(saved) if op.phase is Phase.END else Outcome(None, error) for op in ops]

    def _apply(self, cx: sqlite3.Connection, ops: list[Op]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for phase, group in groupby(ops, key=lambda op: op.phase):
            items = [op.item for op in group]
            if phase is Phase.END:
                attempts.write_lines(cx, [line for _, lines in items for line in lines])
                applied = attempts.end(cx, [move for move, _ in items], self.me)
                outcomes += [Outcome(move) for move in applied]
            elif phase is Phase.ADD:
                outcomes += self._add(cx, items)
            else:
                outcomes += [_one(cx, work) for work in items]
        return outcomes

    def _add(
        self, cx: sqlite3.Connection, items: list[tuple[list[NewTask], Lanes]]
    ) -> list[Outcome]:
        news = [new for some, _ in items for new in some]
        added = iter(queue.add(cx, news, self.me, items[-1][1]))
        return [Outcome([next(added) for _ in some]) for some, _ in items]

    # ---- the hot path

    def add(self, news: list[NewTask], lanes: Lanes, done: Done) -> None:
        self._group.submit(Phase.ADD, (news, lanes), done)

    async def add_within(self, connection: object, news: list[NewTask]) -> list[Added]:
        if not isinstance(connection, aiosqlite.Connection):
            raise TypeError(
                f"connection={connection!r}: must be an aiosqlite connection to {self.place}, such "
                f"as `await tasks.connect()`"
            )
        return await run_on(connection, partial(self._add_within, news))

    def _add_within(self, news: list[NewTask], cx: sqlite3.Connection) -> list[Added]:
        by_itself = cx.isolation_level is None or getattr(cx, "autocommit", -1) is True
        if not cx.in_transaction and by_itself:
            raise ValueError("connection=: it has no open transaction; execute `begin immediate`")
        # The app may have its rows made into anything; ours are tuples.
        factories = cx.row_factory, cx.text_factory
        cx.row_factory, cx.text_factory = None, str
        try:
            self._require_same(cx)
            if not cx.in_transaction:
                cx.execute("begin immediate")
            return self._add_whole(news, cx)
        except sqlite3.Error as error:
            raise place.explain(error, self.place) from error
        finally:
            cx.row_factory, cx.text_factory = factories

    def _add_whole(self, news: list[NewTask], cx: sqlite3.Connection) -> list[Added]:
        """All of them or none, also if the app goes on with its transaction after an error."""
        cx.execute("savepoint inloop")
        try:
            added = queue.add(cx, news, None, _NOTHING)
        except BaseException:
            if cx.in_transaction:  # a full disk may have rolled all of it back
                cx.execute("rollback to inloop")
                cx.execute("release inloop")
            raise
        cx.execute("release inloop")
        return added

    def _require_same(self, cx: sqlite3.Connection) -> None:
        file = next(row[2] for row in cx.execute("pragma database_list") if row[1] == "main")
        try:
            mine = os.stat(self.place.path)
        except OSError as error:
            raise StoreGone(f"{self.place} was deleted while it was open") from error
        try:
            same = bool(file) and os.path.samestat(os.stat(file), mine)
        except OSError:
            same = False
        if not same:
            raise ValueError(
                f"connection=: it is connected to {file or 'a database in memory'}, and the tasks "
                f"are in {self.place}: a transaction cannot span both"
            )

    async def claim(self, lanes: Lanes, free: int, now: Micros) -> Grant:
        return await self._write(lambda cx: queue.claim(cx, lanes, free, self.me, now))

    def end(self, move: Move, lines: Sequence[Line], done: Done) -> None:
        self._group.submit(Phase.END, (move, lines), done)

    async def pause_mine(self, seq: int, attempt: int, by: By) -> bool:
        mine = by._replace(writer=self.me)
        return await self._write(lambda cx: attempts.pause(cx, seq, attempt, mine), mark=True)

    async def resume_mine(self, seq: int, attempt: int, by: By, lanes: Lanes) -> bool | None:
        mine = by._replace(writer=self.me)
        return await self._write(
            lambda cx: attempts.resume(cx, seq, attempt, mine, lanes), mark=True
        )

    async def answered(self, seq: int, attempt: int, verb: str) -> None:
        row = {"seq": seq, "attempt": attempt, "owner": self.me, "verb": verb}
        await self._write(lambda cx: cx.execute(attempts.ANSWERED, row).rowcount, mark=True)

    async def note(
        self, lines: Sequence[Line], progress: Sequence[tuple[int, int, Progress]]
    ) -> None:
        def write(cx: sqlite3.Connection) -> None:
            attempts.write_lines(cx, lines)
            attempts.write_progress(cx, progress, self.me)

        await self._write(write, mark=True)

    async def leave_running(self, now: Micros) -> None:
        def leave(cx: sqlite3.Connection) -> None:
            cx.execute(attempts.INTERRUPTED, {"now": now, "owner": self.me})
            cx.execute(attempts.LEAVE_PAUSED, {"owner": self.me})

        await self._write(leave)

    async def mend(self) -> None:
        assert self._thread is not None
        assert self._reader is not None
        assert self._writer is not None
        # New connections only: the owner, its lock, and the file that is looked for stay the same.
        await self._thread.reconnect(partial(place.connect, self.place, self.durability))
        self._writer.forget_log()
        await self._reader.reconnect(
            partial(place.connect, self.place, self.durability, writes=False)
        )

    def is_idle(self) -> bool:
        return self._group.is_idle()

    async def has_changed(self) -> bool:
        assert self._thread is not None
        before, self._version = self._version, await self._thread.run(_data_version)
        return before != self._version

    async def asks(self) -> list[Ask]:
        def look(cx: sqlite3.Connection) -> list[Ask]:
            queue.require_open(cx, self.me)
            return [Ask(*row) for row in cx.execute(attempts.ASKS, {"owner": self.me}).fetchall()]

        return await self._read(look)

    async def know(self, functions: Sequence[str]) -> None:
        self._functions = tuple(functions)
        await self._write(lambda cx: housekeeping.know(cx, self.me, functions))

    async def overrun(self, seq: int, attempt: int, by: By) -> bool:
        mine = by._replace(writer=self.me)
        return await self._write(lambda cx: attempts.overrun(cx, seq, attempt, mine), mark=True)

    async def hold_unknown(self, before: Micros, by: By) -> tuple[bool, int]:
        mine = by._replace(writer=self.me)
        return await self._write(lambda cx: housekeeping.hold_unknown(cx, before, mine))

    # ---- control

    async def control(self, verb: str, task_id: str, by: By) -> bool:
        mine = by._replace(writer=self.me)
        return await self._write(lambda cx: control.control(cx, verb, task_id, mine))

    async def control_many(self, verb: str, ids: list[str], by: By) -> int:
        mine = by._replace(writer=self.me)
        return await self._write(lambda cx: control.control_many(cx, verb, ids, mine))

    async def reschedule(self, task_id: str, at: Micros | None, by: By) -> bool:
        mine = by._replace(writer=self.me)

        def move(cx: sqlite3.Connection) -> bool:
            done = control.reschedule(cx, control.find(cx, task_id), mine, at)
            control.audit(cx, "reschedule", task_id, mine)
            return done

        return await self._write(move)

    async def audit(self, action: str, target: str, by: By) -> None:
        await self._write(lambda cx: control.audit(cx, action, target, by))

    async def pause_queue(self, queue: str, until: Micros | None, by: By) -> None:
        await self._write(lambda cx: control.pause_queue(cx, queue, until, by))

    async def resume_queue(self, queue: str, by: By) -> None:
        await self._write(lambda cx: control.resume_queue(cx, queue, by))

    async def set_queue(self, name: str, concurrency: int | None, by: By) -> None:
        await self._write(lambda cx: control.set_queue(cx, name, concurrency, by))

    async def take_over(self, owner_id: str, by: By) -> int:
        mine = by._replace(writer=self.me)
        dead = await self._write(lambda cx: recovery.fence(cx, owner_id, mine))
        why = f"taken over by {by.actor}"
        taken, after = 0, 0
        while True:
            page = partial(
                recovery.recover_page, dead=dead, after=after, why=why, by=mine, died=False
            )
            n, after = await self._write(page)
            taken += n
            if not after:
                return taken

    async def prune(
        self, before: dict[State, Micros], hidden: Micros, now: Micros, most: int
    ) -> int:
        return await self._write(lambda cx: housekeeping.prune(cx, before, hidden, now, most))

    async def prune_records(self, before: Micros) -> None:
        await self._write(lambda cx: housekeeping.prune_records(cx, before))

    async def next_prune(
        self, retention: Mapping[State, Micros | None], undo: Micros
    ) -> Micros | None:
        return await self._read(lambda cx: housekeeping.next_prune(cx, retention, undo))

    # ---- reads

    async def get(self, task_id: str) -> Task:
        return await self._read(lambda cx: read.get(cx, task_id))

    async def ended(self, ids: Sequence[str]) -> dict[str, Ended | None]:
        wanted = list(ids)
        return await self._read(lambda cx: read.ended(cx, wanted))

    async def find(self, wanted: Filter, limit: int, cursor: str | None) -> Page[Task]:
        return await self._read(lambda cx: read.find(cx, wanted, limit, cursor))

    async def find_ids(self, wanted: Filter, limit: int, cursor: str | None) -> Page[str]:
        return await self._read(lambda cx: read.find_ids(cx, wanted, limit, cursor))

    async def counts(self) -> dict[str, dict[State, int]]:
        return await self._read(read.counts)

    async def unfinished_due(self, now: Micros) -> int:
        return await self._read(lambda cx: read.unfinished_due(cx, now))

    async def attempts(self, task_id: str) -> list[Attempt]:
        return await self._read(lambda cx: read.attempts(read.events(cx, task_id)))

    async def events(self, task_id: str) -> list[Event]:
        return await self._read(lambda cx: read.events(cx, task_id))

    async def events_after(self, after: int, most: int) -> list[Event]:
        return await self._read(lambda cx: read.events_after(cx, after, most))

    async def last_event(self) -> int:
        return await self._read(read.last_event)

    async def logs(self, task_id: str, after: int, limit: int) -> list[LogLine]:
        return await self._read(lambda cx: read.logs(cx, task_id, after, limit))

    async def owners(self, now: Micros) -> list[Owner]:
        return await self._read(lambda cx: self._list_owners(cx, now))

    def _list_owners(self, cx: sqlite3.Connection, now: Micros) -> list[Owner]:
        assert self._owners is not None
        found = []
        for row in cx.execute(read.OWNERS).fetchall():
            n, id_, pid, at_host, boot, started, heartbeat, running = row
            me = id_ == self._owners.id
            alive = me or self._owners.is_alive(id_, boot, at_host, older=n < self.me)
            found.append(
                Owner(
                    id=id_,
                    pid=pid,
                    host=at_host,
                    started=to_datetime(started),
                    heartbeat=to_datetime(heartbeat),
                    alive=alive,
                    responding=bool(alive) and now - heartbeat <= RESPONDS_WITHIN,
                    running=running,
                    me=me,
                )
            )
        return found

    async def recoveries(self, limit: int) -> list[Recovery]:
        return await self._read(lambda cx: recovery.reports(cx, limit))

    async def pauses(self, now: Micros) -> list[Pause]:
        return await self._read(lambda cx: read.pauses(cx, now))

    async def audits(self, before: int, limit: int) -> list[AuditEntry]:
        return await self._read(lambda cx: read.audits(cx, before, limit))

    def connect(self) -> AppConnection:
        """Not yet connected: `await` it, or enter it with `async with`."""
        return AppConnection(self._connect_app)

    def _connect_app(self) -> sqlite3.Connection:
        # Also before the store is opened: an app may make its own tables first.
        here = place.resolve(self.place)
        place.prepare(here)
        refuse_forked(here)
        cx = place.connect(here, self.durability)
        place.make_wal(cx, here, self.durability)
        cx.execute("pragma busy_timeout = 5000")
        # An app's writers take SQLite's lock, not our turnstile: they leave checkpoints to us.
        cx.execute("pragma wal_autocheckpoint = 0")
        cx.isolation_level = "IMMEDIATE"
        return cx


_NOTHING = Lanes(frozenset(), {})


def _one(cx: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Outcome:
    try:
        return Outcome(work(cx))
    except HARMLESS as error:
        return Outcome(None, error)


def _data_version(cx: sqlite3.Connection) -> int:
    (version,) = cx.execute("pragma data_version").fetchone()
    return int(version)
