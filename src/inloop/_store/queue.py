"""The way in and the way to run: add and claim, each a part of one transaction in the thread."""

import sqlite3
from typing import Any

from inloop._exchange import Added, Claimed, Grant, Lanes, NewTask
from inloop._model import Micros
from inloop._store.protocol import Fenced
from inloop._store.rows import chunks, values

# Interrupted work comes before everything else in its queue.
FIRST = -(1 << 62)
PROMOTED_AT_ONCE = 500

# ---- add ------------------------------------------------------------------------------------

ADD = """
insert into inloop_task (
  id, name, queue, state, rank, priority, due, attempt, owner, created, moved, actor, reason,
  writer, started, expires, key, keep, tags, parent, on_crash, options, arguments
) values {rows}
returning seq
"""
ADD_COLUMNS = 23

# The words of both are those of their indexes: at most one row has the first, and the second is
# walked from its newest.
HOLDER = """
select id from inloop_task
where name = :name and key = :key
  and state in ('scheduled', 'queued', 'running', 'waiting', 'paused', 'held')
"""

KEPT = """
select id from inloop_task
where name = :name and key = :key and key is not null
  and finished is not null and finished + :keep >= :now and deleted is null
order by seq desc
limit 1
"""


def add_row(new: NewTask, owner: int | None, writer: int | None) -> tuple[Any, ...]:
    """The columns of a new task; `owner` starts it at once."""
    running = owner is not None
    waits = "scheduled" if new.due > new.created else "queued"
    return (
        new.id, new.name, new.queue, "running" if running else waits,
        -new.priority, new.priority, new.due,
        1 if running else 0, owner, new.created, new.created, new.actor, new.reason,
        writer, new.created if running else None, new.expires, new.key, new.keep, new.tags,
        new.parent, new.on_crash, new.options, new.arguments,
    )  # fmt: skip


def holder(cx: sqlite3.Connection, new: NewTask) -> str | None:
    """The id of the task that has this one's key."""
    wanted = {"name": new.name, "key": new.key, "keep": new.keep, "now": new.created}
    found = cx.execute(HOLDER, wanted).fetchone()
    if found is None and new.keep is not None:
        found = cx.execute(KEPT, wanted).fetchone()
    return None if found is None else str(found[0])


def add(
    cx: sqlite3.Connection, news: list[NewTask], owner: int | None, lanes: Lanes
) -> list[Added]:
    """Store new tasks, starting those that may start; without an owner, none."""
    room = Room(cx, owner, lanes)
    plain: list[tuple[int, NewTask, int | None]] = []
    answers: list[Added | None] = [None] * len(news)
    for at, new in enumerate(news):
        if new.key is None:
            plain.append((at, new, room.take(new)))
            continue
        taken = holder(cx, new)
        if taken is not None:
            answers[at] = Added(taken, created=False)
            continue
        # Stored in the order of the call: those before it first.
        plain.append((at, new, room.take(new)))
        _flush(cx, plain, owner, answers)
    _flush(cx, plain, owner, answers)
    return [answer for answer in answers if answer is not None]


def _flush(
    cx: sqlite3.Connection,
    plain: list[tuple[int, NewTask, int | None]],
    owner: int | None,
    answers: list[Added | None],
) -> None:
    for (at, new, mine), seq in zip(plain, _insert(cx, plain, owner), strict=True):
        answers[at] = _added(new, seq, mine)
    plain.clear()


class Room:
    """Who may start as it is stored: only a task with nothing before it, where a slot is free."""

    def __init__(self, cx: sqlite3.Connection, owner: int | None, lanes: Lanes) -> None:
        self._cx = cx
        self._owner = owner
        self._lanes = lanes
        self._left: dict[str, float] = {}

    def take(self, new: NewTask) -> int | None:
        """The owner, if this task may start at once; it takes a place in its queue then."""
        if new.due > new.created:
            return None
        left = self._left.get(new.queue)
        if left is None:
            left = self._look(new.queue, new.created) if new.start else 0
        # One that waits stands before all that come after it.
        self._left[new.queue] = left - 1 if new.start else 0
        return self._owner if new.start and left > 0 else None

    def _look(self, queue: str, now: Micros) -> float:
        cx = self._cx
        if cx.execute(IS_OPEN, {"owner": self._owner}).fetchone() is None:
            return 0  # we were taken over: the next claim finds out
        if cx.execute(IS_PAUSED, {"queue": queue, "now": now}).fetchone():
            return 0
        if cx.execute(IS_ANY_DUE, {"now": now}).fetchone():
            return 0
        ahead = cx.execute(LANES_OF_QUEUE, {"queue": queue}).fetchall()
        if any(name in self._lanes.known for (name,) in ahead):
            return 0
        limit = limits(cx, self._lanes).get(queue)
        if limit is None:
            return float("inf")
        running: int = dict(cx.execute(RUNNING).fetchall()).get(queue, 0)
        return limit - running


def _insert(
    cx: sqlite3.Connection, rows: list[tuple[int, NewTask, int | None]], writer: int | None
) -> list[int]:
    seqs: list[int] = []
    for size, flat in chunks([add_row(new, mine, writer) for _, new, mine in rows]):
        found = cx.execute(values(ADD, size, ADD_COLUMNS), flat).fetchall()
        # RETURNING promises no order, but seq rises with each row inserted.
        seqs.extend(sorted(seq for (seq,) in found))
    return seqs


def _added(new: NewTask, seq: int, owner: int | None) -> Added:
    if owner is None:
        return Added(new.id, created=True)
    claimed = Claimed(
        seq, new.id, new.name, new.queue, 1, 0, 0, new.due, new.created, new.created,
        new.priority, new.key, new.tags, new.options, new.expires, new.arguments,
    )  # fmt: skip
    return Added(new.id, created=True, claimed=claimed)


# ---- claim ----------------------------------------------------------------------------------

PROMOTE = """
update inloop_task
set state = 'queued', moved = :now, actor = 'engine', reason = 'due', writer = :writer
where seq in (
  select seq from inloop_task where state = 'scheduled' and due <= :now order by due limit :most
)
returning seq
"""

IS_ANY_DUE = "select 1 from inloop_task where state = 'scheduled' and due <= :now limit 1"

IS_PAUSED = """
select 1 from inloop_pause
where queue in ('', :queue) and (until is null or until > :now)
"""

IS_OPEN = "select 1 from inloop_owner where n = :owner and closed is null"

# How many run now in each queue, over all processes.
RUNNING = "select queue, sum(n) from inloop_count where state = 'running' group by queue"

# Counters say which lanes have anybody in them, so a lane costs nothing while it is empty, and
# tasks whose function is unknown here are never walked over.
LANES = """
select queue, name, n from inloop_count
where state = 'queued' and n > 0
  and queue not in (select queue from inloop_pause where until is null or until > :now)
  and not exists (
    select 1 from inloop_pause where queue = '' and (until is null or until > :now)
  )
"""

LANES_OF_QUEUE = """
select name from inloop_count where state = 'queued' and queue = :queue and n > 0
"""

LANE = """
select rank, due, seq, queue from inloop_task
where state = 'queued' and deaths < 2 and queue = :queue and name = :name
order by rank, due, seq
limit :most
"""

# Tasks that were running at two deaths in a row: they run one at a time, beside healthy work.
SUSPECTS = """
select rank, due, seq, queue, name, state from inloop_task
where deaths >= 2 and state in ('queued', 'running')
order by rank, due
"""

CLAIM = """
update inloop_task
set state = 'running', attempt = attempt + 1, owner = :owner, started = :now, moved = :now,
    actor = 'engine', reason = null, writer = :owner, asked = null, rank = -priority
where seq in (select value from json_each(:seqs)) and state = 'queued'
returning seq, id, name, queue, attempt, failures, deaths, due, created, started, priority, key,
  tags, options, expires, arguments
"""

# What was interrupted (the least rank there is) had started in time, and does not expire.
EXPIRE = """
update inloop_task
set state = 'cancelled', finished = :now, moved = :now, actor = 'engine',
    reason = 'expired before it could start', writer = :writer
where seq in (
  select seq from inloop_task
  where state = 'queued' and expires is not null and rank > -4611686018427387904
    and expires <= :now
  limit :most
)
returning id
"""
NEXT_EXPIRY = """
select min(expires) from inloop_task
where state = 'queued' and expires is not null and rank > -4611686018427387904
"""

NEXT_DUE = "select min(due) from inloop_task where state = 'scheduled'"
NEXT_UNPAUSE = "select min(until) from inloop_pause where until > :now"
QUEUE_LIMITS = "select name, concurrency from inloop_queue where concurrency is not null"

Candidate = tuple[int, Micros, int, str]


def require_open(cx: sqlite3.Connection, owner: int) -> None:
    """An owner that was taken over must not start anything: nobody would look after it."""
    if cx.execute(IS_OPEN, {"owner": owner}).fetchone() is None:
        raise Fenced


def limits(cx: sqlite3.Connection, lanes: Lanes) -> dict[str, int]:
    """Slots of each limited queue: what was set at run time goes before the code."""
    set_at_run_time = dict(cx.execute(QUEUE_LIMITS).fetchall())
    return lanes.limits | set_at_run_time if set_at_run_time else lanes.limits


def claim(cx: sqlite3.Connection, lanes: Lanes, free: int, owner: int, now: Micros) -> Grant:
    """Move what is due to queued, cancel what came too late, then take what the slots allow."""
    require_open(cx, owner)
    due = {"now": now, "writer": owner, "most": PROMOTED_AT_ONCE}
    promoted = cx.execute(PROMOTE, due).fetchall()
    expired = cx.execute(EXPIRE, due).fetchall()
    left = limits(cx, lanes)
    if left:
        running = dict(cx.execute(RUNNING).fetchall())
        left = {queue: limit - running.get(queue, 0) for queue, limit in left.items()}
    known = [lane for lane in cx.execute(LANES, {"now": now}).fetchall() if lane[1] in lanes.known]
    chosen = _choose(_candidates(cx, known, free, left), free, left)
    rows = _by_seqs(cx, CLAIM, [candidate[2] for candidate in chosen], now, owner)
    found = {row[0]: row for row in rows}
    claimed = [
        Claimed._make((*found[candidate[2]], candidate[0] == FIRST))
        for candidate in chosen
        if candidate[2] in found
    ]
    # A full batch may have left some.
    again = PROMOTED_AT_ONCE in (len(promoted), len(expired))
    held_back = sum(n for _, _, n in known) > len(claimed)
    return Grant(claimed, [i for (i,) in expired], again, held_back, _next_due(cx, now))


def _next_due(cx: sqlite3.Connection, now: Micros) -> Micros | None:
    (due,) = cx.execute(NEXT_DUE).fetchone()
    (unpause,) = cx.execute(NEXT_UNPAUSE, {"now": now}).fetchone()
    (expiry,) = cx.execute(NEXT_EXPIRY).fetchone()
    return min((at for at in (due, unpause, expiry) if at is not None), default=None)


def _by_seqs(
    cx: sqlite3.Connection, sql: str, seqs: list[int], now: Micros, owner: int
) -> list[Any]:
    if not seqs:
        return []
    # Built by hand: seqs are integers, and this is on the path of every task.
    text = "[" + ",".join(map(str, seqs)) + "]"
    return cx.execute(sql, {"now": now, "owner": owner, "seqs": text}).fetchall()


def _candidates(
    cx: sqlite3.Connection, known: list[tuple[str, str, int]], free: int, left: dict[str, int]
) -> list[Candidate]:
    """The best of each lane, and the one suspect that may run, in the order of their claims."""
    found: list[Candidate] = []
    for queue, name, _ in known:
        most = min(free, left.get(queue, free))
        if most > 0:
            lane = {"queue": queue, "name": name, "most": most}
            found += cx.execute(LANE, lane).fetchall()
    suspect = _suspect(cx, known, left) if known else []
    if suspect or len(known) > 1:
        found = sorted(found + suspect)
    return found


def _suspect(
    cx: sqlite3.Connection, known: list[tuple[str, str, int]], left: dict[str, int]
) -> list[Candidate]:
    """The one suspect that may run now, if none is running anywhere."""
    rows = cx.execute(SUSPECTS).fetchall()
    if any(row[5] == "running" for row in rows):
        return []
    lanes = {(queue, name) for queue, name, _ in known if left.get(queue, 1) > 0}
    return [row[:4] for row in rows if (row[3], row[4]) in lanes][:1]


def _choose(candidates: list[Candidate], free: int, left: dict[str, int]) -> list[Candidate]:
    """The first that find a slot, in this process and in their queue."""
    left = dict(left)
    chosen: list[Candidate] = []
    for candidate in candidates:
        queue = candidate[3]
        if len(chosen) < free and left.get(queue, 1) > 0:
            chosen.append(candidate)
            if queue in left:
                left[queue] -= 1
    return chosen
