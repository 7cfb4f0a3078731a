"""Migrations: "run under a lock, forward only"; killed in the middle, old or new, never between."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection, connect

import pytest

from inloop import SchemaTooNew
from inloop._model import State
from inloop._store import open_store, place

from .rig import Rig

pytestmark = pytest.mark.anyio

FIRST, NEWEST = place.migrations()[0], place.migrations()[-1][0]
# What a later version might bring: a table, a column, and rows moved from the one to the other.
SECOND = (
    2,
    """
    create table inloop_extra (task integer primary key, note text not null);
    alter table inloop_task add column note text;
    insert into inloop_extra (task, note) select seq, 'old' from inloop_task;
    update inloop_task set note = 'old';
    """,
)


def schema(path: Path) -> dict[str, str]:
    """Every table, index and trigger of ours, by its text."""
    with closing(connect(path)) as cx:
        rows = cx.execute(
            "select name, sql from sqlite_master where name like 'inloop_%' and sql is not null"
        )
        return dict(rows.fetchall())


def number(path: Path) -> int:
    with closing(connect(path)) as cx:
        (value,) = cx.execute("select value from inloop_meta where name = 'schema'").fetchone()
        return int(value)


# ---- forward


async def test_a_new_file_has_the_newest_schema(path: Path) -> None:
    """Whether there was no file, or an empty one."""
    for given in (path, path.with_name("empty.db")):
        if given is not path:
            given.touch()
        rig = await Rig(open_store(given, "full")).open()
        await rig.close()
        assert number(given) == NEWEST


async def test_an_older_file_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is missing is done; tasks are kept, and go through the migration's own steps."""
    rig = await Rig(open_store(path, "full")).open()
    task_id = await rig.put()
    await rig.close()
    before = schema(path)
    monkeypatch.setattr(place, "migrations", lambda: [FIRST, SECOND])
    await rig.open()
    assert await rig.state(task_id) is State.QUEUED
    assert await rig.sql("select note from inloop_extra") == [("old",)]
    assert await rig.claim_ids() == [task_id]
    await rig.close()
    assert number(path) == 2
    assert set(schema(path)) == {*before, "inloop_extra"}


async def test_an_up_to_date_file_is_left_alone(path: Path) -> None:
    """Opened again, nothing of the schema is written."""
    rig = await Rig(open_store(path, "full")).open()
    await rig.close()
    before = schema(path)
    for _ in range(2):
        await rig.open()
        await rig.close()
        assert schema(path) == before


async def test_there_is_no_way_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer version has migrated, an older one refuses."""
    monkeypatch.setattr(place, "migrations", lambda: [FIRST, SECOND])
    rig = await Rig(open_store(path, "full")).open()
    await rig.close()
    monkeypatch.undo()
    with pytest.raises(SchemaTooNew, match="schema 2"):
        await rig.open()


async def test_a_migration_that_fails_leaves_all_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in its last statement takes back the first."""
    rig = await Rig(open_store(path, "full")).open()
    task_id = await rig.put()
    await rig.close()
    before = schema(path)
    broken = (2, SECOND[1] + "insert into nowhere values (1);")
    monkeypatch.setattr(place, "migrations", lambda: [FIRST, broken])
    with pytest.raises(Exception, match="nowhere"):
        await rig.open()
    monkeypatch.undo()
    assert schema(path) == before
    await rig.open()
    assert await rig.claim_ids() == [task_id]
    await rig.close()


def test_migrations_are_numbered_one_by_one() -> None:
    """1, 2, 3, … without a gap, each a script of whole statements."""
    found = place.migrations()
    assert [n for n, _ in found] == list(range(1, len(found) + 1))
    for _, text in found:
        assert len(list(place.statements(text))) > 0


# ---- killed

KILLED = """
import os, signal, sys
from pathlib import Path
from inloop._store import place
from inloop._store.owners import Turnstile
from inloop._store.writer import Writer

path, at = Path(sys.argv[1]), sys.argv[2]
more = sys.argv[3:]
whole, split = place.migrations(), place.statements
place.migrations = lambda: whole + [(2, text) for text in more]
done = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def statements(script):
    global done
    for statement in split(script):
        yield statement
        done += 1
        if str(done) == at:
            die()

def work(cx):
    place.migrate(cx)
    if at == "end":
        die()

place.statements = statements
where = place.parse(path)
place.prepare(where)
Path(f"{path}.inloop").mkdir(exist_ok=True)
cx = place.connect(where, "full")
place.make_wal(cx, where, "full")
Writer(where, Turnstile(Path(f"{path}.inloop") / "write.lock")).run(cx, work)
die()
"""


def killed(path: Path, at: str, *more: str) -> None:
    """A process migrates this file, and is killed there."""
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), at, *more], timeout=30, capture_output=True
    )
    assert child.returncode == -9, child.stderr.decode()


def statements() -> int:
    return len(list(place.statements(FIRST[1])))


@pytest.mark.parametrize("at", ["1", "2", "11", "-1", "end", "committed"])
async def test_killed_while_it_makes_the_schema(path: Path, at: str) -> None:
    """Before the commit there is nothing, after it everything; then a store opens on it."""
    killed(path, str(statements()) if at == "-1" else at)
    if at == "committed":
        assert number(path) == 1
        assert "inloop_task_leaves" in schema(path)
    else:
        assert schema(path) == {}
    rig = await Rig(open_store(path, "full")).open()
    task_id = await rig.put()
    assert await rig.claim_ids() == [task_id]
    await rig.close()
    integrity(path)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_killed_while_it_brings_a_file_up_to_date(
    path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old schema with all its tasks, until the whole migration is committed."""
    rig = await Rig(open_store(path, "full")).open()
    task_id = await rig.put()
    await rig.close()
    before = schema(path)
    killed(path, str(at), SECOND[1])
    assert (number(path), schema(path)) == (1, before)
    monkeypatch.setattr(place, "migrations", lambda: [FIRST, SECOND])
    await rig.open()
    assert await rig.sql("select note from inloop_extra") == [("old",)]
    assert await rig.claim_ids() == [task_id]
    await rig.close()
    integrity(path)


def integrity(path: Path) -> None:
    with closing(connect(path)) as cx:
        assert cx.execute("pragma integrity_check").fetchone() == ("ok",)


# ---- several at once

OPENING = """
import asyncio, sys
from inloop._store import open_store

async def main():
    store = open_store(sys.argv[1], "normal")
    sys.stdin.readline()
    await store.open(lambda: 1, lambda: None, ["f"])
    print(len(await store.owners(1)), flush=True)
    sys.stdin.readline()
    await store.close(keep_lock=False)

asyncio.run(main())
"""


def start(path: Path, count: int) -> list["subprocess.Popen[str]"]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", OPENING, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]


def say(children: Sequence["subprocess.Popen[str]"]) -> None:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()


@pytest.mark.timeout(60)
def test_several_processes_open_a_new_file_at_once(path: Path) -> None:
    """One migrates, the others wait for it; all of them are owners, and none is in the way."""
    children = start(path, 5)
    try:
        say(children)
        for child in children:
            assert child.stdout is not None
            assert int(child.stdout.readline()) >= 1
        owners: Connection
        with closing(connect(path)) as owners:
            open_ones = "select count(*) from inloop_owner where closed is null"
            assert owners.execute(open_ones).fetchone() == (5,)
            assert owners.execute("select count(*) from inloop_meta").fetchone() == (1,)
        say(children)
        for child in children:
            _, error = child.communicate(timeout=20)
            assert (child.returncode, error) == (0, "")
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()
    integrity(path)
