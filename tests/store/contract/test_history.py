"""attempts, events, events_after, last_event, logs: what a task's past is told by."""

import pytest

from inloop._exchange import Line
from inloop._model import Attempt, ErrorText, Event, State, to_datetime

from ..rig import SECOND, START, Rig

pytestmark = pytest.mark.anyio

S, Q, R, W, P, H, OK, BAD, OFF = State
ERROR = ErrorText("ValueError", "no", "tb")


# ---- attempts


async def test_each_run_is_an_attempt(rig: Rig) -> None:
    """Started, ended, what it left the task in, why, and with which error."""
    claimed = await rig.start()
    rig.now += SECOND
    failing = rig.move(claimed, S, failures=1, due=rig.now, error=ERROR, reason="again")
    await rig.end(failing)
    rig.now += SECOND
    (second,) = (await rig.claim()).claimed
    assert (await rig.store.attempts(claimed.id))[1:] == [
        Attempt(2, to_datetime(rig.now), None, None, None, None)
    ]
    rig.now += SECOND
    await rig.end(rig.move(second))
    assert await rig.store.attempts(claimed.id) == [
        Attempt(1, to_datetime(START), to_datetime(START + SECOND), S, "again", ERROR),
        Attempt(2, to_datetime(START + 2 * SECOND), to_datetime(rig.now), OK, None, None),
    ]


async def test_what_never_ran_has_none(rig: Rig) -> None:
    """Neither before it runs nor when it is cancelled before."""
    task_id = await rig.put()
    assert await rig.store.attempts(task_id) == []
    await rig.store.control("cancel", task_id, rig.by())
    assert await rig.store.attempts(task_id) == []


async def test_a_pause_does_not_end_an_attempt(rig: Rig) -> None:
    """Paused and resumed it is one attempt still."""
    task_id = await rig.bring(P, owned=True)
    await rig.store.control("resume", task_id, rig.by())
    (started,) = await rig.store.attempts(task_id)
    assert (started.number, started.ended, started.outcome) == (1, None, None)


async def test_history_is_never_overwritten(rig: Rig) -> None:
    """A task that is retried by hand keeps its earlier attempts as they were."""
    claimed = await rig.start()
    await rig.end(rig.move(claimed, BAD, failures=1, error=ERROR))
    before = await rig.store.attempts(claimed.id)
    await rig.store.control("retry", claimed.id, rig.by())
    assert await rig.store.attempts(claimed.id) == before
    (again,) = (await rig.claim()).claimed
    await rig.end(rig.move(again))
    assert (await rig.store.attempts(claimed.id))[0] == before[0]


async def test_an_attempt_that_was_recovered_has_ended(pair: tuple[Rig, Rig]) -> None:
    """Its outcome is what recovery made of its task."""
    one, other = pair
    claimed = await one.start(on_crash="fail")
    await one.die()
    await other.until_state(claimed.id, BAD)
    (lost,) = await other.store.attempts(claimed.id)
    assert (lost.outcome, lost.error is not None) == (BAD, True)


# ---- events


async def test_every_move_is_an_event(rig: Rig) -> None:
    """ "time, from, to, attempt, actor, reason", in order."""
    task_id = await rig.put(wait=1, actor="app", reason="signup")
    rig.now += SECOND
    (claimed,) = (await rig.claim()).claimed
    await rig.end(rig.move(claimed, BAD, error=ERROR, reason="bad", failures=1))
    rig.now += SECOND
    await rig.store.control("retry", task_id, rig.by("again", "ben"))
    events = await rig.store.events(task_id)
    then = to_datetime(START + SECOND)
    expected = [
        Event(task_id, "moved", to_datetime(START), None, S, 0, "app", "signup"),
        Event(task_id, "moved", then, S, Q, 0, "engine", "due"),
        Event(task_id, "moved", then, Q, R, 1, "engine"),
        Event(task_id, "moved", then, R, BAD, 1, "engine", "bad", ERROR),
        Event(task_id, "moved", to_datetime(rig.now), BAD, Q, 1, "ben", "again"),
    ]
    assert [told(event) for event in events] == [told(event) for event in expected]
    ids = [event.id or 0 for event in events]
    assert ids == sorted(set(ids))


def told(event: Event) -> tuple[object, ...]:
    return (
        event.task_id, event.what, event.at, event.origin, event.to, event.attempt, event.actor,
        event.reason, event.error,
    )  # fmt: skip


async def test_an_ask_is_an_event(rig: Rig) -> None:
    """ "asked" (`reason` begins with the verb), by whom."""
    claimed = await rig.start()
    await rig.store.control("pause", claimed.id, rig.by("lunch", "ben"))
    await rig.store.control("cancel", claimed.id, rig.by(None))
    pause, cancel = (await rig.store.events(claimed.id))[1:]
    assert (pause.what, pause.reason, pause.actor) == ("asked", "pause: lunch", "ben")
    assert (cancel.what, cancel.reason, cancel.to) == ("asked", "cancel", R)


# ---- events_after: "Events of all tasks in the order of their commits."


async def test_events_of_all_tasks_page_by_page(rig: Rig) -> None:
    """From a place on, at most so many, each once."""
    for n in range(4):
        await rig.finish(queue=f"q{n}")
    everything = await rig.store.events_after(0, 100)
    assert len(everything) == 8
    found: list[Event] = []
    while page := await rig.store.events_after((found[-1].id or 0) if found else 0, 3):
        assert len(page) <= 3
        found += page
    assert found == everything


async def test_last_event_is_where_to_go_on(rig: Rig) -> None:
    """After `last_event` there is nothing, until something happens."""
    assert await rig.store.last_event() == 0
    await rig.finish()
    last = await rig.store.last_event()
    assert await rig.store.events_after(last, 10) == []
    task_id = await rig.put()
    assert [event.task_id for event in await rig.store.events_after(last, 10)] == [task_id]


async def test_ids_of_events_are_never_used_again(rig: Rig) -> None:
    """After all tasks were removed, new events still come after `last_event` of before."""
    await rig.finish()
    last = await rig.store.last_event()
    await rig.sql("delete from inloop_task")
    task_id = await rig.put()
    assert [event.task_id for event in await rig.store.events_after(last, 10)] == [task_id]


async def test_a_commit_that_is_seen_hides_no_earlier_one(pair: tuple[Rig, Rig]) -> None:
    """Whoever reads event n will never see one appear before it: both owners, interleaved."""
    one, other = pair
    seen: list[int] = []
    for n in range(10):
        answers = [owner.adding(owner.new(queue=f"q{n}")) for owner in pair]
        seen += [e.id or 0 for e in await other.store.events_after(max(seen, default=0), 100)]
        for answer in answers:
            await answer
    seen += [e.id or 0 for e in await other.store.events_after(max(seen, default=0), 100)]
    assert seen == [e.id for e in await one.store.events_after(0, 100)]
    assert len(seen) == 20


# ---- logs


async def test_lines_after_a_place(rig: Rig) -> None:
    """From `after` on, at most `limit`, oldest first, each once."""
    claimed = await rig.start()
    lines = [Line(claimed.seq, 1, rig.now + n, 20, "app", f"{n}") for n in range(10)]
    await rig.store.note(lines, [])
    first = await rig.store.logs(claimed.id, 0, 4)
    second = await rig.store.logs(claimed.id, first[-1].n, 100)
    assert [line.text for line in [*first, *second]] == [f"{n}" for n in range(10)]
    assert await rig.store.logs(claimed.id, second[-1].n, 100) == []
    assert (first[0].attempt, first[0].level, first[0].logger) == (1, 20, "app")


async def test_a_task_without_a_log(rig: Rig) -> None:
    """No lines, no error."""
    assert await rig.store.logs(await rig.put(), 0, 10) == []


@pytest.mark.timeout(60)
async def test_the_newest_ten_thousand_lines_are_kept(rig: Rig) -> None:
    """ "at most 10,000 lines a task": beyond it the oldest go, a neighbour's stay."""
    claimed, neighbour = await rig.start(), await rig.start()
    await rig.store.note([Line(neighbour.seq, 1, rig.now, 20, "app", "mine")], [])
    for part in range(5):
        texts = range(part * 2100, (part + 1) * 2100)
        await rig.store.note([Line(claimed.seq, 1, rig.now, 20, "app", f"{n}") for n in texts], [])
    kept = await rig.store.logs(claimed.id, 0, 20_000)
    assert [line.text for line in kept] == [f"{n}" for n in range(500, 10_500)]
    assert len(await rig.store.logs(neighbour.id, 0, 10)) == 1
