"""get, ended, counts, unfinished_due."""

import random

import pytest

from inloop import TaskNotFound
from inloop._exchange import Ended
from inloop._model import FINAL, ErrorText, State

from ..rig import SECOND, Rig

pytestmark = pytest.mark.anyio


# ---- get: "One task; `TaskNotFound`."


async def test_an_unknown_task(rig: Rig) -> None:
    """`TaskNotFound`, naming the id, for every read of one task."""
    for read in (
        rig.store.get("nobody"),
        rig.store.events("nobody"),
        rig.store.attempts("nobody"),
        rig.store.logs("nobody", 0, 10),
    ):
        with pytest.raises(TaskNotFound, match="nobody"):
            await read


async def test_a_deleted_task_can_still_be_read(rig: Rig) -> None:
    """Until it is removed it is there for who knows its id."""
    task_id = await rig.finish()
    await rig.store.control("delete", task_id, rig.by())
    assert (await rig.get(task_id)).deleted is not None


# ---- ended: "Of these tasks, those that have finished (None: there is no such task)."


async def test_of_many_those_that_have_ended(rig: Rig) -> None:
    """Each with its outcome; what has not ended is left out, what is unknown is None."""
    claimed = await rig.start()
    await rig.end(rig.move(claimed, result='{"n":1}'))
    failed = await rig.start()
    error = ErrorText("ValueError", "no", "tb")
    await rig.end(rig.move(failed, State.FAILED, error=error, reason="bad"))
    running = await rig.start()
    assert await rig.store.ended([claimed.id, failed.id, running.id, "nobody"]) == {
        claimed.id: Ended(claimed.id, "mail", State.SUCCEEDED, 1, '{"n":1}', None, None),
        failed.id: Ended(failed.id, "mail", State.FAILED, 1, None, error, "bad"),
        "nobody": None,
    }


@pytest.mark.parametrize("state", list(State))
async def test_only_final_states_have_ended(rig: Rig, state: State) -> None:
    """A held, paused or waiting task keeps its waiters waiting."""
    task_id = await rig.bring(state, owned=True)
    ended = await rig.store.ended([task_id])
    assert list(ended) == ([task_id] if state in FINAL else [])


async def test_of_none_none(rig: Rig) -> None:
    """No ids, no answers; and very many at once are answered."""
    assert await rig.store.ended([]) == {}
    added = await rig.add(*[rig.new() for _ in range(2000)])
    assert await rig.store.ended([one.id for one in added] + ["x"]) == {"x": None}


# ---- counts: "How many tasks are in each state, by queue."


async def test_counts_are_by_queue_and_state(rig: Rig) -> None:
    """Over all functions of a queue; what there is none of is left out."""
    assert await rig.store.counts() == {}
    await rig.put("mail", "a")
    await rig.put("report", "a")
    await rig.put("mail", "b", wait=5)
    await rig.start("mail", "c")
    assert await rig.store.counts() == {
        "a": {State.QUEUED: 2},
        "b": {State.SCHEDULED: 1},
        "c": {State.RUNNING: 1},
    }


@pytest.mark.timeout(60)
async def test_counts_are_exact_after_thousands_of_moves(rig: Rig) -> None:
    """Whatever happens to tasks, the counters equal what is there, by state, queue and name."""
    chance = random.Random(20)
    ids: list[str] = []
    running: list[object] = []
    for turn in range(60):
        rig.now += SECOND
        some = [
            rig.new(
                chance.choice(["mail", "report"]), chance.choice(["a", "b"]), start=bool(n % 2),
                wait=chance.choice([0, 0, 3]), key=chance.choice([None, f"k{chance.random():.2}"]),
                on_crash=chance.choice(["rerun", "fail"]),
                expires=chance.choice([None, rig.now + SECOND]),
            )
            for n in range(chance.randrange(30))
        ]  # fmt: skip
        adding = [rig.adding(new) for new in some]
        ids += [(await answer)[0].id for answer in adding]
        started = [(await answer)[0].claimed for answer in adding]
        claimed = [*filter(None, started), *(await rig.claim(free=9)).claimed]
        to = [State.SUCCEEDED, State.FAILED, State.SCHEDULED, State.QUEUED, State.HELD]
        ending = [
            rig.ending(rig.move(one, chance.choice(to), due=rig.now + 2 * SECOND))
            for one in claimed
            if chance.random() < 0.8
        ]
        running += [await answer for answer in ending]
        for verb in ("cancel", "pause", "resume", "retry", "delete", "restore", "fail"):
            await rig.store.control_many(verb, chance.sample(ids, min(8, len(ids))), rig.by())
        for ask in await rig.store.asks():
            if ask.verb == "pause":
                await rig.store.pause_mine(ask.seq, ask.attempt, rig.by())
        if turn % 10 == 9:
            await rig.store.prune(
                dict.fromkeys(FINAL, rig.now - 5 * SECOND), rig.now - SECOND, rig.now, 40
            )
            await agrees(rig)
    await agrees(rig)
    assert len(running) > 300


async def agrees(rig: Rig) -> None:
    """The counters are what `count(*)` says."""
    counted = await rig.sql(
        "select state, queue, name, n from inloop_count where n <> 0 order by 1, 2, 3"
    )
    there = await rig.sql(
        "select state, queue, name, count(*) from inloop_task where deleted is null "
        "group by 1, 2, 3 order by 1, 2, 3"
    )
    assert counted == there
    assert there


# ---- unfinished_due: "How many tasks are running, queued, or scheduled and due."


async def test_what_there_is_to_do_now(rig: Rig) -> None:
    """Neither what is due later, nor paused, held or ended."""
    for state in State:
        await rig.bring(state, queue=f"q-{state}", owned=True)
    assert await rig.store.unfinished_due(rig.now) == 2
    await rig.put(wait=5)
    rig.now += 5 * SECOND
    assert await rig.store.unfinished_due(rig.now) == 3
