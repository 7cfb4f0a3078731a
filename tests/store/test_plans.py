"""The plan of every hot statement: it walks no table that grows, and sorts nothing aside.

A new statement fails here until it is put into one of the two lists below.
"""

import ast
import importlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from inloop._store import place
from inloop._store.rows import values

# Run for every task, every wake of the engine, every look of the keeper, or every read by id.
HOT = {
    "attempts": {
        "END", "PAUSE_RUNNING", "RESUME_RUNNING", "PLACE_OF", "ANSWERED", "INTERRUPTED",
        "LEAVE_PAUSED", "ASKS", "PROGRESS", "LOG", "TOO_LONG", "TRIM", "OVERRUN", "UNHEARD",
    },
    "connections": {"REGISTER", "OPEN_IDS", "LEAVE"},
    "control": {
        "GET", "ASK", "MOVE", "RETRY", "RESCHEDULE", "HIDE", "AUDIT", "PAUSE_QUEUE",
        "RESUME_QUEUE", "SET_QUEUE",
    },
    "housekeeping": {
        "OLD", "OLDEST", "OLDEST_HIDDEN", "OLDEST_KEPT", "HIDDEN", "REMOVE", "KNOW", "HOLD_UNKNOWN",
    },
    "keeper": {"BEAT"},
    "queue": {
        "ADD", "HOLDER", "PROMOTE", "IS_ANY_DUE", "IS_PAUSED", "IS_OPEN", "RUNNING", "LANES",
        "LANES_OF_QUEUE", "LANE", "SUSPECTS", "CLAIM", "EXPIRE", "NEXT_DUE", "NEXT_UNPAUSE",
        "NEXT_EXPIRY", "KEPT", "QUEUE_LIMITS",
    },
    "read": {
        "GET", "FIND", "FIND_IDS", "ENDED", "EXISTING", "UNFINISHED_DUE", "EVENTS", "EVENTS_AFTER",
        "LAST_EVENT", "LOGS", "PAUSES", "AUDITS", "OWNERS",
    },
    "recovery": {"OPEN_OWNERS", "OWNER", "ORPHANS", "SETTLE", "REPORT", "CLOSE"},
}  # fmt: skip

# Statements that may walk or sort, each with its reason.
COLD = {
    ("housekeeping", "UNKNOWN"): "once a minute, over the counters: as many as queues and names",
    ("housekeeping", "OLD_OWNERS"): "at the end of a pruning, over owners: few",
    ("housekeeping", "OLD_REPORTS"): "at the end of a pruning, over reports: few",
    ("housekeeping", "OLD_AUDITS"): "at the end of a pruning; the audit needs no index else",
    ("place", "HAS_META"): "once, at open",
    ("read", "COUNTS"): "for a page, over the counters: as many as states, queues and names",
    ("recovery", "ABANDONED"): "every 5 s; of tasks only those in hand; `distinct` over owners",
    ("recovery", "REPORTS"): "for a page: the newest few, by primary key",
}

# SQL that is written in place: the beginning of the statement, and the reason.
IN_PLACE = {
    "insert into inloop_meta": "once, at a migration",
    "select value from inloop_meta": "once, at open",
    "select 1 from inloop_task where id = :id": "by the unique index on id",
}

# Partial indexes that hold only the rows the statement wants: walking them is the point.
WALKS = {
    ("OLDEST_KEPT", "inloop_task_kept"): "from the first that may go, to one past its retention",
    ("PLACE_OF", "inloop_task_suspect"): "of a suspect only: whether another one runs",
    ("SUSPECTS", "inloop_task_suspect"): "suspects are few, and the one to run is the first",
}

GROWS = {"inloop_task", "inloop_event", "inloop_log", "inloop_audit", "t", "e"}
IS_SQL = re.compile(r"\s*(select|insert into|update|delete from|with \w+ as)\b")
FOLDER = Path(place.__file__).parent


class Unbound(dict[str, None]):
    """Every named parameter as null: a plan does not depend on values."""

    def __missing__(self, key: str) -> None:
        return None


def found() -> tuple[dict[tuple[str, str], str], list[str]]:
    """Every statement of the store: those with a name, and those written in place."""
    named: dict[tuple[str, str], str] = {}
    in_place: list[str] = []
    for file in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(file.read_text())
        module = importlib.import_module(f"inloop._store.{file.stem}")
        at_top: set[int] = set()
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                text = getattr(module, name, None)
                if name.isupper() and isinstance(text, str) and IS_SQL.match(text):
                    named[file.stem, name] = text
                    at_top.update(map(id, ast.walk(node.value)))
        for inner in ast.walk(tree):
            if not isinstance(inner, ast.Constant) or not isinstance(inner.value, str):
                continue
            if id(inner) not in at_top and IS_SQL.match(inner.value):
                in_place.append(" ".join(inner.value.split()))
    return named, in_place


STATEMENTS, WRITTEN_IN_PLACE = found()
CHECKED = [(module, name) for module in sorted(HOT) for name in sorted(HOT[module])]


def test_every_statement_is_in_a_list() -> None:
    """A new hot statement is checked below, a cold one has its reason above."""
    listed = {*CHECKED, *COLD}
    assert set(STATEMENTS) - listed == set(), "add them to HOT, or to COLD with a reason"
    assert listed - set(STATEMENTS) == set(), "they are gone"
    unknown = [sql for sql in WRITTEN_IN_PLACE if not sql.startswith(tuple(IN_PLACE))]
    assert unknown == [], "give it a name at the top of its module"


@pytest.fixture(scope="module", params=["plain", "analyzed"])
def cx(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    """A store as it is made, and one that its app has filled and had analyzed."""
    cx = sqlite3.connect(":memory:", isolation_level=None)
    place.migrate(cx)
    if request.param == "analyzed":
        fill(cx)
        cx.execute("analyze")
    yield cx
    cx.close()


def fill(cx: sqlite3.Connection) -> None:
    """Tasks as they are after a while: most have ended, some are due, a few run."""
    cx.execute("begin")
    insert = (
        "insert into inloop_task (id, name, queue, state, rank, priority, due, attempt, owner,"
        " created, moved, actor, key, arguments)"
        " values (?, ?, ?, 'running', 0, 0, ?, 1, 1, ?, 0, 'code', ?, '{}')"
    )
    for n in range(4000):
        row = (f"t{n}", f"f{n % 7}", f"q{n % 3}", n, n, f"k{n}" if n % 2 else None)
        cx.execute(insert, row)
    states = [
        ("succeeded", "seq % 20 between 0 and 13"), ("failed", "seq % 20 = 14"),
        ("cancelled", "seq % 20 = 15"), ("queued", "seq % 20 = 16"), ("scheduled", "seq % 20 = 17"),
        ("paused", "seq % 200 = 18"), ("held", "seq % 200 = 38"),
    ]  # fmt: skip
    for state, where in states:
        finished = "seq" if state in ("succeeded", "failed", "cancelled") else "null"
        cx.execute(
            f"update inloop_task set state = '{state}', owner = null, finished = {finished} "
            f"where {where}"
        )
    cx.execute("update inloop_task set deaths = 2 where seq % 400 = 16")
    cx.execute("update inloop_task set asked = 'cancel' where seq % 100 = 19")
    cx.execute("update inloop_task set deleted = seq where seq % 200 = 0")
    cx.execute(
        "insert into inloop_log (task, attempt, at, level, logger, text) "
        "select seq % 50, 1, 1, 20, 'app', 'text' from inloop_task"
    )
    cx.execute("commit")


def plan(cx: sqlite3.Connection, sql: str) -> list[str]:
    return [row[3] for row in cx.execute(f"explain query plan {sql}", Unbound()).fetchall()]


def faults(lines: list[str], name: str) -> list[str]:
    """The lines of a plan that a hot statement must not have."""
    wrong = []
    for line in lines:
        scanned = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", line)
        walks = scanned is not None and scanned[1] in GROWS
        if walks and scanned is not None and (name, scanned[2]) in WALKS:
            continue
        if walks or "TEMP B-TREE" in line:
            wrong.append(line)
    return wrong


@pytest.mark.parametrize(("module", "name"), CHECKED, ids=lambda word: word)
def test_a_hot_statement_walks_and_sorts_nothing(
    cx: sqlite3.Connection, module: str, name: str
) -> None:
    """No scan of a table that grows, no temporary b-tree."""
    sql = STATEMENTS[module, name]
    columns = getattr(importlib.import_module(f"inloop._store.{module}"), f"{name}_COLUMNS", None)
    if columns is not None:
        sql = values(sql, 3, columns)
    lines = plan(cx, sql.replace("?", ":value"))
    assert faults(lines, name) == [], "\n".join(lines)


def test_what_may_not_be_is_seen(cx: sqlite3.Connection) -> None:
    """The check itself finds a scan and a sort."""
    assert faults(plan(cx, "select 1 from inloop_task where message = 'x'"), "A")
    assert faults(plan(cx, "select 1 from inloop_event as e where reason = 'x'"), "A")
    assert faults(plan(cx, "select 1 from inloop_task where state = 'held' order by id"), "A")
    assert not faults(plan(cx, "select 1 from inloop_pause"), "A")


def test_triggers_walk_nothing(cx: sqlite3.Connection) -> None:
    """What the triggers do for every row is found by index, too."""
    triggers = cx.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    checked = 0
    for name, sql in triggers:
        body = re.search(r"\bbegin\b(.*)\bend\b", sql, re.DOTALL | re.IGNORECASE)
        assert body is not None
        for statement in filter(None, (part.strip() for part in body[1].split(";"))):
            text = re.sub(r"raise\s*\(.*?\)", "1", statement)
            lines = plan(cx, re.sub(r"\b(?:new|old)\.\w+", ":value", text))
            assert faults(lines, name) == [], f"{name}: {statement}\n" + "\n".join(lines)
            checked += 1
    assert checked > 10
