"""claim: "Promote what is due, cancel what has expired, and take up to `free` tasks to run."

"Order within a queue: interrupted first, then higher priority, earlier due, earlier added." (Who is
left out: test_claim_left_out, test_suspects.)
"""

import pytest

from inloop._model import State, to_datetime

from ..rig import HOUR, SECOND, Rig

pytestmark = pytest.mark.anyio


async def test_a_claimed_task_is_running_and_ours(rig: Rig) -> None:
    """Claimed, it is running in its next attempt, and its owner is this one."""
    task_id = await rig.put(priority=4, key="k", tags='["t"]', options="{}", arguments='{"a":1}')
    rig.now += SECOND
    grant = await rig.claim()
    (claimed,) = grant.claimed
    assert (claimed.id, claimed.name, claimed.queue) == (task_id, "mail", "default")
    assert (claimed.attempt, claimed.failures, claimed.deaths, claimed.priority) == (1, 0, 0, 4)
    assert (claimed.started, claimed.due) == (rig.now, rig.now - SECOND)
    assert (claimed.key, claimed.tags, claimed.options) == ("k", '["t"]', "{}")
    assert claimed.arguments == '{"a":1}'
    assert not claimed.resumed
    (me,) = await rig.store.owners(rig.now)
    task = await rig.get(task_id)
    assert (task.state, task.owner, task.attempt) == (State.RUNNING, me.id, 1)
    assert task.started == task.moved == to_datetime(rig.now)
    assert me.running == 1


async def test_a_task_is_claimed_once(rig: Rig) -> None:
    """What is running is not claimed again."""
    await rig.put()
    assert len(await rig.claim_ids()) == 1
    assert await rig.claim_ids() == []


async def test_no_two_owners_claim_one_task(pair: tuple[Rig, Rig]) -> None:
    """Of two owners each task goes to one."""
    one, other = pair
    ids = {await one.put() for _ in range(6)}
    first, second = await one.claim_ids(free=4), await other.claim_ids()
    assert (len(first), len(second)) == (4, 2)
    assert {*first, *second} == ids


async def test_at_most_as_many_as_are_free(rig: Rig) -> None:
    """No more than `free` are taken, the rest stay queued; none for no slot."""
    ids = [await rig.put() for _ in range(5)]
    assert await rig.claim_ids(free=0) == []
    assert await rig.claim_ids(free=3) == ids[:3]
    assert await rig.claim_ids(free=3) == ids[3:]


async def test_many_at_once(rig: Rig) -> None:
    """A thousand are claimed in one go, in their order."""
    added = await rig.add(*[rig.new() for _ in range(1000)])
    assert await rig.claim_ids(free=1000) == [one.id for one in added]


async def test_no_more_than_the_free_slots_over_many_queues(rig: Rig) -> None:
    """`free` is one number over all queues and functions together."""
    for queue in ("a", "b"):
        for name in ("mail", "report"):
            await rig.add(*[rig.new(name, queue) for _ in range(3)])
    assert len(await rig.claim_ids(free=5)) == 5


# ---- order


async def test_higher_priority_goes_first(rig: Rig) -> None:
    """Within a queue the higher priority goes first, whichever function it is."""
    low = await rig.put(priority=-1)
    middle = await rig.put("report", priority=0)
    high = await rig.put(priority=7)
    assert await rig.claim_ids() == [high, middle, low]


async def test_earlier_due_goes_first(rig: Rig) -> None:
    """Of one priority, what fell due earlier goes first."""
    late = await rig.put(due=rig.now - 1)
    early = await rig.put("report", due=rig.now - 2)
    assert await rig.claim_ids() == [early, late]


async def test_earlier_added_goes_first(rig: Rig) -> None:
    """Alike in priority and due, what was added earlier goes first, whichever function it is."""
    ids = [await rig.put(name) for name in ("report", "mail", "report", "mail")]
    assert await rig.claim_ids() == ids


async def test_priority_goes_before_due(rig: Rig) -> None:
    """A higher priority overtakes what has waited longer."""
    early = await rig.put(due=rig.now - HOUR)
    high = await rig.put(priority=1)
    assert await rig.claim_ids(free=1) == [high]
    assert await rig.claim_ids(free=1) == [early]


async def test_interrupted_goes_before_everything(rig: Rig) -> None:
    """What was interrupted goes before any priority, and comes back as resumed."""
    claimed = await rig.start(priority=-5)
    assert await rig.end(rig.move(claimed, State.QUEUED, first=True, reason="shutdown"))
    high = await rig.put(priority=9)
    first, second = (await rig.claim()).claimed
    assert (first.id, first.attempt, first.resumed) == (claimed.id, 2, True)
    assert (second.id, second.resumed) == (high, False)


async def test_an_interruption_counts_once(rig: Rig) -> None:
    """After it has run again and is retried, it stands in line as any other."""
    claimed = await rig.start()
    await rig.end(rig.move(claimed, State.QUEUED, first=True))
    (again,) = (await rig.claim()).claimed
    await rig.end(rig.move(again, State.QUEUED, failures=1))
    high = await rig.put(priority=1)
    (_, last) = (await rig.claim()).claimed
    assert (last.id, last.resumed) == (claimed.id, False)
    assert await rig.state(high) is State.RUNNING


# ---- due


async def test_what_is_due_is_promoted_and_claimed(rig: Rig) -> None:
    """A scheduled task runs from its instant on, by way of queued."""
    task_id = await rig.put(wait=2)
    rig.now += 2 * SECOND - 1
    assert await rig.claim_ids() == []
    rig.now += 1
    assert await rig.claim_ids() == [task_id]
    assert await rig.moves(task_id) == [
        (None, State.SCHEDULED), (State.SCHEDULED, State.QUEUED), (State.QUEUED, State.RUNNING),
    ]  # fmt: skip


async def test_what_is_due_is_promoted_without_a_slot(rig: Rig) -> None:
    """Without a free slot it is promoted all the same: it shows as queued."""
    task_id = await rig.put(wait=1)
    rig.now += SECOND
    await rig.claim(free=0)
    assert await rig.state(task_id) is State.QUEUED


async def test_next_due_is_the_next_instant(rig: Rig) -> None:
    """`next_due`: "the next instant at which it does, None if there is none."."""
    assert (await rig.claim()).next_due is None
    await rig.put(wait=9)
    await rig.put(wait=3)
    assert (await rig.claim()).next_due == rig.now + 3 * SECOND
    await rig.store.pause_queue("default", rig.now + SECOND, rig.by())
    assert (await rig.claim()).next_due == rig.now + SECOND


async def test_a_flood_of_due_tasks_is_promoted_in_parts(rig: Rig) -> None:
    """Not all at once, so that nobody waits long for it; `again` says that there is more."""
    await rig.add(*[rig.new(wait=1) for _ in range(1203)])
    rig.now += SECOND
    rounds = 1
    while (await rig.claim(free=0)).again:
        rounds += 1
    assert rounds > 1
    assert await rig.store.counts() == {"default": {State.QUEUED: 1203}}


# ---- expiry


async def test_what_has_expired_is_cancelled(rig: Rig) -> None:
    """A task that was not started in time is cancelled with that reason."""
    task_id = await rig.put(expires=rig.now + SECOND)
    rig.now += SECOND
    grant = await rig.claim()
    assert (grant.claimed, grant.expired) == ([], [task_id])
    task = await rig.get(task_id)
    assert (task.state, task.reason) == (State.CANCELLED, "expired before it could start")
    assert task.finished == to_datetime(rig.now)


async def test_before_that_instant_it_is_in_time(rig: Rig) -> None:
    """Until then it is worth starting, and `next_due` names the instant."""
    task_id = await rig.put(expires=rig.now + SECOND)
    assert (await rig.claim(free=0)).next_due == rig.now + SECOND
    rig.now += SECOND - 1
    assert await rig.claim_ids() == [task_id]
    assert (await rig.claim(free=0)).next_due is None


@pytest.mark.parametrize("name", ["mail", "unknown"])
@pytest.mark.parametrize("free", [0, 5])
async def test_it_expires_though_it_could_not_start(rig: Rig, name: str, free: int) -> None:
    """In a paused queue, without a free slot, or of a function that nobody here knows."""
    task_id = await rig.put(name, expires=rig.now + SECOND)
    await rig.store.pause_queue("default", None, rig.by())
    rig.now += SECOND
    assert (await rig.claim(free=free)).expired == [task_id]
    assert await rig.state(task_id) is State.CANCELLED


async def test_what_is_paused_does_not_expire(rig: Rig) -> None:
    """A task that a person has paused stays so; resumed too late, it is cancelled then."""
    task_id = await rig.put(expires=rig.now + SECOND)
    await rig.store.control("pause", task_id, rig.by())
    rig.now += HOUR
    assert (await rig.claim()).expired == []
    await rig.store.control("resume", task_id, rig.by())
    assert (await rig.claim()).expired == [task_id]


async def test_expired_ones_hide_nobody(rig: Rig) -> None:
    """Behind expired tasks the next ones are found by looking `again`."""
    for _ in range(3):
        await rig.put(expires=rig.now)
    good = await rig.put()
    rig.now += 1
    found = []
    while True:
        grant = await rig.claim(free=2)
        found += grant.claimed
        if not grant.again:
            break
    assert [claimed.id for claimed in found] == [good]


async def test_what_was_interrupted_does_not_expire(rig: Rig) -> None:
    """It had started in time."""
    claimed = await rig.start(expires=rig.now)
    await rig.end(rig.move(claimed, State.QUEUED, first=True, expires=rig.now))
    rig.now += HOUR
    assert await rig.claim_ids() == [claimed.id]
