"""Who is alive: an advisory OS lock per owner, released by the kernel when its process dies.

    <store>.inloop/            0700
        write.lock             the turnstile: whoever writes holds it, and has put its pid into it
        open.lock              held while a store is opened and migrated
        <owner id>.lock        held by a living owner

`flock` and never `fcntl`/`lockf`: those are dropped when any descriptor of the file is closed, by
anybody in the process. A lock file is unlinked only while its lock is held, and a lock counts only
if the path still leads to the locked file: else two owners could hold "the" lock of one name.
"""

import contextlib
import fcntl
import os
import random
import socket
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from inloop._errors import StoreBusy
from inloop._store.place import cannot_create


def boot_id() -> str:
    """Names this boot of this machine: processes of an earlier one are surely dead."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: the start of the monotonic clock, to the minute, does as well
        return str(round((time.time() - time.monotonic()) / 60))


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def open_lock_file(path: Path) -> int:
    """Open or create a lock file; never through a symbolic link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return _remember(os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR))
    except OSError as error:
        raise cannot_create(path, error) from error


# A forked child shares its parent's descriptors, and with them the locks: it closes its copies at
# once. Closing frees nothing of the parent's; unlocking would.
_descriptors: set[int] = set()


def _remember(fd: int) -> int:
    _descriptors.add(fd)
    return fd


def _close(fd: int) -> None:
    _descriptors.discard(fd)
    os.close(fd)


def _after_fork_in_child() -> None:
    for fd in list(_descriptors):
        with contextlib.suppress(OSError):
            os.close(fd)
    _descriptors.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def try_lock(fd: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Owners:
    """The lock folder of one store, and the lock of this opening of it."""

    def __init__(self, store: Path) -> None:
        self.folder = Path(f"{store}.inloop")
        self.fresh = False
        self._mine: int | None = None
        self.id: str | None = None

    def prepare(self) -> None:
        """Make the folder; remembers whether it is new, as it is beside a restored copy."""
        try:
            self.folder.mkdir(mode=0o700)
            self.fresh = True
        except FileExistsError:
            self.fresh = False
        except OSError as error:
            raise cannot_create(self.folder, error) from error

    def path(self, owner: str) -> Path:
        return self.folder / f"{owner}.lock"

    def register(self, owner: str) -> None:
        """Take this owner's lock; it is held until `release`, or until the process dies."""
        path = self.path(owner)
        while True:
            fd = open_lock_file(path)
            if not try_lock(fd):
                _close(fd)
                raise StoreBusy(f"the lock {path} is held by somebody else")
            if _leads_to(path, fd):
                break
            _close(fd)  # swept away as nobody's between opening and locking
        self._mine, self.id = fd, owner

    def release(self, *, unlink: bool) -> None:
        """Give the lock back, and remove its file while it is still ours."""
        if self._mine is None or self.id is None:
            return
        if unlink:
            self.path(self.id).unlink(missing_ok=True)
        _close(self._mine)
        self._mine = None

    def seize(self, owner: str, boot: str, at_host: str, *, older: bool) -> "Seized | None":
        """The dead owner's lock, or None if it lives or its death cannot be known.

        A missing lock file proves death only where the owner cannot be running: after a reboot, on
        another machine, or beside a restored copy of the store, whose folder is new. That says
        something only of an owner `older` than ourselves.
        """
        path = self.path(owner)
        try:
            return _seize(path)
        except FileNotFoundError:
            elsewhere = boot != boot_id() or at_host != host()
            return Seized(None, path) if elsewhere or (self.fresh and older) else None

    def sweep(self, known: Iterable[str]) -> None:
        """Remove lock files that nobody holds and no open owner has: left by deaths in between."""
        wanted = set(known)
        for path in self.folder.glob("*-*.lock"):
            if path.stem not in wanted:
                with contextlib.suppress(FileNotFoundError):
                    if (seized := _seize(path)) is not None:
                        seized.bury()

    def is_alive(self, owner: str, boot: str, at_host: str, *, older: bool) -> bool | None:
        """Whether an owner lives; None: unknown, its lock file is gone but it may be running."""
        if owner == self.id:
            return True
        seized = self.seize(owner, boot, at_host, older=older)
        if seized is not None:
            seized.let_go()
            return False
        return True if self.path(owner).exists() else None


def _seize(path: Path) -> "Seized | None":
    fd = _remember(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
    if not try_lock(fd) or not _leads_to(path, fd):
        _close(fd)
        return None
    return Seized(fd, path)


def _leads_to(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


class Seized:
    """The lock of a dead owner, held while its tasks are being recovered."""

    def __init__(self, fd: int | None, path: Path) -> None:
        self._fd = fd
        self._path = path

    def let_go(self) -> None:
        """Give it back untouched: whoever looks next finds the owner dead again."""
        if self._fd is not None:
            _close(self._fd)
            self._fd = None

    def bury(self) -> None:
        """Remove the file, then let go."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
        self.let_go()


class Turnstile:
    """One writer at a time over all processes, served fairly.

    SQLite's own busy handler lets one busy process starve the others for seconds; with this lock
    around each write transaction four saturated processes waited 58 ms at worst. It is taken
    without blocking and with a growing, jittered pause, so that a shutdown can end the wait.
    """

    def __init__(self, path: Path, patience: float = 10.0) -> None:
        self._path = path
        self._patience = patience
        self._fd = open_lock_file(path)
        self._holds = 0
        self._met: tuple[str, float] | None = None
        self.latest = float("inf")

    def hurry(self, seconds: float) -> None:
        """From now on wait no longer than until then: the process is to end."""
        self.latest = time.monotonic() + seconds

    def __enter__(self) -> None:
        if not try_lock(self._fd):
            self._queue_up()
        self._met = None
        self._holds += 1
        with contextlib.suppress(OSError):  # it is only for a message, and to tell holds apart
            os.pwrite(self._fd, f"{os.getpid()} {self._holds}\n".encode(), 0)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _queue_up(self) -> None:
        called = time.monotonic()
        hold = self._hold()
        if self._met is None or self._met[0] != hold:
            self._met = (hold, called)
        # A hold that was met before goes on: whoever comes later is told as early.
        begun = self._met[1]
        pause = 0.0002
        while not try_lock(self._fd):
            now = time.monotonic()
            if now > min(begun + self._patience, self.latest):
                raise StoreBusy(
                    f"process {hold.split()[0] if hold else '?'} has been writing for "
                    f"{now - begun:.1f} s: it is stopped or stuck; resume it or end it "
                    f"({self._path})"
                )
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 1.5, 0.01)
            if (hold := self._hold()) != self._met[0]:
                self._met, begun = (hold, now), called

    def _hold(self) -> str:
        return os.pread(self._fd, 64, 0).split(b"\n")[0].decode("ascii", "replace")

    def close(self) -> None:
        if self._fd >= 0:
            _close(self._fd)
            self._fd = -1
