"""claim: who is left out, and what is told of it.

"Left out: functions unknown here, paused queues, full queues, and of the suspects (deaths >= 2) all
while one of them runs anywhere." (Of suspects: test_suspects.)
"""

import pytest

from inloop._model import State
from inloop._store.protocol import Fenced

from ..rig import HOUR, Rig, lanes

pytestmark = pytest.mark.anyio


async def test_functions_that_are_unknown_here_are_left_out(pair: tuple[Rig, Rig]) -> None:
    """They stay queued for an owner that knows them."""
    one, other = pair
    task_id = await one.put("report")
    assert await one.claim_ids(lanes=lanes("mail")) == []
    assert await other.claim_ids(lanes=lanes("report")) == [task_id]


@pytest.mark.parametrize("queue", ["default", ""])
async def test_paused_queues_are_left_out(rig: Rig, queue: str) -> None:
    """Nothing new is started in a paused queue ('': in any) until it is resumed."""
    task_id = await rig.put()
    await rig.store.pause_queue(queue, None, rig.by())
    rig.now += 1000 * HOUR
    assert await rig.claim_ids() == []
    await rig.store.resume_queue(queue, rig.by())
    assert await rig.claim_ids() == [task_id]


@pytest.mark.parametrize("queue", ["default", ""])
async def test_a_pause_with_an_end_ends(rig: Rig, queue: str) -> None:
    """A pause `until` an instant lifts itself then, and `next_due` names it."""
    task_id = await rig.put()
    end = rig.now + HOUR
    await rig.store.pause_queue(queue, end, rig.by())
    rig.now = end - 1
    grant = await rig.claim()
    assert (grant.claimed, grant.next_due) == ([], end)
    rig.now = end
    assert await rig.claim_ids() == [task_id]


async def test_another_queue_is_not_paused(rig: Rig) -> None:
    """A pause of one queue leaves the others alone; lifting "everything" does not lift it."""
    await rig.put(queue="a")
    other = await rig.put(queue="b")
    await rig.store.pause_queue("a", None, rig.by())
    await rig.store.pause_queue("", None, rig.by())
    assert await rig.claim_ids() == []
    await rig.store.resume_queue("", rig.by())
    assert await rig.claim_ids() == [other]


async def test_full_queues_are_left_out(rig: Rig) -> None:
    """A limited queue runs as many as its limit; one that ends makes room for one."""
    allowed = lanes(default=2)
    ids = [await rig.put() for _ in range(4)]
    free = await rig.put(queue="other")
    claimed = (await rig.claim(lanes=allowed)).claimed
    assert {one.id for one in claimed} == {*ids[:2], free}
    assert await rig.claim_ids(lanes=allowed) == []
    await rig.end(rig.move(claimed[0]))
    assert await rig.claim_ids(lanes=allowed) == [ids[2]]


async def test_a_limit_holds_over_all_functions_of_a_queue(rig: Rig) -> None:
    """The limit is the queue's, not each function's, and the best go first."""
    low = [await rig.put(name) for name in ("mail", "report")]
    high = [await rig.put(name, priority=1) for name in ("mail", "report")]
    assert await rig.claim_ids(lanes=lanes(default=2)) == high
    assert [await rig.state(task_id) for task_id in low] == [State.QUEUED] * 2


async def test_a_limit_counts_what_others_run(pair: tuple[Rig, Rig]) -> None:
    """Limits count over all owners."""
    one, other = pair
    for _ in range(4):
        await one.put()
    assert len(await one.claim_ids(free=2, lanes=lanes(default=3))) == 2
    assert len(await other.claim_ids(lanes=lanes(default=3))) == 1
    assert await one.claim_ids(lanes=lanes(default=3)) == []


async def test_a_paused_task_takes_no_slot(rig: Rig) -> None:
    """A task that was paused has given its slot back."""
    await rig.bring(State.PAUSED, owned=True)
    task_id = await rig.put()
    assert await rig.claim_ids(lanes=lanes(default=1)) == [task_id]


async def test_a_limit_of_none_starts_nothing(rig: Rig) -> None:
    """A limit of 0 holds the queue."""
    await rig.put()
    assert await rig.claim_ids(lanes=lanes(default=0)) == []


async def test_a_limit_that_is_overrun_starts_nothing(rig: Rig) -> None:
    """A limit that was lowered below what runs waits until enough have ended."""
    first, second = await rig.start(), await rig.start()
    task_id = await rig.put()
    await rig.store.set_queue("default", 1, rig.by())
    assert await rig.claim_ids() == []
    await rig.end(rig.move(first))
    assert await rig.claim_ids() == []
    await rig.end(rig.move(second))
    assert await rig.claim_ids() == [task_id]


# ---- held back: "something is left for want of a slot … look again when an attempt ends"


async def test_what_is_left_for_want_of_a_slot_is_told(rig: Rig) -> None:
    """Of this process or of the queue; not what is unknown here, paused, or due later."""
    assert not (await rig.claim()).held_back
    await rig.put("unknown")
    await rig.put(wait=5)
    assert not (await rig.claim()).held_back
    first = await rig.put()
    await rig.put()
    grant = await rig.claim(free=1)
    assert ([one.id for one in grant.claimed], grant.held_back) == ([first], True)
    assert (await rig.claim(lanes=lanes(default=1))).held_back
    await rig.store.pause_queue("default", None, rig.by())
    assert not (await rig.claim()).held_back
    await rig.store.resume_queue("default", rig.by())
    assert not (await rig.claim()).held_back


# ---- fenced


async def test_an_owner_that_was_taken_over_claims_nothing(pair: tuple[Rig, Rig]) -> None:
    """`Fenced`: "it has no tasks any more, and may claim none"."""
    one, other = pair
    task_id = await other.put()
    (me,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    await other.store.take_over(me, other.by())
    with pytest.raises(Fenced):
        await one.claim()
    assert await other.claim_ids() == [task_id]
