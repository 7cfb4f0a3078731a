"""Every error that inloop raises on purpose.

InloopError
├── TaskFailed            awaiting a handle: the task ended failed
├── TaskCancelled         awaiting a handle: the task ended cancelled
├── TaskNotFound          no task has this id (LookupError)
├── IllegalMove           the task's state does not allow this
├── NotOpen               the manager is not open here
├── UnknownTaskFunction   no task function of this name is declared (LookupError)
├── ArgumentError         an argument cannot be stored (TypeError)
├── ResultError           a result cannot be stored, or would come back different (TypeError)
└── StoreError            the store cannot do what was asked
    ├── StoreBusy         somebody else has been writing for too long
    ├── StoreFull         no space is left
    ├── StoreReadOnly     the file or its folder cannot be written
    ├── StoreCorrupt      the file is not a database, or a broken one
    ├── StoreGone         the file was deleted or replaced while open
    └── SchemaTooNew      a newer version of inloop wrote this store

Mistakes at a call that need no name of their own stay `TypeError` and `ValueError`.
"""


class InloopError(Exception):
    """The root of every error that inloop raises on purpose."""


class TaskFailed(InloopError):
    """A task that was awaited ended failed.

    `task_id` and `attempt` say which; `error` is the original error as text. The original
    exception is `__cause__` when it happened in this process.
    """

    def __init__(self, task_id: str, name: str, attempt: int, error: str) -> None:
        super().__init__(f"task {task_id} ({name}) failed in attempt {attempt}: {error}")
        self.task_id = task_id
        self.name = name
        self.attempt = attempt
        self.error = error

    def __reduce__(self) -> tuple[type["TaskFailed"], tuple[str, str, int, str]]:
        return type(self), (self.task_id, self.name, self.attempt, self.error)


class TaskCancelled(InloopError):
    """A task that was awaited ended cancelled; `reason` says why, if anybody said."""

    def __init__(self, task_id: str, name: str, reason: str | None) -> None:
        because = f": {reason}" if reason else ""
        super().__init__(f"task {task_id} ({name}) was cancelled{because}")
        self.task_id = task_id
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type["TaskCancelled"], tuple[str, str, str | None]]:
        return type(self), (self.task_id, self.name, self.reason)


class TaskNotFound(InloopError, LookupError):
    """No task has this id: it was never there, or retention has removed it."""

    def __init__(self, task_id: object) -> None:
        super().__init__(
            f"there is no task {task_id!r}: it never existed (or the transaction that enqueued it "
            f"was not committed), was deleted, or ended longer ago than the manager's retention"
        )
        self.task_id = task_id

    def __reduce__(self) -> tuple[type["TaskNotFound"], tuple[object]]:
        return type(self), (self.task_id,)


class IllegalMove(InloopError):
    """The task is in a state from which it cannot do what was asked."""


class NotOpen(InloopError):
    """The manager is not open in this process, or not in this event loop."""


class UnknownTaskFunction(InloopError, LookupError):
    """No task function of this name is declared on the manager."""


class ArgumentError(InloopError, TypeError):
    """An argument cannot be stored; names the parameter, the value's type, and what would do."""


class ResultError(InloopError, TypeError):
    """A result cannot be stored, or would come back different from what was returned."""


class StoreError(InloopError):
    """The store cannot do what was asked."""


class StoreBusy(StoreError):
    """Another writer has held the store for too long."""


class StoreFull(StoreError):
    """No space is left for the store."""


class StoreReadOnly(StoreError):
    """The store, or the folder it lies in, cannot be written."""


class StoreCorrupt(StoreError):
    """The store is not a database, or a broken one."""


class StoreGone(StoreError):
    """The store was deleted or replaced while it was open."""


class SchemaTooNew(StoreError):
    """A newer version of inloop wrote this store; it is left untouched."""
