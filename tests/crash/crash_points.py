"""Named points at which a process under test kills (or stops) itself, then and there.

The test arms a point by writing its number into the process's vitals; the process falls the next
time it comes by. To be at the right places the points are put around inloop's own functions: these
are the only tests that reach so deep into it.
"""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from crash_vitals import Vitals

from inloop._store import attempts, housekeeping, place, queue, recovery
from inloop._store.owners import Owners, Seized, Turnstile
from inloop._store.sqlite import SQLiteStore
from inloop._store.writer import Writer

POINTS = (
    "",
    "migrating",  # between two statements of a migration
    "registering",  # the lock is held, the owner's row not yet written
    "recovering",  # tasks of a dead owner are settled, not yet committed
    "recovered",  # committed, its lock not yet removed
    "committing",  # while SQLite commits, at any instant of it
    "committed",  # between any commit and the telling
    "adding",  # new tasks are written, not yet committed
    "added",  # committed, not yet acknowledged
    "claiming",  # claimed, not yet committed
    "claimed",  # committed, not yet started
    "ending",  # the end of attempts is written, not yet committed
    "ended",  # committed, not yet told
    "noting",  # progress is written, not yet committed
    "pruning",  # old tasks are removed, not yet committed
    "leaving",  # the manager is closing
)


class Points:
    """The points of this process."""

    def __init__(self, vitals: Vitals, by: signal.Signals = signal.SIGKILL) -> None:
        self._vitals = vitals
        self._by = by
        self._in_thread = threading.local()
        self._committing = threading.Event()

    def pass_by(self, point: str) -> None:
        """Fall here, if that is what the test wants."""
        if self._is_armed(point):
            self._vitals["fell"] = POINTS.index(point)
            self._vitals["armed"] = 0
            os.kill(os.getpid(), self._by)
            time.sleep(0.1)  # the signal is on its way

    def _is_armed(self, point: str) -> bool:
        seen = self._vitals
        return seen["armed"] == POINTS.index(point) and seen["running"] >= seen["least"]

    def install(self) -> None:
        """Put the points into inloop."""
        self._within(attempts, "end", "ending", "ended")
        self._within(attempts, "write_progress", "noting")
        self._within(queue, "add", "adding", "added")
        self._within(queue, "claim", "claiming", "claimed")
        self._within(housekeeping, "prune", "pruning")
        self._within(recovery, "recover_page", "recovering")
        self._before(Seized, "bury", "recovered")
        self._before(SQLiteStore, "close", "leaving")
        self._within(Owners, "register", "registering")
        self._migrate_slowly()
        self._watch_commits()

    def _within(self, owner: Any, name: str, before: str, after: str | None = None) -> None:
        """Pass `before` when the function has returned, and `after` when that is committed."""
        original = getattr(owner, name)

        def passing(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if _is_something(result):
                self.pass_by(before)
                if after is not None:
                    self._in_thread.after_commit.add(after)
            return result

        setattr(owner, name, passing)

    def _before(self, owner: Any, name: str, point: str) -> None:
        original = getattr(owner, name)

        def passing(*args: Any, **kwargs: Any) -> Any:
            self.pass_by(point)
            return original(*args, **kwargs)

        setattr(owner, name, passing)

    def _migrate_slowly(self) -> None:
        statements = place.statements
        fall_at = random.randrange(1, 25)

        def passing(script: str) -> Any:
            for n, statement in enumerate(statements(script)):
                if n == fall_at:
                    self.pass_by("migrating")
                yield statement

        place.statements = passing

    def _watch_commits(self) -> None:
        vitals, in_thread = self._vitals, self._in_thread
        run, enter, leave = Writer.run, Turnstile.__enter__, Turnstile.__exit__
        threading.Thread(target=self._fall_in_commit, daemon=True).start()

        def trace(statement: str) -> None:
            if statement.lower() == "commit":
                vitals["writing"] = 2
                if self._is_armed("committing"):
                    self._committing.set()

        def entering(turnstile: Turnstile) -> None:
            enter(turnstile)
            vitals["writing"] = 1

        def leaving(turnstile: Turnstile, *error: object) -> None:
            vitals["writing"] = 0
            leave(turnstile, *error)

        def running(writer: Writer, cx: sqlite3.Connection, work: Callable[[Any], Any]) -> Any:
            in_thread.after_commit = set()
            cx.set_trace_callback(trace)
            result = run(writer, cx, work)
            vitals.add("commits")
            self.pass_by("committed")
            for point in in_thread.after_commit:
                self.pass_by(point)
            return result

        replace: Any = setattr
        replace(Writer, "run", running)
        replace(Turnstile, "__enter__", entering)
        replace(Turnstile, "__exit__", leaving)

    def _fall_in_commit(self) -> None:
        """From another thread, since SQLite asks nobody while it commits."""
        self._committing.wait()
        time.sleep(random.uniform(0.0, 0.0005))
        self._vitals["least"] = 0
        self.pass_by("committing")


def _is_something(result: Any) -> bool:
    """Not a claim that found nothing, nor a page of nothing."""
    found = getattr(result, "claimed", result)
    return found is None or bool(found)
