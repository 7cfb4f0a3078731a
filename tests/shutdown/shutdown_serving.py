"""Runs uvicorn as a person would, and takes the time of its end."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from inloop import TaskManager

APP = Path(__file__).parent / "programs" / "shutdown_web.py"
PATIENCE = 30.0
GRACE = 0.6
# For the interpreter's exit, on a machine that has other things to do as well.
SLACK = 3.0
INTERRUPTED = "queued", 0, 0, -(2**62)  # state, failures, deaths; before any priority


class Server:
    """One uvicorn, in a process group of its own as if from a terminal."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        store: bool = True,
        grace: float = GRACE,
        slots: int = 8,
    ) -> None:
        # A copy of its own, so that --reload has a file to watch that a test may touch.
        self.app = Path(shutil.copy(APP, folder / "shutdown_web.py"))
        self.store = folder / "app.db"
        environ = os.environ | {"INLOOP_GRACE": str(grace), "SLOTS": str(slots)}
        environ |= {"STORE": str(self.store)} if store else {}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "shutdown_web:app", "--port", "0"),
                *("--app-dir", str(folder), "--log-level", "info", *options),
            ],
            cwd=folder,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.client = httpx.Client(timeout=PATIENCE)

    def start(self) -> None:
        """Wait until it answers."""
        port = self.said(r"running on http://127\.0\.0\.1:(\d+)")[1]
        self.client.base_url = f"http://127.0.0.1:{port}"
        wait_until(self._answers, "the app is up", self.tail)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip()))

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/").status_code == 200
        return False

    @property
    def log(self) -> str:
        """All that it wrote."""
        return "\n".join(line for _, line in self.lines)

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until it says so."""
        wait_until(lambda: re.search(pattern, self.log), f"it says {pattern!r}", self.tail)
        found = re.search(pattern, self.log)
        assert found is not None
        return found

    def tail(self) -> str:
        """What it said last, for a failure."""
        return self.log[-4000:]

    def enqueue(self, name: str, seconds: float = 60, *, runs: bool = True) -> str:
        """Enqueue a task, and see it run; its id."""
        answer = self.client.post(f"/tasks/{name}", params={"seconds": seconds})
        assert answer.status_code == 200, answer.text
        task = str(answer.json())
        if runs:
            self.reached(task, "running")
        return task

    def reached(self, task: str, state: str) -> None:
        """Wait until the task is in this state."""
        wait_until(lambda: self.state(task) == state, f"{task} is {state}", self.tail)

    def state(self, task: str) -> str:
        """The state of a task, from outside."""
        return str(look(self.store, "select state from inloop_task where id = ?", task)[0][0])

    def signal(self, *numbers: signal.Signals, group: bool = False, every: float = 0.2) -> None:
        """Send signals, one after the other; to the whole group, as Ctrl-C in a terminal does."""
        for n, number in enumerate(numbers):
            time.sleep(every if n else 0)
            if group:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{self.tail()}") from None
        self.exited = time.monotonic()
        self._reader.join(5)
        return code

    def took(self, since: str = "Waiting for application shutdown") -> float:
        """Seconds from the (first) time it said so to the end of the process."""
        begun = [at for at, line in self.lines if since in line]
        assert begun, f"its shutdown never began:\n{self.tail()}"
        return self.exited - begun[0]

    def end(self) -> None:
        """Leave nothing behind."""
        self.client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def serving(folder: Path, *options: str, **settings: Any) -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server(folder, *options, **settings)
    try:
        server.start()
        yield server
    finally:
        server.end()


def after_recovery(store: Path) -> list[tuple[str, int, int, int]]:
    """What the next start makes of the tasks: state, failures, deaths and rank of each."""

    async def recover() -> None:
        async with TaskManager(store, work=False) as tasks:
            while (await tasks.find(state="running")).items:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(recover(), PATIENCE))
    return look(store, "select state, failures, deaths, rank from inloop_task order by seq")


def look(store: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Read the database from outside."""
    with contextlib.closing(sqlite3.connect(store, timeout=5)) as cx:
        return cx.execute(sql, values).fetchall()


def wait_until(
    fact: Callable[[], object], what: str, tail: Callable[[], str] = str, patience: float = PATIENCE
) -> None:
    """Wait for a fact outside this process."""
    deadline = time.monotonic() + patience
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain: {what}\n{tail()}")
        time.sleep(0.01)
