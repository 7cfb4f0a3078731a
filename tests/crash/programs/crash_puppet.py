"""A process with a manager that does as it is told.

    crash_puppet.py FOLDER NAME

It works on FOLDER/tasks.db, tells its effects to FOLDER/effects.log under its name, and keeps its
counters in FOLDER/NAME.vitals. An order is a line on its input: [number, verb, arguments...]; the
answer is a line on its output: [number, what came of it] or [number, null, error, message].
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from crash_effects import EffectLog
from crash_points import Points
from crash_vitals import Vitals

from inloop import TaskHandle, TaskManager, checkpoint, current_task

folder, name = Path(sys.argv[1]), sys.argv[2]
SLEEP = ("sleep", "60")
effects = EffectLog(folder / "effects.log", name)
vitals = Vitals(folder / f"{name}.vitals")
tasks = TaskManager(folder / "tasks.db", grace=0.2)


# ---- its tasks


@tasks.task
async def nap(seconds: float) -> str:
    """Sleeps once."""
    with effects.attempt():
        await asyncio.sleep(seconds)
        return name


@tasks.task
def nap_in_thread(seconds: float) -> str:
    """Sleeps in a thread, and looks up now and then."""
    with effects.attempt():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            checkpoint()
            time.sleep(0.01)
        return name


@tasks.task
async def tick() -> None:
    """Tells an effect after every sleep, for ever."""
    with effects.attempt():
        while True:
            await asyncio.sleep(0.3)
            effects.tick(current_task().id)


@tasks.task
def tick_in_thread() -> None:
    """The same in a thread; it pauses at its checkpoint."""
    with effects.attempt():
        while True:
            checkpoint()
            time.sleep(0.05)
            effects.tick(current_task().id)


@tasks.task
async def stubborn() -> None:
    """Does not end when it is cancelled."""
    with effects.attempt():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)


@tasks.task
def forks() -> int:
    """Forks, and both go on here."""
    return os.fork()


@tasks.task
async def poison(how: str) -> None:
    """Kills its process."""
    with effects.attempt():
        await asyncio.sleep(0.15)
        if how == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)


# ---- what it can be told


class Orders:
    """The verbs of an order."""

    async def enqueue(self, function: str, *arguments: object) -> str:
        """Enqueue a task; its id."""
        return (await tasks._functions[function].enqueue(*arguments)).id

    async def enqueue_many(self, function: str, n: int, *arguments: object) -> list[str]:
        """Enqueue as many of them."""
        return [h.id for h in await tasks._functions[function].enqueue_many([arguments] * n)]

    async def result(self, task: str) -> object:
        """Wait for a task's result."""
        return await tasks.handle(task)

    async def verb(self, verb: str, *arguments: object) -> object:
        """Call a verb of the manager; a dict at the end has its keyword arguments."""
        words = arguments[-1] if arguments and isinstance(arguments[-1], dict) else {}
        return await getattr(tasks, verb)(*(arguments[:-1] if words else arguments), **words)

    async def block(self, seconds: float) -> float:
        """Answer, then block the event loop; the instant of the machine's monotonic clock."""
        asyncio.get_running_loop().call_later(0.02, time.sleep, seconds)
        return time.monotonic()

    async def fork(self, how: str) -> list[object]:
        """Have a child that tries to use the manager, tells what came of it, and lives on."""
        reads, writes = os.pipe()
        if how == "os.fork":
            pid = os.fork()
            if pid == 0:
                as_child(writes)
                os._exit(0)
        else:
            child = multiprocessing.get_context("fork").Process(target=as_child, args=(writes,))
            child.start()
            pid = child.pid or 0
        os.close(writes)
        told = await asyncio.to_thread(os.read, reads, 4096)
        return [pid, told.decode()]

    async def spawn(self) -> int:
        """Have a child that is another program, and keeps every descriptor that it may."""
        return await asyncio.to_thread(lambda: subprocess.Popen(SLEEP, close_fds=False).pid)


def as_child(writes: int) -> None:
    """In the fork: every verb must refuse, and nothing of the parent's may be touched."""

    async def attempt() -> str:
        try:
            await nap.enqueue(0)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "enqueued"

    os.write(writes, asyncio.run(attempt()).encode())
    time.sleep(float(os.environ.get("CHILD_LIVES", "0")))


def plain(value: object) -> object:
    """As JSON can carry it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: str(one) for key, one in asdict(value).items()}
    if isinstance(value, TaskHandle):
        return value.id
    return [plain(one) for one in value] if isinstance(value, list) else value


async def obey(orders: Orders, number: int, verb: str, *arguments: object) -> None:
    """Do it, and answer."""
    answer: list[object] = [number]
    try:
        answer.append(plain(await getattr(orders, verb)(*arguments)))
    except Exception as error:
        answer += [None, type(error).__name__, str(error)]
    tell(answer)


def tell(answer: object) -> None:
    """Write a line of output at once."""
    os.write(1, json.dumps(answer, default=str).encode() + b"\n")


async def main() -> None:
    """Open, and obey until the input ends."""
    if os.environ.get("POINTS"):
        Points(vitals, signal.Signals[os.environ["POINTS"]]).install()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    orders, busy = Orders(), set[asyncio.Task[Any]]()
    async with tasks:
        tell([0, os.getpid()])
        while line := await reader.readline():
            doing = asyncio.create_task(obey(orders, *json.loads(line)))
            busy.add(doing)
            doing.add_done_callback(busy.discard)


if __name__ == "__main__":
    asyncio.run(main())
