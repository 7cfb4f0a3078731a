"""A disk that fills up: new work is refused, what has run is still written, nothing is lost."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from inloop import StoreFull
from inloop._exchange import Filter, Line
from inloop._model import State
from inloop._store import open_store

from .mounts import filled, mounted
from .rig import Rig

pytestmark = pytest.mark.anyio

BIG = '{"text":"' + "x" * 50_000 + '"}'


@pytest.fixture
def folder(tmp_path: Path) -> object:
    with mounted(tmp_path / "small", "size=16m") as folder:
        yield folder


@pytest.fixture
async def small(folder: Path, anyio_backend: object) -> AsyncIterator[Rig]:
    """A store on a disk of 16 MB."""
    rig = await Rig(open_store(folder / "tasks.db", "full")).open()
    yield rig
    await rig.close()


async def until_full(rig: Rig) -> list[str]:
    """Enqueue until it is refused; what was acknowledged."""
    acknowledged: list[str] = []

    async def enqueue() -> None:
        while len(acknowledged) < 5000:
            acknowledged.append(await rig.put(queue="big", arguments=BIG))

    with pytest.raises(StoreFull, match=r"tasks\.db.*make room"):
        await enqueue()
    return acknowledged


async def put_again(rig: Rig, queue: str) -> str:
    """Enqueue as soon as the store has seen that there is room again: within seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await rig.put(queue=queue)
            except StoreFull:
                await asyncio.sleep(0.05)


async def test_enqueue_is_refused(small: Rig) -> None:
    """`StoreFull`, naming the file and what to do; what was acknowledged before is there."""
    acknowledged = await until_full(small)
    there = {task.id for task in await small.store.find(Filter(), 5000, None)}
    assert there == set(acknowledged)


async def test_what_has_run_is_still_written(small: Rig, folder: Path) -> None:
    """Hundreds of tasks that were running end, with not a byte free."""
    await small.add(*[small.new() for _ in range(300)])
    claimed = (await small.claim(free=300)).claimed
    with filled(folder):
        await until_full(small)
        for one in claimed:
            assert await small.end(small.move(one))
        counts = await small.store.counts()
        assert counts["default"] == {State.SUCCEEDED: 300}


async def test_ends_come_through_beside_what_is_refused(small: Rig, folder: Path) -> None:
    """Ends that share a transaction with refused work are written; the work is refused."""
    claimed = [await small.start(queue=f"q{n}") for n in range(20)]
    refused = 0
    with filled(folder):
        await until_full(small)
        for one in claimed:
            adding = [small.adding(small.new(arguments=BIG)) for _ in range(100)]
            ending = small.ending(small.move(one))
            assert await ending
            for error in await asyncio.gather(*adding, return_exceptions=True):
                refused += isinstance(error, StoreFull)
    assert refused >= 1000


async def test_reading_goes_on(small: Rig, folder: Path) -> None:
    """A full disk stops no read."""
    task_id = await small.put()
    with filled(folder):
        await until_full(small)
        assert await small.state(task_id) is State.QUEUED
        assert (await small.store.counts())["default"] == {State.QUEUED: 1}


async def test_it_works_again_when_there_is_room(small: Rig, folder: Path) -> None:
    """Without reopening, with nothing lost and nothing broken."""
    claimed = await small.start(queue="first")
    with filled(folder):
        acknowledged = await until_full(small)
        assert await small.end(small.move(claimed))
    acknowledged.append(await put_again(small, "big"))
    assert set(await small.claim_ids(free=5000)) == set(acknowledged)
    with closing(sqlite3.connect(folder / "tasks.db")) as cx:
        assert cx.execute("pragma integrity_check").fetchone() == ("ok",)
        counted = cx.execute("select state, sum(n) from inloop_count where n > 0 group by 1")
        there = cx.execute("select state, count(*) from inloop_task group by 1")
        assert sorted(counted.fetchall()) == sorted(there.fetchall())


async def test_mending_a_store_without_room(small: Rig, folder: Path) -> None:
    """What the engine does after an error changes nothing: the same owner, its tasks its own."""
    claimed = await small.start()
    with filled(folder):
        await until_full(small)
        await small.store.mend()
        assert await small.end(small.move(claimed))
    assert await put_again(small, "later")


async def test_a_log_that_finds_no_room(small: Rig, folder: Path) -> None:
    """Log lines are refused as any other work, and are written when there is room."""
    claimed = await small.start()
    lines = [Line(claimed.seq, 1, small.now, 20, "app", "x" * 8000) for _ in range(300)]
    with filled(folder):
        await until_full(small)
        with pytest.raises(StoreFull):
            await small.store.note(lines, [])
        assert await small.store.logs(claimed.id, 0, 1000) == []
    await small.store.note(lines[:20], [])
    assert len(await small.store.logs(claimed.id, 0, 1000)) == 20
