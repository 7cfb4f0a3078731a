"""Obeys: what the attempts in hand are asked to do, from this process or another.

The store holds the word (`asked`), the attempt does it, and the store is told that it is done; a
word that was taken back in between is found out by the store, which compares before it sets.
"""

import contextlib
from collections.abc import Callable, Iterator

from inloop._clock import Clock
from inloop._exchange import Ask, By, Lanes
from inloop._model import State
from inloop._outcome import End, Request, Stop
from inloop._runner import Run
from inloop._running import Running
from inloop._store.protocol import Store


class Pausing:
    """Cancel, pause and resume of attempts in hand, and the mark of one past its timeout."""

    def __init__(
        self,
        running: Running,
        store: Store,
        clock: Clock,
        wake: Callable[[], None],
        ended: Callable[[Run, End], None],
    ) -> None:
        self._running = running
        self._store = store
        self._clock = clock
        self._wake = wake
        self._ended = ended
        self._parked: list[Run] = []
        self._overrun: list[Run] = []
        self._resuming: list[Run] = []

    @property
    def has_resuming(self) -> bool:
        """Whether a resumed attempt waits for a slot: it goes before anything that is queued."""
        return bool(self._resuming)

    @property
    def is_busy(self) -> bool:
        """Whether anything is still to be stored."""
        return bool(self._parked or self._overrun)

    def obey(self, ask: Ask) -> None:
        """Do what an attempt was asked to, or begin to."""
        run = self._running.of(ask.seq, ask.attempt)
        if run is None:
            return
        by = By(0, ask.actor, ask.reason)
        if ask.verb == "cancel":
            run.stop(Request(Stop.CANCEL, ask.actor, ask.reason))
        elif ask.verb == "pause" and run.state is State.RUNNING:
            run.pause(by)
        elif ask.verb == "resume" and run not in self._resuming:
            run.resumed_by = by
            self._resuming.append(run)

    def parked(self, run: Run) -> None:
        """It stands still now."""
        self._parked.append(run)
        self._wake()

    def overran(self, run: Run) -> None:
        """A plain function is past its timeout, and cannot be ended from outside."""
        self._overrun.append(run)
        self._wake()

    async def settle(self, lanes: Lanes, *, may_resume: bool) -> bool:
        """Store what has changed, and let resumed attempts go on; whether anything was written.

        An entry is removed after it was dealt with: had the store failed, it is tried again.
        """
        busy = self.is_busy or self.has_resuming
        while self._parked:
            await self._park(self._parked[0])
            del self._parked[0]
        while self._overrun:
            await self._mark(self._overrun[0])
            del self._overrun[0]
        for run in list(self._resuming):
            if await self._let_go_on(run, lanes, may_resume=may_resume):
                self._resuming.remove(run)
        return busy

    async def _park(self, run: Run) -> None:
        """Its slot is free once it is stored that it is paused."""
        if run.is_over or run.pause_wanted is None or run.state is not State.RUNNING:
            return
        by = run.pause_wanted._replace(now=self._clock.now())
        with self._moving(run):
            if await self._store.pause_mine(run.claimed.seq, run.claimed.attempt, by):
                self._running.pause(run)
            elif run.request is None:
                run.go_on()  # it was called off: a resume came first

    async def _mark(self, run: Run) -> None:
        if not run.is_over:
            by = By(self._clock.now(), "engine", f"past its timeout of {run.timeout:g} s")
            await self._store.overrun(run.claimed.seq, run.claimed.attempt, by)

    async def _let_go_on(self, run: Run, lanes: Lanes, *, may_resume: bool) -> bool:
        """False: it still waits for a slot."""
        if run.is_over or run.resumed_by is None:
            return True
        if run.state is State.RUNNING:
            run.go_on()
            await self._store.answered(run.claimed.seq, run.claimed.attempt, "resume")
            return True
        return may_resume and self._running.free > 0 and await self._resume(run, lanes)

    async def _resume(self, run: Run, lanes: Lanes) -> bool:
        """False: its queue has no slot now."""
        assert run.resumed_by is not None
        by = run.resumed_by._replace(now=self._clock.now())
        self._running.reserved += 1
        try:
            with self._moving(run):
                seq, attempt = run.claimed.seq, run.claimed.attempt
                resumed = await self._store.resume_mine(seq, attempt, by, lanes)
                if resumed:
                    self._running.resume(run)
                    run.go_on()
        finally:
            self._running.reserved -= 1
        return resumed is not None

    @contextlib.contextmanager
    def _moving(self, run: Run) -> Iterator[None]:
        """Its stored state is changing: an end that comes now waits, to expect the right one."""
        run.is_moving = True
        try:
            yield
        finally:
            run.is_moving = False
            if run.at_end is not None:
                end, run.at_end = run.at_end, None
                self._ended(run, end)
