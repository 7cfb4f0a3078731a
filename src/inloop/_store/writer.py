"""One write transaction: turnstile, begin immediate, the work, commit; and what can go wrong.

Used by the store's thread for everything the engine and the verbs write, and by the keeper's
thread for recovery; each has a connection and a turnstile of its own.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
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
        self.reserve: Reserve | None = None
        self.file = identity(place.path)
        self._log_path = f"{place.path}-wal"
        self._log: tuple[int, int] | None = None
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
        """Never acknowledge what was written to files that no longer have a name."""
        if identity(self.place.path) != self.file:
            raise StoreGone(
                f"{self.place} was deleted or replaced while it was open: put the file back, or "
                f"restart on a new one"
            )
        # SQLite keeps one log for as long as anybody has the file open.
        log = identity(self._log_path)
        if log != self._log and self._log is not None:
            raise StoreGone(
                f"{self._log_path} was deleted while it was in use: it holds what is not yet in "
                f"{self.place.path.name}; restart the processes that use it"
            )
        self._log = log

    def forget_log(self) -> None:
        """The connection is a new one, and its log may be."""
        self._log = None

    def run_making_room(self, cx: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
        """As `run`; where the disk is full, make room and try again.

        For ends of attempts: they are small, and what has run must not be lost for want of a few
        pages. First the log is started over, which needs no room where the file need not grow;
        then the reserve is given up.
        """
        try:
            return self.run(cx, work)
        except StoreFull:
            self._start_over_log(cx)
        try:
            return self.run(cx, work)
        except StoreFull:
            if self.reserve is None or not self.reserve.spend():
                raise
            self._start_over_log(cx)
        return self.run(cx, work)

    def _start_over_log(self, cx: sqlite3.Connection) -> None:
        with self.turnstile, contextlib.suppress(sqlite3.Error):
            cx.execute("pragma wal_checkpoint(restart)").fetchall()


class Reserve:
    """Room kept on the disk, so that outcomes can be written when it is full otherwise.

    While it is spent, and cannot be made anew, new work is refused: enqueueing fails first, and
    finishing never.
    """

    BYTES = 5 << 20  # more than the log holds before it is started over
    AGAIN_AFTER = 1.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tried = float("-inf")

    def make(self) -> bool:
        """Whether it is there, made anew if need be and possible; looks only now and then."""
        if identity(self._path) is not None:  # a sibling may have spent it
            return True
        if time.monotonic() - self._tried < self.AGAIN_AFTER:
            return False
        self._tried = time.monotonic()
        return _allocate(self._path, self.BYTES)

    def spend(self) -> bool:
        """Give the room up; False: there was none."""
        self._tried = time.monotonic()
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def _allocate(path: Path, size: int) -> bool:
    """Make a file that really takes the room; True too where the system cannot say (macOS)."""
    if not hasattr(os, "posix_fallocate"):
        return True
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(fd)
    return True


def identity(path: Path | str) -> tuple[int, int] | None:
    """What names a file whatever it is called; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
