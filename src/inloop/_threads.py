"""Daemon threads for plain functions, and for work too heavy for the event loop.

anyio's and asyncio's worker threads are joined when the interpreter exits, and one function that
does not end would hold up that exit for ever. These are not.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TypeVar

T = TypeVar("T")

IDLE_SECONDS = 10.0
Job = Callable[[], None]


class Threads:
    """As many threads as there are jobs at once; idle ones end by themselves."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._alive = 0
        self._n = 0

    def submit(self, job: Job) -> None:
        """Run the job in a thread, at once; it must not raise.

        Where no more threads can be started it waits for one that there is; `RuntimeError` if there
        is none.
        """
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._jobs.put(job)
                return
            self._n += 1
            self._alive += 1
            name = f"inloop-{self._n}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._alive -= 1
                if self._alive == 0:
                    raise
                self._idle -= 1  # promised to one that is busy still: a debt until it is free
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    # A job may have been promised to us at this very moment: look once more.
                    if self._idle > 0 and self._jobs.empty():
                        self._idle -= 1
                        self._alive -= 1
                        return
                continue
            job()
            del job
            with self._lock:
                self._idle += 1

    def call(self, context: Context, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `work` in a thread; the future is cancellable, the thread is not."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)  # type: ignore[arg-type] # None only where T allows it
            else:
                answer.set_exception(error)

        def job() -> None:
            try:
                result = context.run(work)
            except StopIteration as error:  # a future cannot carry it
                post(loop, partial(tell, None, RuntimeError(f"StopIteration: {error}")))
            except BaseException as error:
                post(loop, partial(tell, None, error))
            else:
                post(loop, partial(tell, result, None))

        self.submit(job)
        return answer


def post(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Call in the loop's thread; False if that loop is closed."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True
