"""The keeper: a thread that shows this owner's heartbeat and looks after dead ones.

It has a connection of its own and needs no event loop: a blocked loop delays neither the heartbeat
nor the recovery of a sibling's tasks. Who is dead is decided by OS locks alone.
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial

from inloop._exchange import By
from inloop._model import Micros
from inloop._store import recovery
from inloop._store.owners import Owners
from inloop._store.place import Durability, connect
from inloop._store.writer import Writer

log = logging.getLogger("inloop")

LOOK_EVERY = 0.3
# Somebody else's commit is noticed within this: a `stat` costs 2 µs, and wakes no event loop.
GLANCE_EVERY = 0.04
HEARTBEAT = 5_000_000
# It comes again: it does not stand in the way of the store's own writer.
PATIENCE = 0.3

BEAT = "update inloop_owner set heartbeat = :now where n = :me and closed is null"


class Keeper:
    """Looks after the owners of one store, from one owner's process."""

    def __init__(
        self,
        writer: Writer,
        durability: Durability,
        owners: Owners,
        now: Callable[[], Micros],
        wake: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._durability = durability
        self._owners = owners
        self._now = now
        self._wake = wake
        self._stop = threading.Event()
        self._complained = ""
        self._last_beat = 0
        self._wal = f"{writer.place.path}-wal"
        self._seen: tuple[int, int] | None = None
        self._was_fresh = False
        self.me = 0
        self._thread = threading.Thread(target=self._run, name="inloop-keeper", daemon=True)

    def start(self, me: int) -> None:
        """Begin to look, at once and then again and again."""
        self.me = me
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; `join` waits for it."""
        self._stop.set()
        self._writer.turnstile.hurry(0.2)

    def is_running(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        cx: sqlite3.Connection | None = None
        while not self._stop.is_set():
            try:
                if cx is None:
                    cx = connect(self._writer.place, self._durability)
                self.look(cx)
                self._complained = ""
            except Exception as error:  # whatever it is, the next look may do better
                self._complain(error)
                if cx is not None:
                    with contextlib.suppress(sqlite3.Error):
                        cx.close()
                cx = None
            self._glance()
        if cx is not None:
            cx.close()
        self._writer.turnstile.close()

    def _glance(self) -> None:
        """Until the next look, wake the engine whenever the write-ahead log has changed."""
        until = time.monotonic() + LOOK_EVERY
        while time.monotonic() < until and not self._stop.wait(GLANCE_EVERY):
            seen = _stamp(self._wal)
            # A stamp is as coarse as a kernel tick: a fresh one may hide a second write.
            fresh = seen is not None and time.time_ns() - seen[0] < 20_000_000
            if seen != self._seen or self._was_fresh:
                self._wake()
            self._seen, self._was_fresh = seen, fresh

    def _complain(self, error: Exception) -> None:
        # Once per kind of trouble, not three times a second.
        if repr(error) != self._complained and not self._stop.is_set():
            self._complained = repr(error)
            log.warning("inloop cannot look after the store's owners: %s", error)

    def look(self, cx: sqlite3.Connection) -> None:
        """One look: beat, then recover what dead owners left."""
        now = self._now()
        if now - self._last_beat >= HEARTBEAT or now < self._last_beat:
            self._writer.run(cx, lambda cx: cx.execute(BEAT, {"now": now, "me": self.me}))
            self._last_beat = now
            for row in cx.execute(recovery.ABANDONED).fetchall():
                self._settle(cx, recovery.Dead(*row), "its owner is closed", died=False)
        for row in cx.execute(recovery.OPEN_OWNERS, {"me": self.me}).fetchall():
            if not self._stop.is_set():
                self._recover(cx, recovery.Dead(*row))

    def _recover(self, cx: sqlite3.Connection, dead: recovery.Dead) -> None:
        seized = self._owners.seize(dead.id, dead.boot, dead.host, older=dead.n < self.me)
        if seized is None:
            return
        try:
            if self._settle(cx, dead, "its process died", died=True):
                seized.bury()
        finally:
            seized.let_go()
        self._wake()

    def _settle(self, cx: sqlite3.Connection, dead: recovery.Dead, why: str, *, died: bool) -> bool:
        """Settle a dead owner's tasks page by page; False if we were stopped in between."""
        settled, after = 0, 0
        while not self._stop.is_set():
            by = By(self._now(), "engine", None, self.me)
            page = partial(recovery.recover_page, dead=dead, after=after, why=why, by=by, died=died)
            n, after = self._writer.run(cx, page)
            settled += n
            if not after:
                if settled:
                    log.warning(
                        "recovered from process %d on %s: %d unfinished %s (%s)",
                        dead.pid, dead.host, settled, "task" if settled == 1 else "tasks", why,
                    )  # fmt: skip
                return True
            self._wake()
        return False


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
