"""What becomes of the tasks of a dead owner.

Who is dead is asked of the kernel (`owners.py`), never of a clock. Recovery goes page by page, each
page one transaction with its part of the report; it may be cut off anywhere and done again.
"""

import json
import logging
import sqlite3
from typing import Any, NamedTuple

from inloop import _texts as texts
from inloop._errors import IllegalMove
from inloop._exchange import By
from inloop._model import FINAL, ErrorText, Recovered, Recovery, State, to_datetime
from inloop._store import control
from inloop._store.queue import FIRST

log = logging.getLogger("inloop")

_told: set[str] = set()

PAGE = 500
HELD_AFTER = 3


class Orphan(NamedTuple):
    """A task whose owner is gone, with what decides its fate."""

    seq: int
    id: str
    name: str
    state: str
    attempt: int
    asked: str | None
    on_crash: str
    deaths: int
    death_mark: float | None
    done: float | None


class Fate(NamedTuple):
    """What becomes of it. `deaths` is the count of deaths in a row; `counted`: this was one.

    `as_asked`: it is done now on behalf of whoever had asked for it.
    """

    to: State
    deaths: int
    why: str
    first: bool = False
    counted: bool = False
    as_asked: bool = False


def decide(orphan: Orphan, *, died: bool) -> Fate:
    """The fate of a task whose owner died, or (`died` False) was taken over by a person."""
    deaths = orphan.deaths
    if orphan.asked == "cancel":
        return Fate(State.CANCELLED, deaths, "it had been asked to stop", as_asked=True)
    if orphan.asked == "pause":
        return Fate(State.PAUSED, deaths, "it had been asked to pause", as_asked=True)
    if orphan.state == State.PAUSED and orphan.asked == "resume":
        return Fate(State.QUEUED, deaths, "it had been asked to resume", first=True)
    if orphan.state == State.PAUSED:
        return Fate(State.PAUSED, deaths, "it was paused and stays so")
    if orphan.state == State.WAITING:
        return Fate(State.QUEUED, deaths, "it was waiting: it goes on", first=True)
    if orphan.asked == "interrupt":
        return Fate(State.QUEUED, deaths, "it was interrupted by a shutdown", first=True)
    if orphan.on_crash == "fail":
        return Fate(State.FAILED, deaths, "its process is gone, and on_crash is 'fail'")
    if orphan.on_crash == "hold":
        return Fate(State.HELD, deaths, "its process is gone, and on_crash is 'hold'")
    if not died:
        return Fate(State.QUEUED, deaths, "its process was taken over", first=True)
    return _after_death(orphan)


def _after_death(orphan: Orphan) -> Fate:
    mark, done = orphan.death_mark, orphan.done
    deaths = 1 if _has_gone_on(mark, done) else orphan.deaths + 1
    if deaths >= HELD_AFTER:
        why = f"it was running at {deaths} deaths of its process in a row, without progress"
        return Fate(State.HELD, deaths, why, counted=True)
    if deaths > 1:
        why = f"its process died, for the {deaths}nd time in a row: it runs alone among suspects"
        return Fate(State.QUEUED, deaths, why, first=True, counted=True)
    return Fate(State.QUEUED, deaths, "its process died", first=True, counted=True)


def _has_gone_on(mark: float | None, done: float | None) -> bool:
    return done is not None and (mark is None or done > mark)


OPEN_OWNERS = """
select n, id, pid, host, boot from inloop_owner where closed is null and n <> :me
"""

OWNER = "select n, id, pid, host, boot from inloop_owner where id = :id and closed is null"

# Owners that are closed or unknown and still have tasks: an anti-join, so that nobody is forgotten.
ABANDONED = """
select distinct t.owner, coalesce(o.id, '?'), coalesce(o.pid, 0), coalesce(o.host, '?'), ''
from inloop_task as t left join inloop_owner as o on o.n = t.owner
where t.owner is not null and (o.n is null or o.closed is not null)
"""

ORPHANS = """
select seq, id, name, state, attempt, asked, on_crash, deaths, death_mark, done
from inloop_task
where owner = :owner and seq > :after
order by seq
limit :most
"""

SETTLE = """
update inloop_task
set state = :to, owner = null, asked = null,
    deaths = :deaths, death_mark = case when :counted then done else death_mark end,
    rank = case when :first then :rank else -priority end,
    actor = case when :as_asked then actor else 'engine' end,
    reason = case when :as_asked then reason else :reason end,
    moved = :now, writer = :writer,
    paused_from = case when :to = 'paused' then coalesce(paused_from, state) end,
    finished = :finished, error = coalesce(:error, error)
where seq = :seq and owner = :owner and attempt = :attempt
"""

REPORT = """
insert into inloop_recovery (at, owner, pid, host, why, tasks)
values (:now, :id, :pid, :host, :why, :tasks)
"""

CLOSE = "update inloop_owner set closed = :now where n = :n"


class Dead(NamedTuple):
    """The row of an owner that is gone."""

    n: int
    id: str
    pid: int
    host: str
    boot: str


def recover_page(
    cx: sqlite3.Connection, dead: Dead, after: int, why: str, by: By, *, died: bool
) -> tuple[int, int]:
    """Settle a page of a dead owner's tasks from `after` on: how many, and where the next begins.

    The last page (0) closes the owner. A row that cannot be settled does not stop the others.
    """
    rows = cx.execute(ORPHANS, {"owner": dead.n, "after": after, "most": PAGE}).fetchall()
    settled: list[Recovered] = []
    for orphan in (Orphan(*row) for row in rows):
        try:
            settled.append(_settle(cx, orphan, dead, by, died))
        except sqlite3.IntegrityError:
            if orphan.id not in _told:  # it will be found again, every few seconds
                _told.add(orphan.id)
                log.exception("task %s of a dead process cannot be recovered", orphan.id)
    if settled:
        tasks = json.dumps(
            [[task.task_id, task.name, task.attempt, task.to, task.why] for task in settled],
            ensure_ascii=False,
        )
        report = {
            "now": by.now, "id": dead.id, "pid": dead.pid, "host": dead.host, "why": why,
            "tasks": tasks,
        }  # fmt: skip
        cx.execute(REPORT, report)
    if len(rows) < PAGE:
        cx.execute(CLOSE, {"now": by.now, "n": dead.n})
        return len(settled), 0
    return len(settled), int(rows[-1][0])


def _settle(cx: sqlite3.Connection, orphan: Orphan, dead: Dead, by: By, died: bool) -> Recovered:
    fate = decide(orphan, died=died)
    lost = ErrorText("ProcessDied", f"process {dead.pid} on {dead.host} is gone: {fate.why}", "")
    settled: dict[str, Any] = {
        "seq": orphan.seq, "owner": dead.n, "attempt": orphan.attempt, "to": fate.to,
        "deaths": fate.deaths, "counted": fate.counted, "as_asked": fate.as_asked,
        "first": fate.first, "rank": FIRST, "now": by.now, "reason": fate.why, "writer": by.writer,
        "finished": by.now if fate.to in FINAL else None,
        "error": texts.dump_error(lost) if fate.to in (State.FAILED, State.HELD) else None,
    }  # fmt: skip
    cx.execute(SETTLE, settled)
    return Recovered(orphan.id, orphan.name, orphan.attempt, fate.to, fate.why)


def fence(cx: sqlite3.Connection, owner_id: str, by: By) -> Dead:
    """Close an owner that a person gives up: from now on it can neither claim nor end anything."""
    row = cx.execute(OWNER, {"id": owner_id}).fetchone()
    if row is None:
        raise IllegalMove(f"there is no open owner {owner_id!r}: see `await tasks.owners()`")
    if row[0] == by.writer:
        raise IllegalMove(f"owner {owner_id!r} is this process itself: close its manager instead")
    control.audit(cx, "take_over", owner_id, by)
    cx.execute(CLOSE, {"now": by.now, "n": row[0]})
    return Dead(*row)


REPORTS = """
select at, owner, pid, host, why, tasks from inloop_recovery order by n desc limit :most
"""


def reports(cx: sqlite3.Connection, most: int) -> list[Recovery]:
    """The newest reports first."""
    return [
        Recovery(
            to_datetime(at), owner, pid, host, why,
            tuple(Recovered(i, name, n, State(s), how) for i, name, n, s, how in json.loads(all_)),
        )
        for at, owner, pid, host, why, all_ in cx.execute(REPORTS, {"most": most}).fetchall()
    ]  # fmt: skip
