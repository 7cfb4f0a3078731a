"""The threads of plain functions: at once, reused, gone when idle, and no burden to anybody."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator

import pytest

from inloop import _threads
from inloop._threads import Threads, post

pytestmark = pytest.mark.anyio

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def idle_threads_end_soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread of a test outlives it by much."""
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.05)
    before = threading.enumerate()  # idle ones of other tests
    yield
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith("inloop-"):
            thread.join(5)


def call(threads: Threads, work: Callable[[], object]) -> "asyncio.Future[object]":
    """Run in a thread, in a copy of the present context."""
    return threads.call(contextvars.copy_context(), work)


async def test_work_runs_in_a_daemon_thread() -> None:
    """Its result comes back to the loop; a thread that does not end holds up no exit."""
    thread = await call(Threads(), threading.current_thread)
    assert isinstance(thread, threading.Thread)
    assert thread.daemon
    assert thread is not threading.current_thread()


async def test_jobs_run_at_once_however_many() -> None:
    """No job waits for another: there are as many threads as jobs."""
    threads, all_run = Threads(), threading.Barrier(40)
    waits = [call(threads, lambda: all_run.wait(10)) for _ in range(40)]
    assert sorted(await asyncio.gather(*waits)) == list(range(40))  # type: ignore[type-var]


async def test_an_idle_thread_is_used_again() -> None:
    """One job after another needs one thread."""
    threads = Threads()
    used = set()
    for _ in range(20):
        used.add(await call(threads, threading.get_ident))
        await asyncio.sleep(0.001)  # until the thread has said that it is idle
    assert len(used) <= 2


async def test_idle_threads_end_by_themselves() -> None:
    """After a while without work there is no thread left, and the next job gets a new one."""
    threads = Threads()
    first = await call(threads, threading.current_thread)
    assert isinstance(first, threading.Thread)
    await asyncio.to_thread(first.join, 5)
    assert not first.is_alive()
    assert await call(threads, threading.current_thread) is not first


async def test_no_job_is_lost_to_a_thread_that_just_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that is handed in at the moment when an idle thread gives up is run all the same."""
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.0005)
    threads = Threads()
    async with asyncio.timeout(15):
        for n in range(400):
            assert await call(threads, lambda n=n: n) == n  # type: ignore[misc]
            await asyncio.sleep(0.0005 if n % 2 else 0.0004)


async def test_the_callers_context_comes_along() -> None:
    """A job sees the context variables of the code that asked for it, and changes its own copy."""
    variable.set("mine")

    def work() -> str:
        seen = variable.get()
        variable.set("the thread's")
        return seen

    assert await call(Threads(), work) == "mine"
    assert variable.get() == "mine"


@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
async def test_errors_come_back_as_they_are(kind: type[BaseException]) -> None:
    """Whatever the job raises is raised where it is awaited, and the thread goes on."""
    threads = Threads()

    def work() -> None:
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        await call(threads, work)
    assert await call(threads, lambda: "next") == "next"


async def test_stop_iteration_is_told_as_another_error() -> None:
    """A future cannot carry a `StopIteration`; it would end the waiting coroutine instead."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await call(Threads(), lambda: next(iter(())))


async def test_who_stops_waiting_does_not_stop_the_thread() -> None:
    """The future is cancelled, the job runs to its end, and nobody is disturbed by its answer."""
    threads, go, ended = Threads(), threading.Event(), threading.Event()

    def work() -> None:
        go.wait(10)
        ended.set()

    waiting = call(threads, work)
    waiting.cancel()
    go.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert await call(threads, lambda: "next") == "next"


def test_a_job_may_outlive_its_loop() -> None:
    """A thread whose loop is gone has nobody to answer to, and breaks nothing."""
    threads, go, tried = Threads(), threading.Event(), threading.Event()

    async def main() -> None:
        def work() -> None:
            go.wait(10)

        call(threads, work)

    asyncio.run(main())
    threads.submit(tried.set)
    go.set()
    assert tried.wait(10)


def test_posting_to_a_closed_loop_tells_so() -> None:
    """`post` calls in the loop's thread, and says False where there is no loop any more."""
    loop = asyncio.new_event_loop()
    assert post(loop, loop.stop)
    loop.run_forever()
    loop.close()
    assert not post(loop, print)
