"""What must be true of a store, and of what its tasks did, after any number of crashes."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from crash_effects import Effects

from inloop import TaskManager

# Every table of tasks and counters by plain SQL, to be compared with what inloop keeps.
COUNTED = "select state, queue, name, n from inloop_count where n <> 0"
TRUE_COUNTS = """
select state, queue, name, count(*) from inloop_task where deleted is null
group by state, queue, name
"""
MOVES = """
select t.id, t.state, t.attempt, e.origin, e.state, e.attempt
from inloop_event as e join inloop_task as t on t.seq = e.task
where e.what = 'moved' order by e.task, e.id
"""
ILLEGAL = """
select e.task, e.origin, e.state from inloop_event as e
where e.what = 'moved' and e.origin is not null
  and not exists (select 1 from inloop_legal as l where l.origin = e.origin and l.state = e.state)
"""


def verify(folder: Path) -> str:
    """Assert all of it; a line about what was there to look at."""
    effects = Effects.read(folder / "effects.log")
    assert not effects.wrong, effects.wrong[:10]
    overlaps = effects.overlaps()
    assert not overlaps, f"{len(overlaps)} times two attempts of a task ran at once: {overlaps[:5]}"
    with closing(sqlite3.connect(folder / "tasks.db")) as cx:
        assert cx.execute("pragma integrity_check").fetchall() == [("ok",)]
        _nothing_is_lost(cx, effects)
        _counters_are_true(cx, folder)
        assert cx.execute(ILLEGAL).fetchall() == []
        _history_is_whole(cx, effects)
        (left,) = cx.execute("select count(*) from inloop_owner where closed is null").fetchone()
        assert left == 0, f"{left} owners were never closed"
    attempts = sum(map(len, effects.attempts.values()))
    return (
        f"{len(effects.acknowledged)} acknowledged tasks all succeeded, in {attempts} attempts of"
        f" {len(effects.attempts)} tasks; {attempts - len(effects.attempts)} were run again"
    )


def _nothing_is_lost(cx: sqlite3.Connection, effects: Effects) -> None:
    states = dict(cx.execute("select id, state from inloop_task where name <> 'never'"))
    lost = [task for task in effects.acknowledged.values() if task not in states]
    assert not lost, f"{len(lost)} acknowledged tasks are gone: {lost[:5]}"
    other = {task: state for task, state in states.items() if state != "succeeded"}
    assert not other, f"{len(other)} tasks did not succeed: {dict(list(other.items())[:5])}"
    twice = cx.execute(
        "select key, count(*) from inloop_task where key is not null group by name, key"
        " having count(*) > 1"
    ).fetchall()
    assert twice == [], f"enqueued again after a crash, these became two tasks: {twice[:5]}"


def _counters_are_true(cx: sqlite3.Connection, folder: Path) -> None:
    truth = set(cx.execute(TRUE_COUNTS))
    assert set(cx.execute(COUNTED)) == truth

    async def ask() -> dict[str, dict[str, int]]:
        async with TaskManager(folder / "tasks.db", work=False, retention=None) as tasks:
            return {q: {str(s): n for s, n in c.items()} for q, c in (await tasks.counts()).items()}

    told: dict[tuple[str, str], int] = {}
    for state, queue, _, n in truth:
        told[queue, state] = told.get((queue, state), 0) + n
    answer = asyncio.run(ask())
    assert {(q, s): n for q, c in answer.items() for s, n in c.items() if n} == told


def _history_is_whole(cx: sqlite3.Connection, effects: Effects) -> None:
    """Each move starts where the last one ended, and each attempt that ran was claimed first."""
    for task, state, attempt, moves in _histories(cx):
        assert moves[-1][1] == state, f"{task} is {state}: {moves}"
        at: str | None = None
        claimed: list[int] = []
        for origin, to, number in moves:
            assert origin == at, f"{task} moved from {origin}, but was {at}: {moves}"
            if to == "running":
                claimed.append(number)
            at = to
        assert claimed == list(range(1, attempt + 1)), f"{task}: attempts {claimed}"
        finals = [to for _, to, _ in moves if to in ("succeeded", "failed", "cancelled")]
        assert len(finals) == (state != "scheduled"), f"{task} ended {finals}"
        ran = effects.attempts.get(task, {})
        assert set(ran) <= set(claimed), f"{task} ran {set(ran)} and was claimed {claimed}"
        if state == "succeeded":
            assert ran[attempt].how == "ok", f"{task} succeeded in {attempt}: {ran}"


def _histories(
    cx: sqlite3.Connection,
) -> Iterator[tuple[str, str, int, list[tuple[str | None, str, int]]]]:
    current: tuple[str, str, int] | None = None
    moves: list[tuple[str | None, str, int]] = []
    for task, state, attempt, origin, to, number in cx.execute(MOVES):
        if current is not None and current[0] != task:
            yield *current, moves
            moves = []
        current = (task, state, attempt)
        moves.append((origin, to, number))
    if current is not None:
        yield *current, moves
