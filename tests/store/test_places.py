"""Places where no store can be: each is refused at open, by its class, in words that help."""

# ruff: noqa: ASYNC240 # the tests' own loop may wait for a file

import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from inloop import (
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from inloop._model import State
from inloop._store import open_store, place

from .mounts import filled, mounted, read_only
from .rig import Rig

pytestmark = pytest.mark.anyio

NEWEST = place.migrations()[-1][0]

# Test runners have threads; the children here only look at a file and end.
quietly = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@asynccontextmanager
async def opened(where: str | Path, durability: place.Durability = "full") -> AsyncIterator[Rig]:
    rig = await Rig(open_store(where, durability)).open()
    try:
        yield rig
    finally:
        await rig.close()


async def refused(where: Path, kind: type[StoreError], *words: str) -> None:
    """Opening raises exactly this class, naming the place and what would help."""
    with pytest.raises(StoreError) as caught:
        await Rig(open_store(where, "full")).open()
    assert type(caught.value) is kind, caught.value
    assert str(where.parent) in str(caught.value)
    assert where.name in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


# ---- what lies there


async def test_a_folder(tmp_path: Path) -> None:
    """A folder is no file: the message names one that would do."""
    await refused(tmp_path, StoreError, "is a folder", "inloop.db")
    assert files(tmp_path) == set()


async def test_a_missing_folder(tmp_path: Path) -> None:
    """The folder of the file must be there; it is not made."""
    where = tmp_path / "missing" / "tasks.db"
    await refused(where, StoreError, "does not exist", "make it")
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    "content", [b"hello", b"not a database, though long enough to be one" * 100, b"\0" * 4096]
)
async def test_not_a_database(path: Path, content: bytes) -> None:
    """A file of another kind is told as such, and not a byte of it is changed."""
    path.write_bytes(content)
    await refused(path, StoreCorrupt, "not a")
    assert path.read_bytes() == content


async def test_a_damaged_page(path: Path) -> None:
    """A page of garbage is found at the start, "not in the night"; a backup is the advice."""
    async with opened(path) as rig:
        await rig.add(*[rig.new(arguments=f'"{"x" * 500}"') for _ in range(200)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))
    await refused(path, StoreCorrupt, "backup")


async def test_a_damaged_schema(path: Path) -> None:
    """Garbage where the schema is."""
    async with opened(path) as rig:
        await rig.put()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(3000))
    await refused(path, StoreCorrupt, "backup")


async def test_a_file_that_was_cut_off(path: Path) -> None:
    """Half of a database is a damaged one."""
    async with opened(path) as rig:
        await rig.add(*[rig.new(arguments=f'"{"x" * 500}"') for _ in range(200)])
    os.truncate(path, path.stat().st_size // 2)
    await refused(path, StoreCorrupt, "backup")


# ---- what cannot be written


async def test_a_read_only_folder(tmp_path: Path) -> None:
    """No new store in a folder that cannot be written."""
    with mounted(tmp_path / "ro", "size=1m,ro") as folder:
        await refused(folder / "tasks.db", StoreReadOnly, "writable")
        assert files(folder) == set()


async def test_a_store_in_a_folder_that_became_read_only(tmp_path: Path) -> None:
    """An existing store there can be read by nobody as a store: it is told, and left alone."""
    folder = tmp_path / "ro"
    folder.mkdir()
    async with opened(folder / "tasks.db") as rig:
        await rig.put()
    before = (folder / "tasks.db").read_bytes()
    with read_only(folder):
        await refused(folder / "tasks.db", StoreReadOnly, "cannot be written")
    assert (folder / "tasks.db").read_bytes() == before


async def test_a_read_only_file(path: Path) -> None:
    """A file that cannot be written, in a folder that can."""
    async with opened(path) as rig:
        await rig.put()
    with read_only(path):
        await refused(path, StoreReadOnly, "cannot be written")


async def test_a_read_only_lock_folder(tmp_path: Path, path: Path) -> None:
    """Lock files that cannot be made are told as that, naming their folder."""
    locks = tmp_path / "tasks.db.inloop"
    locks.mkdir()
    with read_only(locks):
        await refused(path, StoreReadOnly, str(locks))


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A folder that everybody can reach, unlike those of the test runner."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@quietly
@pytest.mark.parametrize("mode", [0o444, 0o200])
def test_a_mode_that_forbids_it(anybodys: Path, mode: int) -> None:
    """A file whose mode forbids reading or writing to who is not root."""
    path = anybodys / "tasks.db"
    path.touch()
    path.chmod(mode)
    assert as_nobody(path) == "StoreReadOnly"


@quietly
def test_a_folder_whose_mode_forbids_it(anybodys: Path) -> None:
    """A folder whose mode forbids making files in it."""
    folder = anybodys / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    assert as_nobody(folder / "tasks.db") == "StoreReadOnly"


@quietly
def test_a_mode_that_allows_it(anybodys: Path) -> None:
    """Where nothing forbids it, a file is made."""
    assert as_nobody(anybodys / "tasks.db") == "nothing"


def as_nobody(where: Path) -> str:
    """What `prepare` raises for a user whom modes stop: in a fork, if this one is root."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            place.prepare(place.Place(where))
            os.write(write_end, b"nothing")
        except BaseException as error:
            os.write(write_end, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end) as pipe:
        return pipe.read()


# ---- what has no room


async def test_a_new_store_on_a_full_disk(tmp_path: Path) -> None:
    """No room to begin with: `StoreFull`."""
    with mounted(tmp_path / "small", "size=128k") as folder, filled(folder):
        await refused(folder / "tasks.db", StoreFull)


async def test_an_existing_store_on_a_full_disk(tmp_path: Path) -> None:
    """A store that was closed cannot be opened again without any room: `StoreFull`."""
    with mounted(tmp_path / "small", "size=16m") as folder:
        async with opened(folder / "tasks.db") as rig:
            task_id = await rig.put()
        with filled(folder):
            await refused(folder / "tasks.db", StoreFull)
        async with opened(folder / "tasks.db") as rig:
            assert await rig.state(task_id) is State.QUEUED


async def test_no_room_for_another_file(tmp_path: Path) -> None:
    """A file system that has no more names for files is full, too."""
    with mounted(tmp_path / "small", "size=4m,nr_inodes=3") as folder:
        await refused(folder / "tasks.db", StoreFull)


# ---- who else is there


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs"])
async def test_a_network_file_system(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks cannot be trusted between machines, refused, saying how to insist."""
    monkeypatch.setattr(place, "file_system", lambda folder: kind)
    await refused(path, StoreError, kind, "local disk", "filesystem=any")
    assert files(path.parent) == set()


async def test_a_network_file_system_on_demand(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who insists may, by what the message said."""
    monkeypatch.setattr(place, "file_system", lambda folder: "nfs4")
    async with opened(f"sqlite:///{path}?filesystem=any") as rig:
        assert await rig.put()


@pytest.mark.parametrize("name", ["write.lock", "open.lock"])
async def test_a_symbolic_link_as_lock_file(tmp_path: Path, path: Path, name: str) -> None:
    """A lock file is never opened through a link: its target is not even made."""
    locks = tmp_path / "tasks.db.inloop"
    locks.mkdir()
    (locks / name).symlink_to(tmp_path / "elsewhere")
    await refused(path, StoreError, str(locks / name))
    assert not (tmp_path / "elsewhere").exists()


async def test_a_file_in_place_of_the_lock_folder(tmp_path: Path, path: Path) -> None:
    """A file where the folder should be: told by its name."""
    locks = tmp_path / "tasks.db.inloop"
    locks.write_text("mine")
    await refused(path, StoreError, str(locks))
    assert locks.read_text() == "mine"


# ---- schemas


async def test_a_newer_schema(path: Path) -> None:
    """ "a newer schema is refused untouched": not a byte of the file, and it names both."""
    async with opened(path) as rig:
        await rig.put()
    with closing(sqlite3.connect(path)) as cx:
        cx.execute("update inloop_meta set value = '999' where name = 'schema'")
        cx.commit()
        cx.execute("pragma wal_checkpoint(truncate)")
    before = path.read_bytes()
    shutil.rmtree(f"{path}.inloop")
    await refused(path, SchemaTooNew, "999", str(NEWEST))
    assert path.read_bytes() == before


async def test_a_newer_schema_in_another_journal_mode(path: Path) -> None:
    """It is not even switched to a write-ahead log."""
    with closing(sqlite3.connect(path)) as cx:
        cx.execute("create table inloop_meta (name text primary key, value text)")
        cx.execute("insert into inloop_meta values ('schema', '2000')")
        cx.commit()
    before = path.read_bytes()
    await refused(path, SchemaTooNew, "2000")
    assert path.read_bytes() == before


async def test_it_can_be_opened_once_the_place_is_mended(path: Path) -> None:
    """After a refusal nothing is held: the same store opens when what was wrong is gone."""
    path.mkdir()
    rig = Rig(open_store(path, "full"))
    with pytest.raises(StoreError):
        await rig.open()
    path.rmdir()
    await rig.open()
    assert await rig.put()
    await rig.close()
