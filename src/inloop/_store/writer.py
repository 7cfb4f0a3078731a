"""One write transaction: turnstile, begin immediate, the work, commit; and what can go wrong.

Used by the store's thread for everything the engine and the verbs write, and by the keeper's
thread for recovery; each has a connection and a turnstile of its own.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from inloop._errors import StoreBusy, StoreFull, StoreGone
from inloop._store.owners import Turnstile
from inloop._store.place import Place, explain

R = TypeVar("R")

# A writer of the app's own, outside the turnstile, is waited for this long.
PATIENCE = 5.0


class Writer:
    """Write transactions on one store."""

    def __init__(self, place: Place, turnstile: Turnstile) -> None:
        self.place = place
        self.turnstile = turnstile
        self._file = _identity(place)

    def run(self, cx: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
        """Do the work in one transaction; nothing of it stays if it fails."""
        with self.turnstile:
            try:
                self._begin(cx)
                try:
                    result = work(cx)
                    self._still_there()
                    cx.execute("commit")
                except BaseException:
                    # SQLite has rolled back by itself after some errors (a full disk is one).
                    with contextlib.suppress(sqlite3.Error):
                        if cx.in_transaction:
                            cx.execute("rollback")
                    raise
            except sqlite3.Error as error:
                raise explain(error, self.place) from error
        return result

    def _begin(self, cx: sqlite3.Connection) -> None:
        begun = time.monotonic()
        while True:
            try:
                cx.execute("begin immediate")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > min(begun + PATIENCE, self.turnstile.latest):
                    waited = time.monotonic() - begun
                    raise StoreBusy(
                        f"{self.place}: another connection has held a write transaction open for "
                        f"{waited:.1f} s. If it is your own and you call inloop inside it, pass "
                        f"it: f.using(connection=…).enqueue(…); else end it sooner"
                    ) from error

    def _still_there(self) -> None:
        """Never acknowledge what was written to a file that no longer has a name."""
        if _identity(self.place) != self._file:
            raise StoreGone(
                f"{self.place} was deleted or replaced while it was open: put the file back, or "
                f"restart on a new one"
            )

    def run_in_full(self, cx: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
        """As `run`; on a full disk make room in the write-ahead log and try once more.

        For ends of attempts: they are small, and a log that starts over has room for them even
        where the disk has none.
        """
        try:
            return self.run(cx, work)
        except StoreFull:
            with self.turnstile, contextlib.suppress(sqlite3.Error):
                cx.execute("pragma wal_checkpoint(restart)").fetchall()
            return self.run(cx, work)


def _identity(place: Place) -> tuple[int, int] | None:
    try:
        found = os.stat(place.path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
