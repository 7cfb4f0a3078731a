"""Run this twice: the first run dies in the middle of its task, the second one finishes it."""

import asyncio
import os
import signal
from datetime import timedelta

from inloop import Key, TaskManager, current_task

tasks = TaskManager("survives.db")


@tasks.task(key=Key("greeting of {name}", keep=timedelta(days=1)))  # one task per name and day
async def greet(name: str) -> str:
    attempt = current_task().attempt
    print(f"attempt {attempt} to greet {name}", flush=True)
    if attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # kill -9: no clean-up, no goodbye
    return f"Hello {name}, at last"


async def main() -> None:
    async with tasks:
        handle = await greet.enqueue("Ana")
        print(await handle)


asyncio.run(main())
