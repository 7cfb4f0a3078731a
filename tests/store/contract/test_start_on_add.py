"""add with `start`: who is claimed as it is stored.

"One with `start` is claimed at once if nothing that is due stands before it and its queue has a
slot."
"""

import asyncio

import pytest

from inloop._model import State

from ..rig import HOUR, LANES, SECOND, Rig, lanes

pytestmark = pytest.mark.anyio


async def starts(rig: Rig, queue: str = "default", limits: int | None = None) -> bool:
    """Whether a new task starts as it is stored."""
    allowed = LANES if limits is None else lanes(**{queue: limits})
    (added,) = await rig.add(rig.new("mail", queue, start=True), lanes=allowed)
    assert added.created
    is_running = await rig.state(added.id) is State.RUNNING
    assert is_running == (added.claimed is not None)
    return is_running


async def test_it_starts_where_nothing_stands_before_it(rig: Rig) -> None:
    """In an empty queue it starts, and so does the next."""
    assert await starts(rig)
    assert await starts(rig)


async def test_it_starts_only_if_asked(rig: Rig) -> None:
    """Without `start` it is queued."""
    (added,) = await rig.add(rig.new())
    assert added.claimed is None
    assert await rig.state(added.id) is State.QUEUED


async def test_not_past_a_queued_task(rig: Rig) -> None:
    """A task that is queued in the same queue comes first."""
    await rig.put()
    assert not await starts(rig)


async def test_not_past_a_task_of_another_function(rig: Rig) -> None:
    """Order is per queue: a queued task of another known function comes first, too."""
    await rig.put("report")
    assert not await starts(rig)


async def test_not_past_a_scheduled_task_that_is_due(rig: Rig) -> None:
    """A scheduled task that has fallen due, and is not promoted yet, comes first."""
    await rig.put(wait=1)
    rig.now += SECOND
    assert not await starts(rig)


async def test_past_a_scheduled_task_that_is_not_due(rig: Rig) -> None:
    """What is not due yet holds up nobody."""
    await rig.put(wait=1)
    rig.now += SECOND - 1
    assert await starts(rig)


async def test_past_another_queue(rig: Rig) -> None:
    """A full or waiting queue holds up no other."""
    await rig.put(queue="other")
    assert await starts(rig)


async def test_past_tasks_that_nobody_here_knows(rig: Rig) -> None:
    """Tasks of a function that is unknown here are left aside."""
    await rig.put("unknown")
    assert await starts(rig)


async def test_not_past_a_task_of_the_same_transaction(rig: Rig) -> None:
    """Of two calls that share a transaction, the earlier task comes first."""
    first = rig.adding(rig.new())
    second = rig.adding(rig.new(start=True))
    (added,) = await second
    assert added.claimed is None
    assert await rig.claim_ids() == [(await first)[0].id, added.id]


async def test_who_may_not_start_stands_before_who_comes_after(rig: Rig) -> None:
    """In one transaction: the first starts, the second waits, and the third waits behind it."""
    answers = [rig.adding(rig.new(start=start)) for start in (True, False, True)]
    assert [(await answer)[0].claimed is not None for answer in answers] == [True, False, False]


async def test_tasks_of_one_transaction_all_start(rig: Rig) -> None:
    """Several that ask to start in one transaction do."""
    answers = await asyncio.gather(*[rig.adding(rig.new(start=True)) for _ in range(5)])
    assert all(answer[0].claimed is not None for answer in answers)
    assert len({answer[0].claimed.seq for answer in answers if answer[0].claimed}) == 5


# ---- pauses


async def test_not_in_a_paused_queue(rig: Rig) -> None:
    """A pause of its queue starts nothing new; other queues go on."""
    await rig.store.pause_queue("default", None, rig.by())
    assert not await starts(rig)
    assert await starts(rig, "other")


async def test_not_while_everything_is_paused(rig: Rig) -> None:
    """A pause of everything starts nothing in any queue."""
    await rig.store.pause_queue("", None, rig.by())
    assert not await starts(rig)
    assert not await starts(rig, "other")


async def test_again_when_the_pause_has_ended(rig: Rig) -> None:
    """A pause with an end lifts itself at that instant, not before."""
    await rig.store.pause_queue("default", rig.now + HOUR, rig.by())
    rig.now += HOUR - 1
    assert not await starts(rig)
    await rig.claim()  # still paused: nothing
    rig.now += 1
    assert len(await rig.claim_ids()) == 1
    assert await starts(rig)


# ---- limits


async def test_not_beyond_the_queues_limit(rig: Rig) -> None:
    """A queue with a limit starts no more than that."""
    assert [await starts(rig, limits=2) for _ in range(3)] == [True, True, False]


async def test_each_of_one_transaction_takes_a_slot(rig: Rig) -> None:
    """Tasks that share a transaction share the limit as well."""
    allowed = lanes(default=2)
    answers = await asyncio.gather(
        *[rig.adding(rig.new(start=True), lanes=allowed) for _ in range(4)]
    )
    assert [answer[0].claimed is not None for answer in answers] == [True, True, False, False]


async def test_a_limit_of_none_at_all(rig: Rig) -> None:
    """A limit of 0 starts nothing."""
    assert not await starts(rig, limits=0)


async def test_the_limit_set_at_run_time_goes_first(rig: Rig) -> None:
    """What `set_queue` says goes before what the code says, until it is taken back."""
    await rig.store.set_queue("default", 1, rig.by())
    assert await starts(rig, limits=5)
    assert not await starts(rig, limits=5)
    await rig.store.set_queue("default", None, rig.by())
    assert len(await rig.claim_ids(lanes=lanes(default=5))) == 1
    assert await starts(rig, limits=5)


async def test_a_limit_counts_over_all_owners(pair: tuple[Rig, Rig]) -> None:
    """Tasks that run elsewhere take slots here."""
    one, other = pair
    assert await starts(one, limits=1)
    assert not await starts(other, limits=1)


# ---- fences


async def test_an_owner_that_was_taken_over_starts_nothing(pair: tuple[Rig, Rig]) -> None:
    """Its task is stored, acknowledged, and left to the others."""
    one, other = pair
    (me,) = [owner.id for owner in await one.store.owners(one.now) if owner.me]
    await other.store.take_over(me, other.by())
    (added,) = await one.add(one.new(start=True))
    assert (added.created, added.claimed) == (True, None)
    assert await other.claim_ids() == [added.id]


async def test_a_task_whose_key_is_taken_takes_no_slot(rig: Rig) -> None:
    """An answer that names another task starts nothing and uses up nothing."""
    await rig.put(queue="other", key="k", wait=60)
    allowed = lanes(default=1)
    held = rig.adding(rig.new(key="k", start=True), lanes=allowed)
    fresh = rig.adding(rig.new(start=True), lanes=allowed)
    assert [(await held)[0].created, (await fresh)[0].claimed is not None] == [False, True]
