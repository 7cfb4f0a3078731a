"""What can be read: tasks, their history and logs, counters, owners. No statement here writes."""

import base64
import json
import sqlite3
from datetime import timedelta
from typing import Any

from inloop import _texts as texts
from inloop._errors import TaskNotFound
from inloop._exchange import Ended, Filter
from inloop._model import (
    Attempt,
    AuditEntry,
    Event,
    LogLine,
    Micros,
    Page,
    Pause,
    Progress,
    State,
    Task,
    to_datetime,
)

COLUMNS = """
t.seq, t.id, t.name, t.queue, t.state, t.priority, t.attempt, t.failures, t.due, t.created, t.moved,
t.started, t.finished, t.actor, t.reason, t.key, t.tags, t.asked, o.id, t.paused_from, t.deleted,
t.expires, t.done, t.total, t.message, t.error, t.arguments, t.result
"""

GET = f"""
select {COLUMNS}
from inloop_task as t left join inloop_owner as o on o.n = t.owner
where t.id = :id
"""

WANTED = """
where t.seq < :before
  and t.deleted is null
  and (:states is null or t.state in (select value from json_each(:states)))
  and (:name is null or t.name = :name)
  and (:queue is null or t.queue = :queue)
  and (:since is null or t.created >= :since)
  and (:until is null or t.created < :until)
  and (:tag is null or exists (select 1 from json_each(t.tags) where value = :tag))
  and (:text is null
       or instr(lower(t.name), :text) or instr(t.id, :text) or instr(lower(t.key), :text)
       or instr(lower(t.arguments), :text) or instr(lower(t.error), :text))
order by t.seq desc
limit :most
"""

FIND = f"""
select {COLUMNS}
from inloop_task as t left join inloop_owner as o on o.n = t.owner
{WANTED}
"""

FIND_IDS = f"select t.seq, t.id from inloop_task as t {WANTED}"

ENDED = """
select id, name, state, attempt, result, error, reason from inloop_task
where id in (select value from json_each(:ids)) and finished is not null
"""

EXISTING = "select id from inloop_task where id in (select value from json_each(:ids))"

COUNTS = """
select queue, state, sum(n) from inloop_count where n > 0 group by queue, state order by queue
"""

UNFINISHED_DUE = """
select (select coalesce(sum(n), 0) from inloop_count where state in ('queued', 'running'))
     + (select count(*) from inloop_task where state = 'scheduled' and due <= :now)
"""

EVENTS = """
select e.id, t.id, e.what, e.at, e.origin, e.state, e.attempt, e.actor, e.reason, e.error
from inloop_event as e join inloop_task as t on t.seq = e.task
where e.task = (select seq from inloop_task where id = :id)
order by e.id
"""

EVENTS_AFTER = """
select e.id, t.id, e.what, e.at, e.origin, e.state, e.attempt, e.actor, e.reason, e.error
from inloop_event as e join inloop_task as t on t.seq = e.task
where e.id > :after
order by e.id
limit :most
"""

LAST_EVENT = "select coalesce(max(id), 0) from inloop_event"

LOGS = """
select n, attempt, at, level, logger, text from inloop_log
where task = (select seq from inloop_task where id = :id) and n > :after
order by n
limit :most
"""

PAUSES = """
select queue, at, until, actor, reason from inloop_pause
where until is null or until > :now order by queue
"""

AUDITS = """
select id, at, actor, action, target, reason from inloop_audit
where id < :before order by id desc limit :most
"""

OWNERS = """
select o.n, o.id, o.pid, o.host, o.boot, o.started, o.heartbeat,
       (select count(*) from inloop_task where owner = o.n)
from inloop_owner as o where o.closed is null order by o.n
"""

NEWEST = (1 << 63) - 1


def task(row: tuple[Any, ...]) -> Task:
    """A task from its row."""
    (
        _, id_, name, queue, state, priority, attempt, failures, due, created, moved,
        started, finished, actor, reason, key, tags, asked, owner, paused_from, deleted,
        expires, done, total, message, error, arguments, result,
    ) = row  # fmt: skip
    return Task(
        id=id_,
        name=name,
        queue=queue,
        state=State(state),
        priority=priority,
        attempt=attempt,
        failures=failures,
        due=to_datetime(due),
        created=to_datetime(created),
        moved=to_datetime(moved),
        started=None if started is None else to_datetime(started),
        finished=None if finished is None else to_datetime(finished),
        actor=actor,
        reason=reason,
        key=key,
        tags=texts.load_tags(tags),
        asked=asked,
        owner=owner,
        paused_from=None if paused_from is None else State(paused_from),
        deleted=None if deleted is None else to_datetime(deleted),
        expires=None if expires is None else timedelta(microseconds=expires - due),
        progress=None if done is None else Progress(done, total, message),
        error=texts.load_error(error),
        arguments_json=arguments,
        result_json=result,
    )


def get(cx: sqlite3.Connection, task_id: str) -> Task:
    """One task."""
    row = cx.execute(GET, {"id": task_id}).fetchone()
    if row is None:
        raise TaskNotFound(task_id)
    return task(row)


def ended(cx: sqlite3.Connection, ids: list[str]) -> dict[str, Ended | None]:
    """Those of these tasks that have finished; None for one that is not there."""
    wanted = {"ids": json.dumps(ids)}
    there = {i for (i,) in cx.execute(EXISTING, wanted).fetchall()}
    found: dict[str, Ended | None] = {i: None for i in ids if i not in there}
    for id_, name, state, attempt, result, error, reason in cx.execute(ENDED, wanted).fetchall():
        text = texts.load_error(error)
        found[id_] = Ended(id_, name, State(state), attempt, result, text, reason)
    return found


def find(cx: sqlite3.Connection, wanted: Filter, limit: int, cursor: str | None) -> Page[Task]:
    """Tasks that fit, newest first."""
    rows, more = _page(cx, FIND, wanted, limit, cursor)
    return Page(tuple(task(row) for row in rows), more)


def find_ids(cx: sqlite3.Connection, wanted: Filter, limit: int, cursor: str | None) -> Page[str]:
    """Their ids."""
    rows, more = _page(cx, FIND_IDS, wanted, limit, cursor)
    return Page(tuple(row[1] for row in rows), more)


def _page(
    cx: sqlite3.Connection, sql: str, wanted: Filter, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    states = None if wanted.states is None else json.dumps(sorted(wanted.states))
    rows = cx.execute(
        sql,
        {
            "before": NEWEST if cursor is None else load_cursor(cursor),
            "states": states, "name": wanted.name, "queue": wanted.queue, "tag": wanted.tag,
            "text": None if wanted.text is None else lower_ascii(wanted.text),
            "since": wanted.since, "until": wanted.until, "most": limit + 1,
        },
    ).fetchall()  # fmt: skip
    more = len(rows) > limit
    rows = rows[:limit]
    return rows, dump_cursor(rows[-1][0]) if more else None


def lower_ascii(text: str) -> str:
    """As SQLite's `lower` does it: letters beyond ASCII stay as they are."""
    return text.translate(_LOWER)


_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def dump_cursor(seq: int) -> str:
    """An opaque word for a place in a listing."""
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def load_cursor(cursor: str) -> int:
    """The place; `ValueError` for a word that no listing gave."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if text[:1] == "s" and text[1:].isdecimal():
            seq = min(int(text[1:]), NEWEST)
            if dump_cursor(seq) == cursor:
                return seq
    except ValueError:  # not base64, or not text
        pass
    raise ValueError(f"cursor={cursor!r}: must be the `next` of an earlier page")


def counts(cx: sqlite3.Connection) -> dict[str, dict[State, int]]:
    """How many tasks are in each state, by queue."""
    found: dict[str, dict[State, int]] = {}
    for queue, state, n in cx.execute(COUNTS).fetchall():
        found.setdefault(queue, {})[State(state)] = n
    return found


def unfinished_due(cx: sqlite3.Connection, now: Micros) -> int:
    """How many are running, queued, or due."""
    (n,) = cx.execute(UNFINISHED_DUE, {"now": now}).fetchone()
    return int(n)


def event(row: tuple[Any, ...]) -> Event:
    """An event from its row."""
    id_, task_id, what, at, origin, state, attempt, actor, reason, error = row
    return Event(
        task_id=task_id,
        what=what,
        at=to_datetime(at),
        origin=None if origin is None else State(origin),
        to=State(state),
        attempt=attempt,
        actor=actor,
        reason=reason,
        error=texts.load_error(error),
        id=id_,
    )


def events(cx: sqlite3.Connection, task_id: str) -> list[Event]:
    """The history of one task."""
    found = [event(row) for row in cx.execute(EVENTS, {"id": task_id}).fetchall()]
    return found or _none(cx, task_id)


def events_after(cx: sqlite3.Connection, after: int, most: int) -> list[Event]:
    """The history of all tasks from a place on."""
    rows = cx.execute(EVENTS_AFTER, {"after": after, "most": most}).fetchall()
    return [event(row) for row in rows]


def last_event(cx: sqlite3.Connection) -> int:
    """The newest place in the history."""
    (n,) = cx.execute(LAST_EVENT).fetchone()
    return int(n)


def _none(cx: sqlite3.Connection, task_id: str) -> list[Any]:
    if cx.execute("select 1 from inloop_task where id = :id", {"id": task_id}).fetchone() is None:
        raise TaskNotFound(task_id)
    return []


def _is_end(event: Event) -> bool:
    return event.what == "ended" or event.to not in _IN_HAND


_IN_HAND = frozenset({State.RUNNING, State.PAUSED, State.WAITING})


def attempts(history: list[Event]) -> list[Attempt]:
    """The attempts that a task's history tells of."""
    found: dict[int, Attempt] = {}
    for moved in history:
        if moved.what not in ("moved", "ended") or moved.attempt == 0:
            continue
        n = moved.attempt
        if n not in found and moved.to is State.RUNNING:
            found[n] = Attempt(n, moved.at, None, None, None, None)
        elif n in found and found[n].ended is None and _is_end(moved):
            started = found[n].started
            found[n] = Attempt(n, started, moved.at, moved.to, moved.reason, moved.error)
    return list(found.values())


def logs(cx: sqlite3.Connection, task_id: str, after: int, limit: int) -> list[LogLine]:
    """Lines of one task's log."""
    rows = cx.execute(LOGS, {"id": task_id, "after": after, "most": limit}).fetchall()
    if not rows:
        return _none(cx, task_id)
    return [LogLine(n, attempt, to_datetime(at), *rest) for n, attempt, at, *rest in rows]


def pauses(cx: sqlite3.Connection, now: Micros) -> list[Pause]:
    """What is paused now, everything first."""
    return [
        Pause(queue or None, to_datetime(at), None if until is None else to_datetime(until), *rest)
        for queue, at, until, *rest in cx.execute(PAUSES, {"now": now}).fetchall()
    ]


def audits(cx: sqlite3.Connection, before: int, limit: int) -> list[AuditEntry]:
    """Acts of control, newest first."""
    rows = cx.execute(AUDITS, {"before": before, "most": limit}).fetchall()
    return [AuditEntry(id_, to_datetime(at), *rest) for id_, at, *rest in rows]
