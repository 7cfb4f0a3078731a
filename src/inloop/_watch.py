"""How late the event loop is: a guest that sees its host in trouble holds back.

A timer that should fire every tenth of a second tells by how much it fires too late.
"""

import asyncio

EVERY = 0.1


class LagMeter:
    """Measures while it is on; costs ten timers a second."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._expected = 0.0

    def start(self) -> None:
        """Begin to measure."""
        loop = asyncio.get_running_loop()
        self._expected = loop.time() + EVERY
        self._timer = loop.call_at(self._expected, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = max(0.0, loop.time() - self._expected)
        self._expected = loop.time() + EVERY
        self._timer = loop.call_at(self._expected, self._tick, loop)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.seconds = 0.0
