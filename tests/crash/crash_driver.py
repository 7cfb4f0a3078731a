"""Starts the program under test, kills it, and takes down where each kill fell."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crash_points import POINTS
from crash_vitals import Vitals

HERE = Path(__file__).parent
WORKER = HERE / "programs" / "crash_worker.py"
# A process that is not there after so long is broken; the machine may be slow.
PATIENCE = 30.0
BUSY = 20
AT_WORK, LEAVING = POINTS.index("committing"), POINTS.index("leaving")
# Kills from outside; after SIGTERM the process is on its way out.
UNNAMED = ("random", "terminated")
WHERE = ("between transactions", "in a transaction", "in mid-commit")


def wait_until(fact: Callable[[], object], what: str, patience: float = PATIENCE) -> float:
    """Wait for a fact outside this process; how long it took."""
    begun = time.monotonic()
    while not fact():
        if time.monotonic() - begun > patience:
            raise AssertionError(f"waited {patience:g} s in vain: {what}")
        time.sleep(0.002)
    return time.monotonic() - begun


def environment() -> dict[str, str]:
    """Lets a program find the modules that it shares with the tests."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@dataclass
class Fall:
    """Where one kill fell."""

    point: str
    vitals: dict[str, int]

    @property
    def is_busy(self) -> bool:
        """Whether many tasks were running."""
        return self.vitals["running"] >= BUSY

    @property
    def is_at_work(self) -> bool:
        """Whether it was neither on its way in nor on its way out."""
        return self.point not in (*POINTS[:AT_WORK], "leaving", "terminated")

    def __str__(self) -> str:
        seen = self.vitals
        return (
            f"{self.point:<12} {seen['running']:3} running, {seen['threads']:2} of them in threads,"
            f" {WHERE[seen['writing']]}, after {seen['commits']} commits"
            f" and {seen['ended']} attempts"
        )


class Worker:
    """One slot of the campaign: the program under test, life after life."""

    def __init__(self, folder: Path, slot: int, *options: str) -> None:
        self._folder = folder
        self._slot = slot
        self._options = options
        self._lives = 0
        self.vitals = Vitals(folder / f"{slot}.vitals")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, armed: str = "") -> None:
        """Begin a new life."""
        for name in self.vitals.as_dict():
            self.vitals[name] = 0
        self.vitals["armed"] = POINTS.index(armed)
        self._lives += 1
        life = f"{self._slot}.{self._lives}"
        with open(self._folder / "output.log", "ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, WORKER, self._folder, str(self._slot), life),
                    *self._options,
                    *options,
                ],
                env=environment(),
                stdout=output,
                stderr=output,
            )

    def is_busy(self) -> bool:
        """Whether its slots are full. An exit that nobody wanted is told at once."""
        assert self.process is not None
        if self.process.poll() is not None:
            output = (self._folder / "output.log").read_text()[-4000:]
            raise AssertionError(f"it ended by itself ({self.process.returncode}):\n{output}")
        return self.vitals["running"] >= BUSY + 5

    def is_dead(self) -> bool:
        """Whether its process has ended."""
        return self.process is None or self.process.poll() is not None

    def strike(self, point: str) -> None:
        """Kill it at once ("random"), or let it fall at a named point."""
        assert self.process is not None
        if point in ("leaving", "terminated"):
            self.process.terminate()
        if point == "terminated":
            time.sleep(random.uniform(0.0, 0.25))
        if point in UNNAMED:
            self.process.kill()
        else:
            self.vitals["least"] = BUSY if AT_WORK <= POINTS.index(point) < LEAVING else 0
            self.vitals["armed"] = POINTS.index(point)

    def fall(self, point: str) -> Fall:
        """Wait until it has fallen there."""
        assert self.process is not None
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it never came by {point!r}: {self.vitals.as_dict()}") from None
        assert code == -signal.SIGKILL, f"{point}: ended by itself with {code}"
        fell = POINTS[self.vitals["fell"]]
        assert fell == ("" if point in UNNAMED else point)
        return Fall(point, self.vitals.as_dict())

    def finish(self) -> None:
        """One more life, in which it works off all that is left."""
        self.start("--finish")
        assert self.process is not None
        try:
            code = self.process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"work is left: {counts(self._folder)}") from None
        assert code == 0, (self._folder / "output.log").read_text()[-4000:]

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@dataclass
class Campaign:
    """Many kills on one file, and what was seen."""

    folder: Path
    falls: list[Fall] = field(default_factory=list)
    waited: float = 0.0
    waits: int = 0

    def __post_init__(self) -> None:
        (self.folder / "effects.log").touch()

    def kill(self, point: str, *victims: Worker) -> None:
        """Kill them, and take down where they fell."""
        for victim in victims:
            victim.strike(point)
        self.falls += [victim.fall(point) for victim in victims]

    def kill_at_start(self, victim: Worker, point: str) -> None:
        """Start it only to let it fall on its way in."""
        victim.start(armed=point)
        self.falls.append(victim.fall(point))

    def live(self, rng: random.Random, *victims: Worker) -> None:
        """Let them live a while, and be busy in the end.

        Tasks that saw two deaths in a row are given the time to prove their health. A third death
        without progress would hold them, and rightly so: a process that dies again and again before
        anything can end looks like one that its task kills.
        """
        self._wait_until_busy(victims)
        time.sleep(rng.uniform(0.35, 0.7) if rng.random() < 0.85 else rng.uniform(0.0, 0.35))
        if suspects(self.folder):
            self.waits += 1
            self.waited += wait_until(lambda: not suspects(self.folder), "suspects end")
        self._wait_until_busy(victims)

    def _wait_until_busy(self, victims: tuple[Worker, ...]) -> None:
        wait_until(lambda: all(victim.is_busy() for victim in victims), "they are busy")

    def report(self) -> list[str]:
        """Where each kill fell."""
        places = Counter(WHERE[fall.vitals["writing"]] for fall in self.falls)
        running = [fall.vitals["running"] for fall in self.falls if fall.is_busy]
        return [
            *(f"  kill {n:3}: {fall}" for n, fall in enumerate(self.falls, 1)),
            f"{len(self.falls)} kills, {len(running)} of a busy process with {min(running)} to"
            f" {max(running)} tasks running; {dict(places)};"
            f" {self.waits} times suspects were let end ({self.waited:.1f} s in all)",
        ]

    def hit(self, least: int) -> None:
        """Assert that the kills found something to break: so many of them a busy process."""
        busy = sum(fall.is_busy for fall in self.falls)
        assert busy >= least, f"only {busy} kills found a busy process"
        idle = [str(fall) for fall in self.falls if fall.is_at_work and not fall.is_busy]
        assert len(idle) <= 2, f"these found a process that was not: {idle}"
        assert any(fall.vitals["writing"] == 2 for fall in self.falls), "none fell into a commit"


def some_points(rng: random.Random, n: int) -> list[str]:
    """What to do to a busy process: half of it at named points, half at random instants."""
    named = ("committing", *POINTS[AT_WORK:], "terminated")
    points = [named[k % len(named)] for k in range(n // 2)]
    points += ["random"] * (n - len(points))
    rng.shuffle(points)
    return points


@contextlib.contextmanager
def workers(folder: Path, n: int, *options: str) -> Iterator[list[Worker]]:
    """So many slots; whatever happens, none of their processes is left."""
    found = [Worker(folder, slot, *options) for slot in range(n)]
    try:
        yield found
    finally:
        for worker in found:
            worker.end()


def look(folder: Path, sql: str) -> list[tuple[object, ...]]:
    """Read the database from outside; nothing stays open."""
    with contextlib.closing(sqlite3.connect(folder / "tasks.db", timeout=5)) as cx:
        return cx.execute(sql).fetchall()


def suspects(folder: Path) -> int:
    """Tasks that wait or run under suspicion."""
    sql = "select count(*) from inloop_task where deaths >= 2 and state in ('queued', 'running')"
    return int(str(look(folder, sql)[0][0]))


def counts(folder: Path) -> dict[object, object]:
    """How many tasks are in each state."""
    return dict(look(folder, "select state, count(*) from inloop_task group by state"))  # type: ignore[arg-type] # pairs
