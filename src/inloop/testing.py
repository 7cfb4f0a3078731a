"""Test an app's tasks: a clock that obeys, a crash at will, and a way to wait without sleeping.

    async def test_reminder_is_sent_the_next_day():
        clock = FakeClock()
        async with running(tasks, clock=clock):
            handle = await remind.using(delay=timedelta(days=1)).enqueue("ana")
            await clock.advance(timedelta(days=1))
            assert await handle == "sent"

Everything runs on the real store; only time is made up, so a month passes in milliseconds.

With pytest, `pytest_plugins = ["inloop.testing"]` in a conftest gives two fixtures: `inloop_clock`,
a `FakeClock`, and `inloop_store`, the path of a fresh store for `TaskManager(…)`.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from inloop._checks import duration, instant
from inloop._clock import Clock, Timer
from inloop._manager import TaskManager
from inloop._model import Micros, to_datetime, to_micros

__all__ = ["FakeClock", "crash", "running", "settled"]

# All that is on its way is known; what a test's own coroutines do in between needs a few turns of
# the event loop.
TURNS = 10
# Plain functions run in real threads: these are waited for, but not for ever.
PATIENCE = 5.0


class _Timer:
    def __init__(self, at: Micros, call: Callable[[], object]) -> None:
        self.at = at
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeClock:
    """A clock that stands still until it is told to advance.

    start: an aware datetime; default: 2026-01-01 00:00 UTC. What inloop waits for (due instants,
    backoff, timeouts, pauses with an end) follows it; `asyncio.sleep` in your own code does not.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = self._start = to_micros(instant(start, "start"))
        self._timers: list[tuple[Micros, int, _Timer]] = []
        self._order = itertools.count()
        self._managers: list[TaskManager] = []

    def now(self) -> Micros:
        """Microseconds since 1970, for inloop itself."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the start, for inloop itself."""
        return (self._now - self._start) / 1e6

    @property
    def time(self) -> datetime:
        """What time it is, as an aware datetime."""
        return to_datetime(self._now)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call `call` once that much time has passed."""
        timer = _Timer(self._now + round(max(0.0, seconds) * 1e6), call)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        """Wait for `wake`, or until that much time has passed; for inloop itself."""
        if seconds is not None and seconds <= 0:
            await asyncio.sleep(0)
            return
        timer = None if seconds is None else self.call_later(seconds, wake.set)
        try:
            await wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def advance(self, by: float | timedelta) -> None:
        """Let time pass: everything that falls due on the way happens, each at its instant.

        by: seconds or a timedelta. Between two instants the managers that run on this clock come
        to rest: what is due is claimed and run. Code that waits for much real time
        (more than some 10 ms), or for something outside, is not waited for: `settled` does that.
        """
        until = self._now + round(duration(by, "by", least=0.0) * 1e6)
        await self._rest()
        while (at := self._next(until)) is not None:
            self._now = max(self._now, at)
            self._fire()
            await self._rest()
        self._now = until
        await self._rest()

    def _next(self, until: Micros) -> Micros | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers and self._timers[0][0] <= until else None

    def _fire(self) -> None:
        while (at := self._next(self._now)) is not None and at <= self._now:
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()

    async def _rest(self) -> None:
        await _rest(*self._managers)


async def _rest(*managers: TaskManager) -> None:
    """Until nothing is on its way, and what runs has not ended for some turns of the loop."""
    still = 0
    deadline = time.monotonic() + PATIENCE
    for tasks in managers:
        if tasks._engine is not None:
            tasks._engine.nudge()  # an app's own transaction may have brought tasks
    while time.monotonic() < deadline:
        engines = [tasks._engine for tasks in managers if tasks._engine is not None]
        if not all(engine.is_settled() for engine in engines):
            still = 0
            await asyncio.sleep(0.0002)
        elif still < TURNS:
            still += 1
            # What runs may wait for inloop's own threads, or an app's database: give it real time.
            runs = any(engine.running() for engine in engines)
            await asyncio.sleep(0.001 if runs or still == TURNS else 0)
        else:
            return  # right after the look: nobody could wake up in between


@asynccontextmanager
async def running(tasks: TaskManager, *, clock: Clock | None = None) -> AsyncIterator[TaskManager]:
    """Open a manager for the time of a test, on a clock of its own if one is given.

    At the end running tasks are interrupted at once, without the usual grace. After `crash` within
    the block there is nothing left to close.
    """
    before = tasks._clock
    if clock is not None:
        tasks._clock = clock
    if isinstance(clock, FakeClock):
        clock._managers.append(tasks)
    try:
        await tasks.__aenter__()
        try:
            yield tasks
        finally:
            await tasks._close(0.0)
    finally:
        tasks._clock = before
        if isinstance(clock, FakeClock):
            clock._managers.remove(tasks)


async def settled(tasks: TaskManager, *, timeout: float = 5.0) -> None:
    """Wait until nothing runs, nothing that is due is queued, and all is stored.

    timeout: real seconds; then `TimeoutError`, naming the tasks that still run. Tasks that are
    scheduled for later, paused or held are not waited for.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        await _rest(tasks)
        engine = tasks._engine
        if engine is None or not (busy := engine.running()):
            return
        if loop.time() > deadline:
            raise TimeoutError(f"still running after {timeout:g} s: {', '.join(busy)}")
        await asyncio.sleep(0.001)


async def crash(tasks: TaskManager) -> None:
    """Drop the manager as `kill -9` would drop its process: nothing more is written.

    Its owner's lock is free afterwards, so that opening the manager again recovers its tasks. Their
    coroutines are cancelled, for they share this process; nothing they do is stored any more.
    """
    await tasks._crash()


try:
    import pytest
except ImportError:  # the rest of this module needs no pytest
    pass
else:

    @pytest.fixture
    def inloop_clock() -> FakeClock:
        """A clock that stands still until it is told to advance."""
        return FakeClock()

    @pytest.fixture
    def inloop_store(tmp_path: Path) -> Path:
        """Where a fresh store may lie."""
        return tmp_path / "inloop.db"
