"""Opened and closed within a process that goes on: TestClient, an ASGI transport, odd scopes."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from shutdown_serving import look
from shutdown_threads import until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from inloop import NotOpen, TaskManager

STATES = "select name, state, failures, deaths from inloop_task order by seq"
may_end = threading.Event()


@pytest.fixture
def tasks(path: Path) -> TaskManager:
    """Gives little grace; its tasks nap until they may end, which is never at first."""
    tasks = TaskManager(path, grace=0.1)
    may_end.clear()

    @tasks.task(name="add")
    async def add(a: int, b: int) -> int:
        return a + b

    @tasks.task(name="nap")
    async def nap() -> None:
        while not may_end.is_set():
            await asyncio.sleep(0.005)

    return tasks


def site(tasks: TaskManager) -> Starlette:
    """A web app around the manager."""

    async def adds(request: Request) -> Response:
        return JSONResponse(await (await tasks._functions["add"].enqueue(1, 2)))

    async def naps(request: Request) -> Response:
        handle = await tasks._functions["nap"].enqueue()
        while not tasks._is_running(handle.id):
            await asyncio.sleep(0.005)
        return JSONResponse(handle.id)

    routes = [Route("/add", adds), Route("/nap", naps)]
    return Starlette(routes=routes, lifespan=tasks.lifespan)


def threads() -> set[str]:
    """The threads of this process that serve a store."""
    named = {thread.name for thread in threading.enumerate()}
    return {name for name in named if "keeper" in name or "connection_worker" in name}


# ---- TestClient


def test_testclient_opens_and_closes_again_and_again(tasks: TaskManager) -> None:
    """Each time in another thread's loop; between them the manager is closed, with no thread."""
    app = site(tasks)
    for _ in range(3):
        with TestClient(app) as client:
            assert client.get("/add").json() == 3
            assert len(threads()) >= 3
        assert not threads()
    with pytest.raises(NotOpen):
        TestClient(app).get("/add")


def test_testclient_interrupts_and_goes_on(tasks: TaskManager, path: Path) -> None:
    """What ran when one client was closed runs again when the next is opened."""
    app = site(tasks)
    with TestClient(app) as client:
        client.get("/nap")
    assert look(path, STATES) == [("nap", "queued", 0, 0)]
    may_end.set()
    with TestClient(app):
        until(lambda: look(path, STATES) == [("nap", "succeeded", 0, 0)], "it ran again")


def test_testclient_after_an_error_of_the_app(tasks: TaskManager, path: Path) -> None:
    """The block of a test fails: it is closed all the same, and may be opened again."""
    app = site(tasks)

    def fail(client: TestClient) -> None:
        client.get("/nap")
        raise LookupError

    with pytest.raises(LookupError), TestClient(app) as client:
        fail(client)
    assert look(path, STATES) == [("nap", "queued", 0, 0)]
    with TestClient(app) as client:
        assert client.get("/add").json() == 3


# ---- an ASGI transport, and the lifespan by hand


class Lifespan:
    """Speaks the lifespan protocol with an app, in an asyncio task of its own."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(app(scope, self._in.get, self._out.put))

    async def say(self, what: str) -> str:
        """Say it, and get the answer."""
        await self._in.put({"type": f"lifespan.{what}"})
        answer: str = (await self._out.get())["type"]
        return answer

    async def ended(self) -> None:
        """Wait for the end of the app's part."""
        await self._task


@pytest.mark.anyio
async def test_an_asgi_transport(tasks: TaskManager, path: Path) -> None:
    """The lifespan by hand, in a task of its own: requests of other tasks of the loop work."""
    app = site(tasks)
    for _ in range(2):
        life = Lifespan(app)
        assert await life.say("startup") == "lifespan.startup.complete"
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            assert (await client.get("/add")).json() == 3
            await client.get("/nap")
        assert await life.say("shutdown") == "lifespan.shutdown.complete"
        await life.ended()
    assert [row[:2] for row in look(path, STATES) if row[0] == "nap"] == [("nap", "queued")] * 2


@pytest.mark.anyio
async def test_a_lifespan_that_is_cancelled(tasks: TaskManager, path: Path) -> None:
    """As a server does that is forced to end: closed, its tasks interrupted."""
    app = site(tasks)
    life = Lifespan(app)
    await life.say("startup")
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
        await client.get("/nap")
    life._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life.ended()
    assert look(path, STATES) == [("nap", "queued", 0, 0)]
    async with tasks:
        pass


# ---- odd scopes


async def have_nap(tasks: TaskManager) -> None:
    """A task that runs."""
    handle = await tasks._functions["nap"].enqueue()
    while not tasks._is_running(handle.id):
        await asyncio.sleep(0.005)


@pytest.mark.anyio
async def test_entered_in_a_task_that_ends(tasks: TaskManager, path: Path) -> None:
    """And exited in another: what runs does not depend on who entered."""
    await asyncio.create_task(tasks.__aenter__())
    await have_nap(tasks)
    await asyncio.create_task(tasks.__aexit__())
    assert look(path, STATES) == [("nap", "queued", 0, 0)]


@pytest.mark.anyio
async def test_entered_in_a_task_that_is_cancelled_later(tasks: TaskManager) -> None:
    """inloop's own asyncio tasks are nobody's children: they go on."""

    async def enter_and_stay() -> None:
        await tasks.__aenter__()
        await asyncio.Event().wait()

    entering = asyncio.create_task(enter_and_stay())
    while not tasks._accepts:
        await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    assert await (await tasks._functions["add"].enqueue(1, 2)) == 3
    await tasks.__aexit__()


@pytest.mark.anyio
async def test_within_a_task_group_that_fails(tasks: TaskManager, path: Path) -> None:
    """A sibling's error cancels the block: it closes, and the error is what comes out."""

    async def fail() -> None:
        await have_nap(tasks)
        raise LookupError("of the app")

    async def run() -> None:
        async with asyncio.TaskGroup() as group:

            async def serve() -> None:
                async with tasks:
                    group.create_task(fail())
                    await asyncio.Event().wait()

            group.create_task(serve())

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert [repr(error) for error in caught.value.exceptions] == ["LookupError('of the app')"]
    assert look(path, STATES) == [("nap", "queued", 0, 0)]


@pytest.mark.anyio
async def test_within_an_anyio_scope_that_is_cancelled(tasks: TaskManager, path: Path) -> None:
    """There every await of the closing is cancelled anew: it is done all the same, and rightly."""
    with anyio.CancelScope() as scope:
        async with tasks:
            await have_nap(tasks)
            scope.cancel()
            await anyio.sleep(10)
    assert scope.cancelled_caught
    assert look(path, STATES) == [("nap", "queued", 0, 0)]
    async with tasks:
        may_end.set()
        await tasks.drain(10)
    assert look(path, STATES) == [("nap", "succeeded", 0, 0)]
