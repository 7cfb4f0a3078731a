"""The one seam: what a store promises to the engine and the manager.

Every method is one transaction: it happens whole or not at all, also when the caller is cancelled.
`now` always comes from outside; a store reads no clock. Operations that are handed in with `done`
return at once; `done(result, error)` is called in the event loop after the commit, or after it
failed. A store publishes nothing.

Errors: `StoreError` and its kinds when the store cannot do what was asked; `TaskNotFound` and
`IllegalMove` from the verbs; `Fenced` where this owner was taken over.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import aiosqlite

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
)


class Fenced(Exception):
    """This owner was taken over by a person: it has no tasks any more, and may claim none."""


Done = Callable[[Any, BaseException | None], None]


class Store(Protocol):
    """Where tasks are kept."""

    async def open(
        self, now: Callable[[], Micros], wake: Callable[[], None], functions: Sequence[str]
    ) -> None:
        """Open, migrate, and become an owner; from here on dead owners' tasks are recovered.

        `wake` is called, from any thread, when recovery has given the engine something to do.
        Raises the `StoreError` that says what is wrong with the place; `SchemaTooNew` before
        anything is touched.
        """
        ...

    async def reopen_owner(self) -> None:
        """Become a new owner, after this one was taken over."""
        ...

    def hurry(self, seconds: float) -> None:
        """From now on wait no longer than `seconds` for other writers."""
        ...

    async def close(self, *, keep_lock: bool) -> None:
        """Write what waits, end the owner, close. `keep_lock`: code of its tasks still runs."""
        ...

    def keep_lock(self) -> Callable[[], None]:
        """For a close with `keep_lock`: what gives up this owner's lock later, from any thread."""
        ...

    async def abandon(self) -> None:
        """Stop as a killed process would: nothing more is written, the lock is free."""
        ...

    # ---- the hot path

    def add(self, news: list[NewTask], lanes: Lanes, done: Done) -> None:
        """Store new tasks; `done` gets a list of `Added`, in order.

        A task whose key an unfinished task of its function has (or, with `keep`, a finished one)
        is not stored: its answer names that task. One with `start` is claimed at once if nothing
        that is due stands before it and its queue has a slot.
        """
        ...

    async def add_within(self, connection: object, news: list[NewTask]) -> list[Added]:
        """As `add`, within the caller's open transaction; nothing is started."""
        ...

    async def claim(self, lanes: Lanes, free: int, now: Micros) -> Grant:
        """Promote what is due, cancel what has expired, and take up to `free` tasks to run.

        Order within a queue: interrupted first, then higher priority, earlier due, earlier added.
        Left out: functions unknown here, paused queues, full queues, and of the suspects (deaths
        >= 2) all while one of them runs anywhere.
        """
        ...

    def end(self, move: Move, lines: Sequence[Line], done: Done) -> None:
        """Apply the end of an attempt if it is still ours.

        `done` gets the Move as it was stored, None if the attempt was not ours any more. One to
        scheduled or queued gives way to a cancel or a pause that was asked for just before.
        """
        ...

    async def pause_mine(self, seq: int, attempt: int, by: By) -> bool:
        """Move a running task of ours that was asked to pause to paused."""
        ...

    async def resume_mine(self, seq: int, attempt: int, by: By, lanes: Lanes) -> bool | None:
        """Move a paused task of ours that was asked to resume to running; None: no free slot."""
        ...

    async def answered(self, seq: int, attempt: int, verb: str) -> None:
        """What was asked needs no doing (any more)."""
        ...

    async def note(
        self, lines: Sequence[Line], progress: Sequence[tuple[int, int, Progress]]
    ) -> None:
        """Store log lines, and progress (seq, attempt, value) of tasks that are still ours."""
        ...

    async def leave_running(self, now: Micros) -> None:
        """At shutdown: mark what still runs as interrupted, and let go of what is paused."""
        ...

    async def mend(self) -> None:
        """After a `StoreError`: open anew what may be broken."""
        ...

    def is_idle(self) -> bool:
        """Whether nothing that was handed in is still to be written."""
        ...

    async def has_changed(self) -> bool:
        """Whether somebody else has committed since the last look. Cheap while nobody has."""
        ...

    async def asks(self) -> list[Ask]:
        """What this owner has been asked; `Fenced` if it was taken over."""
        ...

    async def know(self, functions: Sequence[str]) -> None:
        """Publish which task functions this owner can run."""
        ...

    async def overrun(self, seq: int, attempt: int, by: By) -> bool:
        """Note that a running task of ours is past its timeout, and goes on."""
        ...

    async def hold_unknown(self, before: Micros, by: By) -> tuple[bool, int]:
        """Hold queued tasks due before an instant whose function no open owner knows.

        Whether there are any such tasks, of whatever age; how many were held.
        """
        ...

    # ---- control

    async def control(self, verb: str, task_id: str, by: By) -> bool:
        """One verb on one task: asks its owner, or moves it at once."""
        ...

    async def control_many(self, verb: str, ids: list[str], by: By) -> int:
        """One verb on many tasks; those that do not allow it are passed over. How many did."""
        ...

    async def reschedule(self, task_id: str, at: Micros | None, by: By) -> bool:
        """Let a scheduled or queued task be due at another instant, or now."""
        ...

    async def audit(self, action: str, target: str, by: By) -> None:
        """Remember one act of control."""
        ...

    async def pause_queue(self, queue: str, until: Micros | None, by: By) -> None:
        """Start nothing new in a queue, '' being all of them."""
        ...

    async def resume_queue(self, queue: str, by: By) -> None:
        """Lift that pause."""
        ...

    async def set_queue(self, name: str, concurrency: int | None, by: By) -> None:
        """Change the slots of a queue over all processes; None: what the code says."""
        ...

    async def take_over(self, owner_id: str, by: By) -> int:
        """Recover the tasks of an owner that is not known to be dead; it is fenced from then on."""
        ...

    async def prune(
        self, before: dict[State, Micros], hidden: Micros, now: Micros, most: int
    ) -> int:
        """Remove up to `most` tasks that finished up to their state's instant, or were deleted up
        to `hidden`; but none whose key still answers for it. How many went."""
        ...

    async def prune_records(self, before: Micros) -> None:
        """Remove closed owners, recovery reports and audit entries from before an instant."""
        ...

    async def next_prune(
        self, retention: Mapping[State, Micros | None], undo: Micros
    ) -> Micros | None:
        """The instant from which there will be something to prune; None: there is nothing."""
        ...

    # ---- reads

    async def get(self, task_id: str) -> Task:
        """One task; `TaskNotFound`."""
        ...

    async def ended(self, ids: Sequence[str]) -> dict[str, Ended | None]:
        """Of these tasks, those that have finished (None: there is no such task)."""
        ...

    async def find(self, wanted: Filter, limit: int, cursor: str | None) -> Page[Task]:
        """Tasks that fit, newest first."""
        ...

    async def find_ids(self, wanted: Filter, limit: int, cursor: str | None) -> Page[str]:
        """As `find`, but only their ids."""
        ...

    async def counts(self) -> dict[str, dict[State, int]]:
        """How many tasks are in each state, by queue."""
        ...

    async def unfinished_due(self, now: Micros) -> int:
        """How many tasks are running, queued, or scheduled and due."""
        ...

    async def attempts(self, task_id: str) -> list[Attempt]: ...

    async def events(self, task_id: str) -> list[Event]: ...

    async def events_after(self, after: int, most: int) -> list[Event]:
        """Events of all tasks in the order of their commits."""
        ...

    async def last_event(self) -> int:
        """The id of the newest event."""
        ...

    async def logs(self, task_id: str, after: int, limit: int) -> list[LogLine]: ...

    async def owners(self, now: Micros) -> list[Owner]: ...

    async def recoveries(self, limit: int) -> list[Recovery]: ...

    async def pauses(self, now: Micros) -> list[Pause]: ...

    async def audits(self, before: int, limit: int) -> list[AuditEntry]: ...

    def connect(self) -> aiosqlite.Connection:
        """A connection to the same database, for the app's own use."""
        ...
