"""How an attempt ended, and what becomes of its task: pure, an end in, a Move out.

The engine's own request decides, not what the code raised:

    asked to      returned                          raised
    ─────────     ───────────────────────────────   ─────────────────────────────────────────────
    (nothing)     succeeded                         Snooze: scheduled again, no failure counted;
                                                    else a failure: scheduled again, or failed
    cancel        succeeded, cancellation ignored   cancelled, the error kept
    time out      succeeded, late                   a failure (TimeoutError)
    interrupt     succeeded                         queued, before all others, no failure counted;
                                                    paused, if that was asked for and is not done
"""

from asyncio import CancelledError
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from inloop._checks import MOST_SECONDS
from inloop._exchange import By, Claimed, Move
from inloop._model import ErrorText, Micros, Progress, State
from inloop._retry import Snooze


class Stop(IntEnum):
    """Why the engine asked an attempt to stop; of several reasons the greatest counts."""

    INTERRUPT = 1
    TIMEOUT = 2
    CANCEL = 3


class StrayCancellation(Exception):
    """The attempt ended by a `CancelledError` that nobody had asked for."""


class RetryRule(Protocol):
    """A `Retry`, or one read back from the store."""

    def delay(self, error: BaseException, failures: int) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Returned:
    """The function returned; `result` is its value as JSON."""

    result: str


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised. `final`: trying again could not help."""

    error: BaseException
    text: ErrorText
    final: bool = False


End = Returned | Raised


@dataclass(frozen=True, slots=True)
class Request:
    """The engine's request to stop, and on whose behalf."""

    stop: Stop
    actor: str = "engine"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else decides: the stored state of the attempt, its rule, and what was asked of it."""

    now: Micros
    expects: State
    retry: RetryRule
    request: Request | None = None
    progress: Progress | None = None
    pause: By | None = None


def decide(claimed: Claimed, end: End, at: Circumstances) -> Move:
    """What becomes of a task whose attempt has ended."""
    if isinstance(end, Returned):
        return _succeeded(claimed, end, at)
    stop = at.request.stop if at.request else None
    if stop is Stop.CANCEL:
        return _cancelled(claimed, end, at)
    if stop is Stop.INTERRUPT:
        return _interrupted(claimed, at)
    if isinstance(end.error, Snooze) and stop is None:
        due = at.now + round(end.error.seconds * 1e6)
        return _again(claimed, at, due, claimed.failures, reason=str(end.error))
    return _failed(claimed, end, at)


def _succeeded(claimed: Claimed, end: Returned, at: Circumstances) -> Move:
    late = {Stop.CANCEL: "cancellation ignored", Stop.TIMEOUT: "finished after its timeout"}
    reason = late.get(at.request.stop) if at.request else None
    return _move(claimed, at, State.SUCCEEDED, result=end.result, reason=reason)


def _cancelled(claimed: Claimed, end: Raised, at: Circumstances) -> Move:
    assert at.request is not None
    as_asked = isinstance(end.error, CancelledError | StrayCancellation)
    return _move(
        claimed,
        at,
        State.CANCELLED,
        error=None if as_asked else end.text,
        actor=at.request.actor,
        reason=at.request.reason,
    )


def _interrupted(claimed: Claimed, at: Circumstances) -> Move:
    assert at.request is not None
    if at.pause is not None:
        # It was asked to pause and had not yet: that outlives the process.
        paused = _move(claimed, at, State.PAUSED, first=True, reason=at.pause.reason)
        return replace(paused, actor=at.pause.actor, paused_from=State.RUNNING)
    reason = at.request.reason or "interrupted"
    return _move(claimed, at, State.QUEUED, first=True, reason=reason)


def _failed(claimed: Claimed, end: Raised, at: Circumstances) -> Move:
    failures = claimed.failures + 1
    delay, reason = (None, None) if end.final else _delay(at.retry, end.error, failures)
    if delay is not None:
        due = at.now + round(delay * 1e6)
        return _again(claimed, at, due, failures, reason=reason, error=end.text)
    return _move(claimed, at, State.FAILED, failures=failures, error=end.text, reason=reason)


def failed(claimed: Claimed, end: Raised, at: Circumstances) -> Move:
    """The end of a task whose real end cannot be stored."""
    return _move(claimed, at, State.FAILED, failures=claimed.failures + 1, error=end.text)


def not_started(claimed: Claimed, at: Circumstances, seconds: float, why: str) -> Move:
    """An attempt that could not begin: soon again, as if it had not been claimed."""
    move = _move(claimed, at, State.SCHEDULED, first=claimed.resumed, reason=f"not started: {why}")
    return replace(move, due=at.now + round(seconds * 1e6), deaths=claimed.deaths)


def held(claimed: Claimed, end: Raised, at: Circumstances) -> Move:
    """A task that its function cannot take (any more): it waits for a person's decision."""
    return _move(claimed, at, State.HELD, error=end.text, reason=end.text.message)


def _delay(
    retry: RetryRule, error: BaseException, failures: int
) -> tuple[float | None, str | None]:
    try:
        delay = retry.delay(error, failures)
    except Exception as broken:
        # The rule may hold a function of the user's: its failure must not hide the task's own.
        return None, f"not retried: backoff raised {type(broken).__name__}"
    if delay is not None and not delay <= MOST_SECONDS:
        return None, f"not retried: backoff gave {delay:g} s"
    return delay, None


def _again(
    claimed: Claimed,
    at: Circumstances,
    due: Micros,
    failures: int,
    *,
    reason: str | None,
    error: ErrorText | None = None,
) -> Move:
    # `expires` counts from due: a task that was worth starting is given the same time again.
    expires = None if claimed.expires is None else due + claimed.expires - claimed.due
    move = _move(claimed, at, State.SCHEDULED, failures=failures, error=error, reason=reason)
    move = replace(move, due=due, expires=expires)
    if at.pause is not None:
        # Paused means paused: it would be tried again, and is not before it is resumed.
        by = at.pause
        return replace(move, to=State.PAUSED, paused_from=State.SCHEDULED, actor=by.actor)
    return move


def _move(
    claimed: Claimed,
    at: Circumstances,
    to: State,
    *,
    failures: int | None = None,
    first: bool = False,
    result: str | None = None,
    error: ErrorText | None = None,
    reason: str | None = None,
    actor: str = "engine",
) -> Move:
    return Move(
        seq=claimed.seq,
        task_id=claimed.id,
        expects=at.expects,
        attempt=claimed.attempt,
        to=to,
        at=at.now,
        failures=claimed.failures if failures is None else failures,
        first=first,
        result=result,
        error=error,
        reason=reason,
        actor=actor,
        expires=claimed.expires,
        progress=at.progress,
    )
