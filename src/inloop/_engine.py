"""The engine: hear, save, claim, run, apply, tell, wait. One asyncio task of its own.

    ┌─► arm the wake event            first, so that nothing that happens from here on is missed
    │   hear      what siblings wrote, what this owner was asked to do
    │   save      outcomes that the store could not take before
    │   let go on tasks that were resumed, ahead of queued ones
    │   claim     what is due, up to the free slots; start it
    └── wait      until woken, or something is due

An attempt ends in its own asyncio task, and hands its Move to the store from there: the loop above
is not in that path. What runs is in `Running`, what is asked of it in `Pausing`; all of it is
touched in one event loop only.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from inloop import _outcome, _shutdown
from inloop._chores import Chores
from inloop._clock import Clock, SystemClock
from inloop._errors import NotOpen, StoreError, TaskNotFound
from inloop._events import Feed, Outcomes
from inloop._exchange import Added, Claimed, Ended, Lanes, Move, NewTask
from inloop._function import TaskFunction
from inloop._model import FINAL, ErrorText, Event, Micros, State
from inloop._notes import Notes
from inloop._outcome import Circumstances, End, Raised, Request, Stop, StrayCancellation
from inloop._pausing import Pausing
from inloop._retry import NEVER
from inloop._runner import Misfit, Run
from inloop._running import Running
from inloop._settings import Settings
from inloop._store.protocol import Fenced, Store
from inloop._threads import Threads, post
from inloop._watch import LagMeter

log = logging.getLogger("inloop")

RETRY_STORE_AFTER = 0.5
LATE_AGAIN_AFTER = 0.05
START_AGAIN_AFTER = 5.0
BYTES_A_TURN = 32 * 1024


class Engine:
    """Runs the tasks of one opening of one manager."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        functions: Mapping[str, TaskFunction[Any, Any]],
        settings: Settings,
        outcomes: Outcomes,
        feed: Feed,
    ) -> None:
        self._store = store
        self.clock = clock
        self._functions = functions
        self._settings = settings
        self._outcomes = outcomes
        self._feed = feed
        self.loop = asyncio.get_running_loop()
        self.threads = Threads()
        self.lag = LagMeter()
        # What is wrong, for people: with the store (nothing is started), or with inloop itself.
        self._store_trouble: str | None = None
        self._own_trouble: str | None = None
        self.lanes = Lanes(frozenset(), settings.limits)
        self._wake = asyncio.Event()
        self._notes = Notes(store, feed, clock)
        self._chores = Chores(store, clock, settings.retention)
        self._running = Running(settings.concurrency)
        self._pausing = Pausing(self._running, store, clock, self._wake.set, self.ended)
        self.parked = self._pausing.parked
        self.overran = self._pausing.overran
        self.noted = self._notes.want
        self._unsaved: list[tuple[Run, Move, End]] = []
        self._left: set[Run] = set()
        self._release: Callable[[], None] | None = None
        self._hungry = True
        self._held_back = False
        self._changed = False
        self._look = False
        self._next_due: Micros | None = None
        self._waits = False
        self._closing = False
        self._interrupting = False
        self._closed = False
        self._services: list[asyncio.Task[None]] = []

    # ---- opening

    async def open(self) -> None:
        """Open the store and begin to work."""
        self._base = contextvars.copy_context()
        self._server = _shutdown.server()
        self.declare()
        self._outcomes.open()
        await self._store.open(self.clock.now, self._wake_from_thread, sorted(self._functions))
        if isinstance(self.clock, SystemClock):
            self.lag.start()  # lag is real time, and means nothing on a clock that stands still
        for name, service in (
            ("engine", self._serve),
            ("notes", self._notes.write),
            ("feed", partial(self._feed.pump, self._store.events_after)),
        ):
            task = self.loop.create_task(self._supervise(name, service), name=f"inloop-{name}")
            self._services.append(task)

    def declare(self) -> None:
        """Task functions were added: from now on they can be run here."""
        if len(self.lanes.known) != len(self._functions):
            self.lanes = Lanes(frozenset(self._functions), self._settings.limits)
            self._hungry = True
            self._chores.look_soon()
            self._wake.set()

    def _wake_from_thread(self) -> None:
        post(self.loop, self.nudge)

    def nudge(self) -> None:
        """Somebody else may have written."""
        self._changed = True
        self._wake.set()

    async def _supervise(self, name: str, service: Callable[[], Any]) -> None:
        """A failure of inloop's own is logged and shown, and never reaches the host."""
        pause = 0.1
        while not self._closed:
            try:
                await service()
                return
            except StoreError as error:
                log.warning("inloop's %s waits for the store: %s", name, error)
                await asyncio.sleep(RETRY_STORE_AFTER)
                continue
            except Exception as error:
                self._own_trouble = f"{name}: {error!r}"
                log.exception("inloop's %s failed; it starts again in %.1f s", name, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30.0)

    # ---- the loop

    async def _serve(self) -> None:
        # It may have been started again after a failure: then it looks at everything first.
        self._look = self._changed = self._hungry = True
        while not self._closed:
            self._wake.clear()
            try:
                delay = await self._pass()
                self._up()
            except Fenced:
                await self._start_over()
                continue
            except StoreError as error:
                self._down(error)
                delay = RETRY_STORE_AFTER
                with contextlib.suppress(StoreError):
                    await self._store.mend()
            self._waits = True
            await self.clock.wait(self._wake, delay)
            self._waits = False

    async def _pass(self) -> float | None:
        """One pass; the seconds until the next is due, None: when woken."""
        await self._hear()
        await self._save_again()
        if await self._pausing.settle(self.lanes, may_resume=not self._closing):
            self._hungry = True  # a slot may be free now
            self._feed.poke()
        if self._settings.work and not self._closing:
            late = await self._claim()
            if late is not None:
                return late
        if not self._closing and await self._chores.do(self._functions):
            self._feed.poke()
        return self._until_next()

    def _until_next(self) -> float | None:
        if self._wake.is_set():
            return 0.0
        if self._closing:
            return None
        due = [self._chores.next(), self._next_due if self._settings.work else None]
        first = min((at for at in due if at is not None), default=None)
        return None if first is None else max(0.0, (first - self.clock.now()) / 1e6)

    def poke(self) -> None:
        """A word of control was written by this process."""
        self._outcomes.doubt()  # what had ended may have been retried
        self._chores.look_soon()  # and what was deleted is to be pruned
        self._hungry = True
        self._look = True
        self._wake.set()
        self._feed.poke()

    async def _hear(self) -> None:
        if self._changed:
            self._changed = False
            if await self._store.has_changed():
                self._hungry = self._look = True
                self._outcomes.doubt()
                self._feed.poke()
                await self._hear_progress()
        if self._look:
            self._look = False
            for ask in await self._store.asks():
                self._pausing.obey(ask)
            await self._hear_outcomes()

    async def _hear_outcomes(self) -> None:
        awaited = [i for i in self._outcomes.awaited() if i not in self._running]
        if awaited:
            for task_id, ended in (await self._store.ended(awaited)).items():
                if task_id not in self._running:
                    self._outcomes.tell(task_id, ended)

    async def _hear_progress(self) -> None:
        """Of tasks that run in another process and are watched here."""
        for task_id in self._feed.watched() - self._running.ids:
            with contextlib.suppress(TaskNotFound):
                task = await self._store.get(task_id)
                if self._feed.is_new(task_id, task.progress):
                    self._feed.tell(
                        Event(
                            task_id=task_id, what="progress", at=task.moved, origin=task.state,
                            to=task.state, attempt=task.attempt, actor="engine",
                            progress=task.progress,
                        )
                    )  # fmt: skip

    def _down(self, error: StoreError) -> None:
        if self._store_trouble != str(error):
            log.error("inloop's store does not answer, nothing new is started: %s", error)
        self._store_trouble = str(error)
        self._hungry = self._look = True

    def _up(self) -> None:
        if self._store_trouble is not None:
            log.warning("inloop's store answers again")
            self._store_trouble = None

    async def _start_over(self) -> None:
        """A person took our tasks over: stop them, and go on as a new owner."""
        log.error("this process was taken over by hand: it stops its tasks and starts anew")
        for run in self._running:
            self._lose(run, "taken over")
        self._unsaved.clear()
        await self._store.reopen_owner()
        self._hungry = True

    def _lose(self, run: Run, reason: str) -> None:
        """Stop a run whose end nobody wants any more."""
        run.lost = True
        if run.is_over:
            self._forget(run)
        else:
            run.stop(Request(Stop.INTERRUPT, reason=reason))

    # ---- claiming and starting

    def _may_start(self) -> bool:
        calm = self.lag.seconds <= self._settings.max_lag or self._running.is_unused()
        return self._settings.work and not self._closing and self._store_trouble is None and calm

    def reserve(self, new: NewTask) -> bool:
        """Keep a slot for a task that may start as it is stored; give it back by `added`."""
        free = self._running.free > 0 and not self._pausing.has_resuming
        if free and self._may_start() and new.name in self.lanes.known:
            self._running.reserved += 1
            return True
        return False

    def added(self, news: list[NewTask], added: list[Added] | None) -> None:
        """New tasks were stored (None: they were not): start those that were claimed."""
        if news[0].start:  # only a task that comes alone may start at once
            self._running.reserved -= 1
        if added is None:
            return
        claimed = added[0].claimed
        if claimed is not None:
            self._start(claimed)
        else:
            self._hungry = True
            self._wake.set()
        self._feed.poke()

    async def _claim(self) -> float | None:
        """Claim and start; the seconds after which to look again where the loop is late."""
        now = self.clock.now()
        due = self._next_due is not None and self._next_due <= now
        if not (self._hungry or due):
            return None
        if self._running.free <= 0 and not due:
            return None  # looked at again as soon as an attempt ends
        if not self._may_start():
            return LATE_AGAIN_AFTER
        free = max(0, self._running.free)
        free = free if self.lag.seconds <= self._settings.max_lag else min(free, 1)
        self._hungry = False
        self._running.reserved += free
        try:
            grant = await self._store.claim(self.lanes, free, now)
        except BaseException:
            self._hungry = True
            raise
        finally:
            self._running.reserved -= free
        await self._start_all(grant.claimed)
        self._next_due = grant.next_due
        self._held_back = grant.held_back
        if grant.again:
            self._hungry = True
            self._wake.set()
        if grant.expired:
            self._look = True
            self._wake.set()
        if grant.claimed or grant.expired:
            self._feed.poke()
        return None

    async def _start_all(self, claimed: list[Claimed]) -> None:
        """Each decodes its arguments in its first step: not too many of them in one turn."""
        size = 0
        for at, one in enumerate(claimed):
            self._start(one)
            size += len(one.arguments)
            if size > BYTES_A_TURN:
                size, left = 0, len(claimed) - at - 1
                self._running.reserved += left
                await asyncio.sleep(0)
                self._running.reserved -= left

    def _start(self, claimed: Claimed) -> None:
        """Run what was claimed. Never raises: others may have been claimed together with it."""
        function = self._functions[claimed.name]
        broken: Exception | None = None
        try:
            retry, timeout = function._rules(claimed.options)
        except Exception as error:  # written by a version that knows more
            retry, timeout, broken = NEVER, None, Misfit(f"its options cannot be read: {error!r}")
        run = Run(self, claimed, function, retry, timeout, self._settings.capture_logs)
        self._running.add(run)
        if (outcome := self._outcomes.get(claimed.id)) is not None and claimed.attempt > 1:
            outcome.reset()
        if broken is None:
            try:
                run.start(self._base.copy())
            except Exception as error:  # no thread can be started, for one
                log.exception("task %s (%s) cannot be started now", claimed.name, claimed.id)
                run.is_over = True
                at = Circumstances(self.clock.now(), run.state, retry)
                move = _outcome.not_started(claimed, at, START_AGAIN_AFTER, str(error))
                self._save(run, move, Raised(error, ErrorText(type(error).__name__, "", "")))
                return
        if broken is not None:
            run.is_over = True
            self.ended(run, Raised(broken, ErrorText(type(broken).__name__, str(broken), "")))
        elif self._interrupting:
            self._interrupt_one(run)  # it was claimed just before: it never takes its first step

    def is_running(self, task_id: str) -> bool:
        """Whether an attempt of this task is in hand here."""
        return task_id in self._running

    # ---- ending

    def ended(self, run: Run, end: End) -> None:
        """Decide what becomes of its task, and store that."""
        if run.request is None and isinstance(end, Raised) and self._is_torn_down(end.error):
            run.request = Request(Stop.INTERRUPT, reason="shutdown")
        if run.lost:
            self._forget(run)
            self.gone(run)
        elif run.is_moving:
            run.at_end = end
        else:
            try:
                move = self._move(run, end)
            except Exception as error:
                self._fail(run, error)
            else:
                self._save(run, move, end)

    def _is_torn_down(self, error: BaseException) -> bool:
        """Whether it was cancelled because its event loop ends, and all its asyncio tasks with it.

        `asyncio.run` cancels them all before any of them goes on; so our own show it.
        """
        stray = isinstance(error, asyncio.CancelledError | StrayCancellation)
        return stray and not self._closed and any(task.cancelling() for task in self._services)

    def _fail(self, run: Run, error: BaseException) -> None:
        """A fault of inloop's own at the very end: the task must not look as if it still ran."""
        log.error("the end of task %s cannot be stored", run.claimed.id, exc_info=error)
        end = Raised(error, ErrorText(type(error).__name__, "its end could not be stored", ""))
        at = Circumstances(self.clock.now(), run.state, run.retry)
        run.failed_at_end = True
        self._save(run, _outcome.failed(run.claimed, end, at), end)

    def _move(self, run: Run, end: End) -> Move:
        at = Circumstances(
            self.clock.now(),
            run.state,
            run.retry,
            run.request,
            self._notes.unsaved(run),
            run.pause_wanted,
        )
        if isinstance(end, Raised) and isinstance(end.error, Misfit) and run.request is None:
            return _outcome.held(run.claimed, end, at)
        return _outcome.decide(run.claimed, end, at)

    def _save(self, run: Run, move: Move, end: End) -> None:
        lines = run.lines.take()

        def saved(applied: Move | None, error: BaseException | None) -> None:
            if isinstance(error, StoreError):
                # The task has run; what came of it is kept until the store takes it.
                run.lines.put_back(lines)
                self._unsaved.append((run, move, end))
                if self._store_trouble is None:
                    self._wake.set()
                self._down(error)
            elif error is None or isinstance(error, NotOpen) or run.failed_at_end:
                self._forget(run)
                self.gone(run)
                if error is None:
                    self._notes.tell_lines(run, lines)
                    self._tell(run, applied, end)
            else:
                self._fail(run, error)

        try:
            self._store.end(move, lines, saved)
        except NotOpen:
            self._forget(run)
            self.gone(run)

    def _tell(self, run: Run, move: Move | None, end: End) -> None:
        """Say what became of it: as it is stored, which may be what was asked just before."""
        c = run.claimed
        if move is None:
            log.warning(
                "task %s (%s) was taken over while attempt %d ran; its end was discarded",
                c.id, c.name, c.attempt,
            )  # fmt: skip
            return
        _report(c, move, end)
        if move.to in FINAL:
            ended = Ended(c.id, c.name, move.to, c.attempt, move.result, move.error, move.reason)
            self._outcomes.tell(c.id, ended, end.error if isinstance(end, Raised) else None)
            if self._chores.finished(move.to, move.at):
                self._wake.set()
        elif move.due is not None and move.to is State.SCHEDULED:
            self._next_due = min(move.due, self._next_due or move.due)
            self._wake.set()
        else:
            self._hungry = True
            self._wake.set()
        self._feed.poke()

    def _forget(self, run: Run) -> None:
        self._running.forget(run)
        self._hungry = self._hungry or self._held_back
        if self._hungry or self._pausing.has_resuming:
            self._wake.set()

    async def _save_again(self) -> None:
        """Nothing is claimed before what could not be stored is stored."""
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, []
        for run, move, end in unsaved:
            self._save(run, move, end)
        await self._store.note((), ())  # comes after them, and fails as they do
        if self._unsaved:
            raise StoreError(self._store_trouble or "outcomes cannot be stored")

    def is_settled(self) -> bool:
        """Whether nothing is on its way: all is stored, and the engine waits."""
        busy = self._unsaved or self._pausing.is_busy or self._wake.is_set()
        return self._waits and not busy and self._store.is_idle() and not self._running.is_busy()

    @property
    def trouble(self) -> str | None:
        """What is wrong, if anything is."""
        return self._store_trouble or self._own_trouble

    def running(self) -> list[str]:
        """What runs now, for messages."""
        return self._running.names()

    # ---- closing

    async def close(self, grace: float) -> None:
        """Let running tasks finish for `grace` seconds, interrupt the rest, and close the store."""
        self._closing = True
        self._wake.set()
        if grace and (waits_for := self._running.names()):
            log.warning(
                "waiting up to %g s for %d running %s: %s",
                grace,
                len(waits_for),
                "task" if len(waits_for) == 1 else "tasks",
                ", ".join(waits_for[:20]),
            )
        try:
            is_enough = partial(_shutdown.is_insisted, self._server)
            await _shutdown.within(grace, self._running.is_idle, is_enough)
        finally:
            # Also when the closing itself is cancelled: what is stored then is stored rightly.
            await _shutdown.finish(self._finish())

    async def _finish(self) -> None:
        self._store.hurry(2 * _shutdown.LAST_SECONDS)
        self._interrupt()
        await _shutdown.within(_shutdown.LAST_SECONDS, self._running.is_empty)
        for run in self._running:
            if not run.is_over:
                self._give_up(run)
        await _shutdown.within(_shutdown.LAST_SECONDS / 2, self._running.has_only_threads)
        try:
            await self._stop_services()
            with contextlib.suppress(StoreError, NotOpen):
                await self._notes.write_now()
                await self._store.leave_running(self.clock.now())
        finally:
            self._feed.close()
            self._outcomes.close()
            self.lag.stop()
            # Only now, when it is stored that they were interrupted: the lock may go any moment.
            left = [run for run in self._running if not run.is_over]
            self._keep_lock_for(left)
            await self._store.close(keep_lock=bool(left))

    def _interrupt(self) -> None:
        """Ask all that is in hand to stop, and all that is still to be started."""
        self._interrupting = True
        for run in self._running:
            self._interrupt_one(run)

    def _interrupt_one(self, run: Run) -> None:
        if run.state is State.PAUSED and not run.is_over:
            run.lost = True  # it stays paused in the store
        run.stop(Request(Stop.INTERRUPT, reason="shutdown"))

    def _give_up(self, run: Run) -> None:
        """Nobody waits any longer: a coroutine is ended where it stands, a thread is left."""
        how = "a thread that cannot be ended" if run.in_thread else "it ignores cancellation"
        what = "it will run again"
        if run.state is State.PAUSED:
            what = "it stays paused"
        elif run.request is not None and run.request.stop is Stop.CANCEL:
            what = "it will be cancelled at the next start"
        log.warning(
            "did not wait any longer for task %s (%s): %s; %s",
            run.claimed.id,
            run.claimed.name,
            how,
            what,
        )
        run.lost = run.lost or run.in_thread
        run.abandon()

    def _keep_lock_for(self, runs: list[Run]) -> None:
        """While code of our tasks may run, our lock says that we live."""
        self._left = set(runs)
        if runs:
            self._release = self._store.keep_lock()

    def gone(self, run: Run) -> None:
        """No code of it runs any more; after the last one of those left the lock may go."""
        if run in self._left:
            self._left.discard(run)
            if not self._left and self._release is not None:
                self._release()

    async def _stop_services(self) -> None:
        self._closed = True
        self._wake.set()
        for task in self._services:
            task.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)

    async def crash(self) -> None:
        """Drop everything as a killed process would: nothing more is written."""
        self._closing = True
        await self._stop_services()
        await self._store.abandon()
        for run in self._running:
            self._lose(run, "crash")
        self.lag.stop()
        self._feed.close()
        self._outcomes.close()


def _report(claimed: Claimed, move: Move, end: End) -> None:
    """A failure is never silent: one line for each, and the traceback of the last."""
    who = f"{claimed.name} ({claimed.id})"
    if move.to is State.FAILED and isinstance(end, Raised):
        text = end.text.traceback.rstrip() or str(end.text)
        log.error("task %s failed in attempt %d:\n%s", who, claimed.attempt, text)
    elif move.to is State.HELD:
        log.warning("task %s is held, it needs a decision: %s", who, move.reason)
    elif move.to is State.SCHEDULED and move.error is not None and move.due is not None:
        pause = (move.due - move.at) / 1e6
        told = "task %s failed in attempt %d, and is tried again in %.1f s: %s"
        log.warning(told, who, claimed.attempt, pause, move.error)
