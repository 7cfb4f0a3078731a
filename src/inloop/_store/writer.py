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

from inloop._errors import StoreBusy, StoreError, StoreFull, StoreGone
from inloop._store.owners import Turnstile
from inloop._store.place import Place, explain

R = TypeVar("R")

# A writer of the app's own, outside the turnstile, is waited for this long.
PATIENCE = 5.0


class Writer:
    """Write transactions on one store.

    patience: seconds to wait for a writer outside the turnstile, an app's own transaction.
    """

    def __init__(self, place: Place, turnstile: Turnstile, patience: float | None = None) -> None:
        self.place = place
        self.turnstile = turnstile
        self.file = identity(place)
        self._patience = patience

    def run(self, cx: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
        """Do the work in one transaction; nothing of it stays if it fails."""
        begun = time.monotonic()
        patience = PATIENCE if self._patience is None else self._patience
        while True:
            try:
                with self.turnstile:
                    if self._begin(cx):
                        return self._work(cx, work)
            except sqlite3.Error as error:
                raise explain(error, self.place) from error
            except OSError as error:
                raise StoreError(f"{self.place}: {error}") from error
            # The turnstile is given back in between: whoever waits for that writer does so at once.
            waited = time.monotonic() - begun
            if waited > patience or time.monotonic() > self.turnstile.latest:
                raise StoreBusy(
                    f"{self.place}: another connection has held a write transaction open for "
                    f"{waited:.1f} s. If it is your own and you call inloop inside it, pass it: "
                    f"f.using(connection=…).enqueue(…); else end it sooner"
                )

    def _begin(self, cx: sqlite3.Connection) -> bool:
        """False: somebody who does not use the turnstile is writing."""
        try:
            cx.execute("begin immediate")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    def _work(self, cx: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
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
        return result

    def _still_there(self) -> None:
        """Never acknowledge what was written to a file that no longer has a name."""
        if identity(self.place) != self.file:
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


def identity(place: Place) -> tuple[int, int] | None:
    """What names a file whatever it is called; None: there is none."""
    try:
        found = os.stat(place.path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
