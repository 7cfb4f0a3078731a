"""The values that travel: ids, instants, and the table of legal moves."""

import os
import sqlite3
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inloop import ErrorText, State, Task
from inloop._model import (
    ENTRY,
    FINAL,
    LEGAL,
    UNFINISHED,
    is_legal,
    new_id,
    to_datetime,
    to_micros,
)
from inloop._store.place import migrations

# ---- ids


def test_an_id_is_a_uuid_of_version_7() -> None:
    """As RFC 9562 has it, in its usual text."""
    one = new_id()
    assert str(UUID(one)) == one
    assert UUID(one).version == 7
    assert UUID(one).variant == "specified in RFC 4122"


def test_an_id_tells_when_it_was_made() -> None:
    """Its first 48 bits are the milliseconds since 1970."""
    before = time.time_ns() // 1_000_000
    made = UUID(new_id()).int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_rise_strictly() -> None:
    """Also thousands within one tick of the clock: sorted as text they are in order."""
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_ids_of_several_threads_are_unique_and_rise_in_each() -> None:
    """No two threads are ever given the same, and each sees its own rise."""
    made: list[list[str]] = [[] for _ in range(4)]
    start = threading.Barrier(len(made))

    def make(mine: list[str]) -> None:
        start.wait(10)
        mine.extend(new_id() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [one for mine in made for one in mine]
    assert len(set(everything)) == len(everything) == 20_000
    # The random part aside: the stamp alone must tell them apart.
    assert len({one[:18] for one in everything}) == 20_000
    assert all(mine == sorted(mine) for mine in made)


def test_a_fork_does_not_repeat_its_parents_ids() -> None:
    """Random bits that were drawn before the fork are not used twice."""
    new_id()
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests may linger
        pid = os.fork()
    if pid == 0:
        os.write(writes, "\n".join(new_id()[19:] for _ in range(10)).encode())
        os._exit(0)
    os.close(writes)
    os.waitpid(pid, 0)
    with os.fdopen(reads) as pipe:
        theirs = set(pipe.read().split())
    assert len(theirs) == 10
    assert theirs.isdisjoint(new_id()[19:] for _ in range(300))


# ---- instants


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_exact_to_the_microsecond(moment: datetime) -> None:
    """There and back gives the same, in every year that a datetime can be of."""
    assert to_datetime(to_micros(moment)) == moment


@given(st.integers(-(10**16), 10**17))
def test_every_microsecond_is_an_instant_of_its_own(micros: int) -> None:
    """No two collapse, as they would by way of a float."""
    assert to_micros(to_datetime(micros)) == micros


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_an_instant_does_not_depend_on_its_time_zone(naive: datetime, minutes: int) -> None:
    """What a datetime's zone says is taken into account, and comes back as UTC."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    found = to_datetime(to_micros(moment))
    assert found == moment
    assert found.tzinfo is UTC


# ---- moves

S = State
# What may follow what, in the words of the contract; this is the second copy, against slips.
MAY_FOLLOW = {
    S.SCHEDULED: "queued paused held cancelled",
    S.QUEUED: "scheduled running paused held failed cancelled",
    S.RUNNING: "scheduled queued waiting paused held succeeded failed cancelled",
    S.WAITING: "queued running paused held succeeded failed cancelled",
    S.PAUSED: "scheduled queued running waiting held succeeded failed cancelled",
    S.HELD: "scheduled queued failed cancelled",
    S.SUCCEEDED: "queued",
    S.FAILED: "queued",
    S.CANCELLED: "queued",
}


def test_every_state_is_in_the_table() -> None:
    """Nine states, in the contract's order and words."""
    words = "scheduled queued running waiting paused held succeeded failed cancelled"
    assert [str(state) for state in State] == words.split()
    assert set(LEGAL) == set(State) == set(MAY_FOLLOW)


@pytest.mark.parametrize(("origin", "to"), list(product(State, State)))
def test_which_moves_are_legal(origin: State, to: State) -> None:
    """All 81 pairs: what the table allows, and nothing else."""
    assert is_legal(origin, to) is (to in MAY_FOLLOW[origin].split())


def test_the_store_has_the_same_table() -> None:
    """The schema's own copy, which refuses every other move, does not differ by one row."""
    cx = sqlite3.connect(":memory:")
    for _, script in migrations():
        cx.executescript(script)
    stored = set(cx.execute("select origin, state from inloop_legal").fetchall())
    cx.close()
    assert stored == {(str(origin), str(to)) for origin, all_ in LEGAL.items() for to in all_}


def test_final_and_unfinished_states_part_them_all() -> None:
    """Held counts as unfinished: a person is still to decide."""
    assert set(State) == FINAL | UNFINISHED
    assert not FINAL & UNFINISHED
    assert S.HELD in UNFINISHED
    assert set(ENTRY) == {S.SCHEDULED, S.QUEUED, S.RUNNING}


# ---- words


def task(**changes: object) -> Task:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    fields: dict[str, object] = {
        "id": "id", "name": "work", "queue": "default", "state": S.SCHEDULED, "priority": 0,
        "attempt": 0, "failures": 0, "due": moment, "created": moment, "moved": moment,
        "started": None, "finished": None, "actor": "code", "reason": None, "key": None,
        "tags": (), "asked": None, "owner": None, "paused_from": None, "deleted": None,
        "expires": None, "progress": None, "error": None, "arguments_json": '{"n": 1}',
        "result_json": None,
    }  # fmt: skip
    return Task(**(fields | changes))  # type: ignore[arg-type] # checked where they are read


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "scheduled"),
        ({"failures": 1}, "retrying"),
        ({"state": S.QUEUED, "failures": 1}, "queued"),
        ({"state": S.RUNNING}, "running"),
        ({"state": S.RUNNING, "asked": "cancel"}, "cancelling"),
        ({"state": S.RUNNING, "asked": "pause"}, "pausing"),
        ({"state": S.PAUSED, "asked": "resume"}, "resuming"),
        ({"state": S.RUNNING, "asked": "timeout"}, "overrun"),
        ({"state": S.RUNNING, "asked": "interrupt"}, "running"),
    ],
)
def test_a_label_is_the_word_that_a_person_would_use(
    changes: dict[str, object], label: str
) -> None:
    """Retrying, cancelling, pausing, resuming and overrun are labels, not states."""
    assert task(**changes).label == label


def test_a_task_shows_arguments_and_result_as_plain_values() -> None:
    """No type hints are needed to look at one."""
    shown = task(result_json='["a", 2]')
    assert shown.arguments == {"n": 1}
    assert shown.result == ["a", 2]
    assert task().result is None


def test_a_task_does_not_show_its_values_in_logs() -> None:
    """Arguments may be secret: they are no part of its repr."""
    assert "hunter2" not in repr(task(arguments_json='{"password": "hunter2"}'))
    assert "hunter2" not in repr(task(result_json='"hunter2"'))


def test_an_error_reads_as_its_type_and_message() -> None:
    """As the last line of a traceback does."""
    assert str(ErrorText("ValueError", "bad", "…")) == "ValueError: bad"
    assert str(ErrorText("ValueError", "", "…")) == "ValueError"
