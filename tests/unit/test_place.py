"""Where a store lies: names, scripts, file systems, and what SQLite's errors mean."""

import sqlite3
from pathlib import Path

import pytest

from inloop import (
    IllegalMove,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreGone,
    StoreReadOnly,
)
from inloop._store import place
from inloop._store.place import Place, explain, file_system, parse, statements

# ---- parse


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ("/srv/tasks.db", "/srv/tasks.db"),
        (Path("/srv/tasks.db"), "/srv/tasks.db"),
        ("sqlite:////srv/tasks.db", "/srv/tasks.db"),
        ("sqlite:////srv/a%20b%3F.db", "/srv/a b?.db"),
        ("/srv/a b?#%20.db", "/srv/a b?#%20.db"),
        ("/srv/ü.db", "/srv/ü.db"),
        ("/srv/:memory:", "/srv/:memory:"),
    ],
)
def test_a_place_by_its_name(store: str | Path, path: str) -> None:
    """A path, as text or `Path`, or a URL."""
    found = parse(store)
    assert found is not None
    assert str(found.path) == path
    assert str(found) == path
    assert not found.trust_file_system


@pytest.mark.parametrize("store", ["tasks.db", "sqlite:///tasks.db", "./tasks.db"])
def test_a_relative_path_is_fixed_when_it_is_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the folder that was the working one then."""
    monkeypatch.chdir(tmp_path)
    found = parse(store)
    monkeypatch.chdir("/")
    assert found is not None
    assert found.path == tmp_path / "tasks.db"


@pytest.mark.parametrize("store", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_in_memory(store: str) -> None:
    """No place at all."""
    assert parse(store) is None


def test_who_insists_on_a_file_system() -> None:
    """By the word that the error names."""
    found = parse("sqlite:////mnt/nfs/tasks.db?filesystem=any")
    assert found == Place(Path("/mnt/nfs/tasks.db"), True)


@pytest.mark.parametrize(
    "store",
    [
        "", "a\0b.db", "sqlite:tasks.db", "sqlite://host/tasks.db", "sqlite:///", "mysql://x/y",
        "http://x", "sqlite:////srv/tasks.db?filesytem=any", "sqlite:////srv/tasks.db?mode=ro",
        "sqlite:////srv/tasks.db#part", "sqlite:////srv/tasks.db?filesystem=some",
    ],
)  # fmt: skip
def test_what_names_no_place(store: str) -> None:
    """`ValueError` at the call, naming the parameter: nothing that was written is passed over."""
    with pytest.raises(ValueError, match="store="):
        parse(store)


@pytest.mark.parametrize("store", [b"tasks.db", 7, None])
def test_what_is_no_name(store: object) -> None:
    """`TypeError`."""
    with pytest.raises(TypeError):
        parse(store)  # type: ignore[arg-type] # that is what is tested


# ---- statements


def test_a_script_is_split_into_its_statements() -> None:
    """One by one, each whole, and together the script."""
    script = """-- a comment; with a semicolon
    create table a (n); -- another
    create trigger t after insert on a begin
      insert into b values (';');
      update b set x = 1;
    end;
    insert into a values ('it''s; so');
    """
    found = list(statements(script.rstrip()))
    assert len(found) == 3
    assert "".join(found) == script.rstrip()
    assert "end;" in found[1]


def test_an_empty_script_has_none() -> None:
    """Nothing but white space is no statement."""
    assert list(statements("")) == []
    assert list(statements("\n  \n")) == []


def test_a_script_that_ends_in_the_middle() -> None:
    """`ValueError`, with what is left."""
    with pytest.raises(ValueError, match=r"middle of a statement.*create table b"):
        list(statements("create table a (n);\ncreate table b (n)"))


def test_several_statements_on_a_line_are_not_lost() -> None:
    """Migrations put one statement on its lines; more on one line still run, or are refused."""
    cx = sqlite3.connect(":memory:")
    try:
        for statement in statements("create table a (n); create table b (n);\n"):
            cx.execute(statement)
        names = cx.execute("select name from sqlite_master order by 1").fetchall()
        assert names == [("a",), ("b",)]
    except (ValueError, sqlite3.Warning, sqlite3.ProgrammingError):
        pass  # refused
    finally:
        cx.close()


# ---- file systems


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux tells it there")
def test_the_type_of_a_file_system() -> None:
    """From what the kernel says is mounted where."""
    assert file_system(Path("/proc")) == "proc"
    assert file_system(Path("/proc/self")) == "proc"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"), ("/srv", "ext4"), ("/mnt/data", "nfs4"), ("/mnt/data/deep/er", "nfs4"),
        ("/mnt/database", "ext4"), ("/mnt/data/inner", "xfs"), ("/mnt/with space", "cifs"),
        ("/mnt/dätä", "9p"), ("/mnt/back\\slash", "ceph"), ("/over", "tmpfs"),
    ],
)  # fmt: skip
def test_the_innermost_mount_counts(
    folder: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest point that the folder lies under, as a whole name; of two on one, the later."""
    table = "\n".join(
        f"1 2 0:3 / {point} rw - {kind} source rw"
        for point, kind in [
            ("/", "ext4"), ("/mnt/data", "nfs4"), ("/mnt/data/inner", "xfs"),
            ("/mnt/with\\040space", "cifs"), ("/mnt/dätä", "9p"), ("/mnt/back\\134slash", "ceph"),
            ("/over", "btrfs"), ("/over", "tmpfs"),
        ]
    )  # fmt: skip
    real = Path.read_text

    def read_text(self: Path, *words: str) -> str:
        return table if str(self) == "/proc/self/mountinfo" else real(self, *words)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert file_system(Path(folder)) == kind


# ---- errors

WHERE = Place(Path("/srv/tasks.db"))


def error(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    made = kind("what SQLite says")
    made.sqlite_errorcode = code
    made.sqlite_errorname = "SQLITE_NAME"
    return made


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy),
        (sqlite3.SQLITE_LOCKED, StoreBusy),
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_READONLY, StoreReadOnly),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreGone),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreReadOnly),
        (sqlite3.SQLITE_CANTOPEN, StoreGone),
        (sqlite3.SQLITE_CORRUPT, StoreCorrupt),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt),
        (sqlite3.SQLITE_IOERR_WRITE, StoreError),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreError),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StoreFull),
        (sqlite3.SQLITE_ERROR, StoreError),
    ],
)
def test_each_code_has_its_class(code: int, kind: type[StoreError]) -> None:
    """The message names the file, what SQLite says, and what helps."""
    found = explain(error(code), WHERE)
    assert type(found) is kind
    assert "/srv/tasks.db" in str(found)
    assert "what SQLite says" in str(found)


def test_a_mistake_in_a_row_stays_what_it_is() -> None:
    """Only an illegal move has a name of ours."""
    unique = sqlite3.IntegrityError("UNIQUE constraint failed: inloop_task.id")
    assert explain(unique, WHERE) is unique
    assert type(explain(sqlite3.IntegrityError("illegal move"), WHERE)) is IllegalMove
    wrong = sqlite3.ProgrammingError("you did not supply a value")
    assert not isinstance(explain(wrong, WHERE), StoreError)


# ---- migrations


def test_the_schema_of_a_file_without_one() -> None:
    """0, until it has been migrated."""
    cx = sqlite3.connect(":memory:", isolation_level=None)
    assert place.schema(cx) == 0
    place.migrate(cx)
    assert place.schema(cx) == place.migrations()[-1][0]
    cx.close()
