"""What inloop promises, as a small pure model: what a test expects the real one to do.

It knows no store, no event loop and no time but its own: instants are whole seconds. A task of it
runs by its *plan*: "ok", "fail" (always), "flaky" (the first time), "give up", "snooze" (at every
odd attempt), or "block" (until released, stopped or timed out).
"""

from dataclasses import dataclass, field
from typing import Literal

Plan = Literal["ok", "fail", "flaky", "give up", "snooze", "block"]

CONCURRENCY = 2
LIMITS = {"narrow": 1}
TRIES = 3
BACKOFF = 60
SNOOZE = 30
TIMEOUT = 300
KEPT_DELETED = 60
DEATHS_OF_A_SUSPECT = 2
DEATHS_OF_A_HELD_ONE = 3
FINAL = ("succeeded", "failed", "cancelled")
WAITS = ("scheduled", "queued")


class Refused(Exception):
    """The task's state does not allow this."""


@dataclass
class Modelled:
    """One task."""

    seq: int
    function: str  # also what becomes of it when its process dies: rerun, fail, hold
    plan: Plan
    queue: str
    priority: int
    due: int
    key: str | None = None
    state: str = "queued"
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    goes_first: bool = False
    paused_from: str = "queued"
    in_hand: bool = False  # paused, and its coroutine is still there
    left: int = TIMEOUT  # seconds of running that this attempt has left …
    since: int = 0  # … counted from here while it runs
    deleted: int | None = None

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Whoever is least goes first."""
        return (not self.goes_first, 0 if self.goes_first else -self.priority, self.due, self.seq)

    @property
    def is_suspect(self) -> bool:
        """It was running at two deaths in a row."""
        return self.deaths >= DEATHS_OF_A_SUSPECT


@dataclass
class Model:
    """All tasks, and the one process that works on them."""

    now: int = 0
    tasks: dict[str, Modelled] = field(default_factory=dict)
    pauses: dict[str, int | None] = field(default_factory=dict)  # of queues; "" is all of them
    resuming: list[Modelled] = field(default_factory=list)
    n: int = 0

    # ---- what is asked of it

    def holder(self, function: str, key: str | None) -> str | None:
        """The unfinished task that has the key."""
        for id_, task in self.tasks.items():
            same = (task.function, task.key) == (function, key)
            if key is not None and same and task.state not in FINAL:
                return id_
        return None

    def enqueue(
        self, id_: str, function: str, plan: Plan, queue: str, priority: int, delay: int,
        key: str | None,
    ) -> None:  # fmt: skip
        self.n += 1
        task = Modelled(self.n, function, plan, queue, priority, self.now + delay, key)
        task.state = "scheduled" if delay else "queued"
        self.tasks[id_] = task

    def cancel(self, task: Modelled) -> bool:
        if task.state in FINAL:
            return False
        self._end(task, "cancelled")
        return True

    def pause(self, task: Modelled) -> bool:
        if task.state in FINAL:
            return False
        if task.state == "held":
            raise Refused
        if task.state == "paused":
            self._no_longer_resuming(task)
            return True
        if task.state == "running":
            task.in_hand = True
            task.left -= self.now - task.since
        task.paused_from, task.state = task.state, "paused"
        return True

    def resume(self, task: Modelled) -> bool:
        if task.state in FINAL:
            return False
        if task.state == "held":
            raise Refused
        if task.in_hand and task not in self.resuming:
            self.resuming.append(task)
        elif task.state == "paused" and not task.in_hand:
            gone = task.paused_from == "running"
            task.state = "queued" if gone else task.paused_from
            task.goes_first = task.goes_first or gone
        return True

    def retry(self, task: Modelled) -> None:
        if task.deleted is not None or task.state not in (*FINAL, "held"):
            raise Refused
        if task.state in FINAL and self.holder(task.function, task.key) is not None:
            raise Refused
        task.state, task.due = "queued", self.now
        task.failures = task.deaths = 0
        task.goes_first = False

    def fail(self, task: Modelled) -> None:
        if task.state != "held":
            raise Refused
        task.state = "failed"

    def reschedule(self, task: Modelled, delay: int) -> None:
        stands = "scheduled" if delay else "queued"
        if task.state in WAITS:
            task.state = stands
        elif task.state == "paused" and task.paused_from in WAITS:
            task.paused_from = stands
        else:
            raise Refused
        task.due = self.now + delay

    def delete(self, task: Modelled) -> bool:
        if task.state not in FINAL:
            raise Refused
        if task.deleted is not None:
            return False
        task.deleted = self.now
        return True

    def restore(self, task: Modelled) -> bool:
        was = task.deleted is not None
        task.deleted = None
        return was

    def release(self, task: Modelled) -> None:
        """Let a blocked one return."""
        self._end(task, "succeeded")

    # ---- time, and the life of the process

    def settle(self) -> None:
        """Everything happens that can happen now."""
        self.pauses = {
            queue: until
            for queue, until in self.pauses.items()
            if until is None or until > self.now
        }
        for task in self.tasks.values():
            if task.state == "running" and self.now - task.since >= task.left:
                self._fail(task)
            if task.state == "scheduled" and task.due <= self.now:
                task.state = "queued"
        while self._resume_one() or self._claim_one():
            pass

    def advance(self, seconds: int) -> None:
        until = self.now + seconds
        self.settle()
        while (instant := self._next()) is not None and instant <= until:
            self.now = instant
            self.settle()
        self.now = until
        for id_, task in list(self.tasks.items()):
            if task.deleted is not None and until - task.deleted >= KEPT_DELETED:
                del self.tasks[id_]  # pruned, some time from now on

    def _next(self) -> int | None:
        instants = [t.due for t in self.tasks.values() if t.state == "scheduled"]
        instants += [t.since + t.left for t in self.running()]
        instants += [until for until in self.pauses.values() if until is not None]
        return min(instants, default=None)

    def leave(self, *, died: bool) -> None:
        """The process is gone; it died, or interrupted what ran and closed in good order."""
        for task in self.resuming:
            task.state, task.goes_first = "queued", True
        self.resuming.clear()
        for task in self.tasks.values():
            task.in_hand = False
            if task.state == "running":
                self._lose(task) if died else self._interrupt(task)

    def _interrupt(self, task: Modelled) -> None:
        task.state, task.goes_first = "queued", True

    def _lose(self, task: Modelled) -> None:
        if task.function == "fail":
            task.state = "failed"
        elif task.function == "hold":
            task.state = "held"
        else:
            task.deaths += 1
            held = task.deaths >= DEATHS_OF_A_HELD_ONE
            task.state, task.goes_first = "held" if held else "queued", not held

    # ---- running

    def running(self) -> list[Modelled]:
        return [task for task in self.tasks.values() if task.state == "running"]

    def _may_run(self, task: Modelled) -> bool:
        runs = self.running()
        in_queue = sum(one.queue == task.queue for one in runs)
        crowded = in_queue >= LIMITS.get(task.queue, CONCURRENCY)
        alone = not (task.is_suspect and any(one.is_suspect for one in runs))
        return len(runs) < CONCURRENCY and not crowded and alone

    def _resume_one(self) -> bool:
        for task in self.resuming:
            if self._may_run(task):
                self._no_longer_resuming(task)
                task.state, task.since, task.in_hand = "running", self.now, False
                return True
        return False

    def _no_longer_resuming(self, task: Modelled) -> None:
        if task in self.resuming:
            self.resuming.remove(task)

    def _claim_one(self) -> bool:
        ready = [
            task
            for task in self.tasks.values()
            if task.state == "queued"
            and not {"", task.queue} & self.pauses.keys()
            and self._may_run(task)
        ]
        if not ready:
            return False
        self._run(min(ready, key=lambda task: task.order))
        return True

    def _run(self, task: Modelled) -> None:
        task.attempt += 1
        task.state, task.since, task.left, task.goes_first = "running", self.now, TIMEOUT, False
        if task.plan == "fail" or (task.plan == "flaky" and task.failures == 0):
            self._fail(task)
        elif task.plan == "give up":
            task.failures += 1
            self._end(task, "failed")
        elif task.plan == "snooze" and task.attempt % 2:
            self._again(task, SNOOZE)
        elif task.plan != "block":
            self._end(task, "succeeded")

    def _fail(self, task: Modelled) -> None:
        task.failures += 1
        if task.failures >= TRIES:
            self._end(task, "failed")
        else:
            self._again(task, BACKOFF)

    def _again(self, task: Modelled, seconds: int) -> None:
        self._end(task, "scheduled")
        task.due = self.now + seconds

    def _end(self, task: Modelled, state: str) -> None:
        # An attempt that came to its end is no death; a task that never ran keeps its count.
        if task.state == "running" or task.in_hand:
            task.deaths, task.goes_first = 0, False
        self._no_longer_resuming(task)
        task.state, task.in_hand = state, False
