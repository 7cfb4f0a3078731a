"""What an owner does with the tasks that it has in hand: pause, resume, note, leave, overrun."""

import pytest

from inloop._exchange import Line
from inloop._model import Progress, State, to_datetime
from inloop._store.protocol import Fenced

from ..rig import HOUR, LANES, Rig, lanes

pytestmark = pytest.mark.anyio


async def asked(rig: Rig, verb: str, state: State = State.RUNNING) -> tuple[int, str]:
    """A task of ours that was asked to do something: its place and its id."""
    task_id = await rig.bring(state, owned=True)
    assert await rig.store.control(verb, task_id, rig.by())
    return await rig.seq(task_id), task_id


# ---- pause_mine: "Move a running task of ours that was asked to pause to paused."


async def test_a_task_that_was_asked_to_pause_is_paused(rig: Rig) -> None:
    """It is paused from running, still ours, and nothing is asked of it any more."""
    seq, task_id = await asked(rig, "pause")
    assert await rig.store.pause_mine(seq, 1, rig.by("lunch", "ben"))
    task = await rig.get(task_id)
    assert (task.state, task.paused_from, task.asked) == (State.PAUSED, State.RUNNING, None)
    assert (task.reason, task.actor) == ("lunch", "ben")
    assert task.owner is not None
    assert await rig.asked() == []


async def test_a_pause_that_was_called_off_is_not_obeyed(rig: Rig) -> None:
    """A resume that came before the owner obeyed: the task runs on."""
    seq, task_id = await asked(rig, "pause")
    await rig.store.control("resume", task_id, rig.by())
    assert not await rig.store.pause_mine(seq, 1, rig.by())
    assert await rig.state(task_id) is State.RUNNING


async def test_nobody_asked_to_pause(rig: Rig) -> None:
    """A running task that was not asked to pause is not paused."""
    claimed = await rig.start()
    assert not await rig.store.pause_mine(claimed.seq, 1, rig.by())


async def test_a_stale_attempt_cannot_pause(rig: Rig) -> None:
    """Neither another attempt nor another state is paused."""
    seq, task_id = await asked(rig, "pause")
    assert not await rig.store.pause_mine(seq, 2, rig.by())
    assert await rig.store.pause_mine(seq, 1, rig.by())
    assert not await rig.store.pause_mine(seq, 1, rig.by())
    assert await rig.state(task_id) is State.PAUSED


async def test_another_owner_cannot_pause_it(pair: tuple[Rig, Rig]) -> None:
    """Only its owner moves a running task to paused."""
    one, other = pair
    seq, task_id = await asked(one, "pause")
    assert not await other.store.pause_mine(seq, 1, other.by())
    assert await one.state(task_id) is State.RUNNING


# ---- resume_mine: "Move a paused task of ours that was asked to resume to running; None: no free
# slot."


async def test_a_task_that_was_asked_to_resume_runs_on(rig: Rig) -> None:
    """It is running in the same attempt, and nothing is asked of it any more."""
    seq, task_id = await asked(rig, "resume", State.PAUSED)
    assert await rig.store.resume_mine(seq, 1, rig.by("back", "ben"), LANES) is True
    task = await rig.get(task_id)
    assert (task.state, task.paused_from, task.asked) == (State.RUNNING, None, None)
    assert (task.attempt, task.reason, task.actor) == (1, "back", "ben")


async def test_it_waits_for_a_slot_of_its_queue(rig: Rig) -> None:
    """Where its queue is full the answer is None, and it stays paused and asked."""
    seq, task_id = await asked(rig, "resume", State.PAUSED)
    other = await rig.start()
    assert await rig.store.resume_mine(seq, 1, rig.by(), lanes(default=1)) is None
    assert await rig.state(task_id) is State.PAUSED
    assert await rig.asked() == [(seq, "resume")]
    await rig.end(rig.move(other))
    assert await rig.store.resume_mine(seq, 1, rig.by(), lanes(default=1)) is True


async def test_a_resume_that_was_called_off_is_not_obeyed(rig: Rig) -> None:
    """A pause that came after it: the task stays paused."""
    seq, task_id = await asked(rig, "resume", State.PAUSED)
    await rig.store.control("pause", task_id, rig.by())
    assert await rig.store.resume_mine(seq, 1, rig.by(), LANES) is False
    assert await rig.state(task_id) is State.PAUSED


async def test_a_stale_attempt_cannot_resume(rig: Rig) -> None:
    """Another attempt is not resumed."""
    seq, task_id = await asked(rig, "resume", State.PAUSED)
    assert await rig.store.resume_mine(seq, 2, rig.by(), LANES) is False
    assert await rig.state(task_id) is State.PAUSED


# ---- answered: "What was asked needs no doing (any more)."


async def test_an_answered_ask_is_gone(rig: Rig) -> None:
    """It is asked no more; another word, or another attempt's, stays."""
    seq, task_id = await asked(rig, "pause")
    await rig.store.answered(seq, 1, "cancel")
    await rig.store.answered(seq, 2, "pause")
    assert await rig.asked() == [(seq, "pause")]
    await rig.store.answered(seq, 1, "pause")
    assert await rig.asked() == []
    assert (await rig.get(task_id)).asked is None


# ---- note: "Store log lines, and progress (seq, attempt, value) of tasks that are still ours."


async def test_progress_is_stored(rig: Rig) -> None:
    """The latest progress is the task's, whole numbers and fractions alike."""
    claimed = await rig.start()
    await rig.store.note([], [(claimed.seq, 1, Progress(1, 10, "a"))])
    await rig.store.note([], [(claimed.seq, 1, Progress(2.5, None, "b"))])
    assert (await rig.get(claimed.id)).progress == Progress(2.5, None, "b")


async def test_progress_of_a_stale_attempt_is_not(pair: tuple[Rig, Rig]) -> None:
    """Neither another attempt nor another owner can write it."""
    one, other = pair
    claimed = await one.start()
    await one.store.note([], [(claimed.seq, 2, Progress(1))])
    await other.store.note([], [(claimed.seq, 1, Progress(1))])
    assert (await one.get(claimed.id)).progress is None


async def test_lines_are_stored_in_order(rig: Rig) -> None:
    """Lines of several tasks are each in their own task's log, in order."""
    one, other = await rig.start(), await rig.start()
    lines = [
        Line(claimed.seq, 1, rig.now + n, 10 + n, f"app.{n}", f"line {n}")
        for n in range(6)
        for claimed in (one, other)
    ]
    await rig.store.note(lines, [])
    for claimed in (one, other):
        found = await rig.store.logs(claimed.id, 0, 100)
        assert [line.text for line in found] == [f"line {n}" for n in range(6)]
        assert [line.level for line in found] == list(range(10, 16))
        assert [line.logger for line in found] == [f"app.{n}" for n in range(6)]
        assert [line.at for line in found] == [to_datetime(rig.now + n) for n in range(6)]


async def test_nothing_to_note_is_nothing(rig: Rig) -> None:
    """Without lines and progress nothing happens."""
    await rig.store.note([], [])


# ---- overrun: "Note that a running task of ours is past its timeout, and goes on."


async def test_an_overrun_is_noted_and_it_runs_on(rig: Rig) -> None:
    """It stays running, is shown as overrun, and is an event of the task."""
    claimed = await rig.start()
    assert await rig.store.overrun(claimed.seq, 1, rig.by("after 5 s", "engine"))
    task = await rig.get(claimed.id)
    assert (task.state, task.asked) == (State.RUNNING, "timeout")
    assert (await rig.store.events(claimed.id))[-1].what == "asked"
    assert await rig.asked() == []


async def test_an_overrun_does_not_hide_a_cancel(rig: Rig) -> None:
    """Who was asked to cancel stays so."""
    seq, task_id = await asked(rig, "cancel")
    assert not await rig.store.overrun(seq, 1, rig.by())
    assert (await rig.get(task_id)).asked == "cancel"


async def test_a_stale_attempt_is_not_overrun(rig: Rig) -> None:
    """Another attempt is left alone."""
    claimed = await rig.start()
    assert not await rig.store.overrun(claimed.seq, 2, rig.by())
    assert (await rig.get(claimed.id)).asked is None


# ---- leave_running: "At shutdown: mark what still runs as interrupted, and let go of what is
# paused."


async def test_what_still_runs_comes_back_as_interrupted(pair: tuple[Rig, Rig]) -> None:
    """Left running at a shutdown, it is queued first, and no death is counted."""
    one, other = pair
    claimed = await one.start()
    await one.store.leave_running(one.now)
    assert await one.state(claimed.id) is State.RUNNING
    await one.die()
    await other.until_state(claimed.id, State.QUEUED)
    (again,) = (await other.claim()).claimed
    assert (again.id, again.deaths, again.resumed) == (claimed.id, 0, True)


async def test_what_is_paused_is_let_go(pair: tuple[Rig, Rig]) -> None:
    """A paused task outlives its owner, and stays paused, without a recovery."""
    one, other = pair
    task_id = await one.bring(State.PAUSED, owned=True)
    await one.store.leave_running(one.now)
    task = await other.get(task_id)
    assert (task.state, task.owner, task.paused_from) == (State.PAUSED, None, State.RUNNING)
    await one.close()
    assert await other.store.recoveries(10) == []
    await other.store.control("resume", task_id, other.by())
    assert await other.claim_ids() == [task_id]


@pytest.mark.parametrize(("verb", "state"), [("resume", State.QUEUED), ("cancel", State.CANCELLED)])
async def test_what_is_paused_and_asked_is_not_let_go(
    pair: tuple[Rig, Rig], verb: str, state: State
) -> None:
    """A paused task that was just asked to resume, or to cancel, does so when its owner is gone."""
    one, other = pair
    _, task_id = await asked(one, verb, State.PAUSED)
    await one.store.leave_running(one.now)
    await one.die()
    await other.until_state(task_id, state)


async def test_others_tasks_are_not_left(pair: tuple[Rig, Rig]) -> None:
    """Only this owner's tasks are marked."""
    one, other = pair
    claimed = await other.start()
    paused = await other.bring(State.PAUSED, owned=True)
    await one.store.leave_running(one.now)
    assert (await other.get(claimed.id)).asked is None
    assert (await other.get(paused)).owner is not None


async def test_a_cancel_outlives_the_shutdown(pair: tuple[Rig, Rig]) -> None:
    """What had been asked to cancel is cancelled when its owner is gone."""
    one, other = pair
    _, task_id = await asked(one, "cancel")
    await one.store.leave_running(one.now)
    await one.die()
    await other.until_state(task_id, State.CANCELLED)


async def test_a_pause_outlives_the_shutdown(pair: tuple[Rig, Rig]) -> None:
    """What had been asked to pause, and was promised so, does not run again when its owner ends."""
    one, other = pair
    _, task_id = await asked(one, "pause")
    await one.store.leave_running(one.now)
    await one.die()
    await other.until_state(task_id, State.PAUSED)
    assert (await other.get(task_id)).paused_from is State.RUNNING


# ---- asks: "What this owner has been asked; `Fenced` if it was taken over."


async def test_asks_name_the_task_the_verb_and_who(rig: Rig) -> None:
    """Each ask has place, attempt, verb, actor and reason."""
    seq, _ = await asked(rig, "cancel")
    (ask,) = await rig.store.asks()
    assert ask == (seq, 1, "cancel", "ana", "because")


async def test_asks_are_each_owners_own(pair: tuple[Rig, Rig]) -> None:
    """Any process may ask; only the owner hears of it."""
    one, other = pair
    claimed = await one.start()
    await other.store.control("pause", claimed.id, other.by())
    assert await other.asked() == []
    assert await one.asked() == [(claimed.seq, "pause")]


async def test_a_fenced_owner_hears_that_it_is(pair: tuple[Rig, Rig]) -> None:
    """After a takeover asking raises `Fenced`."""
    one, other = pair
    (me,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    await other.store.take_over(me, other.by())
    with pytest.raises(Fenced):
        await one.store.asks()


# ---- know, hold_unknown: "Hold queued tasks due before an instant whose function no open owner
# knows."


async def test_what_nobody_knows_is_held(rig: Rig) -> None:
    """Whether there is any, of whatever age, and how many were old enough to be held."""
    old, known = await rig.put("unknown"), await rig.put("mail")
    rig.now += HOUR
    young = await rig.put("unknown")
    by = rig.by(None, "engine")
    assert await rig.store.hold_unknown(rig.now, by) == (True, 1)
    task = await rig.get(old)
    assert (task.state, task.actor) == (State.HELD, "engine")
    assert task.reason == "no running process knows a task function named unknown"
    assert [await rig.state(i) for i in (young, known)] == [State.QUEUED] * 2


async def test_where_all_is_known_nothing_is_held(rig: Rig) -> None:
    """No unknown function: False, and none."""
    await rig.put("mail")
    rig.now += HOUR
    assert await rig.store.hold_unknown(rig.now, rig.by()) == (False, 0)


async def test_what_a_sibling_knows_is_not_held(pair: tuple[Rig, Rig]) -> None:
    """A function that any open owner has published is known, until that owner closes."""
    one, other = pair
    await other.store.know(["newer"])
    task_id = await one.put("newer")
    one.now += HOUR
    assert await one.store.hold_unknown(one.now, one.by()) == (False, 0)
    await other.close()
    assert await one.store.hold_unknown(one.now, one.by()) == (True, 1)
    assert await one.state(task_id) is State.HELD
