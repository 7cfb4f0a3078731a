"""The program under `kill -9`: a small worker app that is always busy.

    crash_worker.py FOLDER SLOT LIFE [--slots N] [--longest S] [--finish]

It works on FOLDER/tasks.db, tells its effects to FOLDER/effects.log, and keeps its counters in
FOLDER/SLOT.vitals. It enqueues without end, so that its slots are always taken; with --finish it
only works off what is there, and exits.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from crash_effects import EffectLog
from crash_points import Points
from crash_vitals import Vitals

from inloop import Key, Retry, State, TaskManager, checkpoint, current_task, exponential, progress

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("slot")
parser.add_argument("life")
parser.add_argument("--slots", type=int, default=36)
parser.add_argument("--longest", type=float, default=0.12)
parser.add_argument("--finish", action="store_true")
told = parser.parse_args()

CALLERS = 4
STEPS = 8
STEP = 0.1

folder: Path = told.folder
vitals = Vitals(folder / f"{told.slot}.vitals")
effects = EffectLog(folder / "effects.log", told.life)
positions = folder / "positions"
tasks = TaskManager(
    folder / "tasks.db",
    concurrency=told.slots,
    retention={"succeeded": None, "failed": None, "cancelled": timedelta(0)},
    grace=0.3,
    max_lag=5.0,  # it is to be busy, also on a slow machine
)
by_ticket = Key("{ticket}", keep=timedelta(days=1))
soon_again = Retry(attempts=3, backoff=exponential(base=0.02, maximum=0.05))


@contextlib.contextmanager
def effect(kind: str = "coroutines") -> Iterator[None]:
    """Tell that the code of this attempt begins and ends, and count it."""
    counters = ("running", "threads") if kind == "threads" else ("running",)
    for counter in counters:
        vitals.add(counter)
    try:
        with effects.attempt():
            yield
    finally:
        for counter in counters:
            vitals.add(counter, -1)
        vitals.add("ended")


def some_time() -> float:
    """How long a short task takes."""
    return random.uniform(told.longest / 4, told.longest)


@tasks.task(key=by_ticket)
async def short(ticket: str) -> str:
    """A coroutine that ends soon."""
    with effect():
        await asyncio.sleep(some_time())
        return ticket


@tasks.task(key=by_ticket)
def in_thread(ticket: str) -> str:
    """A plain function that ends soon."""
    with effect("threads"):
        until = time.monotonic() + some_time()
        while time.monotonic() < until:
            checkpoint()
            time.sleep(0.01)
        return ticket


@tasks.task(key=by_ticket)
async def long(ticket: str) -> int:
    """Takes longer than most lives of its process; remembers how far it came, and says so."""
    with effect():
        remembered = positions / current_task().id
        done = int(remembered.read_text()) if remembered.exists() else 0
        progress(done, STEPS)
        while done < STEPS:
            await asyncio.sleep(STEP)
            done += 1
            new = remembered.with_suffix(".new")
            new.write_text(str(done))
            os.replace(new, remembered)
            progress(done, STEPS)
        return done


@tasks.task(key=by_ticket, retry=soon_again)
async def flaky(ticket: str) -> str:
    """Fails the first time."""
    with effect():
        await asyncio.sleep(some_time() / 2)
        if current_task().failures == 0:
            raise ValueError(ticket)
        return ticket


@tasks.task(key=by_ticket)
async def parent(ticket: str) -> int:
    """Enqueues two further tasks; where it is run again, two more."""
    with effect():
        me = current_task()
        for n in range(2):
            child = f"{ticket}/{me.attempt}/{n}"
            effects.acknowledge((await short.enqueue(child)).id, child)
        return 2


@tasks.task(queue="later")
async def never() -> None:
    """Cancelled before it is due, so that there is always something to prune."""


KINDS = (short, in_thread, short, flaky, short, parent, short, in_thread, short, short)


async def feed(caller: int, room: asyncio.Event) -> None:
    """Enqueue without end. What was not acknowledged in an earlier life is enqueued again."""
    lane = f"{told.slot}/{caller}/"
    n = last_acknowledged(lane)
    while True:
        await room.wait()
        n += 1
        ticket = f"{lane}{n}"
        kind = long if n % 40 == 7 else KINDS[n % len(KINDS)]
        handle = await kind.enqueue(ticket)
        effects.acknowledge(handle.id, ticket)
        vitals.add("acks")


def last_acknowledged(lane: str) -> int:
    """The number of the last ticket of this lane."""
    with open(folder / "effects.log") as lines:
        tickets = [line.split(" ")[2] for line in lines if line.startswith("A ")]
    numbers = [t.removeprefix(lane) for t in tickets if t.startswith(lane)]
    return max((int(n) for n in numbers if n.isdigit()), default=0)


async def unfinished() -> int:
    """Tasks that are still to end; also those that are scheduled to be tried again."""
    counts = (await tasks.counts()).get("default", {})
    return sum(counts.get(state, 0) for state in (State.QUEUED, State.SCHEDULED, State.RUNNING))


async def look_for_room(room: asyncio.Event) -> None:
    """Let the feeders go on while too little is waiting."""
    while True:
        counts = (await tasks.counts()).get("default", {})
        if counts.get(State.QUEUED, 0) < 4 * told.slots:
            room.set()
        else:
            room.clear()
        await asyncio.sleep(0.01)


async def prune_often() -> None:
    """Leave something to prune, and prune it."""
    while True:
        handle = await never.using(delay=3600).enqueue()
        await handle.cancel()
        await asyncio.sleep(0.02)
        await tasks.prune()


async def work() -> None:
    """Feed and run until SIGTERM."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    room = asyncio.Event()
    helpers = [
        asyncio.create_task(helper)
        for helper in (look_for_room(room), prune_often(), *(feed(c, room) for c in range(CALLERS)))
    ]
    waiting = asyncio.create_task(end.wait())
    await asyncio.wait([waiting, *helpers], return_when=asyncio.FIRST_COMPLETED)
    for helper in helpers:
        if helper.done():
            helper.result()
        helper.cancel()


async def main() -> None:
    """Work in one life of the program."""
    Points(vitals).install()
    async with tasks:
        if told.finish:
            while await unfinished():
                await asyncio.sleep(0.05)
        else:
            await work()


if __name__ == "__main__":
    positions.mkdir(exist_ok=True)
    asyncio.run(main())
