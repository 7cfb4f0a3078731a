"""The log of effects: what tasks did, told outside the database, and whether it may be so.

One file, opened with O_APPEND by every process, one line an effect:

    B task attempt ns life          the code of an attempt begins
    E task attempt ns life how      it ends: "ok", or the name of what it raised
    T task 0       ns life          a tick of a task that ticks
    A task ticket  ns life          an `enqueue` has returned

`ns` is the machine's monotonic clock, which all processes share; `life` names one process.
"""

import contextlib
import itertools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inloop import current_task


class EffectLog:
    """Writes effects; each line is one `write`, so that a kill leaves whole lines."""

    def __init__(self, path: Path, life: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._life = life

    def _tell(self, kind: str, task: str, what: object, how: str = "") -> None:
        line = f"{kind} {task} {what} {time.monotonic_ns()} {self._life} {how}".rstrip()
        os.write(self._fd, f"{line}\n".encode())

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Tell that the code of the present attempt begins, and how it ends."""
        me = current_task()
        self._tell("B", me.id, me.attempt)
        how = "ok"
        try:
            yield
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self._tell("E", me.id, me.attempt, how)

    def tick(self, task: str) -> None:
        """It goes on."""
        self._tell("T", task, 0)

    def acknowledge(self, task: str, ticket: str) -> None:
        """An enqueue returned."""
        self._tell("A", task, ticket)


@dataclass
class Attempt:
    """One attempt as its effects tell it."""

    number: int
    life: str
    begun: int
    ended: int | None = None
    how: str | None = None


@dataclass
class Effects:
    """All that was told."""

    attempts: dict[str, dict[int, Attempt]] = field(default_factory=lambda: defaultdict(dict))
    acknowledged: dict[str, str] = field(default_factory=dict)
    ticks: Counter[str] = field(default_factory=Counter)
    last_sign: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Effects":
        """Read the log of a test."""
        effects = cls()
        for line in path.read_text().splitlines():
            effects._hear(*line.split(" "))
        return effects

    def _hear(
        self, kind: str, task: str, what: str, at: str, life: str, how: str | None = None
    ) -> None:
        self.last_sign[life] = max(int(at), self.last_sign.get(life, 0))
        if kind == "A":
            if self.acknowledged.setdefault(what, task) != task:
                self.wrong.append(f"ticket {what} became two tasks")
        elif kind == "T":
            self.ticks[task] += 1
        elif kind == "B":
            if int(what) in self.attempts[task]:
                self.wrong.append(f"attempt {what} of {task} began twice")
            self.attempts[task][int(what)] = Attempt(int(what), life, int(at))
        else:
            attempt = self.attempts[task].get(int(what))
            if attempt is None or attempt.life != life:
                self.wrong.append(f"attempt {what} of {task} ended where it had not begun")
            elif attempt.ended is not None:
                self.wrong.append(f"attempt {what} of {task} finished twice")
            else:
                attempt.ended, attempt.how = int(at), how

    def overlaps(self) -> list[str]:
        """Attempts of one task that ran at the same time.

        One that was killed has no end; but its process cannot have given a sign of life after
        another one began.
        """
        found = []
        for task, attempts in self.attempts.items():
            in_order = [attempts[number] for number in sorted(attempts)]
            for one, other in itertools.pairwise(in_order):
                if one.ended is not None:
                    over = one.ended <= other.begun
                else:
                    over = one.life != other.life and self.last_sign[one.life] <= other.begun
                if not over:
                    found.append(f"{task}: {one} and {other}")
        return found
