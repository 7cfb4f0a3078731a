"""The one door to time: what time it is, and waiting.

Everything that waits inside inloop waits here, so that `inloop.testing.FakeClock` can let a month
pass in milliseconds.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from inloop._model import Micros

# A wall clock may be set while we sleep: never sleep longer than this without looking again.
LONGEST_SLEEP = 30.0


class Timer(Protocol):
    """Something that will happen, and can be called off."""

    def cancel(self) -> None:
        """Call it off; nothing happens if it has happened."""
        ...


class Clock(Protocol):
    """Where instants and waiting come from."""

    def now(self) -> Micros:
        """The wall clock: microseconds since 1970, UTC. From any thread."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever rise; for durations."""
        ...

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call `call` in the event loop after `seconds`."""
        ...

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        """Return when `wake` is set, or after `seconds` (None: as late as it dares)."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Micros:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call)

    async def wait(self, wake: asyncio.Event, seconds: float | None) -> None:
        delay = LONGEST_SLEEP if seconds is None else min(max(seconds, 0.0), LONGEST_SLEEP)
        # A timer that sets the event itself is half the cost of `wait_for`, and idle must be free.
        timer = asyncio.get_running_loop().call_later(delay, wake.set)
        try:
            await wake.wait()
        finally:
            timer.cancel()
