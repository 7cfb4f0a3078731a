"""Shutting down under uvicorn with several workers, and reloading."""

import signal
from pathlib import Path

import pytest
from shutdown_server import GRACE, look, serving, wait_until

SIGTERM, SIGINT = signal.SIGTERM, signal.SIGINT
# The parent looks at its children twice a second.
BEYOND = 1.0 + 1.5
TASKS = "select name, state, failures, deaths from inloop_task order by seq"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["SIGTERM", "Ctrl-C"])
def test_workers_interrupt_their_tasks_and_end_in_time(tmp_path: Path, ctrl_c: bool) -> None:
    """SIGTERM to the parent, or Ctrl-C to all of the group: no task fails, none is left running."""
    with serving(tmp_path, "--workers", "2", slots=3) as server:
        server.said(r"(?s)startup complete.*startup complete")
        tasks = [server.enqueue(name) for name in ("nap", "nap_in_thread") * 3]
        running = look(server.store, "select count(distinct owner) from inloop_task")
        server.signal(SIGINT if ctrl_c else SIGTERM, group=ctrl_c)
        assert server.ended() == 0
        assert server.took() < GRACE + BEYOND
        assert running == [(2,)], "one worker had it all"
        assert [server.state(task) for task in tasks] == ["queued"] * 6
        assert {row[2:] for row in look(server.store, TASKS)} == {(0, 0)}
        assert look(server.store, "select count(*) from inloop_owner where closed is null") == [
            (0,)
        ]


def test_a_reload_interrupts_and_goes_on_with_the_same_tasks(tmp_path: Path) -> None:
    """A file is saved: running tasks go on in the new process, first, and no failure is counted."""
    with serving(tmp_path, "--reload", "--reload-delay", "0.1", slots=2) as server:
        tasks = [server.enqueue("nap"), server.enqueue("nap_in_thread")]
        urgent = server.enqueue("nap", 0, priority=9, runs=False)
        ((before,),) = look(server.store, "select distinct owner from inloop_task where owner > 0")
        server.app.write_text(server.app.read_text() + "\n# saved\n")
        server.said("(?s)Reloading.*startup complete.*startup complete")
        sql = "select count(*) from inloop_task where state = 'running' and owner <> ?"
        wait_until(lambda: look(server.store, sql, before) == [(2,)], "they run again", server.tail)
        assert server.state(urgent) == "queued"
        server.signal(SIGTERM)
        assert server.ended() == 0
        assert [server.state(task) for task in [*tasks, urgent]] == ["queued"] * 3
        assert {row[2:] for row in look(server.store, TASKS)} == {(0, 0)}
