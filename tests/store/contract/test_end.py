"""end: "Apply the end of an attempt if it is still ours."

"`done` gets the Move as it was stored, None if the attempt was not ours any more. One to scheduled
or queued gives way to a cancel or a pause that was asked for just before."
"""

from dataclasses import replace

import pytest

from inloop._exchange import Filter, Line
from inloop._model import ErrorText, Progress, State, to_datetime

from ..rig import HOUR, SECOND, Rig

pytestmark = pytest.mark.anyio

ERROR = ErrorText("E", "", "")
FINAL = [State.SUCCEEDED, State.FAILED, State.CANCELLED]


@pytest.mark.parametrize("to", FINAL)
async def test_a_final_end_is_stored_with_all_that_came_of_it(rig: Rig, to: State) -> None:
    """State, result, error, reason, failures and progress are stored, and the owner lets go."""
    claimed = await rig.start()
    rig.now += SECOND
    move = rig.move(
        claimed, to, failures=2, result='{"n":1}', error=ErrorText("E", "no", "tb"),
        reason="so", actor="ana", progress=Progress(3, 4, "half"),
    )  # fmt: skip
    assert await rig.end(move)
    task = await rig.get(claimed.id)
    assert (task.state, task.failures, task.result) == (to, 2, {"n": 1})
    assert (task.error, task.reason, task.actor) == (ErrorText("E", "no", "tb"), "so", "ana")
    assert task.finished == task.moved == to_datetime(rig.now)
    assert (task.owner, task.asked, task.progress) == (None, None, Progress(3, 4, "half"))


async def test_a_retry_is_scheduled(rig: Rig) -> None:
    """An attempt that is to be tried again leaves its task scheduled, due at the given instant."""
    claimed = await rig.start()
    due = rig.now + 30 * SECOND
    again = rig.move(claimed, State.SCHEDULED, failures=1, due=due, expires=due + HOUR)
    assert await rig.end(replace(again, error=ErrorText("E", "", "")))
    task = await rig.get(claimed.id)
    assert (task.state, task.failures, task.label) == (State.SCHEDULED, 1, "retrying")
    assert (task.due, task.finished, task.owner) == (to_datetime(due), None, None)
    assert task.expires is not None
    assert task.expires.total_seconds() == 3600
    rig.now = due
    (second,) = (await rig.claim()).claimed
    assert (second.attempt, second.failures) == (2, 1)


async def test_without_an_instant_the_due_one_stays(rig: Rig) -> None:
    """ "`due` None keeps the old one"."""
    claimed = await rig.start()
    rig.now += HOUR
    await rig.end(rig.move(claimed, State.QUEUED, first=True))
    assert (await rig.get(claimed.id)).due == to_datetime(claimed.due)


async def test_a_task_that_is_set_aside_is_held(rig: Rig) -> None:
    """An attempt may end held: for a person to decide."""
    claimed = await rig.start()
    assert await rig.end(rig.move(claimed, State.HELD, reason="it does not bind"))
    task = await rig.get(claimed.id)
    assert (task.state, task.reason, task.finished) == (State.HELD, "it does not bind", None)


async def test_progress_that_is_not_given_stays(rig: Rig) -> None:
    """An end without progress keeps what was stored before."""
    claimed = await rig.start()
    await rig.store.note([], [(claimed.seq, 1, Progress(5, 9, "on"))])
    await rig.end(rig.move(claimed))
    assert (await rig.get(claimed.id)).progress == Progress(5, 9, "on")


async def test_lines_are_stored_with_the_end(rig: Rig) -> None:
    """Log lines that are handed in with an end are in the task's log."""
    claimed = await rig.start()
    lines = [Line(claimed.seq, 1, rig.now, 20, "app", text) for text in ("one", "two")]
    await rig.end(rig.move(claimed), lines)
    assert [line.text for line in await rig.store.logs(claimed.id, 0, 10)] == ["one", "two"]


async def test_a_paused_attempt_may_end(rig: Rig) -> None:
    """A task that was paused while its code ran on ends from paused."""
    task_id = await rig.bring(State.PAUSED, owned=True)
    seq = await rig.seq(task_id)
    claimed = (await rig.start(queue="other"))._replace(seq=seq, id=task_id)
    assert await rig.end(rig.move(claimed, expects=State.PAUSED))
    task = await rig.get(task_id)
    assert (task.state, task.paused_from) == (State.SUCCEEDED, None)


async def test_many_end_in_one_transaction(rig: Rig) -> None:
    """Each of many is told its own answer, in whatever order and number they come."""
    await rig.add(*[rig.new() for _ in range(300)])
    claimed = (await rig.claim(free=300)).claimed
    stale = {one.seq for one in claimed[::7]}
    moves = [
        rig.move(one, FINAL[n % 3], attempt=9 if one.seq in stale else 1)
        for n, one in enumerate(claimed)
    ]
    answers = [await answer for answer in [rig.ending(move) for move in moves]]
    assert answers == [move if move.attempt == 1 else None for move in moves]
    counts = (await rig.store.counts())["default"]
    assert counts[State.RUNNING] == len(stale)
    assert sum(counts[state] for state in FINAL) == 300 - len(stale)


# ---- what was asked just before


@pytest.mark.parametrize("to", [State.SCHEDULED, State.QUEUED])
async def test_an_end_that_would_go_on_gives_way_to_a_cancel(rig: Rig, to: State) -> None:
    """Asked to cancel, and not heard before the attempt failed or was interrupted: cancelled."""
    claimed = await rig.start()
    await rig.store.control("cancel", claimed.id, rig.by("enough", "ben"))
    due = rig.now + HOUR if to is State.SCHEDULED else None
    stored = await rig.ending(rig.move(claimed, to, failures=1, due=due, error=ERROR))
    assert stored is not None
    assert (stored.to, stored.actor, stored.reason) == (State.CANCELLED, "ben", "enough")
    task = await rig.get(claimed.id)
    assert (task.state, task.actor, task.reason) == (State.CANCELLED, "ben", "enough")
    assert (task.error, task.due) == (ERROR, to_datetime(claimed.due))
    assert task.finished is not None


@pytest.mark.parametrize("to", [State.SCHEDULED, State.QUEUED])
async def test_an_end_that_would_go_on_gives_way_to_a_pause(rig: Rig, to: State) -> None:
    """Asked to pause: paused, and it goes on from where the end would have left it."""
    claimed = await rig.start()
    await rig.store.control("pause", claimed.id, rig.by("lunch", "ben"))
    due = rig.now + HOUR if to is State.SCHEDULED else None
    first = to is State.QUEUED
    stored = await rig.ending(rig.move(claimed, to, failures=1, due=due, first=first))
    assert stored is not None
    assert stored.to is State.PAUSED
    task = await rig.get(claimed.id)
    assert (task.state, task.actor, task.reason) == (State.PAUSED, "ben", "lunch")
    assert (task.failures, task.owner) == (1, None)
    await rig.store.control("resume", claimed.id, rig.by())
    assert await rig.state(claimed.id) is to


@pytest.mark.parametrize("verb", ["cancel", "pause"])
@pytest.mark.parametrize("to", [*FINAL, State.HELD])
async def test_an_end_that_is_one_stays(rig: Rig, verb: str, to: State) -> None:
    """What has ended has ended, whatever was asked: "asked but returned normally → succeeded"."""
    claimed = await rig.start()
    await rig.store.control(verb, claimed.id, rig.by())
    move = rig.move(claimed, to)
    assert await rig.ending(move) == move
    assert await rig.state(claimed.id) is to


async def test_a_neighbours_ask_overrules_nobody(rig: Rig) -> None:
    """Each end gives way to its own task's ask only, and to that of its own attempt."""
    one, other = await rig.start(), await rig.start()
    await rig.store.control("cancel", one.id, rig.by())
    ending = [rig.ending(rig.move(claimed, State.QUEUED, first=True)) for claimed in (one, other)]
    stored = [await answer for answer in ending]
    assert [move and move.to for move in stored] == [State.CANCELLED, State.QUEUED]


async def test_an_end_that_is_one_stays_beside_one_that_goes_on(rig: Rig) -> None:
    """Also where both are stored together."""
    one, other = await rig.start(), await rig.start()
    await rig.store.control("cancel", one.id, rig.by())
    move = rig.move(one)
    ending = [rig.ending(move), rig.ending(rig.move(other, State.QUEUED, first=True))]
    assert await ending[0] == move
    assert await ending[1]
    assert await rig.state(one.id) is State.SUCCEEDED


# ---- the fence: what does not fit changes nothing, and is told


async def unchanged(rig: Rig, task_id: str, **wrong: object) -> None:
    """This end is refused, and leaves the task and its history as they were."""
    claimed = await rig.start(queue="elsewhere")
    before, history = await rig.get(task_id), await rig.store.events(task_id)
    move = rig.move(
        claimed, State.FAILED, seq=await rig.seq(task_id), task_id=task_id, attempt=before.attempt
    )
    fitting: dict[str, object] = {"expects": before.state}
    assert not await rig.end(replace(move, **(fitting | wrong)))  # type: ignore[arg-type] # fields
    assert await rig.get(task_id) == before
    assert await rig.store.events(task_id) == history


@pytest.mark.parametrize("attempt", [0, 1, 3])
async def test_a_stale_attempt_changes_nothing(rig: Rig, attempt: int) -> None:
    """The end of any attempt but the present one is discarded."""
    claimed = await rig.start()
    await rig.end(rig.move(claimed, State.QUEUED, first=True))
    await rig.claim()
    await unchanged(rig, claimed.id, attempt=attempt)


@pytest.mark.parametrize("state", list(State))
async def test_a_task_in_another_state_is_left_alone(rig: Rig, state: State) -> None:
    """An end that expects another state than the stored one is discarded."""
    task_id = await rig.bring(state, owned=True)
    for expects in {State.RUNNING, State.PAUSED, State.WAITING} - {state}:
        await unchanged(rig, task_id, expects=expects)


@pytest.mark.parametrize("state", [s for s in State if s is not State.RUNNING])
async def test_a_task_without_an_owner_is_left_alone(rig: Rig, state: State) -> None:
    """What no attempt has in hand cannot end, whatever is expected."""
    await unchanged(rig, await rig.bring(state))


async def test_an_end_comes_once(rig: Rig) -> None:
    """The second end of one attempt is discarded."""
    claimed = await rig.start()
    assert await rig.end(rig.move(claimed))
    assert not await rig.end(rig.move(claimed, State.FAILED))
    assert await rig.state(claimed.id) is State.SUCCEEDED


async def test_an_end_comes_once_in_one_transaction(rig: Rig) -> None:
    """Of two ends of one attempt that share a transaction the first counts."""
    claimed = await rig.start()
    move = rig.move(claimed)
    first, second = rig.ending(move), rig.ending(rig.move(claimed, State.FAILED))
    assert [await first, await second] == [move, None]
    assert await rig.state(claimed.id) is State.SUCCEEDED


async def test_a_stale_end_beside_the_right_one(rig: Rig) -> None:
    """Of a stale and a present attempt in one transaction the present one counts."""
    claimed = await rig.start()
    await rig.end(rig.move(claimed, State.QUEUED, first=True))
    (again,) = (await rig.claim()).claimed
    move = rig.move(again)
    stale, right = rig.ending(rig.move(claimed, State.FAILED)), rig.ending(move)
    assert [await stale, await right] == [None, move]
    assert await rig.state(claimed.id) is State.SUCCEEDED


async def test_another_owners_task_is_left_alone(pair: tuple[Rig, Rig]) -> None:
    """Only the owner of an attempt can end it."""
    one, other = pair
    claimed = await one.start()
    assert not await other.end(other.move(claimed))
    assert await one.end(one.move(claimed))


async def test_a_task_that_was_taken_over_is_no_longer_ours(pair: tuple[Rig, Rig]) -> None:
    """After a takeover the end of the old attempt is discarded, before and after it runs anew."""
    one, other = pair
    claimed = await one.start()
    (me,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    await other.store.take_over(me, other.by())
    assert not await one.end(one.move(claimed))
    (again,) = (await other.claim()).claimed
    assert not await one.end(one.move(claimed))
    await one.store.reopen_owner()
    assert not await one.end(one.move(claimed))
    assert await other.end(other.move(again))


async def test_a_task_that_is_gone_is_told(rig: Rig) -> None:
    """The end of a task that was removed meanwhile is discarded."""
    claimed = await rig.start()
    await rig.sql("delete from inloop_task where seq = ?", claimed.seq)
    assert not await rig.end(rig.move(claimed))
    assert len(await rig.store.find(Filter(), 10, None)) == 0
