"""Group commit: who waits together shares a transaction; nobody pays for another's mistake."""

import asyncio
import logging
import sqlite3

import pytest

from inloop import IllegalMove, StoreBusy, TaskNotFound
from inloop._exchange import Filter
from inloop._model import State
from inloop._store import commit
from inloop._store.sqlite import SQLiteStore

from .rig import Rig, lanes

pytestmark = pytest.mark.anyio


async def trace(rig: Rig) -> list[str]:
    """Every statement that the store's writer runs from now on."""
    seen: list[str] = []
    assert isinstance(rig.store, SQLiteStore)
    assert rig.store._thread is not None
    await rig.store._thread.run(lambda cx: cx.set_trace_callback(seen.append))
    return seen


def commits(seen: list[str]) -> int:
    return sum(statement.lower() == "commit" for statement in seen)


# ---- sharing


async def test_calls_of_one_turn_share_one_commit(full: Rig) -> None:
    """Two hundred tasks that are added in one turn of the loop are one transaction."""
    seen = await trace(full)
    answers = [full.adding(full.new()) for _ in range(200)]
    await asyncio.gather(*answers)
    assert commits(seen) == 1


async def test_callers_share_commits(full: Rig) -> None:
    """Fifty callers with four tasks each need far fewer commits than tasks."""
    seen = await trace(full)

    async def caller() -> None:
        for _ in range(4):
            await full.put()

    await asyncio.gather(*[caller() for _ in range(50)])
    assert len(await full.store.find(Filter(), 500, None)) == 200
    assert commits(seen) <= 40


async def test_different_calls_share_one_commit(full: Rig) -> None:
    """Ends, adds, claims and verbs that come together are one transaction."""
    claimed = await full.start()
    paused = await full.put(queue="other")
    seen = await trace(full)
    await asyncio.gather(
        full.end(full.move(claimed)),
        full.put(),
        full.claim(),
        full.store.control("pause", paused, full.by()),
        full.store.note([], []),
    )
    assert commits(seen) == 1


async def test_a_transaction_has_a_bound(full: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many operations another one begins: other processes wait for none too long."""
    assert commit.MOST <= 1000
    monkeypatch.setattr(commit, "MOST", 10)
    seen = await trace(full)
    await asyncio.gather(*[full.adding(full.new()) for _ in range(21)])
    assert commits(seen) == 3


# ---- order within a transaction


async def test_a_freed_slot_is_filled_in_the_same_commit(full: Rig) -> None:
    """An end counts before a claim that was handed in before it."""
    claimed = await full.start()
    waiting = await full.put()
    claiming = asyncio.ensure_future(full.claim_ids(lanes=lanes(default=1)))
    await asyncio.sleep(0)
    ending = full.ending(full.move(claimed))
    assert await claiming == [waiting]
    assert await ending


async def test_a_new_task_is_claimed_in_the_same_commit(full: Rig) -> None:
    """An add counts before a claim that was handed in before it."""
    seen = await trace(full)
    claiming = asyncio.ensure_future(full.claim_ids())
    await asyncio.sleep(0)
    adding = full.adding(full.new())
    assert await claiming == [(await adding)[0].id]
    assert commits(seen) == 1


async def test_a_pause_comes_before_the_end_that_follows_it(full: Rig) -> None:
    """A task that paused and then ended did so in that order."""
    claimed = await full.start()
    await full.store.control("pause", claimed.id, full.by())
    pausing = asyncio.ensure_future(full.store.pause_mine(claimed.seq, 1, full.by()))
    await asyncio.sleep(0)
    ending = full.ending(full.move(claimed, expects=State.PAUSED))
    assert await pausing
    assert await ending
    assert [to for _, to in await full.moves(claimed.id)] == [
        State.RUNNING, State.PAUSED, State.SUCCEEDED,
    ]  # fmt: skip


# ---- mistakes


async def test_a_bad_one_takes_nobody_with_it(full: Rig) -> None:
    """One call that the database refuses fails alone; all others of its transaction are done."""
    there = await full.put()
    claimed = await full.start(queue="other")
    good = [full.adding(full.new()) for _ in range(10)]
    bad = full.adding(full.new(), full.new(id=there))
    ending = full.ending(full.move(claimed))
    more = [full.adding(full.new()) for _ in range(10)]
    with pytest.raises(sqlite3.IntegrityError):
        await bad
    assert await ending
    for answer in [*good, *more]:
        assert (await answer)[0].created
    assert await full.store.counts() == {
        "default": {State.QUEUED: 21}, "other": {State.SUCCEEDED: 1},
    }  # fmt: skip


async def test_a_refused_verb_costs_no_second_transaction(full: Rig) -> None:
    """What a verb refuses before it has written anything leaves the transaction as it is."""
    task_id = await full.put()
    seen = await trace(full)
    answers = await asyncio.gather(
        full.put(),
        full.store.control("fail", task_id, full.by()),
        full.store.control("cancel", "nobody", full.by()),
        full.store.control("cancel", task_id, full.by()),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [str, IllegalMove, TaskNotFound, bool]
    assert commits(seen) == 1


async def test_what_fails_for_all_is_told_to_all(full: Rig) -> None:
    """Where the store cannot write, each caller gets the error, and nothing is stored."""
    full.store.hurry(0)
    async with full.store.connect() as db:
        await db.execute("begin immediate")
        answers = await asyncio.gather(
            full.put(), full.claim(), full.store.audit("a", "t", full.by()), return_exceptions=True
        )
        await db.rollback()
    assert [type(answer) for answer in answers] == [StoreBusy] * 3
    assert len(await full.store.find(Filter(), 10, None)) == 0
    assert await full.put()


async def test_a_callback_that_raises_is_logged(
    full: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told in the log, and those after it are told all the same."""

    def broken(result: object, error: BaseException | None) -> None:
        raise RuntimeError("broken callback")

    with caplog.at_level(logging.ERROR, "inloop"):
        full.store.add([full.new()], lanes(), broken)
        assert (await full.adding(full.new()))[0].created
    assert "broken callback" in caplog.text
    assert await full.store.counts() == {"default": {State.QUEUED: 2}}
