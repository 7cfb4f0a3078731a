"""What a manager was told, checked where it was told."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from inloop._checks import check_count, check_text, duration, to_whole
from inloop._model import FINAL, Micros, State

Retention = float | timedelta | Mapping[State | str, float | timedelta | None] | None
KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the manager was told about running tasks."""

    concurrency: int
    limits: dict[str, int]
    retention: dict[State, Micros | None]
    work: bool
    capture_logs: int
    max_lag: float


@dataclass(frozen=True, slots=True)
class Queue:
    """What a queue may do. concurrency: its tasks that run at once, over all processes."""

    concurrency: int | None = None

    def __post_init__(self) -> None:
        if self.concurrency is not None:
            check_count(self.concurrency, "concurrency", least=0)


class Namespace:
    """A plain namespace for what tasks need: pools, clients, settings."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tasks.state has no {name!r}: set it before a task needs it")

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def level_of(level: int | str) -> int:
    """A level of logging, by its number or its name."""
    if isinstance(level, str):
        known = logging.getLevelNamesMapping()
        if level not in known:
            raise ValueError(f"capture_logs={level!r}: the levels are {', '.join(known)}")
        return known[level]
    return check_count(level, "capture_logs", least=0)


def grace_now(grace: float) -> float:
    said = os.environ.get("INLOOP_GRACE")
    if not said:
        return grace
    try:
        return duration(float(said), "INLOOP_GRACE", least=0.0)
    except ValueError as error:
        raise ValueError(f"INLOOP_GRACE={said!r}: must be seconds, 0 or more") from error


_ENDS = tuple(state for state in State if state in FINAL)


def slots_of(queues: Mapping[str, Queue]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, queue in queues.items():
        check_text(name, "queues")
        if not isinstance(queue, Queue):
            raise TypeError(f"queues[{name!r}]={queue!r}: must be Queue(concurrency=…)")
        if queue.concurrency is not None:
            found[name] = queue.concurrency
    return found


def retention_of(retention: Retention) -> dict[State, Micros | None]:
    if retention is None or isinstance(retention, int | float | timedelta):
        return dict.fromkeys(_ENDS, _keep(retention))
    if not isinstance(retention, Mapping):
        raise TypeError(f"retention={retention!r}: must be a duration, or one per final state")
    found: dict[State, Micros | None] = {}
    for state, keep in retention.items():
        if state not in _ENDS:
            raise ValueError(f"retention={{{state!r}: …}}: the final states are {', '.join(_ENDS)}")
        found[State(state)] = _keep(keep)
    return dict.fromkeys(_ENDS, _keep(KEPT)) | found


def _keep(keep: float | timedelta | None) -> Micros | None:
    return None if keep is None else to_whole(duration(keep, "retention", least=0.0))
