"""Under uvicorn's supervisors, `--workers` and `--reload`: the same promises for each process."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from shutdown_serving import (
    GRACE,
    INTERRUPTED,
    SLACK,
    Server,
    after_recovery,
    look,
    serving,
    wait_until,
)

TERM, INT = signal.SIGTERM, signal.SIGINT
WORKERS = "--workers", "2"
# uvicorn's supervisor looks at its signals twice a second, and joins its workers one by one.
JOINING = 1.0
UP = "Application startup complete"
ATTEMPTS = """
select state, attempt, failures, deaths from inloop_task where name <> 'urgent' order by seq
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def until_said(server: Server, words: str, times: int = 2) -> None:
    """Wait until it was said so often: by each of the processes, or again."""
    wait_until(lambda: server.log.count(words) >= times, f"{words}: {times} times", server.tail)


@pytest.mark.parametrize("number", [TERM, INT], ids=["term", "ctrl-c"])
def test_workers_end_together(tmp_path: Path, number: signal.Signals) -> None:
    """Each gives its own tasks the grace at the same time; the exit code is as without inloop."""
    folders = tmp_path / "with", tmp_path / "without"
    for folder in folders:
        folder.mkdir()
    with (
        serving(folders[0], *WORKERS, slots=2) as server,
        serving(folders[1], *WORKERS, store=False) as other,
    ):
        for one in (server, other):
            until_said(one, UP)
        for name in ("nap", "cleans_up", "stuck", "nap"):  # two in each, whoever is asked
            server.enqueue(name)
        owners = look(server.store, "select distinct owner from inloop_task")
        assert len(owners) == 2, "the work was to be shared"
        for one in (server, other):
            one.signal(number, group=number is INT)
        assert server.ended() == other.ended()
        assert server.took() < GRACE + 1 + JOINING + SLACK
        assert len(re.findall("did not wait any longer", server.log)) == 1
    assert after_recovery(server.store) == [INTERRUPTED] * 4


def test_ctrl_c_twice_ends_the_grace_of_all_workers(tmp_path: Path) -> None:
    """In a terminal it reaches every process."""
    with serving(tmp_path, *WORKERS, grace=60, slots=1) as server:
        until_said(server, UP)
        for _ in range(2):
            server.enqueue("nap")
        server.signal(INT, group=True)
        until_said(server, "Waiting for application shutdown")
        server.signal(INT, group=True)
        server.ended()
        assert server.took() < 1 + JOINING + SLACK
    assert after_recovery(server.store) == [INTERRUPTED] * 2


def test_a_reload_interrupts_and_goes_on(tmp_path: Path) -> None:
    """What was interrupted runs again in the new process; no failure is counted.

    A thread that will not end does not hold up the reload, and its task comes back as well.
    """
    with serving(tmp_path, "--reload", slots=2) as server:
        for name in ("nap", "stuck"):
            server.enqueue(name)
        later = time.time() + 10
        os.utime(server.app, (later, later))
        until_said(server, UP)
        again = [("running", 2, 0, 0)] * 2
        wait_until(lambda: look(server.store, ATTEMPTS) == again, "they run again", server.tail)
        times = [
            at
            for at, line in server.lines
            if re.search("Waiting for application shutdown|Finished server", line)
        ]
        assert times[1] - times[0] < GRACE + 1 + SLACK
        server.signal(TERM)
        server.ended()
    assert after_recovery(server.store)[:2] == [INTERRUPTED] * 2


def test_ctrl_c_twice_under_reload(tmp_path: Path) -> None:
    """Ends the grace, and the exit code is as without inloop."""
    folders = tmp_path / "with", tmp_path / "without"
    for folder in folders:
        folder.mkdir()
    with (
        serving(folders[0], "--reload", grace=60) as server,
        serving(folders[1], "--reload", store=False) as other,
    ):
        server.enqueue("nap")
        server.signal(INT, group=True)
        server.said("Waiting for application shutdown")
        server.signal(INT, group=True)
        # Idle it ends at once: a second one would find the supervisor gone.
        other.signal(INT, group=True)
        assert server.ended() == other.ended()
        assert server.took() < 1 + JOINING + SLACK
    assert after_recovery(server.store) == [INTERRUPTED]
