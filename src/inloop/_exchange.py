"""What the engine and the store hand to each other: tasks, claims, moves, words. Frozen, pure."""

from dataclasses import dataclass
from typing import NamedTuple

from inloop._model import ErrorText, Micros, Progress, State


@dataclass(slots=True)
class NewTask:
    """A task on its way into the store. `start`: claim it at once if nothing stands before it."""

    id: str
    name: str
    queue: str
    due: Micros
    created: Micros
    priority: int
    arguments: str
    key: str | None = None
    keep: Micros | None = None
    expires: Micros | None = None
    options: str | None = None
    tags: str | None = None
    on_crash: str = "rerun"
    parent: str | None = None
    actor: str = "code"
    reason: str | None = None
    start: bool = False


class Claimed(NamedTuple):
    """A task that this owner has just taken to run.

    `resumed`: the attempt before it did not end by itself: a shutdown interrupted it, its process
    died, or it was paused over a restart.
    """

    seq: int
    id: str
    name: str
    queue: str
    attempt: int
    failures: int
    deaths: int
    due: Micros
    created: Micros
    started: Micros
    priority: int
    key: str | None
    tags: str | None
    options: str | None
    expires: Micros | None
    arguments: str
    resumed: bool = False


class Added(NamedTuple):
    """The store's answer to a `NewTask`: its id or its key's holder, and the claim if it won."""

    id: str
    created: bool
    claimed: Claimed | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The end of an attempt: what the task becomes if it is still ours.

    `seq`, `expects` and `attempt` are compared with what is stored; the store adds the owner. A
    task that is no longer in that state, of that owner and attempt, is left as it is. `due` None
    keeps the old one; `first` puts the task before all others of its queue.
    """

    seq: int
    task_id: str
    expects: State
    attempt: int
    to: State
    at: Micros
    failures: int
    due: Micros | None = None
    first: bool = False
    result: str | None = None
    error: ErrorText | None = None
    reason: str | None = None
    actor: str = "engine"
    expires: Micros | None = None
    progress: Progress | None = None
    paused_from: State | None = None
    deaths: int = 0


class Line(NamedTuple):
    """A line of a task's log on its way into the store."""

    seq: int
    attempt: int
    at: Micros
    level: int
    logger: str
    text: str


@dataclass(frozen=True, slots=True)
class Lanes:
    """What an engine can run: the task functions it knows, and the slots of each limited queue.

    Limits count over all processes; one that was set at run time, in the store, goes before these.
    """

    known: frozenset[str]
    limits: dict[str, int]


class Grant(NamedTuple):
    """The store's answer to a claim.

    `expired`: tasks that were no longer worth starting, and are cancelled now. `again`: looking
    again at once makes sense. `held_back`: something is left for want of a slot, in this process or
    in its queue, or of its turn among suspects: look again when an attempt ends. `next_due`: the
    next instant at which looking makes sense, None if there is none.
    """

    claimed: list[Claimed]
    expired: list[str]
    again: bool
    held_back: bool
    next_due: Micros | None


class By(NamedTuple):
    """Who does something, when and why; `writer` is the owner whose process writes it."""

    now: Micros
    actor: str
    reason: str | None
    writer: int | None = None


class Ask(NamedTuple):
    """What the owner of a running task has been asked to do with it."""

    seq: int
    attempt: int
    verb: str
    actor: str
    reason: str | None


class Ended(NamedTuple):
    """How a finished task ended, for those who wait for it."""

    id: str
    name: str
    state: State
    attempt: int
    result: str | None
    error: ErrorText | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks: every word that is given must fit. Instants are those of creation."""

    states: frozenset[State] | None = None
    name: str | None = None
    queue: str | None = None
    tag: str | None = None
    text: str | None = None
    since: Micros | None = None
    until: Micros | None = None

    def is_everything(self) -> bool:
        """Whether nothing is filtered out."""
        return self == _EVERYTHING


_EVERYTHING = Filter()
