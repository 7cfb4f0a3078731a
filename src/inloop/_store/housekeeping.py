"""What is done now and then: removing old tasks, and setting aside work that nobody here knows."""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from inloop._exchange import By
from inloop._model import Micros, State

# A key that still answers for a finished task outlives the task's retention.
OLD = """
select seq from inloop_task
where state = :state and finished is not null and finished <= :before
  and (keep is null or finished + keep <= :now)
order by finished
limit :most
"""

OLDEST = """
select finished from inloop_task
where state = :state and finished is not null and keep is null
order by finished
limit 1
"""

# Kept for their keys: walked from the first that may go, up to one that is past its retention too.
OLDEST_KEPT = """
select max(finished + keep, finished + :retention) from inloop_task
where finished is not null and keep is not null and +state = :state
order by finished + keep
limit 1
"""

OLDEST_HIDDEN = "select min(deleted) from inloop_task where deleted is not null"

HIDDEN = """
select seq from inloop_task where deleted is not null and deleted <= :before limit :most
"""

REMOVE = "delete from inloop_task where seq in (select value from json_each(:seqs))"

OLD_OWNERS = "delete from inloop_owner where closed < :before"
OLD_REPORTS = "delete from inloop_recovery where at < :before"
OLD_AUDITS = "delete from inloop_audit where at < :before"

KNOW = "update inloop_owner set functions = :functions where n = :me"

UNKNOWN = """
select distinct name from inloop_count
where state = 'queued' and n > 0
  and name not in (
    select f.value from inloop_owner as o, json_each(o.functions) as f where o.closed is null
  )
"""

# By lane, as the index is. A suspect whose function is unknown stays queued: nobody runs it.
HOLD_UNKNOWN = """
update inloop_task
set state = 'held', moved = :now, actor = :actor, writer = :writer,
    reason = 'no running process knows a task function named ' || name
where state = 'queued' and deaths < 2 and name = :name and due < :before
  and queue in (select queue from inloop_count where state = 'queued' and name = :name and n > 0)
"""


def prune(
    cx: sqlite3.Connection, before: dict[State, Micros], hidden: Micros, now: Micros, most: int
) -> int:
    """Remove up to `most` tasks that are old enough; their events and logs go with them."""
    removed = 0
    for state, instant in before.items():
        old = {"state": state, "before": instant, "now": now, "most": most - removed}
        removed += _remove(cx, cx.execute(OLD, old).fetchall())
    gone = {"before": hidden, "most": most - removed}
    removed += _remove(cx, cx.execute(HIDDEN, gone).fetchall())
    return removed


def prune_records(cx: sqlite3.Connection, before: Micros) -> None:
    """Remove what is told of longer ago: closed owners, recovery reports, the audit."""
    for sql in (OLD_OWNERS, OLD_REPORTS, OLD_AUDITS):
        cx.execute(sql, {"before": before})


def _remove(cx: sqlite3.Connection, rows: list[tuple[int]]) -> int:
    if not rows:
        return 0
    seqs = "[" + ",".join(str(seq) for (seq,) in rows) + "]"
    return cx.execute(REMOVE, {"seqs": seqs}).rowcount


def dump_names(names: Sequence[str]) -> str:
    """Names of task functions, as they are stored with their owner."""
    return json.dumps(sorted(names), ensure_ascii=False)


def know(cx: sqlite3.Connection, me: int, functions: Sequence[str]) -> None:
    """Publish which task functions this owner can run."""
    cx.execute(KNOW, {"me": me, "functions": dump_names(functions)})


def hold_unknown(cx: sqlite3.Connection, before: Micros, by: By) -> tuple[bool, int]:
    """Hold what has been due for long and no open owner knows; is there any, and how many."""
    held = 0
    unknown = cx.execute(UNKNOWN).fetchall()
    for (name,) in unknown:
        row = {
            "name": name, "before": before, "now": by.now, "actor": by.actor, "writer": by.writer,
        }  # fmt: skip
        held += cx.execute(HOLD_UNKNOWN, row).rowcount
    return bool(unknown), held


def next_prune(
    cx: sqlite3.Connection, retention: Mapping[State, Micros | None], undo: Micros
) -> Micros | None:
    """The instant from which there will be something to prune."""
    due: list[Micros] = []
    for state, keep in retention.items():
        finished = cx.execute(OLDEST, {"state": state}).fetchone()
        if finished is not None and keep is not None:
            due.append(finished[0] + keep)
        if keep is not None:
            kept = cx.execute(OLDEST_KEPT, {"state": state, "retention": keep}).fetchone()
            due += kept or ()
    (deleted,) = cx.execute(OLDEST_HIDDEN).fetchone()
    if deleted is not None:
        due.append(deleted + undo)
    return min(due, default=None)
