"""A store as the tests drive it: opened, on a clock that stands still, callbacks as awaitables."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from inloop._exchange import Added, By, Claimed, Grant, Lanes, Line, Move, NewTask
from inloop._model import FINAL, AuditEntry, Micros, State, Task, new_id
from inloop._store.protocol import Store

START: Micros = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
SECOND: Micros = 1_000_000
HOUR: Micros = 3_600 * SECOND

NEWEST = (1 << 63) - 1

KNOWN = ("mail", "report")
LANES = Lanes(frozenset(KNOWN), {})


def lanes(*known: str, **limits: int) -> Lanes:
    """What an engine can run: these functions (default: all), and slots by queue."""
    return Lanes(frozenset(known or KNOWN), limits)


class Rig:
    """One owner of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now: Micros = START
        self.woken = threading.Event()
        self.is_open = False

    async def open(self, functions: Sequence[str] = KNOWN) -> "Rig":
        await self.store.open(lambda: self.now, self.woken.set, functions)
        self.is_open = True
        return self

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            await self.store.close(keep_lock=False)

    async def die(self) -> None:
        """End as a killed process does: nothing more is written, the lock is free."""
        self.is_open = False
        await self.store.abandon()

    def by(self, reason: str | None = "because", actor: str = "ana") -> By:
        return By(self.now, actor, reason)

    # ---- the callback methods as awaitables

    async def add(self, *news: NewTask, lanes: Lanes = LANES) -> list[Added]:
        """As `Store.add`, answered when it is committed."""
        answer = self.adding(*news, lanes=lanes)
        return await answer

    def adding(self, *news: NewTask, lanes: Lanes = LANES) -> "asyncio.Future[list[Added]]":
        """As `add`, handed in at once: several in one turn of the loop share a transaction."""
        answer: asyncio.Future[list[Added]] = asyncio.get_running_loop().create_future()
        self.store.add(list(news), lanes, _tell(answer))
        return answer

    async def end(self, move: Move, lines: Sequence[Line] = ()) -> bool:
        """As `Store.end`, answered when it is committed: whether the attempt was still ours."""
        return await self.ending(move, lines) is not None

    def ending(self, move: Move, lines: Sequence[Line] = ()) -> "asyncio.Future[Move | None]":
        """As `end`, handed in at once: the Move as it was stored, None if it was not ours."""
        answer: asyncio.Future[Move | None] = asyncio.get_running_loop().create_future()
        self.store.end(move, lines, _tell(answer))
        return answer

    # ---- making things

    def new(self, name: str = "mail", queue: str = "default", **more: Any) -> NewTask:
        """A new task, due now. `wait`: seconds until it is due."""
        wait = more.pop("wait", 0)
        made = NewTask(
            id=new_id(),
            name=name,
            queue=queue,
            due=self.now + round(wait * SECOND),
            created=self.now,
            priority=0,
            arguments="{}",
        )
        return replace(made, **more)

    async def put(self, name: str = "mail", queue: str = "default", **more: Any) -> str:
        """Store a new task; its id."""
        (added,) = await self.add(self.new(name, queue, **more))
        assert added.created
        return added.id

    async def claim(self, free: int = 100, lanes: Lanes = LANES) -> Grant:
        return await self.store.claim(lanes, free, self.now)

    async def claim_ids(self, free: int = 100, lanes: Lanes = LANES) -> list[str]:
        return [claimed.id for claimed in (await self.claim(free, lanes)).claimed]

    async def start(self, name: str = "mail", queue: str = "default", **more: Any) -> Claimed:
        """Store a new task and start it."""
        (added,) = await self.add(self.new(name, queue, start=True, **more))
        assert added.claimed is not None
        return added.claimed

    def move(self, claimed: Claimed, to: State = State.SUCCEEDED, **more: Any) -> Move:
        """The end of an attempt."""
        made = Move(
            seq=claimed.seq,
            task_id=claimed.id,
            expects=State.RUNNING,
            attempt=claimed.attempt,
            to=to,
            at=self.now,
            failures=claimed.failures,
            result="1" if to is State.SUCCEEDED else None,
        )
        return replace(made, **more)

    async def finish(self, to: State = State.SUCCEEDED, **more: Any) -> str:
        """Store a new task that has ended; its id."""
        claimed = await self.start(**more)
        assert await self.end(self.move(claimed, to))
        return claimed.id

    async def bring(self, state: State, *, owned: bool = False, **more: Any) -> str:
        """A new task in any state; `owned`: an attempt of ours is alive."""
        if state is State.SCHEDULED:
            return await self.put(wait=60, **more)
        if state is State.QUEUED:
            return await self.put(**more)
        if state in FINAL:
            return await self.finish(state, **more)
        claimed = await self.start(**more)
        seq, attempt = claimed.seq, claimed.attempt
        if state is State.HELD:
            assert await self.end(self.move(claimed, State.HELD))
        elif state is State.PAUSED:
            assert await self.store.control("pause", claimed.id, self.by())
            assert await self.store.pause_mine(seq, attempt, self.by())
        elif state is State.WAITING:
            # Nothing waits durably yet: as such an attempt will write it.
            await self.sql("update inloop_task set state = 'waiting' where seq = ?", seq)
        if not owned and state in (State.PAUSED, State.WAITING):
            await self.sql("update inloop_task set owner = null where seq = ?", seq)
        return claimed.id

    # ---- looking

    async def get(self, task_id: str) -> Task:
        return await self.store.get(task_id)

    async def state(self, task_id: str) -> State:
        return (await self.get(task_id)).state

    async def asked(self) -> list[tuple[int, str]]:
        return [(ask.seq, ask.verb) for ask in await self.store.asks()]

    async def seq(self, task_id: str) -> int:
        ((seq,),) = await self.sql("select seq from inloop_task where id = ?", task_id)
        return int(seq)

    async def audits(self, limit: int, before: int = NEWEST) -> list[AuditEntry]:
        return await self.store.audits(before, limit)

    async def moves(self, task_id: str) -> list[tuple[State | None, State]]:
        """The moves of a task, from its history."""
        events = await self.store.events(task_id)
        return [(event.origin, event.to) for event in events if event.what == "moved"]

    async def sql(self, statement: str, *values: object) -> list[Any]:
        """One statement on an app's own connection, committed."""
        async with self.store.connect() as db:
            rows = await db.execute_fetchall(statement, values)
            await db.commit()
            return list(rows)

    async def until(self, look: Callable[[], Awaitable[object]]) -> None:
        """Until it is so; what another thread or process does has no event to wait for."""
        async with asyncio.timeout(10):
            while not await look():
                await asyncio.sleep(0.005)

    async def until_state(self, task_id: str, state: State) -> None:
        async def is_there() -> bool:
            return await self.state(task_id) is state

        await self.until(is_there)

    async def idle(self) -> None:
        """Until all that was handed in is committed."""
        async with asyncio.timeout(10):
            while not self.store.is_idle():
                await asyncio.sleep(0.001)


def _tell(answer: "asyncio.Future[Any]") -> Any:
    def done(result: object, error: BaseException | None) -> None:
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    return done
