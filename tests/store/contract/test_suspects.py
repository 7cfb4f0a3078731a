"""claim: "of the suspects (deaths >= 2) all while one of them runs anywhere" are left out.

A task that was running at two deaths of its process in a row is a suspect. Healthy work goes on
beside it.
"""

import pytest

from inloop._model import State

from ..rig import Rig, lanes

pytestmark = pytest.mark.anyio


# As recovery leaves a task after so many deaths in a row: the next attempt is the first in line.
AFTER_DEATHS = "update inloop_task set deaths = ?, attempt = ?, rank = -(1 << 62) where id = ?"


async def suspect(rig: Rig, name: str = "mail", queue: str = "default", deaths: int = 2) -> str:
    """A queued task that was running when its process died."""
    task_id = await rig.put(name, queue)
    await rig.sql(AFTER_DEATHS, deaths, deaths, task_id)
    return task_id


async def test_suspects_run_one_at_a_time(rig: Rig) -> None:
    """Of several suspects one is claimed; the next when that one has ended."""
    first, second = await suspect(rig), await suspect(rig)
    (claimed,) = (await rig.claim()).claimed
    assert (claimed.id, claimed.deaths) == (first, 2)
    assert await rig.claim_ids() == []
    await rig.end(rig.move(claimed))
    assert await rig.claim_ids() == [second]


async def test_suspects_run_one_at_a_time_over_queues(rig: Rig) -> None:
    """Suspects of other queues and functions wait as well."""
    ids = [await suspect(rig), await suspect(rig, "report", "other")]
    assert await rig.claim_ids() == ids[:1]
    assert await rig.claim_ids() == []


async def test_suspects_run_one_at_a_time_over_owners(pair: tuple[Rig, Rig]) -> None:
    """While one runs anywhere, no other owner starts another."""
    one, other = pair
    ids = [await suspect(one), await suspect(one)]
    assert await one.claim_ids() == ids[:1]
    assert await other.claim_ids() == []


async def test_healthy_work_runs_beside_a_suspect(rig: Rig) -> None:
    """A suspect holds up nobody else."""
    ids = [await suspect(rig), await suspect(rig)]
    healthy = [await rig.put() for _ in range(3)]
    assert set(await rig.claim_ids()) == {ids[0], *healthy}
    assert await rig.state(ids[1]) is State.QUEUED


async def test_one_death_makes_no_suspect(rig: Rig) -> None:
    """After one death tasks run as usual, all at once."""
    ids = [await suspect(rig, deaths=1) for _ in range(3)]
    assert await rig.claim_ids() == ids


async def test_a_suspect_that_was_interrupted_goes_first(rig: Rig) -> None:
    """It was interrupted: in a full queue it is not passed by newer healthy work."""
    task_id = await suspect(rig)
    await rig.put(priority=9)
    assert await rig.claim_ids(lanes=lanes(default=1)) == [task_id]


async def test_a_suspect_needs_a_free_slot(rig: Rig) -> None:
    """A suspect takes one of the free slots, not one beside them."""
    task_id = await suspect(rig)
    await rig.put()
    assert await rig.claim_ids(free=0) == []
    assert await rig.claim_ids(free=1) == [task_id]


async def test_a_suspect_of_a_paused_queue_waits(rig: Rig) -> None:
    """One whose queue is paused does not run, and does not hold up another's."""
    await suspect(rig)
    other = await suspect(rig, "mail", "other")
    await rig.store.pause_queue("default", None, rig.by())
    assert await rig.claim_ids() == [other]


async def test_a_suspect_that_nobody_here_knows_waits(rig: Rig) -> None:
    """One whose function is unknown here does not hold up another."""
    await suspect(rig, "report")
    other = await suspect(rig, "mail")
    assert await rig.claim_ids(lanes=lanes("mail")) == [other]


async def test_a_suspect_that_got_through_is_healthy(rig: Rig) -> None:
    """An attempt that ended by itself ends the row of deaths: tried again, it runs as any other."""
    task_id = await suspect(rig)
    (claimed,) = (await rig.claim()).claimed
    await rig.end(rig.move(claimed, State.QUEUED, failures=1))
    (again,) = (await rig.claim()).claimed
    assert (again.id, again.deaths) == (task_id, 0)


async def test_an_interruption_does_not_clear_a_suspect(rig: Rig) -> None:
    """Interrupted by a shutdown it has proven nothing: it stays a suspect."""
    task_id = await suspect(rig)
    (claimed,) = (await rig.claim()).claimed
    await rig.end(rig.move(claimed, State.QUEUED, first=True))
    (again,) = (await rig.claim()).claimed
    assert (again.id, again.deaths) == (task_id, 2)


async def test_retry_by_hand_clears_a_suspect(rig: Rig) -> None:
    """ "failures and deaths start anew": retried by a person, it is no suspect."""
    task_id = await suspect(rig)
    (claimed,) = (await rig.claim()).claimed
    await rig.end(rig.move(claimed, State.HELD, first=True))
    await rig.store.control("retry", task_id, rig.by())
    (again,) = (await rig.claim()).claimed
    assert (again.id, again.deaths, again.failures, again.resumed) == (task_id, 0, 0, False)
