"""take_over: "Recover the tasks of an owner that is not known to be dead."

"it is fenced from then on". And the report of every recovery, by a person or not.
"""

import pytest

from inloop import IllegalMove
from inloop._model import Recovered, Recovery, State, to_datetime
from inloop._store.protocol import Fenced

from ..rig import SECOND, Rig

pytestmark = pytest.mark.anyio


async def my_id(rig: Rig) -> str:
    (me,) = [owner.id for owner in await rig.store.owners(rig.now) if owner.me]
    return me


async def test_its_tasks_run_elsewhere(pair: tuple[Rig, Rig]) -> None:
    """What it was running is queued before all others, and no death is counted."""
    one, other = pair
    claimed = await one.start(priority=-3)
    await other.put(queue="default", priority=9)
    assert await other.store.take_over(await my_id(one), other.by("it hangs")) == 1
    first = (await other.claim()).claimed[0]
    assert (first.id, first.attempt, first.deaths, first.resumed) == (claimed.id, 2, 0, True)
    event = (await other.store.events(claimed.id))[1]
    assert (event.origin, event.to) == (State.RUNNING, State.QUEUED)


@pytest.mark.parametrize(
    ("on_crash", "state"),
    [("rerun", State.QUEUED), ("fail", State.FAILED), ("hold", State.HELD)],
)
async def test_each_goes_by_its_on_crash(
    pair: tuple[Rig, Rig], on_crash: str, state: State
) -> None:
    """ "A task whose owner died goes by its `on_crash` to `queued`, `failed`, or `held`"."""
    one, other = pair
    claimed = await one.start(on_crash=on_crash)
    await other.store.take_over(await my_id(one), other.by())
    task = await other.get(claimed.id)
    assert (task.state, task.owner) == (state, None)
    assert (task.error is not None) == (state is not State.QUEUED)


async def test_what_it_had_paused_stays_paused(pair: tuple[Rig, Rig]) -> None:
    """A paused task of its stays paused, and is nobody's."""
    one, other = pair
    task_id = await one.bring(State.PAUSED, owned=True)
    await other.store.take_over(await my_id(one), other.by())
    task = await other.get(task_id)
    assert (task.state, task.owner, task.paused_from) == (State.PAUSED, None, State.RUNNING)


async def test_it_is_fenced(pair: tuple[Rig, Rig]) -> None:
    """It can neither claim, nor hear, nor end, pause or note anything any more."""
    one, other = pair
    claimed = await one.start()
    await one.store.control("pause", claimed.id, one.by())
    await other.store.take_over(await my_id(one), other.by())
    before = await other.get(claimed.id)
    with pytest.raises(Fenced):
        await one.claim()
    with pytest.raises(Fenced):
        await one.store.asks()
    assert not await one.store.pause_mine(claimed.seq, 1, one.by())
    assert not await one.store.overrun(claimed.seq, 1, one.by())
    assert not await one.end(one.move(claimed))
    await one.store.leave_running(one.now)
    assert await other.get(claimed.id) == before


async def test_its_siblings_are_not(pair: tuple[Rig, Rig]) -> None:
    """Whoever takes over goes on with its own tasks."""
    one, other = pair
    claimed = await other.start()
    await other.store.take_over(await my_id(one), other.by())
    assert await other.end(other.move(claimed))


async def test_more_tasks_than_one_transaction_takes(pair: tuple[Rig, Rig]) -> None:
    """All of its tasks come back, however many, and all are counted."""
    one, other = pair
    await one.add(*[one.new() for _ in range(1100)])
    await one.claim(free=1100)
    assert await other.store.take_over(await my_id(one), other.by()) == 1100
    assert await other.store.counts() == {"default": {State.QUEUED: 1100}}


async def test_it_is_an_act_of_control(pair: tuple[Rig, Rig]) -> None:
    """The audit names who took over whom, and why."""
    one, other = pair
    owner = await my_id(one)
    await other.store.take_over(owner, other.by("it hangs", "ben"))
    (line,) = await other.audits(10)
    assert (line.action, line.target, line.actor) == ("take_over", owner, "ben")
    assert line.reason == "it hangs"


async def test_nobody_takes_itself_over(rig: Rig) -> None:
    """`IllegalMove`, which says what to do instead."""
    with pytest.raises(IllegalMove, match="close its manager"):
        await rig.store.take_over(await my_id(rig), rig.by())


async def test_an_owner_that_is_gone(pair: tuple[Rig, Rig]) -> None:
    """`IllegalMove` for one that is unknown, closed, or taken over already."""
    one, other = pair
    owner = await my_id(one)
    with pytest.raises(IllegalMove, match="nobody"):
        await other.store.take_over("nobody", other.by())
    await other.store.take_over(owner, other.by())
    with pytest.raises(IllegalMove, match=owner):
        await other.store.take_over(owner, other.by())


# ---- owners, recoveries


async def test_an_owner_that_was_taken_over_is_not_listed(pair: tuple[Rig, Rig]) -> None:
    """`owners` are the open ones."""
    one, other = pair
    await other.store.take_over(await my_id(one), other.by())
    assert [owner.me for owner in await other.store.owners(other.now)] == [True]


async def test_owners_tell_how_much_they_have_in_hand(pair: tuple[Rig, Rig]) -> None:
    """`running` is the number of tasks that an owner has."""
    one, other = pair
    await one.start()
    await one.start()
    owners = {owner.me: owner.running for owner in await other.store.owners(other.now)}
    assert owners == {True: 0, False: 2}


async def test_a_takeover_is_reported(pair: tuple[Rig, Rig]) -> None:
    """The report names the owner, why, and what became of each task."""
    one, other = pair
    rerun, hold = await one.start("mail"), await one.start("report", "other", on_crash="hold")
    (them,) = [owner for owner in await other.store.owners(other.now) if not owner.me]
    other.now += SECOND
    await other.store.take_over(them.id, other.by("it hangs", "ben"))
    (report,) = await other.store.recoveries(10)
    assert report == Recovery(
        at=to_datetime(other.now),
        owner=them.id,
        pid=them.pid,
        host=them.host,
        why="taken over by ben",
        tasks=(
            Recovered(rerun.id, "mail", 1, State.QUEUED, "its process was taken over"),
            Recovered(
                hold.id, "report", 1, State.HELD, "its process is gone, and on_crash is 'hold'"
            ),
        ),
    )


async def test_a_death_is_reported(pair: tuple[Rig, Rig]) -> None:
    """The reason says that the process died."""
    one, other = pair
    claimed = await one.start()
    await one.die()
    await other.until_state(claimed.id, State.QUEUED)
    (report,) = await other.store.recoveries(10)
    assert report.why == "its process died"
    assert [task.task_id for task in report.tasks] == [claimed.id]


async def test_reports_come_newest_first(pair: tuple[Rig, Rig]) -> None:
    """At most as many as were asked for."""
    one, other = pair
    for n in range(3):
        await one.start(queue=f"q{n}")
        other.now += SECOND
        await other.store.take_over(await my_id(one), other.by())
        await one.store.reopen_owner()
    reports = await other.store.recoveries(2)
    assert [report.at for report in reports] == [
        to_datetime(other.now), to_datetime(other.now - SECOND),
    ]  # fmt: skip


async def test_an_owner_without_tasks_leaves_no_report(pair: tuple[Rig, Rig]) -> None:
    """Where there was nothing to recover there is nothing to report."""
    one, other = pair
    await one.die()

    async def alone() -> bool:
        return len(await other.store.owners(other.now)) == 1

    await other.until(alone)
    assert await other.store.recoveries(10) == []
