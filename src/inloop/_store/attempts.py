"""What an owner writes about its running tasks: their ends, pauses, progress and logs.

Every statement names the state, owner and attempt that it expects: a stale owner cannot write.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from inloop import _texts as texts
from inloop._exchange import Ask, By, Lanes, Line, Move
from inloop._model import FINAL, Progress, State
from inloop._store.queue import FIRST, RUNNING, limits
from inloop._store.rows import chunks, values

END = """
update inloop_task
set state = new.column4, moved = new.column5, actor = new.column6, reason = new.column7,
    writer = ?, owner = null, asked = null,
    paused_from = new.column18,
    failures = new.column8,
    due = coalesce(new.column9, due),
    rank = coalesce(new.column10, -priority),
    deaths = case when new.column10 is null then new.column19 else deaths end,
    finished = new.column11, result = new.column12, error = new.column13, expires = new.column14,
    done = coalesce(new.column15, done), total = coalesce(new.column16, total),
    message = coalesce(new.column17, message)
from (values {rows}) as new
where inloop_task.seq = new.column1
  and inloop_task.state = new.column2
  and inloop_task.attempt = new.column3
  and inloop_task.owner = ?
returning seq, attempt
"""
END_COLUMNS = 19

# What was asked, and not yet heard by the attempt that ends now.
UNHEARD = """
select seq, attempt, asked, actor, reason from inloop_task
where owner = :owner and asked in ('cancel', 'pause') and asked is not null
"""


def _end_row(move: Move) -> tuple[Any, ...]:
    done, total, message = move.progress or (None, None, None)
    return (
        move.seq, move.expects, move.attempt, move.to, move.at, move.actor, move.reason,
        move.failures, move.due, FIRST if move.first else None,
        move.at if move.to in FINAL else None, move.result, texts.dump_error(move.error),
        move.expires, done, total, message, move.paused_from, move.deaths,
    )  # fmt: skip


def end(cx: sqlite3.Connection, moves: list[Move], owner: int) -> list[Move | None]:
    """Apply the ends of attempts: what was stored of each; None if it is no longer ours."""
    if any(move.to in _GOES_ON for move in moves):
        moves = _overruled(cx, moves, owner)
    # Of two ends of one attempt the first counts; the statement would take either.
    first = {(move.seq, move.attempt): move for move in reversed(moves)}
    ours: set[tuple[int, int]] = set()
    for size, flat in chunks([_end_row(move) for move in first.values()]):
        ours.update(cx.execute(values(END, size, END_COLUMNS), [owner, *flat, owner]).fetchall())
    return [
        move if at in ours and first[at] is move else None
        for at, move in (((move.seq, move.attempt), move) for move in moves)
    ]


_GOES_ON = frozenset({State.SCHEDULED, State.QUEUED})


def _overruled(cx: sqlite3.Connection, moves: list[Move], owner: int) -> list[Move]:
    """Cancel means cancel: an end that came before the word was heard does not undo it."""
    found = [Ask(*row) for row in cx.execute(UNHEARD, {"owner": owner}).fetchall()]
    asks = {(ask.seq, ask.attempt): ask for ask in found}
    return [_overrule(move, asks.get((move.seq, move.attempt))) for move in moves]


def _overrule(move: Move, ask: Ask | None) -> Move:
    if ask is None or move.to not in _GOES_ON:
        return move
    if ask.verb == "cancel":
        return replace(
            move, to=State.CANCELLED, due=None, first=False, actor=ask.actor, reason=ask.reason
        )
    before = State.RUNNING if move.first else State.SCHEDULED
    return replace(move, to=State.PAUSED, paused_from=before, actor=ask.actor, reason=ask.reason)


# The pause that was asked for; a resume that came before it was obeyed calls it off.
PAUSE_RUNNING = """
update inloop_task
set state = 'paused', paused_from = 'running', moved = :now, actor = :actor, reason = :reason,
    writer = :owner, asked = null
where seq = :seq and state = 'running' and attempt = :attempt and owner = :owner
  and asked is 'pause'
returning seq
"""

RESUME_RUNNING = """
update inloop_task
set state = 'running', paused_from = null, moved = :now, actor = :actor, reason = :reason,
    writer = :owner, asked = null
where seq = :seq and state = 'paused' and attempt = :attempt and owner = :owner
  and asked is 'resume'
returning seq
"""

PLACE_OF = """
select queue,
       deaths >= 2 and exists (
         select 1 from inloop_task
         where deaths >= 2 and state in ('queued', 'running') and state = 'running'
       )
from inloop_task where seq = :seq
"""

# The resume of a task that had not paused yet.
ANSWERED = """
update inloop_task set asked = null
where seq = :seq and attempt = :attempt and owner = :owner and asked = :verb
"""

# A process that ends while a thread of a task still runs leaves this word: it was interrupted,
# not killed by it.
INTERRUPTED = """
update inloop_task
set asked = 'interrupt', moved = :now, actor = 'engine', reason = 'shutdown', writer = :owner
where owner = :owner and state in ('running', 'waiting')
  and coalesce(asked, '') not in ('cancel', 'pause')
"""

# A paused task outlives its owner, and stays paused; one that was just asked to resume goes on by
# way of recovery.
LEAVE_PAUSED = """
update inloop_task set owner = null where owner = :owner and state = 'paused' and asked is null
"""

ASKS = """
select seq, attempt, asked, actor, reason from inloop_task
where owner = :owner and asked in ('cancel', 'pause', 'resume')
"""

PROGRESS = """
update inloop_task
set done = :done, total = :total, message = :message
where seq = :seq and attempt = :attempt and owner = :owner
"""

LOG = "insert into inloop_log (task, attempt, at, level, logger, text) values {rows}"
LOG_COLUMNS = 6

MOST_LINES = 10_000
TOO_LONG = """
select task from inloop_log where task in (select value from json_each(:seqs))
group by task having count(*) > :most
"""
TRIM = """
delete from inloop_log where task = :seq and n <= (
  select n from inloop_log where task = :seq order by n desc limit 1 offset :most
)
"""


def pause(cx: sqlite3.Connection, seq: int, attempt: int, by: By) -> bool:
    """Move a running task of ours to paused, as it was asked to; False: it was called off."""
    return cx.execute(PAUSE_RUNNING, _mine(seq, attempt, by)).fetchone() is not None


def resume(cx: sqlite3.Connection, seq: int, attempt: int, by: By, lanes: Lanes) -> bool | None:
    """Move a paused task of ours back to running; None: there is no place for it now.

    No slot in its queue, or it is a suspect and another one runs.
    """
    queue, has_to_wait = cx.execute(PLACE_OF, {"seq": seq}).fetchone() or ("", False)
    if has_to_wait:
        return None
    limit = limits(cx, lanes).get(queue)
    if limit is not None and dict(cx.execute(RUNNING).fetchall()).get(queue, 0) >= limit:
        return None
    return cx.execute(RESUME_RUNNING, _mine(seq, attempt, by)).fetchone() is not None


OVERRUN = """
update inloop_task
set asked = 'timeout', moved = :now, actor = :actor, reason = :reason, writer = :owner
where seq = :seq and state = 'running' and attempt = :attempt and owner = :owner
  and asked is not 'cancel'
returning seq
"""


def overrun(cx: sqlite3.Connection, seq: int, attempt: int, by: By) -> bool:
    """Note that a running task of ours is past its timeout, and goes on."""
    return cx.execute(OVERRUN, _mine(seq, attempt, by)).fetchone() is not None


def write_progress(
    cx: sqlite3.Connection, progress: Sequence[tuple[int, int, Progress]], owner: int
) -> None:
    """Store how far tasks of ours have come."""
    for seq, attempt, (done, total, message) in progress:
        row = {
            "seq": seq, "attempt": attempt, "owner": owner,
            "done": done, "total": total, "message": message,
        }  # fmt: skip
        cx.execute(PROGRESS, row)


def _mine(seq: int, attempt: int, by: By) -> dict[str, Any]:
    return {
        "seq": seq, "attempt": attempt, "owner": by.writer, "now": by.now,
        "actor": by.actor, "reason": by.reason,
    }  # fmt: skip


def write_lines(cx: sqlite3.Connection, lines: Sequence[Line]) -> None:
    """Store lines of tasks' logs, and let go of a task's oldest beyond the most it may keep."""
    if not lines:
        return
    for size, flat in chunks(lines):
        cx.execute(values(LOG, size, LOG_COLUMNS), flat)
    seqs = "[" + ",".join({str(line.seq) for line in lines}) + "]"
    for (seq,) in cx.execute(TOO_LONG, {"seqs": seqs, "most": MOST_LINES}).fetchall():
        cx.execute(TRIM, {"seq": seq, "most": MOST_LINES})
