"""prune: "Remove up to `most` tasks that finished up to their state's instant, or were deleted up
to `hidden`; but none whose key still answers for it. How many went."

next_prune: "The instant from which there will be something to prune; None: there is nothing."
"""

import pytest

from inloop._exchange import Filter, Line
from inloop._model import FINAL, State

from ..rig import HOUR, SECOND, Rig

pytestmark = pytest.mark.anyio

OK, BAD, OFF = State.SUCCEEDED, State.FAILED, State.CANCELLED


async def ids(rig: Rig) -> set[str]:
    return {task.id for task in await rig.store.find(Filter(), 100, None)}


async def prune(rig: Rig, before: int, *states: State, most: int = 100) -> int:
    """Remove what finished before an instant, in these states (default: all)."""
    return await rig.store.prune(dict.fromkeys(states or FINAL, before), 0, rig.now, most)


async def test_what_ended_before_goes(rig: Rig) -> None:
    """What ended up to the instant is removed, what ended after it stays."""
    old = [await rig.finish(state, queue=state) for state in FINAL]
    ended = rig.now
    rig.now += 1
    young = await rig.finish()
    assert await prune(rig, ended - 1) == 0
    assert await prune(rig, ended) == len(old)
    assert await ids(rig) == {young}
    assert await prune(rig, ended) == 0


async def test_each_state_has_its_own_instant(rig: Rig) -> None:
    """Retention is per final state; a state that is not named is kept."""
    ends = {state: await rig.finish(state, queue=state) for state in FINAL}
    rig.now += HOUR
    before = {OK: rig.now, BAD: rig.now - 2 * HOUR}
    assert await rig.store.prune(before, 0, rig.now, 100) == 1
    assert await ids(rig) == {ends[BAD], ends[OFF]}


@pytest.mark.parametrize("state", [s for s in State if s not in FINAL])
async def test_what_has_not_ended_stays(rig: Rig, state: State) -> None:
    """However old it is."""
    task_id = await rig.bring(state, owned=True)
    rig.now += 1000 * HOUR
    assert await prune(rig, rig.now) == 0
    assert await ids(rig) == {task_id}


async def test_at_most_so_many_at_once(rig: Rig) -> None:
    """In small batches, oldest first; the count says whether there may be more."""
    made = []
    for _ in range(7):
        made.append(await rig.finish())
        rig.now += 1
    assert await prune(rig, rig.now, most=3) == 3
    assert await ids(rig) == set(made[3:])
    assert [await prune(rig, rig.now, most=3) for _ in range(3)] == [3, 1, 0]


async def test_at_most_so_many_over_all_states(rig: Rig) -> None:
    """`most` is one number over all states, and over what was deleted."""
    for state in FINAL:
        for n in range(3):
            await rig.finish(state, queue=f"{state}{n}")
    for n in range(3):
        task_id = await rig.finish(queue=f"deleted{n}")
        await rig.store.control("delete", task_id, rig.by())
    rig.now += 1
    removed = []
    while n := await rig.store.prune(dict.fromkeys(FINAL, rig.now), rig.now, rig.now, 5):
        removed.append(n)
    assert all(n <= 5 for n in removed)
    assert sum(removed) == 12


async def test_history_and_log_go_too(rig: Rig) -> None:
    """Nothing of a removed task is left behind; a neighbour's is untouched."""
    claimed = await rig.start()
    await rig.end(rig.move(claimed), [Line(claimed.seq, 1, rig.now, 20, "app", "text")])
    rig.now += 1
    other = await rig.start()
    await rig.store.note([Line(other.seq, 1, rig.now, 20, "app", "other")], [])
    assert await prune(rig, rig.now) == 1
    assert await rig.sql("select distinct task from inloop_event") == [(other.seq,)]
    assert await rig.sql("select distinct task from inloop_log") == [(other.seq,)]
    assert await rig.store.counts() == {"default": {State.RUNNING: 1}}


# ---- deleted


async def test_what_was_deleted_goes(rig: Rig) -> None:
    """A deleted task goes when it can no longer be restored, long before its retention."""
    task_id = await rig.finish()
    await rig.store.control("delete", task_id, rig.by())
    deleted = rig.now
    assert await rig.store.prune({}, deleted - 1, rig.now, 100) == 0
    assert await rig.store.prune({}, deleted, rig.now, 100) == 1


async def test_what_was_restored_stays(rig: Rig) -> None:
    """A restored task is kept for its retention."""
    task_id = await rig.finish()
    await rig.store.control("delete", task_id, rig.by())
    await rig.store.control("restore", task_id, rig.by())
    assert await rig.store.prune({}, rig.now + HOUR, rig.now, 100) == 0
    assert await ids(rig) == {task_id}


# ---- keys that are kept


async def test_a_kept_key_outlives_retention(rig: Rig) -> None:
    """A finished task that still answers for its key stays until that time is up."""
    kept = await rig.finish(key="k", keep=HOUR)
    rig.now += HOUR // 2
    assert await prune(rig, rig.now) == 0
    (added,) = await rig.add(rig.new(key="k", keep=HOUR))
    assert (added.id, added.created) == (kept, False)
    rig.now += HOUR // 2 + 1
    assert await prune(rig, rig.now) == 1


async def test_a_key_that_is_not_kept_does_not(rig: Rig) -> None:
    """Without `keep` a key holds nothing back."""
    await rig.finish(key="k")
    assert await prune(rig, rig.now + 1) == 1


async def test_a_deleted_task_does_not_keep_its_key(rig: Rig) -> None:
    """Deleted, it goes, however long its key was to be kept."""
    task_id = await rig.finish(key="k", keep=1000 * HOUR)
    await rig.store.control("delete", task_id, rig.by())
    assert await rig.store.prune({}, rig.now + 1, rig.now, 100) == 1


async def test_kept_keys_hold_nobody_else_back(rig: Rig) -> None:
    """Behind more kept tasks than one batch holds, what is to go still goes."""
    kept = {await rig.finish(key=f"k{n}", keep=1000 * HOUR) for n in range(10)}
    rig.now += 1
    for _ in range(3):
        await rig.finish()
    rig.now += 1
    assert await prune(rig, rig.now, most=5) == 3
    assert await ids(rig) == kept


# ---- what else grows


async def test_owners_reports_and_audit_grow_not_for_ever(pair: tuple[Rig, Rig]) -> None:
    """prune_records: "Remove closed owners, recovery reports and audit entries from before"."""
    one, other = pair
    claimed = await one.start()
    await one.store.control("cancel", claimed.id, one.by())
    (them,) = [owner for owner in await other.store.owners(other.now) if not owner.me]
    await other.store.take_over(them.id, other.by())
    old = other.now
    other.now += HOUR
    await other.store.audit("young", "t", other.by())
    await other.store.prune_records(old)
    assert len(await other.store.recoveries(10)) == 1
    assert len(await other.audits(10)) == 3
    await other.store.prune_records(old + 1)
    assert await other.store.recoveries(10) == []
    assert [line.action for line in await other.audits(10)] == ["young"]
    assert await other.sql("select count(*) from inloop_owner where closed is not null") == [(0,)]
    assert [owner.me for owner in await other.store.owners(other.now)] == [True]
    assert await other.state(claimed.id) is State.CANCELLED


# ---- next_prune


async def test_nothing_to_prune(rig: Rig) -> None:
    """Nothing has ended: None."""
    await rig.start()
    assert await rig.store.next_prune(dict.fromkeys(FINAL, HOUR), SECOND) is None


async def test_the_first_to_go_says_when(rig: Rig) -> None:
    """The earliest of what has ended and of what was deleted, each with its time to stay."""
    first = rig.now
    await rig.finish(OK, queue="a")
    await rig.finish(BAD, queue="b")
    rig.now += SECOND
    deleted = await rig.finish(OFF)
    keep = {OK: HOUR, BAD: HOUR // 2, OFF: None}
    assert await rig.store.next_prune(keep, 0) == first + HOUR // 2
    await rig.store.control("delete", deleted, rig.by())
    assert await rig.store.next_prune(keep, 60 * SECOND) == rig.now + 60 * SECOND


@pytest.mark.parametrize("keep", [HOUR // 2, 2 * HOUR])
async def test_a_kept_key_is_waited_for(rig: Rig, keep: int) -> None:
    """A key that is kept longer than its task's retention goes when its own time is up."""
    await rig.finish(key="k", keep=keep)
    due = await rig.store.next_prune(dict.fromkeys(FINAL, HOUR), 0)
    assert due == rig.now + max(keep, HOUR)
    rig.now = due
    assert await prune(rig, rig.now - HOUR) == 1


async def test_what_is_kept_for_ever_is_not_waited_for(rig: Rig) -> None:
    """A state without retention never has anything to prune."""
    await rig.finish(OK)
    assert await rig.store.next_prune(dict.fromkeys(FINAL), SECOND) is None
