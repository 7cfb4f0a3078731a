"""reschedule: "Let a scheduled or queued task be due at another instant, or now." """

import pytest

from inloop import IllegalMove, TaskNotFound
from inloop._model import State, to_datetime

from ..rig import HOUR, SECOND, Rig

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED])
async def test_to_a_later_instant(rig: Rig, state: State) -> None:
    """It is scheduled, runs from that instant on, and its expiry moves with it."""
    claimed_by = rig.now + HOUR
    task_id = await rig.bring(state, expires=rig.now + 2 * HOUR)
    before = (await rig.get(task_id)).expires
    assert await rig.store.reschedule(task_id, claimed_by, rig.by("later", "ben"))
    task = await rig.get(task_id)
    assert (task.state, task.due) == (State.SCHEDULED, to_datetime(claimed_by))
    assert (task.actor, task.reason, task.expires) == ("ben", "later", before)
    rig.now = claimed_by - 1
    assert await rig.claim_ids() == []
    rig.now += 1
    assert await rig.claim_ids() == [task_id]


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED])
@pytest.mark.parametrize("past", [None, 5 * SECOND])
async def test_to_now(rig: Rig, state: State, past: int | None) -> None:
    """Without an instant, or with a past one, it is queued."""
    task_id = await rig.bring(state)
    at = None if past is None else rig.now - past
    assert await rig.store.reschedule(task_id, at, rig.by())
    task = await rig.get(task_id)
    assert (task.state, task.due) == (State.QUEUED, to_datetime(at or rig.now))
    assert await rig.claim_ids() == [task_id]


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED])
async def test_a_paused_task_stays_paused(rig: Rig, state: State) -> None:
    """Its instant changes, it stays paused, and resumed it stands by its new instant."""
    task_id = await rig.bring(state)
    await rig.store.control("pause", task_id, rig.by())
    later = rig.now + HOUR
    assert await rig.store.reschedule(task_id, later, rig.by())
    assert await rig.state(task_id) is State.PAUSED
    await rig.store.control("resume", task_id, rig.by())
    task = await rig.get(task_id)
    assert (task.state, task.due) == (State.SCHEDULED, to_datetime(later))


@pytest.mark.parametrize("state", [s for s in State if s not in (State.SCHEDULED, State.QUEUED)])
async def test_no_other_can_be(rig: Rig, state: State) -> None:
    """`IllegalMove` for any other state, also for what was paused while it ran."""
    task_id = await rig.bring(state, owned=True)
    before = await rig.get(task_id)
    with pytest.raises(IllegalMove, match="scheduled or queued"):
        await rig.store.reschedule(task_id, rig.now + HOUR, rig.by())
    assert await rig.get(task_id) == before


async def test_it_is_an_event_and_a_line_in_the_audit(rig: Rig) -> None:
    """Within one state the event is "rescheduled", else the move; the audit names who and why."""
    task_id = await rig.put(wait=60)
    await rig.store.reschedule(task_id, rig.now + HOUR, rig.by("later", "ben"))
    event = (await rig.store.events(task_id))[-1]
    assert (event.what, event.actor, event.reason) == ("rescheduled", "ben", "later")
    (line,) = await rig.audits(10)
    assert (line.action, line.target, line.actor) == ("reschedule", task_id, "ben")


async def test_an_unknown_task(rig: Rig) -> None:
    """`TaskNotFound`."""
    with pytest.raises(TaskNotFound):
        await rig.store.reschedule("nobody", None, rig.by())
