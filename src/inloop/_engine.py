"""The engine: hear, save, claim, run, apply, tell, wait. One asyncio task of its own.

    ┌─► arm the wake event            first, so that nothing that happens from here on is missed
    │   hear      what siblings wrote, what this owner was asked to do
    │   save      outcomes that the store could not take before
    │   let go on tasks that were resumed, ahead of queued ones
    │   claim     what is due, up to the free slots; start it
    └── wait      until woken, or something is due

An attempt ends in its own asyncio task, and hands its Move to the store from there: the loop above
is not in that path. All state that changes lives in this one object, in one event loop.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from inloop import _outcome, _shutdown
from inloop._clock import Clock
from inloop._errors import NotOpen, StoreError, TaskNotFound
from inloop._events import Feed, Outcomes
from inloop._function import TaskFunction
from inloop._logs import TaskLog
from inloop._model import (
    FINAL,
    Added,
    Ask,
    By,
    Claimed,
    Ended,
    Event,
    Lanes,
    Micros,
    Move,
    NewTask,
    State,
)
from inloop._notes import Notes
from inloop._outcome import Circumstances, End, Raised, Request, Stop
from inloop._runner import Misfit, Run
from inloop._store.protocol import Fenced, Store
from inloop._threads import Threads, post
from inloop._watch import LagMeter

log = logging.getLogger("inloop")

MINUTE = 60_000_000
# A task function that no running process knows may come with the next deploy: so long it waits.
UNKNOWN_FOR = 10 * MINUTE
# What was deleted can be restored for at least so long.
UNDO_FOR = 1 * MINUTE
PRUNED_AT_ONCE = 500
# Between two batches, so that pruning a million rows delays nobody.
PRUNE_PAUSE = 50_000
RETRY_STORE_AFTER = 0.5
LATE_AGAIN_AFTER = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What the manager was told about running tasks."""

    concurrency: int
    limits: dict[str, int]
    retention: dict[State, Micros | None]
    work: bool
    capture_logs: int
    max_lag: float


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
        self._clock = clock
        self._functions = functions
        self._settings = settings
        self._outcomes = outcomes
        self._feed = feed
        self.threads = Threads()
        self.lag = LagMeter()
        self.trouble: str | None = None
        self.lanes = Lanes(frozenset(), settings.limits)
        self._notes = Notes(store, feed, clock)
        self._runs: dict[int, Run] = {}
        self._by_id: dict[str, Run] = {}
        self._taken = 0
        self._reserved = 0
        self._unsaved: list[tuple[Run, Move, End]] = []
        self._parked: list[Run] = []
        self._overrun: list[Run] = []
        self._resuming: list[Run] = []
        self._wake = asyncio.Event()
        self._hungry = True
        self._changed = False
        self._look = False
        self._next_due: Micros | None = None
        self._next_chores: Micros = 0
        self._next_prune: Micros | None = 0
        self._has_strangers = False
        self._waits = False
        self._closing = False
        self._closed = False
        self._services: list[asyncio.Task[None]] = []

    # ---- opening

    async def open(self) -> None:
        """Open the store and begin to work."""
        self._loop = asyncio.get_running_loop()
        self._base = contextvars.copy_context()
        self.declare()
        await self._store.open(self._clock.now, self._wake_from_thread, sorted(self._functions))
        self.lag.start()
        for name, service in (
            ("engine", self._serve),
            ("notes", self._notes.write),
            ("feed", partial(self._feed.pump, self._store.events_after)),
        ):
            task = self._loop.create_task(self._supervise(name, service), name=f"inloop-{name}")
            self._services.append(task)

    def declare(self) -> None:
        """Task functions were added: from now on they can be run here."""
        if len(self.lanes.known) != len(self._functions):
            self.lanes = Lanes(frozenset(self._functions), self._settings.limits)
            self._hungry = True
            self._next_chores = 0
            self._wake.set()

    def _wake_from_thread(self) -> None:
        post(self._loop, self._noticed)

    def _noticed(self) -> None:
        self._changed = True
        self._wake.set()

    async def _supervise(self, name: str, service: Callable[[], Any]) -> None:
        """A failure of inloop's own is logged and shown, and never reaches the host."""
        pause = 0.1
        while not self._closed:
            try:
                await service()
                return
            except Exception as error:
                self.trouble = f"{name}: {error!r}"
                log.exception("inloop's %s failed; it starts again in %.1f s", name, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30.0)

    # ---- the loop

    async def _serve(self) -> None:
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
            await self._clock.wait(self._wake, delay)
            self._waits = False

    async def _pass(self) -> float | None:
        """One pass; the seconds until the next is due, None: when woken."""
        await self._hear()
        await self._save_again()
        await self._park()
        await self._mark_overrun()
        await self._let_go_on()
        if self._settings.work and not self._closing:
            late = await self._claim()
            if late is not None:
                return late
        await self._chores()
        return self._until_next()

    def _until_next(self) -> float | None:
        if self._wake.is_set():
            return 0.0
        due = [self._next_prune]
        if self._has_strangers:
            due.append(self._next_chores)
        if self._settings.work:
            due.append(self._next_due)
        first = min((at for at in due if at is not None), default=None)
        return None if first is None else max(0.0, (first - self._clock.now()) / 1e6)

    def poke(self) -> None:
        """Something was written by this process: a task, or a word of control."""
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
                self._obey(ask)
            await self._hear_outcomes()

    async def _hear_outcomes(self) -> None:
        awaited = [i for i in self._outcomes.awaited() if i not in self._by_id]
        if awaited:
            for task_id, ended in (await self._store.ended(awaited)).items():
                if task_id not in self._by_id:
                    self._outcomes.tell(task_id, ended)

    async def _hear_progress(self) -> None:
        """Of tasks that run in another process and are watched here."""
        for task_id in self._feed.watched() - self._by_id.keys():
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
        if self.trouble != str(error):
            log.error("inloop's store does not answer, nothing new is started: %s", error)
        self.trouble = str(error)
        self._hungry = self._look = True

    def _up(self) -> None:
        if self.trouble is not None:
            log.warning("inloop's store answers again")
            self.trouble = None

    async def _start_over(self) -> None:
        """A person took our tasks over: stop them, and go on as a new owner."""
        log.error("this process was taken over by hand: it stops its tasks and starts anew")
        for run in list(self._runs.values()):
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

    @property
    def _free(self) -> int:
        return self._settings.concurrency - self._taken - self._reserved

    def _may_start(self) -> bool:
        calm = self.lag.seconds <= self._settings.max_lag or self._taken == 0
        return self._settings.work and not self._closing and self.trouble is None and calm

    def reserve(self, new: NewTask) -> bool:
        """Keep a slot for a task that may start as it is stored; give it back by `added`."""
        free = self._free > 0 and not self._resuming
        if free and self._may_start() and new.name in self.lanes.known:
            self._reserved += 1
            return True
        return False

    def added(self, news: list[NewTask], added: list[Added] | None) -> None:
        """New tasks were stored (None: they were not): start those that were claimed."""
        if news[0].start:  # only a task that comes alone may start at once
            self._reserved -= 1
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
        now = self._clock.now()
        due = self._next_due is not None and self._next_due <= now
        if not (self._hungry or due) or self._free <= 0:
            return None
        if not self._may_start():
            return LATE_AGAIN_AFTER
        free = self._free if self.lag.seconds <= self._settings.max_lag else 1
        self._hungry = False
        self._reserved += free
        try:
            grant = await self._store.claim(self.lanes, free, now)
        except BaseException:
            self._hungry = True
            raise
        finally:
            self._reserved -= free
        for claimed in grant.claimed:
            self._start(claimed)
        self._next_due = grant.next_due
        if grant.again or len(grant.claimed) == free:
            self._hungry = True
            if self._free > 0:
                self._wake.set()
        if grant.expired:
            self._look = True
            self._wake.set()
        if grant.claimed or grant.expired:
            self._feed.poke()
        return None

    def _start(self, claimed: Claimed) -> None:
        function = self._functions[claimed.name]
        retry, timeout = function.rules(claimed.options)
        lines = TaskLog(claimed.seq, claimed.attempt, self._settings.capture_logs)
        run = Run(claimed, function, retry, timeout, self._clock, self.threads, lines)
        run.on_overrun = partial(self._overran, run)
        run.on_parked = partial(self._was_parked, run)
        run.on_news = partial(self._notes.want, run)
        lines.soon = run.on_news
        self._runs[claimed.seq] = self._by_id[claimed.id] = run
        self._taken += 1
        if (outcome := self._outcomes.get(claimed.id)) is not None and claimed.attempt > 1:
            outcome.reset()
        run.start(self._base.copy(), self._ended)

    def is_running(self, task_id: str) -> bool:
        """Whether an attempt of this task is in hand here."""
        return task_id in self._by_id

    # ---- ending

    def _ended(self, run: Run, end: End) -> None:
        if run.lost:
            self._forget(run)
            run.on_gone()
        elif run.is_moving:
            run.at_end = end
        else:
            try:
                move = self._move(run, end)
            except Exception:
                log.exception("the end of task %s cannot be decided", run.claimed.id)
                self._forget(run)
            else:
                self._save(run, move, end)

    def _move(self, run: Run, end: End) -> Move:
        at = Circumstances(
            self._clock.now(), run.state, run.retry, run.request, self._notes.unsaved(run)
        )
        if isinstance(end, Raised) and isinstance(end.error, Misfit) and run.request is None:
            return _outcome.held(run.claimed, end, at)
        return _outcome.decide(run.claimed, end, at)

    def _save(self, run: Run, move: Move, end: End) -> None:
        lines = run.lines.take()

        def saved(mine: bool | None, error: BaseException | None) -> None:
            if isinstance(error, StoreError):
                # The task has run; what came of it is kept until the store takes it.
                run.lines.put_back(lines)
                self._unsaved.append((run, move, end))
                if self.trouble is None:
                    self._wake.set()
                self._down(error)
            elif error is not None and not isinstance(error, NotOpen):
                log.error("the end of task %s cannot be stored", move.task_id, exc_info=error)
                self._forget(run)
            else:
                self._forget(run)
                if error is None:
                    self._notes.tell_lines(run, lines)
                    self._tell(run, move, end, mine=bool(mine))

        try:
            self._store.end(move, lines, saved)
        except NotOpen:
            self._forget(run)

    def _tell(self, run: Run, move: Move, end: End, *, mine: bool) -> None:
        if not mine:
            log.warning(
                "task %s was taken over while attempt %d ran; its end as %s was discarded",
                move.task_id, move.attempt, move.to,
            )  # fmt: skip
            return
        if move.to in FINAL:
            c = run.claimed
            ended = Ended(c.id, c.name, move.to, c.attempt, move.result, move.error, move.reason)
            self._outcomes.tell(c.id, ended, end.error if isinstance(end, Raised) else None)
            keep = self._settings.retention[move.to]
            if self._next_prune is None and keep is not None:
                self._next_prune = move.at + keep
                self._wake.set()
        elif move.due is not None:
            self._next_due = min(move.due, self._next_due or move.due)
            self._wake.set()
        else:
            self._hungry = True
            self._wake.set()
        self._feed.poke()

    def _forget(self, run: Run) -> None:
        if self._runs.pop(run.claimed.seq, None) is None:
            return
        if self._by_id.get(run.claimed.id) is run:
            del self._by_id[run.claimed.id]
        if run.state is State.RUNNING:
            self._taken -= 1
        if self._hungry or self._resuming:
            self._wake.set()

    def _is_idle(self) -> bool:
        """Nothing runs, nothing that has run is still to be stored, nothing is being claimed."""
        if self._reserved:
            return False
        return not any(run.state is State.RUNNING or run.is_over for run in self._runs.values())

    async def _save_again(self) -> None:
        """Nothing is claimed before what could not be stored is stored."""
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, []
        for run, move, end in unsaved:
            self._save(run, move, end)
        await self._store.note((), ())  # comes after them, and fails as they do
        if self._unsaved:
            raise StoreError(self.trouble or "outcomes cannot be stored")

    # ---- control

    def _obey(self, ask: Ask) -> None:
        run = self._runs.get(ask.seq)
        if run is None or run.claimed.attempt != ask.attempt or run.is_over:
            return
        if ask.verb == "cancel":
            run.stop(Request(Stop.CANCEL, ask.actor, ask.reason))
        elif ask.verb == "pause" and run.state is State.RUNNING:
            run.pause(By(0, ask.actor, ask.reason))
        elif ask.verb == "resume" and run not in self._resuming:
            run.resumed_by = By(0, ask.actor, ask.reason)
            self._resuming.append(run)

    def _overran(self, run: Run) -> None:
        """A plain function is past its timeout, and cannot be ended from outside."""
        self._overrun.append(run)
        self._wake.set()

    async def _mark_overrun(self) -> None:
        while self._overrun:
            run = self._overrun[0]
            if not run.is_over:
                by = By(self._clock.now(), "engine", f"past its timeout of {run.timeout:g} s")
                await self._store.overrun(run.claimed.seq, run.claimed.attempt, by)
                self._feed.poke()
            self._overrun.remove(run)

    def _was_parked(self, run: Run) -> None:
        self._parked.append(run)
        self._wake.set()

    async def _park(self) -> None:
        """Store that tasks which stand still are paused; their slots are free then."""
        while self._parked:
            run = self._parked[0]
            if not run.is_over and run.pause_wanted and run.state is State.RUNNING:
                await self._pause(run, run.pause_wanted._replace(now=self._clock.now()))
            self._parked.remove(run)  # only now: had the store failed, it would be tried again

    async def _pause(self, run: Run, by: By) -> None:
        with self._moving(run):
            if await self._store.pause_mine(run.claimed.seq, run.claimed.attempt, by):
                run.state = State.PAUSED
                self._taken -= 1
                self._hungry = True
            elif run.request is None:
                run.go_on()  # it was called off: a resume came first
        self._feed.poke()

    async def _let_go_on(self) -> None:
        """Resumed tasks take a slot each, before anything that is queued."""
        for run in list(self._resuming):
            if run.is_over or run.resumed_by is None:
                done = True
            elif run.state is State.RUNNING:
                run.go_on()
                await self._store.answered(run.claimed.seq, run.claimed.attempt, "resume")
                done = True
            else:
                done = self._free > 0 and not self._closing and await self._resume(run)
            if done:
                self._resuming.remove(run)

    async def _resume(self, run: Run) -> bool:
        """False: its queue has no slot now."""
        assert run.resumed_by is not None
        by = run.resumed_by._replace(now=self._clock.now())
        seq, attempt = run.claimed.seq, run.claimed.attempt
        self._reserved += 1
        try:
            with self._moving(run):
                resumed = await self._store.resume_mine(seq, attempt, by, self.lanes)
                if resumed:
                    run.state = State.RUNNING
                    self._taken += 1
                    run.go_on()
        finally:
            self._reserved -= 1
        self._feed.poke()
        return resumed is not None

    @contextlib.contextmanager
    def _moving(self, run: Run) -> Any:
        """Its stored state is changing: an end that comes now waits, to expect the right one."""
        run.is_moving = True
        try:
            yield
        finally:
            run.is_moving = False
            if run.at_end is not None:
                end, run.at_end = run.at_end, None
                self._ended(run, end)

    # ---- now and then

    async def _chores(self) -> None:
        now = self._clock.now()
        if self._closing:
            return
        if now >= self._next_chores:
            self._next_chores = now + MINUTE
            await self._store.know(sorted(self._functions))
            by = By(now, "engine", None)
            self._has_strangers, held = await self._store.hold_unknown(now - UNKNOWN_FOR, by)
            if held:
                self._feed.poke()
            if self._next_prune != 0:
                self._next_prune = await self._when_to_prune(now)
        if self._next_prune is not None and now >= self._next_prune:
            await self._prune(now)

    async def _prune(self, now: Micros) -> None:
        retention = self._settings.retention
        before = {state: now - keep for state, keep in retention.items() if keep is not None}
        if await self._store.prune(before, now - UNDO_FOR, PRUNED_AT_ONCE) >= PRUNED_AT_ONCE:
            self._next_prune = now + PRUNE_PAUSE
            return
        self._next_prune = await self._when_to_prune(now)

    async def _when_to_prune(self, now: Micros) -> Micros | None:
        due = await self._store.next_prune(self._settings.retention, UNDO_FOR)
        return None if due is None else max(due, now + MINUTE)

    def is_settled(self) -> bool:
        """Whether nothing is on its way: all is stored, and the engine waits."""
        busy = self._reserved or self._unsaved or self._parked or self._wake.is_set()
        return self._waits and not busy and self._store.is_idle() and not self._is_ending()

    def _is_ending(self) -> bool:
        return any(run.is_busy for run in self._runs.values())

    def running(self) -> list[str]:
        """Names of the tasks that are in hand and not paused, for messages."""
        runs = [run for run in self._runs.values() if run.state is State.RUNNING]
        return [f"{run.claimed.name} ({run.claimed.id})" for run in runs]

    # ---- closing

    async def close(self, grace: float) -> None:
        """Let running tasks finish for `grace` seconds, interrupt the rest, and close the store."""
        self._closing = True
        self._wake.set()
        if waits_for := self.running():
            log.info(
                "inloop waits up to %g s for %d running tasks: %s",
                grace,
                len(waits_for),
                ", ".join(waits_for[:20]),
            )
        try:
            await _shutdown.within(grace, self._is_idle)
        finally:
            # Also when the closing itself is cancelled: what is stored then is stored rightly.
            await _shutdown.finish(self._finish())

    async def _finish(self) -> None:
        self._store.hurry(2 * _shutdown.LAST_SECONDS)
        runs = self._interrupt()
        await _shutdown.within(_shutdown.LAST_SECONDS, self._is_idle)
        for run in runs:
            if not run.is_over:
                self._give_up(run)
        await _shutdown.within(_shutdown.LAST_SECONDS / 2, self._has_only_threads)
        left = [run for run in runs if not run.is_over]
        self._keep_lock_for(left)
        try:
            await self._stop_services()
            with contextlib.suppress(StoreError, NotOpen):
                await self._notes.write_now()
                await self._store.leave_running(self._clock.now())
        finally:
            self._feed.close()
            self._outcomes.close()
            self.lag.stop()
            await self._store.close(keep_lock=bool(left))

    def _give_up(self, run: Run) -> None:
        """Nobody waits any longer: a coroutine is ended where it stands, a thread is left."""
        how = "a thread that cannot be ended" if run.in_thread else "it ignores cancellation"
        log.warning(
            "inloop did not wait any longer for task %s (%s): %s; it will run again",
            run.claimed.id,
            run.claimed.name,
            how,
        )
        run.lost = run.lost or run.in_thread
        run.abandon()

    def _has_only_threads(self) -> bool:
        return all(run.in_thread and not run.is_over for run in self._runs.values())

    def _interrupt(self) -> list[Run]:
        """Ask all that is in hand to stop; what is paused stays so in the store."""
        runs = list(self._runs.values())
        for run in runs:
            if run.state is State.PAUSED and not run.is_over:
                run.lost = True
            run.stop(Request(Stop.INTERRUPT, reason="shutdown"))
        return runs

    def _keep_lock_for(self, runs: list[Run]) -> None:
        """While code of our tasks may run, our lock says that we live."""
        left = set(runs)

        def gone(run: Run) -> None:
            left.discard(run)
            if not left:
                self._store.release()

        for run in runs:
            run.on_gone = partial(gone, run)

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
        for run in list(self._runs.values()):
            self._lose(run, "crash")
        self.lag.stop()
        self._feed.close()
        self._outcomes.close()
