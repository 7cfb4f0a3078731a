"""A web app with background tasks, to be shut down under uvicorn.

STORE is its database; without it the app is the same app without inloop.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from inloop import TaskManager, checkpoint

STORE = os.environ.get("STORE")
tasks = TaskManager(STORE or "never-opened.db", concurrency=int(os.environ.get("SLOTS", "8")))


@tasks.task
async def nap(seconds: float) -> str:
    """Ends in time, or is interrupted."""
    await asyncio.sleep(seconds)
    return "slept"


@tasks.task
def nap_in_thread(seconds: float) -> str:
    """The same in a thread."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        checkpoint()
        time.sleep(0.01)
    return "slept"


@tasks.task
async def cleans_up(seconds: float) -> None:
    """Needs a moment when it is interrupted."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(0.2)
        os.close(os.open("cleaned", os.O_CREAT))


@tasks.task(priority=10)
async def urgent(seconds: float) -> None:
    """Goes before others."""
    await asyncio.sleep(seconds)


@tasks.task
async def swallows(seconds: float) -> None:
    """Has to be cancelled twice."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(seconds)
    await asyncio.sleep(seconds)


@tasks.task
async def ignores(seconds: float) -> None:
    """Does not end when it is cancelled."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


@tasks.task
def stuck(seconds: float) -> None:
    """A thread that looks at nothing."""
    time.sleep(seconds)


@tasks.task
async def blocks(seconds: float) -> None:
    """Hardly lets anybody else run."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.15)  # noqa: ASYNC251 # a bad guest, on purpose
        await asyncio.sleep(0)


async def ready(request: Request) -> Response:
    """Answers when the app is up."""
    return JSONResponse(os.getpid())


async def enqueue(request: Request) -> Response:
    """Enqueue a task; its id."""
    function = tasks._functions[request.path_params["name"]]
    handle = await function.enqueue(float(request.query_params["seconds"]))
    return JSONResponse(handle.id)


async def stream(request: Request) -> Response:
    """Goes on for as long as anybody listens."""

    async def chunks() -> AsyncIterator[str]:
        while True:
            yield "still here\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(chunks())


app = Starlette(
    routes=[
        Route("/", ready),
        Route("/tasks/{name}", enqueue, methods=["POST"]),
        Route("/stream", stream),
    ],
    lifespan=tasks.lifespan if STORE else None,
)
