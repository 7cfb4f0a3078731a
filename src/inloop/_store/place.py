"""Where a SQLite store lies, how it is opened, and what can be wrong with it.

The database file is only ever opened by SQLite: closing any other descriptor of it would drop
SQLite's own locks in this process. What inloop creates is for its user alone (0600); a file that
the app made keeps its mode.
"""

import errno
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from inloop._errors import (
    IllegalMove,
    InloopError,
    SchemaTooNew,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreGone,
    StoreReadOnly,
)

Durability = Literal["full", "normal"]

# File systems whose locks, or whose shared memory, cannot be trusted between machines.
SHARED = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "lustre",
     "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "afs", "vboxsf"}
)  # fmt: skip

OPENING_SECONDS = 5.0
BUSY_MS = 100
CHECKPOINT_PAGES = 1000
KEPT_WAL_BYTES = 8 << 20
CHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """A database file."""

    path: Path
    trust_file_system: bool = False

    def __str__(self) -> str:
        return str(self.path)

    @property
    def uri(self) -> str:
        """How SQLite is told to open it; it never creates it."""
        return f"{self.path.as_uri()}?mode=rw"


def parse(store: str | os.PathLike[str]) -> Place | None:
    """The place that `TaskManager(store)` names; None for ":memory:"."""
    if not isinstance(store, str | os.PathLike) or not isinstance(os.fspath(store), str):
        raise TypeError(f"store={store!r}: must be a path or a URL, as text or a Path")
    text = os.fspath(store)
    if text == ":memory:" or text in ("sqlite://", "sqlite:///:memory:"):
        return None
    trust = False
    if text.startswith("sqlite:"):
        url = urlsplit(text)
        if url.netloc or not url.path.startswith("/"):
            raise ValueError(
                f"store={text!r}: write sqlite:///relative.db or sqlite:////abs/olute.db"
            )
        if url.query not in ("", "filesystem=any") or url.fragment:
            raise ValueError(f"store={text!r}: the only option that is known is ?filesystem=any")
        trust = bool(url.query)
        text = unquote(url.path[1:])
    elif "://" in text:
        raise ValueError(
            f"store={text!r}: this version knows a path, ':memory:' and sqlite:///path"
        )
    if not text or "\0" in text:
        raise ValueError(f"store={store!r}: must be the path of a file, such as 'app.db'")
    return Place(Path(text).absolute(), trust)


def resolve(place: Place) -> Place:
    """The file itself, through whatever symbolic links lead to it."""
    return Place(Path(os.path.realpath(place.path)), place.trust_file_system)


def prepare(place: Place) -> None:
    """Look at the place before it is opened, and make an empty file where there is none."""
    path = place.path
    if path.is_dir():
        raise StoreError(f"{path} is a folder: name a file in it, such as {path / 'inloop.db'}")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} for {path.name} does not exist: make it first")
    kind = file_system(path.parent)
    if kind in SHARED and not place.trust_file_system:
        raise StoreError(
            f"{path} lies on {kind}, where SQLite's locks cannot be trusted: use a local disk "
            f"(or, if you are sure, sqlite:///{path}?filesystem=any)"
        )
    try:
        # Created before SQLite opens it, so that its mode, and its journal's, is ours to choose.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))
    except FileExistsError:
        pass
    except OSError as error:
        raise cannot_create(path, error) from error
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK):
        raise StoreReadOnly(
            f"{path} or its folder cannot be written by this process: mend its mode"
        )


def cannot_create(path: Path, error: OSError) -> StoreError:
    """What it means that a file or folder beside the store cannot be made or opened."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"{path} cannot be made: no space is left on its disk")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreReadOnly(f"{path} cannot be made ({error.strerror}): make its folder writable")
    if error.errno == errno.ELOOP:
        return StoreError(
            f"{path} is a symbolic link, where a file of inloop's own must be: remove it"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StoreError(
            f"{path.parent} must be a folder of inloop's own, and is a file: remove it"
        )
    return StoreError(f"{path} cannot be made or opened ({error.strerror})")


def file_system(folder: Path) -> str | None:
    """The type of the file system that a folder lies on; None where nothing tells."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    real = str(folder.resolve())
    best, kind = "", None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split(" ")[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind


def connect(place: Place, durability: Durability, *, writes: bool = True) -> sqlite3.Connection:
    """A connection set up rightly; transactions are begun and ended by hand."""
    try:
        cx = sqlite3.connect(
            place.uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=OPENING_SECONDS,
        )
    except sqlite3.Error as error:
        raise explain(error, place) from error
    try:
        _set_up(cx, place, durability, writes=writes)
    except BaseException:
        cx.close()
        raise
    return cx


def _set_up(cx: sqlite3.Connection, place: Place, durability: Durability, *, writes: bool) -> None:
    try:
        # All are properties of the connection; the journal mode is one of the file.
        cx.execute(f"pragma synchronous = {durability}")
        cx.execute("pragma fullfsync = on")
        cx.execute(f"pragma wal_autocheckpoint = {CHECKPOINT_PAGES if writes else 0}")
        cx.execute(f"pragma journal_size_limit = {KEPT_WAL_BYTES}")
        if not writes:
            cx.execute("pragma query_only = on")
        # A sibling that closes last holds the file for a moment; later others wait in our own ways.
        cx.execute(f"pragma busy_timeout = {BUSY_MS}")
    except sqlite3.Error as error:
        raise explain(error, place) from error


def make_wal(cx: sqlite3.Connection, place: Place, durability: Durability) -> None:
    """Switch the file to a write-ahead log, and read back that what was set is so."""
    deadline = time.monotonic() + 5
    while True:
        try:
            (mode,) = cx.execute("pragma journal_mode = wal").fetchone()
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise explain(error, place) from error
            time.sleep(0.01)
    (level,) = cx.execute("pragma synchronous").fetchone()
    if mode != "wal" or level != {"full": 2, "normal": 1}[durability]:
        raise StoreError(
            f"{place} does not do what was asked: journal mode {mode!r} instead of 'wal', or "
            f"synchronous {level} for durability={durability!r}"
        )


def quick_check(cx: sqlite3.Connection, place: Place) -> None:
    """Look for damage, for a moment: a broken file is told at the start, not in the night."""
    deadline = time.monotonic() + CHECK_SECONDS
    cx.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        (found,) = cx.execute("pragma quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise explain(error, place) from error
        return
    except sqlite3.DatabaseError as error:
        raise explain(error, place) from error
    finally:
        cx.set_progress_handler(None, 0)
    if found != "ok":
        raise StoreCorrupt(f"{place} is damaged ({found}): restore a backup")


# ---- schema ---------------------------------------------------------------------------------

HAS_META = "select 1 from sqlite_master where type = 'table' and name = 'inloop_meta'"


def migrations() -> list[tuple[int, str]]:
    """The numbered SQL files, in order."""
    folder = resources.files("inloop._store") / "sql" / "sqlite"
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), (folder / name).read_text(encoding="utf-8")) for name in files]


def schema(cx: sqlite3.Connection) -> int:
    """The number of the newest migration that this file has had; 0: none."""
    if cx.execute(HAS_META).fetchone() is None:
        return 0
    row = cx.execute("select value from inloop_meta where name = 'schema'").fetchone()
    return 0 if row is None else int(row[0])


def refuse_newer(cx: sqlite3.Connection, place: Place) -> None:
    """A file of a newer version is left as it is."""
    newest = migrations()[-1][0]
    try:
        found = schema(cx)
    except sqlite3.Error as error:
        raise explain(error, place) from error
    if found > newest:
        raise SchemaTooNew(
            f"{place} has schema {found}, and this inloop knows {newest}: install the inloop that "
            f"wrote it, or a newer one"
        )


def migrate(cx: sqlite3.Connection) -> None:
    """Bring the schema up to date; within one transaction of the caller's."""
    have = schema(cx)
    for number, text in migrations():
        if number <= have:
            continue
        for statement in statements(text):
            cx.execute(statement)
        cx.execute(
            "insert into inloop_meta (name, value) values ('schema', :n) "
            "on conflict do update set value = :n",
            {"n": str(number)},
        )


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit in between."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        raise ValueError(f"the script ends in the middle of a statement: {pending!r}")


# ---- errors ---------------------------------------------------------------------------------


def explain(error: sqlite3.Error, place: Place) -> BaseException:
    """The error of ours that says what SQLite's means; itself where it is a mistake in a row."""
    if isinstance(error, _MISTAKES):
        return IllegalMove(str(error)) if "illegal move" in str(error) else error
    code = getattr(error, "sqlite_errorcode", 0)
    kind = _KINDS.get(code) or _KINDS.get(code & 0xFF)
    if kind is None:
        return StoreError(f"{place}: {error}") if isinstance(error, _OURS) else error
    make, advice = kind
    name = getattr(error, "sqlite_errorname", "")
    return make(f"{place}: {error} ({name}); {advice}")


# One row or one statement is at fault, not the store.
_MISTAKES = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
_OURS = (sqlite3.OperationalError, sqlite3.DatabaseError)

_KINDS: dict[int, tuple[type[InloopError], str]] = {
    sqlite3.SQLITE_BUSY: (
        StoreBusy,
        "another connection holds a write transaction: end it; inside your own pass connection=",
    ),
    sqlite3.SQLITE_LOCKED: (StoreBusy, "another connection holds it: end its transaction"),
    sqlite3.SQLITE_FULL: (StoreFull, "make room on its disk; nothing acknowledged is lost"),
    sqlite3.SQLITE_READONLY: (StoreReadOnly, "make the file and its folder writable"),
    sqlite3.SQLITE_CANTOPEN: (StoreGone, "the file or its folder cannot be opened"),
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "restore a backup"),
    sqlite3.SQLITE_NOTADB: (StoreCorrupt, "this file is not a SQLite database: name another one"),
    sqlite3.SQLITE_IOERR_SHMSIZE: (StoreFull, "make room on its disk"),
    sqlite3.SQLITE_READONLY_DBMOVED: (StoreGone, "the file was moved or deleted while open"),
    sqlite3.SQLITE_IOERR: (StoreError, "the disk or its file system fails"),
}
