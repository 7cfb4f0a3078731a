"""The import example as a process that can be killed, and what it must have brought about."""

import asyncio
import csv
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from inloop import State, TaskManager

ROOT = Path(__file__).parents[2]
CHUNK = 500
PATIENCE = 60.0
ALONE = ("-m", "examples.imports")
THREE = ("-m", "uvicorn", "examples.imports:app", "--workers", "3")


class Served:
    """The example, in a process group of its own, on a free port of this machine."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # The main module takes its port from the environment, uvicorn's own command does not.
        port = () if command == ALONE else ("--port", str(self.port))
        self._command = [sys.executable, *command, *port]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        told = {"IMPORTS_DATA": str(self.folder), "IMPORTS_REST": "0.02", "PORT": str(self.port)}
        with (self.folder / "served.log").open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.get("/")

    def kill(self) -> None:
        """`kill -9` for it and all its workers."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, as a deploy does; it ends as uvicorn does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(15) in (0, -signal.SIGTERM), self.output()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, how)
            self._process.wait(15)

    def get(self, path: str) -> Any:
        """What it answers, once it does: a worker may be killed while it is asked."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = httpx.get(self.url + path, timeout=PATIENCE)
                answer.raise_for_status()
                return answer.json()
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.output()
                time.sleep(0.02)

    def upload(self, file: Path) -> str:
        """Upload a file in parts, as curl does; the id of its import."""
        with file.open("rb") as parts:
            answer = httpx.post(self.url + "/imports", content=parts)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task"])

    def wait_for(self, path: str, is_so: Callable[[Any], bool]) -> Any:
        """Ask until the answer is as wanted; that answer."""
        deadline = time.monotonic() + PATIENCE
        while not is_so(answer := self.get(path)):
            assert time.monotonic() < deadline, f"{path}: {answer}\n{self.output()}"
            time.sleep(0.02)
        return answer

    def output(self) -> str:
        """The end of what it has printed."""
        return (self.folder / "served.log").read_text()[-5000:]


@contextmanager
def served(folder: Path, command: tuple[str, ...]) -> Iterator[Served]:
    """The example, running; nothing of it is left at the end, whatever happens."""
    server = Served(folder, command)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_csv(path: Path, rows: int) -> None:
    """The file to import, made by the script of the repo."""
    command = [sys.executable, "-m", "examples.make_csv", str(path), "--rows", str(rows)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE)


# ---- progress


@dataclass(frozen=True)
class Standing:
    """How far an import was seen to be: what it told of itself, and the rows that are in."""

    attempt: int = 0
    process: int = 0
    told: float = 0
    rows: int = 0


def wait_until(server: Served, import_id: str, rows: int, last: Standing) -> Standing:
    """Wait until an attempt after the last has stored progress, and so many rows are in."""

    def has_gone_on(answer: Any) -> bool:
        assert answer["state"] in ("queued", "running"), answer
        is_new = answer["state"] == "running" and answer["attempt"] > last.attempt
        return bool(is_new and answer["progress"] and answer["progress"]["done"] > last.told)

    answer = server.wait_for(f"/imports/{import_id}", has_gone_on)
    with closing(sqlite3.connect(server.folder / "imports.db")) as cx:
        look = "select rows from place where import = ?"
        deadline = time.monotonic() + PATIENCE
        while (there := cx.execute(look, (import_id,)).fetchone()[0]) < rows:
            assert time.monotonic() < deadline, f"stands at row {there}\n{server.output()}"
            time.sleep(0.002)
    return Standing(answer["attempt"], answer["process"], answer["progress"]["done"], there)


# ---- the oracle


def expected(file: Path) -> list[tuple[int, str, str, int]]:
    """The orders in a CSV file: number, customer, country, cents."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))[1:]
    return [(int(n), who, where, int(Decimal(much) * 100)) for n, who, where, much in rows]


def check_rows(db: Path, import_id: str, file: Path) -> None:
    """Every order of the file is there, as it was, and none is there twice."""
    with closing(sqlite3.connect(db)) as cx:
        found = cx.execute(
            "select n, customer, country, cents from orders where import = ? order by n",
            (import_id,),
        ).fetchall()
        (unique,) = cx.execute(
            "select count(*) from pragma_index_list('orders') where \"unique\""
        ).fetchone()
        (health,) = cx.execute("pragma integrity_check").fetchone()
    assert unique == 0, "the oracle must not be helped by a constraint"
    assert found == expected(file)
    assert health == "ok"


SUMS = """
select (n - 1) / :chunk * :chunk + 1, sum(cents) from orders where import = :import group by 1
"""


def run_again(db: Path, name: str) -> int:
    """Have ended tasks run again in the processes that work on the store; how many."""

    async def run() -> int:
        async with TaskManager(db, work=False) as tasks:
            return await tasks.retry_where(name=name)

    return asyncio.run(run())


def check_children(db: Path, import_id: str, rows: int) -> int:
    """Two children of every chunk, each once, done, with its effect once; how many were retried."""
    return asyncio.run(_check_children(db, import_id, rows))


async def _check_children(db: Path, import_id: str, rows: int) -> int:
    firsts = list(range(1, rows + 1, CHUNK))
    with closing(sqlite3.connect(db)) as cx:
        effects = Counter(cx.execute("select task, what, first from effect").fetchall())
        sums = dict(cx.execute("select first, cents from effect where what = 'sum'").fetchall())
        true_sums = dict(cx.execute(SUMS, {"chunk": CHUNK, "import": import_id}).fetchall())
    wanted: Counter[tuple[str, str, int]] = Counter()
    retried = 0
    async with TaskManager(db, work=False) as tasks:
        for name, what in (("add_up", "sum"), ("tell_warehouse", "told")):
            children = [*await tasks.find(name=name, limit=1000)]
            found = sorted((int(str(task.arguments["first"])), task) for task in children)
            assert [first for first, _ in found] == firsts
            for first, task in found:
                wanted[task.id, what, first] += 1
                assert task.state is State.SUCCEEDED
                fails = first // CHUNK % 3 if name == "tell_warehouse" else 0
                assert task.failures == fails, "a death is not a failure, and a failure no death"
                history = await tasks.attempts(task.id)
                assert [one.number for one in history] == list(range(1, task.attempt + 1))
                failed = [one for one in history if one.outcome is State.SCHEDULED]
                assert [one.error.type for one in failed if one.error] == [
                    "ConnectionError"
                ] * fails
                retried += bool(failed)
    assert effects == wanted
    assert sums == true_sums
    return retried
