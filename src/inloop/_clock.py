"""The one door to time: what time it is, and waiting.

Everything that waits inside inloop waits here, so that `inloop.testing.FakeClock` can let a month
pass in milliseconds.
"""

import asyncio
import time
from typing import Protocol

from inloop._model import Micros

# A wall clock may be set while we sleep: never sleep longer than this without looking again.
LONGEST_SLEEP = 30.0


class Clock(Protocol):
    """Where instants and waiting come from."""

    def now(self) -> Micros:
        """The wall clock: microseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever rise; for durations."""
        ...

    async def wait(self, wake: asyncio.Event, seconds: float | None, poll: float) -> None:
        """Return when `wake` is set, or after `seconds`, or after `poll` seconds of real time."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Micros:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def wait(self, wake: asyncio.Event, seconds: float | None, poll: float) -> None:
        longest = min(poll, LONGEST_SLEEP)
        delay = longest if seconds is None else min(max(seconds, 0.0), longest)
        # A timer that sets the event itself is half the cost of `wait_for`, and idle must be free.
        timer = asyncio.get_running_loop().call_later(delay, wake.set)
        try:
            await wake.wait()
        finally:
            timer.cancel()
