"""Under plain uvicorn: the exit is prompt, and nothing that was interrupted is lost or failed."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
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

from inloop import TaskManager

RUNNING = "select id, attempt from inloop_task where state = 'running'"
TERM, INT = signal.SIGTERM, signal.SIGINT
pytestmark = pytest.mark.timeout(60)


def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: for the app, and for the same app without inloop."""
    folders = tmp_path / "with", tmp_path / "without"
    for folder in folders:
        folder.mkdir()
    return folders


@contextlib.contextmanager
def streaming(server: Server) -> Iterator[None]:
    """A client that reads a response which does not end, for the time of a block."""
    with server.client.stream("GET", "/stream") as answer:
        chunks = answer.iter_text()
        next(chunks)
        yield
        chunks.close()  # type: ignore[attr-defined] # it is a generator


def words(server: Server) -> str:
    """What it said, without ports and process numbers."""
    return re.sub(r"\d+", "", server.log)


# ---- idle


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(TERM,), (INT,), (INT, INT)], ids=["term", "int", "int-int"])
def test_the_exit_code_is_as_without_inloop(
    tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    """Whatever signal ends it; idle, it ends at once, not after its grace, and says nothing."""
    mine, bare = pair(tmp_path)
    with serving(mine, grace=30) as server, serving(bare, store=False) as other:
        for one in (server, other):
            one.signal(*signals, every=0.02)
        assert server.ended() == other.ended()
        assert server.took("Shutting down") < 1 + SLACK
        assert len(signals) == 2 or words(server) == words(other)


# ---- busy


@pytest.mark.slow
@pytest.mark.parametrize("number", [TERM, INT], ids=["term", "int"])
def test_what_ends_within_the_grace_is_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    """And the exit comes right after it."""
    with serving(tmp_path, grace=30) as server:
        ids = [server.enqueue(name, 1.0) for name in ("nap", "nap_in_thread", "stuck")]
        server.signal(number)
        assert server.ended() in (0, -number)
        assert server.took() < 1.0 + 1 + SLACK
        assert [server.state(task) for task in ids] == ["succeeded"] * 3
        assert "did not wait" not in server.log


@pytest.mark.slow
@pytest.mark.parametrize("number", [TERM, INT], ids=["term", "int"])
def test_what_does_not_is_interrupted_and_named(tmp_path: Path, number: signal.Signals) -> None:
    """It is queued again with no failure counted; its clean-up was completed; the log names it."""
    names = ("nap", "nap_in_thread", "cleans_up")
    with serving(tmp_path) as server:
        ids = [server.enqueue(name) for name in names]
        server.signal(number)
        server.ended()
        assert GRACE <= server.took() < GRACE + 1 + SLACK
        rows = look(server.store, "select state, failures, deaths, reason from inloop_task")
        assert rows == [("queued", 0, 0, "shutdown")] * 3
        assert (tmp_path / "cleaned").exists()
        for name, task in zip(names, ids, strict=True):
            assert re.search(rf"waiting up to {GRACE:g} s .*{name} \({task}\)", server.log)
        assert "did not wait" not in server.log


@pytest.mark.slow
@pytest.mark.parametrize("number", [TERM, INT], ids=["term", "int"])
def test_what_cannot_be_stopped_does_not_hold_up_the_exit(
    tmp_path: Path, number: signal.Signals
) -> None:
    """It is named, and comes back as interrupted: it does not count as having died."""
    with serving(tmp_path) as server:
        ids = {name: server.enqueue(name) for name in ("ignores", "stuck", "blocks")}
        server.signal(number)
        code = server.ended()
        assert code in (0, -number)
        assert server.took() < GRACE + 1 + SLACK
        for name in ("ignores", "stuck"):
            assert f"did not wait any longer for task {ids[name]} ({name})" in server.log
        assert "Traceback" not in server.log
    assert after_recovery(server.store) == [INTERRUPTED] * 3


@pytest.mark.slow
def test_the_interrupted_run_first_at_the_next_start(tmp_path: Path) -> None:
    """Before what has a higher priority."""
    with serving(tmp_path, slots=1) as server:
        first = server.enqueue("nap")
        other = server.enqueue("urgent", runs=False)
        server.signal(TERM)
        server.ended()
        assert server.state(other) == "queued"
    with serving(tmp_path, slots=1, grace=0) as server:
        wait_until(lambda: look(server.store, RUNNING) == [(first, 2)], "it runs", server.tail)
        assert look(server.store, "select attempt from inloop_task where id = ?", other) == [(0,)]


# ---- insisting


@pytest.mark.slow
def test_a_second_sigint_ends_the_grace(tmp_path: Path) -> None:
    """The interrupted still get their moment to clean up; what is stuck does not hold it up."""
    with serving(tmp_path, grace=60) as server:
        for name in ("nap", "cleans_up", "stuck"):
            server.enqueue(name)
        server.signal(INT)
        server.said("Waiting for application shutdown")
        server.signal(INT)
        assert server.ended() == 0
        assert server.took() < 1 + SLACK
        assert (tmp_path / "cleaned").exists()
        assert re.findall(r"did not wait any longer for task \S+ \((\w+)\)", server.log) == [
            "stuck"
        ]
    assert after_recovery(server.store) == [INTERRUPTED] * 3


@pytest.mark.slow
def test_a_second_sigterm_does_not(tmp_path: Path) -> None:
    """An impatient supervisor is not a person; the grace is what was configured."""
    with serving(tmp_path, grace=1.5) as server:
        server.enqueue("nap")
        server.signal(TERM)
        server.said("Waiting for application shutdown")
        server.signal(TERM)
        server.ended()
        assert 1.5 <= server.took() < 1.5 + 1 + SLACK


# ---- open connections


@pytest.mark.slow
def test_an_open_stream_ends_by_uvicorns_own_rules(tmp_path: Path) -> None:
    """And the exit code is as without inloop; the grace begins when the stream was ended."""
    mine, bare = pair(tmp_path)
    option = ("--timeout-graceful-shutdown", "1")
    with serving(mine, *option) as server, serving(bare, *option, store=False) as other:
        server.enqueue("nap")
        with streaming(server), streaming(other):
            for one in (server, other):
                one.signal(TERM)
            assert server.ended() == other.ended()
        assert GRACE <= server.took() < GRACE + 1 + SLACK
        rows = look(server.store, "select state, failures, deaths from inloop_task")
        assert rows == [("queued", 0, 0)]


@pytest.mark.slow
def test_sigint_twice_with_an_open_stream(tmp_path: Path) -> None:
    """uvicorn skips the app's shutdown and tears the loop down: still no failure, no death."""
    mine, bare = pair(tmp_path)
    with serving(mine, grace=60) as server, serving(bare, store=False) as other:
        for name in ("nap", "cleans_up", "swallows", "stuck"):
            server.enqueue(name)
        with streaming(server), streaming(other):
            for one in (server, other):
                one.signal(INT)
                one.said("Waiting for connections to close")
                one.signal(INT)
            assert server.ended() == other.ended()
        assert server.took("Finished server process") < 1 + SLACK
    assert after_recovery(server.store) == [INTERRUPTED] * 4


# ---- the setting


@pytest.mark.slow
def test_without_grace(tmp_path: Path) -> None:
    """INLOOP_GRACE=0 goes before the manager's own grace: what runs is interrupted at once."""
    with serving(tmp_path, grace=0) as server:
        server.enqueue("nap")
        server.signal(TERM)
        server.ended()
        assert server.took() < 1 + SLACK
        assert look(server.store, "select state from inloop_task") == [("queued",)]


@pytest.mark.anyio
async def test_a_grace_that_is_no_number(
    tasks: TaskManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is refused at the opening, by its name; nothing was opened."""
    monkeypatch.setenv("INLOOP_GRACE", "soon")
    with pytest.raises(ValueError, match=r"INLOOP_GRACE='soon': must be seconds, 0 or more"):
        await tasks.__aenter__()
    assert os.listdir(tmp_path) == []
    monkeypatch.setenv("INLOOP_GRACE", "0.5")
    async with tasks:
        assert tasks._grace_now == 0.5
