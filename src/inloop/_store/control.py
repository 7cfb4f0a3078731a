"""What a person or code does to a task: each verb reads the row, decides, and writes, all in one
transaction, so that nothing can come between.

A task that an attempt of a living owner has in hand is only *asked*: its owner obeys. Every other
is moved at once.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from inloop import _texts as texts
from inloop._errors import IllegalMove, TaskNotFound
from inloop._exchange import By
from inloop._model import FINAL, ErrorText, Micros, State
from inloop._store.queue import FIRST, HOLDER


class Row(NamedTuple):
    """What the verbs decide by."""

    seq: int
    id: str
    name: str
    state: State
    attempt: int
    owner: int | None
    asked: str | None
    paused_from: str | None
    due: Micros
    expires: Micros | None
    deleted: Micros | None
    key: str | None


GET = """
select seq, id, name, state, attempt, owner, asked, paused_from, due, expires, deleted, key
from inloop_task where id = :id
"""

ASK = """
update inloop_task
set asked = :verb, moved = :now, actor = :actor, reason = :reason, writer = :writer
where seq = :seq
"""

MOVE = """
update inloop_task
set state = :to, moved = :now, actor = :actor, reason = :reason, writer = :writer,
    owner = null, asked = null, paused_from = :paused_from, finished = :finished,
    rank = case when :first then :rank else rank end, error = coalesce(:error, error)
where seq = :seq
"""

RETRY = """
update inloop_task
set state = 'queued', moved = :now, actor = :actor, reason = :reason, writer = :writer,
    failures = 0, deaths = 0, death_mark = null, due = :now, rank = -priority,
    expires = :expires, finished = null, result = null, error = null,
    done = null, total = null, message = null, asked = null, paused_from = null
where seq = :seq
"""

RESCHEDULE = """
update inloop_task
set state = :to, paused_from = :paused_from, due = :due, expires = :expires,
    moved = :now, actor = :actor, reason = :reason, writer = :writer
where seq = :seq
"""

HIDE = "update inloop_task set deleted = :deleted where seq = :seq"

AUDIT = """
insert into inloop_audit (at, actor, action, target, reason)
values (:now, :actor, :action, :target, :reason)
"""


def find(cx: sqlite3.Connection, task_id: str) -> Row:
    """The row of a task; `TaskNotFound` if there is none."""
    row = cx.execute(GET, {"id": task_id}).fetchone()
    if row is None:
        raise TaskNotFound(task_id)
    return Row(row[0], row[1], row[2], State(row[3]), *row[4:])


def audit(cx: sqlite3.Connection, action: str, target: str, by: By) -> None:
    """Remember who did what to which target."""
    cx.execute(AUDIT, _by(by) | {"action": action, "target": target})


def _by(by: By) -> dict[str, Any]:
    return {"now": by.now, "actor": by.actor, "reason": by.reason, "writer": by.writer}


def _ask(cx: sqlite3.Connection, row: Row, verb: str, by: By) -> None:
    if row.asked != verb:
        cx.execute(ASK, _by(by) | {"seq": row.seq, "verb": verb})


def _move(
    cx: sqlite3.Connection,
    row: Row,
    to: State,
    by: By,
    *,
    paused_from: State | None = None,
    first: bool = False,
    error: ErrorText | None = None,
) -> None:
    finished = by.now if to in FINAL else None
    cx.execute(
        MOVE,
        _by(by)
        | {
            "seq": row.seq, "to": to, "paused_from": paused_from, "finished": finished,
            "first": first, "rank": FIRST, "error": texts.dump_error(error),
        },
    )  # fmt: skip


def cancel(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """False: it has already finished."""
    if row.state in FINAL:
        return False
    if row.owner is not None:
        _ask(cx, row, "cancel", by)
    else:
        _move(cx, row, State.CANCELLED, by)
    return True


def pause(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """False: it has already finished."""
    if row.state in FINAL:
        return False
    if row.state is State.HELD:
        raise IllegalMove(f"task {row.id} is held and cannot be paused: retry it or fail it")
    if row.asked == "cancel":
        raise IllegalMove(f"task {row.id} is being cancelled and cannot be paused")
    if row.state is State.PAUSED:
        if row.asked == "resume":
            _call_off(cx, row, by)
    elif row.owner is not None:
        _ask(cx, row, "pause", by)
    else:
        _move(cx, row, State.PAUSED, by, paused_from=row.state)
    return True


def _call_off(cx: sqlite3.Connection, row: Row, by: By) -> None:
    cx.execute(ASK, _by(by) | {"seq": row.seq, "verb": None})


def resume(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """False: it has already finished. A task that is not paused stays as it is."""
    if row.state in FINAL:
        return False
    if row.state is State.HELD:
        raise IllegalMove(f"task {row.id} is held, not paused: retry it or fail it")
    if row.owner is not None:
        held_up = row.state is State.PAUSED or row.asked == "pause"
        if held_up and row.asked != "cancel":
            _ask(cx, row, "resume", by)
    elif row.state is State.PAUSED:
        before = State(row.paused_from or State.QUEUED)
        # The attempt that was paused is gone: another one takes its place, before all others.
        gone = before is State.RUNNING
        _move(cx, row, State.QUEUED if gone else before, by, first=gone)
    return True


def retry(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """Start it anew: a new attempt, failures and deaths counted from zero."""
    if row.deleted is not None:
        raise IllegalMove(f"task {row.id} is deleted: restore it first")
    if row.state not in FINAL and row.state is not State.HELD:
        raise IllegalMove(
            f"task {row.id} is {row.state}: only a failed, cancelled, held or succeeded one is "
            f"retried"
        )
    if row.key is not None and row.state in FINAL:
        holder = cx.execute(HOLDER, {"name": row.name, "key": row.key}).fetchone()
        if holder is not None:
            raise IllegalMove(
                f"task {row.id} cannot be retried: its key {row.key!r} is held by the unfinished "
                f"task {holder[0]}; cancel that one, or wait for it"
            )
    expires = None if row.expires is None else by.now + row.expires - row.due
    cx.execute(RETRY, _by(by) | {"seq": row.seq, "expires": expires})
    return True


def fail(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """End a held task as failed."""
    if row.state is not State.HELD:
        raise IllegalMove(f"task {row.id} is {row.state}: only a held task is failed by decision")
    text = ErrorText("Failed", by.reason or f"failed by {by.actor}", "")
    _move(cx, row, State.FAILED, by, error=text)
    return True


def reschedule(cx: sqlite3.Connection, row: Row, by: By, at: Micros | None) -> bool:
    """Let it be due at another instant, or now."""
    due = by.now if at is None else at
    stands = State.SCHEDULED if due > by.now else State.QUEUED
    waiting = (State.SCHEDULED, State.QUEUED)
    expires = None if row.expires is None else due + row.expires - row.due
    new = _by(by) | {"seq": row.seq, "due": due, "expires": expires}
    if row.state in waiting:
        cx.execute(RESCHEDULE, new | {"to": stands, "paused_from": None})
    elif row.state is State.PAUSED and row.paused_from in waiting:
        cx.execute(RESCHEDULE, new | {"to": State.PAUSED, "paused_from": stands})
    else:
        raise IllegalMove(
            f"task {row.id} is {row.state}: only a scheduled or queued one can be rescheduled"
        )
    return True


def delete(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """Hide a finished task; pruning removes it later. False: it was deleted already."""
    if row.state not in FINAL:
        raise IllegalMove(f"task {row.id} is {row.state}: cancel it before you delete it")
    if row.deleted is not None:
        return False
    cx.execute(HIDE, {"seq": row.seq, "deleted": by.now})
    return True


def restore(cx: sqlite3.Connection, row: Row, by: By) -> bool:
    """Bring a deleted task back. False: it was not deleted."""
    if row.deleted is None:
        return False
    cx.execute(HIDE, {"seq": row.seq, "deleted": None})
    return True


Verb = Callable[[sqlite3.Connection, Row, By], bool]

VERBS: dict[str, Verb] = {
    "cancel": cancel,
    "pause": pause,
    "resume": resume,
    "retry": retry,
    "fail": fail,
    "delete": delete,
    "restore": restore,
}


def control(cx: sqlite3.Connection, verb: str, task_id: str, by: By) -> bool:
    """One verb on one task, with its line in the audit."""
    done = VERBS[verb](cx, find(cx, task_id), by)
    audit(cx, verb, task_id, by)
    return done


def control_many(cx: sqlite3.Connection, verb: str, ids: list[str], by: By) -> int:
    """One verb on many tasks; those whose state does not allow it (any more) are passed over."""
    done = 0
    for task_id in ids:
        try:
            done += VERBS[verb](cx, find(cx, task_id), by)
        except (IllegalMove, TaskNotFound):
            continue
    return done


# ---- queues ---------------------------------------------------------------------------------

PAUSE_QUEUE = """
insert into inloop_pause (queue, at, until, actor, reason)
values (:queue, :now, :until, :actor, :reason)
on conflict do update set at = :now, until = :until, actor = :actor, reason = :reason
"""

RESUME_QUEUE = "delete from inloop_pause where queue = :queue"

SET_QUEUE = """
insert into inloop_queue (name, concurrency) values (:name, :concurrency)
on conflict do update set concurrency = :concurrency
"""


def pause_queue(cx: sqlite3.Connection, queue: str, until: Micros | None, by: By) -> None:
    """Start nothing new in this queue ('': in any)."""
    cx.execute(PAUSE_QUEUE, _by(by) | {"queue": queue, "until": until})
    audit(cx, "pause_queue" if queue else "pause_all", queue, by)


def resume_queue(cx: sqlite3.Connection, queue: str, by: By) -> None:
    """Lift the pause of this queue ('': of everything); queues paused by name stay so."""
    cx.execute(RESUME_QUEUE, {"queue": queue})
    audit(cx, "resume_queue" if queue else "resume_all", queue, by)


def set_queue(cx: sqlite3.Connection, name: str, concurrency: int | None, by: By) -> None:
    """Change a queue's slots at run time; None: back to what the code says."""
    cx.execute(SET_QUEUE, {"name": name, "concurrency": concurrency})
    audit(cx, "set_queue", f"{name}: concurrency={concurrency}", by)
