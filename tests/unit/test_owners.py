"""Who is alive: OS locks, the turnstile, and what a fork must not do to them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inloop import StoreBusy, StoreError
from inloop._store.owners import Owners, Turnstile, boot_id, host, open_lock_file, try_lock

OWNER = "0b6f-owner"

HOLD = """
import sys
from pathlib import Path
from inloop._store.owners import Owners

owners = Owners(Path(sys.argv[1]))
owners.prepare()
owners.register(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def mine(store: Path) -> Iterator[Owners]:
    """An owner of this process."""
    owners = Owners(store)
    owners.prepare()
    owners.register("1a2b-mine")
    yield owners
    owners.release(unlink=True)


@contextmanager
def process(code: str, *words: object) -> Iterator["subprocess.Popen[str]"]:
    """A process that has said its first line; killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child
    finally:
        child.kill()
        child.communicate()


def seize(owners: Owners, owner: str = OWNER, *, older: bool = True) -> bool:
    """Whether this owner is found dead; it is let go again."""
    seized = owners.seize(owner, boot_id(), host(), older=older)
    if seized is not None:
        seized.let_go()
    return seized is not None


# ---- living and dead


def test_a_living_owner_is_not_seized(store: Path, mine: Owners) -> None:
    """While its process lives its lock is held, and it is known to be alive."""
    with process(HOLD, store, OWNER):
        assert not seize(mine)
        assert mine.is_alive(OWNER, boot_id(), host(), older=True) is True


def test_a_killed_owner_is_seized(store: Path, mine: Owners) -> None:
    """Its lock is free as soon as the kernel has ended it; looking does not bury it."""
    with process(HOLD, store, OWNER) as child:
        child.kill()
        child.wait()
        assert mine.is_alive(OWNER, boot_id(), host(), older=True) is False
        assert seize(mine)
        assert seize(mine)


def test_a_stopped_owner_is_not_seized(store: Path, mine: Owners) -> None:
    """ "A stopped or stalled process keeps its tasks"."""
    with process(HOLD, store, OWNER) as child:
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert not seize(mine)
        assert mine.is_alive(OWNER, boot_id(), host(), older=True) is True
        child.send_signal(signal.SIGCONT)


def test_it_is_seized_by_one(store: Path, mine: Owners) -> None:
    """Of two who look at once one gets it, until it is let go."""
    other = Owners(store)
    with process(HOLD, store, OWNER):
        pass
    seized = mine.seize(OWNER, boot_id(), host(), older=True)
    assert seized is not None
    assert not seize(other)
    seized.let_go()
    assert seize(other)


def test_buried_it_has_no_file(store: Path, mine: Owners) -> None:
    """`bury` removes the lock file; from then on its death cannot be proven any more, nor needs."""
    with process(HOLD, store, OWNER):
        pass
    seized = mine.seize(OWNER, boot_id(), host(), older=True)
    assert seized is not None
    seized.bury()
    assert not mine.path(OWNER).exists()


def test_this_owner_itself_is_alive(mine: Owners) -> None:
    """Without looking at its lock."""
    assert mine.id is not None
    assert mine.is_alive(mine.id, boot_id(), host(), older=True) is True
    assert not seize(mine, mine.id)


def test_an_owner_that_let_go_is_dead(store: Path, mine: Owners) -> None:
    """`release` without unlinking: the file stays, and its lock is free."""
    other = Owners(store)
    other.prepare()
    other.register(OWNER)
    assert not seize(mine)
    other.release(unlink=False)
    other.release(unlink=False)
    assert mine.path(OWNER).exists()
    assert seize(mine)


def test_an_owner_that_unlinked_is_gone(store: Path, mine: Owners) -> None:
    """`release` with unlinking removes its file; nothing of it can be seized."""
    other = Owners(store)
    other.prepare()
    other.register(OWNER)
    other.release(unlink=True)
    assert not mine.path(OWNER).exists()
    assert not seize(mine, older=False)


def test_two_owners_cannot_have_one_name(store: Path, mine: Owners) -> None:
    """`StoreBusy` for a name whose lock is held."""
    assert mine.id is not None
    with pytest.raises(StoreBusy, match=mine.id):
        Owners(store).register(mine.id)


# ---- a missing file


def test_a_missing_file_proves_nothing(store: Path, mine: Owners) -> None:
    """On the same boot and host it may be running: "*unverifiable*, a person decides"."""
    mine.prepare()  # not fresh any more
    assert not seize(mine)
    assert mine.is_alive(OWNER, boot_id(), host(), older=True) is None


@pytest.mark.parametrize(
    ("boot", "at_host"), [("another boot", None), (None, "another host"), ("another", "another")]
)
def test_a_missing_file_of_elsewhere(mine: Owners, boot: str | None, at_host: str | None) -> None:
    """ "dead if the boot id or host differs"."""
    mine.prepare()
    where = (boot or boot_id(), at_host or host())
    seized = mine.seize(OWNER, *where, older=False)
    assert seized is not None
    seized.bury()
    assert mine.is_alive(OWNER, *where, older=False) is False


def test_a_missing_file_in_a_fresh_folder(mine: Owners) -> None:
    """ "or the whole folder is new (a restored copy)": of owners that are older than ourselves."""
    assert mine.fresh
    assert seize(mine)
    assert not seize(mine, older=False)


def test_a_folder_is_fresh_for_who_made_it(store: Path, mine: Owners) -> None:
    """Who comes later does not take the others for gone."""
    later = Owners(store)
    later.prepare()
    assert not later.fresh
    assert not seize(later)


def test_a_lock_counts_only_where_the_path_leads_to_it(
    mine: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was replaced between opening and locking is not the owner's lock."""
    path = mine.path(OWNER)
    path.touch()
    real = os.open

    def replaced(name: Path, flags: int, *more: int) -> int:
        fd = real(name, flags, *more)
        if name == path:
            path.unlink()
            os.close(real(path, os.O_CREAT | os.O_RDWR, 0o600))
        return fd

    monkeypatch.setattr(os, "open", replaced)
    assert mine.seize(OWNER, boot_id(), host(), older=True) is None


def test_a_lock_file_is_never_opened_through_a_link(tmp_path: Path) -> None:
    """Not even to make what it leads to: an error that names it."""
    link = tmp_path / "x.lock"
    link.symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match=r"x\.lock"):
        open_lock_file(link)
    assert not (tmp_path / "target").exists()


def test_lock_files_are_for_their_user_alone(mine: Owners) -> None:
    """0600 in a folder of 0700."""
    assert mine.id is not None
    assert mine.folder.stat().st_mode & 0o777 == 0o700
    assert mine.path(mine.id).stat().st_mode & 0o777 == 0o600


# ---- sweeping


def test_sweeping_removes_what_is_nobodys(store: Path, mine: Owners) -> None:
    """Lock files that no open owner has go; held ones and those still to be recovered stay."""
    with process(HOLD, store, "2c3d-living"):
        for name in ("3e4f-nobodys", "5a6b-to-recover"):
            mine.path(name).touch()
        mine.sweep(["5a6b-to-recover"])
        left = {file.name for file in mine.folder.iterdir()}
    assert left == {"1a2b-mine.lock", "2c3d-living.lock", "5a6b-to-recover.lock"}


# ---- fork


@contextmanager
def forked(in_child: Callable[[], object] = lambda: None) -> Iterator[None]:
    """A forked child lives during the block."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            in_child()
            os.write(ready[1], b"x")
            os.close(go[1])
            os.read(go[0], 1)
        finally:
            os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"x"
        yield
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for fd in (*ready, *go):
            os.close(fd)


# Test runners have threads; the children here only close descriptors and end.
quietly = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@quietly
def test_a_forked_child_does_not_free_its_parents_lock(store: Path, mine: Owners) -> None:
    """While it lives, and after it has ended, the parent is alive."""
    other = Owners(store)
    assert mine.id is not None
    with forked():
        assert not seize(other, mine.id)
    assert not seize(other, mine.id)


@quietly
def test_a_forked_child_does_not_hold_its_parents_lock(store: Path, mine: Owners) -> None:
    """Once the parent has let go it is dead, though its child lives on."""
    other = Owners(store)
    assert mine.id is not None
    with forked():
        mine.release(unlink=False)
        assert seize(other, mine.id)


FORKING = """
import os, signal, sys
from pathlib import Path
from inloop._store.owners import Owners, Turnstile

owners = Owners(Path(sys.argv[1]))
owners.prepare()
owners.register(sys.argv[2])
turnstile = Turnstile(owners.folder / "write.lock")
with turnstile:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    signal.pause()
"""


def test_a_child_that_survives_its_parent_holds_nothing_of_it(store: Path, mine: Owners) -> None:
    """Killed in the middle of a write, with a child that lives on: dead, and nobody's turn."""
    child = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(store), OWNER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        grandchild = int(child.stdout.readline())
        assert not seize(mine)
        child.kill()
        child.wait()
        os.kill(grandchild, 0)  # it lives
        assert seize(mine)
        with Turnstile(mine.folder / "write.lock", patience=0.1):
            pass
    finally:
        child.stdin.close()
        child.stdout.close()


def test_the_lock_is_not_one_of_fcntl(tmp_path: Path) -> None:
    """Closing another descriptor of the same file, as anybody may, does not free it."""
    path = tmp_path / "x.lock"
    held = open_lock_file(path)
    assert try_lock(held)
    os.close(os.open(path, os.O_RDWR))
    other = open_lock_file(path)
    assert not try_lock(other)
    os.close(held)
    assert try_lock(other)
    os.close(other)
