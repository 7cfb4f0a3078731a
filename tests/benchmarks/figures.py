"""The figures: what is measured, of inloop and of its floors, each on a fresh file.

Every function takes a folder, the durability and a size, and returns figures by name: rates in
tasks per second, latencies in milliseconds.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from floors import FINISH, INSERT, Grouped, Plain, row

from inloop import State, TaskManager

Figures = dict[str, float]


def manager(folder: Path, durability: str, *, work: bool = True) -> TaskManager:
    """Everything that inloop does is on: events, logs, counters, retention, the keeper."""
    return TaskManager(
        folder / "inloop.db",
        durability="full" if durability == "full" else "normal",
        concurrency=100,
        work=work,
    )


async def clients(n: int, callers: int, one: Callable[[int], Awaitable[object]]) -> float:
    """`n` calls by `callers` at once; calls per second."""
    numbers = iter(range(n))

    async def client() -> None:
        for number in numbers:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(callers)))
    return n / (time.perf_counter() - began)


# ---- enqueue, awaited to its commit; nobody runs the tasks -----------------------------------


async def enqueue(folder: Path, durability: str, n: int, callers: int) -> Figures:
    tasks = manager(folder, durability, work=False)

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with tasks:
        rate = await clients(n, callers, lambda number: add.enqueue(number, b=2))
        assert (await tasks.counts())["default"][State.QUEUED] == n
    return {"rate": rate}


async def enqueue_grouped(folder: Path, durability: str, n: int, callers: int) -> Figures:
    floor = Grouped(folder / "grouped.db", durability)
    rate = await clients(n, callers, lambda _: floor.execute(INSERT, *row()))
    await floor.close()
    return {"rate": rate}


async def enqueue_plain(folder: Path, durability: str, n: int, callers: int) -> Figures:
    floor = Plain(folder / "plain.db", durability)
    began = time.perf_counter()
    floor.insert(n, callers)
    rate = n / (time.perf_counter() - began)
    floor.close()
    return {"rate": rate}


async def enqueue_many(folder: Path, durability: str, n: int, callers: int) -> Figures:
    tasks = manager(folder, durability, work=False)

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with tasks:
        calls = [(number, 2) for number in range(n)]
        began = time.perf_counter()
        await add.enqueue_many(calls)
        rate = n / (time.perf_counter() - began)
    return {"rate": rate}


# ---- end to end: enqueue, run, await the result ----------------------------------------------


async def end_to_end(folder: Path, durability: str, n: int, callers: int) -> Figures:
    tasks = manager(folder, durability)

    @tasks.task
    async def add(a: int, b: int) -> int:
        return a + b

    async def one(number: int) -> None:
        assert await (await add.enqueue(number, b=2)) == number + 2

    async with tasks:
        await clients(min(n, 500), callers, one)
        rate = await clients(n, callers, one)
    return {"rate": rate}


async def end_to_end_grouped(folder: Path, durability: str, n: int, callers: int) -> Figures:
    floor = Grouped(folder / "grouped.db", durability)

    async def one(_: int) -> None:
        new = row()
        await floor.execute(INSERT, *new)
        await asyncio.create_task(asyncio.sleep(0))
        await floor.execute(FINISH, new[1], new[0])

    await clients(min(n, 500), callers, one)
    rate = await clients(n, callers, one)
    await floor.close()
    return {"rate": rate}


async def end_to_end_plain(folder: Path, durability: str, n: int, callers: int) -> Figures:
    floor = Plain(folder / "plain.db", durability)
    began = time.perf_counter()
    floor.end_to_end(n, callers)
    rate = n / (time.perf_counter() - began)
    floor.close()
    return {"rate": rate}


# ---- idle: one task at a time ----------------------------------------------------------------


async def idle(folder: Path, durability: str, n: int, callers: int) -> Figures:
    """From the call of `enqueue` to the first line of the task, and to its awaited result."""
    tasks = manager(folder, durability)
    began = 0.0
    first: list[float] = []
    result: list[float] = []

    @tasks.task
    async def add(a: int, b: int) -> int:
        first.append(time.perf_counter() - began)
        return a + b

    async with tasks:
        for number in range(n):
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            await (await add.enqueue(number, b=2))
            result.append(time.perf_counter() - began)
    return percentiles("first line", first) | percentiles("result", result)


async def idle_grouped(folder: Path, durability: str, n: int, callers: int) -> Figures:
    floor = Grouped(folder / "grouped.db", durability)
    first: list[float] = []
    result: list[float] = []
    for _ in range(n):
        await asyncio.sleep(0.005)
        new = row()
        began = time.perf_counter()
        await floor.execute(INSERT, *new)
        first.append(time.perf_counter() - began)
        await floor.execute(FINISH, new[1], new[0])
        result.append(time.perf_counter() - began)
    await floor.close()
    return percentiles("first line", first) | percentiles("result", result)


def percentiles(name: str, seconds: list[float]) -> Figures:
    cuts = statistics.quantiles(seconds, n=100)
    return {f"{name} p50": cuts[49] * 1000, f"{name} p99": cuts[98] * 1000}
