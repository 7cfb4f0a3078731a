"""add: "Store new tasks; `done` gets a list of `Added`, in order."

"A task whose key an unfinished task of its function has (or, with `keep`, a finished one) is not
stored: its answer names that task."
"""

import asyncio
import threading

import pytest

from inloop._exchange import Added, Filter
from inloop._model import State, to_datetime

from ..rig import HOUR, KNOWN, LANES, SECOND, Rig

pytestmark = pytest.mark.anyio


async def test_a_task_that_is_due_enters_as_queued(rig: Rig) -> None:
    """A task that is due now is queued."""
    task_id = await rig.put()
    assert await rig.moves(task_id) == [(None, State.QUEUED)]


async def test_a_task_that_is_not_due_enters_as_scheduled(rig: Rig) -> None:
    """A task that is due later is scheduled, even if it is asked to start."""
    (added,) = await rig.add(rig.new(wait=1, start=True))
    assert added.claimed is None
    assert await rig.moves(added.id) == [(None, State.SCHEDULED)]


async def test_a_task_that_starts_enters_as_running(rig: Rig) -> None:
    """A task that starts as it is stored is running in its first attempt, and is ours."""
    claimed = await rig.start(arguments='{"to": 7}', priority=3, tags='["a"]', options="{}")
    assert (claimed.attempt, claimed.failures, claimed.deaths) == (1, 0, 0)
    assert (claimed.started, claimed.due, claimed.created) == (rig.now, rig.now, rig.now)
    assert (claimed.arguments, claimed.priority) == ('{"to": 7}', 3)
    assert (claimed.tags, claimed.options) == ('["a"]', "{}")
    assert not claimed.resumed
    assert await rig.moves(claimed.id) == [(None, State.RUNNING)]
    (me,) = await rig.store.owners(rig.now)
    assert (await rig.get(claimed.id)).owner == me.id


async def test_what_was_given_is_kept(rig: Rig) -> None:
    """Every word of a new task is stored and read back."""
    new = rig.new(
        "report", "slow", wait=5, priority=-2, arguments='{"n": [1, "ü"]}', key="k", actor="ana",
        reason="by hand", tags='["x", "y"]', expires=rig.now + HOUR,
    )  # fmt: skip
    await rig.add(new)
    task = await rig.get(new.id)
    assert (task.name, task.queue, task.priority, task.key) == ("report", "slow", -2, "k")
    assert (task.actor, task.reason, task.tags) == ("ana", "by hand", ("x", "y"))
    assert task.arguments == {"n": [1, "ü"]}
    assert task.due == to_datetime(rig.now + 5 * SECOND)
    assert task.created == task.moved == to_datetime(rig.now)
    assert task.expires is not None
    assert task.expires.total_seconds() == 3595
    assert (task.attempt, task.failures, task.owner, task.started) == (0, 0, None, None)


async def test_answers_come_in_the_order_of_the_tasks(rig: Rig) -> None:
    """`done` gets one answer per task, in order, whatever the size of the call."""
    held = await rig.put(key="taken")
    news = [rig.new(key="taken" if n % 7 == 0 else None) for n in range(600)]
    added = await rig.add(*news)
    assert [one.created for one in added] == [n % 7 != 0 for n in range(600)]
    assert [one.id for one in added] == [
        new.id if one.created else held for new, one in zip(news, added, strict=True)
    ]
    assert await rig.store.counts() == {"default": {State.QUEUED: 1 + 600 - 86}}


async def test_tasks_are_stored_in_the_order_of_the_call(rig: Rig) -> None:
    """Tasks of one call that are alike run in the order in which they were given."""
    news = [rig.new(key=f"k{n}" if n % 3 == 0 else None) for n in range(20)]
    await rig.add(*news)
    assert await rig.claim_ids() == [new.id for new in news]


async def test_nothing_to_add_is_nothing(rig: Rig) -> None:
    """An empty call is answered with no answers."""
    assert await rig.add() == []


async def test_the_answer_comes_after_the_commit(rig: Rig) -> None:
    """ "`done(result, error)` is called in the event loop after the commit"."""
    new = rig.new()
    told: list[tuple[int, bool, BaseException | None]] = []

    def done(added: list[Added] | None, error: BaseException | None) -> None:
        told.append((threading.get_ident(), bool(added), error))

    rig.store.add([new], LANES, done)
    assert told == []  # it returns at once
    while not told:
        await asyncio.sleep(0.0005)
    assert told == [(threading.get_ident(), True, None)]
    assert await rig.sql("select id from inloop_task") == [(new.id,)]


# ---- keys


@pytest.mark.parametrize(
    "state", [State.SCHEDULED, State.QUEUED, State.RUNNING, State.PAUSED, State.WAITING, State.HELD]
)
async def test_an_unfinished_task_holds_its_key(rig: Rig, state: State) -> None:
    """While an unfinished task has the key, the answer names that task, and nothing is stored."""
    holder = await rig.bring(state, owned=True, key="k")
    (added,) = await rig.add(rig.new(key="k", start=True))
    assert (added.id, added.created, added.claimed) == (holder, False, None)
    assert [task.id for task in (await rig.store.find(Filter(), 10, None))] == [holder]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
async def test_a_finished_task_gives_its_key_back(rig: Rig, state: State) -> None:
    """Without `keep` the key is free as soon as its task has ended."""
    first = await rig.bring(state, key="k")
    (added,) = await rig.add(rig.new(key="k"))
    assert added.created
    assert added.id != first


async def test_keep_returns_a_finished_task(rig: Rig) -> None:
    """With `keep` a finished task answers for its key, to the instant at which that time is up."""
    first = await rig.finish(key="k", keep=HOUR)
    rig.now += HOUR
    (added,) = await rig.add(rig.new(key="k", keep=HOUR))
    assert (added.id, added.created) == (first, False)
    rig.now += 1
    (added,) = await rig.add(rig.new(key="k", keep=HOUR))
    assert added.created


async def test_an_unfinished_task_answers_before_a_finished_one(rig: Rig) -> None:
    """Where both have the key, the answer names the one that has not ended."""
    await rig.finish(key="k", keep=HOUR)
    rig.now += HOUR // 2
    (unfinished,) = await rig.add(rig.new(key="k"))
    assert unfinished.created
    (added,) = await rig.add(rig.new(key="k", keep=HOUR))
    assert added.id == unfinished.id


async def test_the_newest_finished_task_answers(rig: Rig) -> None:
    """Of several finished tasks that had the key, the newest is named."""
    await rig.finish(key="k")
    second = await rig.finish(key="k")
    (added,) = await rig.add(rig.new(key="k", keep=HOUR))
    assert added.id == second


async def test_a_deleted_task_does_not_answer(rig: Rig) -> None:
    """A deleted task has given its key back, `keep` or not."""
    first = await rig.finish(key="k", keep=HOUR)
    await rig.store.control("delete", first, rig.by())
    (added,) = await rig.add(rig.new(key="k", keep=HOUR))
    assert added.created


async def test_keys_are_per_function(rig: Rig) -> None:
    """The same key of another task function is another key."""
    ids = [await rig.put(name, key="k") for name in KNOWN]
    assert len(set(ids)) == 2


async def test_a_key_is_taken_within_one_call(rig: Rig) -> None:
    """Two tasks of one call with one key are one task."""
    one, other = await rig.add(rig.new(key="k"), rig.new(key="k"))
    assert (one.created, other.created) == (True, False)
    assert one.id == other.id


async def test_a_key_is_taken_within_one_transaction(rig: Rig) -> None:
    """Two calls that share a transaction share the key as well."""
    first, second = rig.adding(rig.new(key="k")), rig.adding(rig.new(key="k"))
    (one,), (other,) = await first, await second
    assert one.id == other.id


async def test_the_database_itself_refuses_a_second_holder(rig: Rig) -> None:
    """Two unfinished tasks of one function cannot have one key, whoever writes them."""
    await rig.put(key="k")
    other = await rig.put(key="other")
    with pytest.raises(Exception, match="UNIQUE"):
        await rig.sql("update inloop_task set key = 'k' where id = ?", other)
