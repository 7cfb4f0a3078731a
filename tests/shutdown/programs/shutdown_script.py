"""A script with background tasks, and its many ends: `shutdown_script.py how store`."""

import asyncio
import os
import sys
import time

from inloop import TaskHandle, TaskManager

HOW, STORE = sys.argv[1:]
tasks = TaskManager(STORE)
up = asyncio.Event()


@tasks.task
async def nap() -> None:
    """Has a clean-up that takes a moment."""
    try:
        await asyncio.sleep(float(os.environ.get("SECONDS", "60")))
    finally:
        await asyncio.sleep(0.1)


@tasks.task
def stuck() -> None:
    """A thread that looks at nothing."""
    time.sleep(60)


async def enqueue() -> None:
    """Have both run."""
    handles: list[TaskHandle[None]] = [await nap.enqueue()]
    if "stuck" in HOW:
        handles.append(await stuck.enqueue())
    for handle in handles:
        while (await handle.task()).state != "running":
            await asyncio.sleep(0.01)
    print("running", flush=True)  # noqa: T201 # the test waits for it


async def serve() -> None:
    """Open for ever."""
    async with tasks:
        await enqueue()
        up.set()
        await asyncio.Event().wait()


async def main() -> None:
    """End in the way that was asked for."""
    if HOW.startswith("callback"):
        serving = asyncio.create_task(serve())
        await up.wait()
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await serving
    if HOW.startswith("not closed"):
        await tasks.__aenter__()
        await enqueue()
        return
    async with tasks:
        await enqueue()
        if HOW.startswith("exit"):
            sys.exit(3)
        if HOW.startswith("error"):
            raise RuntimeError("of the app")
        if HOW.startswith("wait"):
            await asyncio.Event().wait()


asyncio.run(main())
