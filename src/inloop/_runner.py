"""Runs ONE attempt of a task, and tells how it ended. It knows no store.

A coroutine runs in an asyncio task of its own, driven through a gate that can hold it; a plain
function runs in a daemon thread and is held at `checkpoint()`. Either may be asked to stop. A
coroutine hears of that by one `asyncio.Task.cancel()`, never from inside a cancel scope: under an
anyio scope the first await of the user's `finally` would be killed too, with a single cancel its
clean-up completes. Only one that has not ended after five seconds is cancelled again.
"""

import asyncio
import os
import threading
import traceback
from collections.abc import Callable
from contextvars import Context
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from weakref import WeakSet

from inloop import _context, _logs
from inloop import _texts as texts
from inloop._clock import Clock, Timer
from inloop._errors import ArgumentError, ResultError
from inloop._exchange import By, Claimed
from inloop._gate import Gate
from inloop._model import ErrorText, Progress, State, Task, to_datetime
from inloop._outcome import End, Raised, Request, RetryRule, Returned, Stop, StrayCancellation
from inloop._threads import Threads, post

CANCEL_AGAIN_AFTER = 5.0
MOST_TRACEBACK = 32 * 1024
MOST_FRAMES = 60
LARGE = 32 * 1024
_HERE = os.path.dirname(__file__)


class Work(Protocol):
    """What a run needs of its task function."""

    is_async: bool

    def _bind_stored(self, arguments: str) -> Callable[[], Any]:
        """The call that the stored arguments describe; `ArgumentError` if they do not fit."""
        ...

    def _encode_result(self, value: object) -> str: ...

    def _is_large(self, value: object) -> bool: ...


class Host(Protocol):
    """What a run needs around it, and whom it tells; the engine is one.

    All but `noted` and `gone` are told in the event loop's thread.
    """

    loop: asyncio.AbstractEventLoop
    clock: Clock
    threads: Threads

    def ended(self, run: "Run", end: End) -> None:
        """It has ended; told once."""
        ...

    def parked(self, run: "Run") -> None:
        """It stands still, as it was asked to."""
        ...

    def overran(self, run: "Run") -> None:
        """It is a plain function past its timeout, which nobody can end."""
        ...

    def noted(self, run: "Run") -> None:
        """It has logged, or told its progress; from any thread."""
        ...

    def gone(self, run: "Run") -> None:
        """Its event loop went away under it: no code of it runs any more."""
        ...


class Guarded(Protocol):
    """A connection to the store's file."""

    def is_in_transaction(self) -> bool: ...


class Misfit(Exception):
    """The stored arguments do not fit the task function any more."""


class Run:
    """One attempt in this process: what it is asked, how far it is, and how it ends."""

    __slots__ = (
        "_began",
        "_deadline",
        "_guarded",
        "_host",
        "_resume_thread",
        "_standing",
        "_task",
        "_timeout_left",
        "_timer",
        "_work",
        "at_end",
        "claimed",
        "failed_at_end",
        "gate",
        "holds_slot",
        "is_ending",
        "is_moving",
        "is_over",
        "lines",
        "lost",
        "pause_wanted",
        "progress",
        "progress_at",
        "progress_stored",
        "request",
        "resumed_by",
        "retry",
        "state",
        "timeout",
    )

    def __init__(
        self,
        host: Host,
        claimed: Claimed,
        work: Work,
        retry: RetryRule,
        timeout: float | None,
        log_level: int,
    ) -> None:
        self.claimed = claimed
        self.retry = retry
        self.timeout = timeout
        self.lines = _logs.TaskLog(claimed.seq, claimed.attempt, log_level, self._note)
        self.state = State.RUNNING
        self.holds_slot = True
        self.request: Request | None = None
        self.progress: Progress | None = None
        self.progress_stored: Progress | None = None
        self.pause_wanted: By | None = None
        self.resumed_by: By | None = None
        self.is_over = False
        self.is_ending = False
        self.failed_at_end = False
        # Set by the engine: nobody wants its end (any more); it is just moving between running and
        # paused, and its end, should it come now, waits here.
        self.lost = False
        self.is_moving = False
        self.at_end: End | None = None
        self.progress_at = 0.0
        self.gate = Gate(self._may_hold, self._stand)
        self._standing = False
        self._guarded: WeakSet[Guarded] | None = None
        self._host = host
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._began = False
        self._timer: Timer | None = None
        self._timeout_left = timeout
        self._deadline: float | None = None
        # What a plain function waits for at a checkpoint.
        self._resume_thread = None if work.is_async else threading.Event()

    # ---- running

    def start(self, context: Context) -> None:
        """Begin."""
        context.run(self._enter)
        self._arm_timeout()
        if self._work.is_async:
            name = f"inloop:{self.claimed.name}:{self.claimed.id}"
            self._task = self._host.loop.create_task(
                self._in_loop(context), name=name, context=context
            )
        else:
            self._host.threads.submit(partial(self._in_thread, context))

    def _enter(self) -> None:
        _context.inside.set(self)
        _logs.current.set(self.lines)

    async def _in_loop(self, context: Context) -> None:
        self._began = True
        try:
            if self.request is not None:
                raise asyncio.CancelledError  # asked to stop before its first step: it never ran
            if len(self.claimed.arguments) > LARGE:
                call = await self._host.threads.call(context.copy(), self._bind)
            else:
                call = self._bind()
            value = await self.gate.drive(call())
        except BaseException as error:
            if self.gate.is_closing:
                # The loop is going away under us: this attempt is over, and nobody can be told.
                self.is_over = True
                self._host.gone(self)
                raise
            self._raised(error)
        else:
            self._returned(value)

    def _bind(self) -> Callable[[], Any]:
        try:
            return self._work._bind_stored(self.claimed.arguments)
        except ArgumentError as error:
            raise Misfit(str(error)) from error

    def _in_thread(self, context: Context) -> None:
        """The whole life of a plain function, in its thread."""
        try:
            value = context.run(lambda: self._bind()())
        except BaseException as error:
            end: End = self._raised_end(error)
        else:
            end = self._encode(value)
        if not post(self._host.loop, partial(self._end, end)):
            # The manager was closed, and its loop with it; the lock was kept for this thread.
            self._end(end)

    def _returned(self, value: object) -> None:
        self.is_ending = True
        if self._work._is_large(value):
            self._end_by(partial(self._encode, value))
        else:
            self._end(self._encode(value))

    def _end_by(self, work: Callable[[], End]) -> None:
        """End with what `work` gives, worked out in a thread."""
        try:
            done = self._host.threads.call(Context(), work)
        except RuntimeError:  # no thread can be started
            self._end(work())
        else:
            done.add_done_callback(lambda done: self._end(done.result()))

    def _encode(self, value: object) -> End:
        try:
            return Returned(self._work._encode_result(value))
        except ResultError as error:
            # What was done cannot be undone by doing it again.
            return Raised(error, text_of(error), final=True)

    def _raised(self, error: BaseException) -> None:
        self.is_ending = True
        if self._was_stopped(error):
            self._end(Raised(error, ErrorText("CancelledError", "", "")))
            return
        # Writing a traceback reads source files: not in the loop's thread.
        self._end_by(partial(self._raised_end, error))

    def _was_stopped(self, error: BaseException) -> bool:
        """Whether it ended just as it was asked to, and there is nothing to tell."""
        asked = self.request is not None and self.request.stop is not Stop.TIMEOUT
        return asked and isinstance(error, asyncio.CancelledError)

    def _raised_end(self, error: BaseException) -> Raised:
        request = self.request
        if request is not None and request.stop is Stop.TIMEOUT:
            late = TimeoutError(f"ran longer than its timeout of {self.timeout or 0:g} s")
            late.__cause__ = error
            return Raised(late, ErrorText("TimeoutError", str(late), text_of(error).traceback))
        if isinstance(error, asyncio.CancelledError) and request is None:
            stray = StrayCancellation("a CancelledError that nobody had asked for ended the task")
            stray.__cause__ = error
            return Raised(stray, text_of(stray))
        return Raised(error, text_of(error), final=isinstance(error, Misfit))

    def _end(self, end: End) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._host.ended(self, end)

    # ---- stopping

    def stop(self, request: Request) -> None:
        """Ask it to end; of several reasons the gravest counts, and it is told only once."""
        if self.is_over or (self.request is not None and self.request.stop >= request.stop):
            return
        first = self.request is None
        self.request = request
        if first:
            self._tell()

    def _tell(self) -> None:
        self._disarm_timeout()  # nothing is left to time: its clean-up is not a time-out
        if self._resume_thread is not None:
            self._resume_thread.set()
        # Before its first step a cancellation would end the asyncio task without a word to us.
        if self._task is not None and not self.is_over and self._began:
            self._task.cancel()
            # A task that was being held is let go, so that its clean-up can complete.
            self.gate.open()
            self._timer = self._host.clock.call_later(CANCEL_AGAIN_AFTER, self._tell_again)

    def _tell_again(self) -> None:
        if not self.is_over:
            self._tell()

    def abandon(self) -> None:
        """End a coroutine that ignores cancellation: it is not stepped again, whatever it does."""
        if self._task is not None and not self.is_over and self._began:
            self.gate.abandon()
            self._task.cancel()

    # ---- its timeout counts only while a slot is held

    def _arm_timeout(self) -> None:
        if self._timeout_left is not None:
            self._deadline = self._host.clock.monotonic() + self._timeout_left
            self._timer = self._host.clock.call_later(self._timeout_left, self._time_out)

    def _disarm_timeout(self) -> None:
        if self._timer is not None and self._deadline is not None:
            self._timer.cancel()
            self._timeout_left = max(0.0, self._deadline - self._host.clock.monotonic())
            self._timer = self._deadline = None

    def _time_out(self) -> None:
        self.stop(Request(Stop.TIMEOUT))
        if self.in_thread and not self.is_over:
            self._host.overran(self)

    # ---- pausing

    def pause(self, wanted: By) -> None:
        """Hold it: a coroutine at once, a plain function at its next checkpoint."""
        if self.is_over or self.request is not None:
            return
        self.pause_wanted = wanted
        if not self.in_thread:
            self.gate.shut()
            if self._may_hold():
                self._stand()

    def _may_hold(self) -> bool:
        """Not inside a transaction: standing still there, it would lock the store for everybody."""
        guarded = self._guarded
        return guarded is None or not any(one.is_in_transaction() for one in guarded)

    def guard(self, connection: Guarded) -> None:
        """Do not hold the attempt while this connection of its is in a transaction."""
        if self._guarded is None:
            self._guarded = WeakSet()
        self._guarded.add(connection)

    def _stand(self) -> None:
        """It stands still: tell, once."""
        if self.pause_wanted is not None and not self._standing and not self.is_over:
            self._standing = True
            self._disarm_timeout()
            self._host.parked(self)

    def go_on(self) -> None:
        """Let it run again."""
        self.pause_wanted = self.resumed_by = None
        self.gate.open()
        if self._standing:
            self._standing = False
            self._arm_timeout()
        if self._resume_thread is not None:
            self._resume_thread.set()

    def checkpoint(self) -> None:
        """In the thread of a plain function: stop or wait, if that was asked for."""
        if self._resume_thread is None:
            return
        while True:
            if self.request is not None:
                raise asyncio.CancelledError(self.request.stop.name.lower())
            if self.pause_wanted is None:
                return
            # Cleared before the last look, so that no word to go on is missed.
            self._resume_thread.clear()
            if self.pause_wanted is not None and self.request is None:
                if not post(self._host.loop, self._park):
                    raise asyncio.CancelledError("closed")
                self._resume_thread.wait()

    def _park(self) -> None:
        self._stand()

    async def passed(self) -> None:
        """Wait until it is not paused: for what the task's own asyncio tasks call."""
        if self._standing and self.gate.is_shut:
            await self.gate.passed()

    # ---- telling

    def _note(self) -> None:
        self._host.noted(self)

    def report(self, progress: Progress) -> None:
        """Take note of the progress."""
        self.progress = progress
        self._note()

    def as_task(self) -> Task:
        """The task as it stands while it runs."""
        c = self.claimed
        expires = None if c.expires is None else timedelta(microseconds=c.expires - c.due)
        return Task(
            id=c.id,
            name=c.name,
            queue=c.queue,
            state=self.state,
            priority=c.priority,
            attempt=c.attempt,
            failures=c.failures,
            due=to_datetime(c.due),
            created=to_datetime(c.created),
            moved=to_datetime(c.started),
            started=to_datetime(c.started),
            finished=None,
            actor="engine",
            reason=None,
            key=c.key,
            tags=texts.load_tags(c.tags),
            asked=None,
            owner=None,
            paused_from=None,
            deleted=None,
            expires=expires,
            progress=self.progress,
            error=None,
            arguments_json=c.arguments,
            result_json=None,
            deadline=self._deadline_instant(),
            resumed=c.resumed,
        )

    def _deadline_instant(self) -> datetime | None:
        if self._deadline is None:
            return None
        left = self._deadline - self._host.clock.monotonic()
        return to_datetime(self._host.clock.now() + round(left * 1e6))

    @property
    def is_busy(self) -> bool:
        """Whether its end, or its next state, is on its way."""
        in_hand = self.is_over or self.is_moving or self.is_ending
        return in_hand or (self.in_thread and self.holds_slot)

    @property
    def in_thread(self) -> bool:
        """Whether it is a plain function, in a thread that cannot be ended from outside."""
        return not self._work.is_async


def text_of(error: BaseException) -> ErrorText:
    """An exception as text: its type, its message, and the frames from the user's function on."""
    try:
        message = str(error)
    except BaseException as broken:  # an exception of the user's may do anything when it is shown
        message = f"<its str() raised {type(broken).__name__}>"
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "asyncio.exceptions", "__main__"):
        name = f"{kind.__module__}.{name}"
    return ErrorText(name, message[:MOST_TRACEBACK], _traceback(error))


def _traceback(error: BaseException) -> str:
    try:
        return _format(error)
    except BaseException as broken:  # as above: notes and causes are shown too
        return f"<its traceback cannot be shown: {type(broken).__name__}>"


def _format(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(error, limit=-MOST_FRAMES, compact=True)
    # inloop's own frames at the start say nothing about the user's mistake.
    while told.stack and told.stack[0].filename.startswith(_HERE):
        del told.stack[0]
    text = "".join(told.format())
    return text if len(text) <= MOST_TRACEBACK else text[-MOST_TRACEBACK:]
