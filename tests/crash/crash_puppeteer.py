"""Leads processes by strings: starts puppets, gives orders, and hears their answers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from crash_driver import HERE, PATIENCE, environment, wait_until
from crash_effects import Effects
from crash_points import POINTS
from crash_vitals import Vitals

PUPPET = HERE / "programs" / "crash_puppet.py"


class OrderFailed(Exception):
    """The puppet's own error: the name of its type, and its message."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class Puppet:
    """One process that does as it is told."""

    def __init__(self, folder: Path, name: str, **environ: str) -> None:
        self.folder = folder
        self.name = name
        self.vitals = Vitals(folder / f"{name}.vitals")
        (folder / "effects.log").touch()
        with open(folder / f"{name}.err", "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(PUPPET), str(folder), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment() | environ,
            )
        self._answers: dict[int, list[Any]] = {}
        self._heard = threading.Condition()
        self._orders = 0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def opened(self) -> "Puppet":
        """Wait until its manager is open."""
        self.answer(0)
        return self

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            number, *answer = json.loads(line)
            with self._heard:
                self._answers[number] = answer
                self._heard.notify_all()

    def begin(self, verb: str, *arguments: object) -> int:
        """Give an order; its number, to ask for the answer later."""
        self._orders += 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([self._orders, verb, *arguments]).encode() + b"\n")
        self.process.stdin.flush()
        return self._orders

    def answer(self, number: int, timeout: float = PATIENCE) -> Any:
        """Wait for the answer to an order; `OrderFailed` if it raised."""
        with self._heard:
            if not self._heard.wait_for(lambda: number in self._answers, timeout):
                errors = (self.folder / f"{self.name}.err").read_text()[-3000:]
                raise AssertionError(f"{self.name} gave no answer within {timeout:g} s:\n{errors}")
            answer = self._answers.pop(number)
        if len(answer) > 1:
            raise OrderFailed(answer[1], answer[2])
        return answer[0]

    def tell(self, verb: str, *arguments: object) -> Any:
        """Give an order, and wait for the answer."""
        return self.answer(self.begin(verb, *arguments))

    def task(self, task_id: str) -> dict[str, str]:
        """A task as this puppet sees it."""
        found: dict[str, str] = self.tell("verb", "get", task_id)
        return found

    def wait_for(self, task_id: str, **facts: str) -> float:
        """Wait until a task is so; how long that took."""

        def is_so() -> bool:
            found = self.task(task_id)
            return all(found[key] == value for key, value in facts.items())

        return wait_until(is_so, f"{task_id} is {facts}")

    def arm(self, point: str) -> None:
        """Let it fall (or stop) at that point."""
        self.vitals["armed"] = POINTS.index(point)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> float:
        """kill -9; the instant."""
        at = time.monotonic()
        self.process.kill()
        self.process.wait()
        return at

    def close(self) -> int:
        """Let it close its manager and end; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Whatever its state, leave nothing behind."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._listener.join(5)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Stage:
    """The folder that puppets share, and the puppets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.puppets: list[Puppet] = []
        self.children: list[int] = []

    def puppet(self, name: str, **environ: str) -> Puppet:
        """Start one."""
        self.puppets.append(Puppet(self.folder, name, **environ))
        return self.puppets[-1].opened()

    def run_in(self, puppet: Puppet, function: str, *arguments: object) -> str:
        """A task that runs in that very puppet, however many share the work; its id."""
        while True:
            task = str(puppet.tell("enqueue", function, *arguments))
            wait_until(partial(self.began, task), "it runs")
            if self.began(task, puppet.name):
                return task
            puppet.tell("verb", "cancel", task)

    def effects(self) -> Effects:
        """What their tasks did."""
        return Effects.read(self.folder / "effects.log")

    def began(self, task_id: str, name: str = "") -> bool:
        """Whether the task has begun (in that puppet)."""
        attempts = self.effects().attempts.get(task_id, {})
        return any(attempt.life == (name or attempt.life) for attempt in attempts.values())


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """At the end every puppet, and every child of one, is gone."""
    stage = Stage(folder)
    try:
        yield stage
    finally:
        # Children first: they hold the other end of their parent's output.
        for pid in stage.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for puppet in stage.puppets:
            puppet.end()
