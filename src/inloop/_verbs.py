"""What can be asked and done through a manager, from any process that shares the store.

Each verb is one transaction of the store, then a word to the engine. Control verbs take who does it
and why; both are kept with the task and in the audit.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from inloop._checks import check_count, check_text, instant
from inloop._chores import UNDO_FOR
from inloop._exchange import By, Filter
from inloop._model import (
    FINAL,
    Attempt,
    AuditEntry,
    Event,
    LogLine,
    Micros,
    Owner,
    Page,
    Pause,
    Recovery,
    State,
    Task,
    to_micros,
)
from inloop._store.protocol import Store

if TYPE_CHECKING:
    from inloop._handle import TaskHandle

T = TypeVar("T")

MOST_PER_PAGE = 1000
MOST_LINES = 100_000
NEWEST = (1 << 63) - 1
BATCH = 200


class Verbs(ABC):
    """The part of `TaskManager` that reads and controls tasks."""

    _store: Store
    _saying: "set[asyncio.Future[Any]]"

    @abstractmethod
    async def _ready(self) -> None:
        """Wait until this code may use the manager; `NotOpen` if it may not at all."""
        ...

    @abstractmethod
    def _now(self) -> Micros: ...

    @abstractmethod
    def _poke(self) -> None: ...

    @abstractmethod
    def handle(self, id: str) -> "TaskHandle[Any]": ...

    # ---- reading

    async def get(self, id: str) -> Task:
        """One task as it stands; `TaskNotFound` if there is none of this id."""
        await self._ready()
        return await self._store.get(check_text(id, "id"))

    async def find(
        self,
        *,
        state: State | str | Iterable[State | str] | None = None,
        name: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        text: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Task]:
        """Tasks that fit every word given, newest first, a page at a time.

        state: one or several. text: a part of the name, id, key, arguments or error, in any case.
        since, until: aware datetimes of creation. limit: 1 to 1000. cursor: `next` of the page
        before.
        """
        await self._ready()
        check_count(limit, "limit", most=MOST_PER_PAGE)
        if cursor is not None and not isinstance(cursor, str):
            raise TypeError(f"cursor={cursor!r}: must be the `next` of an earlier page")
        wanted = _filter(state, name, queue, tag, text, since, until)
        return await self._store.find(wanted, limit, cursor)

    async def counts(self) -> dict[str, dict[State, int]]:
        """How many tasks are in each state, by queue; exact, and cheap at any size."""
        await self._ready()
        return await self._store.counts()

    async def attempts(self, id: str) -> list[Attempt]:
        """Every attempt of a task, in order; none is ever overwritten."""
        await self._ready()
        return await self._store.attempts(check_text(id, "id"))

    async def events(self, id: str) -> list[Event]:
        """Every move of a task and every word said to it, in order."""
        await self._ready()
        return await self._store.events(check_text(id, "id"))

    async def logs(self, id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """A task's log lines, oldest first; `after` is the `n` of the last one that was read."""
        await self._ready()
        check_count(after, "after", least=0, most=NEWEST)
        check_count(limit, "limit", most=MOST_LINES)
        return await self._store.logs(check_text(id, "id"), after, limit)

    async def owners(self) -> list[Owner]:
        """The processes that work on this store, and whether each lives and responds."""
        await self._ready()
        return await self._store.owners(self._now())

    async def recoveries(self, limit: int = 50) -> list[Recovery]:
        """What was recovered from dead owners and why, newest first."""
        await self._ready()
        return await self._store.recoveries(check_count(limit, "limit", most=MOST_PER_PAGE))

    async def pauses(self) -> list[Pause]:
        """The queues that are paused now; one whose `queue` is None pauses everything."""
        await self._ready()
        return await self._store.pauses(self._now())

    async def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Who did what to which target, newest first; `before` is the `id` of the last one read."""
        await self._ready()
        place = NEWEST if before is None else check_count(before, "before", most=NEWEST)
        return await self._store.audits(place, check_count(limit, "limit", most=MOST_PER_PAGE))

    # ---- one task

    async def _control(self, verb: str, id: str, reason: str | None, actor: str) -> bool:
        await self._ready()
        by = self._by(reason, actor)
        return await self._said(self._store.control(verb, check_text(id, "id"), by))

    async def _said(self, word: Coroutine[Any, Any, T]) -> T:
        """Say it to the store, then to the engine; also if the caller does not wait for the end."""
        saying = asyncio.ensure_future(word)
        saying.add_done_callback(self._heard)
        self._saying.add(saying)
        return await asyncio.shield(saying)

    def _heard(self, saying: "asyncio.Future[Any]") -> None:
        self._saying.discard(saying)
        if not saying.cancelled():
            saying.exception()  # the caller has it, if there still is one
        self._poke()

    def _by(self, reason: str | None, actor: str) -> By:
        check_text(actor, "actor")
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason={reason!r}: must be text")
        told = None if reason is None else reason.encode("utf-8", "backslashreplace").decode()
        return By(self._now(), actor, told)

    async def cancel(self, id: str, *, reason: str | None = None, actor: str = "code") -> bool:
        """Cancel a task. True: it is cancelled, or has been asked to stop; False: it had ended."""
        return await self._control("cancel", id, reason, actor)

    async def pause(self, id: str, *, reason: str | None = None, actor: str = "code") -> bool:
        """Pause a task where it stands. True: it is, or will be at its next await or checkpoint.

        False: it had ended. Raises `IllegalMove` for one that is held or being cancelled.
        """
        return await self._control("pause", id, reason, actor)

    async def resume(self, id: str, *, reason: str | None = None, actor: str = "code") -> bool:
        """Let a paused task go on, ahead of queued ones. False: it had ended.

        After a restart it runs from the top. Raises `IllegalMove` for one that is held.
        """
        return await self._control("resume", id, reason, actor)

    async def retry(
        self, id: str, *, reason: str | None = None, actor: str = "code"
    ) -> "TaskHandle[Any]":
        """Run a failed, cancelled, held or succeeded task again: a new attempt, from zero failures.

        Raises `IllegalMove` for one in another state, and where its key is now another task's.
        """
        await self._control("retry", id, reason, actor)
        return self.handle(id)

    async def fail(self, id: str, *, reason: str | None = None, actor: str = "code") -> bool:
        """End a held task as failed; `IllegalMove` for any other."""
        return await self._control("fail", id, reason, actor)

    async def delete(self, id: str, *, reason: str | None = None, actor: str = "code") -> bool:
        """Hide an ended task; `restore` brings it back for at least a minute.

        False: it was deleted already. Raises `IllegalMove` for one that has not ended.
        """
        return await self._control("delete", id, reason, actor)

    async def restore(self, id: str, *, reason: str | None = None, actor: str = "code") -> bool:
        """Bring a deleted task back. False: it was not deleted."""
        return await self._control("restore", id, reason, actor)

    async def reschedule(
        self,
        id: str,
        at: datetime | None = None,
        *,
        reason: str | None = None,
        actor: str = "code",
    ) -> bool:
        """Let a scheduled or queued task be due at another instant, or now (None).

        Raises `IllegalMove` for one in another state.
        """
        await self._ready()
        due = None if at is None else to_micros(instant(at, "at"))
        by = self._by(reason, actor)
        return await self._said(self._store.reschedule(check_text(id, "id"), due, by))

    # ---- many tasks

    async def cancel_where(
        self,
        *,
        everything: bool = False,
        reason: str | None = None,
        actor: str = "code",
        **words: Any,
    ) -> int:
        """Cancel every task that fits the words of `find`; how many were, or were asked to stop."""
        return await self._where("cancel", everything, reason, actor, words)

    async def pause_where(
        self,
        *,
        everything: bool = False,
        reason: str | None = None,
        actor: str = "code",
        **words: Any,
    ) -> int:
        """Pause every task that fits the words of `find`; how many."""
        return await self._where("pause", everything, reason, actor, words)

    async def resume_where(
        self,
        *,
        everything: bool = False,
        reason: str | None = None,
        actor: str = "code",
        **words: Any,
    ) -> int:
        """Resume every task that fits the words of `find`; how many."""
        return await self._where("resume", everything, reason, actor, words)

    async def retry_where(
        self,
        *,
        everything: bool = False,
        reason: str | None = None,
        actor: str = "code",
        **words: Any,
    ) -> int:
        """Retry every task that fits the words of `find`; how many."""
        return await self._where("retry", everything, reason, actor, words)

    async def delete_where(
        self,
        *,
        everything: bool = False,
        reason: str | None = None,
        actor: str = "code",
        **words: Any,
    ) -> int:
        """Delete every ended task that fits the words of `find`; how many."""
        return await self._where("delete", everything, reason, actor, words)

    async def _where(
        self, verb: str, everything: bool, reason: str | None, actor: str, words: dict[str, Any]
    ) -> int:
        await self._ready()
        wanted = _filter_words(verb, words)
        if wanted.is_everything() and not everything:
            raise ValueError(
                f"{verb}_where() without a filter would {verb} every task: say which, or "
                f"everything=True"
            )
        by = self._by(reason, actor)
        done = 0
        cursor: str | None = None
        while True:
            # The ids first: what the verb changes must not move the rows that are still to come.
            page = await self._store.find_ids(wanted, BATCH, cursor)
            ids = list(page)
            done += await self._said(self._store.control_many(verb, ids, by))
            cursor = page.next
            if cursor is None:
                break
        await self._store.audit(f"{verb}_where", f"{words or 'everything'}: {done} tasks", by)
        return done

    # ---- queues

    async def pause_queue(
        self,
        name: str,
        until: datetime | None = None,
        *,
        reason: str | None = None,
        actor: str = "code",
    ) -> None:
        """Start nothing new in a queue, over restarts; what runs goes on.

        until: the aware datetime at which the pause lifts itself; None: at `resume_queue`.
        """
        await self._pause(check_text(name, "name"), until, reason, actor)

    async def resume_queue(
        self, name: str, *, reason: str | None = None, actor: str = "code"
    ) -> None:
        """Lift a queue's pause."""
        await self._resume(check_text(name, "name"), reason, actor)

    async def pause_all(
        self, until: datetime | None = None, *, reason: str | None = None, actor: str = "code"
    ) -> None:
        """Start nothing new in any queue, over restarts; what runs goes on."""
        await self._pause("", until, reason, actor)

    async def resume_all(self, *, reason: str | None = None, actor: str = "code") -> None:
        """Lift the pause of everything; queues that were paused by name stay paused."""
        await self._resume("", reason, actor)

    async def _pause(
        self, queue: str, until: datetime | None, reason: str | None, actor: str
    ) -> None:
        await self._ready()
        end = None if until is None else to_micros(instant(until, "until"))
        by = self._by(reason, actor)
        if end is not None and end <= by.now:
            raise ValueError(f"until={until!r}: is past; the pause would not begin")
        await self._said(self._store.pause_queue(queue, end, by))

    async def _resume(self, queue: str, reason: str | None, actor: str) -> None:
        await self._ready()
        await self._said(self._store.resume_queue(queue, self._by(reason, actor)))

    async def set_queue(
        self,
        name: str,
        *,
        concurrency: int | None,
        reason: str | None = None,
        actor: str = "code",
    ) -> None:
        """Change at run time how many tasks of a queue run at once, over all processes.

        concurrency: 0 or more; None: what the code says again. It is kept over restarts.
        """
        await self._ready()
        if concurrency is not None:
            check_count(concurrency, "concurrency", least=0)
        by = self._by(reason, actor)
        await self._said(self._store.set_queue(check_text(name, "name"), concurrency, by))

    # ---- the store

    async def take_over(
        self, owner_id: str, *, reason: str | None = None, actor: str = "code"
    ) -> int:
        """Recover the tasks of a process that is stopped, stuck, or cannot be proven dead.

        It is fenced: should it wake, it can write nothing more about them. How many tasks. Raises
        `IllegalMove` if there is no such owner.
        """
        await self._ready()
        by = self._by(reason, actor)
        return await self._said(self._store.take_over(check_text(owner_id, "owner_id"), by))

    async def prune(
        self, before: datetime | None = None, *, reason: str | None = None, actor: str = "code"
    ) -> int:
        """Remove ended tasks with their events and logs, in small transactions; how many.

        before: those that ended before this aware datetime; None: those past their retention.
        Deleted ones that can no longer be restored go too; one whose key still answers for it
        stays.
        """
        await self._ready()
        by = self._by(reason, actor)
        ends = self._retained(by.now)
        if before is not None:
            ends = dict.fromkeys(FINAL, to_micros(instant(before, "before")))
        removed = 0
        while n := await self._store.prune(ends, by.now - UNDO_FOR, by.now, BATCH):
            removed += n
        await self._store.audit("prune", f"{removed} tasks", by)
        return removed

    @abstractmethod
    def _retained(self, now: Micros) -> dict[State, Micros]: ...


def _filter_words(verb: str, words: dict[str, Any]) -> Filter:
    known = ("state", "name", "queue", "tag", "text", "since", "until")
    for word in words:
        if word not in known:
            raise TypeError(
                f"{verb}_where({word}=…): the words are those of find: {', '.join(known)}"
            )
    return _filter(*(words.get(word) for word in known))


def _filter(
    state: Any,
    name: str | None,
    queue: str | None,
    tag: str | None,
    text: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Filter:
    return Filter(
        states=None if state is None else _states(state),
        name=_word(name, "name"),
        queue=_word(queue, "queue"),
        tag=_word(tag, "tag"),
        text=_word(text, "text"),
        since=None if since is None else to_micros(instant(since, "since")),
        until=None if until is None else to_micros(instant(until, "until")),
    )


def _word(value: str | None, what: str) -> str | None:
    return None if value is None else check_text(value, what)


def _states(state: Any) -> frozenset[State]:
    if not isinstance(state, Iterable):
        raise TypeError(f"state={state!r}: must be a state, or several")
    several = [state] if isinstance(state, str) else list(state)
    try:
        return frozenset(State(one) for one in several)
    except ValueError as error:
        raise ValueError(f"state={state!r}: the states are {', '.join(State)}") from error
