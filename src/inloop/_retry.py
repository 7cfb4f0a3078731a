"""When a failed attempt is tried again: pure, attempt in, delay out."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from inloop._checks import duration

Kinds = tuple[type[BaseException], ...]


class Snooze(Exception):
    """Raised by a task: run me again in `seconds`; no failure is counted."""

    def __init__(self, seconds: float | timedelta) -> None:
        self.seconds = duration(seconds, "Snooze: seconds", least=0.0)
        super().__init__(f"snoozed for {self.seconds:g} s")


class GiveUp(Exception):
    """Raised by a task: it failed, and trying again would not help."""

    def __init__(self, reason: str = "gave up") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Exponential:
    """A delay that grows by `factor` with each failure, from `base` to `maximum` seconds.

    `jitter` spreads each delay evenly over ± that share of it, so that tasks which failed
    together do not come back together.
    """

    base: float = 1
    factor: float = 2
    maximum: float = 3600
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not (
            self.base >= 0 and self.factor >= 1 and self.maximum >= 0 and 0 <= self.jitter <= 1
        ):
            raise ValueError(
                f"{self!r}: base and maximum must be 0 or more, factor 1 or more, jitter 0 to 1"
            )

    def __call__(self, failures: int) -> float:
        try:
            delay = min(self.base * self.factor ** (failures - 1), self.maximum)
        except OverflowError:
            delay = self.maximum
        return delay * random.uniform(1 - self.jitter, 1 + self.jitter)


def exponential(
    base: float | timedelta = 1,
    factor: float = 2,
    maximum: float | timedelta = 3600,
    jitter: float = 0.1,
) -> Exponential:
    """Seconds before the n-th retry: `base * factor ** (n - 1)`, at most `maximum`, ± `jitter`."""
    least = duration(base, "base", least=0.0)
    return Exponential(least, factor, duration(maximum, "maximum", least=0.0), jitter)


_ONCE_A_SECOND_AND_DOUBLING = Exponential()


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a task may fail, and how long to wait between its tries.

    attempts: failures allowed, the last one included; 1 means no retry.
    backoff: `exponential(...)`, or any function of the number of failures giving seconds.
    on: exceptions that are retried. give_up_on: exceptions that are not, whatever `on` says.
    """

    attempts: int
    backoff: Callable[[int], float | timedelta] = _ONCE_A_SECOND_AND_DOUBLING
    on: Kinds = (Exception,)
    give_up_on: Kinds = ()

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"Retry(attempts={self.attempts!r}): must be a whole number")
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): must be 1 or more (1: no retry)")
        if not callable(self.backoff):
            raise TypeError(f"Retry(backoff={self.backoff!r}): use exponential(...) or a function")
        for option in ("on", "give_up_on"):
            kinds = getattr(self, option)
            if not isinstance(kinds, tuple) or not all(_is_exception(kind) for kind in kinds):
                raise TypeError(f"Retry({option}={kinds!r}): must be a tuple of exception types")

    def delay(self, error: BaseException, failures: int) -> float | None:
        """Seconds until the next try after the `failures`-th failure; None: there is none."""
        if failures >= self.attempts or isinstance(error, GiveUp):
            return None
        if isinstance(error, self.give_up_on) or not isinstance(error, self.on):
            return None
        pause = self.backoff(failures)
        seconds = pause.total_seconds() if isinstance(pause, timedelta) else float(pause)
        return max(0.0, seconds)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


NEVER = Retry(attempts=1)


def dump(retry: Retry) -> dict[str, object]:
    """A retry given with `using(retry=…)` as JSON, to be stored with the one task it is for."""
    if not isinstance(retry.backoff, Exponential):
        raise TypeError(
            "using(retry=…) stores the rule with the task, and a function cannot be stored: "
            "use backoff=exponential(...), or give this Retry to @tasks.task(retry=…)"
        )
    b = retry.backoff
    return {
        "attempts": retry.attempts,
        "backoff": [b.base, b.factor, b.maximum, b.jitter],
        "on": [_path(kind) for kind in retry.on],
        "give_up_on": [_path(kind) for kind in retry.give_up_on],
    }


@dataclass(frozen=True, slots=True)
class StoredRetry:
    """A `Retry` read back from a task: exception types are known by name, nothing is imported."""

    attempts: int
    backoff: Exponential
    on: frozenset[str]
    give_up_on: frozenset[str]

    def delay(self, error: BaseException, failures: int) -> float | None:
        """As `Retry.delay`."""
        names = {_path(kind) for kind in type(error).__mro__}
        if failures >= self.attempts or isinstance(error, GiveUp):
            return None
        if names & self.give_up_on or not names & self.on:
            return None
        return self.backoff(failures)


def load(stored: Mapping[str, Any]) -> StoredRetry:
    """The stored form of `dump`, ready to decide."""
    return StoredRetry(
        stored["attempts"],
        Exponential(*stored["backoff"]),
        frozenset(stored["on"]),
        frozenset(stored["give_up_on"]),
    )


def _path(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
