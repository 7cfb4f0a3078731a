"""The values that travel: tasks, events, moves, and the table of legal moves. Frozen and pure.

Instants inside inloop are whole microseconds since 1970 (UTC): exact, ordered, cheap in SQL.
They become aware datetimes only where a user sees them.
"""

import json
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

Micros = int
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class State(StrEnum):
    """Where a task stands."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
UNFINISHED = frozenset(State) - FINAL

_S, _Q, _R, _W, _P, _H = (
    State.SCHEDULED,
    State.QUEUED,
    State.RUNNING,
    State.WAITING,
    State.PAUSED,
    State.HELD,
)
_OK, _BAD, _OFF = State.SUCCEEDED, State.FAILED, State.CANCELLED

# The one table. The store holds a copy of it (`inloop_legal`) and refuses every other move; a test
# compares the two. A new task enters as scheduled, queued, or, claimed as it is stored, running.
LEGAL: dict[State, frozenset[State]] = {
    _S: frozenset({_Q, _P, _H, _OFF}),
    _Q: frozenset({_S, _R, _P, _H, _BAD, _OFF}),
    _R: frozenset({_S, _Q, _W, _P, _H, _OK, _BAD, _OFF}),
    _W: frozenset({_Q, _R, _P, _H, _OK, _BAD, _OFF}),
    _P: frozenset({_S, _Q, _R, _W, _H, _OK, _BAD, _OFF}),
    _H: frozenset({_S, _Q, _BAD, _OFF}),
    _OK: frozenset({_Q}),
    _BAD: frozenset({_Q}),
    _OFF: frozenset({_Q}),
}
ENTRY = frozenset({_S, _Q, _R})


def is_legal(origin: State, to: State) -> bool:
    """Whether a task may move from `origin` to `to`."""
    return to in LEGAL[origin]


def to_datetime(micros: Micros) -> datetime:
    """The aware UTC datetime of an instant; the last there is, for one that is later still."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:  # one strange row must not break a listing
        return datetime.max.replace(tzinfo=UTC)


def to_micros(moment: datetime) -> Micros:
    """The instant of an aware datetime, exact to the microsecond."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


_last_id = 0
_ids = threading.Lock()
_random: list[int] = []


def _after_fork_in_child() -> None:
    """A fork must not repeat its parent's ids, nor wait for a lock that nobody will open."""
    global _ids
    _ids = threading.Lock()
    _random.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def new_id() -> str:
    """A UUIDv7 (RFC 9562): sorted by time, and strictly rising within this process."""
    global _last_id
    now = time.time_ns()
    # 48 bits of milliseconds and 12 of their fraction; the counter wins when the clock stands.
    stamp = now // 1_000_000 << 12 | now % 1_000_000 * 4096 // 1_000_000
    with _ids:
        _last_id = stamp = stamp if stamp > _last_id else _last_id + 1
        if not _random:
            # Drawn in bulk: each draw is a call into the kernel.
            _random.extend(struct.unpack("256Q", os.urandom(256 * 8)))
        drawn = _random.pop()
    high = f"{stamp >> 12:012x}"
    tail = f"{drawn & 0x3FFF_FFFF_FFFF_FFFF | 1 << 63:016x}"
    return f"{high[:8]}-{high[8:]}-7{stamp & 0xFFF:03x}-{tail[:4]}-{tail[4:]}"


class Progress(NamedTuple):
    """How far a task has come: `done` of `total` (None: unknown), in its own units."""

    done: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An exception as text: never a pickled object."""

    type: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True)
class Task:
    """One stored piece of work, as it stood when it was read.

    `attempt` is the number of its latest attempt (0: never started), `failures` how many of them
    failed. `due` is the instant from which it may run. `deadline` is known inside a running task
    only. `asked` is what a running task has been asked and has not done yet: "cancel", "pause",
    "resume", "interrupt", "timeout" (a plain function past its timeout), or None.
    """

    id: str
    name: str
    queue: str
    state: State
    priority: int
    attempt: int
    failures: int
    due: datetime
    created: datetime
    moved: datetime
    started: datetime | None
    finished: datetime | None
    actor: str
    reason: str | None
    key: str | None
    tags: tuple[str, ...]
    asked: str | None
    owner: str | None
    paused_from: State | None
    deleted: datetime | None
    expires: timedelta | None
    progress: Progress | None
    error: ErrorText | None
    arguments_json: str = field(repr=False)
    result_json: str | None = field(repr=False)
    deadline: datetime | None = None
    resumed: bool = False

    @property
    def arguments(self) -> dict[str, object]:
        """The stored arguments as plain JSON values, by parameter name."""
        values: dict[str, object] = json.loads(self.arguments_json)
        return values

    @property
    def result(self) -> object:
        """The stored result as a plain JSON value; None until the task has succeeded."""
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def label(self) -> str:
        """The state in the word a person would use: retrying, cancelling, overrun, …"""
        words = {
            "cancel": "cancelling",
            "pause": "pausing",
            "resume": "resuming",
            "timeout": "overrun",
        }
        if self.asked in words:
            return words[self.asked]
        if self.state is State.SCHEDULED and self.failures:
            return "retrying"
        return self.state.value


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task.

    `what` is "moved" (from `origin`, None for a new task, to `to`), "rescheduled", "asked"
    (`reason` begins with the verb), "ended" (a paused attempt, its task stays paused), "progress"
    or "logged"; the last two are live only and are not stored.
    """

    task_id: str
    what: str
    at: datetime
    origin: State | None
    to: State
    attempt: int
    actor: str
    reason: str | None = None
    error: ErrorText | None = None
    progress: Progress | None = None
    lines: tuple["LogLine", ...] = ()
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a task; `outcome` is the state it left the task in, None while it runs."""

    number: int
    started: datetime
    ended: datetime | None
    outcome: State | None
    reason: str | None
    error: ErrorText | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a task's log. `n` rises with time over all tasks: pass it as `after`."""

    n: int
    attempt: int
    at: datetime
    level: int
    logger: str
    text: str


@dataclass(frozen=True, slots=True)
class Owner:
    """One opening of a manager in one process.

    `alive`: its lock is held (None: it cannot be known, a person decides by `take_over`).
    `responding`: alive, and its heartbeat is at most 30 s old.
    """

    id: str
    pid: int
    host: str
    started: datetime
    heartbeat: datetime
    alive: bool | None
    responding: bool
    running: int
    me: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one task whose owner died, and why."""

    task_id: str
    name: str
    attempt: int
    to: State
    why: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """The report of one recovery: whose tasks they were, and what became of each."""

    at: datetime
    owner: str
    pid: int
    host: str
    why: str
    tasks: tuple[Recovered, ...]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act of control: who did what to which target, when and why."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a queue, or of everything (`queue` is None); `until` None means until resumed."""

    queue: str | None
    at: datetime
    until: datetime | None
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; pass `next` as `cursor` for the one after it (None: no more)."""

    items: tuple[T, ...]
    next: str | None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
